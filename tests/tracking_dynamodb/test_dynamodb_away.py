"""MLflow's being away costs a run nothing but its entry, and the entry is made later, once: with runs in DynamoDB and files on S3."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed (pip install 'goldtrace[aws]')")

from mlflow.entities import ViewType

from pipeline.errors import BackendError
from pipeline.records import Run, State
from pipeline.settings import Settings, load
from pipeline.testing import example_run
from pipeline.tracking import worker
from pipeline.tracking.dynamodb import client
from pipeline.tracking.dynamodb.address import parse_address
from pipeline.tracking.dynamodb.store import DynamoDbStore
from pipeline.tracking.dynamodb.table import Wanted, create
from pipeline.tracking.experiments import LostRuns
from pipeline.tracking.record import RunRecord, Tag, run_record
from pipeline.tracking.waiting import RECORD
from tests.stack.programs import program
from tests.tracking.away_support import LONGEST, SHARE, ends_in_time
from tests.tracking_dynamodb.conftest import answers, free_port
from tests.tracking_dynamodb.fault_proxy import Answer, Fault, Proxy, Silent, Slow, refusing

# As in the worker's process, whose libraries' warnings are nobody's.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

BUCKET = "goldtrace-away"


def s3_error(status: int, code: str) -> Answer:
    return Answer(
        status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said on purpose</Message></Error>".encode(), (("Content-Type", "application/xml"),)
    )


# What a server does, with what is said of it where there is time to.
DYNAMODB: dict[str, tuple[Fault, str]] = {
    "black hole": (Silent(60), "can't be reached"),
    "slow down": (refusing(503, "SlowDown"), "is too busy"),
    "expired token": (refusing(400, "ExpiredTokenException"), "refuses the credentials"),
    "access denied": (refusing(400, "AccessDeniedException"), "DynamoDB denies dynamodb:"),
    "throttling": (refusing(400, "ProvisionedThroughputExceededException"), "is too busy"),
    "table missing": (refusing(400, "ResourceNotFoundException"), "pipeline mlflow table create"),
}
S3: dict[str, tuple[Fault, str]] = {
    "black hole": (Silent(60), "timeout|Could not connect|Connection was closed"),
    "slow down": (s3_error(503, "SlowDown"), "SlowDown|503"),
    "expired token": (s3_error(400, "ExpiredToken"), "ExpiredToken"),
    "access denied": (s3_error(403, "AccessDenied"), "AccessDenied"),
    "no bucket": (s3_error(404, "NoSuchBucket"), "NoSuchBucket"),
}


@dataclass(frozen=True)
class Place:
    """A store in DynamoDB with its files on S3, each behind a proxy."""

    uri: str
    dynamodb: Proxy
    s3: Proxy
    settings: Settings
    folder: Path

    def found(self, run_id: str) -> Counter[str]:
        """How many MLflow runs there are of a run: its own, and those of its models."""
        store = DynamoDbStore(self.uri)
        runs = store.search_runs([each.experiment_id for each in store.search_experiments()], f"tags.`{Tag.RUN_ID}` = '{run_id}'", ViewType.ACTIVE_ONLY)
        return Counter("model" if Tag.MODEL in run.data.tags else "whole" if Tag.DELIVERED in run.data.tags else "half" for run in runs)

    def ended(self, number: int = 1) -> Run:
        """A run that has ended, with a model and a figure, in the runs folder."""
        run = example_run(self.folder / "runs" / "unnamed", State.COMPLETED, number=number)
        run.bundle = run.bundle.rename(self.folder / "runs" / str(run.id))
        return run

    def record(self, number: int = 1) -> RunRecord:
        figure = self.folder / "lake" / "effects.png"
        figure.parent.mkdir(exist_ok=True)
        figure.write_bytes(b"\x89PNG")
        return {**run_record(self.ended(number), self.settings, self.folder / "lake"), "figures": [str(figure)]}


@pytest.fixture
def place(endpoint: str, moto_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    import boto3

    with ExitStack() as proxies:
        dynamodb, s3 = proxies.enter_context(Proxy(endpoint)), proxies.enter_context(Proxy(moto_endpoint))
        uri = f"dynamodb://away-{uuid.uuid4().hex}?region=us-east-1&endpoint={dynamodb.url}&artifacts=s3://{BUCKET}/{uuid.uuid4().hex}"
        for name, value in {
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_S3_ENDPOINT_URL": s3.url,
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        }.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3", endpoint_url=moto_endpoint).create_bucket(Bucket=BUCKET)
        create(parse_address(uri), Wanted(protected=False, tags={}))
        (tmp_path / "runs").mkdir()
        settings = load({}, Path("no.env"), runs=tmp_path / "runs", lake=str(tmp_path / "lake"), mlflow_tracking_uri=uri)
        yield Place(uri, dynamodb, s3, settings, tmp_path)


@contextmanager
def brief(fault: Fault) -> Iterator[None]:
    """Less patience than usual with a fault, so that the tests are quick; S3's is the SDK's own.

    An answer is waited for as long as ever where there will be one: MLflow keeps the store, and its client, for later deliveries.
    """
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(fault, Silent):
            patch.setattr(client, "_READ_SECONDS", 2.0)
        patch.setattr(client, "_PATIENCE_SECONDS", 0.3)
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield


def delivered(place: Place, *records: RunRecord) -> worker.Answer:
    """What the worker's process does, in this one."""
    return worker._deliver(place.uri, None, list(records))


