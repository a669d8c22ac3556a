"""What the package offers to Python code: run a pipeline, read a dataset, look at past runs. The commands use the same."""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import BackendError, GoldtraceError, SettingsError, UsageError
from pipeline.records import Check, Gate, Outcome, Pipeline, Run
from pipeline.settings import DELIVERY_SECONDS, TELEMETRY_SHARE, Settings, load

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.quality.yaml_source import Problem
    from pipeline.report.frames import Runs
    from pipeline.telemetry.bundle import Bundle
    from pipeline.telemetry.delivery import OnProgress, Replay

# Tells a folder of Data Docs from one with something else, which would be lost.
_DATA_DOCS_MARK = ".data-docs"
_log = logging.getLogger(__name__)


def load_app(app: str) -> Pipeline:
    """The pipeline that `package.module:NAME` names; the working folder is looked in too.

    Raises:
        SettingsError: there is no such module or name, or it is no pipeline.
    """
    module_name, _, name = app.partition(":")
    if not module_name or not name:
        raise SettingsError(f"PIPELINE_APP is {app!r}", hint="write it as package.module:NAME, e.g. pipeline.study:PIPELINE")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the app's own import is missing something: its traceback says where
        raise SettingsError(f"PIPELINE_APP is {app!r}: there is no module {error.name}", hint="is its folder the working folder, or installed?") from error
    except AttributeError as error:
        raise SettingsError(f"PIPELINE_APP is {app!r}: {module_name} has no {name}", hint="name the variable that holds the pipeline") from error
    if not isinstance(found, Pipeline):
        raise SettingsError(f"PIPELINE_APP is {app!r}: that is a {type(found).__name__}", hint="it has to be what pipeline.define(…) returns")
    return found


def run(
    pipeline: Pipeline | None = None,
    *,
    until: str | None = None,
    as_of: date | None = None,
    wait: float = 0.0,
    at: datetime | None = None,
    settings: Settings | None = None,
    **overrides: Any,
) -> Run:
    """Run a pipeline, leave its bundle and report, and return the run's record; a run that fails raises nothing.

    Args:
        pipeline: what to run; the one that `PIPELINE_APP` names unless given.
        until: stop after this step, and run only what it needs.
        as_of: the nominal date: rows after it are set aside.
        wait: seconds to wait for the lake when another run holds it.
        at: a moment that has been, with its time zone: the run is dated as if it had begun then (`docs/demo.md`).
        settings: all settings; read from the environment and `.env` unless given.
        overrides: single settings by their field's name, e.g. `lake="other"`, `input=Path("data")`.

    Raises:
        UsageError: a setting, the app, a contract or `until` is wrong.
        LakeError: not even a bundle can be written.
    """
    from pipeline.engine.runner import Order, execute
    from pipeline.report.progress import ProgressHook

    settings = settings or load(**overrides)
    pipeline = pipeline or load_app(settings.app)
    # A process may have been started without one.
    hooks = [ProgressHook()] if sys.stderr is not None and sys.stderr.isatty() and not settings.is_plain_terminal else []
    started = time.monotonic()
    done = execute(pipeline, settings, Order(until=until, as_of=as_of, wait=wait, at=at, hooks=hooks, finish=report_on))
    _deliver(done.bundle, settings, _left(done, time.monotonic() - started))
    return done


def _left(run: Run, seconds: float) -> float:
    """What is left of the time that telemetry may hold up a run that took so many seconds: the hooks' was mostly the wait for MLflow."""
    return DELIVERY_SECONDS + TELEMETRY_SHARE * seconds - sum(run.telemetry_seconds.values())


def report_on(run: Run) -> None:
    """Write the run's report. The run is over and its state stands: a report that can't be written must not change it."""
    from pipeline.report.html import write_report

    try:
        write_report(run.bundle)
    except Exception:  # noqa: BLE001 - whatever is wrong with a page, the run is what it is; `pipeline report` shows the same error
        _log.exception("the report could not be written; try: pipeline report %s", run.id)


def _deliver(folder: Path, settings: Settings, seconds: float | None = None) -> None:
    """Send the run's lineage, and what waits from before, in at most 2 s; a signal ends that and nothing else, for the run is over."""
    from pipeline.engine.signals import AbortedError, Signals

    try:
        with Signals() as signals, signals.armed():
            from pipeline.telemetry.delivery import deliver_at_end

            deliver_at_end(folder, settings, seconds)
    except AbortedError:
        return  # what was not sent waits in the bundles
    except Exception:  # noqa: BLE001 - as above: the run is what it is
        _log.exception("the lineage could not be sent; try: pipeline replay")


def replay(
    runs: Sequence[str] = (), *, everything: bool = False, folder: Path | None = None, on_progress: OnProgress | None = None, settings: Settings | None = None
) -> Replay:
    """Send the lineage that waits in bundles, oldest run first, for as long as it takes.

    Runs whose process is gone are closed first, and what MLflow has not got yet is entered there.

    Args:
        runs: runs to send whole once more, delivered or not: ids, beginnings of one, `last`, `last~1`. All that waits unless given.
        everything: all runs once more, for a server that has lost them or never had them.
        folder: the folder of bundles; `PIPELINE_RUNS` unless given.
        on_progress: is told after each event.
        settings: all settings; read from the environment and `.env` unless given.

    Raises:
        UsageError: lineage is turned off, a run is not there or still going on.
        BackendError: the server is away; what waits still waits.
    """
    from pipeline.telemetry import delivery

    settings = settings or load(runs=folder)
    entered = _enter(settings)
    if entered and not runs and not everything and delivery.is_off(settings):
        return delivery.Replay(target="", sent=(), waiting=0, problem=None, entered=entered)
    try:
        return replace(delivery.replay(settings, runs, everything=everything, on_progress=on_progress), entered=entered)
    except GoldtraceError:
        if entered:
            _log.warning("MLflow took %d of the runs that waited; their lineage is another matter:", entered)
        raise


