"""Lineage: writes OpenLineage events to `lineage.ndjson` in the bundle, in the order that Marquez needs.

The pipeline's START comes first and its terminal event last; a step's START before its terminal event. openlineage is loaded
by a thread beside the first step, which also writes the STARTs that came before it was there; so a killed run may have fewer lines
than it began, and `close` makes up what is missing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO
from uuid import UUID

from pipeline.records import Run, State, StepRun
from pipeline.settings import Settings
from pipeline.telemetry import lineage_lost
from pipeline.telemetry.bundle import open_for_append
from pipeline.telemetry.columns import StatementLineage
from pipeline.telemetry.lineage_datasets import dataset_namespace
from pipeline.telemetry.lineage_events import RunEvents, line
from pipeline.telemetry.step_columns import step_lineage

FILE = "lineage.ndjson"
_LIBRARY = ("openlineage.client.event_v2", "openlineage.client.facet_v2", "openlineage.client.serde")

_Build = Callable[[], str]


class LineageHook:
    """Tells a run's lineage as OpenLineage events in its bundle."""

    signal = "lineage"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._journals: dict[UUID, _Journal] = {}

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """Write the pipeline's START, and its terminal event at the end.

        Raises:
            SettingsError: the lake's name can't be a namespace of datasets.
        """
        dataset_namespace(run.lake_name)
        events = RunEvents(run, self._settings)
        with open_for_append(run.bundle / FILE) as file, ThreadPoolExecutor(max_workers=1, thread_name_prefix="lineage") as executor:
            journal = self._journals[run.id] = _Journal(file, executor)
            executor.submit(_derive_ahead, run)
            journal.soon(events.run_started)
            try:
                yield
            finally:
                del self._journals[run.id]
                journal.now(events.run_ended)

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:
        """Write a step's START, and its terminal event at the end.

        Raises:
            DeclarationError: the step completed, but the lineage of its columns can't be derived; the event is written without.
        """
        journal, events = self._journals[run.id], RunEvents(run, self._settings)
        journal.soon(partial(events.step_started, step))
        columns: Mapping[str, StatementLineage] = {}
        try:
            yield
            if step.state is State.COMPLETED:
                columns = step_lineage(step.step, run.pipeline.contracts)
        finally:
            journal.now(partial(events.step_ended, step, columns))


def _derive_ahead(run: Run) -> None:
    """Fill the cache of column lineage beside the first step; an error comes again when the step asks."""
    for step in run.steps_planned:
        step_lineage(step, run.pipeline.contracts)


class _Journal:
    """Writes lines in the order in which they were asked for, the first ones as soon as openlineage is there."""

    def __init__(self, file: IO[str], executor: Executor) -> None:
        self._file = file
        self._asked: deque[_Build] = deque()
        self._writing = threading.Lock()
        self._is_ready = False
        self._loading: Future[None] | None = executor.submit(self._load)

    def soon(self, build: _Build) -> None:
        """Write a line, now or when openlineage is there; it may only tell what will not change."""
        self._asked.append(build)
        if self._is_ready:
            self._write()

    def now(self, build: _Build) -> None:
        """Write a line and all that were asked for before it."""
        self._asked.append(build)
        loading, self._loading = self._loading, None
        error = loading.exception() if loading else None  # waits
        self._write()
        if error:
            raise error

    def _load(self) -> None:
        for module in _LIBRARY:
            import_module(module)
        # In this order no line is left: one that is asked for before this is written here, one after it by who asks.
        self._is_ready = True
        self._write()

    def _write(self) -> None:
        with self._writing:
            while self._asked:
                self._file.write(self._asked.popleft()() + "\n")
                self._file.flush()


def close(bundle: Path, ended_ns: int, message: str) -> None:
    """End the lineage of a run whose process is gone: ABORT for each open step, then for the pipeline; harmless a second time.

    A run whose telemetry was off has none, and gets none.

    Args:
        bundle: the run's folder.
        ended_ns: the last sign of life, in nanoseconds since the epoch. No event is put before its START.
        message: what happened, for `errorMessage`.
    """
    path = bundle / FILE
    written = lineage_lost.whole_events(path)
    missing = [line(event) for event in lineage_lost.missing_events(bundle, written, ended_ns, message)]
    if missing:
        with open_for_append(path) as file:
            file.write("".join(f"{each}\n" for each in missing))
