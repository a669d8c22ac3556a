"""What the store does when DynamoDB throttles, fails, loses answers, is silent, says no or is away: through a real server in front of a real one."""

import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed (pip install 'goldtrace[aws]')")

from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from pipeline.tracking.dynamodb import client
from pipeline.tracking.dynamodb.address import parse_address
from pipeline.tracking.dynamodb.store import DynamoDbStore
from pipeline.tracking.dynamodb.table import Wanted, create
from tests.tracking_dynamodb.fault_proxy import Answer, Fault, Lost, Proxy, Silent, cancelled, refusing

pytestmark = pytest.mark.slow
SECRET = "wJalrXUtnFEMI-the-secret"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience than usual, so that the tests are quick."""
    monkeypatch.setattr(client, "_PATIENCE_SECONDS", 1.0)


@contextmanager
def behind_a_proxy(endpoint: str) -> Iterator[tuple[DynamoDbStore, Proxy]]:
    with Proxy(endpoint) as proxy:
        uri = f"dynamodb://faults-{uuid.uuid4().hex}?region=us-east-1&endpoint={proxy.url}"
        create(parse_address(uri), Wanted(protected=False, tags={}))
        yield DynamoDbStore(uri, "/artifacts"), proxy


@pytest.fixture(scope="module")
def in_dynamodb_local(endpoint: str) -> Iterator[tuple[DynamoDbStore, Proxy]]:
    with with_keys(), behind_a_proxy(endpoint) as made:
        yield made


@pytest.fixture(scope="module")
def in_moto(moto_endpoint: str) -> Iterator[tuple[DynamoDbStore, Proxy]]:
    with with_keys(), behind_a_proxy(moto_endpoint) as made:
        yield made


@contextmanager
def with_keys() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "local")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        yield


@pytest.fixture
def faulty(in_dynamodb_local: tuple[DynamoDbStore, Proxy]) -> Iterator[tuple[DynamoDbStore, Proxy]]:
    """A store in DynamoDB Local, and the proxy before it, which does no harm yet."""
    in_dynamodb_local[1].forget()
    yield in_dynamodb_local
    in_dynamodb_local[1].forget()


@pytest.fixture(params=["in_dynamodb_local", "in_moto"])
def losing(request: pytest.FixtureRequest) -> Iterator[tuple[DynamoDbStore, Proxy]]:
    """The same, and on moto too: it does not know a transaction again by its token, as AWS does not after ten minutes."""
    made: tuple[DynamoDbStore, Proxy] = request.getfixturevalue(request.param)
    made[1].forget()
    yield made
    made[1].forget()


def new_run(store: DynamoDbStore, experiment: str = "0") -> str:
    return str(store.create_run(experiment, "user", 1, [], "a run").info.run_id)


def log(store: DynamoDbStore, run_id: str) -> None:
    store.log_batch(run_id, [Metric("m", 1, 1, 0), Metric("n", 2, 1, 0)], [Param("p", "1")], [RunTag("t", "1")])


def is_logged_once(store: DynamoDbStore, run_id: str) -> bool:
    data = store.get_run(run_id).data
    items = [item for item in store._table.query(f"run#{run_id}") if item["run_uuid"]["S"].startswith("history#")]
    return (data.metrics, data.params, data.tags["t"], len(items)) == ({"m": 1, "n": 2}, {"p": "1"}, "1", 1)


# ---------------------------------------------------------------------------------------------- it goes better the next time

PASSING: dict[str, Fault] = {
    "throughput": refusing(400, "ProvisionedThroughputExceededException"),
    "throttling": refusing(400, "ThrottlingException"),
    "request limit": refusing(400, "RequestLimitExceeded"),
    "a throttled transaction": cancelled("None", "ThrottlingError"),
    "a transaction over the throughput": cancelled("ProvisionedThroughputExceeded", "None"),
    "a transaction in progress": refusing(400, "TransactionInProgressException"),
    "its own failure": refusing(500, "InternalServerError"),
    "not available": refusing(503, "ServiceUnavailable"),
    "a gateway's page": Answer(502, b"<html>Bad Gateway</html>"),
    "slow down": refusing(503, "SlowDown"),
    "hung up": Silent(0),
}


@pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in PASSING.items()])
def test_what_passes_is_tried_again_until_it_does(faulty: tuple[DynamoDbStore, Proxy], fault: Fault) -> None:
    store, proxy = faulty
    run_id = new_run(store)
    proxy.first(3, fault)
    log(store, run_id)
    assert is_logged_once(store, run_id)


def test_a_conflict_with_another_transaction_is_worked_out_anew(faulty: tuple[DynamoDbStore, Proxy]) -> None:
    store, proxy = faulty
    proxy.first(2, cancelled("TransactionConflict", "None"), "TransactWriteItems")
    run_id = new_run(store)
    proxy.first(2, cancelled("TransactionConflict", "None"), "TransactWriteItems")
    log(store, run_id)
    assert is_logged_once(store, run_id)
    proxy.first(2, refusing(400, "TransactionConflictException"), "PutItem", "UpdateItem")
    store.set_tag(run_id, RunTag("another", "1"))
    assert store.get_run(run_id).data.tags["another"] == "1"


def test_attempts_wait_longer_and_longer_and_never_equally_long(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=slept.append))
    for attempt in range(10):
        slept.clear()
        for _ in range(200):
            client.wait(attempt)
        longest = min(2.0, 0.05 * 2**attempt)
        assert 0 <= min(slept) < 0.2 * longest
        assert 0.8 * longest < max(slept) <= longest
        assert len(set(slept)) == 200


def test_an_attempt_waits_before_the_next_one(faulty: tuple[DynamoDbStore, Proxy]) -> None:
    store, proxy = faulty
    proxy.first(7, refusing(400, "ThrottlingException"))
    store.get_experiment("0")
    assert len(proxy.asked) == 8
    # Up to 6 s in all, and half of it on average.
    assert proxy.times[-1] - proxy.times[0] > 0.5


def test_reads_that_were_left_undone_are_asked_for_again(faulty: tuple[DynamoDbStore, Proxy]) -> None:
    store, proxy = faulty
    run_id = new_run(store)
    store.log_batch(run_id, [], [Param(f"p{place}", "x" * 6000) for place in range(80)], [])
    keys = '{"Keys": [{"experiment_id": {"S": "0"}, "run_uuid": {"S": "nothing"}}]}'
    undone = Answer(200, f'{{"Responses": {{}}, "UnprocessedKeys": {{"{store._table.address.table}": {keys}}}}}'.encode())
    plain = proxy.fault
    proxy.first(1, undone, "BatchGetItem")
    store._table.get_many([("0", "nothing")])
    assert proxy.asked[-2:] == ["BatchGetItem", "BatchGetItem"]
    proxy.fault = plain
    assert len(store.get_run(run_id).data.params) == 80


def test_throttling_that_does_not_end_ends_in_an_error_after_a_bounded_time(faulty: tuple[DynamoDbStore, Proxy], monkeypatch: pytest.MonkeyPatch) -> None:
    store, proxy = faulty
    # More than the first attempts need on a machine that stalls.
    monkeypatch.setattr(client, "_PATIENCE_SECONDS", 3.0)
    proxy.fault = lambda operation, body: refusing(400, "ThrottlingException", "Rate exceeded")
    started = time.monotonic()
    with pytest.raises(MlflowException, match=rf"DynamoDB is too busy for 'faults-\w+' at {proxy.url}: ThrottlingException: Rate exceeded") as raised:
        store.get_experiment("0")
    assert raised.value.error_code == "TEMPORARILY_UNAVAILABLE"
    assert time.monotonic() - started < 15
    assert 4 <= len(proxy.asked) <= 12
    proxy.asked.clear()
    monkeypatch.setattr(client, "_PATIENCE_SECONDS", 0.0)
    with pytest.raises(MlflowException, match="DynamoDB is too busy"):
        store.get_experiment("0")
    assert len(proxy.asked) == 1


# ---------------------------------------------------------------------------------------------- answers that get lost


def test_a_run_whose_answer_got_lost_is_there_once(losing: tuple[DynamoDbStore, Proxy]) -> None:
    store, proxy = losing
    experiment = store.create_experiment("of one run")
    proxy.first(2, Lost(), "TransactWriteItems")
    run_id = new_run(store, experiment)
    assert [run.info.run_id for run in store.search_runs([experiment], "", ViewType.ALL)] == [run_id]


def test_a_batch_whose_answer_got_lost_is_logged_once(losing: tuple[DynamoDbStore, Proxy]) -> None:
    store, proxy = losing
    run_id = new_run(store)
    proxy.first(2, Lost(), "TransactWriteItems")
    log(store, run_id)
    assert is_logged_once(store, run_id)
    assert len(store.get_metric_history(run_id, "m")) == 1


def test_an_experiment_whose_answer_got_lost_is_made_and_not_taken_for_somebody_elses(losing: tuple[DynamoDbStore, Proxy]) -> None:
    store, proxy = losing
    proxy.first(1, Lost(), "TransactWriteItems")
    made = store.create_experiment("e")
    assert store.get_experiment_by_name("e").experiment_id == made
    proxy.first(1, Lost(), "TransactWriteItems")
    store.rename_experiment(made, "f")
    assert store.get_experiment_by_name("f").experiment_id == made
    assert store.get_experiment_by_name("e") is None
    proxy.fault = lambda operation, body: None
    with pytest.raises(MlflowException, match="already exists"):
        store.create_experiment("f")


@pytest.mark.parametrize("operation", ["PutItem", "UpdateItem", "DeleteItem"])
def test_whatever_answer_gets_lost_a_run_is_as_it_was_told(losing: tuple[DynamoDbStore, Proxy], operation: str) -> None:
    store, proxy = losing
    run_id = new_run(store)
    store.log_batch(run_id, [], [Param(f"p{place}", "x" * 6000) for place in range(80)], [])
    proxy.first(3, Lost(), operation)
    store.set_tag(run_id, RunTag("t", "1"))
    store.delete_run(run_id)
    store.restore_run(run_id)
    run = store.get_run(run_id)
    assert (run.data.tags["t"], len(run.data.params), run.info.lifecycle_stage) == ("1", 80, "active")


def test_a_transaction_keeps_its_token_however_often_it_is_sent(faulty: tuple[DynamoDbStore, Proxy]) -> None:
    import json

    store, proxy = faulty
    proxy.first(2, Lost(), "TransactWriteItems")
    first = len(proxy.asked)
    new_run(store)
    new_run(store)
    sent = [
        json.loads(body)["ClientRequestToken"] for operation, body in zip(proxy.asked[first:], proxy.bodies[first:], strict=True) if "Transact" in operation
    ]
    assert len(sent) == 4
    assert sent[0] == sent[1] == sent[2] != sent[3]


# ---------------------------------------------------------------------------------------------- it is not there, or says no

LONG = 6.0


def error_of(store: DynamoDbStore) -> MlflowException:
    """The error of a plain call, which has to come before long and name no secret."""
    started = time.monotonic()
    with pytest.raises(MlflowException) as raised:
        store.get_experiment("0")
    assert time.monotonic() - started < LONG
    assert SECRET not in str(raised.value)
    assert store._table.address.table in str(raised.value)
    return raised.value


def test_a_black_hole_is_left_after_a_bounded_time_and_named(faulty: tuple[DynamoDbStore, Proxy], brief: None, monkeypatch: pytest.MonkeyPatch) -> None:
    store, proxy = faulty
    monkeypatch.setattr(client, "_READ_SECONDS", 0.7)
    monkeypatch.setattr(store._table, "client", client._client(store._table.address))
    proxy.fault = lambda operation, body: Silent(60)
    error = error_of(store)
    assert error.error_code == "TEMPORARILY_UNAVAILABLE"
    assert "can't be reached for GetItem on 'faults-" in error.message
    assert f"at {proxy.url}: ReadTimeoutError" in error.message
    # The second attempt ends after the patience does.
    assert len(proxy.asked) <= 2


def test_the_time_is_bounded_without_a_tests_impatience() -> None:
    assert client._PATIENCE_SECONDS + client._READ_SECONDS + client._CONNECT_SECONDS <= 25


def at(endpoint: str) -> str:
    return f"dynamodb://some-table?region=us-east-1&endpoint={endpoint}"


def test_a_refused_connection_is_said_before_long_and_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(MlflowException, match="EndpointConnectionError") as raised:
        DynamoDbStore(at(f"http://user:opensesame@127.0.0.1:{port}"), "/artifacts")
    assert time.monotonic() - started < LONG
    assert f"'some-table' at http://**********@127.0.0.1:{port}" in raised.value.message
    assert "opensesame" not in str(raised.value)


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException", "RequestExpired"])
def test_credentials_that_are_refused_are_not_repeated(faulty: tuple[DynamoDbStore, Proxy], code: str) -> None:
    store, proxy = faulty
    proxy.fault = lambda operation, body: refusing(400, code, f"The Canonical String should have been x-amz-security-token:{SECRET}")
    error = error_of(store)
    assert error.error_code == "UNAUTHENTICATED"
    assert f": {code}. hint: sign in to AWS anew" in error.message
    assert proxy.asked == ["GetItem"]


def test_no_credentials_at_all_are_said(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(MlflowException, match=r"There are no AWS credentials for 'some-table' .*AWS_PROFILE") as raised:
        DynamoDbStore(at(endpoint), "/artifacts")
    assert raised.value.error_code == "UNAUTHENTICATED"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(MlflowException, match="ProfileNotFound"):
        DynamoDbStore(at(endpoint), "/artifacts")


def test_a_denied_action_is_named_with_the_policy_and_nobodys_name(faulty: tuple[DynamoDbStore, Proxy]) -> None:
    store, proxy = faulty
    who = "arn:aws:sts::123456789012:assumed-role/r/alice@example.com"
    told = f"User: {who} is not authorized to perform: dynamodb:GetItem on resource: arn:x because no identity-based policy allows the dynamodb:GetItem action"
    proxy.fault = lambda operation, body: refusing(400, "AccessDeniedException", told)
    error = error_of(store)
    assert error.error_code == "PERMISSION_DENIED"
    assert "denies dynamodb:GetItem (no identity-based policy allows it) on" in error.message
    assert "docs/mlflow.md" in error.message
    assert "alice" not in error.message
    assert proxy.asked == ["GetItem"]


def test_a_table_that_is_missing_is_named_with_what_makes_it(endpoint: str) -> None:
    with pytest.raises(MlflowException, match=r"no DynamoDB table 'some-table' at .*hint: pipeline mlflow table create") as raised:
        DynamoDbStore(at(endpoint), "/artifacts")
    assert raised.value.error_code == "INVALID_STATE"


def test_a_transaction_that_can_not_be_done_says_why(faulty: tuple[DynamoDbStore, Proxy]) -> None:
    store, proxy = faulty
    proxy.fault = lambda operation, body: cancelled("ValidationError", "None") if operation == "TransactWriteItems" else None
    with pytest.raises(MlflowException, match=r"refused TransactWriteItems .*ValidationError") as raised:
        new_run(store)
    assert raised.value.error_code == "INTERNAL_ERROR"
    assert proxy.asked.count("TransactWriteItems") == 1


def test_conflicts_that_do_not_end_end_in_an_error(faulty: tuple[DynamoDbStore, Proxy], monkeypatch: pytest.MonkeyPatch) -> None:
    store, proxy = faulty
    monkeypatch.setattr(client, "wait", lambda attempt: None)
    proxy.fault = lambda operation, body: cancelled("TransactionConflict", "None") if operation == "TransactWriteItems" else None
    with pytest.raises(MlflowException) as raised:
        new_run(store)
    assert raised.value.error_code == "TEMPORARILY_UNAVAILABLE"
