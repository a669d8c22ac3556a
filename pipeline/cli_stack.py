"""The commands `pipeline stack …`: start, stop and look at the observability stack, and build what it shows."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.stack.lifecycle import Started

app = typer.Typer(help="Start, stop and look at the observability stack.", no_args_is_help=True, rich_markup_mode=None)

PartOption = Annotated[str, typer.Option("--part", help="obs: all but MLflow; lineage: Marquez; mlflow: MLflow; all.", metavar="PART")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _part(text: str) -> str:
    from pipeline.stack.services import PARTS

    if text not in PARTS:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(PARTS)}")
    return text


def _say(line: str) -> None:
    typer.echo(line, err=True)


@app.command(epilog="Examples: pipeline stack up · pipeline stack up --part lineage --wait 300")
def up(
    part: PartOption = "obs",
    wait: Annotated[float, typer.Option("--wait", min=1, metavar="SECONDS", help="How long the services may take to be ready.")] = 180.0,
) -> None:
    """Start the stack, wait until it is ready, deliver what older runs left, and say where things are."""
    from pipeline.settings import load
    from pipeline.stack import lifecycle

    settings = load()
    started = lifecycle.up(lifecycle.open_engine(settings), settings, _part(part), wait, _say)
    count = len(started.services)
    typer.echo(
        f"{count} services are ready after {started.seconds:.0f} s" if started.changed else f"{count} services were running already; nothing was changed"
    )
    _deliver(started, settings)
    _hand_over(started, settings)
    _tell(started, settings)


@app.command(epilog="Examples: pipeline stack down · pipeline stack down --part lineage")
def down(part: PartOption = "all") -> None:
    """Stop the stack; what it has stored is kept."""
    from pipeline.settings import load
    from pipeline.stack import lifecycle

    stopped = lifecycle.down(lifecycle.open_engine(load()), _part(part))
    typer.echo(f"stopped {', '.join(stopped)}; the data is kept (`make obs.reset` deletes it)" if stopped else "nothing was running")


@app.command(epilog="Example: pipeline stack reset --yes")
def reset(yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False) -> None:
    """Stop the stack and delete what it has stored; the runs' bundles stay."""
    from pipeline.errors import UsageError
    from pipeline.settings import load
    from pipeline.stack import lifecycle

    engine = lifecycle.open_engine(load())
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("reset deletes data, and there is no terminal to ask on", hint="say so with --yes (make obs.reset ARGS=--yes)")
        _say("Metrics, logs, traces, lineage, Grafana's own data, and MLflow's experiments and models will be deleted:")
        _say(f"{', '.join(engine.volumes()) or 'nothing is there'}.")
        _say("The runs' folder stays, and the next `make obs.up` reads it in again; MLflow's part can't be had back.")
        typer.confirm("Delete?", abort=True, err=True)
    deleted = lifecycle.reset(engine)
    typer.echo(f"deleted {', '.join(deleted)}" if deleted else "there was nothing to delete")


@app.command(epilog="Examples: pipeline stack status · pipeline stack status --json")
def status(as_json: JsonOption = False) -> None:
    """Show each service: state, health, ports, memory."""
    from pipeline.settings import load
    from pipeline.stack import lifecycle

    found = lifecycle.status(lifecycle.open_engine(load()))
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    rows = [("service", "state", "health", "answers", "ports", "memory")]
    for each in found:
        answers = "" if each.answers is None else ("yes" if each.answers else "no")
        rows.append((each.service, each.state, each.health, answers, ", ".join(map(str, each.ports)), _memory(each.memory_bytes, each.memory_limit_bytes)))
    typer.echo(_table(rows))


