"""What drawn sequences meet seldom, in order: both stores give the same answers to these calls too."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed (pip install 'goldtrace[aws]')")

from mlflow.entities import Dataset, DatasetInput, ExperimentTag, InputTag, LoggedModelParameter, LoggedModelTag, Metric, Param, RunTag

# MLflow's SQL store uses what SQLAlchemy deprecates.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:New instance .* with identity key"),
    pytest.mark.parametrize("new_table", ["either"], indirect=True),
]

NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture
def stores(make: Callable[[], Any]) -> Iterator[Any]:
    made = make()
    yield made
    made.sql._dispose_engine()


@pytest.fixture
def run_id(stores: Any) -> str:
    return str(stores.both("create_run", "0", "user", 1, [], "a run").info.run_id)


def log(stores: Any, run_id: str, *metrics: tuple[Any, ...], **about: Any) -> None:
    stores.both("log_batch", run_id, [Metric(*metric, **about) for metric in metrics], [], [])


def search(stores: Any, most: int | None = None, order_by: Any = None, wanted: str | None = None, datasets: Any = None) -> None:
    stores.pages("search_logged_models", most, experiment_ids=["0"], filter_string=wanted, datasets=datasets, order_by=order_by)


@pytest.mark.parametrize("points", [0, 1, 5, 11])
def test_histories_are_sampled_alike(stores: Any, run_id: str, points: int) -> None:
    log(stores, run_id, *[("m", place * place, place % 3, place // 2) for place in range(points)])
    for most in (0, 1, 2, 3, 4, 6, 10, 11, 12):
        stores.both("get_metric_history_bulk_interval", [run_id], "m", most, None, None)
        stores.both("get_metric_history_bulk_interval", [run_id, run_id], "m", most, 1, 4)
        stores.both("get_metric_history_bulk_interval_from_steps", run_id, "m", [0, 2, 5], most)
        stores.both("get_metric_history_bulk", [run_id, "f" * 32], "m", most)
        stores.both("get_metric_history", run_id, "m", max_results=most)
    stores.both("get_metric_history_bulk_interval", [run_id], "m", 3, 1, None)


def test_pages_end_alike(stores: Any) -> None:
    for place in range(6):
        run_id = stores.both("create_run", "0", "user", place // 3, [], "a run").info.run_id
        log(stores, run_id, ("m", place % 2, 1, 0))
        stores.both("create_experiment", f"experiment {place}")
        time.sleep(0.002)
    for most in (1, 3, 6):
        for order in (None, ["start_time DESC"], ["metrics.m"], ["start_time"]):
            stores.pages("search_runs", most, experiment_ids=["0"], filter_string=None, run_view_type=3, order_by=order)
        stores.pages("search_experiments", most, view_type=3)


def test_pages_of_histories_end_alike(stores: Any, run_id: str) -> None:
    log(stores, run_id, *[("m", place, place, 0) for place in range(6)])
    for most in (1, 2, 3, 5, 6, 7):
        stores.pages("get_metric_history", most, run_id=run_id, metric_key="m")
    stores.both("get_metric_history", run_id, "m", page_token="none")


def test_an_experiments_runs_go_and_come_back_with_it(stores: Any) -> None:
    experiment = stores.both("create_experiment", "an experiment")
    runs = [stores.both("create_run", experiment, "user", 1, [], "a run").info.run_id for _ in range(3)]
    stores.both("delete_run", runs[0])
    for what in ("delete_experiment", "delete_experiment", "restore_experiment", "restore_experiment"):
        stores.both(what, experiment)
        stores.both("_get_deleted_runs", plain=sorted)
        stores.both("_get_deleted_runs", older_than=60_000, plain=sorted)
        for run_id in runs:
            stores.both("get_run", run_id)
        stores.both("log_metric", runs[1], Metric("m", 1, 1, 0))
        stores.both("create_logged_model", experiment, name="a model")


def test_a_data_set_that_is_known_stays_as_it_was(stores: Any, run_id: str) -> None:
    other = stores.both("create_run", "0", "user", 1, [], "another").info.run_id
    for run, source, tag in ((run_id, "here", "a"), (run_id, "there", "b"), (other, "elsewhere", "c")):
        stores.both("log_inputs", run, [DatasetInput(Dataset("d", "1", "local", source), [InputTag("mlflow.data.context", tag)])])
    for run in (run_id, other):
        stores.both("get_run", run)
    stores.both("_search_datasets", ["0"], plain=lambda found: sorted(str(entry.to_dict()) for entry in found))


BAD_PARAMS = [Param("p", None), Param(None, "v"), Param("", "v"), Param("p", 1), Param("p", "x" * 6001), Param("p/../q", "v")]


def test_params_that_are_none_are_refused_alike(stores: Any, run_id: str) -> None:
    for entry in BAD_PARAMS:
        stores.both("log_param", run_id, entry)
        stores.both("log_batch", run_id, [], [entry], [])
        stores.both("get_run", run_id)


BAD_TAGS = [("t", None), (None, "v"), ("", "v"), ("t", "x" * 8001), ("t" * 251, "v")]


def test_tags_that_are_none_are_refused_alike(stores: Any, run_id: str) -> None:
    for entry in BAD_TAGS:
        stores.both("set_tag", run_id, RunTag(*entry))
        stores.both("log_batch", run_id, [], [], [RunTag(*entry)])
        stores.both("set_experiment_tag", "0", ExperimentTag(*entry))
        stores.both("create_experiment", "one", None, [ExperimentTag(*entry)])
        if entry[0] is not None:
            stores.both("create_run", "0", "user", 1, [RunTag(*entry)], "a run")
            stores.both("create_logged_model", "0", name="a model", tags=[LoggedModelTag(*entry)], params=[LoggedModelParameter(*entry)])
        stores.pages("search_runs", 5, experiment_ids=["0"], filter_string="tags.t = 'v'", run_view_type=3, order_by=None)
        search(stores, 5, wanted="tags.t = 'v'")
        stores.both("get_run", run_id)
        stores.both("get_experiment", "0")


BAD_METRICS = [(None, 1, 1, 0), ("m", None, 1, 0), ("m", "1", 1, 0), ("m", 1, None, 0), ("m", 1, 1, None), ("m", 1, -1, 0), ("m", 1, 1.5, 0)]


def test_metrics_that_are_none_are_refused_alike(stores: Any, run_id: str) -> None:
    for entry in BAD_METRICS:
        stores.both("log_metric", run_id, Metric(*entry))
        stores.both("log_batch", run_id, [Metric("good", 1, 1, 0), Metric(*entry)], [], [])
        stores.both("get_run", run_id)


BAD_RUNS = [None, "", "x" * 2000, "no run", "f" * 32]


def test_runs_that_are_none_are_refused_alike(stores: Any) -> None:
    for run in BAD_RUNS:
        for what in ("get_run", "delete_run", "restore_run"):
            stores.both(what, run)
        stores.both("log_batch", run, [], [], [])
        stores.both("log_inputs", run, [])
        stores.both("get_metric_history", run, "m")


BAD_EXPERIMENTS = [None, "", "no number", "77", "-1", 0, "1.5"]


def test_experiments_that_are_none_are_refused_alike(stores: Any) -> None:
    for experiment in BAD_EXPERIMENTS:
        for what in ("get_experiment", "delete_experiment"):
            stores.both(what, experiment)
        if experiment:
            stores.both("create_run", experiment, "user", 1, [], "a run")
        stores.both("create_logged_model", experiment, name="a model")
        stores.pages("search_runs", 5, experiment_ids=[experiment], filter_string=None, run_view_type=3, order_by=None)


BAD_MODELS = [None, "", "x" * 2000, "m-1"]


def test_models_that_are_none_are_refused_alike(stores: Any, run_id: str) -> None:
    for model in BAD_MODELS:
        for what in ("get_logged_model", "delete_logged_model"):
            stores.both(what, model)
        stores.both("_hard_delete_logged_model", model or "")
        stores.both("set_logged_model_tags", model, [LoggedModelTag("t", "v")])
        stores.both("log_logged_model_params", model, [LoggedModelParameter("p", "v")])
        stores.both("log_metric", run_id, Metric("m", 1, 1, 0, model_id=model))
        stores.both("log_metric", "f" * 32, Metric("m", None, 1, 0, model_id=model))


def test_a_models_metric_is_logged_once_for_a_step_and_time(stores: Any, run_id: str) -> None:
    model = stores.both("create_logged_model", "0", name="a model").model_id
    for metric in (("m", 1, 5, 0), ("m", 1, 5, 0), ("m", 2, 5, 0), ("m", NAN, 4, 0), ("m", 0, 4, 0), ("m", INFINITY, 5, -1), ("m", 3, 4, 1)):
        stores.both("log_metric", run_id, Metric(*metric, model_id=model))
        stores.both("get_logged_model", model)
    stores.both("log_metric", run_id, Metric("m", 1, 5, 0, model_id=model, dataset_name="d", dataset_digest="1"))
    stores.both("get_logged_model", model)


def test_models_are_ordered_by_a_metrics_latest_value(stores: Any, run_id: str) -> None:
    other = stores.both("create_run", "0", "user", 1, [], "another").info.run_id
    for name in ("one", "two", "three", "four"):
        stores.both("create_logged_model", "0", name=name)
        time.sleep(0.002)
    models = [model.model_id for model in stores.sql.search_logged_models(["0"], order_by=[{"field_name": "name"}])]
    log(stores, run_id, ("m", 1, 1, 0), ("m", 9, 1, 1), ("m", 5, 2, 0), model_id=models[0])
    log(stores, run_id, ("m", 3, 2, 0), model_id=models[1], dataset_name="d", dataset_digest="1")
    log(stores, run_id, ("m", 7, 3, 3), ("k", NAN, 1, 0), model_id=models[1], dataset_name="e", dataset_digest="1")
    # The same time and step by two runs: the value of the one with the smaller id counts.
    log(stores, run_id, ("m", 4, 3, 1), model_id=models[2])
    log(stores, other, ("m", 6, 3, 1), model_id=models[2])
    for most in (1, 3, 4):
        for ascending in (True, False):
            for dataset in ({}, {"dataset_name": "d"}, {"dataset_digest": "1"}, {"dataset_name": "d", "dataset_digest": "2"}):
                search(stores, most, [{"field_name": "metrics.m", "ascending": ascending, **dataset}])
        search(stores, most)
        search(stores, most, [{"field_name": "creation_time", "ascending": False}])
        search(stores, most, [{"field_name": "name", "ascending": False}], wanted="metrics.m > 4")
    for datasets in ([{"dataset_name": "d"}], [{"dataset_name": "d", "dataset_digest": "2"}], [{"dataset_name": "d"}, {"dataset_name": "e"}]):
        for wanted in (None, "metrics.m > 4", "metrics.k = 0"):
            search(stores, 2, wanted=wanted, datasets=datasets)


def test_a_token_of_another_search_is_refused_alike(stores: Any) -> None:
    for name in ("one", "two"):
        stores.both("create_logged_model", "0", name=name)
    tokens = [store.search_logged_models(["0"], max_results=1).token for store in (stores.sql, stores.ours)]
    same: dict[str, Any] = {"experiment_ids": ["0"]}
    for other in ({"experiment_ids": ["1"]}, {**same, "filter_string": "name = 'one'"}, {**same, "order_by": [{"field_name": "name"}]}):
        stores.each("search_logged_models", [{**other, "page_token": token} for token in tokens])
    # Nobody's token says a place in our index: it is read as it is.
    stores.both("search_logged_models", ["0"], max_results=1, page_token=tokens[0])
