"""The half of the store that is about runs. Checks and messages are those of MLflow's SQL store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow.entities import (
    DatasetInput,
    LifecycleStage,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunInfo,
    RunInputs,
    RunStatus,
    RunTag,
    _DatasetSummary,
)
from mlflow.entities.metric import MetricWithRunId
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_MAX_RESULTS_THRESHOLD
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_MODELS, MLFLOW_RUN_NAME, _get_run_name_from_tags
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import (
    _parse_experiment_ids,
    _validate_batch_log_data,
    _validate_batch_log_limits,
    _validate_dataset_inputs,
    _validate_param,
    _validate_param_keys_unique,
    _validate_run_id,
    _validate_tag,
)

from pipeline.tracking.dynamodb import filters, metrics, orders, search
from pipeline.tracking.dynamodb import inputs as run_inputs
from pipeline.tracking.dynamodb.client import Table
from pipeline.tracking.dynamodb.experiments import Experiments
from pipeline.tracking.dynamodb.items import ExperimentRecord, Point, RunRecord
from pipeline.tracking.dynamodb.runs import Runs

if TYPE_CHECKING:
    from mlflow.models import Model

_ARTIFACTS = "artifacts"
_DATASET_SUMMARIES = 1000


class RunStore(AbstractStore):  # type: ignore[misc] # MLflow's classes have no types here
    """What MLflow asks of runs, metrics, params, tags and inputs."""

    def __init__(self, table: Table, runs: Runs, experiments: Experiments) -> None:
        super().__init__()
        self._table = table
        self._runs = runs
        self._experiments = experiments

    def create_run(self, experiment_id: str, user_id: str | None, start_time: int | None, tags: Sequence[RunTag] | None, run_name: str | None) -> Run:
        """Make a run, and return it."""
        experiment = self._experiments.get(experiment_id)
        self._check_experiment_is_active(experiment)
        name, all_tags = _named(run_name, tags or [])
        run_id = self._new_run_id()
        record = RunRecord(
            run_id=run_id,
            experiment_id=experiment.experiment_id,
            name=name,
            user_id=user_id,
            status=RunStatus.to_string(RunStatus.RUNNING),
            start_time=start_time,
            artifact_uri=append_to_uri_path(experiment.artifact_location, run_id, _ARTIFACTS),
            tags={tag.key: tag.value for tag in all_tags},
        )
        with _errors_as_sql():
            run = record.entity(RunInputs(dataset_inputs=[]))
        if len({tag.key for tag in all_tags}) < len(all_tags):
            raise MlflowException("Two tags of the run have one name", codes.BAD_REQUEST)
        self._runs.create(record)
        return run

    def _new_run_id(self) -> str:
        """An id that no run has. Who compares two stores gives both the same ones."""
        return uuid.uuid4().hex

    def get_run(self, run_id: str) -> Run:
        """The run with that id, deleted or not."""
        record = self._runs.get(run_id)
        (read,) = run_inputs.Inputs(self._table).of([record], models=True)
        return record.entity(read)

    def update_run_info(self, run_id: str, run_status: int | None, end_time: int | None, run_name: str | None) -> RunInfo:
        """Set what is given of a run's status, end and name."""

        def update(record: RunRecord) -> Sequence[bytes]:
            if run_status is not None:
                with _errors_as_sql():
                    record.status = RunStatus.to_string(run_status)
            record.end_time = record.end_time if end_time is None else end_time
            _rename(record, run_name)
            return []

        return self._change(run_id, update).info()

    def delete_run(self, run_id: str) -> None:
        """Delete a run; it can be restored."""
        self._runs.mark(self._runs.key(run_id), LifecycleStage.DELETED, get_current_time_millis())

    def restore_run(self, run_id: str) -> None:
        """Restore a deleted run."""
        self._runs.mark(self._runs.key(run_id), LifecycleStage.ACTIVE, None)

    def _hard_delete_run(self, run_id: str) -> None:
        """Delete a run for ever (`mlflow gc`)."""
        self._runs.remove(run_id)

    def _get_deleted_runs(self, older_than: int = 0) -> list[str]:
        """The ids of the runs that were deleted that many milliseconds ago (`mlflow gc`)."""
        until = get_current_time_millis() - older_than
        keys = [key for record in self._experiments.all() for key in self._experiments.run_keys(record.experiment_id, LifecycleStage.DELETED)]
        return [run_id for _, run_id in keys if (self._runs.get(run_id).deleted_time or 0) <= until]

    def log_metric(self, run_id: str, metric: Metric) -> None:
        """Log one value."""
        self._log(run_id, metrics_logged=[metric])

    def log_param(self, run_id: str, param: Param) -> None:
        """Log a param; it can't be changed afterwards."""
        param = _validate_param(param.key, param.value)
        if param.value is None:
            raise MlflowException(f"The param '{param.key}' has no value: NOT NULL constraint failed: params.value", codes.BAD_REQUEST)

        def log(record: RunRecord) -> Sequence[bytes] | None:
            if param.key not in record.params:
                record.params[param.key] = param.value
                return []
            if (old := record.params[param.key]) != param.value:
                raise MlflowException(
                    f"Changing param values is not allowed. Param with key='{param.key}' was already logged with value='{old}' for run ID='{run_id}'. "
                    f"Attempted logging new value '{param.value}'.",
                    codes.INVALID_PARAMETER_VALUE,
                )
            return None

        self._change(run_id, log)

    def set_tag(self, run_id: str, tag: RunTag) -> None:
        """Set a tag of a run."""
        tag = _validate_tag(tag.key, tag.value)
        self._log(run_id, tags=[tag])

    def delete_tag(self, run_id: str, key: str) -> None:
        """Take a tag from a run."""

        def delete(record: RunRecord) -> Sequence[bytes]:
            if key not in record.tags:
                raise MlflowException(f"No tag with name: {key} in run with id {run_id}", error_code=codes.RESOURCE_DOES_NOT_EXIST)
            del record.tags[key]
            return []

        self._change(run_id, delete)

    def log_batch(self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]) -> None:
        """Log metrics, params and tags: all of them, or none."""
        _validate_run_id(run_id)
        metrics, params, tags = _validate_batch_log_data(metrics, params, tags)
        _validate_batch_log_limits(metrics, params, tags)
        _validate_param_keys_unique(params)
        self._log(run_id, metrics_logged=metrics, params=params, tags=tags)

    def _log(self, run_id: str, *, metrics_logged: Sequence[Metric] = (), params: Sequence[Param] = (), tags: Sequence[RunTag] = ()) -> None:
        if any(metric.model_id is not None for metric in metrics_logged):
            raise MlflowException("The DynamoDB store has no logged models, so that no metric can be about one", codes.NOT_IMPLEMENTED)
        logged = metrics.rows(metrics_logged)

        def log(record: RunRecord) -> Sequence[bytes] | None:
            if not (logged or params or tags):
                return None
            _log_params(record, params)
            for tag in tags:
                if tag.key == MLFLOW_RUN_NAME:
                    _rename(record, tag.value)
                else:
                    record.tags[tag.key] = tag.value
            return metrics.log(record, logged)

        self._change(run_id, log)

    def record_logged_model(self, run_id: str, mlflow_model: Model) -> None:
        """Note in a tag that a run made a model, as MLflow did of old."""
        from mlflow.models import Model

        if not isinstance(mlflow_model, Model):
            raise TypeError(f"Argument 'mlflow_model' should be mlflow.models.Model, got '{type(mlflow_model)}'")
        said = mlflow_model.get_tags_dict()

        def log(record: RunRecord) -> Sequence[bytes]:
            value = json.dumps([*json.loads(record.tags.get(MLFLOW_LOGGED_MODELS) or "[]"), said])
            _validate_tag(MLFLOW_LOGGED_MODELS, value)
            record.tags[MLFLOW_LOGGED_MODELS] = value
            return []

        self._change(run_id, log)

    def log_inputs(self, run_id: str, datasets: list[DatasetInput] | None = None, models: list[LoggedModelInput] | None = None) -> None:
        """Log what a run read."""
        _validate_run_id(run_id)
        if datasets is not None:
            if not isinstance(datasets, list):
                raise TypeError(f"Argument 'datasets' should be a list, got '{type(datasets)}'")
            _validate_dataset_inputs(datasets)
        record = self._runs.get(run_id)
        _check_run_is_active(record)
        read = run_inputs.distinct(datasets or [])
        run_inputs.put_datasets(self._table, record.experiment_id, [entry.dataset for entry in read])

        def log(record: RunRecord) -> Sequence[bytes]:
            run_inputs.use(record, read)
            run_inputs.use_models(record, models or [])
            return []

        self._change(run_id, log)

    def log_outputs(self, run_id: str, models: list[LoggedModelOutput]) -> None:
        """Log which models a run made."""

        def log(record: RunRecord) -> Sequence[bytes]:
            run_inputs.made_models(record, models)
            return []

        self._change(run_id, log)

    def get_metric_history(self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None) -> PagedList:
        """All values of a metric, or a page of them."""
        points = metrics.history(self._table, run_id, metric_key)
        offset = SearchUtils.parse_start_offset_from_page_token(page_token)
        end = len(points) if max_results is None else offset + max_results
        token = SearchUtils.create_page_token(end) if end < len(points) else None
        return PagedList([point.metric(metric_key) for point in points[offset:end]], token)

    def get_metric_history_bulk(self, run_ids: Iterable[str], metric_key: str, max_results: int) -> list[MetricWithRunId]:
        """The values of a metric of several runs, by run."""
        found = [(run_id, point) for run_id in sorted(set(run_ids)) for point in metrics.history(self._table, run_id, metric_key)]
        return _with_runs(metric_key, found[:max_results])

    def get_max_step_for_metric(self, run_id: str, metric_key: str) -> int:
        """The largest step of a metric; 0 for none."""
        return max((point.step for point in metrics.history(self._table, run_id, metric_key)), default=0)

    def get_metric_history_bulk_interval_from_steps(self, run_id: str, metric_key: str, steps: Iterable[int], max_results: int) -> list[MetricWithRunId]:
        """The values of a metric at these steps."""
        wanted = set(steps)
        points = [point for point in metrics.history(self._table, run_id, metric_key) if point.step in wanted]
        return _with_runs(metric_key, [(run_id, point) for point in metrics.by_step(points)[:max_results]])

    def get_metric_history_bulk_interval(
        self, run_ids: Iterable[str], metric_key: str, max_results: int, start_step: int | None, end_step: int | None
    ) -> list[MetricWithRunId]:
        """At most so many values of a metric of each run, evenly sampled over a range of steps."""
        if (start_step is None) != (end_step is None):
            raise MlflowException.invalid_parameter_value("Both start_step and end_step must be specified together, or neither may be specified.")
        found: list[tuple[str, Point]] = []
        for run_id in run_ids:
            points = metrics.by_step(metrics.history(self._table, run_id, metric_key))
            if start_step is not None and end_step is not None:
                points = [point for point in points if start_step <= point.step <= end_step]
            found += [(run_id, point) for point in metrics.sample(points, max(1, max_results))]
        return _with_runs(metric_key, found)

    def _search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int | None,
        order_by: Sequence[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], bytes | None]:
        """One page of the runs that are asked for, and the token of the next one."""
        check_max_results(max_results, allow_null=True)
        question = search.Question(
            clauses=filters.parse(filter_string),
            terms=orders.parse(order_by),
            view=run_view_type,
            most=max_results,
            page_token=page_token,
            experiment_ids=[str(number) for number in _parse_experiment_ids(experiment_ids)],
        )
        records, token = search.find(self._table, self._runs, question)
        read = run_inputs.Inputs(self._table).of(records)
        return [record.entity(entry) for record, entry in zip(records, read, strict=True)], token

    def _search_datasets(self, experiment_ids: Sequence[str]) -> list[_DatasetSummary]:
        """What data sets the runs of these experiments read, and as what (MLflow's page asks this)."""
        found: dict[tuple[str, str, str, str | None], None] = {}
        for experiment_id in dict.fromkeys(map(str, _parse_experiment_ids(experiment_ids))):
            for record in self._runs.complete(self._table.query(experiment_id)):
                found.update({(experiment_id, used.name, used.digest, dict(used.tags).get(MLFLOW_DATASET_CONTEXT)): None for used in record.datasets})
        return [
            _DatasetSummary(experiment_id=experiment_id, name=name, digest=digest, context=context)
            for experiment_id, name, digest, context in list(found)[:_DATASET_SUMMARIES]
        ]

    def _change(self, run_id: str, change: Callable[[RunRecord], Sequence[bytes] | None]) -> RunRecord:
        def checked(record: RunRecord) -> Sequence[bytes] | None:
            _check_run_is_active(record)
            return change(record)

        return self._runs.change(run_id, checked)

    def _check_experiment_is_active(self, experiment: ExperimentRecord) -> None:
        if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            raise MlflowException(
                f"The experiment {experiment.experiment_id} must be in the 'active' state. Current state is {experiment.lifecycle_stage}.",
                codes.INVALID_PARAMETER_VALUE,
            )