FAULTS = [*(("dynamodb", name) for name in DYNAMODB), *(("s3", name) for name in S3)]
# The SDK asks S3 for longer than a test should take; a run's process is killed before (below).
SAID = [each for each in FAULTS if each != ("s3", "black hole")]


@pytest.mark.parametrize(("server", "name"), SAID)
def test_what_the_world_refuses_is_worth_another_try_and_then_there_once(place: Place, server: str, name: str) -> None:
    record = place.record()
    fault, said = (DYNAMODB if server == "dynamodb" else S3)[name]
    proxy = place.dynamodb if server == "dynamodb" else place.s3
    proxy.fault = lambda operation, body: fault
    with brief(fault):
        refusal = delivered(place, record)["refusal"]
    assert refusal is not None
    assert refusal["retry_is_safe"], refusal
    assert re.search(said, refusal["message"]), refusal
    assert str(place.folder) not in refusal["message"]
    proxy.fault = lambda operation, body: None
    first, again = delivered(place, record), delivered(place, record)
    assert first["refusal"] is None
    assert again["delivered"] == first["delivered"]
    assert place.found(record["run_id"]) == {"whole": 1, "model": 1}


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.85])
def test_wherever_an_attempt_breaks_off_the_next_one_makes_it_whole_and_once(place: Place, share: float) -> None:
    record = place.record(1)
    before = len(place.dynamodb.asked)
    assert delivered(place, record)["refusal"] is None
    steps = len(place.dynamodb.asked) - before
    another = place.record(2)
    left = [round(steps * share)]

    def break_off(operation: str, body: bytes) -> Fault:
        left[0] -= 1
        return refusing(400, "ExpiredTokenException") if left[0] < 0 else None

    place.dynamodb.fault = break_off
    assert delivered(place, another)["refusal"] is not None
    place.dynamodb.fault = lambda operation, body: None
    assert delivered(place, another)["refusal"] is None
    assert place.found(another["run_id"]) == {"whole": 1, "model": 1}
    assert place.found(record["run_id"]) == {"whole": 1, "model": 1}


@pytest.mark.parametrize("code", ["ValidationException", "SerializationException"])
def test_what_is_wrong_with_the_record_itself_does_not_wait_for_ever(place: Place, code: str) -> None:
    record = place.record()
    place.dynamodb.fault = lambda operation, body: refusing(400, code) if operation == "TransactWriteItems" else None
    refusal = delivered(place, record)["refusal"]
    assert refusal is not None
    assert not refusal["retry_is_safe"]


# ---------------------------------------------------------------------------------------------- with the real process


def told(run: Run) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads((run.bundle / "delivery.json").read_text())["experiments"]
    return entry


def costs_two_seconds_and_waits(place: Place, run: Run, seconds: float = 0.0) -> None:
    (error,) = ends_in_time(place.settings, place.folder / "lake", run, seconds)
    assert isinstance(error, BackendError)
    assert error.hint == "the next run enters it, or pipeline replay does"
    assert told(run)["state"] == "pending"
    assert (run.bundle / RECORD).exists()


def is_entered_later_once(place: Place, run: Run) -> None:
    lost = LostRuns(place.settings)
    lost.deliver()
    assert told(run)["state"] == "delivered"
    assert not (run.bundle / RECORD).exists()
    lost.deliver()
    assert place.found(str(run.id)) == {"whole": 1, "model": 1}


def test_a_black_hole_costs_a_run_two_seconds_and_a_replay_enters_it_once(place: Place) -> None:
    run = place.ended()
    place.dynamodb.fault = lambda operation, body: Silent(60)
    costs_two_seconds_and_waits(place, run)
    place.dynamodb.fault = lambda operation, body: None
    is_entered_later_once(place, run)


def test_s3_that_never_answers_costs_a_run_two_seconds_and_what_it_left_half_done_is_entered_once(place: Place) -> None:
    run = place.ended()
    place.s3.fault = lambda operation, body: Silent(60)
    costs_two_seconds_and_waits(place, run, seconds=6.0)
    place.s3.fault = lambda operation, body: None
    is_entered_later_once(place, run)


