"""What the comparison with the SQL store can't see of logged models: what happens at once, what is too large, what is left behind."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed (pip install 'goldtrace[aws]')")

from mlflow.entities import LoggedModelParameter, LoggedModelStatus, LoggedModelTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from pipeline.tracking.dynamodb.values import room
from tests.tracking_dynamodb.two_stores import AT_ONCE


@pytest.fixture
def model_id(store: Any, experiment: str) -> str:
    return str(store.create_logged_model(experiment, name="a model").model_id)


def operations(store: Any) -> Counter[str]:
    """The operations that are made from now on, by kind."""
    made: Counter[str] = Counter()
    store._table.client.meta.events.register("before-call.dynamodb.*", lambda model, **kwargs: made.update([model.name]))
    return made


def items(store: Any) -> list[tuple[str, str]]:
    """The keys of all that is in the table but for the default experiment and the counter."""
    found = store._table.client.scan(TableName=store._table.address.table)["Items"]
    keys = [(item["experiment_id"]["S"], item["run_uuid"]["S"]) for item in found]
    return sorted(key for key in keys if key[0] not in ("counter", "experiment-name#Default") and key != ("experiments", "0" * 19))


@AT_ONCE
def test_writers_of_one_model_at_once_lose_no_update(store: Any, model_id: str) -> None:
    def write(writer: int) -> None:
        for place in range(4):
            store.set_logged_model_tags(model_id, [LoggedModelTag(f"t{writer}.{place}", "1")])
            store.log_logged_model_params(model_id, [LoggedModelParameter(f"p{writer}.{place}", "1")])
        store.finalize_logged_model(model_id, LoggedModelStatus.READY)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    model = store.get_logged_model(model_id)
    assert (len(model.tags), len(model.params), model.status) == (16, 16, LoggedModelStatus.READY)


@AT_ONCE
def test_runs_that_measure_one_model_at_once_lose_no_metric(store: Any, experiment: str, model_id: str) -> None:
    runs = [store.create_run(experiment, "user", 1, [], "a run").info.run_id for _ in range(2)] * 2

    def measure(writer: int) -> None:
        for step in range(4):
            store.log_metric(runs[writer], Metric("m", step, writer, step, model_id=model_id))
            store.set_logged_model_tags(model_id, [LoggedModelTag(f"t{writer}.{step}", "1")])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(measure, range(4)))
    model = store.get_logged_model(model_id)
    assert (len(model.metrics), len(model.tags)) == (16, 16)
    assert len(store.get_metric_history(runs[0], "m")) == 8


@AT_ONCE
def test_of_two_values_at_once_for_one_step_and_time_one_is_taken(store: Any, run_id: str, model_id: str) -> None:
    def log(value: int) -> str:
        try:
            store.log_metric(run_id, Metric("m", value, 1, 0, model_id=model_id))
        except MlflowException as error:
            return str(error.error_code)
        return "taken"

    with ThreadPoolExecutor(4) as threads:
        answers = Counter(threads.map(log, range(4)))
    assert answers == {"taken": 1, "BAD_REQUEST": 3}
    (metric,) = store.get_logged_model(model_id).metrics
    assert [point.value for point in store.get_metric_history(run_id, "m")] == [metric.value]


def test_a_batch_about_a_model_that_is_not_there_leaves_nothing_behind(store: Any, run_id: str, model_id: str) -> None:
    """The SQL store leaves the params and the run's metrics."""
    with pytest.raises(MlflowException, match="no logged model with the ID 'm-none'") as raised:
        store.log_batch(run_id, [Metric("m", 1, 1, 0, model_id=model_id), Metric("m", 1, 1, 0, model_id="m-none")], [Param("p", "1")], [])
    assert raised.value.error_code == "BAD_REQUEST"
    data = store.get_run(run_id).data
    assert (data.metrics, data.params, store.get_logged_model(model_id).metrics) == ({}, {}, None)


def test_a_batch_and_what_it_says_of_models_is_one_transaction(store: Any, run_id: str, model_id: str) -> None:
    metrics = [Metric(f"m{place}", place, 1, 0, model_id=model_id) for place in range(1000)]
    made = operations(store)
    store.log_batch(run_id, metrics, [], [])
    assert made == {"GetItem": 1, "BatchGetItem": 1, "TransactWriteItems": 1}
    assert len(store.get_logged_model(model_id).metrics) == 1000
    # The same once more changes nothing; MLflow's SQL store refuses it, from 100 metrics on.
    store.log_batch(run_id, metrics, [], [])
    assert len(store.get_logged_model(model_id).metrics) == 1000


