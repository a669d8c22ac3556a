"""Logged models as records, as items of the table, and as MLflow's entities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from mlflow.entities import LifecycleStage, LoggedModel, LoggedModelStatus, Metric

from pipeline.tracking.dynamodb import parts, values
from pipeline.tracking.dynamodb.client import Item, Key
from pipeline.tracking.dynamodb.schema import PARTITION, SORT, START_ORDER, models_partition, start_order


class ModelMetric(NamedTuple):
    """One value that a run logged about a model, as SQL keeps it: infinities are the largest doubles, and NaN is 0."""

    key: str
    value: float
    timestamp: int
    step: int
    dataset_name: str | None
    dataset_digest: str | None
    run_id: str

    @property
    def identity(self) -> tuple[str, int, int]:
        """What a run can log only once about a model."""
        return self.key, self.timestamp, self.step

    def metric(self, model_id: str) -> Metric:
        """As MLflow's entity."""
        return Metric(
            self.key,
            self.value,
            self.timestamp,
            self.step,
            model_id=model_id,
            dataset_name=self.dataset_name,
            dataset_digest=self.dataset_digest,
            run_id=self.run_id,
        )


@dataclass(slots=True, kw_only=True)
class ModelRecord:
    """A logged model. `version` is the item's as it was read; 0 is a model that isn't there yet. `measured`: it has metrics somewhere."""

    model_id: str
    experiment_id: str
    name: str
    artifact_location: str
    creation_timestamp: int
    last_updated_timestamp: int
    model_type: str | None
    source_run_id: str | None
    status: LoggedModelStatus = LoggedModelStatus.PENDING
    lifecycle_stage: str = LifecycleStage.ACTIVE
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[ModelMetric] = field(default_factory=list)
    measured: bool = False
    version: int = 0
    writer: str = ""
    parts: parts.Parts | None = None

    @property
    def key(self) -> Key:
        """Where its item is."""
        return (models_partition(self.experiment_id), self.model_id)

    def entity(self) -> LoggedModel:
        """As MLflow's entity."""
        return LoggedModel(
            experiment_id=self.experiment_id,
            model_id=self.model_id,
            name=self.name,
            artifact_location=self.artifact_location,
            creation_timestamp=self.creation_timestamp,
            last_updated_timestamp=self.last_updated_timestamp,
            model_type=self.model_type,
            source_run_id=self.source_run_id,
            status=self.status,
            tags=dict(self.tags),
            params=dict(self.params),
            metrics=[metric.metric(self.model_id) for metric in self.metrics] or None,
        )


def model_item(record: ModelRecord) -> Item:
    """What of a model has one value, as it is written for the version after the one that was read."""
    partition, sort = record.key
    return {
        PARTITION: {"S": partition},
        SORT: {"S": sort},
        START_ORDER: {"S": start_order(record.creation_timestamp, record.model_id)},
        "name": {"S": record.name},
        "artifact_location": {"S": record.artifact_location},
        "creation_timestamp": {"N": str(record.creation_timestamp)},
        "last_updated_timestamp": {"N": str(record.last_updated_timestamp)},
        "model_type": values.text(record.model_type),
        "source_run_id": values.text(record.source_run_id),
        "status": {"S": str(record.status)},
        "lifecycle_stage": {"S": record.lifecycle_stage},
        "measured": {"BOOL": record.measured},
        "version": {"N": str(record.version + 1)},
        "writer": {"S": record.writer},
    }


def model_sections(record: ModelRecord) -> dict[str, Item]:
    """What of a model may grow."""
    return {"params": {"params": values.texts(record.params)}, "tags": {"tags": values.texts(record.tags)}}


def read_model(item: Item) -> ModelRecord:
    """The model in an item, but for its metrics and the sections that are elsewhere."""
    record = ModelRecord(
        model_id=item[SORT]["S"],
        experiment_id=item[PARTITION]["S"].partition("#")[2],
        name=item["name"]["S"],
        artifact_location=item["artifact_location"]["S"],
        creation_timestamp=int(item["creation_timestamp"]["N"]),
        last_updated_timestamp=int(item["last_updated_timestamp"]["N"]),
        model_type=values.read_text(item["model_type"]),
        source_run_id=values.read_text(item["source_run_id"]),
        status=LoggedModelStatus(item["status"]["S"]),
        lifecycle_stage=item["lifecycle_stage"]["S"],
        measured=item["measured"]["BOOL"],
        version=int(item["version"]["N"]),
        writer=item["writer"]["S"],
        parts=parts.read(item),
    )
    read_model_sections(record, item)
    return record


def read_model_sections(record: ModelRecord, attributes: Item) -> None:
    """Put the sections that are among these attributes into the record."""
    record.params.update(_texts(attributes.get("params")))
    record.tags.update(_texts(attributes.get("tags")))


def _texts(value: Item | None) -> dict[str, str]:
    return {key: text or "" for key, text in values.read_texts(value).items()}


def metrics_item(key: Key, metrics: list[ModelMetric]) -> Item:
    """What one batch of a run logged about a model, as it is written."""
    packed = values.pack([list(metric) for metric in metrics])
    return {PARTITION: {"S": key[0]}, SORT: {"S": key[1]}, "metrics": {"B": packed}}


def read_metrics(item: Item) -> list[ModelMetric]:
    """What `metrics_item` wrote."""
    return [ModelMetric(*row) for row in values.unpack(item["metrics"]["B"])]
