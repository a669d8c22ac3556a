"""Coefficients with their intervals, one panel a term and one row a model, placed in per cent of a panel's width.

Terms differ by orders of magnitude in scale and unit, so each has an axis of its own: standardising them would show
numbers that the run did not estimate. Zero is on every axis, since the question is on which side of it an interval lies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.records import Estimate
from pipeline.report.numbers import decimals, number
from pipeline.report.waterfall import Tick
from pipeline.report.words import estimate_places

MOST_TICKS: Final = 6
# All labels of an axis together, in signs.
LABEL_SIGNS: Final = 26
# Room on either side, in per cent, for marks and the axis' labels.
EDGE: Final = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One model's estimate of a term: interval from `low` to `high` around `mid`. `clear` when zero is outside."""

    model: str
    low: float
    mid: float
    high: float
    clear: bool
    converged: bool
    value: str
    interval: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One term over the models that have an interval for it."""

    term: str
    marks: tuple[Mark, ...]
    ticks: tuple[Tick, ...]
    zero: float

    @property
    def words(self) -> str:
        """The panel as a sentence, for those who don't see it."""
        return "; ".join(f"{mark.model} {mark.value}, 95 % interval {mark.interval}" for mark in self.marks)


def panels(estimates: Sequence[Estimate], headline: str | None = None) -> tuple[Panel, ...]:
    """A panel for each term with an interval: the headline's first, the intercept last, others as the models list them."""
    with_interval = [estimate for estimate in estimates if _has_interval(estimate)]
    terms = dict.fromkeys(estimate.term for estimate in with_interval)
    order = sorted(terms, key=lambda term: (term != headline, term == "intercept"))
    return tuple(_panel(term, [estimate for estimate in with_interval if estimate.term == term]) for term in order)


def _has_interval(estimate: Estimate) -> bool:
    numbers = (estimate.estimate, estimate.ci_low, estimate.ci_high)
    return all(value is not None and math.isfinite(value) for value in numbers)


def _panel(term: str, estimates: Sequence[Estimate]) -> Panel:
    bounds = [(estimate.ci_low or 0.0, estimate.estimate or 0.0, estimate.ci_high or 0.0) for estimate in estimates]
    least, most = min(0.0, *(low for low, _, _ in bounds)), max(0.0, *(high for _, _, high in bounds))
    span = (most - least) or 1.0

    def place(value: float) -> float:
        return round(EDGE + (100 - 2 * EDGE) * (value - least) / span, 3)

    marks = tuple(_mark(estimate, *(place(value) for value in numbers)) for estimate, numbers in zip(estimates, bounds, strict=True))
    return Panel(term=term, marks=marks, ticks=tuple(Tick(at=place(value), label=label) for value, label in _ticks(least, least + span)), zero=place(0.0))


def _mark(estimate: Estimate, low: float, mid: float, high: float) -> Mark:
    places = estimate_places(estimate)
    bounds = (estimate.ci_low or 0.0, estimate.ci_high or 0.0)
    return Mark(
        model=estimate.model,
        low=low,
        mid=mid,
        high=high,
        clear=bounds[0] > 0 or bounds[1] < 0,
        converged=estimate.converged,
        value=number(estimate.estimate, places),
        interval=f"{number(bounds[0], places)} to {number(bounds[1], places)}",
    )


def _ticks(least: float, most: float) -> list[tuple[float, str]]:
    """Round values between, zero among them: as many as their labels leave room for on a narrow page."""
    for count in (MOST_TICKS, 4, 3):
        marks = _round_marks(least, most, count)
        if sum(len(label) for _, label in marks) <= LABEL_SIGNS:
            break
    return marks


def _round_marks(least: float, most: float, count: int) -> list[tuple[float, str]]:
    rough = (most - least) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    places = decimals(step, digits=1)
    first, last = math.ceil(least / step - 1e-9), math.floor(most / step + 1e-9)
    return [(index * step, number(index * step, places) if index else "0") for index in range(first, last + 1)]
