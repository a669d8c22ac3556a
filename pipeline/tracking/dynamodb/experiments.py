"""Experiments in the table: made with a name that nobody else has, found, changed, deleted with their runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlflow.entities import Experiment, ExperimentTag, LifecycleStage, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import _parse_experiment_id

from pipeline.tracking.dynamodb.client import Attempts, ConflictError, Expression, Item, Key, Table, Where, is_version, rewrite
from pipeline.tracking.dynamodb.items import ExperimentRecord, experiment_item, read_experiment
from pipeline.tracking.dynamodb.models import Models
from pipeline.tracking.dynamodb.runs import Runs
from pipeline.tracking.dynamodb.schema import COUNTER, EXPERIMENTS, PARTITION, SORT, datasets_partition, experiment_key, name_key

DEFAULT_ID = "0"


class Experiments:
    """The experiments of a table. `artifact_root` is where those keep artefacts that say nothing else."""

    def __init__(self, table: Table, runs: Runs, models: Models, artifact_root: str) -> None:
        self._table = table
        self._runs = runs
        self._models = models
        self._artifact_root = artifact_root

    def ensure_default(self) -> None:
        """MLflow's page and clients count on an experiment with the id 0."""
        if self._table.get(experiment_key(DEFAULT_ID)):
            return
        try:
            self._put_new(self._record(DEFAULT_ID, Experiment.DEFAULT_EXPERIMENT_NAME, None))
        except ConflictError:
            # Another process made it meanwhile, or somebody gave its name to another experiment, as on SQL.
            if not self._table.get(experiment_key(DEFAULT_ID)):
                raise

    def create(self, name: str, artifact_location: str | None, tags: Sequence[ExperimentTag]) -> str:
        """Make an experiment and return its id.

        Raises:
            MlflowException: `RESOURCE_ALREADY_EXISTS`, the name is taken, if only by a deleted one.
        """
        if self._table.get(name_key(name)) or len({tag.key for tag in tags}) < len(tags):
            raise _already_exists(name)
        count = Expression(text="ADD #last :one", names={"#last": "last"}, values={":one": {"N": "1"}})
        record = self._record(self._table.update(COUNTER, count)["last"]["N"], name, artifact_location)
        record.tags = {tag.key: tag.value for tag in tags}
        attempts = Attempts(f"The experiment {record.experiment_id}")
        while True:
            try:
                self._put_new(record)
            except ConflictError as conflict:
                named = self._table.get(name_key(name))
                # A request whose answer got lost was sent again, and met its own write: nobody else got this id.
                if named and named["experiment"]["S"] == record.experiment_id:
                    return record.experiment_id
                if named:
                    raise _already_exists(name) from conflict
                attempts.again()
            else:
                return record.experiment_id

    def _record(self, experiment_id: str, name: str, artifact_location: str | None) -> ExperimentRecord:
        now = get_current_time_millis()
        location = artifact_location or append_to_uri_path(self._artifact_root, experiment_id)
        return ExperimentRecord(experiment_id=experiment_id, name=name, artifact_location=location, creation_time=now, last_update_time=now)

    def _put_new(self, record: ExperimentRecord) -> None:
        named = _name_item(record.name, record.experiment_id)
        self._table.write_together([self._table.to_put(experiment_item(record), self._table.absent()), self._table.to_put(named, self._table.absent())])

    def get(self, experiment_id: str | int | None, view: int = ViewType.ALL) -> ExperimentRecord:
        """The experiment with that id, if it is in the view.

        Raises:
            MlflowException: `RESOURCE_DOES_NOT_EXIST`; `INVALID_PARAMETER_VALUE` for what is no number.
        """
        number = _parse_experiment_id(experiment_id or DEFAULT_ID)
        item = self._table.get(experiment_key(str(number))) if number >= 0 else None
        if item is None:
            raise _not_found(number)
        return _in_view(read_experiment(item), view)

    def find(self, name: str) -> ExperimentRecord | None:
        """The experiment of that name."""
        named = self._table.get(name_key(name)) if name else None
        item = self._table.get(experiment_key(named["experiment"]["S"])) if named else None
        return read_experiment(item) if item else None

    def all(self) -> list[ExperimentRecord]:
        """Every experiment, by id."""
        return [read_experiment(item) for item in self._table.query(EXPERIMENTS)]

    def change(self, experiment_id: str, view: int, change: Callable[[ExperimentRecord], None]) -> None:
        """Apply a change, anew whenever another one came in between.

        Raises:
            MlflowException: as `get`; whatever the change raises; `BAD_REQUEST`, the new name is taken;
                `TEMPORARILY_UNAVAILABLE`, others wrote in between every time.
        """

        def write(record: ExperimentRecord) -> None:
            name = _in_view(record, view).name
            change(record)
            try:
                self._write(record, name)
            except ConflictError as conflict:
                # Where the version is another one too, it is to be read anew first: the name may be our own write's.
                if conflict.failed and 0 not in conflict.failed:
                    raise MlflowException(f"The name '{record.name}' is taken by another experiment", codes.BAD_REQUEST) from conflict
                raise

        rewrite(f"The experiment {experiment_id}", lambda: self.get(experiment_id), write)

    def _write(self, record: ExperimentRecord, old_name: str) -> None:
        unchanged = is_version(record.version)
        if record.name == old_name:
            self._table.put(experiment_item(record), unchanged)
            return
        named = _name_item(record.name, record.experiment_id)
        put, delete = self._table.to_put, self._table.to_delete
        self._table.write_together([put(experiment_item(record), unchanged), put(named, self._table.absent()), delete(name_key(old_name))])

    def set_stage(self, experiment_id: str, stage: str) -> None:
        """Delete or restore an experiment and all its runs. The runs first, so that who was interrupted can do it again.

        Raises:
            MlflowException: `RESOURCE_DOES_NOT_EXIST`, there is none, or it is in that stage already; `INVALID_PARAMETER_VALUE` for what is no number.
        """
        view = ViewType.ACTIVE_ONLY if stage == LifecycleStage.DELETED else ViewType.DELETED_ONLY
        record = self.get(experiment_id, view)
        _parse_experiment_id(experiment_id)  # here no id is not the default one's
        self._mark_runs(record.experiment_id, stage, of=None)

        def mark(record: ExperimentRecord) -> None:
            record.lifecycle_stage, record.last_update_time = stage, get_current_time_millis()

        self.change(experiment_id, view, mark)
        # And those that were made meanwhile.
        self._mark_runs(record.experiment_id, stage, of=LifecycleStage.ACTIVE if stage == LifecycleStage.DELETED else LifecycleStage.DELETED)

    def _mark_runs(self, experiment_id: str, stage: str, of: str | None) -> None:
        now = get_current_time_millis() if stage == LifecycleStage.DELETED else None
        for key in self.run_keys(experiment_id, of):
            self._runs.mark(key, stage, now)

    def run_keys(self, experiment_id: str, stage: str | None = None) -> list[Key]:
        """Where the runs of an experiment are, all or those in one stage."""
        keep = Expression(text="#stage = :stage", names={"#stage": "lifecycle_stage"}, values={":stage": {"S": stage}}) if stage else None
        return [(experiment_id, item[SORT]["S"]) for item in self._table.query(experiment_id, Where(keep=keep, attributes=(SORT,)))]

    def remove(self, experiment_id: str) -> None:
        """Delete a deleted experiment and all that is in it for ever.

        Raises:
            MlflowException: `RESOURCE_DOES_NOT_EXIST`, there is none, or it is not deleted.
        """
        record = self.get(experiment_id, ViewType.DELETED_ONLY)
        for _, run_id in self.run_keys(record.experiment_id):
            self._runs.remove(run_id)
        for model in self._models.of(record.experiment_id):
            self._models.remove(model.model_id)
        for item in list(self._table.query(datasets_partition(record.experiment_id), Where(attributes=(SORT,)))):
            self._table.delete((datasets_partition(record.experiment_id), item[SORT]["S"]))
        delete = self._table.to_delete
        self._table.write_together([delete(experiment_key(record.experiment_id)), delete(name_key(record.name))])


def _name_item(name: str, experiment_id: str) -> Item:
    partition, sort = name_key(name)
    return {PARTITION: {"S": partition}, SORT: {"S": sort}, "experiment": {"S": experiment_id}}


def _in_view(record: ExperimentRecord, view: int) -> ExperimentRecord:
    if record.lifecycle_stage not in LifecycleStage.view_type_to_stages(view):
        raise _not_found(int(record.experiment_id))
    return record


def _not_found(number: int) -> MlflowException:
    return MlflowException(f"No Experiment with id={number} exists", codes.RESOURCE_DOES_NOT_EXIST)


def _already_exists(name: str) -> MlflowException:
    return MlflowException(f"Experiment(name={name}) already exists.", codes.RESOURCE_ALREADY_EXISTS)