@app.command(epilog="Examples: pipeline stack logs · pipeline stack logs collector --follow")
def logs(
    service: Annotated[str | None, typer.Argument(metavar="SERVICE", help="One service; all unless given.", show_default=False)] = None,
    tail: Annotated[int, typer.Option("--tail", min=0, help="How many lines of each.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Show the services' logs."""
    from pipeline.settings import load
    from pipeline.stack import lifecycle

    raise typer.Exit(lifecycle.show_logs(lifecycle.open_engine(load()), service, tail=tail, follow=follow))


@app.command(epilog="Examples: pipeline stack build · pipeline stack build --check")
def build(check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a file is not up to date.")] = False) -> None:
    """Write the dashboards and rules that the stack mounts, with the addresses in force."""
    from pipeline.errors import StackError
    from pipeline.settings import load
    from pipeline.stack import build as builder
    from pipeline.stack.lifecycle import find_checkout

    root, settings = find_checkout(Path.cwd()), load()
    if not check:
        written = builder.write(root, settings)
        typer.echo("\n".join(f"wrote {name}" for name in written) or "everything is up to date")
        return
    stale = builder.stale(root, settings)
    if stale:
        raise StackError(f"{', '.join(stale)}: not up to date", hint="pipeline stack build")


def _deliver(started: Started, settings: Settings) -> None:
    """Send the lineage that waits, or all of it to a Marquez that has none."""
    from pipeline import api
    from pipeline.errors import GoldtraceError
    from pipeline.tracking.experiments import machine

    if started.marquez is None or not settings.runs.is_dir():
        return
    if machine(urlsplit(settings.openlineage_url)) != urlsplit(started.marquez).netloc:
        _say(f"note: lineage goes to {_without_password(settings.openlineage_url)} (OPENLINEAGE_URL), and not to this Marquez")
        return
    try:
        sent = api.replay(everything=started.marquez_is_empty, settings=settings)
    except GoldtraceError as error:  # the stack is up, which is what was asked for
        _say(f"note: {error.message}: {error.hint}")
        return
    if sent.sent:
        typer.echo(f"lineage of {_runs(len(sent.sent))} was delivered to Marquez")
    if sent.problem is not None:
        _say(f"note: lineage of {_runs(sent.waiting)} still waits: {sent.problem.message}")
    for each in sent.failed:
        _say(f"note: lineage of run {each.run_id}: {each.entry.detail}")


def _hand_over(started: Started, settings: Settings) -> None:
    """Give the collector what archived bundles hold; the others it reads by itself."""
    from pipeline.telemetry import collector

    folders = collector.waiting(settings.runs, started.collector) if started.collector else []
    if started.collector is None or not folders:
        return
    is_shown = sys.stderr.isatty() and not settings.is_plain_terminal
    with typer.progressbar(length=len(folders), label="archived runs", file=sys.stderr, hidden=not is_shown) as bar:
        found = collector.deliver(folders, started.collector, on_progress=lambda _: bar.update(1))
    if found.runs:
        typer.echo(f"telemetry of {_runs(found.runs, 'archived ')} was handed to the collector")
    if found.problem is not None:
        _say(f"note: telemetry of {_runs(found.waiting, 'archived ')} still waits: {found.problem.message} ({found.problem.hint})")
    if found.troubles:
        more = f" (and {len(found.troubles) - 1} more)" if len(found.troubles) > 1 else ""
        _say(f"note: {found.troubles[0]}{more}")


def _without_password(url: str) -> str:
    from pipeline.settings import mask

    return mask(url)


def _runs(count: int, kind: str = "") -> str:
    return f"1 {kind}run" if count == 1 else f"{count} {kind}runs"


def _tell(started: Started, settings: Settings) -> None:
    """Where things are, and what to do next."""
    from pipeline.stack.preflight import WINDOW_DAYS

    typer.echo("\n" + _table([(title, url, use) for title, url, use in started.addresses]) + "\n")
    times = _run_times(settings.runs)
    old = sum(1 for seconds in times if seconds < time.time() - WINDOW_DAYS * 86400)
    if old and "prometheus" in started.services:
        typer.echo(f"{old} of {_runs(len(times))} began over {WINDOW_DAYS} days ago: Prometheus takes no samples that old (docs/stack.md)")
    if "mlflow" in started.services and settings.mlflow_tracking_uri is None:
        typer.echo(f"runs are sent to MLflow with MLFLOW_TRACKING_URI={settings.mlflow_url} (in .env, or after make run)")
    opened = f"open {started.addresses[0][0]}" if times and started.addresses else "make run"
    typer.echo(f"next: {opened}; make obs.status and make obs.logs look at the services; make obs.down stops them and keeps the data")


def _run_times(runs: Path) -> list[float]:
    """When the runs began, in seconds since the epoch."""
    from pipeline.telemetry import bundle, identity

    ids = [identity.parse_id(path.name) for path in bundle.folders(runs)]
    return [identity.started_ns(id_) / 1e9 for id_ in ids if id_ is not None]


def _memory(used: int | None, limit: int | None) -> str:
    shown = "" if used is None else f"{used / 1024**2:.0f}"
    return f"{shown or '–'} of {limit / 1024**2:.0f} MiB" if limit else (f"{shown} MiB" if shown else "")


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
