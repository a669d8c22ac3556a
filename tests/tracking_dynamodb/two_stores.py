"""MLflow's SQL store and ours side by side: the same calls, and answers that can be compared."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from mlflow.entities import DatasetInput, Experiment, LoggedModel, Run, RunInfo
from mlflow.entities.metric import Metric, MetricWithRunId
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList

from pipeline.tracking.dynamodb.store import DynamoDbStore

# moto looks at a condition and writes in two steps, between which another of its threads may come: it loses updates itself.
AT_ONCE = pytest.mark.parametrize("new_table", ["DynamoDB Local"], indirect=True)


class SameIds(DynamoDbStore):
    """Ours, with the run ids that the SQL store drew: they decide the order of runs that are otherwise equal."""

    next_id = "0" * 32
    next_model_id = "m-0"

    def _new_run_id(self) -> str:
        return self.next_id

    def _new_model_id(self) -> str:
        return self.next_model_id


class Refused(NamedTuple):
    """An error: its class, its code and its message."""

    error: str
    code: str
    message: str


class TwoStores:
    """Calls both, and holds that they answer alike."""

    def __init__(self, sql: Any, ours: SameIds) -> None:
        self.sql, self.ours = sql, ours

    def both(self, method: str, *args: Any, plain: Callable[[Any], Any] | None = None, **kwargs: Any) -> Any:
        """What the SQL store returned; nothing if it raised."""
        returned, expected = outcome(self.sql, method, args, kwargs, plain)
        if method == "create_run" and returned is not None:
            self.ours.next_id = returned.info.run_id
        if method == "create_logged_model" and returned is not None:
            self.ours.next_model_id = returned.model_id
            kwargs = {**kwargs, "name": returned.name}  # one that was not given is drawn
        _, found = outcome(self.ours, method, args, kwargs, plain)
        assert alike(found, expected), f"{method}{args}{kwargs}\n  sql:  {expected}\n  ours: {found}"
        return returned

    def pages(self, method: str, most: int | None, **kwargs: Any) -> None:
        """All pages of a search."""
        tokens: list[Any] = [None, None]
        for _ in range(20):
            pages = self.each(method, [{**kwargs, "max_results": most, "page_token": token} for token in tokens])
            tokens = [getattr(page, "token", None) for page in pages]
            if not tokens[0]:
                return

    def each(self, method: str, kwargs: list[dict[str, Any]]) -> list[Any]:
        """What both returned to calls that differ in their tokens only."""
        (expected, said), (found, ours) = (outcome(store, method, (), call) for store, call in zip((self.sql, self.ours), kwargs, strict=True))
        assert alike(ours, said), f"{method}{kwargs[0]}\n  sql:  {said}\n  ours: {ours}"
        return [expected, found]


def outcome(store: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], plain: Callable[[Any], Any] | None = None) -> tuple[Any, Any]:
    """What a call returned, and the same, or its error, as something that can be compared."""
    try:
        returned = getattr(store, method)(*args, **kwargs)
    except (MlflowException, TypeError) as error:
        return None, Refused(type(error).__name__, getattr(error, "error_code", ""), str(error))
    return returned, (plain or comparable)(returned)


def alike(found: Any, expected: Any) -> bool:
    """Whether two outcomes are the same. Of what the database's driver says, only the code is compared."""
    if isinstance(expected, Refused) and isinstance(found, Refused) and "sqlite3." in expected.message:
        said = expected.message.partition(" Error: ")[0] if " Error: " in expected.message else ""
        return (found.error, found.code) == (expected.error, expected.code) and found.message.startswith(said)
    return bool(found == expected)


def comparable(value: Any) -> Any:
    """An answer without the times at which things happened."""
    if isinstance(value, PagedList):
        return [comparable(entry) for entry in value], bool(value.token)
    if isinstance(value, list | tuple):
        return [comparable(entry) for entry in value]
    if isinstance(value, Experiment):
        return value.experiment_id, value.name, value.artifact_location, value.lifecycle_stage, dict(value.tags), value.workspace
    if isinstance(value, RunInfo):
        return dict(value)
    if isinstance(value, Metric):
        return metric(value)
    if isinstance(value, MetricWithRunId):
        return value.run_id, value.key, "nan" if math.isnan(value.value) else value.value, value.timestamp, value.step
    if isinstance(value, LoggedModel):
        return model(value)
    return run(value) if isinstance(value, Run) else value


def model(value: LoggedModel) -> Any:
    metrics = sorted((entry.to_dictionary() for entry in value.metrics), key=str) if value.metrics is not None else None
    told = value.experiment_id, value.name, value.artifact_location, value.model_type, value.source_run_id, value.status, value.status_message
    return value.model_id, told, value.tags, value.params, metrics, value.last_updated_timestamp > value.creation_timestamp


def metric(value: Metric) -> Any:
    return value.key, "nan" if math.isnan(value.value) else value.value, value.timestamp, value.step


def dataset(value: DatasetInput) -> Any:
    return sorted((tag.key, tag.value) for tag in value.tags), sorted((key, str(said)) for key, said in value.dataset.to_dictionary().items())


def run(value: Run) -> Any:
    datasets = sorted(dataset(entry) for entry in value.inputs.dataset_inputs)
    models = sorted(entry.model_id for entry in value.inputs.model_inputs or [])
    outputs = sorted((entry.model_id, entry.step) for entry in value.outputs.model_outputs) if value.outputs else []
    metrics = sorted(metric(entry) for entry in value.data._metric_objs)
    return dict(value.info), metrics, dict(value.data.params), dict(value.data.tags), datasets, models, outputs
