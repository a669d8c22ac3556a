"""The order of runs: what is asked for, what is missing last; then newest first, then by id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils.search_utils import SearchUtils

from pipeline.tracking.dynamodb.filters import ATTRIBUTES
from pipeline.tracking.dynamodb.items import RunRecord
from pipeline.tracking.dynamodb.schema import start_order

# How present a run's value is (0: it is there, 1: it is NaN, 2: it is missing), and the value.
Found = tuple[int, str | float]
Record = TypeVar("Record")
_START_TIME = ("attribute", "start_time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One thing to order by."""

    kind: str
    key: str
    ascending: bool

    def sort(self, records: list[RunRecord]) -> None:
        """Bring the runs into this order; those that are equal in it stay as they are."""
        arrange(records, self._metric if self.kind == "metric" else self._other, ascending=self.ascending)

    def _metric(self, record: RunRecord) -> Found:
        point = record.metrics.get(self.key)
        if point is None:
            return 2, 0.0
        return (1, 0.0) if point.is_nan else (0, point.value)

    def _other(self, record: RunRecord) -> Found:
        if self.kind == "attribute":
            found = getattr(record, ATTRIBUTES.get(self.key, self.key))
        else:
            found = (record.params if self.kind == "parameter" else record.tags).get(self.key)
        return (0, found) if found is not None else (2, 0.0)


def arrange(records: list[Record], value: Callable[[Record], Found], *, ascending: bool) -> None:
    """Bring records into the order of a value; those that are equal in it stay as they are."""
    # Values, then NaN, then what is missing, whichever way the order goes; only values are compared with each other.
    groups: list[list[Record]] = [[], [], []]
    for record in records:
        groups[value(record)[0]].append(record)
    # Python keeps equal ones as they were in reverse, too.
    groups[0].sort(key=lambda record: value(record)[1], reverse=not ascending)
    records[:] = [record for group in groups for record in group]


def parse(order_by: Sequence[str] | None) -> list[Term]:
    """The things to order by.

    Raises:
        MlflowException: a clause is none (`INVALID_PARAMETER_VALUE`), or two are about one thing (`INTERNAL_ERROR`, as on SQL).
    """
    terms: dict[tuple[str, str], Term] = {}
    for clause in order_by or []:
        kind, key, ascending = SearchUtils.parse_order_by_for_search_runs(clause)
        key = SearchUtils.translate_key_alias(key)
        is_attribute = SearchUtils.is_string_attribute(kind, key, "=") or SearchUtils.is_numeric_attribute(kind, key, "=")
        if not (is_attribute or SearchUtils.is_metric(kind, "=") or SearchUtils.is_tag(kind, "=") or SearchUtils.is_param(kind, "=")):
            raise MlflowException(f"Invalid identifier type '{kind}'", error_code=INVALID_PARAMETER_VALUE)
        if (kind, key) in terms:
            raise MlflowException(f"`order_by` contains duplicate fields: {order_by}")
        terms[kind, key] = Term(kind=kind, key=key, ascending=ascending)
    return list(terms.values())


def is_default(terms: Sequence[Term]) -> bool:
    """Whether the index has this order."""
    return not terms or ((terms[0].kind, terms[0].key) == _START_TIME and not terms[0].ascending and len(terms) == 1)


def sort(records: list[RunRecord], terms: Sequence[Term]) -> None:
    """Bring the runs into the order that is asked for."""
    if any((term.kind, term.key) == _START_TIME for term in terms):
        records.sort(key=lambda record: record.run_id)
    else:
        records.sort(key=lambda record: start_order(record.start_time, record.run_id))
    for term in reversed(terms):
        term.sort(records)
