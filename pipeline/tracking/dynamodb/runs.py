"""Runs in the table: found by id, changed without losing another writer's change, in parts where they are large.

A change is read, worked out and put back on the condition that nobody wrote in between; else it is worked out anew. What a
change logs of metrics goes in with the run's item in one transaction, so that a batch is there as a whole or not at all.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from threading import Lock

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE

from pipeline.tracking.dynamodb import values
from pipeline.tracking.dynamodb.client import ConflictError, Expression, Item, Key, Table, Where, wait
from pipeline.tracking.dynamodb.items import ITEM_BYTES, Parts, RunRecord, read_run, read_sections, run_item, run_sections
from pipeline.tracking.dynamodb.schema import HISTORY, PART, PARTITION, SORT, history_key, part_key, pointer_key, runs_partition

# A change works out what a run becomes, and returns the metrics that it logs, packed; or `None` when it leaves the run as it is.
Change = Callable[[RunRecord], Sequence[bytes] | None]

ABSENT = Expression(text="attribute_not_exists(#sort)", names={"#sort": SORT})
PRESENT = Expression(text="attribute_exists(#sort)", names={"#sort": SORT})
_ATTEMPTS = 40
_REMEMBERED = 10_000


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
        self._table.write_together([self._table.to_put(self._item(record), ABSENT), self._table.to_put(pointer, ABSENT)])
        self._remember(record.run_id, record.experiment_id)

    def get(self, run_id: str) -> RunRecord:
        """The run with that id.

        Raises:
            MlflowException: `RESOURCE_DOES_NOT_EXIST`.
        """
        for attempt in range(_ATTEMPTS):
            item = self._table.get(self.key(run_id))
            if item is None:
                raise _not_found(run_id)
            record = read_run(item)
            if self._add_parts(record):
                return record
            wait(attempt)
        raise _too_contended(run_id)

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
        mine = secrets.token_hex(8)
        for attempt in range(_ATTEMPTS):
            record = self.get(run_id)
            # A request whose answer got lost was sent again by botocore, and met its own write.
            if record.writer == mine:
                return record
            before = record.parts
            record.writer = mine
            history = change(record)
            if history is None:
                return record
            try:
                self._write(record, history)
            except ConflictError:
                wait(attempt)
            else:
                self._drop_parts(run_id, before)
                record.version += 1
                return record
        raise _too_contended(run_id)

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
        key = self.key(run_id)
        self._table.delete(key)
        others = [item[SORT]["S"] for item in self._table.query(runs_partition(run_id), Where(attributes=(SORT,)))]
        for sort in sorted(others):  # history, part, pointer
            self._table.delete((runs_partition(run_id), sort))
        with self._lock:
            self._pointers.pop(run_id, None)

    def _write(self, record: RunRecord, history: Sequence[bytes]) -> None:
        unchanged = Expression(text="#version = :version", names={"#version": "version"}, values={":version": {"N": str(record.version)}})
        item = self._item(record)
        if not history:
            self._table.put(item, unchanged)
            return
        writes = [self._table.to_put(item, unchanged)]
        for part, packed in enumerate(history):
            partition, sort = history_key(record.run_id, record.version + 1, part)
            writes.append(self._table.to_put({PARTITION: {"S": partition}, SORT: {"S": sort}, "points": {"B": packed}}))
        self._table.write_together(writes)

    def _item(self, record: RunRecord) -> Item:
        """The run's item. What is too large for it is put beside it first, where nobody looks until the item says so."""
        record.parts = None
        sections = run_sections(record)
        sizes = {name: sum(values.room(value) for value in attributes.values()) for name, attributes in sections.items()}
        room = ITEM_BYTES - sum(values.room(value) for value in run_item(record).values())
        kept: Item = {}
        elsewhere = []
        for name in sorted(sections, key=lambda name: sizes[name]):
            room -= sizes[name]
            if room >= 0:
                kept.update(sections[name])
            else:
                elsewhere.append(name)
        if elsewhere:
            record.parts = self._put_parts(record.run_id, sections, elsewhere)
        return {**run_item(record), **kept}

    def _put_parts(self, run_id: str, sections: dict[str, Item], elsewhere: Sequence[str]) -> Parts:
        packed = values.pack({name: _as_text(sections[name]) for name in elsewhere})
        token, pieces = secrets.token_hex(8), values.split(packed)
        for place, piece in enumerate(pieces):
            partition, sort = part_key(run_id, token, place)
            self._table.put({PARTITION: {"S": partition}, SORT: {"S": sort}, "part": {"B": piece}})
        return Parts(token, len(pieces), tuple(elsewhere))

    def _add_parts(self, record: RunRecord) -> bool:
        """Put in what is elsewhere. It is gone when another writer has replaced it: then the run is to be read anew."""
        if record.parts is None:
            return True
        keys = [part_key(record.run_id, record.parts.token, place) for place in range(record.parts.pieces)]
        found = self._table.get_many(keys)
        if len(found) < len(keys):
            return False
        for attributes in values.unpack(b"".join(found[key]["part"]["B"] for key in keys)).values():
            read_sections(record, _from_text(attributes))
        return True

    def _drop_parts(self, run_id: str, parts: Parts | None) -> None:
        for place in range(parts.pieces if parts else 0):
            self._table.delete(part_key(run_id, parts.token if parts else "", place))

    def _remember(self, run_id: str, experiment_id: str) -> None:
        with self._lock:
            self._pointers[run_id] = experiment_id
            if len(self._pointers) > _REMEMBERED:
                self._pointers.popitem(last=False)


def _as_text(attributes: Item) -> Item:
    """Attributes as JSON holds them: bytes are not."""
    return {name: {"B": value["B"].hex()} if "B" in value else value for name, value in attributes.items()}


def _from_text(attributes: Item) -> Item:
    return {name: {"B": bytes.fromhex(value["B"])} if "B" in value else value for name, value in attributes.items()}


def _not_found(run_id: str) -> MlflowException:
    return MlflowException(f"Run with id={run_id} not found", RESOURCE_DOES_NOT_EXIST)


def _too_contended(run_id: str) -> MlflowException:
    return MlflowException(f"The run {run_id} was changed by others {_ATTEMPTS} times in a row", TEMPORARILY_UNAVAILABLE)


# `remove` sorts by these words; the pointer has to come last.
assert sorted(["pointer", HISTORY, PART])[-1] == "pointer"
