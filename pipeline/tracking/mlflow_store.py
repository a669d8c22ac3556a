"""The one module that knows MLflow. It runs in the worker's process only.

The client's plain calls are used, never `mlflow.start_run` and its global state. A run is ended as soon as it is made, and
filled after that: whatever kills the worker, MLflow shows no run as going on that is not.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from pipeline.tracking import linear_model
from pipeline.tracking.record import Coefficients, ModelRecord, RunRecord, Tag, described

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run

ARTIFACTS = "mlartifacts"
# The module's name where a model is loaded; its own, so that it meets no other.
LOADER = "goldtrace_linear_model"
# Without it, MLflow's page guesses that the experiment is about language models.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_VALUES_A_BATCH = 1000
_BUSY_SECONDS = 1.0


class Delivered(TypedDict):
    """What a run is in MLflow: the ids of its experiment, of its parent run, and of the run of each model."""

    run_id: str
    experiment_id: str
    parent_run_id: str
    runs: dict[str, str]


class ExperimentStore:
    """An MLflow tracking store, by its address. A SQLite file is made when it is not there, with the artefacts beside it."""

    def __init__(self, uri: str) -> None:
        self._database = sqlite_path(uri)
        if self._database:
            # Asked before MLflow is imported, which retries a file that is no database for minutes.
            _ensure(self._database)
        from mlflow import MlflowClient

        self._client = MlflowClient(uri)

    def warm_up(self) -> None:
        """Write a model into nowhere: what MLflow imports and looks up for its first one is then done."""
        nothing: Coefficients = {"format": linear_model.FORMAT, "model": "nothing", "intercept": 0.0, "coefficients": {"x": 0.0}}
        with tempfile.TemporaryDirectory() as folder:
            _save_model(Path(folder), nothing, None, {})

    def deliver(self, record: RunRecord) -> Delivered:
        """Log a run and its models. A run that is there already is brought to the record's state, and not logged twice."""
        experiment = self._experiment(record["experiment"])
        found = self._find(experiment, record["run_id"])
        whole = next((run for run in found if Tag.DELIVERED in run.data.tags), None)
        if whole is None:
            # What a killed worker left half done is done again from the start.
            for run in found:
                self._discard(run)
            return self._log_run(experiment, record)
        if whole.data.tags[Tag.DELIVERED] != record["state"]:
            self._close(whole.info.run_id, record)
        models = {run.data.tags[Tag.MODEL]: run.info.run_id for run in found if Tag.MODEL in run.data.tags}
        return {"run_id": record["run_id"], "experiment_id": experiment, "parent_run_id": whole.info.run_id, "runs": models}

    # ---------------------------------------------------------------------------------------------- finding

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        if known := self._client.get_experiment_by_name(name):
            return str(known.experiment_id)
        artifacts = str(self._database.parent / ARTIFACTS) if self._database else None
        try:
            return str(self._client.create_experiment(name, artifacts, tags=EXPERIMENT_TAGS))
        except MlflowException:
            # Another run may have made it since.
            if known := self._client.get_experiment_by_name(name):
                return str(known.experiment_id)
            raise

    def _find(self, experiment: str, run_id: str) -> list[Run]:
        """The runs that were logged for one pipeline run: at most one parent, and those of its models."""
        return list(self._client.search_runs([experiment], f"tags.`{Tag.RUN_ID}` = '{run_id}'"))

    def _discard(self, run: Run) -> None:
        for output in run.outputs.model_outputs if run.outputs else []:
            self._client.delete_logged_model(output.model_id)
        self._client.delete_run(run.info.run_id)

    # ---------------------------------------------------------------------------------------------- logging

    def _log_run(self, experiment: str, record: RunRecord) -> Delivered:
        parent = self._create(experiment, record, record["name"], record["tags"])
        self._log_values(parent, record["params"], record["metrics"], record["ended_ms"])
        for figure in record["figures"]:
            self._client.log_artifact(parent, figure, "figures")
        place = _Place(experiment=experiment, parent=parent, record=record)
        models = self._log_models(place)
        self._client.set_tag(parent, Tag.DELIVERED.value, record["state"])
        return {"run_id": record["run_id"], "experiment_id": experiment, "parent_run_id": parent, "runs": models}

    def _create(self, experiment: str, record: RunRecord, name: str, tags: dict[str, str]) -> str:
        run = self._client.create_run(experiment, start_time=record["started_ms"], tags=tags, run_name=name)
        self._client.set_terminated(run.info.run_id, record["status"], record["ended_ms"])
        return str(run.info.run_id)

    def _close(self, run_id: str, record: RunRecord) -> None:
        for tag in (Tag.STATE, Tag.DELIVERED):
            self._client.set_tag(run_id, tag.value, record["state"])
        self._client.set_terminated(run_id, record["status"], record["ended_ms"])

    def _log_values(self, run_id: str, params: dict[str, str], metrics: dict[str, float], at_ms: int, model_id: str | None = None) -> None:
        from mlflow.entities import Metric, Param

        points = [Metric(key, value, at_ms, 0, model_id=model_id) for key, value in metrics.items()]
        # The batch's limit is on all that is in it.
        first = _VALUES_A_BATCH - len(params)
        self._client.log_batch(run_id, metrics=points[:first], params=[Param(key, value) for key, value in params.items()])
        for start in range(first, len(points), _VALUES_A_BATCH):
            self._client.log_batch(run_id, metrics=points[start : start + _VALUES_A_BATCH])

    # ---------------------------------------------------------------------------------------------- models

    def _log_models(self, place: _Place) -> dict[str, str]:
        """Log all models and return their runs by name. A server is asked for them side by side, as the time that a run waits for it is short."""
        models = place.record["models"]
        with ThreadPoolExecutor(max_workers=1 if self._database else max(len(models), 1)) as threads:
            return dict(zip([model["name"] for model in models], threads.map(partial(self._log_model, place), models), strict=True))

    def _log_model(self, place: _Place, model: ModelRecord) -> str:
        record = place.record
        tags = {
            **record["tags"],
            "mlflow.parentRunId": place.parent,
            "mlflow.note.content": described(record["tags"], model["description"]),
            Tag.MODEL.value: model["name"],
        }
        run_id = self._create(place.experiment, {**record, "status": "FINISHED" if model["is_fitted"] else "FAILED"}, model["name"], tags)
        coefficients = model["coefficients"]
        loadable = self._log_loadable(place, run_id, model, coefficients) if coefficients else None
        self._log_values(run_id, model["params"], model["metrics"], record["ended_ms"], loadable)
        self._client.log_text(run_id, model["estimates"], "estimates.csv")
        return run_id

    def _log_loadable(self, place: _Place, run_id: str, model: ModelRecord, coefficients: Coefficients) -> str:
        """Store the model that `runs:/<run id>/<name>` and `models:/<model id>` load, and return its id."""
        from mlflow.entities import LoggedModelOutput

        # Plain text, as YAML has no word for an enumeration's member.
        own = {tag.value: place.record["tags"][tag] for tag in (Tag.RUN_ID, Tag.TRACE_ID)}
        entity = self._client.create_logged_model(place.experiment, model["name"], run_id, tags=own, params=model["params"], model_type="linear")
        self._client.log_outputs(run_id, [LoggedModelOutput(entity.model_id, 0)])
        with tempfile.TemporaryDirectory() as folder:
            path = _save_model(Path(folder), coefficients, entity, {"description": model["description"], **own})
            self._client.log_model_artifacts(entity.model_id, str(path))
        self._client.finalize_logged_model(entity.model_id, "READY")
        return str(entity.model_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a model's run goes: the experiment, the parent run, and the record that it is a part of."""

    experiment: str
    parent: str
    record: RunRecord


def _save_model(folder: Path, coefficients: Coefficients, entity: LoggedModel | None, metadata: dict[str, str]) -> Path:
    """Write a model in MLflow's format and return its folder. The requirements are given, since MLflow guesses them slowly."""
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    data, code = folder / "coefficients.json", folder / f"{LOADER}.py"
    data.write_text(json.dumps(coefficients, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(linear_model.__file__, code)
    model = Model(metadata=metadata)
    if entity:
        model.artifact_path, model.model_uuid, model.model_id, model.run_id = entity.artifact_location, entity.model_id, entity.model_id, entity.source_run_id
    inputs = Schema([ColSpec(DataType.double, column) for column in coefficients["coefficients"]])
    mlflow.pyfunc.save_model(
        path=str(folder / "model"),
        mlflow_model=model,
        loader_module=LOADER,
        data_path=str(data),
        code_paths=[str(code)],
        signature=ModelSignature(inputs=inputs, outputs=Schema([ColSpec(DataType.double)])),
        pip_requirements=[f"{package}=={version(package)}" for package in ("mlflow", "pandas")],
    )
    return folder / "model"


# ---------------------------------------------------------------------------------------------- the SQLite file


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite address; None for other stores, and for one in memory."""
    scheme, separator, rest = uri.partition(":///")
    if not separator or scheme.partition("+")[0] != "sqlite" or rest in ("", ":memory:"):
        return None
    return Path(rest.partition("?")[0]).absolute()


def _ensure(database: Path) -> None:
    """Make the file when it is not there; see that it can be written when it is.

    Raises:
        sqlite3.Error: it is not a database, is held by someone for longer than a second, or can't be written.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    with _lock(database):
        if not database.exists():
            _build(database)
    with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")


@contextmanager
def _lock(database: Path) -> Iterator[None]:
    """Only one process at a time makes the file."""
    with database.with_name(f".{database.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(database: Path) -> None:
    """Make MLflow's tables beside the file's place, then move them there: nobody ever sees half of them.

    MLflow gets there by all its migrations, with a thousand waits for the disk, which a file that nobody sees yet can do without.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    new = database.with_name(f".{database.name}.new")
    new.unlink(missing_ok=True)
    event.listen(Engine, "connect", _do_not_wait)
    try:
        SqlAlchemyStore(f"sqlite:///{new}", str(database.parent / ARTIFACTS)).engine.dispose()
    finally:
        event.remove(Engine, "connect", _do_not_wait)
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.replace(database)


def _do_not_wait(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA journal_mode=MEMORY")
