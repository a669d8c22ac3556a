"""The time of a run."""

import os
import re
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import MACHINE, Clock, clock_at
from pipeline.errors import UsageError

ASK = re.compile(r"\btime_ns\(|\btime\.time\(|\bdatetime\.(now|utcnow)\(|\bdate\.today\(")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Hypothesis takes its bounds without a zone.
FIRST, LAST = datetime(1971, 1, 1), datetime(2026, 1, 1)  # noqa: DTZ001
PAST = st.datetimes(FIRST, LAST, timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))]))


def test_the_clock_of_a_run_that_is_not_dated_is_the_machine_s():
    assert clock_at(None) is MACHINE
    before = time.time_ns()
    assert before <= MACHINE.now_ns() <= time.time_ns()


@given(moment=PAST)
def test_a_clock_that_is_set_shows_the_moment_and_goes_on_from_there(moment: datetime):
    started = time.monotonic_ns()
    shown = clock_at(moment).now_ns() - (moment - EPOCH) // timedelta(microseconds=1) * 1_000
    assert -1_000_000 <= shown <= time.monotonic_ns() - started + 1_000_000


def test_what_takes_a_while_takes_as_long_on_a_clock_that_is_set():
    clock = Clock(-86_400_000_000_000)
    was, really = clock.now_ns(), time.time_ns()
    time.sleep(0.02)
    took = clock.now_ns() - was
    assert 20_000_000 <= took <= time.time_ns() - really + 1_000_000


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(UsageError, match="no time zone"):
        clock_at(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_a_moment_that_lies_ahead_is_refused():
    with pytest.raises(UsageError, match="lies ahead"):
        clock_at(datetime.now(UTC) + timedelta(minutes=1))


def test_a_clock_never_ticks_twice_the_same_also_from_threads():
    clock, ticks = Clock(-1_000_000_000), []
    threads = [threading.Thread(target=lambda: ticks.extend(clock.tick() for _ in range(500))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ticks)) == 4_000


def test_a_clock_that_is_set_back_does_not_hold_up_the_others():
    ahead, back = MACHINE.tick(), Clock(-86_400_000_000_000).tick()
    assert (ahead >> 12) - (back >> 12) == pytest.approx(86_400_000, abs=1_000)
    assert MACHINE.tick() > ahead


def test_a_forked_child_can_tick_although_a_thread_held_the_lock():
    import pipeline.clock

    with pipeline.clock._lock:
        child = os.fork()
        if child == 0:
            MACHINE.tick()
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


# What may ask the machine: the clock itself; when something was handed to MLflow; when Data Docs were built; how long credentials of S3 hold,
# and how old a lock there is.
ASKS = {"clock.py", "tracking/experiments.py", "quality/gx.py", "engine/s3_account.py"}


@pytest.mark.parametrize("layer", ["engine", "quality", "telemetry", "tracking", "study"])
def test_nothing_that_a_run_goes_through_asks_the_machine_for_the_time(root: Path, layer: str):
    package = root / "pipeline"
    asks = {str(path.relative_to(package)) for path in (package / layer).rglob("*.py") if ASK.search(path.read_text("utf-8"))}
    assert asks <= ASKS
