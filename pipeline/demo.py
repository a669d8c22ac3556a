"""Two weeks of dated runs, so that the dashboards have something to show: `make demo` (`docs/demo.md`).

They are runs of the real pipeline, made now, one after the other, each with its clock set to its day: all that they leave is dated by
it. The input is generated once and grows by the day; on three days something is wrong with it. All of it is marked: the environment
is `demo`, and the manifest says how far the clock was set back.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pipeline import api
from pipeline.demo_input import Trouble, collect, export
from pipeline.engine import runner
from pipeline.errors import BackendError, InputError, UsageError
from pipeline.records import Gate, Pipeline, Run, State
from pipeline.settings import Settings, load
from pipeline.telemetry import bundle, delivery
from pipeline.telemetry.bundle import Bundle
from pipeline.telemetry.schedule import first_deadline, nearest_deadline

ENVIRONMENT = "demo"
DAYS = 14
MAX_DAYS = 28  # servers keep 30 days, and Prometheus refuses what is older
# Runs start 5 to 10 minutes before their deadline: not all at the same minute, and always the same on a day.
_LEAD = timedelta(minutes=10)
_JITTER_SECONDS = 300
# How far back each trouble lies, as a share of the days.
_TROUBLES = {Trouble.SOME_BAD_ROWS: 0.75, Trouble.MISSING_COLUMN: 0.5, Trouble.TOO_MANY_BAD_ROWS: 0.25}


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One run to make: the deadline that it is for, and what is wrong with its input."""

    deadline: datetime
    trouble: Trouble

    @property
    def starts(self) -> datetime:
        """When the run begins, by its clock."""
        return self.deadline - _LEAD + timedelta(seconds=self.deadline.toordinal() * 61 % _JITTER_SECONDS)

    @property
    def as_of(self) -> date:
        """The nominal date: the last day that was over."""
        return self.deadline.date() - timedelta(days=1)

    def is_as_meant(self, run: Run) -> bool:
        """Whether the run came to what the day's input has to bring about."""
        fails = self.trouble in (Trouble.MISSING_COLUMN, Trouble.TOO_MANY_BAD_ROWS)
        return run.state is (State.FAILED if fails else State.COMPLETED) and (run.gate is Gate.RED) == (self.trouble is Trouble.TOO_MANY_BAD_ROWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Which demo is meant: of which pipeline, in which runs folder, with lake and input in which folder, with MLflow or without."""

    pipeline: Pipeline
    settings: Settings
    folder: Path

    @classmethod
    def of(cls, *, runs: Path | None = None, app: str | None = None, mlflow: bool = False, folder: Path = Path(".demo")) -> Demo:
        """The demo of a pipeline (the one of `PIPELINE_APP` unless named).

        Raises:
            SettingsError: a setting or the app is wrong.
        """
        pipeline = api.load_app(load(app=app).app)
        own = folder / pipeline.name
        settings = load(
            app=app,
            runs=runs,
            environment=ENVIRONMENT,
            lake=str(own / "lake"),
            lake_name=f"{pipeline.name[:35]}-{ENVIRONMENT}",
            input=own / "input",
            tracking="on" if mlflow else "off",
            log_level="error",
        )
        return cls(pipeline=pipeline, settings=settings, folder=own)

    def bundles(self) -> list[Bundle]:
        """The demo's runs that there are, newest first: dated ones only, as somebody may call an environment of their own `demo`."""
        return [found for found in bundle.iter_bundles(self.settings.runs) if found.pipeline == self.pipeline.name and _is_demo(found)]

    def remove(self) -> int:
        """Delete the demo's bundles, its lake and its input; returns how many bundles those were.

        Raises:
            UsageError: another process makes or deletes them.
        """
        with self.alone():
            gone = [found for found in self.bundles() if not bundle.is_alive(found.path)]
            for found in gone:
                shutil.rmtree(found.path)
            for part in ("lake", "data", "data.new", "input"):
                shutil.rmtree(self.folder / part, ignore_errors=True)
        for empty in (self.folder, self.folder.parent):
            if empty.is_dir() and not any(empty.iterdir()):
                empty.rmdir()
        return len(gone)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from this demo: two would make the same days, each over the other's input. The lock is gone with the process.

        Raises:
            UsageError: another process is at it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"the demo in {self.folder} is being made by another process", hint="wait for it, or stop it") from error
            yield
        finally:
            os.close(descriptor)


