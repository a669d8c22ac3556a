"""What `pipeline demo` says: a line for each run on stderr, and what there is then on stdout."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from pipeline import demo
from pipeline.demo_input import Trouble
from pipeline.engine.runner import exit_code
from pipeline.errors import GoldtraceError
from pipeline.records import Run, State

HOW_TO_LOOK = "look: pipeline runs · pipeline show last · make obs.up"


def make(found: demo.Demo, days: int) -> int:
    """Make what is missing, and return the exit code: 1 when a run came to something else than its input was to bring about."""
    teller = _Teller()
    made = demo.make(found, days, teller)
    if made and made[-1].state is State.ABORTED:
        typer.echo(f"stopped after {_runs(len(made))}; the same command makes the rest")
        return exit_code(made[-1])
    problem = demo.send_lineage(found) if made else None
    if problem is not None:
        _say(f"lineage waits in the bundles ({problem.message}): make lineage.up sends it")
    typer.echo(_there(found, len(made)))
    return GoldtraceError.exit_code if teller.surprises else 0


def remove(found: demo.Demo) -> None:
    """Delete the demo, and say what that does not do."""
    typer.echo(f"{_runs(found.remove())} deleted, with the demo's lake and input; servers that have seen them keep them for as long as they keep anything")


class _Teller:
    """Prints a line for each run."""

    def __init__(self) -> None:
        self.surprises = 0
        self._since = time.monotonic()

    def __call__(self, day: demo.Day, run: Run) -> None:
        before, self._since = self._since, time.monotonic()
        gate = f" {run.gate.value}" if run.gate else ""
        why = "" if day.trouble is Trouble.NONE else f", as meant: {day.trouble.value}"
        if not day.is_as_meant(run):
            self.surprises += 1
            why = f", not as meant: pipeline show {run.id}"
        _say(f"{day.starts:%Y-%m-%d %H:%M} {run.state.value}{gate} in {self._since - before:.1f} s{why}")


def _there(found: demo.Demo, made: int) -> str:
    there = found.bundles()
    span = f", {there[-1].manifest['started_at'][:10]} to {there[0].manifest['started_at'][:10]}" if there else ""
    news = f"{made} new" if made else "none is missing (--fresh makes them anew)"
    return f"{_runs(len(there))} of the demo in {_folder(found.settings.runs)}{span}: {news}\n{HOW_TO_LOOK}"


def _folder(path: Path) -> str:
    return f"{path}/"


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def _say(line: str) -> None:
    typer.echo(line, err=True)