@contextmanager
def _errors_as_sql() -> Iterator[None]:
    """MLflow's entities raise plain exceptions, which its SQL store turns into internal errors."""
    try:
        yield
    except Exception as error:  # they have no class of their own
        raise MlflowException(error, codes.INTERNAL_ERROR) from error


def _check_run_is_active(record: RunRecord) -> None:
    if record.lifecycle_stage != LifecycleStage.ACTIVE:
        raise MlflowException(
            f"The run {record.run_id} must be in the 'active' state. Current state is {record.lifecycle_stage}.", codes.INVALID_PARAMETER_VALUE
        )


def check_max_results(max_results: int | None, *, allow_null: bool) -> None:
    """Refuse page sizes that MLflow refuses."""
    said = f"Invalid value {max_results} for parameter 'max_results' supplied. It must be"
    if max_results is None:
        if not allow_null:
            raise MlflowException(f"{said} a positive integer", codes.INVALID_PARAMETER_VALUE)
    elif max_results < 1:
        raise MlflowException(f"{said} a positive integer", codes.INVALID_PARAMETER_VALUE)
    elif max_results > SEARCH_MAX_RESULTS_THRESHOLD:
        raise MlflowException(f"{said} at most {SEARCH_MAX_RESULTS_THRESHOLD}", codes.INVALID_PARAMETER_VALUE)


