import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pipeline.errors import BackendError
from pipeline.records import ExperimentRun, Run, State
from pipeline.settings import Settings, load
from pipeline.telemetry.guard import Hooks
from pipeline.testing import example_run
from pipeline.tracking import experiments
from pipeline.tracking.experiments import ExperimentsHook, LostRuns, _allowance, _place_of
from pipeline.tracking.process import Target, Worker, target
from pipeline.tracking.record import run_record
from pipeline.tracking.waiting import RECORD, forget, keep
from pipeline.tracking.worker import Answer

# A run with the hook, in a process of its own: what it imported, and whether OpenTelemetry's globals are as before.
ISOLATED = """
import json, sys
from pathlib import Path
from pipeline.settings import load
from pipeline.testing import example_run
from pipeline.tracking.experiments import ExperimentsHook
from opentelemetry import trace, metrics
before = trace.get_tracer_provider(), metrics.get_meter_provider()
runs = Path(sys.argv[1])
run = example_run(runs / "run")
with ExperimentsHook(load(runs=runs), runs).run(run):
    pass
after = trace.get_tracer_provider(), metrics.get_meter_provider()
print(json.dumps({"mlflow": [name for name in sys.modules if name.startswith(("mlflow", "sqlalchemy", "pandas"))],
                  "same": [a is b for a, b in zip(before, after)], "state": json.loads((run.bundle / "delivery.json").read_text())["experiments"]["state"]}))
"""
ORPHAN = """
import os, signal, sys
from pipeline.tracking.process import Target, Worker
worker = Worker(Target(uri=sys.argv[1], seconds=10)).__enter__()
print(worker.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def delivery(run: Run) -> dict:
    return json.loads((run.bundle / "delivery.json").read_text())["experiments"]


@contextmanager
def taking_at_most(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


def is_gone(pid: int | None) -> bool:
    """Whether neither a process nor a zombie of ours has that id."""
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return True
    return False


def has_ended(pid: int) -> bool:
    """Whether it is gone, or a zombie that whoever inherited it has not looked after yet."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return is_gone(pid) or (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def run_with(settings: Settings, run: Run, lake: Path | None = None) -> list[Exception]:
    """Run the hook behind the guard; what it said went wrong."""
    said: list[Exception] = []
    with Hooks([ExperimentsHook(settings, lake or run.bundle)], on_failure=lambda _run, _signal, error: said.append(error)).run(run):
        pass
    return said


def test_neither_mlflow_nor_its_tracing_gets_into_the_runs_process(tmp_path: Path, root: Path, ready_store: Callable[[Path], None]) -> None:
    ready_store(tmp_path / "runs")
    # With these, MLflow sets up tracing of its own where it is imported.
    environment = {**os.environ, "PYTHONPATH": str(root), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "PIPELINE_TRACKING_TIMEOUT": "60"}
    done = subprocess.run([sys.executable, "-c", ISOLATED, str(tmp_path / "runs")], env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout) == {"mlflow": [], "same": [True, True], "state": "delivered"}
    assert done.stderr == b""


def test_with_tracking_off_nothing_is_started_and_the_bundle_says_so(ended: Run, settings_for: Callable[..., Settings]) -> None:
    settings = settings_for(ended.bundle.parent, tracking="off")
    assert run_with(settings, ended) == []
    assert delivery(ended) == {"state": "off"}
    assert not (ended.bundle.parent / "mlflow.db").exists()


def test_what_others_delivered_stays_in_the_file(ended: Run, settings_for: Callable[..., Settings]) -> None:
    (ended.bundle / "delivery.json").write_text('{"lineage": {"state": "delivered"}}')
    run_with(settings_for(ended.bundle.parent, tracking="off"), ended)
    assert json.loads((ended.bundle / "delivery.json").read_text()) == {"lineage": {"state": "delivered"}, "experiments": {"state": "off"}}


def test_a_file_that_is_no_database_is_said_once_and_left_alone(ended: Run, settings_for: Callable[..., Settings]) -> None:
    database = ended.bundle.parent / "mlflow.db"
    database.write_bytes(b"not a database" * 100)
    with taking_at_most(8):
        (error,) = run_with(settings_for(ended.bundle.parent, tracking_timeout=60), ended)
    assert isinstance(error, BackendError)
    assert "file is not a database" in error.message
    assert delivery(ended)["state"] == "failed"
    assert ended.telemetry_lost == {"experiments": 1}
    assert database.read_bytes() == b"not a database" * 100


