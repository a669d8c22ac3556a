"""Files on an S3 that only MLflow's server can reach: `proxied-s3://bucket/prefix`, for `mlflow server --artifacts-destination`.

With `s3://…` there, the server hands out signed addresses on its own endpoint, and MLflow's clients fetch files from that. Where
the endpoint is a name inside of a container network they try it for minutes, and fail. Under this scheme the server says that it
has no such addresses, and every file goes through it. MLflow finds the class by the entry point `mlflow.artifact_repository`.
"""

from __future__ import annotations

import posixpath

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

SCHEME = "proxied-s3"


class ProxiedS3Repository(ArtifactRepository):  # type: ignore[misc] # MLflow's classes have no types here
    """MLflow's own repository for S3 without its mixins for signed addresses, which are what the server looks for."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._s3 = S3ArtifactRepository(artifact_uri.replace(SCHEME, "s3", 1))

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Store a file."""
        self._s3.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Store a folder's files."""
        self._s3.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """What is in a folder."""
        found: list[FileInfo] = self._s3.list_artifacts(path)
        return found

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Fetch a file, or a folder's files.

        Raises:
            MlflowException: among others `RESOURCE_DOES_NOT_EXIST`. MLflow's own says of a missing file that the server is broken; its
                clients then ask again and again, for minutes where a model is loaded as `runs:/…`: they look in the run's files first.
        """
        try:
            found: str = super().download_artifacts(artifact_path, dst_path)
        except MlflowException as error:
            if artifact_path not in [there.path for there in self.list_artifacts(posixpath.dirname(artifact_path))]:
                raise MlflowException(f"There is no file {artifact_path}", RESOURCE_DOES_NOT_EXIST) from error
            raise
        return found

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._s3._download_file(remote_file_path, local_path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file, or a folder with all that is in it."""
        self._s3.delete_artifacts(artifact_path)
