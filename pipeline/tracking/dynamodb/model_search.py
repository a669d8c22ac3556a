"""Search over logged models: by the index as far as the page goes where its order is wanted, else over the experiments' partitions."""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR
from mlflow.utils.search_utils import SearchLoggedModelsPaginationToken

from pipeline.tracking.dynamodb import orders
from pipeline.tracking.dynamodb.client import Expression, Where
from pipeline.tracking.dynamodb.comparisons import Comparison, Value, matches
from pipeline.tracking.dynamodb.model_items import ModelMetric, ModelRecord
from pipeline.tracking.dynamodb.models import Models
from pipeline.tracking.dynamodb.schema import BY_START, START_ORDER, start_order

# As clients send them: `dataset_name` with or without `dataset_digest`; and what to order by.
DatasetFilter = Mapping[str, str | None]
Order = Mapping[str, Any]

_STATUSES = {"UNSPECIFIED": 0, "PENDING": 1, "READY": 2, "FAILED": 3}
_CREATED = "creation_timestamp_ms"
# SQL's columns. Two of them are numbers there that are none for a filter, which compares them with texts.
_COLUMNS: dict[str, Callable[[ModelRecord], Value | None]] = {
    "model_id": lambda record: record.model_id,
    "experiment_id": lambda record: int(record.experiment_id),
    "name": lambda record: record.name,
    "artifact_location": lambda record: record.artifact_location,
    _CREATED: lambda record: record.creation_timestamp,
    "last_updated_timestamp_ms": lambda record: record.last_updated_timestamp,
    "status": lambda record: _STATUSES[str(record.status)],
    "lifecycle_stage": lambda record: record.lifecycle_stage,
    "model_type": lambda record: record.model_type,
    "source_run_id": lambda record: record.source_run_id,
    "status_message": lambda _: None,
}
_NUMBERS = ("experiment_id", "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause(Comparison):
    """A comparison of models: `attributes`, `metrics`, `params` or `tags`."""

    def holds(self, record: ModelRecord, datasets: Sequence[DatasetFilter]) -> bool:
        """Whether the model is one that is asked for; its metrics count where they are about one of the data sets, if there are any."""
        if self.kind == "metrics":
            values = (metric.value for metric in record.metrics if metric.key == self.key and _is_about(metric, datasets))
            return any(matches(value, self.comparator, self.value) for value in values)
        if self.kind != "attributes":
            return matches((record.params if self.kind == "params" else record.tags).get(self.key), self.comparator, self.value)
        found = _COLUMNS[self.key](record)
        if self.comparator in ("LIKE", "ILIKE"):
            found = None if found is None else str(found)
        return matches(found, self.comparator, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One thing to order by: a column, or a metric's latest value, on one data set if it is named."""

    column: str | None
    metric: str = ""
    dataset_name: str | None = None
    dataset_digest: str | None = None
    ascending: bool = True

    def find(self, record: ModelRecord) -> orders.Found:
        """How present the value is, and the value."""
        found = _COLUMNS[self.column](record) if self.column else self._latest(record)
        return (2, 0.0) if found is None else (0, found)

    def _latest(self, record: ModelRecord) -> float | None:
        values = [metric for metric in record.metrics if metric.key == self.metric and self._is_on(metric)]
        # The first run's, by its id, where several have the same time and step.
        values.sort(key=lambda metric: metric.run_id)
        return max(values, key=lambda metric: (metric.timestamp, metric.step)).value if values else None

    def _is_on(self, metric: ModelMetric) -> bool:
        named = not self.dataset_name or metric.dataset_name == self.dataset_name
        return named and (not self.dataset_digest or metric.dataset_digest == self.dataset_digest)


_NEWEST_FIRST = Term(column=_CREATED, ascending=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A search, parsed. `most` is the page's size, `offset` how many models came before it, `after` the last one's place in the index."""

    experiment_ids: Sequence[str]
    clauses: Sequence[Clause]
    datasets: Sequence[DatasetFilter]
    terms: Sequence[Term]
    most: int
    offset: int
    after: str | None

    @property
    def is_by_index(self) -> bool:
        """Whether the index has this order, and a model's own item says whether it is asked for."""
        return tuple(self.terms) == (_NEWEST_FIRST,) and not self.datasets and all(clause.kind != "metrics" for clause in self.clauses)

    def wants(self, record: ModelRecord) -> bool:
        """Whether a model is asked for."""
        if record.lifecycle_stage == LifecycleStage.DELETED or not all(clause.holds(record, self.datasets) for clause in self.clauses):
            return False
        is_measured = not self.datasets or any(clause.kind == "metrics" for clause in self.clauses)
        return is_measured or any(_is_about(metric, self.datasets) for metric in record.metrics)


def find(models: Models, question: Question) -> tuple[list[ModelRecord], tuple[int, str | None] | None]:
    """One page of the models that are asked for, and how many came before the next one, with the last one's place in the index."""
    if question.is_by_index:
        matching, skipped = _by_index(models, question), 0 if question.after else question.offset
    else:
        matching, skipped = _sorted(models, question), question.offset
    found = list(islice(matching, skipped, skipped + question.most + 1))
    if len(found) <= question.most:
        return found, None
    page = found[: question.most]
    after = start_order(page[-1].creation_timestamp, page[-1].model_id) if question.is_by_index else None
    return page, (question.offset + question.most, after)


def _by_index(models: Models, question: Question) -> Iterator[ModelRecord]:
    where = Where(
        index=BY_START,
        sort=Expression(text="#order > :after", names={"#order": START_ORDER}, values={":after": {"S": question.after}}) if question.after else None,
        keep=Expression(text="#stage = :stage", names={"#stage": "lifecycle_stage"}, values={":stage": {"S": LifecycleStage.ACTIVE}}),
        expected=question.most + 1 + (0 if question.after else question.offset),
    )
    partitions = [models.newest(experiment_id, where) for experiment_id in dict.fromkeys(question.experiment_ids)]
    for item in heapq.merge(*partitions, key=lambda item: str(item[START_ORDER]["S"])):
        yield from models.complete(item, question.wants)


def _sorted(models: Models, question: Question) -> Iterator[ModelRecord]:
    found = [record for experiment_id in dict.fromkeys(question.experiment_ids) for record in models.of(experiment_id) if question.wants(record)]
    found.sort(key=lambda record: record.model_id)
    for term in reversed(question.terms):
        orders.arrange(found, term.find, ascending=term.ascending)
    return iter(found)


def _is_about(metric: ModelMetric, datasets: Sequence[DatasetFilter]) -> bool:
    return not datasets or any(
        metric.dataset_name == dataset["dataset_name"] and ("dataset_digest" not in dataset or metric.dataset_digest == dataset["dataset_digest"])
        for dataset in datasets
    )


def parse(filter_string: str | None) -> list[Clause]:
    """The clauses of a filter.

    Raises:
        MlflowException: `INVALID_PARAMETER_VALUE`, it is none; `INTERNAL_ERROR`, as SQL has it, for an attribute that there isn't.
    """
    from mlflow.utils.search_logged_model_utils import parse_filter_string

    return [_clause(parsed.entity.type.value, parsed.entity.key, parsed.op, parsed.value) for parsed in parse_filter_string(filter_string)]


def _clause(kind: str, key: str, comparator: str, value: Any) -> Clause:
    if kind == "attributes" and key not in _COLUMNS:
        raise MlflowException(f"type object 'SqlLoggedModel' has no attribute '{key}'", INTERNAL_ERROR)
    if (comparator in ("IN", "NOT IN")) != isinstance(value, tuple):
        raise MlflowException(f"IN expression list, SELECT construct, or bound parameter object expected, got {value!r}.", BAD_REQUEST)
    if kind != "metrics" and isinstance(value, tuple):
        value = tuple(map(str, value))
    if kind == "attributes" and key in _NUMBERS and comparator not in ("LIKE", "ILIKE"):
        value = tuple(map(_as_number, value)) if isinstance(value, tuple) else _as_number(value)
    return Clause(kind=kind, key=key, comparator=comparator, value=value)


def _as_number(text: str) -> Value:
    """A text as SQLite compares it with a number: as one, if it is one."""
    try:
        return float(text)
    except ValueError:
        return text


def parse_order(order_by: Sequence[Order] | None) -> list[Term]:
    """The things to order by: what is asked for, then newest first; last by id, which is not in the list.

    Raises:
        MlflowException: `INVALID_PARAMETER_VALUE`, there is no such thing.
    """
    terms = [_term(order) for order in order_by or []]
    return terms if any(term.column == _CREATED for term in terms) else [*terms, _NEWEST_FIRST]


def _term(order: Order) -> Term:
    from mlflow.store.tracking.dbmodels.models import SqlLoggedModel

    field, ascending = order.get("field_name"), order.get("ascending", True)
    if not isinstance(field, str):
        raise MlflowException(f"argument of type '{type(field).__name__}' is not iterable", INTERNAL_ERROR)
    if "." not in field:
        column = SqlLoggedModel.ALIASES.get(field, field)
        if column not in _COLUMNS:
            raise MlflowException.invalid_parameter_value(f"Invalid order by field name: {field}", error_class="ATTRIBUTE_NOT_FOUND")
        return Term(column=column, ascending=ascending)
    kind, metric = field.split(".", 1)
    if kind != "metrics":
        raise MlflowException.invalid_parameter_value(f"Invalid order by field name: {field}. Only metrics are supported.")
    return Term(column=None, metric=metric, dataset_name=order.get("dataset_name"), dataset_digest=order.get("dataset_digest"), ascending=ascending)


def token(experiment_ids: list[str], filter_string: str | None, order_by: Any, following: tuple[int, str | None]) -> str:
    """The token of the page that follows: MLflow's own, and where the index goes on, so that no page is read twice."""
    offset, after = following
    told = SearchLoggedModelsPaginationToken(experiment_ids=experiment_ids, filter_string=filter_string, order_by=order_by, offset=offset)
    return base64.b64encode(json.dumps({**asdict(told), "after": after}).encode()).decode()


def read_token(page_token: str, experiment_ids: list[str], filter_string: str | None, order_by: Any) -> tuple[int, str | None]:
    """How many models came before the page, and the last one's place in the index, if the token says it.

    Raises:
        MlflowException: `INVALID_PARAMETER_VALUE`, it is the token of another search.
    """
    told = SearchLoggedModelsPaginationToken.decode(page_token)
    told.validate(experiment_ids, filter_string, order_by)
    after = json.loads(base64.b64decode(page_token)).get("after")
    return told.offset, after if isinstance(after, str) else None