@pytest.mark.slow
def test_a_database_that_someone_holds_is_delivered_later(ended: Run, settings_for: Callable[..., Settings], ready_store: Callable[[Path], None]) -> None:
    ready_store(ended.bundle.parent)
    settings = settings_for(ended.bundle.parent, tracking_timeout=60)
    with closing(sqlite3.connect(ended.bundle.parent / "mlflow.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        (error,) = run_with(settings, ended)
    assert "is locked" in str(error)
    assert delivery(ended)["state"] == "pending"
    (waits,) = LostRuns(settings).take()
    assert (waits[0], waits[1]["run_id"], waits[1]["status"]) == (ended.bundle, str(ended.id), "FAILED")
    LostRuns(settings).deliver()
    assert delivery(ended)["state"] == "delivered"
    assert LostRuns(settings).take() == []


def test_what_waits_names_no_folder_and_finds_its_figures_in_the_lake_that_is_there(tmp_path: Path, ended: Run, settings_for: Callable[..., Settings]) -> None:
    there, gone = tmp_path / "lake" / "gold" / "a.png", tmp_path / "lake" / "gold" / "b.png"
    there.parent.mkdir(parents=True)
    there.touch()
    settings = settings_for(tmp_path / "runs", lake=str(tmp_path / "lake"))
    keep(ended.bundle, {**run_record(ended, settings, tmp_path / "lake"), "figures": [str(there), str(gone)]}, tmp_path / "lake")
    assert str(tmp_path) not in (ended.bundle / RECORD).read_text()
    ((_, record),) = LostRuns(settings).take()
    assert record["figures"] == [str(there)]


def test_figures_of_a_lake_on_s3_wait_in_the_bundle_as_the_run_takes_its_own_files_along(
    tmp_path: Path, modelled: Callable[..., Run], settings_for: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "PATIENT_SECONDS", 0.0)
    monkeypatch.setattr(experiments, "PATIENT_SECONDS_A_RUN", 0.001)
    run, staging = modelled(tmp_path / "runs", 1), tmp_path / "lake"
    settings = settings_for(tmp_path / "runs", lake="s3://bucket/lake", tracking_timeout=0.001)
    (error,) = run_with(settings, run, staging)
    assert "no answer within" in str(error)
    assert str(tmp_path) not in (run.bundle / RECORD).read_text()
    shutil.rmtree(staging)
    for _ in range(2):  # still not delivered: it is kept again
        with pytest.raises(BackendError):
            LostRuns(settings).deliver()
        ((_, record),) = LostRuns(settings).take()
        assert [Path(figure).read_bytes() for figure in record["figures"]] == [b"\x89PNG"] * 2
    forget(run.bundle)
    assert not [path for path in run.bundle.iterdir() if path.name.startswith(".experiments")]


def test_a_run_takes_the_two_along_that_wait_longest_and_somebody_who_asks_gets_all(tmp_path: Path, settings_for: Callable[..., Settings]) -> None:
    settings = settings_for(tmp_path)
    ended = [example_run(tmp_path / name, State.FAILED, number=number) for number, name in enumerate(("c", "archive/a", "b"), 1)]
    for run in ended:
        keep(run.bundle, run_record(run, settings, tmp_path), tmp_path)
    assert [bundle.name for bundle, _ in LostRuns(settings).take()] == ["a", "b"]
    assert [bundle.name for bundle, _ in LostRuns(settings).take(waiting=None)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("state", "timeout", "seconds"), [(State.COMPLETED, 2.0, 4.0), (State.FAILED, 0.5, 2.5), (State.ABORTED, 2.0, 2.0), (State.ABORTED, 60, 2.0)]
)
def test_a_run_waits_two_seconds_and_two_percent_of_its_time_and_an_aborted_one_no_more_than_two(
    ended: Run, tmp_path: Path, settings_for: Callable[..., Settings], state: State, timeout: float, seconds: float
) -> None:
    ended.state = state
    assert _allowance(ended, target(settings_for(tmp_path, tracking_timeout=timeout)), 100.0) == pytest.approx(seconds)


def test_a_run_of_a_day_does_not_wait_half_an_hour_for_a_store_that_is_away(ended: Run, tmp_path: Path, settings_for: Callable[..., Settings]) -> None:
    ended.state = State.COMPLETED
    assert _allowance(ended, target(settings_for(tmp_path, tracking_timeout=2.0)), 86_400.0) == 32.0


@pytest.mark.parametrize("record", ["[]", '{"x": 1}', "null", "not JSON", "[" * 100_000, '{"figures": 3}'])
def test_a_damaged_record_keeps_nobody_else_waiting(tmp_path: Path, ended: Run, settings_for: Callable[..., Settings], record: str) -> None:
    settings = settings_for(ended.bundle.parent)
    for name in ("0", "1", "2"):
        (ended.bundle.parent / name).mkdir()
        (ended.bundle.parent / name / RECORD).write_text(record)
    keep(ended.bundle, run_record(ended, settings, tmp_path), tmp_path)
    assert [bundle for bundle, _ in LostRuns(settings).take()] == [ended.bundle]


def test_a_record_from_elsewhere_sends_no_file_but_the_lakes(tmp_path: Path, ended: Run, settings_for: Callable[..., Settings]) -> None:
    lake, secret = tmp_path / "lake", tmp_path / "secret"
    lake.mkdir()
    secret.touch()
    (lake / "link").symlink_to(secret)
    settings = settings_for(ended.bundle.parent, lake=str(lake))
    keep(ended.bundle, run_record(ended, settings, lake), lake)
    told = json.loads((ended.bundle / RECORD).read_text())
    (ended.bundle / RECORD).write_text(json.dumps({**told, "figures": [str(secret), "../secret", "link", ".experiments/../../secret", ".experiments/link"]}))
    ((_, record),) = LostRuns(settings).take()
    assert record["figures"] == []


def test_a_folder_that_cannot_be_written_is_said(ended: Run, settings_for: Callable[..., Settings]) -> None:
    (ended.bundle.parent / "mlflow.db").mkdir()
    (error,) = run_with(settings_for(ended.bundle.parent, tracking_timeout=60), ended)
    assert "unable to open database file" in str(error)


def test_a_server_that_never_answers_costs_two_seconds_and_no_password_is_told(tmp_path: Path, black_hole: str, settings_for: Callable[..., Settings]) -> None:
    def seconds_of(number: int) -> float:
        run = example_run(tmp_path / f"runs {number}" / "run", State.FAILED)
        started = time.monotonic()
        (error,) = run_with(settings_for(run.bundle.parent, mlflow_tracking_uri=black_hole), run)
        took = time.monotonic() - started
        told = json.dumps(delivery(run)) + str(error) + repr(error.facts)
        assert delivery(run)["state"] == "pending"
        assert "**********@127.0.0.1" in told
        assert "opensesame" not in told
        return took

    # A busy machine only adds to it: a run that waits too long does so each time.
    assert any(seconds_of(number) < 2.5 for number in range(3))


def test_a_hanging_worker_is_killed_at_the_deadline(tmp_path: Path) -> None:
    with taking_at_most(10), Worker(Target(uri=f"sqlite:///{tmp_path}/mlflow.db", seconds=0.3)) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        refusal = worker.ask([])["refusal"]
    assert refusal == {"retry_is_safe": True, "error": "", "message": "no answer within 0.3 s"}
    assert is_gone(worker.pid)


def test_a_worker_that_was_killed_is_told_by_how_it_ended(tmp_path: Path) -> None:
    with Worker(Target(uri=f"sqlite:///{tmp_path}/mlflow.db", seconds=5)) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        refusal = worker.ask([])["refusal"]
    assert refusal["message"] == "the worker ended with code -9 and no answer"


def test_a_worker_that_can_not_be_started_is_told_when_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with Worker(Target(uri="sqlite:///mlflow.db", seconds=5)) as worker:
        assert worker.ask([])["refusal"]["message"] == "the worker could not be started: No such file or directory"


@pytest.mark.parametrize("after_seconds", [0.01, 0.1, 0.25])
def test_a_ctrl_c_while_waiting_leaves_no_process_and_no_scratch_folder(after_seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), Worker(Target(uri=f"sqlite:///{tmp_path}/mlflow.db", seconds=10)) as worker:
            signal.setitimer(signal.ITIMER_REAL, after_seconds)
            worker.ask([])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert is_gone(worker.pid)
    assert not list(tmp_path.glob("goldtrace-*"))


def test_a_worker_whose_run_was_killed_leaves_by_itself(tmp_path: Path, root: Path) -> None:
    command = [sys.executable, "-c", ORPHAN, f"sqlite:///{tmp_path}/mlflow.db"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, check=False)
    deadline = time.monotonic() + 5
    while not has_ended(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert has_ended(int(done.stdout))
    assert not list(tmp_path.glob("goldtrace-*"))


def _environment_of(pid: int) -> dict[str, str]:
    """What another process was started with. Until it has become another program it shows its parent's."""
    mine, deadline = Path("/proc/self/cmdline").read_bytes(), time.monotonic() + 20
    while Path(f"/proc/{pid}/cmdline").read_bytes() in (mine, b""):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return dict(line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if line)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the environment of another process is read from /proc")
def test_a_worker_has_telemetry_off_and_nothing_of_the_callers_tracing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_RUN_ID", "somebody-elses")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with Worker(Target(uri=uri, seconds=5)) as worker:
        environment = _environment_of(worker.pid)
    assert (environment["MLFLOW_DISABLE_TELEMETRY"], environment["DO_NOT_TRACK"], environment["MLFLOW_TRACKING_URI"]) == ("true", "true", uri)
    assert not {"OTEL_EXPORTER_OTLP_ENDPOINT", "MLFLOW_RUN_ID"} & environment.keys()


def test_a_run_that_is_torn_down_while_going_on_is_not_told(tmp_path: Path, ended: Run, settings_for: Callable[..., Settings]) -> None:
    ended.state = State.RUNNING
    assert run_with(settings_for(ended.bundle.parent), ended) == []
    assert not (ended.bundle / "delivery.json").exists()


def test_lost_runs_wait_for_nothing_when_tracking_is_off(tmp_path: Path, settings_for: Callable[..., Settings]) -> None:
    lost = LostRuns(settings_for(tmp_path, tracking="off"))
    lost.close(tmp_path / "no-such-bundle", 0, "gone")
    assert lost.take() == []
    lost.deliver()


@pytest.mark.parametrize(
    ("uri", "seconds"),
    [
        (None, 10),
        ("sqlite:////data/mlflow.db", 10),
        ("/data/mlruns", 10),
        ("file:///data/mlruns", 10),
        ("http://127.0.0.1:5000", 2),
        ("postgresql://host/mlflow", 2),
        ("databricks", 10),
    ],
)
def test_a_remote_store_gets_two_seconds_at_most(uri: str | None, seconds: float, tmp_path: Path, settings_for: Callable[..., Settings]) -> None:
    assert target(settings_for(tmp_path, mlflow_tracking_uri=uri, tracking_timeout=10)).seconds == seconds


# ---------------------------------------------------------------------------------------------- the page of a run

TAKEN: Answer = {"delivered": [{"run_id": "ours", "experiment_id": "7", "parent_run_id": "theirs", "runs": {"ols": "a model's"}}], "refusal": None}


@pytest.mark.parametrize(
    ("store", "page", "is_known"),
    [
        (None, None, False),
        ("sqlite:////data/mlflow.db", None, False),
        ("mlruns", None, False),
        ("http://127.0.0.1:5081", None, True),
        ("http://localhost:5081/", None, True),
        ("http://ann:secret@127.0.0.1:5081", None, True),
        ("http://127.0.0.1:5082", None, False),
        ("https://mlflow.example.com", None, False),
        ("https://mlflow.internal", "https://mlflow.example.com", True),
        ("dynamodb://cdp-dev-mlflow-backend", None, False),
        ("dynamodb://cdp-dev-mlflow-backend", "https://mlflow.example.com", True),
        ("sqlite:////data/mlflow.db", "https://mlflow.example.com", False),
    ],
)
def test_a_run_knows_its_page_when_links_lead_to_the_server_that_took_it(
    store: str | None, page: str | None, is_known: bool, tmp_path: Path, settings_for: Callable[..., Settings]
) -> None:
    settings = settings_for(tmp_path, mlflow_tracking_uri=store, mlflow_url=page)
    known = ExperimentRun(experiment_id="7", run_id="theirs", models={"ols": "a model's"})
    assert _place_of(TAKEN, settings) == (known if is_known else None)


def test_a_moved_port_moves_the_page_and_names_no_other_server(tmp_path: Path) -> None:
    moved = {"MLFLOW_PORT": "5099", "MLFLOW_TRACKING_URI": "http://127.0.0.1:5099"}
    assert _place_of(TAKEN, load(moved, tmp_path / "no.env"))
    assert _place_of(TAKEN, load({**moved, "MLFLOW_TRACKING_URI": "http://127.0.0.1:5081"}, tmp_path / "no.env")) is None


def test_a_run_that_was_not_taken_has_no_page(tmp_path: Path, settings_for: Callable[..., Settings]) -> None:
    refused: Answer = {"delivered": [], "refusal": {"retry_is_safe": True, "error": "", "message": "away"}}
    assert _place_of(refused, settings_for(tmp_path, mlflow_tracking_uri="http://127.0.0.1:5081")) is None


@pytest.mark.slow
def test_the_file_beside_the_runs_has_no_page(ended: Run, settings_for: Callable[..., Settings], ready_store: Callable[[Path], None]) -> None:
    ready_store(ended.bundle.parent)
    run_with(settings_for(ended.bundle.parent, tracking_timeout=60), ended)
    assert (delivery(ended)["state"], delivery(ended)["experiment_id"], ended.experiment) == ("delivered", "2", None)
