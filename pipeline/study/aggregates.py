"""Means of groups of people, with their uncertainty; the only view of rows that figures get.

A group of fewer than `SMALLEST_GROUP` people is left out and counted, because an average over a few people tells about
each of them. Sums run in row order, so they don't depend on the order of the input or the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.study.inference import CONFIDENCE
from pipeline.study.observations import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.engine import Table

SMALLEST_GROUP = 5
# Rows that make a bin's mean worth drawing, and the most bins that a reader takes in.
ROWS_PER_BIN = 40
MOST_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMeans:
    """One mean a group, in the order of `at` (the group's place on the axis).

    `margins` are half the widths of 95 % confidence intervals with errors clustered by person: with one row a person
    the ordinary t interval. `suppressed` groups were too small to show.
    """

    at: Floats
    means: Floats
    margins: Floats
    people: Integers
    suppressed: int


def change_by_week(subject_trajectories: Table) -> GroupMeans:
    """The mean weight change from baseline, in kg, by week of the study."""
    rows = subject_trajectories.query(
        "SELECT CAST(week AS DOUBLE) AS place, dense_rank() OVER (ORDER BY subject_id) AS subject, delta_from_baseline_kg AS value "
        "FROM subject_trajectories WHERE week IS NOT NULL AND isfinite(delta_from_baseline_kg) ORDER BY ALL"
    )
    weeks, group = np.unique(rows["place"].to_numpy(dtype=np.float64), return_inverse=True)
    return group_means(group, rows, weeks)


def change_by_fiber(modeling_dataset: Table) -> GroupMeans:
    """The mean weight change in the following week, in kg, by bins of the week's fibre with about as many rows each."""
    rows = modeling_dataset.query(
        "SELECT CAST(fiber_g_week AS DOUBLE) AS place, dense_rank() OVER (ORDER BY subject_id) AS subject, delta_kg_next AS value "
        "FROM modeling_dataset WHERE isfinite(fiber_g_week) AND isfinite(delta_kg_next) ORDER BY ALL"
    )
    place = rows["place"].to_numpy(dtype=np.float64)
    bins = min(MOST_BINS, max(1, len(place) // ROWS_PER_BIN))
    edges = np.unique(np.quantile(place, np.arange(1, bins) / bins)) if len(place) else place
    _, group = np.unique(np.searchsorted(edges, place, side="right"), return_inverse=True)
    return group_means(group, rows, np.bincount(group, weights=place) / np.bincount(group))


def group_means(group: Integers, rows: pd.DataFrame, at: Floats) -> GroupMeans:
    """Means of `rows.value` by `group` (0, 1, …), with errors clustered by `rows.subject`; `at` places the groups."""
    if not len(rows):
        return GroupMeans(at=at, means=at, margins=at, people=np.zeros(0, dtype=np.int64), suppressed=0)
    from scipy.special import stdtrit

    value = rows["value"].to_numpy(dtype=np.float64)
    counts = np.bincount(group)
    means = np.bincount(group, weights=value) / counts
    _, person = np.unique(group * (int(rows["subject"].max()) + 1) + rows["subject"].to_numpy(), return_inverse=True)
    owner = np.empty(int(person.max()) + 1, dtype=np.int64)
    owner[person] = group
    people = np.bincount(owner)
    scores = np.bincount(person, weights=value - means[group])
    shown = people >= SMALLEST_GROUP
    # CRV1 for a mean: with one coefficient, (n-1)/(n-k) is 1.
    variances = np.bincount(owner, weights=scores**2)[shown] / counts[shown] ** 2 * people[shown] / (people[shown] - 1)
    margins = np.sqrt(variances) * stdtrit(people[shown] - 1, 0.5 + CONFIDENCE / 2)
    return GroupMeans(at=at[shown], means=means[shown], margins=margins, people=people[shown], suppressed=int(np.sum(~shown)))


def missing_by_week(subject_trajectories: Table) -> tuple[pd.DataFrame, int]:
    """Shares of rows without a weight, and without a weight change in the following week, by week; weeks left out."""
    counts = subject_trajectories.query(
        "SELECT week, count(DISTINCT subject_id) AS people, "
        "count(*) FILTER (weight_kg IS NULL) / count(*) AS no_weight, count(*) FILTER (delta_kg_next IS NULL) / count(*) AS no_change "
        "FROM subject_trajectories WHERE week IS NOT NULL GROUP BY week ORDER BY week"
    )
    shown = counts[counts["people"] >= SMALLEST_GROUP].reset_index(drop=True)
    return shown, len(counts) - len(shown)
