"""The command `pipeline doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.stack.doctor_look import Containers

EPILOG = "Examples: pipeline doctor · pipeline doctor --json --timeout 30"


def doctor(
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="How long each server gets to show the run.")] = 15.0,
    runs_folder: Annotated[Path | None, typer.Option("--runs", help="The folder of bundles.", show_default="PIPELINE_RUNS, else runs")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send a canary run through the stack and find it again: names the hop that is broken, and what mends it."""
    from pipeline import api
    from pipeline.settings import load
    from pipeline.stack.doctor import examine
    from pipeline.stack.doctor_text import diagnosis_json, diagnosis_text

    settings = load(runs=runs_folder)
    found = examine(settings, _containers(settings), root=Path.cwd(), timeout=timeout, finish=api.report_on)
    typer.echo(json.dumps(diagnosis_json(found), indent=2) if as_json else diagnosis_text(found))
    found.expect_well()


def _containers(settings: Settings) -> Containers:
    """What the engine says; servers may run without one, or elsewhere."""
    from pipeline.errors import StackError
    from pipeline.stack.doctor_look import Containers, ask_engine
    from pipeline.stack.lifecycle import open_engine

    try:
        return ask_engine(open_engine(settings))
    except StackError as error:
        return Containers(problem=error.message)
