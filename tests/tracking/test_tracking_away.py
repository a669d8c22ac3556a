"""An MLflow server that is away, slow or says no costs a run nothing but its entry, and the entry is made later, once."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

from pipeline import cli
from pipeline.errors import BackendError, SettingsError
from pipeline.records import Run, State
from pipeline.settings import Settings
from pipeline.testing import example_run
from pipeline.tracking import process, worker
from pipeline.tracking.experiments import LostRuns
from pipeline.tracking.record import Tag, run_record
from pipeline.tracking.waiting import RECORD, keep
from tests.telemetry.delivery_support import told as with_lineage
from tests.tracking.away_support import ends_in_time
from tests.tracking_dynamodb.fault_proxy import Answer, Fault, Lost, Proxy, Silent, Slow

# As in the worker's process, whose libraries' warnings are nobody's.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

JSON = (("Content-Type", "application/json"),)


def said_by_mlflow(status: int, code: str) -> Answer:
    return Answer(status, json.dumps({"error_code": code, "message": "said on purpose"}).encode(), JSON)


FAULTS: dict[str, Fault] = {
    "black hole": Silent(60),
    "bad gateway": Answer(502, b"<html>Bad Gateway</html>"),
    "not available": Answer(503, b"<html>Service Unavailable</html>"),
    "its own error": Answer(500, b"Internal Server Error"),
    "too many requests": Answer(429, b"slow down"),
    "login refused": Answer(401, b"You are not authenticated"),
    "access denied": Answer(403, b"Permission denied"),
    "its store is busy": said_by_mlflow(503, "TEMPORARILY_UNAVAILABLE"),
    "its store refuses its login": said_by_mlflow(401, "UNAUTHENTICATED"),
    "its store denies it access": said_by_mlflow(403, "PERMISSION_DENIED"),
    "its table is missing": said_by_mlflow(400, "INVALID_STATE"),
    "hung up": Silent(0),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_server_refuses_for_now_is_worth_another_try(
    name: str, tmp_path: Path, settings_for: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in the worker's process. Only here, where no answer is as good as any.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    record = run_record(example_run(tmp_path / "runs" / "run"), settings_for(tmp_path / "runs"), tmp_path)
    with Proxy("http://127.0.0.1:9") as proxy:
        proxy.fault = lambda operation, body: FAULTS[name]
        refusal = worker._deliver(proxy.url, None, [record])["refusal"]
    assert refusal is not None
    assert refusal["retry_is_safe"], refusal


@pytest.mark.parametrize("code", ["INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "NOT_IMPLEMENTED"])
def test_what_a_server_refuses_for_ever_is_not(code: str, tmp_path: Path, settings_for: Callable[..., Settings]) -> None:
    record = run_record(example_run(tmp_path / "runs" / "run"), settings_for(tmp_path / "runs"), tmp_path)
    with Proxy("http://127.0.0.1:9") as proxy:
        proxy.fault = lambda operation, body: said_by_mlflow(400, code)
        refusal = worker._deliver(proxy.url, None, [record])["refusal"]
    assert refusal is not None
    assert not refusal["retry_is_safe"]


# ---------------------------------------------------------------------------------------------- a real server, and the real process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command = [sys.executable, "-m", "mlflow", *words, "--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 90
        while not _is_well(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < until
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def _is_well(url: str) -> bool:
    try:
        return bool(urlopen(url, timeout=3).status == 200)
    except OSError:
        return False


def found(url: str, run: Run) -> Counter[str]:
    """How many MLflow runs there are of a run: its own, and those of its models."""
    from mlflow import MlflowClient

    client = MlflowClient(url)
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{Tag.RUN_ID}` = '{run.id}'")
    return Counter("model" if Tag.MODEL in run.data.tags else "whole" if Tag.DELIVERED in run.data.tags else "half" for run in runs)


def told(run: Run) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads((run.bundle / "delivery.json").read_text())["experiments"]
    return entry


def costs_two_seconds_and_waits(settings: Settings, run: Run, seconds: float) -> None:
    (error,) = ends_in_time(settings, settings.runs.parent / "lake", run, seconds)
    assert isinstance(error, BackendError)
    assert error.hint == "the next run enters it, or pipeline replay does"
    assert told(run)["state"] == "pending"
    assert (run.bundle / RECORD).exists()


@pytest.mark.parametrize("name", ["refused", "black hole", "not available", "login refused", "access denied", "too many requests", "slow", "answers get lost"])
def test_whatever_is_wrong_with_a_server_a_run_loses_two_seconds_and_a_replay_brings_it_in(
    server: str, name: str, tmp_path: Path, settings_for: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = example_run(tmp_path / "runs" / "unnamed", State.COMPLETED, number=sum(map(ord, name)))
    run.bundle = run.bundle.rename(tmp_path / "runs" / str(run.id))
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(server))
        settings = settings_for(tmp_path / "runs", lake=str(tmp_path / "lake"), mlflow_tracking_uri=proxy.url)
        fault = {**FAULTS, "slow": Slow(0.7), "answers get lost": Lost()}.get(name)
        away = settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"}) if name == "refused" else settings
        proxy.fault = lambda operation, body: fault
        costs_two_seconds_and_waits(away, run, seconds=5.0)
        proxy.fault = lambda operation, body: None
        # A server that is well is asked for as long as it takes.
        monkeypatch.setitem(process._SET, "MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
        lost = LostRuns(settings)
        lost.deliver()
        assert told(run)["state"] == "delivered"
        lost.deliver()
    assert found(server, run) == {"whole": 1, "model": 1}


# ---------------------------------------------------------------------------------------------- the command


def waiting_run(runs: Path, number: int, settings: Settings) -> Run:
    run = example_run(runs / f"run-{number}", State.FAILED, number=number)
    keep(run.bundle, run_record(run, settings, runs), runs)
    return run


def test_replay_says_what_mlflow_took_whatever_becomes_of_the_lineage(
    tmp_path: Path, settings_for: Callable[..., Settings], ready_store: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    ready_store(runs)
    first = waiting_run(runs, 1, settings_for(runs))
    off = CliRunner().invoke(cli.app, ["replay", "--runs", str(runs)])
    assert (off.exit_code, off.output) == (0, "MLflow took 1 run that waited\n\nno lineage waits\n")
    assert told(first)["state"] == "delivered"
    nothing = CliRunner().invoke(cli.app, ["replay", "--runs", str(runs)])
    assert isinstance(nothing.exception, SettingsError)  # it is turned off, and there was nothing else to do
    second = waiting_run(runs, 2, settings_for(runs))
    with_lineage(runs, 3)
    monkeypatch.delenv("OPENLINEAGE_DISABLED")
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    away = CliRunner().invoke(cli.app, ["replay", "--runs", str(runs)])
    assert isinstance(away.exception, BackendError)
    assert told(second)["state"] == "delivered"


def test_replay_says_in_json_what_mlflow_took(tmp_path: Path, settings_for: Callable[..., Settings], ready_store: Callable[[Path], None]) -> None:
    ready_store(tmp_path / "runs")
    waiting_run(tmp_path / "runs", 1, settings_for(tmp_path / "runs"))
    done = CliRunner().invoke(cli.app, ["replay", "--runs", str(tmp_path / "runs"), "--json"])
    assert json.loads(done.stdout)["entered_in_mlflow"] == 1
