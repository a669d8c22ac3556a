"""Telemetry never costs the run: whatever is wrong with it, the study completes, publishes the same, and says what is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import names
from pipeline.engine.lake import Lake
from pipeline.engine.runner import Order, execute, exit_code
from pipeline.records import Run, State, StepRun
from pipeline.settings import load
from pipeline.study import PIPELINE
from pipeline.telemetry import bundle
from pipeline.testing import read_lines
from tests.end_to_end.end_support import go, manifest, root_without_its_rights

pytestmark = pytest.mark.slow

UNTIL = "traject"


def run_with(*hooks: object) -> Run:
    return execute(PIPELINE, load(tracking="off"), Order(until=UNTIL, hooks=hooks))  # type: ignore[arg-type]


def assert_completed_and_published(run: Run) -> None:
    assert (run.state, exit_code(run), run.failure) == (State.COMPLETED, 0, None)
    assert sorted(Lake("lake").current()["datasets"]) == sorted(run.published) == ["bronze/weight", "silver/subject_trajectories"]


def lost_by_metrics(run: Run) -> dict[str, int]:
    (line,) = read_lines(run.bundle / bundle.METRICS)
    found = {metric["name"]: metric for metric in line["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]}
    points = found[names.TELEMETRY_LOST.name]["sum"]["dataPoints"]
    return {point["attributes"][0]["value"]["stringValue"]: int(point["asInt"]) for point in points}


# ------------------------------------------------------------------------------------------------------ turned off


def test_telemetry_that_is_off_leaves_no_signal_and_publishes_the_same(study_run: Path) -> None:
    run = go(telemetry="off")
    assert {path.name for path in run.bundle.iterdir()} == {"manifest.json", "checks.json", "delivery.json", "report.html"}
    first = Lake(str(study_run / "lake")).current()["datasets"]
    assert {name: version.version for name, version in run.published.items()} == {name: entry["version"] for name, entry in first.items()}
    assert manifest(run)["state"] == "COMPLETED"


# ------------------------------------------------------------------------------------------------------ hooks that fail


class Broken:
    """A hook that raises in one place."""

    signal = "broken"

    def __init__(self, place: str) -> None:
        self._place = place

    def _fail(self, place: str) -> None:
        if place == self._place:
            raise RuntimeError(place)

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        self._fail("run entered")
        yield
        self._fail("run left")

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:
        self._fail("step entered")
        yield
        self._fail("step left")


@pytest.mark.parametrize(("place", "lost"), [("run entered", 1), ("step entered", 2), ("step left", 2), ("run left", 1)])
def test_a_hook_that_raises_is_counted_and_told_once_and_the_run_completes(place: str, lost: int, capfd: pytest.CaptureFixture[str]) -> None:
    run = run_with(Broken(place))
    assert_completed_and_published(run)
    assert (run.telemetry_lost, manifest(run)["telemetry"]["lost"]) == ({"broken": lost}, {"broken": lost})
    assert {signal: count for signal, count in lost_by_metrics(run).items() if count} == {"broken": lost}
    assert capfd.readouterr().err.count("gaps in the broken of this run: RuntimeError: ") == 1
    events = [record["eventName"] for line in read_lines(run.bundle / bundle.LOGS) for record in line["resourceLogs"][0]["scopeLogs"][0]["logRecords"]]
    assert (events.count("telemetry.failed"), events[-1]) == (1, "run.finished")


def test_a_step_that_fails_keeps_its_error_when_a_hook_fails_too(tmp_path: Path) -> None:
    run = execute(PIPELINE, load(tracking="off", input=tmp_path / "nowhere"), Order(hooks=[Broken("run left")]))
    assert run.failure is not None
    assert (run.state, run.failure.type) == (State.FAILED, "input")


# ------------------------------------------------------------------------------------------------------ a bundle that refuses


@pytest.fixture
def in_the_way(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files of the bundle in whose place a folder is, from the run's beginning on."""
    names, create = list[str](), bundle.create

    def create_with_folders(runs: Path, run_id: object) -> Path:
        folder = create(runs, run_id)  # type: ignore[arg-type]
        for name in names:
            (folder / name).mkdir()
        return folder

    monkeypatch.setattr(bundle, "create", create_with_folders)
    return names


FILES = {
    "traces.jsonl": "traces",
    "metrics.jsonl": "metrics",
    "logs.jsonl": "logs",
    "lineage.ndjson": "lineage",
    "delivery.json": "experiments",
    "checks.json": "bundle",
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_the_bundle_that_cannot_be_written_does_not_cost_the_run(in_the_way: list[str], file: str, capfd: pytest.CaptureFixture[str]) -> None:
    in_the_way.append(file)
    run = run_with()
    assert_completed_and_published(run)
    assert run.telemetry_lost == {FILES[file]: 1}
    assert f"gaps in the {FILES[file]} of this run" in capfd.readouterr().err
    assert manifest(run)["state"] == "COMPLETED"
    assert {path.name for path in run.bundle.iterdir()} >= {"manifest.json", *FILES}


class Removing:
    """A hook that takes the bundle away in a step, and puts a file there, so that nothing more can be written."""

    signal = "test"

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        yield

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:
        if run.bundle.is_dir():
            shutil.rmtree(run.bundle)
            run.bundle.write_text("")
        yield


def test_a_bundle_that_is_taken_away_does_not_cost_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    run = run_with(Removing())
    assert_completed_and_published(run)
    assert run.telemetry_lost["bundle"] >= 2
    assert "gaps in the bundle of this run: NotADirectoryError" in capfd.readouterr().err


LOCKED = """
import sys
from contextlib import contextmanager
from pipeline import cli
from pipeline.telemetry import setup

class Locking:
    signal = "test"
    @contextmanager
    def run(self, run):
        run.bundle.chmod(0o555)
        yield
    @contextmanager
    def step(self, run, step):
        yield

hooks_for = setup.hooks_for
setup.hooks_for = lambda settings: [Locking(), *hooks_for(settings)]
sys.argv = ["pipeline", "run", "--until", "traject"]
cli.main()
"""


def test_a_bundle_that_nobody_may_write_does_not_cost_the_run_and_the_command_says_how_it_ended() -> None:
    prefix = root_without_its_rights()
    if prefix is None:
        pytest.skip("runs as root, and setpriv is not there to give up root's right to write anywhere")
    command = [*prefix, sys.executable, "-c", LOCKED]
    done = subprocess.run(command, env={**os.environ, "PIPELINE_TRACKING": "off"}, capture_output=True, text=True, timeout=120, check=False)
    (folder,) = Path("runs").iterdir()
    folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "COMPLETED, gate GREEN" in done.stdout
    assert "Traceback" not in done.stderr
    assert "gaps in the bundle of this run: PermissionError" in done.stderr
    assert sorted(Lake("lake").current()["datasets"]) == ["bronze/weight", "silver/subject_trajectories"]
    assert bundle.read(folder).state is State.LOST  # all that it has is a manifest that says RUNNING, of a process that is gone
    assert json.loads((folder / "manifest.json").read_text())["state"] == "RUNNING"


def test_runs_that_cannot_be_written_at_all_are_refused_before_anything_is_done() -> None:
    Path("runs").write_text("")
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, Path("lake").exists()) == (1, "", False)
    assert "error: a run's folder can't be made in runs" in done.stderr
    assert "hint: set PIPELINE_RUNS" in done.stderr
