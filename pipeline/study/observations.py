"""The rows that the models are fitted to: read, complete, sorted, and put on a common scale.

Sums over rows are NumPy sums in row order, never BLAS, whose last bits depend on the number of threads. The row order
is by subject and then by value, so that neither the input's order nor a column that no model uses moves a digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.engine import Table

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# A column whose values differ by no more than rounding is constant.
ROUNDING = 16 * np.finfo(np.float64).eps
# The share of a column's variance that others leave unexplained, below which it is one of them in disguise
# (lm in R: 1e-7 on the square root of it).
COLLINEAR = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Complete rows in standard units: each column less its mean, over its standard deviation (1 when constant).

    `values` is (rows, regressors + 1) with the outcome last; `names`, `means` and `scales` are in the same order.
    `subject` numbers the subjects from 0, ascending over the rows.
    """

    names: tuple[str, ...]
    values: Floats
    means: Floats
    scales: Floats
    constant: tuple[str, ...]
    subject: Integers

    @property
    def n_obs(self) -> int:
        """Rows."""
        return int(self.values.shape[0])

    @property
    def sizes(self) -> Integers:
        """Rows of each subject."""
        return np.bincount(self.subject)

    @property
    def n_subjects(self) -> int:
        """Subjects."""
        return int(self.subject[-1]) + 1 if self.n_obs else 0

    @property
    def regressors(self) -> tuple[str, ...]:
        """The regressors' names."""
        return self.names[:-1]

    @property
    def outcome(self) -> str:
        """The outcome's name."""
        return self.names[-1]

    @property
    def starts(self) -> Integers:
        """The first row of each subject."""
        return np.cumsum(self.sizes) - self.sizes

    def subject_means(self) -> Floats:
        """(subjects, columns): the mean of each column of `values` in each subject."""
        means = np.empty((self.n_subjects, self.values.shape[1]))
        for place in range(means.shape[1]):
            means[:, place] = np.add.reduceat(self.values[:, place], self.starts) / self.sizes
        return means

    def within(self) -> Floats:
        """`values` less the subject's mean."""
        return np.asfortranarray(self.values - self.subject_means()[self.subject])

    def constant_within(self) -> tuple[str, ...]:
        """The columns that don't vary, beyond rounding, in any subject."""
        rounding = ROUNDING * (1.0 + np.abs(self.means / self.scales))
        names = []
        for place, name in enumerate(self.names):
            column = self.values[:, place]
            ranges = np.maximum.reduceat(column, self.starts) - np.minimum.reduceat(column, self.starts)
            if ranges.max() <= rounding[place]:
                names.append(name)
        return tuple(names)


def read_sample(table: Table, outcome: str, regressors: Sequence[str]) -> Sample:
    """The rows of `table` in which the outcome and all regressors are known (listwise deletion).

    DuckDB numbers the subjects, so no subject's id enters Python.
    """
    names = (*regressors, outcome)
    columns = ", ".join(f'CAST("{name}" AS DOUBLE) AS "{name}"' for name in names)
    known = " AND ".join(f'isfinite(CAST("{name}" AS DOUBLE))' for name in names)
    frame = table.query(f"SELECT dense_rank() OVER (ORDER BY subject_id) - 1 AS subject, {columns} FROM modeling_dataset WHERE {known} ORDER BY ALL")
    return standardise(frame, names)


def standardise(frame: pd.DataFrame, names: tuple[str, ...]) -> Sample:
    """Put the columns `names` of complete rows, sorted by `subject` (0, 1, …), on a common scale."""
    subject = frame["subject"].to_numpy(dtype=np.int64)
    values = np.empty((len(frame), len(names)), order="F")
    means, scales = np.zeros(len(names)), np.ones(len(names))
    constant = []
    for place, name in enumerate(names):
        column = frame[name].to_numpy(dtype=np.float64)
        means[place], scales[place], varies = _location_and_scale(column)
        values[:, place] = (column - means[place]) / scales[place] if varies else 0.0
        if not varies:
            constant.append(name)
    return Sample(names=names, values=values, means=means, scales=scales, constant=tuple(constant), subject=subject)


def _location_and_scale(column: Floats) -> tuple[float, float, bool]:
    """Mean, standard deviation (over n), and whether the column varies beyond rounding."""
    if not column.size:
        return 0.0, 1.0, False
    low, high = float(column.min()), float(column.max())
    if high - low <= ROUNDING * max(abs(low), abs(high)):
        return float(column[0]), 1.0, False
    mean, spread = float(column.mean()), high - low
    return mean, spread * float(np.sqrt(np.mean(((column - mean) / spread) ** 2))), True


def cross_products(values: Floats) -> Floats:
    """`values.T @ values`, each sum in row order."""
    width = values.shape[1]
    products = np.empty((width, width))
    for i in range(width):
        for j in range(i, width):
            products[i, j] = products[j, i] = np.sum(values[:, i] * values[:, j])
    return products


def weighted(columns: Floats, weights: Floats) -> Floats:
    """`columns @ weights`, summed from the first column to the last."""
    total = np.zeros(columns.shape[0])
    for place, weight in enumerate(weights):
        total += columns[:, place] * weight
    return total


def obstacle(sample: Sample, *, within: bool = False) -> str:
    """Why no coefficients can be estimated from these rows, in words; empty when they can.

    With `within`, the question is about deviations from subjects' means, without an intercept.
    """
    if not sample.n_obs:
        return "there is no row in which the outcome and all regressors are known"
    if sample.n_subjects == 1:
        return "there is one subject: at least two are needed to tell subjects apart"
    if sample.constant:
        return _constant_in_words(sample.constant, "")
    if within and (still := sample.constant_within()):
        return _constant_in_words(still, " within every subject")
    return _too_few_rows(sample, within=within) or _collinear(sample, within=within)


def _constant_in_words(names: Sequence[str], where: str) -> str:
    return f"{listed(names)} {'is' if len(names) == 1 else 'are'} constant{where}"


def _too_few_rows(sample: Sample, *, within: bool) -> str:
    parameters = len(sample.regressors) + (sample.n_subjects if within else 1)
    if sample.n_obs > parameters:
        return ""
    return f"there are {sample.n_obs} rows for {parameters} coefficients{' (subjects have one each)' if within else ''}"


def _collinear(sample: Sample, *, within: bool) -> str:
    regressors = sample.regressors
    products = cross_products((sample.within() if within else sample.values)[:, :-1])
    norms = np.sqrt(np.diag(products))
    correlations = products / np.outer(norms, norms)
    for place in range(1, len(regressors)):
        others, own = correlations[:place, :place], correlations[:place, place]
        weights = np.linalg.solve(others, own)
        if 1.0 - own @ weights < COLLINEAR:
            causes = [regressors[i] for i in range(place) if abs(weights[i]) > 1e-6]
            where = " within subjects" if within else ""
            return f"{regressors[place]} follows from {listed(causes)}{where}, so their effects can't be told apart"
    return ""


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
