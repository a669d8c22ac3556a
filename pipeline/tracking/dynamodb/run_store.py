"""The half of the store that is about runs. Checks and messages are those of MLflow's SQL store."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
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
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.tracking import SEARCH_MAX_RESULTS_THRESHOLD
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_MODELS, MLFLOW_RUN_NAME, _get_run_name_from_tags
from mlflow.utils.name_utils import _generate_random_name
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
from pipeline.tracking.dynamodb.client import Table, Write
from pipeline.tracking.dynamodb.experiments import Experiments
from pipeline.tracking.dynamodb.items import ExperimentRecord, RunRecord
from pipeline.tracking.dynamodb.metric_store import MetricStore
from pipeline.tracking.dynamodb.models import Models
from pipeline.tracking.dynamodb.runs import Change, Runs

if TYPE_CHECKING:
    from mlflow.models import Model

_DATASET_SUMMARIES = 1000


class RunStore(MetricStore):
    """What MLflow asks of runs, metrics, params, tags and inputs."""

    ARTIFACTS_FOLDER_NAME = "artifacts"

    def __init__(self, table: Table, artifact_root: str) -> None:
        super().__init__(table)
        self._runs = Runs(table)
        self._models = Models(table)
        self._experiments = Experiments(table, self._runs, self._models, artifact_root)

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
            artifact_uri=append_to_uri_path(experiment.artifact_location, run_id, self.ARTIFACTS_FOLDER_NAME),
            tags={tag.key: tag.value for tag in all_tags},
        )
        with errors_as_sql():
            run = record.entity(RunInputs(dataset_inputs=[]))
        if len({tag.key for tag in all_tags} - {None}) < len(all_tags):
            raise MlflowException("Two tags of the run have one name, or one has none", codes.BAD_REQUEST)
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

        def update(record: RunRecord) -> Sequence[Write]:
            if run_status is not None:
                with errors_as_sql():
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
        if metric.model_id is not None:
            # The run is looked at first then, as on SQL, and the value afterwards.
            _check_run_is_active(self._runs.get(run_id))
        self._log(run_id, metrics_logged=[metric])

    def log_param(self, run_id: str, param: Param) -> None:
        """Log a param; it can't be changed afterwards."""
        param = _validate_param(param.key, param.value)
        _check_param_has_a_value(param)

        def log(record: RunRecord) -> Sequence[Write] | None:
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
        with errors_as_sql():
            tag = _validate_tag(tag.key, tag.value)
        self._log(run_id, tags=[tag])

    def delete_tag(self, run_id: str, key: str) -> None:
        """Take a tag from a run."""

        def delete(record: RunRecord) -> Sequence[Write]:
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
        logged, about_models = metrics.rows(metrics_logged), metrics.about_models(metrics_logged, run_id)

        def log(record: RunRecord) -> Sequence[Write] | None:
            if not (logged or params or tags):
                return None
            _log_params(record, params)
            for tag in tags:
                if tag.key == MLFLOW_RUN_NAME:
                    _rename(record, tag.value)
                else:
                    record.tags[tag.key] = tag.value
            beside, elsewhere = self._models.measure(record, about_models) if about_models else ([], [])
            return [*self._runs.history(record, metrics.log(record, logged), elsewhere), *beside]

        self._change(run_id, log)

    def record_logged_model(self, run_id: str, mlflow_model: Model) -> None:
        """Note in a tag that a run made a model, as MLflow did of old."""
        from mlflow.models import Model

        if not isinstance(mlflow_model, Model):
            raise TypeError(f"Argument 'mlflow_model' should be mlflow.models.Model, got '{type(mlflow_model)}'")
        said = mlflow_model.get_tags_dict()

        def log(record: RunRecord) -> Sequence[Write]:
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

        def log(record: RunRecord) -> Sequence[Write]:
            run_inputs.use(record, read)
            run_inputs.use_models(record, models or [])
            return []

        self._change(run_id, log)

    def log_outputs(self, run_id: str, models: list[LoggedModelOutput]) -> None:
        """Log which models a run made."""

        def log(record: RunRecord) -> Sequence[Write]:
            run_inputs.made_models(record, models)
            return []

        self._change(run_id, log)

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

    def _change(self, run_id: str, change: Change) -> RunRecord:
        def checked(record: RunRecord) -> Sequence[Write] | None:
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
def errors_as_sql() -> Iterator[None]:
    """MLflow's entities raise plain exceptions, which its SQL store turns into internal errors."""
    try:
        yield
    except MlflowException:
        raise
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
    for param in params:
        _check_param_has_a_value(param)
        record.params[param.key] = param.value


def _check_param_has_a_value(param: Param) -> None:
    if param.value is None:
        raise MlflowException(f"The param '{param.key}' has no value: NOT NULL constraint failed: params.value", codes.BAD_REQUEST)
