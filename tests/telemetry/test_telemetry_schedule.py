"""When the next run is due: the examples of the module, and what holds for every schedule and every start."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import names
from pipeline.records import Run, Schedule
from pipeline.telemetry import schedule
from pipeline.telemetry.metrics import samples
from pipeline.testing import example_run
from tests.telemetry.telemetry_support import stored

DAILY = Schedule(every=timedelta(days=1), by=time(6))


def started(moment: datetime, plan: Schedule = DAILY, **changes: object) -> Run:
    """A run of a pipeline with that schedule that started then, without a nominal date unless one is given."""
    run = example_run(Path("bundle"))
    run.pipeline = replace(run.pipeline, schedule=plan)
    run.started_ns = int(moment.timestamp() * 1_000_000) * 1_000
    run.as_of = None
    for name, value in changes.items():
        setattr(run, name, value)
    return run


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "due"),
    [
        ("2026-11-03T05:40", "2026-11-04T06:00"),  # in time
        ("2026-11-02T23:00", "2026-11-04T06:00"),  # the evening before
        ("2026-11-03T14:00", "2026-11-04T06:00"),  # late
        ("2026-11-03T06:00", "2026-11-04T06:00"),
        ("2026-11-03T18:00", "2026-11-04T06:00"),  # as far from one as from the other: for the earlier
        ("2026-11-03T18:01", "2026-11-05T06:00"),
    ],
)
def test_a_daily_run_is_for_the_nearest_deadline_and_the_next_is_due_a_day_after_it(start: str, due: str):
    assert schedule.due(started(at(start))) == at(due)


@pytest.mark.parametrize(
    ("every", "start", "due"),
    [
        (timedelta(hours=6), "2026-11-03T11:50", "2026-11-03T18:00"),
        (timedelta(hours=6), "2026-11-03T23:59", "2026-11-04T06:00"),
        (timedelta(hours=1), "2026-11-03T11:50", "2026-11-03T13:00"),
        (timedelta(days=7), "2026-11-02T05:40", "2026-11-09T06:00"),  # a Monday, and the next
        (timedelta(days=7), "2026-11-02T17:00", "2026-11-09T06:00"),
    ],
)
def test_other_schedules_than_daily_ones(every: timedelta, start: str, due: str):
    assert schedule.due(started(at(start), Schedule(every=every, by=time(6)))) == at(due)


def test_a_run_for_its_own_day_or_the_day_before_is_the_schedules_and_one_for_the_past_is_not():
    start = at("2026-11-03T05:40")
    assert schedule.due(started(start, as_of=date(2026, 11, 3))) == at("2026-11-04T06:00")
    assert schedule.due(started(start, as_of=date(2026, 11, 2))) == at("2026-11-04T06:00")
    assert schedule.due(started(start, as_of=date(2026, 11, 1))) is None
    assert schedule.due(started(at("2026-11-03T14:30"), Schedule(every=timedelta(days=1), by=time(15)), as_of=date(2026, 11, 2))) == at("2026-11-04T15:00")


def test_nothing_is_due_after_a_run_that_stops_early_or_without_a_schedule():
    assert schedule.due(started(at("2026-11-03T05:40"), until="features")) is None
    assert schedule.due(started(at("2026-11-03T05:40"), Schedule(every=timedelta(0), by=time(6)))) is None


moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds have no zone
times = st.times().map(lambda each: each.replace(second=0, microsecond=0))
plans = st.builds(Schedule, every=st.integers(1, 40 * 24 * 4).map(lambda quarters: quarters * timedelta(minutes=15)), by=times)
daily_or_more_often = st.builds(Schedule, every=st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]).map(lambda hours: timedelta(hours=hours)), by=times)


@given(plans, moments)
def test_a_deadline_is_never_further_than_half_a_day_and_the_next_one_is_every_later(plan: Schedule, start: datetime):
    run = started(start, plan)
    served, due = schedule.deadline(run), schedule.due(run)
    assert served is not None
    assert due is not None
    assert abs(served - start) <= min(timedelta(hours=12), plan.every / 2)
    assert due - served == plan.every
    assert due > start


@given(daily_or_more_often, moments)
def test_deadlines_stand_at_the_time_of_day_and_every_step_from_it(plan: Schedule, start: datetime):
    served = schedule.deadline(started(start, plan))
    assert served is not None
    assert (served - datetime.combine(served.date(), plan.by, UTC)) % plan.every == timedelta(0)


@given(plans, moments, st.timedeltas(timedelta(0), timedelta(days=60)))
def test_a_later_run_is_never_due_earlier(plan: Schedule, start: datetime, later: timedelta):
    first, second = schedule.due(started(start, plan)), schedule.due(started(start + later, plan))
    assert first is not None
    assert second is not None
    assert first <= second


@given(daily_or_more_often, moments, st.floats(-0.49, 0.49), st.floats(-0.49, 0.49))
def test_runs_that_keep_to_the_schedule_serve_each_deadline_once(plan: Schedule, start: datetime, early: float, late: float):
    deadline = schedule.nearest_deadline(plan, start)
    first, second = started(deadline + early * plan.every, plan), started(deadline + plan.every + late * plan.every, plan)
    assert schedule.due(first) == schedule.deadline(second) == deadline + plan.every


@given(plans, moments)
def test_the_first_deadline_is_the_first(plan: Schedule, moment: datetime):
    first = schedule.first_deadline(plan, moment)
    assert first >= moment
    assert schedule.first_deadline(plan, first) == first
    assert schedule.first_deadline(plan, first - timedelta(microseconds=1)) == first


# ------------------------------------------------------------------------------------------------- told as metrics


def told(run: Run, *metrics: names.Metric) -> dict[str, set[float]]:
    return {metric.name: {value for each, value, *_ in samples(run) if each is metric} for metric in metrics}


def test_a_run_says_what_is_due_and_which_deadline_it_met(runs: Path):
    run = stored(runs)  # 06:00, by 07:00
    deadline = at("2026-11-03T07:00").timestamp()
    assert told(run, names.RUN_DUE, names.RUN_EVERY, names.DATASET_DUE, names.DATASET_MET) == {
        "goldtrace.run.due": {deadline + 86_400},
        "goldtrace.run.every": {86_400},
        "goldtrace.dataset.due": {deadline + 86_400},
        "goldtrace.dataset.met": {deadline},
    }


@pytest.mark.parametrize(("late", "met"), [(timedelta(hours=2), 1), (timedelta(hours=2, seconds=1), 0)])
def test_a_dataset_published_more_than_two_hours_after_its_deadline_has_not_met_it(runs: Path, late: timedelta, met: int):
    run = stored(runs)
    ended = int((at("2026-11-03T07:00") + late).timestamp()) * 1_000_000_000
    run.phases = [replace(phase, ended_ns=ended) if phase.name == "publish" else phase for phase in run.phases]
    found = told(run, names.DATASET_DUE, names.DATASET_MET)
    assert (len(found["goldtrace.dataset.due"]), len(found["goldtrace.dataset.met"])) == (1, met)


def test_a_run_beside_the_schedule_says_nothing_of_it(runs: Path):
    run = stored(runs)
    run.until = "features"
    assert set().union(*told(run, names.RUN_DUE, names.RUN_EVERY, names.DATASET_DUE, names.DATASET_MET).values()) == set()
    assert told(run, names.DATASET_PUBLISHED)["goldtrace.dataset.published"]


def test_a_disk_that_is_not_there_is_left_out(runs: Path):
    run = stored(runs)
    run.lake = str(runs / "nowhere")
    places = {labels["place"]: value for metric, value, labels, _ in samples(run) if metric is names.DISK_SIZE}
    assert places.keys() == {"runs"}
    assert places["runs"] > max(value for metric, value, *_ in samples(run) if metric is names.DISK_FREE)
