"""Where a run's time went: steps and their phases as bars on one axis, placed in per cent of its width.

Per cent, so that the bars stretch with the page while the text beside them keeps its size.
"""

import math
from dataclasses import dataclass
from typing import Final

from pipeline.records import State
from pipeline.report.facts import Facts, PhaseFacts, StepFacts
from pipeline.report.numbers import duration

# A bar thinner than this can't be seen, nor hit with a finger.
LEAST_WIDTH: Final = 0.5
MOST_TICKS: Final = 6
# Known phases in the order of the legend; others are drawn like the last one.
PHASES: Final = ("inspect", "read", "compute", "write", "hash", "check", "publish")
_UNITS: Final = ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One stretch of time: `left` and `width` in per cent of the axis, `tone` the phase's name or `step`."""

    left: float
    width: float
    tone: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One mark of an axis: its place in per cent, and its label with the unit."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One row: a step, or (`step` is None) a part of the run outside its steps."""

    name: str
    step: StepFacts | None
    seconds: float | None
    bar: Bar | None
    phases: tuple[Bar, ...]
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """All rows in the order in which they began, with the axis; `tones` are the phases that occur."""

    tracks: tuple[Track, ...]
    ticks: tuple[Tick, ...]
    tones: tuple[str, ...]
    total: float


def waterfall(facts: Facts) -> Waterfall:
    """The rows and bars of a run. Steps that were not reached come last and have no bar."""
    total = max(facts.known_seconds, 1e-3)
    own = [_phase_track(phase, total) for phase in facts.phases]
    ran = [_step_track(step, total) for step in facts.steps_run]
    tracks = sorted((*own, *ran), key=lambda track: track.bar.left if track.bar else 100.0)
    waiting = [_waiting_track(step) for step in facts.steps if step.state is None]
    seen = {phase.name for step in facts.steps for phase in step.phases}
    return Waterfall(
        tracks=(*tracks, *waiting),
        ticks=ticks(total),
        tones=tuple(sorted(seen, key=lambda name: (PHASES.index(name) if name in PHASES else len(PHASES), name))),
        total=total,
    )


def ticks(total: float, most: int = MOST_TICKS) -> tuple[Tick, ...]:
    """Round marks from 0 to `total` seconds (steps of 1, 2 or 5 times a power of ten, or whole parts of a minute or an hour)."""
    step = _round_step(total / most)
    # Milliseconds only where the whole axis is short; `1,500 ms` is harder to read than `1.5 s`.
    unit, name = next(((size, name) for size, name in _UNITS if step >= size or (size == 1 and total >= 1)), _UNITS[-1])
    places = max(0, -math.floor(math.log10(step / unit) + 1e-9)) if unit <= 1 else 0
    marks = [index * step for index in range(int(total / step + 1e-9) + 1)]
    return tuple(Tick(at=round(100 * mark / total, 3), label=f"{mark / unit:,.{places}f} {name}" if mark else "0") for mark in marks)


def _round_step(least: float) -> float:
    """The smallest round number that is at least `least`."""
    if least > 20:
        clocks = (30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200)
        return next((clock for clock in clocks if clock >= least), math.ceil(least / 86_400) * 86_400)
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _bar(start: float, seconds: float, total: float, tone: str, title: str) -> Bar:
    left = min(max(100 * start / total, 0.0), 100 - LEAST_WIDTH)
    width = min(max(100 * seconds / total, LEAST_WIDTH), 100 - left)
    return Bar(left=round(left, 3), width=round(width, 3), tone=tone, title=title)


def _phase_track(phase: PhaseFacts, total: float) -> Track:
    words = f"{phase.name} began {duration(phase.start)} after the start of the run and took {duration(phase.seconds)}"
    bar = _bar(phase.start, phase.seconds, total, phase.name, words)
    return Track(name=phase.name, step=None, seconds=phase.seconds, bar=bar, phases=(), words=words)


def _step_track(step: StepFacts, total: float) -> Track:
    start = step.start or 0.0
    open_ended = step.seconds is None
    seconds = total - start if step.seconds is None else step.seconds
    took = "was still going on" if open_ended and step.state is State.RUNNING else "has no end on record" if open_ended else f"took {duration(seconds)}"
    words = f"{step.name} began {duration(start)} after the start of the run and {took}"
    phases = tuple(_bar(phase.start, phase.seconds, total, phase.name, f"{phase.name}: {duration(phase.seconds)}") for phase in step.phases)
    return Track(name=step.name, step=step, seconds=step.seconds, bar=_bar(start, seconds, total, "step", words), phases=phases, words=words)


def _waiting_track(step: StepFacts) -> Track:
    return Track(name=step.name, step=step, seconds=None, bar=None, phases=(), words=f"{step.name} was not reached")
