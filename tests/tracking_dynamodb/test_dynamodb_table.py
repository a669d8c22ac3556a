"""`pipeline mlflow table create|check`, on DynamoDB Local, on moto, and in front of accounts that allow less."""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("boto3", reason="boto3 is not installed (pip install 'goldtrace[aws]')")

from mlflow.exceptions import MlflowException

from pipeline.cli import app
from pipeline.errors import BackendError, UsageError
from pipeline.tracking.dynamodb import table as tables
from pipeline.tracking.dynamodb.address import parse_address
from pipeline.tracking.dynamodb.schema import definition, open_table
from pipeline.tracking.dynamodb.table import Wanted, Word, create, ensure, look
from tests.tracking_dynamodb.fault_proxy import Proxy, refusing

pytestmark = pytest.mark.slow
PLAIN = Wanted(protected=False, tags={})


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")


@pytest.fixture(params=["DynamoDB Local", "moto"])
def uri(request: pytest.FixtureRequest) -> str:
    """The address of a table that isn't there."""
    endpoint = request.getfixturevalue("endpoint" if request.param == "DynamoDB Local" else "moto_endpoint")
    return f"dynamodb://table-{uuid.uuid4().hex}?region=us-east-1&endpoint={endpoint}"


@pytest.fixture
def moto_uri(moto_endpoint: str) -> str:
    return f"dynamodb://table-{uuid.uuid4().hex}?region=us-east-1&endpoint={moto_endpoint}"


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["mlflow", "table", *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def states(uri: str) -> dict[str, str]:
    return {finding.about: finding.word.value for finding in look(parse_address(uri))}


def made_otherwise(uri: str, **other: Any) -> None:
    """A table of that name with something else than the store wants."""
    open_table(parse_address(uri)).ask("create_table", **{**definition(), **other})


def test_a_table_is_made_well_and_making_it_again_changes_nothing(uri: str) -> None:
    code, first = run("create", uri)
    assert (code, first.splitlines()[-1]) == (0, "it is well")
    before = open_table(parse_address(uri)).ask("describe_table")["Table"]
    code, again = run("create", uri)
    assert code == 0
    assert "was made" in first
    assert "was there already" in again
    assert open_table(parse_address(uri)).ask("describe_table")["Table"] == before
    assert before["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert before["DeletionProtectionEnabled"] is True


def test_a_table_that_is_not_there_is_off_and_the_hint_makes_it(uri: str) -> None:
    code, text = run("check", uri)
    assert code == 1
    assert "there is no 'table-" in text
    assert "hint: pipeline mlflow table create" in text


def test_checking_writes_nothing_not_even_where_it_tries_to(uri: str) -> None:
    create(parse_address(uri), PLAIN)
    table = open_table(parse_address(uri))
    assert run("check", uri)[0] == 0
    assert table.client.scan(TableName=table.address.table)["Count"] == 0
    table.put({**table.key(tables._PROBE), "mark": {"S": "mine"}})
    assert run("check", uri)[0] == 0
    assert table.client.scan(TableName=table.address.table)["Items"] == [{**table.key(tables._PROBE), "mark": {"S": "mine"}}]


def test_recovery_is_on_where_there_is_such_a_thing_and_said_where_there_is_not(endpoint: str, moto_uri: str) -> None:
    create(parse_address(moto_uri), PLAIN)
    assert states(moto_uri)["point-in-time recovery"] == "good"
    local = f"dynamodb://table-{uuid.uuid4().hex}?region=us-east-1&endpoint={endpoint}"
    code, text = run("create", local)
    assert code == 0
    assert "unknown point-in-time recovery: this DynamoDB has none" in text


def test_recovery_that_a_first_attempt_did_not_get_to_is_turned_on_by_the_second(moto_uri: str) -> None:
    made_otherwise(moto_uri)
    assert states(moto_uri)["point-in-time recovery"] == "bad"
    assert run("check", moto_uri)[0] == 1
    assert create(parse_address(moto_uri), PLAIN) is False
    assert states(moto_uri)["point-in-time recovery"] == "good"


def test_tags_and_protection_are_as_they_are_asked_for(moto_uri: str) -> None:
    run("create", moto_uri, "--no-deletion-protection", "--tag", "team=study", "--tag", "cost=")
    table = open_table(parse_address(moto_uri))
    found = table.ask("describe_table")["Table"]
    tags = table.client.list_tags_of_resource(ResourceArn=found["TableArn"])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "study", "cost": ""}
    assert found["DeletionProtectionEnabled"] is False
    assert states(moto_uri)["deletion protection"] == "note"
    assert run("check", moto_uri)[0] == 0


OTHERWISE = {
    "keys": {
        "KeySchema": [{"AttributeName": "run_uuid", "KeyType": "HASH"}, {"AttributeName": "experiment_id", "KeyType": "RANGE"}],
        "LocalSecondaryIndexes": [],
    },
    "index": {"LocalSecondaryIndexes": []},
    "billing": {"BillingMode": "PROVISIONED", "ProvisionedThroughput": {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}},
}


@pytest.mark.parametrize("about", OTHERWISE)
def test_a_table_of_another_form_is_off_with_a_hint(endpoint: str, about: str) -> None:
    uri = f"dynamodb://table-{uuid.uuid4().hex}?region=us-east-1&endpoint={endpoint}"
    other = {name: value for name, value in OTHERWISE[about].items() if value != []}
    wanted = {name: value for name, value in definition().items() if OTHERWISE[about].get(name) != []}
    if "LocalSecondaryIndexes" not in wanted:
        wanted["AttributeDefinitions"] = wanted["AttributeDefinitions"][:2]
    open_table(parse_address(uri)).ask("create_table", **{**wanted, **other})
    off = [finding for finding in look(parse_address(uri)) if finding.word is Word.BAD]
    assert about in {finding.about for finding in off}
    assert all(finding.hint for finding in off)
    assert run("create", uri)[0] == 1
    with pytest.raises(MlflowException, match=f"is not as this store needs it: .*{about}"):
        ensure(parse_address(uri), PLAIN)


def test_an_index_without_whole_items_is_off(endpoint: str) -> None:
    uri = f"dynamodb://table-{uuid.uuid4().hex}?region=us-east-1&endpoint={endpoint}"
    (index,) = definition()["LocalSecondaryIndexes"]
    made_otherwise(uri, LocalSecondaryIndexes=[{**index, "Projection": {"ProjectionType": "KEYS_ONLY"}}])
    assert states(uri)["index"] == "bad"


def test_json_says_the_same(uri: str) -> None:
    code, text = run("check", uri, "--json")
    assert (code, json.loads(text)["well"]) == (1, False)
    told = json.loads(run("create", uri, "--json")[1])
    assert (told["made"], told["well"], told["region"]) == (True, True, "us-east-1")
    assert {"keys", "index", "billing"} <= {finding["about"] for finding in told["findings"]}
    assert {"permissions"} < {finding["about"] for finding in json.loads(run("check", uri, "--json")[1])["findings"]}


def denied(*actions: str) -> Callable[[str, bytes], Any]:
    """Answers as AWS does to somebody who may not do these."""
    return lambda operation, body: refusing(400, "AccessDeniedException", message(operation)) if operation in actions else None


def message(operation: str) -> str:
    who, what = "arn:aws:sts::123456789012:assumed-role/r/alice@example.com", "arn:aws:dynamodb:us-east-1:123456789012:table/t"
    return f"User: {who} is not authorized to perform: dynamodb:{operation} on resource: {what} because no identity-based policy allows the action"


@pytest.fixture
def proxied(moto_uri: str, moto_endpoint: str) -> Iterator[tuple[str, Proxy]]:
    """A table behind a proxy."""
    create(parse_address(moto_uri), PLAIN)
    with Proxy(moto_endpoint) as proxy:
        yield moto_uri.replace(moto_endpoint, proxy.url), proxy


@pytest.mark.parametrize("action", ["GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem"])
def test_an_action_that_is_denied_is_named_with_where_the_policy_is(proxied: tuple[str, Proxy], action: str) -> None:
    uri, proxy = proxied
    proxy.fault = denied(action)
    code, text = run("check", uri)
    assert code == 1
    assert f"bad     permissions: dynamodb:{action}" in text
    assert "docs/mlflow.md" in text
    assert "alice" not in text


def test_who_may_use_the_table_only_is_told_what_could_not_be_seen(proxied: tuple[str, Proxy]) -> None:
    uri, proxy = proxied
    proxy.fault = denied("DescribeTable", "DescribeContinuousBackups")
    code, text = run("check", uri)
    assert code == 0
    assert "unknown the table: dynamodb:DescribeTable is denied, which the store does not need" in text
    assert "all 7 actions of the store are allowed" in text


def test_who_may_not_make_a_table_is_told_so(proxied: tuple[str, Proxy]) -> None:
    uri, proxy = proxied
    proxy.fault = denied("CreateTable")
    with pytest.raises(BackendError, match=r"DynamoDB denies dynamodb:CreateTable \(no identity-based policy allows it\) on 'another'"):
        run("create", f"dynamodb://another?{uri.partition('?')[2]}")


def test_who_makes_a_table_need_not_use_it(proxied: tuple[str, Proxy]) -> None:
    uri, proxy = proxied
    proxy.fault = denied("GetItem", "PutItem")
    assert run("create", uri)[0] == 0


def test_a_table_that_somebody_makes_at_the_same_time_is_no_error(proxied: tuple[str, Proxy], monkeypatch: pytest.MonkeyPatch) -> None:
    uri, proxy = proxied
    asked: list[str] = []

    def as_if_new(operation: str, body: bytes) -> Any:
        asked.append(operation)
        return refusing(400, "ResourceNotFoundException", "not there") if asked == ["DescribeTable"] else None

    proxy.fault = as_if_new
    monkeypatch.setattr(tables, "_POLL_SECONDS", 0.0)
    create(parse_address(uri), PLAIN)
    assert "CreateTable" in asked


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("dynamodb://a b", "is not the address of a table"),
        ("sqlite:///x", "is not the address of a table"),
        ("dynamodb://abc?region=r&endpoint=nowhere", "endpoint"),
    ],
)
def test_an_address_that_is_none_is_said(address: str, said: str) -> None:
    with pytest.raises((UsageError, BackendError), match=said) as raised:
        run("check", address)
    assert raised.value.hint


def test_without_an_address_it_is_the_one_that_runs_use(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert f"'{parse_address(uri).table}'" in run("check")[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", str(parse_address(uri).endpoint))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert "'cdp-dev-mlflow-backend'" in run("check")[1]


def test_a_region_that_nobody_names_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(BackendError, match="No region is named for 'cdp-dev-mlflow-backend'"):
        run("check")


@pytest.mark.parametrize("text", ["x", "=y"])
def test_a_tag_that_is_none_is_refused(text: str) -> None:
    assert run("create", "dynamodb://abc", "--tag", text)[0] == 2
