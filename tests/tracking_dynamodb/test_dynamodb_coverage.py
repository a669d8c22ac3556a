"""Each method that MLflow asks of a store works, is an empty list, or says that it isn't there; and the documents say which."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed (pip install 'goldtrace[aws]')")

from mlflow.exceptions import MlflowException
from mlflow.store.tracking.abstract_store import AbstractStore

from pipeline.tracking.dynamodb import coverage
from pipeline.tracking.dynamodb.refusals import INHERITED, ONLY_SQL, asked
from pipeline.tracking.dynamodb.store import DynamoDbStore

# MLflow's SQL store and its server use what is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning", "ignore::PendingDeprecationWarning")

ON_EITHER = pytest.mark.parametrize("new_table", ["either"], indirect=True)
ROOT = Path(__file__).resolve().parents[2]
LOCATION = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
# What the pages of an experiment, its runs, traces and models, of the gateway and of the start page ask for.
PAGES: dict[str, dict[str, Any]] = {
    "GET 2.0/mlflow/traces": {"experiment_ids": "0"},
    "POST 2.0/mlflow/experiments/search-datasets": {"experiment_ids": ["0"]},
    "POST 2.0/mlflow/logged-models/search": {"experiment_ids": ["0"]},
    "POST 2.0/mlflow/runs/search": {"experiment_ids": ["0"]},
    "POST 3.0/mlflow/traces/search": {"locations": [LOCATION]},
    "POST 3.0/mlflow/traces/metrics": {"experiment_ids": ["0"], "view_type": 1, "metric_name": "latency", "aggregations": [{"aggregation_type": 1}]},
    "POST 3.0/mlflow/traces/batchGetInfos": {"trace_ids": ["tr-1"]},
    "POST 3.0/mlflow/datasets/search": {"experiment_ids": ["0"]},
    "POST 3.0/mlflow/issues/search": {"experiment_id": "0"},
    "GET 3.0/mlflow/scorers/list": {"experiment_id": "0"},
    "GET 3.0/mlflow/label-schemas/list": {"experiment_id": "0"},
    "GET 3.0/mlflow/review-queues/list": {"experiment_id": "0"},
    "GET 3.0/mlflow/gateway/endpoints/list": {},
    "GET 3.0/mlflow/gateway/endpoints/bindings/list": {},
    "GET 3.0/mlflow/gateway/model-definitions/list": {},
    "GET 3.0/mlflow/gateway/secrets/list": {},
    "GET 3.0/mlflow/gateway/budgets/list": {},
    "GET 3.0/mlflow/gateway/guardrails/list": {},
}


def answer(store: Any, name: str) -> Any:
    """How a method that the store doesn't have itself answers."""
    try:
        returned = getattr(store, name)()
    except MlflowException as error:
        return coverage.State.NOT_IMPLEMENTED if error.error_code == "NOT_IMPLEMENTED" and name in error.message else error
    return coverage.State.EMPTY if returned in ([], ([], None)) else returned


def test_the_methods_are_those_of_mlflows_stores() -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    def public(store: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(store, inspect.isfunction) if not name.startswith("_")}

    assert set(asked()) == public(AbstractStore) | public(SqlAlchemyStore)
    assert set(ONLY_SQL) == public(SqlAlchemyStore) - public(AbstractStore)
    assert set(INHERITED) <= public(AbstractStore)


@ON_EITHER
def test_each_method_is_in_the_table_once_and_answers_as_it_says(store: Any) -> None:
    listed = {name: row.state for row in coverage.rows() for name in row.methods}
    assert sorted(name for row in coverage.rows() for name in row.methods) == asked()
    others = {name for name, state in listed.items() if state is not coverage.State.WORKS}
    assert {name: answer(store, name) for name in others} == {name: listed[name] for name in others}
    abstract = {name for name in listed if "NotImplementedError" in inspect.getsource(getattr(DynamoDbStore, name))}
    assert abstract == set()


def test_all_of_experiments_runs_metrics_and_models_works() -> None:
    areas = {"Experiments", "Runs, params, tags, inputs", "Metrics", "Logged models"}
    assert {row.area for row in coverage.rows() if row.state is coverage.State.WORKS} == areas
    assert {row.state for row in coverage.rows() if row.area in areas} == {coverage.State.WORKS}


def test_the_documents_show_the_table() -> None:
    document = (ROOT / "docs" / "mlflow.md").read_text()
    assert coverage.shown(document) == document, "make docs"


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="what works: begin"):
        coverage.shown("no marks")


@pytest.fixture
def pages(store: Any) -> Iterator[Any]:
    """MLflow's server on the store."""
    from mlflow.server import app, handlers

    before, handlers._tracking_store = handlers._tracking_store, store
    try:
        yield app.test_client()
    finally:
        handlers._tracking_store = before


@ON_EITHER
def test_what_mlflows_pages_ask_for_is_empty_and_no_error(pages: Any) -> None:
    for page, said in PAGES.items():
        method, path = page.split()
        path = f"/ajax-api/{path}"
        response = pages.get(path, query_string=said) if method == "GET" else pages.post(path, json=said)
        told = json.loads(response.get_data(as_text=True) or "{}")
        assert (page, response.status_code, any(told.values())) == (page, 200, False), told


@ON_EITHER
def test_linking_a_registered_version_tags_its_model(store: Any) -> None:
    model_id = store.create_logged_model("0").model_id
    store.set_model_versions_tags("registered", "1", model_id)
    assert json.loads(store.get_logged_model(model_id).tags["mlflow.modelVersions"]) == [{"name": "registered", "version": "1"}]
