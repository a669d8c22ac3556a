"""MLflow's tracking store on DynamoDB, for experiments, runs and logged models: `dynamodb://<table>?region=…&endpoint=…`.

It answers as MLflow's own SQL store does: same checks, results, orders, error codes and messages. MLflow finds it by the entry
point `mlflow.tracking_store`. What it doesn't do is in `refusals`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlflow.entities import Experiment, ExperimentTag, LifecycleStage, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH, SEARCH_MAX_RESULTS_DEFAULT, SEARCH_MAX_RESULTS_THRESHOLD
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import resolve_uri_if_local
from mlflow.utils.validation import _validate_experiment_artifact_location_length, _validate_experiment_name, _validate_experiment_tag

from pipeline.tracking.dynamodb import experiment_search
from pipeline.tracking.dynamodb.address import parse_address
from pipeline.tracking.dynamodb.items import ExperimentRecord
from pipeline.tracking.dynamodb.model_store import ModelStore
from pipeline.tracking.dynamodb.refusals import refuse_the_rest
from pipeline.tracking.dynamodb.run_store import check_max_results
from pipeline.tracking.dynamodb.schema import open_table


@refuse_the_rest
class DynamoDbStore(ModelStore):
    """Experiments, runs and logged models in a DynamoDB table. `artifact_uri` is where experiments keep artefacts that say nothing else."""

    def __init__(self, store_uri: str, artifact_uri: str | None = None) -> None:
        address = parse_address(store_uri)
        table = open_table(address)
        self.artifact_root_uri = resolve_uri_if_local(artifact_uri or address.artifacts or DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        super().__init__(table, self.artifact_root_uri)
        self._experiments.ensure_default()

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Sequence[ExperimentTag] | None = None) -> str:
        """Make an experiment and return its id."""
        _validate_experiment_name(name)
        if artifact_location:
            artifact_location = resolve_uri_if_local(artifact_location)
            _validate_experiment_artifact_location_length(artifact_location)
        for tag in tags or []:
            _validate_experiment_tag(tag.key, tag.value)
        return self._experiments.create(name, artifact_location, tags or [])

    def get_experiment(self, experiment_id: str) -> Experiment:
        """The experiment with that id, deleted or not."""
        return self._experiments.get(experiment_id).entity()

    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        """The experiment of that name, deleted or not, if there is one."""
        record = self._experiments.find(experiment_name)
        return record.entity() if record else None

    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int | None = SEARCH_MAX_RESULTS_DEFAULT,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList:
        """One page of the experiments that are asked for."""
        check_max_results(max_results, allow_null=False)
        most = max_results or SEARCH_MAX_RESULTS_THRESHOLD
        found = experiment_search.select(self._experiments.all(), view_type, filter_string, order_by)
        offset = SearchUtils.parse_start_offset_from_page_token(page_token)
        token = SearchUtils.create_page_token(offset + most) if len(found) > offset + most else None
        return PagedList([record.entity() for record in found[offset : offset + most]], token)

    def delete_experiment(self, experiment_id: str) -> None:
        """Delete an experiment and its runs; they can be restored."""
        self._experiments.set_stage(experiment_id, LifecycleStage.DELETED)

    def restore_experiment(self, experiment_id: str) -> None:
        """Restore a deleted experiment and all its runs."""
        self._experiments.set_stage(experiment_id, LifecycleStage.ACTIVE)

    def _hard_delete_experiment(self, experiment_id: str) -> None:
        """Delete a deleted experiment for ever (`mlflow gc`)."""
        self._experiments.remove(experiment_id)

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        """Give an experiment another name."""
        _validate_experiment_name(new_name)

        def rename(record: ExperimentRecord) -> None:
            if record.lifecycle_stage != LifecycleStage.ACTIVE:
                raise MlflowException("Cannot rename a non-active experiment.", codes.INVALID_STATE)
            record.name, record.last_update_time = new_name, get_current_time_millis()

        self._experiments.change(experiment_id, ViewType.ALL, rename)

    def set_experiment_tag(self, experiment_id: str, tag: ExperimentTag) -> None:
        """Set a tag of an experiment."""
        _validate_experiment_tag(tag.key, tag.value)

        def set_tag(record: ExperimentRecord) -> None:
            self._check_experiment_is_active(record)
            record.tags[tag.key] = tag.value

        self._experiments.change(experiment_id, ViewType.ALL, set_tag)

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        """Take a tag from an experiment."""

        def delete_tag(record: ExperimentRecord) -> None:
            self._check_experiment_is_active(record)
            if key not in record.tags:
                raise MlflowException(f"No tag with name: {key} in experiment with id {experiment_id}", error_code=codes.RESOURCE_DOES_NOT_EXIST)
            del record.tags[key]

        self._experiments.change(experiment_id, ViewType.ALL, delete_tag)