def _is_demo(found: Bundle) -> bool:
    return found.manifest["environment"] == ENVIRONMENT and bool(found.manifest.get("clock_offset_seconds"))


def make(demo: Demo, days: int = DAYS, told: Callable[[Day, Run], None] | None = None, now: datetime | None = None) -> list[Run]:
    """Make the runs of the days that have none yet, oldest first, and return them; their lineage waits (`send_lineage`).

    A run that somebody stopped is the last.

    Args:
        demo: which demo.
        days: how many days back from now, 1 to `MAX_DAYS`.
        told: called after each run.
        now: the last moment that a run may be due at; this one unless given.

    Raises:
        UsageError: the pipeline generates no input, its sources have no dates, `days` is out of range, or another process is at it.
        LakeError: not even a bundle can be written.
    """
    if not 1 <= days <= MAX_DAYS:
        raise UsageError(f"days is {days}, which is not between 1 and {MAX_DAYS}", hint=f"use --days 1 to {MAX_DAYS}", days=days)
    with demo.alone():
        return _make(demo, days, told, now or datetime.now(UTC))


def _make(demo: Demo, days: int, told: Callable[[Day, Run], None] | None, now: datetime) -> list[Run]:
    there = demo.bundles()
    missing = plan(demo.pipeline, there, days, now)
    if missing:
        first = min([missing[0].as_of, *(date.fromisoformat(found.manifest["as_of"]) for found in there)])
        collect(demo.pipeline, demo.folder / "data", first, missing[-1].as_of)
    made: list[Run] = []
    for day in missing:
        made.append(_run(demo, day))
        if told:
            told(day, made[-1])
        if made[-1].state is State.ABORTED:
            break
    return made


def _run(demo: Demo, day: Day) -> Run:
    export(demo.pipeline, demo.folder / "data", demo.folder / "input", day.as_of, day.trouble)
    return runner.execute(demo.pipeline, demo.settings, runner.Order(as_of=day.as_of, at=day.starts, finish=api.report_on))


def send_lineage(demo: Demo) -> BackendError | None:
    """Send the lineage of all runs that wait, at once and oldest first; returns why it can't be sent now: then it goes on waiting."""
    if delivery.is_off(demo.settings):
        return None
    try:
        return api.replay(settings=demo.settings).problem
    except BackendError as error:
        return error


def plan(pipeline: Pipeline, there: Sequence[Bundle], days: int, now: datetime) -> list[Day]:
    """The days that have no run yet, oldest first. A trouble that one of the present runs shows is not made again."""
    every = pipeline.schedule.every
    newest = first_deadline(pipeline.schedule, now)
    while newest > now:
        newest -= every
    deadlines = [newest - number * every for number in range(-(-timedelta(days=days) // every))]
    taken = {nearest_deadline(pipeline.schedule, datetime.fromisoformat(found.manifest["started_at"])) for found in there}
    troubles = _troubles(len(deadlines), there)
    missing = [Day(deadline=deadline, trouble=troubles.get(back, Trouble.NONE)) for back, deadline in enumerate(deadlines) if deadline not in taken]
    return missing[::-1]


def _troubles(count: int, there: Sequence[Bundle]) -> dict[int, Trouble]:
    """How many runs back each trouble lies; the newest run has none."""
    seen = {_seen(found) for found in there}
    places = {max(1, round(share * count)): trouble for trouble, share in _TROUBLES.items()}
    return {back: trouble for back, trouble in places.items() if trouble not in seen}


def _seen(found: Bundle) -> Trouble:
    if found.manifest["gate"] == Gate.RED:
        return Trouble.TOO_MANY_BAD_ROWS
    if found.state is State.FAILED and found.manifest["failure"]["type"] == InputError.slug:
        return Trouble.MISSING_COLUMN
    return Trouble.SOME_BAD_ROWS if found.manifest["gate"] == Gate.YELLOW else Trouble.NONE
