"""Progress on a terminal: one line that says what goes on now, over which the log writes its own lines.

Piped output has none of it: there the log's plain lines are the progress.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from pipeline.clock import Clock
from pipeline.records import Run, StepRun

# Back to the line's beginning, and clear it: the log begins its lines on a terminal with the same.
CLEAR = "\r\x1b[2K"
_EVERY_SECONDS = 0.2
_COLUMNS = 80


class ProgressHook:
    """Shows the running step, its place among the steps, the rows that it reads, and the seconds so far."""

    signal = "progress"

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:  # noqa: ARG002 - the seam hands it over
        """Leave the line empty at the end."""
        try:
            yield
        finally:
            self._show("")

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:
        """Show the step until it ends."""
        done = threading.Event()
        place = f"{len(run.steps)}/{len(run.steps_planned)}"
        watcher = threading.Thread(target=self._watch, args=(run.clock, step, place, done), name="goldtrace-progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self._show("")

    def _watch(self, clock: Clock, step: StepRun, place: str, done: threading.Event) -> None:
        while not done.wait(_EVERY_SECONDS):
            rows = sum(rows or 0 for rows in step.rows_in.values())
            reading = f", {rows:,} rows in" if rows else ""
            self._show(f"  {place} {step.step.name}{reading}, {(clock.now_ns() - step.started_ns) / 1e9:.1f} s")

    def _show(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that is gone
            self._stream.write(CLEAR + text[: self._columns() - 1])
            self._stream.flush()

    def _columns(self) -> int:
        """The terminal's width: what is wider would stand on two lines, of which only one is cleared."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _COLUMNS
        except OSError:
            return _COLUMNS
