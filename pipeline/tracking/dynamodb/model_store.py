"""The part of the store that is about logged models. Checks and messages are those of MLflow's SQL store."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import LifecycleStage, LoggedModel, LoggedModelParameter, LoggedModelStatus, LoggedModelTag
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import _parse_experiment_ids, _validate_logged_model_name

from pipeline.tracking.dynamodb import model_search
from pipeline.tracking.dynamodb.model_items import ModelRecord
from pipeline.tracking.dynamodb.models import not_found
from pipeline.tracking.dynamodb.run_store import RunStore, errors_as_sql


class ModelStore(RunStore):
    """What MLflow asks of logged models."""

    MODELS_FOLDER_NAME = "models"

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: list[LoggedModelTag] | None = None,
        params: list[LoggedModelParameter] | None = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        """Make a model, and return it."""
        _validate_logged_model_name(name)
        experiment = self._experiments.get(experiment_id)
        self._check_experiment_is_active(experiment)
        if not experiment_id:
            raise MlflowException("A model belongs to an experiment", codes.BAD_REQUEST)
        model_id, now = self._new_model_id(), get_current_time_millis()
        record = ModelRecord(
            model_id=model_id,
            experiment_id=experiment.experiment_id,
            name=name or _generate_random_name(),
            artifact_location=append_to_uri_path(experiment.artifact_location, self.MODELS_FOLDER_NAME, model_id, self.ARTIFACTS_FOLDER_NAME),
            creation_timestamp=now,
            last_updated_timestamp=now,
            model_type=model_type,
            source_run_id=source_run_id,
        )
        record.params = _added({}, params or [])
        record.tags = _added({}, tags or [])
        self._models.create(record)
        return record.entity()

    def _new_model_id(self) -> str:
        """An id that no model has. Who compares two stores gives both the same ones."""
        return f"m-{uuid.uuid4().hex}"

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:
        """The model with that id."""
        record = self._models.get(model_id)
        if record.lifecycle_stage == LifecycleStage.DELETED and not allow_deleted:
            raise not_found(model_id)
        return record.entity()

    def log_logged_model_params(self, model_id: str, params: list[LoggedModelParameter]) -> None:
        """Log params of a model that it doesn't have yet."""

        def log(record: ModelRecord) -> None:
            record.params = _added(record.params, params)

        self._models.change(model_id, log)

    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        """Set a model's status."""

        def finalize(record: ModelRecord) -> None:
            with errors_as_sql():
                status.to_int()
            record.status, record.last_updated_timestamp = status, get_current_time_millis()

        return self._models.change(model_id, finalize).entity()

    def set_logged_model_tags(self, model_id: str, tags: list[LoggedModelTag]) -> None:
        """Set tags of a model."""

        def set_tags(record: ModelRecord) -> None:
            latest = {tag.key: tag.value for tag in tags}
            _check_values(latest)
            record.tags.update(latest)

        self._models.change(model_id, set_tags)

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        """Take a tag from a model."""

        def delete(record: ModelRecord) -> None:
            if key not in record.tags:
                raise MlflowException(f"No tag with key {key!r} found for model with ID {model_id!r}.", codes.RESOURCE_DOES_NOT_EXIST)
            del record.tags[key]

        self._models.change(model_id, delete)

    def delete_logged_model(self, model_id: str) -> None:
        """Delete a model; it can still be got, if deleted ones are allowed."""

        def delete(record: ModelRecord) -> None:
            record.lifecycle_stage, record.last_updated_timestamp = LifecycleStage.DELETED, get_current_time_millis()

        self._models.change(model_id, delete)

    def _hard_delete_logged_model(self, model_id: str) -> None:
        """Delete a model for ever (`mlflow gc`)."""
        self._models.remove(model_id)

    def _get_deleted_logged_models(self, older_than: int = 0) -> list[str]:
        """The ids of the models that were deleted that many milliseconds ago (`mlflow gc`)."""
        until = get_current_time_millis() - older_than
        found = (record for experiment in self._experiments.all() for record in self._models.of(experiment.experiment_id))
        return [record.model_id for record in found if record.lifecycle_stage == LifecycleStage.DELETED and record.last_updated_timestamp <= until]

    def search_logged_models(
        self,
        experiment_ids: list[str],
        filter_string: str | None = None,
        datasets: list[dict[str, Any]] | None = None,
        max_results: int | None = None,
        order_by: list[dict[str, Any]] | None = None,
        page_token: str | None = None,
    ) -> PagedList:
        """One page of the models that are asked for."""
        if datasets and not all(dataset.get("dataset_name") for dataset in datasets):
            raise MlflowException("`dataset_name` in the `datasets` clause must be specified.", codes.INVALID_PARAMETER_VALUE)
        offset, after = model_search.read_token(page_token, experiment_ids, filter_string, order_by) if page_token else (0, None)
        with errors_as_sql():
            question = model_search.Question(
                clauses=model_search.parse(filter_string),
                datasets=datasets or [],
                experiment_ids=[str(number) for number in _parse_experiment_ids(experiment_ids)],
                terms=model_search.parse_order(order_by),
                most=max_results or SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT,
                offset=offset,
                after=after,
            )
        if question.most < 0:  # SQL takes it for none at all
            return PagedList([], None)
        records, following = model_search.find(self._models, question)
        token = model_search.token(experiment_ids, filter_string, order_by, following) if following else None
        return PagedList([record.entity() for record in records], token)


def _added(known: Mapping[str, str], entries: Sequence[LoggedModelParameter | LoggedModelTag]) -> dict[str, str]:
    """What is known with the entries that come to it, each of which is new."""
    new = {entry.key: entry.value for entry in entries}
    if len(new) < len(entries) or not known.keys().isdisjoint(new):
        raise MlflowException("The model has one of these already", codes.BAD_REQUEST)
    _check_values(new)
    return {**known, **new}


def _check_values(new: Mapping[str | None, str | None]) -> None:
    if None in new or None in new.values():
        raise MlflowException("A param or tag of a model has a key and a value", codes.BAD_REQUEST)
