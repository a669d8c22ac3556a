"""What the tests of telemetry share: runs with a bundle, and telling hooks of a run that is over."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.records import Gate, Hook, Run, State
from pipeline.telemetry import bundle, reaper
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


def killed(runs: Path, *, cut_off: bytes = b"", **how: Any) -> Run:
    """A run that was killed in its second step, perhaps in the middle of a line of each file; `how` is as in `stored`."""
    from pipeline.telemetry.logs import LogsHook
    from pipeline.telemetry.tracing import TracesHook

    run = stored(runs, State.RUNNING, **how)
    (run.bundle / bundle.LOCK).touch()
    tell(run, LogsHook(terminal_level="error"), TracesHook())
    # Its first words, and the spans of the first step.
    for name, lines in {bundle.LOGS: 1, bundle.TRACES: 4}.items():
        kept = (run.bundle / name).read_bytes().splitlines(keepends=True)[:lines]
        (run.bundle / name).write_bytes(b"".join(kept) + cut_off)
    if cut_off:
        (run.bundle / bundle.METRICS).write_bytes(cut_off)
    return run


def published(run: Run) -> None:
    """Let the manifest say that the run had published before it was killed, in its last words."""
    whole = example_run(run.bundle / "whole")
    whole.bundle.rmdir()
    whole.id, whole.bundle, whole.environment = run.id, run.bundle, run.environment
    whole.state, whole.ended_ns, whole.success_share_20 = State.RUNNING, None, None
    bundle.write_manifest(whole)


def reap_again(run: Run) -> None:
    """Let a reaper come again to a run that it has closed, as if it had died before it could take the lock file away."""
    (run.bundle / bundle.LOCK).touch()
    assert reaper.reap(run.bundle.parent) == []
    assert not (run.bundle / bundle.LOCK).exists()


def _raise(run: Run, signal: str, error: Exception) -> None:
    raise error


def python(code: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python in a process of its own."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60, env=variables)


ROOT = Path(__file__).resolve().parents[2]