@pytest.mark.slow
def test_a_batch_about_more_models_than_a_transaction_takes_is_there_once(store: Any, experiment: str, run_id: str) -> None:
    models = [store.create_logged_model(experiment).model_id for _ in range(41)]
    seen: list[object] = []

    def get_in_between(**kwargs: Any) -> None:
        """Another writer changes the run after the first of the transactions, so that the last one has to be tried again."""
        seen.append(kwargs)
        if len(seen) == 1:
            store.set_tag(run_id, RunTag("t", "1"))

    store._table.client.meta.events.register("after-call.dynamodb.TransactWriteItems", get_in_between)
    store.log_batch(run_id, [Metric("m", place, 1, place, model_id=model_id) for place, model_id in enumerate(models)], [], [])
    assert len(seen) == 3
    assert [[metric.value for metric in store.get_logged_model(model_id).metrics] for model_id in models] == [[place] for place in range(41)]
    assert len(store.get_metric_history(run_id, "m")) == 41


def test_a_model_beyond_an_items_size_is_whole_and_found(store: Any, experiment: str, model_id: str) -> None:
    expected = {f"p{place}": f"{place:04d}" * 5000 for place in range(40)}
    store.log_logged_model_params(model_id, [LoggedModelParameter(key, value) for key, value in expected.items()])
    store.set_logged_model_tags(model_id, [LoggedModelTag("t", "x")])
    assert store.get_logged_model(model_id).params == expected
    item = store._table.get((f"models#{experiment}", model_id))
    assert 2 * sum(len(name) + room(value) for name, value in item.items()) < 400_000
    for order in (None, [{"field_name": "name"}]):
        (found,) = store.search_logged_models([experiment], f"params.p39 = '{expected['p39']}' AND tags.t = 'x'", order_by=order)
        assert found.params == expected
    assert len([key for key in items(store) if "#part#" in key[1]]) == int(item["parts"]["M"]["pieces"]["N"])


def test_the_metrics_of_a_run_deleted_for_ever_go_from_its_models(store: Any, experiment: str, run_id: str, model_id: str) -> None:
    other = store.create_run(experiment, "user", 1, [], "another").info.run_id
    for run, value in ((run_id, 1), (other, 2)):
        store.log_metric(run, Metric("m", value, 1, 0, model_id=model_id))
    store._hard_delete_run(run_id)
    assert [metric.value for metric in store.get_logged_model(model_id).metrics] == [2]


def test_an_experiment_deleted_for_ever_leaves_no_item(store: Any, experiment: str, run_id: str, model_id: str) -> None:
    from mlflow.entities import Dataset, DatasetInput

    store.log_inputs(run_id, [DatasetInput(Dataset("d", "1", "local", "here"), [])])
    store.log_metric(run_id, Metric("m", 1, 1, 0, model_id=model_id))
    store.set_logged_model_tags(model_id, [LoggedModelTag(f"t{place}", "x" * 50_000) for place in range(5)])
    store.delete_experiment(experiment)
    store._hard_delete_experiment(experiment)
    assert items(store) == []


def test_a_model_deleted_for_ever_leaves_no_item(store: Any, experiment: str, run_id: str, model_id: str) -> None:
    before = items(store)
    other = store.create_logged_model(experiment).model_id
    store.delete_logged_model(other)
    assert store._get_deleted_logged_models() == [other]
    store._hard_delete_logged_model(other)
    assert items(store) == before
    with pytest.raises(MlflowException, match="not found"):
        store.get_logged_model(other, allow_deleted=True)


def test_a_page_in_the_default_order_reads_no_more_than_it_has(store: Any, experiment: str) -> None:
    for place in range(12):
        store.create_logged_model(experiment, name=f"model {place}")
    made = operations(store)
    evaluated: list[int] = []
    store._table.client.meta.events.register("after-call.dynamodb.Query", lambda parsed, **kwargs: evaluated.append(parsed["ScannedCount"]))
    page = store.search_logged_models([experiment], max_results=4)
    page = store.search_logged_models([experiment], max_results=4, page_token=page.token)
    assert len(page) == 4
    assert (made, evaluated) == ({"Query": 2}, [5, 5])


def test_fewer_than_no_models_are_none(store: Any, experiment: str, model_id: str) -> None:
    assert store.search_logged_models([experiment], max_results=-1) == []


def test_nothing_is_scanned(store: Any, experiment: str, run_id: str, model_id: str) -> None:
    made = operations(store)
    store.log_metric(run_id, Metric("m", 1, 1, 0, model_id=model_id))
    store.search_logged_models([experiment], "metrics.m = 1 AND name LIKE 'a%'", order_by=[{"field_name": "metrics.m"}])
    store.search_logged_models([experiment])
    store._get_deleted_logged_models()
    store.delete_logged_model(model_id)
    store._hard_delete_logged_model(model_id)
    assert "Scan" not in made


def test_people_can_read_a_models_item(store: Any, experiment: str, model_id: str) -> None:
    store.log_logged_model_params(model_id, [LoggedModelParameter("p", "1")])
    store.finalize_logged_model(model_id, LoggedModelStatus.READY)
    item = store._table.get((f"models#{experiment}", model_id))
    assert (item["name"], item["status"], item["params"]) == ({"S": "a model"}, {"S": "READY"}, {"M": {"p": {"S": "1"}}})
