"""The repository for an S3 that only MLflow's server reaches, against moto's S3."""

import importlib
import os
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.proxied_s3 import SCHEME, ProxiedS3Repository


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProxiedS3Repository]:
    """One over an empty bucket, with a prefix."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed (pip install 'goldtrace[aws]')")
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer(port=0, verbose=False)
    # A bucket of its own: moto's servers in one process share what they keep.
    bucket = uuid.uuid4().hex
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1", "MLFLOW_S3_ENDPOINT_URL": f"http://{host}:{port}"}
        for name, value in keys.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3", endpoint_url=keys["MLFLOW_S3_ENDPOINT_URL"]).create_bucket(Bucket=bucket)
        yield ProxiedS3Repository(f"{SCHEME}://{bucket}/below")
    finally:
        server.stop()


def test_what_was_stored_is_listed_read_back_and_deleted(repository: ProxiedS3Repository, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "coefficients.json").write_bytes(b"{}")
    (folder / "MLmodel").write_bytes(b"\x00flavors\n")
    repository.log_artifacts(str(folder), "models/m")
    repository.log_artifact(str(folder / "MLmodel"), "alone")
    assert [(found.path, found.is_dir) for found in repository.list_artifacts("models/m")] == [("models/m/MLmodel", False), ("models/m/data", True)]
    back = Path(repository.download_artifacts("models/m", str(tmp_path)))
    assert {path.relative_to(back).as_posix(): path.read_bytes() for path in back.rglob("*") if path.is_file()} == {
        "MLmodel": b"\x00flavors\n",
        "data/coefficients.json": b"{}",
    }
    repository.delete_artifacts("models")
    assert [found.path for found in repository.list_artifacts()] == ["alone"]


@pytest.mark.parametrize("path", ["nothing", "models/nothing", "nothing/at/all"])
def test_a_file_that_is_missing_is_said_to_be_missing_and_not_asked_for_again(repository: ProxiedS3Repository, tmp_path: Path, path: str) -> None:
    """MLflow's clients repeat what ends with 500, for minutes."""
    from mlflow.exceptions import MlflowException

    (tmp_path / "there").touch()
    repository.log_artifact(str(tmp_path / "there"), "models")
    with pytest.raises(MlflowException) as caught:
        repository.download_artifacts(path, str(tmp_path))
    assert caught.value.get_http_status_code() == 404


def test_a_file_that_cannot_be_fetched_is_not_one_that_is_missing(repository: ProxiedS3Repository, tmp_path: Path) -> None:
    from mlflow.exceptions import MlflowException

    (tmp_path / "file").touch()
    repository.log_artifact(str(tmp_path / "file"))
    (tmp_path / "back" / "file").mkdir(parents=True)  # where it would be written
    with pytest.raises(MlflowException) as caught:
        repository.download_artifacts("file", str(tmp_path / "back"))
    assert caught.value.get_http_status_code() == 500


def test_the_server_finds_none_of_the_ways_past_it(repository: ProxiedS3Repository) -> None:
    """It tells its clients of signed addresses by these classes."""
    module: Any = importlib.import_module("mlflow.store.artifact.artifact_repo")
    ways = [getattr(module, name) for name in ("MultipartUploadMixin", "MultipartDownloadMixin", "StreamUploadMixin")]
    assert [way.__name__ for way in ways if isinstance(repository, way)] == []


@pytest.mark.parametrize("first", ["pipeline.tracking.proxied_s3", pytest.param("mlflow", marks=pytest.mark.slow)])
def test_mlflow_finds_it_by_its_scheme_whatever_is_imported_first(root: Path, first: str) -> None:
    """MLflow imports its plugins while it is being imported: a module of ours that imports MLflow must not be asked for one yet."""
    points = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]["mlflow.artifact_repository"]
    if [point.value for point in entry_points(group="mlflow.artifact_repository") if point.name == SCHEME] != [points[SCHEME]]:
        pytest.skip("goldtrace is not installed with this plugin (make setup.dev)")
    code = f"import {first}; from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository as get; print(type(get('{SCHEME}://b/p')).__name__)"
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "AWS_DEFAULT_REGION": "us-east-1"}
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == (ProxiedS3Repository.__name__, 0), done.stderr
