"""Logged models in the table: found by id, changed without losing another writer's change, measured by runs.

What runs log about a model stands beside its item, an item a batch, so that runs don't wait for each other. A run can log a
metric's value about a model only once for a step and time; its own version keeps two of its writers from doing so at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, RESOURCE_DOES_NOT_EXIST

from pipeline.tracking.dynamodb import parts
from pipeline.tracking.dynamodb.client import Attempts, Expression, Item, Key, Table, Where, Write, is_version, rewrite
from pipeline.tracking.dynamodb.items import RunRecord
from pipeline.tracking.dynamodb.model_items import (
    ModelMetric,
    ModelRecord,
    metrics_item,
    model_item,
    model_sections,
    read_metrics,
    read_model,
    read_model_sections,
)
from pipeline.tracking.dynamodb.runs import PRESENT
from pipeline.tracking.dynamodb.schema import PARTITION, SORT, model_metrics, model_metrics_key, model_part_key, model_pointer_key, models_partition

_KEY_BYTES = 1024
# A transaction takes 100 actions: two for each of so many models, the run's item and its metrics.
_MODELS = 40


class Models:
    """The logged models of a table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def create(self, record: ModelRecord) -> None:
        """Put a new model, and its pointer with it."""
        record.writer = secrets.token_hex(8)
        partition, sort = model_pointer_key(record.model_id)
        pointer = {PARTITION: {"S": partition}, SORT: {"S": sort}, "experiment": {"S": record.experiment_id}}
        self._table.create([self._item(record), pointer], f"The logged model {record.model_id}")

    def get(self, model_id: str) -> ModelRecord:
        """The model with that id, deleted or not, with its metrics.

        Raises:
            MlflowException: `RESOURCE_DOES_NOT_EXIST`.
        """
        attempts = Attempts(f"The logged model {model_id}")
        while True:
            partition = models_partition(self._experiment(model_id))
            items = [item for item in self._table.query(partition, Where(sort=_beginning(model_id))) if _model_id(item) == model_id]
            if not items or items[0][SORT]["S"] != model_id:
                raise not_found(model_id)
            record = _read(items)
            if self._add_parts(record):
                return record
            attempts.again()

    def of(self, experiment_id: str) -> Iterator[ModelRecord]:
        """The models of an experiment, deleted or not, with their metrics."""
        for _, items in groupby(self._table.query(models_partition(experiment_id)), _model_id):
            yield from self._whole(list(items))

    def newest(self, experiment_id: str, where: Where) -> Iterator[Item]:
        """The items of an experiment's models in the order of the index, to be made whole by `complete`."""
        return self._table.query(models_partition(experiment_id), where)

    def complete(self, item: Item, wanted: Callable[[ModelRecord], bool]) -> Iterator[ModelRecord]:
        """The model in an item, if it is wanted, with its metrics."""
        for record in filter(wanted, self._whole([item])):
            if record.measured:
                measured = self._table.query(record.key[0], Where(sort=_beginning(model_metrics(record.model_id))))
                record.metrics = [metric for found in measured for metric in read_metrics(found)]
            yield record

    def _whole(self, items: Sequence[Item]) -> Iterator[ModelRecord]:
        if "name" not in items[0]:  # what is left of a model that is just being deleted for ever
            return
        record = _read(items)
        yield record if self._add_parts(record) else self.get(record.model_id)

    def change(self, model_id: str, change: Callable[[ModelRecord], None]) -> ModelRecord:
        """Apply a change, anew whenever another one came in between. The model as written is returned.

        Raises:
            MlflowException: `RESOURCE_DOES_NOT_EXIST`; whatever the change raises; `TEMPORARILY_UNAVAILABLE`, others wrote in
                between every time.
        """

        def write(record: ModelRecord) -> None:
            before = record.parts
            change(record)
            unchanged = is_version(record.version)
            self._table.put(self._item(record), unchanged)
            parts.drop(self._table, _parts_of(record), before)

        return rewrite(f"The logged model {model_id}", lambda: self.get(model_id), write)

    def measure(self, record: RunRecord, logged: Mapping[str, Sequence[ModelMetric]]) -> tuple[list[Write], list[Key]]:
        """What puts these metrics beside their models, along with a run that doesn't know them yet; and where they will be.

        Raises:
            MlflowException: `BAD_REQUEST`, as SQL has it: there is no such model, or the run logged another value before.
        """
        pointers = self._table.get_many(map(model_pointer_key, logged))
        writes: list[Write] = []
        keys = []
        for model_id, metrics in logged.items():
            if (pointer := pointers.get(model_pointer_key(model_id))) is None:
                raise MlflowException(f"There is no logged model with the ID '{model_id}'", BAD_REQUEST)
            experiment_id: str = pointer["experiment"]["S"]
            partition = models_partition(experiment_id)
            if new := _new(record, self._found(record, (partition, model_id), metrics, certain=len(logged) <= _MODELS), model_id, metrics):
                key = model_metrics_key(experiment_id, model_id, record.run_id, record.version + 1)
                writes += [self._table.to_put(metrics_item(key, new)), self._to_note((key[0], model_id))]
                keys.append(key)
        return self._as_many_as_fit(writes), keys

    def _as_many_as_fit(self, writes: list[Write]) -> list[Write]:
        """What of this goes into the run's transaction. The rest is written before, and found there by whoever has to try again."""
        while len(writes) > 2 * _MODELS:
            self._table.write_together(writes[: 2 * _MODELS])
            writes = writes[2 * _MODELS :]
        return writes

    def _found(self, record: RunRecord, model: Key, metrics: Sequence[ModelMetric], *, certain: bool) -> list[ModelMetric]:
        """What the run has logged about a model. What is later than all that the run knows of a metric, for certain, isn't there."""
        if certain and not any(_is_known(record, metric) for metric in metrics):
            return []
        items = self._table.query(model[0], Where(sort=_beginning(f"{model_metrics(model[1], record.run_id)}#")))
        return [metric for item in items for metric in read_metrics(item)]

    def _to_note(self, model: Key) -> Write:
        """Note in a model's item that there are metrics; this holds, too, that the model is still there."""
        noted = Expression(
            text="SET #measured = :yes ADD #version :one",
            names={"#measured": "measured", "#version": "version"},
            values={":yes": {"BOOL": True}, ":one": {"N": "1"}},
        )
        return self._table.to_update(model, noted, PRESENT)

    def remove(self, model_id: str) -> None:
        """Delete a model for ever. Its pointer goes last: until then, whoever tries again finds the rest.

        Raises:
            MlflowException: `RESOURCE_DOES_NOT_EXIST`.
        """
        partition = models_partition(self._experiment(model_id))
        for item in list(self._table.query(partition, Where(sort=_beginning(model_id), attributes=(SORT,)))):
            self._table.delete((partition, item[SORT]["S"]))
        self._table.delete(model_pointer_key(model_id))

    def _experiment(self, model_id: str) -> str:
        # A key may not be empty, and is at most 2,048 bytes.
        pointer = self._table.get(model_pointer_key(model_id)) if model_id and len(model_id.encode()) < _KEY_BYTES else None
        if pointer is None:
            raise not_found(model_id)
        experiment_id: str = pointer["experiment"]["S"]
        return experiment_id

    def _item(self, record: ModelRecord) -> Item:
        item, record.parts = parts.fit(self._table, _parts_of(record), model_item(record), model_sections(record))
        return item

    def _add_parts(self, record: ModelRecord) -> bool:
        """Put in what is elsewhere. It is gone when another writer has replaced it: then the model is to be read anew."""
        if record.parts is None:
            return True
        found = parts.load(self._table, _parts_of(record), record.parts)
        for attributes in found or []:
            read_model_sections(record, attributes)
        return found is not None


