"""What a run waits for MLflow at its end: what it is given, and how long it takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.records import Run
from pipeline.settings import Settings
from pipeline.telemetry.guard import Hooks
from pipeline.tracking.experiments import ExperimentsHook
from pipeline.tracking.process import Worker
from pipeline.tracking.record import RunRecord
from pipeline.tracking.worker import Answer

# What a run may wait, in seconds and as a share of its own time.
SECONDS, SHARE = 2.0, 0.02
# How long that takes at most on a machine that stalls now and then. It proves little: the worker's own requests end sooner.
LONGEST = 15.0


@contextmanager
def given_seconds() -> Iterator[list[tuple[float, float]]]:
    """What workers are given to answer, in seconds, with when they are asked."""
    given: list[tuple[float, float]] = []
    ask = Worker.ask

    def noting(self: Worker, records: list[RunRecord], seconds: float | None = None) -> Answer:
        given.append((self.target.seconds if seconds is None else seconds, time.monotonic()))
        return ask(self, records, seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "ask", noting)
        yield given


def ends_in_time(settings: Settings, lake: Path, run: Run, seconds: float) -> list[Exception]:
    """Let a run of so many seconds end, which may not wait longer than was promised; what was said."""
    said: list[Exception] = []
    began = time.monotonic()
    with given_seconds() as given:
        with Hooks([ExperimentsHook(settings, lake)], on_failure=lambda _run, _signal, error: said.append(error)).run(run):
            time.sleep(seconds)
            ended = time.monotonic()
        took = time.monotonic() - ended
    ((allowed, asked),) = given
    assert allowed <= SECONDS + SHARE * (asked - began)
    assert took < LONGEST
    return said
