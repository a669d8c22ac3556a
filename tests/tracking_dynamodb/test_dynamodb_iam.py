"""The policies that the documents give: all that is called is in them, and nothing else is."""

import inspect
import json
import random
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed (pip install 'goldtrace[aws]')")

from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag, ViewType

from pipeline.tracking.dynamodb import client, table
from pipeline.tracking.dynamodb.address import DEFAULT_TABLE, parse_address
from pipeline.tracking.dynamodb.schema import BY_START, open_table
from pipeline.tracking.dynamodb.store import DynamoDbStore

FOLDER = Path(client.__file__).parent
Used = set[tuple[str, str]]
# A transaction is allowed by what is in it.
IN_TRANSACTIONS = {"Put": "PutItem", "Delete": "DeleteItem", "Update": "UpdateItem", "ConditionCheck": "ConditionCheckItem"}


def listening_to(client: Any) -> tuple[Used, set[str]]:
    """What IAM will ask about from now on: actions with what they are on, the table or its index. And the operations behind them."""
    used: Used = set()
    operations: set[str] = set()

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        operations.add(model.name)
        on = "index" if "IndexName" in params else "table"
        names = [IN_TRANSACTIONS[kind] for action in params.get("TransactItems", []) for kind in action] or [model.name]
        used.update((f"dynamodb:{name}", on) for name in names)
        if params.get("Tags"):
            used.add(("dynamodb:TagResource", on))

    client.meta.events.register("before-parameter-build.dynamodb.*", note)
    return used, operations


def allowed(file: str) -> Used:
    statements = json.loads((FOLDER / file).read_text())["Statement"]
    assert {statement["Effect"] for statement in statements} == {"Allow"}
    found: Used = set()
    for statement in statements:
        on = "index" if statement["Resource"].endswith(f"table/{DEFAULT_TABLE}/index/{BY_START}") else "table"
        assert on == "index" or statement["Resource"].endswith(f":table/{DEFAULT_TABLE}")
        actions = statement["Action"]
        found.update((action, on) for action in ([actions] if isinstance(actions, str) else actions))
    return found


@pytest.fixture
def used_by_the_store(store: Any) -> tuple[Used, set[str]]:
    """What is used by all that the store does: also where things are too large for an item."""
    noted = listening_to(store._table.client)
    experiment = store.create_experiment("e")
    store.rename_experiment(experiment, "f")
    run_id = store.create_run(experiment, "u", 1, [], "r").info.run_id
    store.log_batch(run_id, [Metric("m", 1, 1, 0)], [Param(f"p{place}", "x" * 6000) for place in range(80)], [RunTag("t", "1")])
    store.set_tag(run_id, RunTag("t", "2"))
    profile = "".join(random.Random(1).choices("0123456789abcdef", k=1_500_000))
    store.log_inputs(run_id, [DatasetInput(Dataset("d", "1", "local", "here", profile=profile), [])])
    store.get_run(run_id)
    store.get_metric_history(run_id, "m")
    for order in ([], ["metrics.m"]):
        store.search_runs([experiment], "metrics.m = 1", ViewType.ALL, 10, order)
    store.search_experiments()
    DynamoDbStore(f"dynamodb://{store._table.address.table}?region=us-east-1&endpoint={store._table.address.endpoint}", "/artifacts")
    store.delete_run(run_id)
    store.restore_run(run_id)
    store.delete_experiment(experiment)
    store._hard_delete_run(run_id)
    store._hard_delete_experiment(experiment)
    return noted


def test_the_stores_policy_has_what_it_uses_and_nothing_else(used_by_the_store: tuple[Used, set[str]]) -> None:
    assert used_by_the_store[0] == allowed("iam-store.json")


def test_every_operation_that_the_client_can_make_was_made(used_by_the_store: tuple[Used, set[str]]) -> None:
    source = inspect.getsource(client)
    named = {"".join(word.capitalize() for word in name.split("_")) for name in re.findall(r'self\._(?:call|request)\(\s*"(\w+)"', source)}
    assert named == used_by_the_store[1] == {"GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"}


def test_the_tables_policy_has_what_making_it_uses_and_nothing_else(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    address = parse_address(f"dynamodb://table-{uuid.uuid4().hex}?region=us-east-1&endpoint={moto_endpoint}")
    opened = open_table(address)
    used, _ = listening_to(opened.client)
    monkeypatch.setattr(table, "open_table", lambda _: opened)
    table.create(address, table.Wanted(tags={"a": "b"}))
    table.look(address, permissions=False)
    assert used == allowed("iam-table.json")


def test_checking_tries_what_the_policy_allows(new_table: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_table(parse_address(new_table()))
    used, _ = listening_to(opened.client)
    monkeypatch.setattr(table, "open_table", lambda _: opened)
    table.look(opened.address)
    looked = {("dynamodb:DescribeTable", "table"), ("dynamodb:DescribeContinuousBackups", "table")}
    assert used - looked == allowed("iam-store.json")
