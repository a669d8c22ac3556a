"""Search over experiments. They are few: all are read, and sorted out here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.utils.search_utils import SearchExperimentsUtils
from mlflow.utils.validation import _parse_experiment_id

from pipeline.tracking.dynamodb.comparisons import matches
from pipeline.tracking.dynamodb.items import ExperimentRecord

_TEXT_COMPARATORS = ("=", "!=", "LIKE", "ILIKE")
_NUMBER_COMPARATORS = ("=", "!=", "<", "<=", ">", ">=")
_ID_COMPARATORS = ("=", "!=", "IN", "NOT IN")
_DEFAULT_ORDER = ("creation_time DESC", "experiment_id ASC")

Parsed = dict[str, Any]  # a clause as MLflow parses it: type, key, comparator, value


def select(records: Sequence[ExperimentRecord], view: int, filter_string: str | None, order_by: Sequence[str] | None) -> list[ExperimentRecord]:
    """The experiments that are asked for, in the order that is asked for.

    Raises:
        MlflowException: `INVALID_PARAMETER_VALUE`, the filter or the order is none.
    """
    clauses = [_checked(clause) for clause in SearchExperimentsUtils.parse_search_filter(filter_string)]
    terms = _terms(order_by or _DEFAULT_ORDER)
    stages = set(LifecycleStage.view_type_to_stages(view))
    found = [record for record in records if record.lifecycle_stage in stages and all(_holds(record, clause) for clause in clauses)]
    for key, ascending in reversed(terms):
        found.sort(key=lambda record: _value(record, key), reverse=not ascending)
    return found


def _terms(order_by: Sequence[str]) -> list[tuple[str, bool]]:
    terms = []
    for clause in order_by:
        kind, key, ascending = SearchExperimentsUtils.parse_order_by_for_search_experiments(clause)
        if kind != "attribute":
            raise MlflowException.invalid_parameter_value(f"Invalid order_by entity: {kind}")
        terms.append((key, ascending))
    return terms if any(key == "experiment_id" for key, _ in terms) else [*terms, ("experiment_id", False)]


def _checked(clause: Parsed) -> Parsed:
    kind, key, comparator, value = clause["type"], clause["key"], clause["comparator"], clause["value"]
    if kind == "tag":
        if comparator not in (*_TEXT_COMPARATORS, "IS NULL", "IS NOT NULL"):
            raise MlflowException.invalid_parameter_value(f"Invalid comparator for tag: {comparator}")
        return clause
    if kind != "attribute":
        raise MlflowException.invalid_parameter_value(f"Invalid token type: {kind}")
    if key == "experiment_id":
        if comparator not in _ID_COMPARATORS:
            raise MlflowException.invalid_parameter_value(f"Invalid comparator for experiment_id: {comparator}")
        return {**clause, "value": tuple(map(_parse_experiment_id, value)) if isinstance(value, tuple) else _parse_experiment_id(value)}
    if SearchExperimentsUtils.is_string_attribute(kind, key, comparator) and comparator not in _TEXT_COMPARATORS:
        raise MlflowException.invalid_parameter_value(f"Invalid comparator for string attribute: {comparator}")
    if SearchExperimentsUtils.is_numeric_attribute(kind, key, comparator):
        return {**clause, "value": _number(key, comparator, value)}
    return clause


def _number(key: str, comparator: str, value: object) -> int:
    if comparator not in _NUMBER_COMPARATORS:
        raise MlflowException.invalid_parameter_value(f"Invalid comparator for numeric attribute: {comparator}")
    if isinstance(value, float):
        raise MlflowException.invalid_parameter_value(f"Invalid value for numeric attribute '{key}': {str(value)!r}")
    try:
        return int(str(value))
    except ValueError:
        raise MlflowException.invalid_parameter_value(f"Invalid value for numeric attribute '{key}': {value!r}") from None


def _holds(record: ExperimentRecord, clause: Parsed) -> bool:
    key: str = clause["key"]
    comparator: str = clause["comparator"]
    if comparator in ("IS NULL", "IS NOT NULL"):
        return (key in record.tags) is (comparator == "IS NOT NULL")
    found = record.tags.get(key) if clause["type"] == "tag" else _value(record, key)
    return matches(found, comparator, clause["value"])


def _value(record: ExperimentRecord, key: str) -> Any:
    return int(record.experiment_id) if key == "experiment_id" else getattr(record, key)