def _enter(settings: Settings) -> int:
    """Close the runs whose process is gone, and enter in MLflow what waits; how many it took."""
    from pipeline.engine.runner import reap as close
    from pipeline.tracking.experiments import LostRuns

    lost = LostRuns(settings)
    try:
        close(settings, lost)
    except BackendError as error:
        _log.warning("%s", error.message)  # MLflow's trouble is none of the lineage's
    return lost.entered


def reap(runs: Path | None = None) -> list[Bundle]:
    """Close the runs whose process is gone and return their bundles, newest first."""
    from pipeline.engine.runner import reap as close

    return close(load(runs=runs))


def synthesize(out: Path, *, subjects: int, weeks: int, seed: int, app: str | None = None) -> list[Path]:
    """Make input files for a pipeline that can, and return them.

    Raises:
        UsageError: the pipeline makes none, or the folder is not empty.
    """
    pipeline = load_app(load(app=app).app)
    if pipeline.generate is None:
        raise UsageError(f"pipeline {pipeline.name} makes no input files", hint="give pipeline.define(…) a function as `generate`")
    pipeline.generate(out, subjects=subjects, weeks=weeks, seed=seed)
    return sorted(out.iterdir())


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What Great Expectations came to over the lake's current tables, and where its pages are."""

    index: Path
    checks: Sequence[Check]

    @property
    def gate(self) -> Gate:
        """The verdict over all checks."""
        from pipeline.quality.gate import decide

        return decide(self.checks)

    def as_json(self) -> dict[str, Any]:
        """The verdict, the counts, and what did not hold."""
        broken = [check for check in self.checks if check.outcome is not Outcome.PASSED]
        return {
            "gate": self.gate.value,
            "checks": len(self.checks),
            "broken": [
                {"dataset": check.dataset, "expectation": check.expectation, "column": check.column, "severity": check.severity.value} for check in broken
            ],
            "index": str(self.index),
        }

    def text(self) -> str:
        """The same for people."""
        from pipeline.quality.gate import gate_words

        return f"{gate_words(self.checks)}\nData Docs: {self.index}"


def quality(out: Path, *, lake: str | None = None, app: str | None = None) -> Quality:
    """Validate the lake's current tables with Great Expectations and write Data Docs to `out`, which is made anew.

    Raises:
        UsageError: the lake is empty, or `out` holds something else.
    """
    from pipeline.engine import duck
    from pipeline.engine.lake import Lake
    from pipeline.quality.data_docs import build_data_docs

    settings = load(lake=lake, app=app)
    contracts, there = load_app(settings.app).contracts, Lake(settings.lake, settings.staging)
    if out.exists() and any(out.iterdir()) and not (out / _DATA_DOCS_MARK).exists():
        raise UsageError(f"{out} holds something else than Data Docs", hint="name a new folder with --out")
    names = [name for name in there.current()["datasets"] if name in contracts and contracts[name].is_table]
    if not names:
        raise UsageError(f"the lake {settings.lake} has no tables of this pipeline", hint="run the pipeline first (make run)")
    with tempfile.TemporaryDirectory() as spill, duck.connect(settings, Path(spill)) as connection, ExitStack() as opened:
        tables = {name: opened.enter_context(there.opened(name))[0].parent for name in names}
        docs = build_data_docs(connection, {name: duck.parquet(folder) for name, folder in tables.items()}, contracts, out)
    (out / _DATA_DOCS_MARK).touch()
    return Quality(index=docs.index, checks=docs.checks)


def check_contracts(folder: Path | None = None) -> tuple[list[Problem], int]:
    """All problems of a folder's contracts (the pipeline's own unless given), and how many contracts there are."""
    from pipeline.quality.contracts import check

    folder = folder or _contracts_folder(load_app(load().app))
    return check(folder), len([path for path in folder.iterdir() if path.suffix in (".yaml", ".yml")]) if folder.is_dir() else 0


def _contracts_folder(pipeline: Pipeline) -> Path:
    return next(contract.path.parent for contract in pipeline.contracts.values() if contract.path is not None)


def read(dataset: str, *, lake: str | None = None) -> pd.DataFrame:
    """The current version of a table in the lake, e.g. `read("silver/weekly_features")`.

    Rows that were set aside are at `quarantine/<dataset>`. Missing numbers are NaN.

    Raises:
        UsageError: the lake has no such table, or its address is none.
        LakeError: the lake can't be read.
    """
    import duckdb

    from pipeline.engine.duck import NOTHING_FETCHED
    from pipeline.engine.lake import Lake

    settings = load(lake=lake)
    there = Lake(settings.lake, settings.staging)
    with there.opened(dataset) as files:
        if any(path.suffix != ".parquet" for path in files):
            raise UsageError(f"{dataset} is a folder of files, not a table", hint=f"they are in {there.place(dataset)}")
        with duckdb.connect(":memory:", config={**NOTHING_FETCHED}) as connection:
            frame: pd.DataFrame = connection.read_parquet([str(path) for path in files]).df()
            return frame


def open_runs(runs: Path | None = None) -> Runs:
    """All bundles of a runs folder as DataFrames; see `pipeline.report.frames.Runs`."""
    from pipeline.report.frames import Runs

    return Runs(runs or load().runs)
