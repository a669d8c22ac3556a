"""Telemetry in processes of its own: killed, seeded, forked, and leaving quickly."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.records import State
from pipeline.telemetry import bundle, reaper
from pipeline.testing import logs, read_lines, spans
from tests.telemetry.telemetry_support import ROOT, python

RUN = """
import sys, time, random, dataclasses, pathlib
random.seed(1)
from pipeline.records import State
from pipeline.settings import load
from pipeline.telemetry import bundle, identity
from pipeline.telemetry.guard import Hooks
from pipeline.telemetry.setup import hooks_for
from pipeline.testing import example_run

run = example_run(pathlib.Path(sys.argv[1]) / "new", State.RUNNING)
run.bundle.rmdir()
run.id = identity.new_id()
run.bundle = bundle.create(pathlib.Path(sys.argv[1]), run.id)
hooks = Hooks([hook for hook in hooks_for(load()) if hook.signal != "lineage"])
def step(name):
    step = next(step for step in run.steps if step.step.name == name)
    step.id = identity.new_id()
    random.seed(1)
    return hooks.step(run, step)
"""

WHOLE = (
    RUN
    + """
with hooks.run(run):
    with step("weight"):
        pass
    run.state = State.COMPLETED
print(run.id.hex)
"""
)

KILLED = (
    RUN
    + """
with bundle.alive(run.bundle):
    bundle.write_manifest(run)
    with hooks.run(run):
        with step("weight"):
            pass
        with step("features"):
            print("in the second step", flush=True)
            time.sleep(60)
"""
)


def test_a_killed_run_keeps_its_finished_spans_and_is_shown_as_lost(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    assert process.stdout
    assert process.stdout.readline() == "in the second step\n"
    (found,) = bundle.list_bundles(tmp_path)
    assert found.state is State.RUNNING
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (found,) = bundle.list_bundles(tmp_path)
    assert found.state is State.LOST
    assert [span["name"] for span in spans(found.path)] == ["read", "write", "check", "weight"]
    assert [record["eventName"] for record in logs(found.path)] == ["run.started", "check.evaluated", "step.finished"]
    assert [closed.manifest["state"] for closed in reaper.reap(tmp_path)] == ["LOST"]


def test_seeding_random_merges_no_traces(tmp_path: Path):
    ids = []
    for _ in range(2):
        done = python(WHOLE, tmp_path)
        assert done.returncode == 0, done.stderr
        ids.append(done.stdout.strip())
    found = [span for path in bundle.folders(tmp_path) for span in spans(path)]
    assert {span["traceId"] for span in found} == set(ids)
    assert len({span["spanId"] for span in found}) == len(found) == 2 * 6


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://10.255.255.1:4318"])
def test_a_backend_that_is_away_costs_the_end_of_a_run_nothing(tmp_path: Path, endpoint: str):
    started = time.monotonic()
    done = python(WHOLE, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert time.monotonic() - started < 8
    assert (done.returncode, done.stdout.strip()) == (0, bundle.folders(tmp_path)[0].name.replace("-", ""))


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"},
        {"OTEL_METRIC_EXPORT_INTERVAL": "1"},
        {"OTEL_PROPAGATORS": "none", "OTEL_SERVICE_NAME": "other"},
    ],
)
def test_the_bundle_is_whole_whatever_the_environment_tells_the_sdk(tmp_path: Path, environment: dict[str, str]):
    done = python(WHOLE, tmp_path, **environment)
    (path,) = bundle.folders(tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(spans(path)) == 6
    assert [len(read_lines(path / name)) for name in (bundle.METRICS, bundle.LOGS)] == [1, 4]
    assert "incomplete" not in done.stderr


def test_a_child_that_a_step_forks_adds_nothing_but_its_own_lines(tmp_path: Path):
    forked = WHOLE.replace("        pass\n", "        import os\n        child = os.fork()\n        if child == 0: sys.exit(0)\n        os.waitpid(child, 0)\n")
    done = python(forked, tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = bundle.folders(tmp_path)
    assert len(spans(path)) == 6
    assert [len(read_lines(path / name)) for name in (bundle.METRICS, bundle.LOGS)] == [1, 4]