def _named(run_name: str | None, tags: Sequence[RunTag]) -> tuple[str, list[RunTag]]:
    """A new run's name, and its tags with the one that has the name."""
    name_tag = _get_run_name_from_tags(tags)
    if run_name and name_tag and run_name != name_tag:
        raise MlflowException(
            f"Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values (run_name='{run_name}', mlflow.runName='{name_tag}').",
            codes.INVALID_PARAMETER_VALUE,
        )
    name = run_name or name_tag or _generate_random_name()
    return name, [*tags, *([] if name_tag else [RunTag(MLFLOW_RUN_NAME, name)])]


def _rename(record: RunRecord, name: str | None) -> None:
    if name:
        record.name = record.tags[MLFLOW_RUN_NAME] = name


def _log_params(record: RunRecord, params: Sequence[Param]) -> None:
    changed = [
        {"key": param.key, "old_value": record.params[param.key], "new_value": param.value}
        for param in params
        if param.key in record.params and param.value != record.params[param.key]
    ]
    if changed:
        raise MlflowException(
            f"Changing param values is not allowed. Params were already logged='{changed}' for run ID='{record.run_id}'.", codes.INVALID_PARAMETER_VALUE
        )
    record.params.update({param.key: param.value for param in params})


def _with_runs(key: str, found: Iterable[tuple[str, Point]]) -> list[MetricWithRunId]:
    return [MetricWithRunId(run_id=run_id, metric=point.metric(key)) for run_id, point in found]
