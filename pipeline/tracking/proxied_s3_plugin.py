"""What MLflow's entry point `mlflow.artifact_repository` names for the scheme `proxied-s3`. Like `dynamodb/plugin.py`, it imports nothing of MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.tracking.proxied_s3 import ProxiedS3Repository


def open_repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> ProxiedS3Repository:
    """The repository at that address."""
    from pipeline.tracking.proxied_s3 import ProxiedS3Repository

    return ProxiedS3Repository(artifact_uri, tracking_uri, registry_uri)
