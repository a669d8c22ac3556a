"""Runs and experiments as records, as items of the table, and as MLflow's entities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from mlflow.entities import Experiment, ExperimentTag, LifecycleStage, LoggedModelOutput, Metric, Param, Run, RunData, RunInfo, RunOutputs, RunTag
from mlflow.utils.mlflow_tags import _get_run_name_from_tags

from pipeline.tracking.dynamodb import parts, values
from pipeline.tracking.dynamodb.client import Item, Key
from pipeline.tracking.dynamodb.schema import PARTITION, SORT, START_ORDER, experiment_key, start_order

WORKSPACE = "default"


class Point(NamedTuple):
    """One value of a metric as SQL keeps it: infinities are the largest doubles, and NaN is 0 with a mark."""

    value: float
    timestamp: int
    step: int
    is_nan: bool

    def metric(self, key: str) -> Metric:
        """As MLflow's entity."""
        return Metric(key, float("nan") if self.is_nan else self.value, self.timestamp, self.step)


class DatasetUse(NamedTuple):
    """That a run read a data set: the data set's id and what filters ask for, with the tags of the use."""

    dataset_id: str
    name: str
    digest: str
    tags: list[tuple[str, str]]


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """A run with all that its item holds. `version` is the item's as it was read; 0 is a run that isn't there yet."""

    run_id: str
    experiment_id: str
    name: str | None
    user_id: str | None
    status: str
    start_time: int | None
    end_time: int | None = None
    deleted_time: int | None = None
    lifecycle_stage: str = LifecycleStage.ACTIVE
    artifact_uri: str
    metrics: dict[str, Point] = field(default_factory=dict)
    params: dict[str, str | None] = field(default_factory=dict)
    tags: dict[str, str | None] = field(default_factory=dict)
    datasets: list[DatasetUse] = field(default_factory=list)
    model_inputs: list[str] = field(default_factory=list)
    model_outputs: list[tuple[str, int]] = field(default_factory=list)
    version: int = 0
    writer: str = ""
    parts: parts.Parts | None = None

    @property
    def key(self) -> Key:
        """Where its item is."""
        return (self.experiment_id, self.run_id)

    def info(self) -> RunInfo:
        """As MLflow's entity, without its data."""
        return RunInfo(
            run_id=self.run_id,
            run_name=self.name or _get_run_name_from_tags(self._tags()),
            experiment_id=self.experiment_id,
            user_id=self.user_id,
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            lifecycle_stage=self.lifecycle_stage,
            artifact_uri=self.artifact_uri,
        )

    def data(self) -> RunData:
        """Its latest metrics, params and tags as MLflow's entity."""
        return RunData(
            metrics=[point.metric(key) for key, point in self.metrics.items()],
            params=[Param(key, value) for key, value in self.params.items()],
            tags=self._tags(),
        )

    def outputs(self) -> RunOutputs:
        """The models it made as MLflow's entity."""
        return RunOutputs([LoggedModelOutput(model_id=model_id, step=step) for model_id, step in self.model_outputs])

    def entity(self, inputs: object) -> Run:
        """The whole run as MLflow's entity, with the inputs that belong to it."""
        return Run(self.info(), self.data(), inputs, self.outputs())

    def _tags(self) -> list[RunTag]:
        return [RunTag(key, value) for key, value in self.tags.items()]


def run_item(record: RunRecord) -> Item:
    """What of a run has one value, as it is written for the version after the one that was read."""
    return {
        PARTITION: {"S": record.experiment_id},
        SORT: {"S": record.run_id},
        START_ORDER: {"S": start_order(record.start_time, record.run_id)},
        "run_name": values.text(record.name),
        "user_id": values.text(record.user_id),
        "status": {"S": record.status},
        "start_time": values.whole(record.start_time),
        "end_time": values.whole(record.end_time),
        "deleted_time": values.whole(record.deleted_time),
        "lifecycle_stage": {"S": record.lifecycle_stage},
        "artifact_uri": values.text(record.artifact_uri),
        "version": {"N": str(record.version + 1)},
        "writer": {"S": record.writer},
    }


