"""MLflow's filter grammar on runs: what DynamoDB can sort out by itself, and the whole rule for what it lets through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_RUN_NAME
from mlflow.utils.search_utils import SearchUtils

from pipeline.tracking.dynamodb import values
from pipeline.tracking.dynamodb.client import Expression, Item
from pipeline.tracking.dynamodb.comparisons import Comparison, matches
from pipeline.tracking.dynamodb.items import DatasetUse, RunRecord

Rule = Callable[[RunRecord], bool]
# The record's name of what filters and orders call something else.
ATTRIBUTES = {"run_name": "name"}
_PUSHED_ATTRIBUTES = {"status", "user_id", "start_time", "end_time", "artifact_uri"}
_PUSHED = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause(Comparison):
    """A comparison of runs: `attribute`, `metric`, `parameter`, `tag` or `dataset`."""

    def holds(self, record: RunRecord) -> bool:
        """Whether the run is one that is asked for, as SQLite sees it."""
        if self.kind == "dataset":
            return any(matches(self._of_dataset(used), self.comparator, self.value) for used in record.datasets)
        if self.kind == "metric":
            return self._metric_holds(record)
        texts = record.params if self.kind == "parameter" else record.tags
        if self.comparator in ("IS NULL", "IS NOT NULL"):
            return (self.key in texts) == (self.comparator == "IS NOT NULL")
        found = getattr(record, ATTRIBUTES.get(self.key, self.key)) if self.kind == "attribute" else texts.get(self.key)
        return matches(found, self.comparator, self.value)

    def _of_dataset(self, used: DatasetUse) -> str | None:
        if self.key == "context":
            return dict(used.tags).get(MLFLOW_DATASET_CONTEXT)
        return used.name if self.key == "name" else used.digest

    def _metric_holds(self, record: RunRecord) -> bool:
        point = record.metrics.get(self.key)
        if point is None or point.is_nan:
            return point is not None and self.comparator == "!="
        return matches(point.value, self.comparator, self.value)

    def pushed(self, place: int) -> Expression | None:
        """A condition that every run fulfils for which the clause holds, if DynamoDB has one."""
        maps = {"metric": "metrics", "parameter": "params", "tag": "tags"}
        key, value = f"#key{place}", f":value{place}"
        if self.kind == "attribute" and self.key in _PUSHED_ATTRIBUTES:
            path, names = key, {key: self.key}
        elif self.kind in maps:
            path, names = f"#{maps[self.kind]}.{key}", {f"#{maps[self.kind]}": maps[self.kind], key: values.name(self.key)}
        else:
            return None
        if self.comparator in ("IS NULL", "IS NOT NULL"):
            return Expression(text=f"attribute{'_not' if self.comparator == 'IS NULL' else ''}_exists({path})", names=names)
        if self.comparator not in _PUSHED:
            return Expression(text=f"attribute_exists({path})", names=names)
        return self._compared(path, names, value)

    def _compared(self, path: str, names: dict[str, str], value: str) -> Expression:
        compared = f"{path} {_PUSHED[self.comparator]} {value}"
        if self.comparator == "!=":
            # For DynamoDB what is missing is unequal to everything.
            compared = f"(attribute_exists({path}) AND {compared})"
        wanted: Item = {"S": self.value} if isinstance(self.value, str) else values.double(float(str(self.value)), is_nan=False)
        if not isinstance(self.value, str):
            if "S" in wanted:
                return Expression(text=f"attribute_exists({path})", names=names)
            # Numbers too large for DynamoDB are kept as texts, which it doesn't compare with numbers (and moto falls over).
            text = f"{value}_text"
            return Expression(text=f"(attribute_type({path}, {text}) OR {compared})", names=names, values={value: wanted, text: {"S": "S"}})
        return Expression(text=compared, names=names, values={value: wanted})


def parse(filter_string: str | None) -> list[Clause]:
    """The clauses of a filter.

    Raises:
        MlflowException: `INVALID_PARAMETER_VALUE`, it is none.
    """
    return [_clause(parsed) for parsed in SearchUtils.parse_search_filter(filter_string)]


def _clause(parsed: dict[str, Any]) -> Clause:
    kind, comparator, value = parsed["type"], parsed["comparator"].upper(), parsed["value"]
    key = SearchUtils.translate_key_alias(parsed["key"])
    if SearchUtils.is_string_attribute(kind, key, comparator) or SearchUtils.is_numeric_attribute(kind, key, comparator):
        if key == "run_name":
            # Runs of old had their name in a tag only.
            return Clause(kind="tag", key=MLFLOW_RUN_NAME, comparator=comparator, value=value)
    elif SearchUtils.is_metric(kind, comparator):
        value = float(value)
    elif not (SearchUtils.is_param(kind, comparator) or SearchUtils.is_tag(kind, comparator) or SearchUtils.is_dataset(kind, comparator)):
        raise MlflowException(f"Invalid search expression type '{kind}'", error_code=INVALID_PARAMETER_VALUE)
    return Clause(kind=kind, key=key, comparator=comparator, value=value)


def pushed(clauses: Sequence[Clause], view: int) -> Expression | None:
    """What DynamoDB is to sort out: other lifecycle stages, and what the clauses exclude; never a run that has parts elsewhere."""
    stages = LifecycleStage.view_type_to_stages(view)
    expressions = [expression for place, clause in enumerate(clauses) if (expression := clause.pushed(place))]
    stage = Expression(text="#stage = :stage", names={"#stage": "lifecycle_stage"}, values={":stage": {"S": stages[0]}}) if len(stages) == 1 else None
    if not expressions:
        return stage
    # DynamoDB takes no parenthesis too many; AND binds closer than OR, and a clause with an OR has its own.
    text = f"attribute_exists(#parts) OR {' AND '.join(expression.text for expression in expressions)}"
    names, found = {"#parts": "parts"}, {}
    for expression in [*expressions, *([stage] if stage else [])]:
        names.update(expression.names)
        found.update(expression.values)
    return Expression(text=f"{stage.text} AND ({text})" if stage else text, names=names, values=found)


def rule(clauses: Sequence[Clause], view: int) -> Rule:
    """Whether a run is asked for."""
    stages = set(LifecycleStage.view_type_to_stages(view))
    return lambda record: record.lifecycle_stage in stages and all(clause.holds(record) for clause in clauses)