def _is_known(record: RunRecord, metric: ModelMetric) -> bool:
    latest = record.metrics.get(metric.key)
    return latest is not None and (latest.step, latest.timestamp) >= (metric.step, metric.timestamp)


def _new(record: RunRecord, found: Sequence[ModelMetric], model_id: str, metrics: Sequence[ModelMetric]) -> list[ModelMetric]:
    """Those metrics that aren't there yet."""
    new = [metric for metric in metrics if metric not in found]
    identities = {metric.identity for metric in new}
    if len(identities) < len(new) or not identities.isdisjoint(metric.identity for metric in found):
        raise MlflowException(f"The run {record.run_id} has other values of a metric about the model {model_id} at that step and time", BAD_REQUEST)
    return new


def not_found(model_id: str) -> MlflowException:
    """What MLflow says of a model that isn't there."""
    return MlflowException(f"Logged model with ID '{model_id}' not found.", RESOURCE_DOES_NOT_EXIST)


def _read(items: Sequence[Item]) -> ModelRecord:
    record = read_model(items[0])
    record.metrics = [metric for item in items if "metrics" in item for metric in read_metrics(item)]
    return record


def _model_id(item: Item) -> str:
    model_id: str = item[SORT]["S"].partition("#")[0]
    return model_id


def _beginning(text: str) -> Expression:
    return Expression(text="begins_with(#sort, :text)", names={"#sort": SORT}, values={":text": {"S": text}})


def _parts_of(record: ModelRecord) -> parts.Places:
    return partial(model_part_key, record.experiment_id, record.model_id)