def run_sections(record: RunRecord) -> dict[str, Item]:
    """What of a run may grow, each section the attributes that hold it; `read_sections` puts it back."""
    keys = sorted(record.metrics)
    latest = {key: values.double(record.metrics[key].value, is_nan=record.metrics[key].is_nan) for key in keys}
    times = [[record.metrics[key].timestamp, record.metrics[key].step] for key in keys]
    inputs = [record.datasets, record.model_inputs, record.model_outputs]
    return {
        # Times and steps are in the order of the metrics' sorted names: the names are the bulk, and are written once.
        "metrics": {"metrics": {"M": latest}, "metric_times": {"B": values.pack(times)}},
        "params": {"params": values.texts(record.params)},
        "tags": {"tags": values.texts(record.tags)},
        "inputs": {"inputs": {"B": values.pack(inputs)}} if any(inputs) else {},
    }


def read_run(item: Item) -> RunRecord:
    """The run in an item, but for the sections that are elsewhere."""
    record = RunRecord(
        run_id=item[SORT]["S"],
        experiment_id=item[PARTITION]["S"],
        name=values.read_text(item.get("run_name")),
        user_id=values.read_text(item.get("user_id")),
        status=item["status"]["S"],
        start_time=values.read_whole(item.get("start_time")),
        end_time=values.read_whole(item.get("end_time")),
        deleted_time=values.read_whole(item.get("deleted_time")),
        lifecycle_stage=item["lifecycle_stage"]["S"],
        artifact_uri=item["artifact_uri"].get("S", ""),
        version=int(item["version"]["N"]),
        writer=item["writer"]["S"],
        parts=parts.read(item),
    )
    read_sections(record, item)
    return record


def read_sections(record: RunRecord, attributes: Item) -> None:
    """Put the sections that are among these attributes into the record."""
    if "metrics" in attributes:
        latest = attributes["metrics"]["M"]
        times = values.unpack(attributes["metric_times"]["B"])
        for key, (timestamp, step) in zip(sorted(latest), times, strict=True):
            value, is_nan = values.read_double(latest[key])
            record.metrics[key] = Point(value, timestamp, step, is_nan)
    record.params.update(values.read_texts(attributes.get("params")))
    record.tags.update(values.read_texts(attributes.get("tags")))
    if "inputs" in attributes:
        datasets, record.model_inputs, outputs = values.unpack(attributes["inputs"]["B"])
        record.datasets = [DatasetUse(dataset_id, name, digest, [(key, value) for key, value in tags]) for dataset_id, name, digest, tags in datasets]
        record.model_outputs = [(model_id, step) for model_id, step in outputs]


@dataclass(slots=True, kw_only=True)
class ExperimentRecord:
    """An experiment with its tags. `version` is as with runs."""

    experiment_id: str
    name: str
    artifact_location: str | None
    lifecycle_stage: str = LifecycleStage.ACTIVE
    creation_time: int
    last_update_time: int
    tags: dict[str, str | None] = field(default_factory=dict)
    version: int = 0
    writer: str = ""

    def entity(self) -> Experiment:
        """As MLflow's entity."""
        return Experiment(
            experiment_id=self.experiment_id,
            name=self.name,
            artifact_location=self.artifact_location,
            lifecycle_stage=self.lifecycle_stage,
            tags=[ExperimentTag(key, value) for key, value in self.tags.items()],
            creation_time=self.creation_time,
            last_update_time=self.last_update_time,
            workspace=WORKSPACE,
        )


def experiment_item(record: ExperimentRecord) -> Item:
    """An experiment as it is written for the version after the one that was read."""
    partition, sort = experiment_key(record.experiment_id)
    return {
        PARTITION: {"S": partition},
        SORT: {"S": sort},
        "name": {"S": record.name},
        "artifact_location": values.text(record.artifact_location),
        "lifecycle_stage": {"S": record.lifecycle_stage},
        "creation_time": {"N": str(record.creation_time)},
        "last_update_time": {"N": str(record.last_update_time)},
        "tags": values.texts(record.tags),
        "version": {"N": str(record.version + 1)},
        "writer": {"S": record.writer},
    }


def read_experiment(item: Item) -> ExperimentRecord:
    """The experiment in an item."""
    return ExperimentRecord(
        experiment_id=str(int(item[SORT]["S"])),
        name=item["name"]["S"],
        artifact_location=values.read_text(item["artifact_location"]),
        lifecycle_stage=item["lifecycle_stage"]["S"],
        creation_time=int(item["creation_time"]["N"]),
        last_update_time=int(item["last_update_time"]["N"]),
        tags=values.read_texts(item["tags"]),
        version=int(item["version"]["N"]),
        writer=item["writer"]["S"],
    )
