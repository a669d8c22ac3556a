"""What MLflow's entry point `mlflow.tracking_store` names for the scheme `dynamodb`.

MLflow loads it while it is itself being imported. So nothing here imports MLflow: a module of ours that did, and that somebody
imports before MLflow, would be asked for its store before it has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.tracking.dynamodb.store import DynamoDbStore


def open_store(store_uri: str, artifact_uri: str | None = None) -> DynamoDbStore:
    """The store at that address; `artifact_uri` is where experiments keep artefacts that say nothing else."""
    from pipeline.tracking.dynamodb.store import DynamoDbStore

    return DynamoDbStore(store_uri, artifact_uri)
