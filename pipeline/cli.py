"""The `pipeline` command: parses, calls, prints. Results go to stdout, logs and progress to stderr."""

from __future__ import annotations

import errno
import gc
import json
import os
import sys
from contextlib import suppress
from datetime import date, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pipeline import cli_mlflow, cli_replay, cli_stack, errors
from pipeline._version import __version__
from pipeline.cli_doctor import EPILOG, doctor
from pipeline.records import Gate

app = typer.Typer(
    name="pipeline",
    help="Run a pipeline whose every run explains itself, and look at its runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
contracts_app = typer.Typer(help="Check and document the contracts of a pipeline's datasets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(contracts_app, name="contracts")
app.add_typer(cli_stack.app, name="stack")
app.add_typer(cli_mlflow.app, name="mlflow")

AppOption = Annotated[str | None, typer.Option("--app", help="The pipeline, as package.module:NAME.", show_default="PIPELINE_APP, else the study")]
LakeOption = Annotated[str | None, typer.Option("--lake", help="The lake: a folder, or s3://bucket/prefix.", show_default="PIPELINE_LAKE, else lake")]
RunsOption = Annotated[Path | None, typer.Option("--runs", help="The folder of bundles.", show_default="PIPELINE_RUNS, else runs")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="An id, the beginning of one, last, or last~1.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _date(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day, of no time zone
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no date such as 2026-11-20") from error


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"goldtrace {__version__}")
        raise typer.Exit


@app.callback()
def _options(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    del version


@app.command(epilog="Examples: pipeline run · pipeline run --input data/2026-11 --as-of 2026-11-20 · pipeline run --until features")
def run(
    input: Annotated[Path | None, typer.Option("--input", help="The folder with the input files.", show_default="PIPELINE_INPUT, else the sample")] = None,  # noqa: A002 - the option's name
    lake: LakeOption = None,
    until: Annotated[str | None, typer.Option("--until", metavar="STEP", help="Stop after this step, and run only what it needs.")] = None,
    as_of: Annotated[date | None, typer.Option("--as-of", metavar="YYYY-MM-DD", parser=_date, help="The nominal date: rows after it are set aside.")] = None,
    wait: Annotated[float, typer.Option("--wait", min=0, metavar="SECONDS", help="Wait for the lake when another run holds it.")] = 0.0,
    runs_folder: RunsOption = None,
    app_name: AppOption = None,
) -> None:
    """Run the pipeline once, and leave a bundle and a report."""
    from pipeline import api
    from pipeline.engine.runner import exit_code
    from pipeline.report.tables import summary
    from pipeline.telemetry import bundle

    done = api.run(until=until, as_of=as_of, wait=wait, input=input, lake=lake, runs=runs_folder, app=app_name)
    _end(summary(bundle.of(done)), exit_code(done))


@app.command(epilog="Examples: pipeline runs · pipeline runs --limit 5 --json")
def runs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    runs_folder: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    from pipeline.report.tables import runs_json, runs_table
    from pipeline.telemetry import bundle

    folder = _runs(runs_folder)
    found = bundle.list_bundles(folder, limit)
    if found or as_json or folder.is_dir():
        _print_json(runs_json(found)) if as_json else typer.echo(runs_table(found))
    else:
        typer.echo(f"There are no runs yet, as there is no folder {folder}: `pipeline run` makes both.")


@app.command(epilog="Examples: pipeline show last · pipeline show 019abc --json")
def show(run_id: RunArgument = "last", runs_folder: RunsOption = None, as_json: JsonOption = False) -> None:
    """Show one run: state, steps, rows, checks, estimates."""
    from pipeline.report.tables import run_text
    from pipeline.telemetry import bundle

    found = bundle.find(_runs(runs_folder), run_id)
    _print_json({**found.manifest, "state": found.state.value}) if as_json else typer.echo(run_text(found))


@app.command(epilog="Example: pipeline report last~1")
def report(run_id: RunArgument = "last", runs_folder: RunsOption = None) -> None:
    """Write a run's report.html again, from its bundle alone, and print where it is."""
    from pipeline.report.html import write_report
    from pipeline.telemetry import bundle

    typer.echo(str(write_report(bundle.find(_runs(runs_folder), run_id).path)))


@app.command(epilog="Example: pipeline reap --json")
def reap(runs_folder: RunsOption = None, as_json: JsonOption = False) -> None:
    """Close the runs whose process is gone: they become LOST."""
    from pipeline import api

    closed = api.reap(_runs(runs_folder))
    _print_json([{"run_id": found.id, "state": found.state.value} for found in closed]) if as_json else typer.echo(
        "\n".join(f"{found.id} LOST" for found in closed) or "no run is lost"
    )


@app.command(epilog="Example: pipeline synth --subjects 200 --weeks 52 --seed 7 --out data")
def synth(
    out: Annotated[Path, typer.Option("--out", help="The folder to write to; new or empty.")],
    subjects: Annotated[int, typer.Option("--subjects", min=1, help="How many people.")] = 40,
    weeks: Annotated[int, typer.Option("--weeks", min=1, help="How many weeks.")] = 12,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same bytes.")] = 1,
    app_name: AppOption = None,
) -> None:
    """Make realistic input files of any size."""
    from pipeline import api

    for path in api.synthesize(out, subjects=subjects, weeks=weeks, seed=seed, app=app_name):
        typer.echo(str(path))


@app.command(epilog="Examples: pipeline demo · pipeline demo --days 7 --fresh · pipeline demo --remove")
def demo(
    days: Annotated[int, typer.Option("--days", min=1, help="How many days back from now.")] = 14,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the demo's runs first, and make all of them anew.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Only delete the demo's runs, its lake and its input.")] = False,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Enter the runs in MLflow too, which takes longer.")] = False,
    runs_folder: RunsOption = None,
    app_name: AppOption = None,
) -> None:
    """Make two weeks of dated runs, one of them failed, one RED, to have something to look at."""
    from pipeline import cli_demo
    from pipeline.demo import Demo

    found = Demo.of(runs=runs_folder, app=app_name, mlflow=mlflow)
    if fresh or remove:
        cli_demo.remove(found)
    if not remove:
        raise typer.Exit(cli_demo.make(found, days))


@app.command(epilog="Example: pipeline quality --out quality")
def quality(
    out: Annotated[Path, typer.Option("--out", help="Where Data Docs go.")] = Path("quality"),
    lake: LakeOption = None,
    app_name: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate the lake's current tables with Great Expectations, and build its Data Docs."""
    from pipeline import api

    verdict = api.quality(out, lake=lake, app=app_name)
    _print_json(verdict.as_json()) if as_json else typer.echo(verdict.text())
    raise typer.Exit(errors.GateError.exit_code if verdict.gate is Gate.RED else 0)


app.command(epilog=EPILOG)(doctor)
app.command(epilog=cli_replay.EPILOG)(cli_replay.replay)


@contracts_app.command("check", epilog="Examples: pipeline contracts check · pipeline contracts check my_pipeline/contracts")
def contracts_check(folder: Annotated[Path | None, typer.Argument(help="A folder of contracts.", show_default="the pipeline's own")] = None) -> None:
    """Check contracts against their schema; prints every problem with file and line."""
    from pipeline import api

    problems, count = api.check_contracts(folder)
    for problem in problems:
        typer.echo(f"{problem}\n  hint: {problem.hint}" if problem.hint else str(problem))
    if problems:
        raise typer.Exit(errors.DeclarationError.exit_code)
    typer.echo(f"{count} contracts are right")


@contracts_app.command("docs", epilog="Example: pipeline contracts docs > datasets.md")
def contracts_docs(app_name: AppOption = None) -> None:
    """Print the contracts as a Markdown page: datasets, columns, units, rules."""
    from pipeline import api
    from pipeline.quality.contract_docs import contracts_markdown
    from pipeline.settings import load

    typer.echo(contracts_markdown(api.load_app(load(app=app_name).app).contracts))


def _runs(folder: Path | None) -> Path:
    from pipeline.settings import load

    return load(runs=folder).runs


def _print_json(value: Any) -> None:
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    typer.echo(json.dumps(value, indent=2, ensure_ascii=not is_unicode))


def _end(text: str, code: int) -> NoReturn:
    """Print what a run came to, and end with its code: that nobody reads the text any more is no failure of the run's."""
    try:
        typer.echo(text)
    except OSError as error:
        if error.errno != errno.EPIPE:
            _tell_unprinted(error)
        _drop_output()
    raise typer.Exit(code)


def _tell_unprinted(error: OSError) -> None:
    with suppress(OSError):
        typer.echo(f"error: the output can't be written: {error.strerror}", err=True)


def _drop_output() -> None:
    """Let what is still in the output's buffer go nowhere: at the process's end it would be tried once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_standard_streams() -> None:
    """Give a closed stdin, stdout or stderr a place to go, and let no character be one too many.

    Without such a place the next file that is opened takes the number, and what libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a Latin-1 terminal has no ✓, and a file's name may be no Unicode


def _collect_less() -> None:
    """Spare a short process most of its garbage collections: among a hundred thousand objects of imported libraries they find nothing.

    On the sample they take .2 s of 3.7 s of CPU time (`docs/performance.md`). Rows are DuckDB's, outside of Python's heap.
    """
    gc.set_threshold(100_000, 50, 100)


def main() -> None:
    """The command's entry: our errors become two lines on stderr and their exit code."""
    _collect_less()
    _open_standard_streams()
    try:
        app()
    except errors.GoldtraceError as error:
        typer.echo(f"error: {error.message}", err=True)
        if error.hint:
            typer.echo(f"hint: {error.hint} (docs/errors.md#{error.slug})", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is not None:
            raise  # about a file that nobody expected to be a problem: the traceback says where
        _tell_unprinted(error)
        _drop_output()
        sys.exit(1)
