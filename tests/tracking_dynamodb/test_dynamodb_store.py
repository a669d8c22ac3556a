"""What the comparison with the SQL store can't see: which operations are made, what happens at once, what is too large."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed (pip install 'goldtrace[aws]')")

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from pipeline.tracking.dynamodb.address import parse_address
from pipeline.tracking.dynamodb.client import Table
from pipeline.tracking.dynamodb.store import DynamoDbStore
from pipeline.tracking.dynamodb.values import room
from tests.tracking_dynamodb.two_stores import AT_ONCE


def count(store: Any) -> Counter[str]:
    """The operations that are made from now on, by kind; and how many items came back under `items`."""
    made: Counter[str] = Counter()
    events = store._table.client.meta.events
    events.register("before-call.dynamodb.*", lambda model, **kwargs: made.update([model.name]))
    events.register("after-call.dynamodb.Query", lambda parsed, **kwargs: made.update({"evaluated": parsed.get("ScannedCount", 0)}))
    return made


def test_logging_a_batch_reads_the_run_and_writes_it_with_its_metrics_in_one_transaction(store: Any, run_id: str) -> None:
    made = count(store)
    store.log_batch(run_id, [Metric(f"m{place}", place, 1, 0) for place in range(998)], [Param("p", "1")], [RunTag("t", "1")])
    assert made == {"GetItem": 1, "TransactWriteItems": 1}


def test_a_page_in_the_default_order_reads_one_run_more_than_it_has(store: Any, experiment: str) -> None:
    for start in range(30):
        store.create_run(experiment, "user", start, [], "a run")
    made = count(store)
    page = store.search_runs([experiment], "", ViewType.ALL, max_results=5)
    assert [run.info.start_time for run in page] == [29, 28, 27, 26, 25]
    assert made == {"Query": 1, "evaluated": 6}
    made.clear()
    page = store.search_runs([experiment], "", ViewType.ALL, max_results=5, page_token=page.token)
    assert [run.info.start_time for run in page] == [24, 23, 22, 21, 20]
    assert made == {"Query": 1, "evaluated": 6}


def test_nothing_is_ever_scanned(store: Any, experiment: str, run_id: str) -> None:
    made = count(store)
    store.search_runs([experiment], "metrics.a > 1 AND params.b = 'x'", ViewType.ALL, order_by=["metrics.a"])
    store.search_experiments()
    store.get_metric_history(run_id, "a")
    store.delete_experiment(experiment)
    store.restore_experiment(experiment)
    store._get_deleted_runs()
    store._search_datasets([experiment])
    store.delete_experiment(experiment)
    store._hard_delete_experiment(experiment)
    assert "Scan" not in made
    assert made["Query"] >= 7


def test_what_a_filter_excludes_does_not_come_back_over_the_wire(store: Any, experiment: str) -> None:
    for place in range(10):
        run_id = store.create_run(experiment, "user", place, [], "a run").info.run_id
        store.log_metric(run_id, Metric("m", place, 1, 0))
    returned: list[int] = []
    store._table.client.meta.events.register("after-call.dynamodb.Query", lambda parsed, **kwargs: returned.append(parsed["Count"]))
    assert len(store.search_runs([experiment], "metrics.m >= 8", ViewType.ALL)) == 2
    assert returned == [2]


@AT_ONCE
def test_writers_at_once_lose_no_update(store: Any, run_id: str) -> None:
    def log(writer: int) -> None:
        for place in range(5):
            store.log_batch(run_id, [Metric("shared", writer, place, place)], [Param(f"p{writer}.{place}", "1")], [RunTag(f"t{writer}.{place}", "1")])

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(log, range(6)))
    data = store.get_run(run_id).data
    assert len(data.params) == 30
    assert len(data.tags) == 31
    assert len(store.get_metric_history(run_id, "shared")) == 30
    assert data.metrics["shared"] == 5


@AT_ONCE
def test_of_experiments_made_at_once_with_one_name_one_is_made(store: Any) -> None:
    def create(_: int) -> str:
        try:
            return str(store.create_experiment("the one"))
        except MlflowException as error:
            return str(error.error_code)

    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(create, range(6)))
    assert made.count("RESOURCE_ALREADY_EXISTS") == 5
    assert {record.name for record in store.search_experiments()} == {"Default", "the one"}


def test_a_run_that_was_deleted_is_deleted_anew_with_its_experiment(store: Any, experiment: str, run_id: str) -> None:
    """As on SQL: `mlflow gc --older-than` counts from there."""
    store.delete_run(run_id)
    before = int(store._table.get((experiment, run_id))["deleted_time"]["N"])
    time.sleep(0.005)
    store.delete_experiment(experiment)
    assert int(store._table.get((experiment, run_id))["deleted_time"]["N"]) > before


def test_a_batch_with_a_changed_param_leaves_nothing_behind(store: Any, run_id: str) -> None:
    store.log_param(run_id, Param("p", "old"))
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        store.log_batch(run_id, [Metric("m", 1, 1, 0)], [Param("p", "new"), Param("q", "1")], [RunTag("t", "1")])
    data = store.get_run(run_id).data
    assert (data.metrics, data.params, store.get_metric_history(run_id, "m")) == ({}, {"p": "old"}, [])


def test_a_run_beyond_an_items_size_is_whole_and_found(store: Any, experiment: str, run_id: str) -> None:
    expected = {f"p{place}": f"{place:04d}" * 1400 for place in range(150)}
    params = [Param(key, value) for key, value in expected.items()]
    store.log_batch(run_id, [], params[:75], [])
    store.log_batch(run_id, [Metric("m", 2, 1, 0)], params[75:], [RunTag("t", "x")])
    assert store.get_run(run_id).data.params == expected
    # With its entry in the index: AWS takes 400 KB for both.
    assert 2 * sum(len(name) + room(value) for name, value in store._table.get((experiment, run_id)).items()) < 400_000
    (found,) = store.search_runs([experiment], f"params.p149 = '{expected['p149']}' AND tags.t = 'x' AND metrics.m > 1", ViewType.ALL)
    assert found.data.params == expected
    assert len(store.search_runs([experiment], "params.p149 = 'other'", ViewType.ALL)) == 0
    store.delete_run(run_id)
    assert store.get_run(run_id).data.params == expected


def test_parts_that_were_replaced_are_gone(store: Any, run_id: str) -> None:
    params = [Param(f"p{place}", "x" * 6000) for place in range(80)]
    store.log_batch(run_id, [], params, [])
    for place in range(3):
        store.set_tag(run_id, RunTag("t", str(place)))
    parts = [item for item in store._table.query(f"run#{run_id}") if item["run_uuid"]["S"].startswith("part#")]
    assert len(parts) == int(store._table.get(store._runs.key(run_id))["parts"]["M"]["pieces"]["N"])


def test_long_names_of_many_metrics_fit(store: Any, run_id: str) -> None:
    metrics = [Metric(f"{place:04d}" + "é" * 240, float(place), 1, 0) for place in range(1000)]
    store.log_batch(run_id, metrics, [], [])
    assert store.get_run(run_id).data.metrics == {metric.key: metric.value for metric in metrics}
    assert [found.value for found in store.get_metric_history(run_id, metrics[7].key)] == [7.0]


def test_a_large_data_set_is_read_back_whole(store: Any, run_id: str) -> None:
    import random

    profile = "".join(random.Random(1).choices("0123456789abcdef", k=1_500_000))
    dataset = Dataset("d", "1", "local", "here", schema="s", profile=profile)
    store.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    (read,) = store.get_run(run_id).inputs.dataset_inputs
    assert read.dataset.profile == profile


def test_a_run_deleted_for_ever_leaves_no_item(store: Any, experiment: str, run_id: str) -> None:
    store.log_batch(run_id, [Metric("m", 1, 1, 0)], [], [])
    store._hard_delete_run(run_id)
    assert list(store._table.query(experiment)) == []
    assert list(store._table.query(f"run#{run_id}")) == []
    with pytest.raises(MlflowException, match="not found"):
        store.get_run(run_id)


def test_people_can_read_a_runs_item(store: Any, experiment: str, run_id: str) -> None:
    store.log_batch(run_id, [Metric("m", 1.5, 1, 0), Metric("n", float("nan"), 1, 0)], [Param("p", "1")], [])
    item = store._table.get((experiment, run_id))
    assert item["metrics"] == {"M": {"m": {"N": "1.5"}, "n": {"S": "NaN"}}}
    assert item["params"] == {"M": {"p": {"S": "1"}}}
    assert (item["run_name"], item["status"], item["start_time"]) == ({"S": "a run"}, {"S": "RUNNING"}, {"N": "1"})


def test_another_process_finds_what_one_wrote(new_table: Callable[[], str]) -> None:
    uri = new_table()
    one, other = DynamoDbStore(uri, "/artifacts"), DynamoDbStore(uri, "/artifacts")
    run_id = one.create_run("0", "user", 1, [], None).info.run_id
    other.log_metric(run_id, Metric("m", 1, 1, 0))
    assert one.get_run(run_id).data.metrics == {"m": 1}


def test_a_table_that_is_not_there_is_named(new_table: Callable[[], str]) -> None:
    uri = new_table().replace("goldtrace-", "missing-")
    with pytest.raises(MlflowException, match=r"no DynamoDB table 'missing-") as raised:
        DynamoDbStore(uri, "/artifacts")
    assert raised.value.error_code == "INVALID_STATE"


@pytest.mark.parametrize("uri", ["dynamodb://t?region=x&unknown=1", "sqlite:///x.db", "dynamodb://a b", "dynamodb://table/more"])
def test_an_address_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(MlflowException, match="is not the address of a table"):
        parse_address(uri)


def test_an_address_without_a_table_is_the_default_table() -> None:
    assert parse_address("dynamodb://?region=eu-west-1").table == "cdp-dev-mlflow-backend"


@pytest.mark.parametrize(("asked", "region"), [("?region=eu-west-1", "eu-west-1"), ("", "eu-north-1")])
def test_the_region_is_the_addresss_and_else_the_environments(monkeypatch: pytest.MonkeyPatch, asked: str, region: str) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert Table(parse_address(f"dynamodb://some-table{asked}"), partition="p", sort="s").client.meta.region_name == region


def test_without_boto3_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MlflowException, match=r"goldtrace\[aws\]"):
        Table(parse_address("dynamodb://some-table?region=eu-west-1"), partition="p", sort="s")
