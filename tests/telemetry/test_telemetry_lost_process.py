"""A real run, killed with `kill -9` in its second step: what the next run makes of its telemetry."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from pipeline.telemetry import bundle
from pipeline.testing import logs, metrics, spans
from tests.telemetry.otlp_support import REQUESTS, parse
from tests.telemetry.telemetry_support import python

# It dies by its own hand, so that it is always in the same place; nothing in it comes to know of that.
KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pipeline import cli
from pipeline.telemetry import setup

class Killing:
    signal = "killing"
    @contextmanager
    def run(self, run):
        yield
    @contextmanager
    def step(self, run, step):
        if len(run.steps) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield

hooks_for = setup.hooks_for
setup.hooks_for = lambda settings: [*hooks_for(settings), Killing()]
sys.argv = ["pipeline", "run", "--until", "traject"]
cli.main()
"""
NEXT = "import sys; from pipeline import cli; sys.argv = ['pipeline', 'run', '--until', 'weight']; cli.main()"


def test_the_next_run_says_what_a_killed_one_could_not(tmp_path: Path):
    where = {name: str(tmp_path / folder) for name, folder in {"PIPELINE_RUNS": "runs", "PIPELINE_LAKE": "lake"}.items()}
    environment = {**where, "PIPELINE_TRACKING": "off", "OPENLINEAGE_URL": "http://127.0.0.1:9"}
    assert python(KILLED, **environment).returncode == -signal.SIGKILL
    (killed,) = bundle.folders(tmp_path / "runs")
    assert not (killed / bundle.METRICS).exists()
    done = python(NEXT, **environment)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((killed / bundle.MANIFEST).read_text())
    assert [step["state"] for step in manifest["steps"]] == ["COMPLETED", "LOST"]
    assert all(parse(killed, name) for name in REQUESTS)
    found = {span["spanId"]: span for span in spans(killed)}
    assert {span.get("parentSpanId") for span in found.values()} - found.keys() == {None}
    assert found[manifest["span_id"]]["status"]["code"] == found[manifest["steps"][1]["span_id"]]["status"]["code"] == 2
    (sample,) = metrics(killed)["goldtrace.runs"]
    assert sample["attributes"] == {"outcome": "lost", "gate": "none"}
    assert logs(killed)[-1]["eventName"] == "run.finished"
