"""The command `pipeline replay`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

EPILOG = "Examples: pipeline replay · pipeline replay last 019abc · pipeline replay --all --json"


def replay(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs to send whole once more.", show_default="all that waits")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Send all runs once more: to a server that has lost them, or never had them.")] = False,
    runs_folder: Annotated[Path | None, typer.Option("--runs", help="The folder of bundles.", show_default="PIPELINE_RUNS, else runs")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send the lineage that waits in bundles to OPENLINEAGE_URL, oldest run first, and to MLflow the runs that it has not got."""
    from pipeline import api
    from pipeline.errors import BackendError
    from pipeline.report.replay import ReplayProgress, replay_json, replay_text

    progress = ReplayProgress()
    try:
        found = api.replay(runs or (), everything=everything, folder=runs_folder, on_progress=progress)
    finally:
        progress.close()
    typer.echo(json.dumps(replay_json(found), indent=2) if as_json else replay_text(found))
    if found.problem:
        raise found.problem
    if found.failed:
        raise BackendError(f"{found.target} refused a part of the lineage", hint="delivery.json of the run says which events, and why")
