"""What the tests of telemetry share: runs with a bundle, and telling hooks of a run that is over."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from pipeline.records import Gate, Hook, Run, State
from pipeline.telemetry import bundle
from pipeline.telemetry.guard import Hooks
from pipeline.testing import example_run


def stored(
    runs: Path, state: State = State.COMPLETED, *, gate: Gate | None = None, number: int = 1, pipeline: str | None = None, environment: str = "test"
) -> Run:
    """An example run whose bundle has its manifest."""
    run = example_run(runs / "new", state, gate=gate, number=number)
    run.bundle.rmdir()
    run.bundle = bundle.create(runs, run.id)
    run.environment = environment
    run.pipeline = replace(run.pipeline, name=pipeline) if pipeline else run.pipeline
    bundle.write_manifest(run)
    return run


def tell(run: Run, *hooks: Hook) -> Run:
    """Tell hooks of a run and its steps, as the engine does."""
    guarded = Hooks(hooks, on_failure=_raise)
    with guarded.run(run):
        for step in run.steps:
            with guarded.step(run, step):
                pass
    assert run.telemetry_lost == {}
    return run


def _raise(run: Run, signal: str, error: Exception) -> None:
    raise error


def python(code: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python in a process of its own."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60, env=variables)


ROOT = Path(__file__).resolve().parents[2]
