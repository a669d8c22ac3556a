"""Runs in the table: found by id, changed without losing another writer's change, in parts where they are large.

A change is read, worked out and put back on the condition that nobody wrote in between; else it is worked out anew. What a
change logs of metrics goes in with the run's item in one transaction, so that a batch is there as a whole or not at all.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from threading import Lock

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from pipeline.tracking.dynamodb import parts, values
from pipeline.tracking.dynamodb.client import Attempts, Expression, Item, Key, Table, Where, Write, is_version, rewrite
from pipeline.tracking.dynamodb.items import RunRecord, read_run, read_sections, run_item, run_sections
from pipeline.tracking.dynamodb.schema import HISTORY, PART, PARTITION, SORT, history_key, part_key, pointer_key, runs_partition

# A change works out what a run becomes, and returns what is written with it; or `None` when it leaves the run as it is.
Change = Callable[[RunRecord], Sequence[Write] | None]

PRESENT = Expression(text="attribute_exists(#sort)", names={"#sort": SORT})
_REMEMBERED = 10_000
_ELSEWHERE = "elsewhere"


class Runs:
    """The runs of a table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        # A run never leaves its experiment, so that what a pointer once said stays true.
        self._pointers: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def create(self, record: RunRecord) -> None:
        """Put a new run, and its pointer with it."""
        record.writer = secrets.token_hex(8)
        partition, sort = pointer_key(record.run_id)
        pointer = {PARTITION: {"S": partition}, SORT: {"S": sort}, "experiment": {"S": record.experiment_id}}
        self._table.create([self._item(record), pointer], f"The run {record.run_id}")
        self._remember(record.run_id, record.experiment_id)

    def get(self, run_id: str) -> RunRecord:
        """The run with that id.

        Raises:
            MlflowException: `RESOURCE_DOES_NOT_EXIST`.
        """
        attempts = Attempts(f"The run {run_id}")
        while True:
            item = self._table.get(self.key(run_id))
            if item is None:
                raise _not_found(run_id)
            record = read_run(item)
            if self._add_parts(record):
                return record
            attempts.again()

    def key(self, run_id: str) -> Key:
        """Where the item of the run with that id is.

        Raises:
            MlflowException: `RESOURCE_DOES_NOT_EXIST`.
        """
        if known := self._pointers.get(run_id):
            return (known, run_id)
        # A key may not be empty, and is at most 2,048 bytes.
        pointer = self._table.get(pointer_key(run_id)) if run_id and len(run_id.encode()) < 1024 else None
        if pointer is None:
            raise _not_found(run_id)
        experiment_id: str = pointer["experiment"]["S"]
        self._remember(run_id, experiment_id)
        return (experiment_id, run_id)

    def change(self, run_id: str, change: Change) -> RunRecord:
        """Apply a change; it may be called several times, each time with the run as it is then. The run as written is returned.

        Raises:
            MlflowException: `RESOURCE_DOES_NOT_EXIST`; whatever the change raises; `TEMPORARILY_UNAVAILABLE`, others wrote in
                between every time.
        """

        def write(record: RunRecord) -> None:
            before, beside = record.parts, change(record)
            if beside is None:
                return
            self._write(record, beside)
            parts.drop(self._table, partial(part_key, run_id), before)
            record.version += 1

        return rewrite(f"The run {run_id}", lambda: self.get(run_id), write)

    def mark(self, key: Key, lifecycle_stage: str, deleted_time: int | None) -> None:
        """Set a run's lifecycle stage in place, without reading it."""
        change = Expression(
            text="SET #stage = :stage, #deleted = :deleted ADD #version :one",
            names={"#stage": "lifecycle_stage", "#deleted": "deleted_time", "#version": "version"},
            values={":stage": {"S": lifecycle_stage}, ":deleted": values.whole(deleted_time), ":one": {"N": "1"}},
        )
        self._table.update(key, change, PRESENT)

    def complete(self, items: Iterable[Item]) -> list[RunRecord]:
        """The runs in these items as they were found, with the parts that are elsewhere."""
        return [record if self._add_parts(record) else self.get(record.run_id) for record in map(read_run, items)]

    def remove(self, run_id: str) -> None:
        """Delete a run for ever. Its pointer goes last: until then, whoever tries again finds the rest."""
        self._table.delete(self.key(run_id))
        others = list(self._table.query(runs_partition(run_id), Where(attributes=(SORT, _ELSEWHERE))))
        for item in sorted(others, key=lambda item: str(item[SORT]["S"])):  # history, part, pointer
            for key in item.get(_ELSEWHERE, {"L": []})["L"]:
                self._table.delete((key["M"][PARTITION]["S"], key["M"][SORT]["S"]))
            self._table.delete((runs_partition(run_id), item[SORT]["S"]))
        with self._lock:
            self._pointers.pop(run_id, None)

    def history(self, record: RunRecord, packed: Sequence[bytes], elsewhere: Sequence[Key]) -> list[Write]:
        """What puts a batch of metrics into a run's history; `elsewhere` is where the batch has more, that goes when the run goes."""
        writes = []
        for part, points in enumerate(packed):
            partition, sort = history_key(record.run_id, record.version + 1, part)
            item: Item = {PARTITION: {"S": partition}, SORT: {"S": sort}, "points": {"B": points}}
            if elsewhere and part == 0:
                item[_ELSEWHERE] = {"L": [{"M": self._table.key(key)} for key in elsewhere]}
            writes.append(self._table.to_put(item))
        return writes

    def _write(self, record: RunRecord, beside: Sequence[Write]) -> None:
        unchanged = is_version(record.version)
        item = self._item(record)
        if beside:
            self._table.write_together([self._table.to_put(item, unchanged), *beside])
        else:
            self._table.put(item, unchanged)

    def _item(self, record: RunRecord) -> Item:
        item, record.parts = parts.fit(self._table, partial(part_key, record.run_id), run_item(record), run_sections(record))
        return item

    def _add_parts(self, record: RunRecord) -> bool:
        """Put in what is elsewhere. It is gone when another writer has replaced it: then the run is to be read anew."""
        if record.parts is None:
            return True
        found = parts.load(self._table, partial(part_key, record.run_id), record.parts)
        for attributes in found or []:
            read_sections(record, attributes)
        return found is not None

    def _remember(self, run_id: str, experiment_id: str) -> None:
        with self._lock:
            self._pointers[run_id] = experiment_id
            if len(self._pointers) > _REMEMBERED:
                self._pointers.popitem(last=False)


def _not_found(run_id: str) -> MlflowException:
    return MlflowException(f"Run with id={run_id} not found", RESOURCE_DOES_NOT_EXIST)


# `remove` sorts by these words; the pointer has to come last.
assert sorted(["pointer", HISTORY, PART])[-1] == "pointer"
