"""What a pipeline's schedule says about one run: which deadline it is for, and when the next run has to be finished.

A schedule is "one run every `every`, finished `by` that time of day (UTC)". The deadlines that a run may be for lie on a grid: `by`
on every day, and between days in steps of the greatest length that divides both `every` and a day (6 h for "every 6 h",
a day for "every 7 days"). **A run is for the deadline nearest to its start**, the earlier of two equally near ones, and **the next
run is due `every` after that**. So with "every day by 06:00" a run that starts at 05:40, one that starts at 23:00 the evening before,
and one that comes late at 14:00 each have a next run due at 06:00 of the day after the deadline that they were for.

Nothing is due after a run that is not the schedule's: one that stops early (`--until`), and one for a nominal date (`--as-of`) whose
own deadline, the first once that date is over, lies before the one that is nearest: it fills in the past.
"""

from datetime import UTC, datetime, time, timedelta
from math import gcd

from pipeline.records import Run, Schedule

# How long after its deadline a dataset counts as fresh: the objective in docs/metrics.md.
FRESH_WITHIN = timedelta(hours=2)

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


def deadline(run: Run) -> datetime | None:
    """The deadline that a run is for, or None when it is not the schedule's run."""
    schedule = run.pipeline.schedule
    if run.until is not None or schedule.every <= timedelta():
        return None
    nearest = nearest_deadline(schedule, _EPOCH + timedelta(microseconds=run.started_ns // 1000))
    if run.as_of is not None and first_deadline(schedule, datetime.combine(run.as_of, time(), UTC) + _DAY) < nearest:
        return None
    return nearest


def due(run: Run) -> datetime | None:
    """By when the run after this one has to be finished, or None when this one is not the schedule's run."""
    served = deadline(run)
    return served + run.pipeline.schedule.every if served else None


def nearest_deadline(schedule: Schedule, moment: datetime) -> datetime:
    """The deadline nearest to a moment, the earlier of two equally near ones."""
    after = first_deadline(schedule, moment)
    before = after - _step(schedule)
    return before if moment - before <= after - moment else after


def first_deadline(schedule: Schedule, moment: datetime) -> datetime:
    """The first deadline that is not before a moment."""
    step = _step(schedule)
    start = datetime.combine(_EPOCH, schedule.by.replace(tzinfo=UTC))
    return start - (start - moment) // step * step


def _step(schedule: Schedule) -> timedelta:
    return gcd(schedule.every // _TICK, _DAY // _TICK) * _TICK