def test_a_refused_connection_costs_a_run_two_seconds_and_says_so(place: Place, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    uri = f"dynamodb://away?region=us-east-1&endpoint=http://user:opensesame@127.0.0.1:{port}"
    refused = Place(uri, place.dynamodb, place.s3, place.settings.model_copy(update={"mlflow_tracking_uri": uri}), tmp_path)
    run = place.ended()
    costs_two_seconds_and_waits(refused, run, seconds=4.0)
    assert "opensesame" not in json.dumps(told(run))
    is_entered_later_once(place, run)


@pytest.mark.parametrize(("server", "name"), FAULTS)
def test_whatever_is_wrong_a_run_loses_two_seconds_and_a_replay_brings_it_in(place: Place, server: str, name: str) -> None:
    run = place.ended()
    proxy = place.dynamodb if server == "dynamodb" else place.s3
    fault = (DYNAMODB if server == "dynamodb" else S3)[name][0]
    proxy.fault = lambda operation, body: fault
    costs_two_seconds_and_waits(place, run, seconds=5.0)
    with pytest.raises(BackendError) if not isinstance(fault, Silent) else ExitStack():
        if not isinstance(fault, Silent):
            LostRuns(place.settings).deliver()
    assert (run.bundle / RECORD).exists()
    proxy.fault = lambda operation, body: None
    is_entered_later_once(place, run)


def test_a_store_that_is_slow_is_left_in_the_middle_and_gets_it_whole_later(place: Place) -> None:
    run = place.ended()
    place.dynamodb.fault = lambda operation, body: Slow(0.4)
    costs_two_seconds_and_waits(place, run, seconds=6.0)
    place.dynamodb.fault = lambda operation, body: None
    is_entered_later_once(place, run)


# ---------------------------------------------------------------------------------------------- a user's commands


def command(place: Place, root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(root), "MLFLOW_TRACKING_URI": place.uri}
    words = (sys.executable, "-c", "from pipeline.cli import main; main()", *words)
    return subprocess.run(words, cwd=place.folder, env=environment, capture_output=True, text=True, timeout=160, check=False)


@pytest.mark.parametrize("name", ["black hole", "access denied"])
def test_the_study_ends_well_says_once_that_mlflow_is_away_and_is_replayed_whole(place: Place, root: Path, name: str) -> None:
    place.dynamodb.fault = lambda operation, body: DYNAMODB[name][0]
    done = command(place, root, "run")
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stderr.splitlines() if "MLflow" in line]) == 1
    ((manifest),) = [json.loads(path.read_text()) for path in (place.folder / "runs").glob("*/manifest.json")]
    assert manifest["telemetry"]["lost"] == {"experiments": 1}
    assert manifest["telemetry"]["seconds"]["experiments"] < LONGEST + SHARE * manifest["seconds"]
    place.dynamodb.fault = lambda operation, body: None
    replayed = command(place, root, "replay")
    assert (replayed.returncode, replayed.stdout) == (0, "MLflow took 1 run that waited\n\nno lineage waits\n"), replayed.stderr
    found = place.found(manifest["run_id"])
    assert (found["whole"], found["half"]) == (1, 0)
    assert found["model"] >= 3
    assert command(place, root, "replay").returncode == 2  # nothing waits, and lineage is turned off here
    assert place.found(manifest["run_id"]) == found


@pytest.fixture
def versitygw(tmp_path: Path) -> Iterator[str]:
    """An S3 that looks at signatures, and keeps objects as files in a folder."""
    folder = tmp_path / "s3"
    (folder / BUCKET).mkdir(parents=True)
    port = free_port()
    words = ["--quiet", "--port", f"127.0.0.1:{port}", "--access", "local", "--secret", "local", "posix", str(folder)]
    with subprocess.Popen([program("versitygw"), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        until = time.monotonic() + 20
        while not answers(f"http://127.0.0.1:{port}"):
            assert time.monotonic() < until
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def test_figures_and_models_arrive_on_s3_and_are_read_back(place: Place, versitygw: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", versitygw)
    answer = delivered(place, place.record())
    assert answer["refusal"] is None
    client = MlflowClient(place.uri)
    run = client.get_run(answer["delivered"][0]["parent_run_id"])
    assert run.info.artifact_uri.startswith(f"s3://{BUCKET}/")
    read = client.download_artifacts(run.info.run_id, "figures/effects.png", str(tmp_path))
    assert Path(read).read_bytes() == b"\x89PNG"
    (model,) = (tmp_path / "s3" / BUCKET).rglob("MLmodel")
    assert "goldtrace_linear_model" in model.read_text()
