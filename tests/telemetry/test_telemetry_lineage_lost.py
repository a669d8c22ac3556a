import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import LakeError
from pipeline.records import Run, State
from pipeline.telemetry import bundle
from pipeline.telemetry.lineage import FILE, close
from pipeline.testing import example_run
from tests.telemetry.lineage_support import TERMINAL, Event, close_lost, dataset, events, facet, find, kill, kinds

CLOSED = ["START example", "START weight", "COMPLETE weight", "START features", "ABORT features", "ABORT example"]
KILLED = """
import os, signal, sys, time
from pathlib import Path
from pipeline.records import State
from pipeline.telemetry import bundle
from pipeline.telemetry.lineage import LineageHook
from pipeline.settings import load
from pipeline.testing import example_run

run = example_run(Path(sys.argv[1]), State.RUNNING)
hook = LineageHook(load({}, dotenv=Path("no.env")))
whole, first, second = hook.run(run), hook.step(run, run.steps[0]), hook.step(run, run.steps[1])
whole.__enter__()
if sys.argv[2] == "first":
    run.steps = run.steps[:1]
    run.steps[0].state, run.steps[0].ended_ns = State.RUNNING, None
first.__enter__()
if sys.argv[2] == "second":
    first.__exit__(None, None, None)
    second.__enter__()
bundle.write_manifest(run)
deadline = time.monotonic() + 30
while (run.bundle / "lineage.ndjson").read_bytes().count(b'"START"') < 2 and time.monotonic() < deadline:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Run:
    """A run that was killed in its second step."""
    run = example_run(tmp_path / "bundle", State.RUNNING)
    kill(run)
    return run


def test_the_open_step_is_aborted_and_then_the_pipeline(killed: Run) -> None:
    before = events(killed.bundle)
    told = close_lost(killed)
    assert kinds(told) == CLOSED
    assert told[:4] == before


def test_the_end_is_the_last_sign_of_life_with_the_reason(killed: Run) -> None:
    *_, step, pipeline = close_lost(killed, seconds=2)
    for event in (step, pipeline):
        assert event["eventTime"] == "2026-11-03T06:00:02.000000Z"
        assert facet(event, "errorMessage")["message"] == "step features: the process that ran it is gone"
        assert facet(event, "goldtrace")["state"] == "LOST"


def test_nothing_ends_before_it_began(killed: Run) -> None:
    told = close_lost(killed, seconds=-60)
    assert find(told, "ABORT features")["eventTime"] == find(told, "START features")["eventTime"]
    assert told[-1]["eventTime"] == told[0]["eventTime"]


def test_what_is_closed_has_the_jobs_inputs_and_outputs_of_its_start(killed: Run) -> None:
    told = close_lost(killed)
    start, end = find(told, "START features"), find(told, "ABORT features")
    for key in ("job", "inputs", "outputs", "producer", "schemaURL"):
        assert end[key] == start[key]
    assert start["run"]["facets"].keys() - end["run"]["facets"].keys() == set()


def test_closing_twice_changes_nothing(killed: Run) -> None:
    once = close_lost(killed)
    assert close_lost(killed, seconds=9) == once


def test_a_run_that_ended_is_left_as_it_is(tmp_path: Path) -> None:
    run = example_run(tmp_path / "bundle")
    bundle.write_manifest(run)
    (run.bundle / FILE).write_text(json.dumps({"eventType": "COMPLETE", "run": {"runId": str(run.id)}}) + "\n")
    before = (run.bundle / FILE).read_bytes()
    close(run.bundle, run.started_ns, "gone")
    assert (run.bundle / FILE).read_bytes() == before


@pytest.mark.parametrize("lines", [0, 1, 2, 3])
def test_what_the_file_lacks_is_made_up_from_the_manifest(killed: Run, lines: int) -> None:
    path = killed.bundle / FILE
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    assert kinds(close_lost(killed)) == CLOSED


def test_a_bundle_without_a_file_of_lineage_is_closed_too(killed: Run) -> None:
    (killed.bundle / FILE).unlink()
    told = close_lost(killed)
    assert kinds(told) == CLOSED
    assert told[0]["eventTime"] == "2026-11-03T06:00:00.000000Z"
    assert facet(told[0], "goldtrace")["traceId"] == killed.id.hex
    assert facet(told[1], "parent")["run"]["runId"] == str(killed.id)
    assert dataset(told[1], "input/weight")["facets"]["documentation"]["description"] == "The scale's file."


def test_a_run_whose_telemetry_was_off_gets_no_lineage(killed: Run) -> None:
    (killed.bundle / FILE).unlink()
    manifest = json.loads((killed.bundle / bundle.MANIFEST).read_text())
    manifest["settings"] |= {"PIPELINE_TELEMETRY": "off"}
    bundle.write_json(killed.bundle / bundle.MANIFEST, manifest)
    close(killed.bundle, killed.started_ns, "gone")
    assert not (killed.bundle / FILE).exists()


def test_what_is_made_up_stands_in_the_namespace_of_the_killed_run(killed: Run) -> None:
    (killed.bundle / FILE).unlink()
    manifest = json.loads((killed.bundle / bundle.MANIFEST).read_text())
    manifest["settings"] |= {"OPENLINEAGE_NAMESPACE": "nightly", "PIPELINE_REPORT_URL": "http://reports.example.org", "OPENLINEAGE_API_KEY": "**********"}
    bundle.write_json(killed.bundle / bundle.MANIFEST, manifest)
    told = close_lost(killed)
    assert {event["job"]["namespace"] for event in told} == {"nightly"}
    assert facet(told[0], "goldtrace")["reportUrl"].startswith("http://reports.example.org/")


def test_a_run_that_was_killed_before_its_first_step_is_closed(killed: Run) -> None:
    (killed.bundle / FILE).unlink()
    manifest = json.loads((killed.bundle / bundle.MANIFEST).read_text())
    bundle.write_json(killed.bundle / bundle.MANIFEST, {**manifest, "steps": []})
    *_, last = told = close_lost(killed)
    assert kinds(told) == ["START example", "ABORT example"]
    assert facet(last, "errorMessage")["message"] == "the process that ran it is gone"


def test_a_broken_line_in_the_middle_is_an_error_that_says_what_to_do(killed: Run) -> None:
    path = killed.bundle / FILE
    path.write_text("{\n" + path.read_text())
    with pytest.raises(LakeError, match=r"lineage\.ndjson") as failed:
        close_lost(killed)
    assert "delete" in failed.value.hint


@settings(max_examples=30)
@given(cut=st.floats(0, 1))
def test_wherever_the_file_was_cut_every_run_ends_once_and_the_pipeline_last(cut: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = example_run(Path(folder) / "bundle", State.RUNNING)
        bundle.write_manifest(run)
        text = WRITTEN.encode()
        (run.bundle / FILE).write_bytes(text[: round(cut * len(text))])
        told = close_lost(run)
    _assert_all_ended(told)
    assert kinds(told)[0] == "START example"
    assert kinds(told)[-1] == "ABORT example"


def _assert_all_ended(told: list[Event]) -> None:
    for run_id in {event["run"]["runId"] for event in told}:
        own = [event["eventType"] for event in told if event["run"]["runId"] == run_id]
        assert own[0] == "START"
        assert len(own) == 2
        assert own[1] in TERMINAL


def _written() -> str:
    with tempfile.TemporaryDirectory() as folder:
        run = example_run(Path(folder) / "bundle", State.RUNNING)
        kill(run)
        return (run.bundle / FILE).read_text()


WRITTEN = _written()


@pytest.mark.parametrize(
    ("step", "written", "closed"),
    [
        ("first", ["START example", "START weight"], ["START example", "START weight", "ABORT weight", "ABORT example"]),
        ("second", CLOSED[:4], CLOSED),
    ],
)
def test_a_process_that_is_killed_has_written_what_it_started_and_is_closed(tmp_path: Path, step: str, written: list[str], closed: list[str]) -> None:
    folder = tmp_path / "bundle"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), step], check=False, env=dict(os.environ), timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert kinds(events(folder)) == written
    assert kinds(close_lost(example_run(folder, State.RUNNING))) == closed
