"""The mixed model: a random intercept for each subject, fitted by REML from sums by subject.

statsmodels' MixedLM takes a minute for a million rows and stops short of the optimum on badly scaled columns and where
the subject variance is 0. With one random intercept the restricted likelihood, maximised over all else, is a function
of one number: the ratio of the subject variance to the residual variance. Rows enter only through sums of squares and
products within subjects, and between the means of subjects that have the same number of rows. One evaluation then costs
the same for any number of rows, the whole range of the ratio is searched, and the optimum, 0 included, is verified by
the derivative. Formulas: Bates et al. (2015), Fitting Linear Mixed-Effects Models Using lme4, section 3, for one
grouping factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.study.inference import INTERCEPT, PERFECT, Fit, in_data_units, no_fit
from pipeline.study.observations import Floats, Sample, cross_products, weighted

VARIANCES = ("var(subject)", "var(residual)")
# The ratios that are tried before the best is refined: 10 to a decade, wide enough for any data.
RATIOS = np.concatenate([[0.0], np.logspace(-10, 10, 201)])
# lme4 calls a fit singular when the ratio of standard deviations is under 1e-4.
SINGULAR_RATIO = 1e-8
# How far, in logarithms of the ratio, the optimum may be from where the derivative says it is.
STEP_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """All that the likelihood needs of the rows; columns are the intercept, the regressors, the outcome.

    `within` is the matrix of sums of products of deviations from subjects' means; `between[s]` that of the means of
    the subjects with `sizes[s]` rows, of whom there are `counts[s]`.
    """

    within: Floats
    between: Floats
    sizes: Floats
    counts: Floats

    @property
    def n_obs(self) -> float:
        """Rows."""
        return float(self.sizes @ self.counts)

    @property
    def n_coefficients(self) -> int:
        """Fixed effects, with the intercept."""
        return int(self.within.shape[0]) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The restricted likelihood at one ratio: -2 log (up to a constant), its slope, and what maximises it there."""

    ratio: float
    deviance: float
    slope: float
    coefficients: Floats
    covariance: Floats
    residual_variance: float


def fit_random_intercept(sample: Sample) -> Fit:
    """Fit by REML. Statistics are z; the last two terms are the variances, with an estimate alone.

    The rows must have no `obstacle`. The outcome's R² is not defined for the model.
    """
    terms = (INTERCEPT, *sample.regressors, *VARIANCES)
    if int(sample.sizes.max()) == 1:
        return no_fit(terms, "each subject has one row, so subjects can't be told from residuals")
    start, residuals = _least_squares(sample)
    if np.sqrt(np.mean(residuals**2)) < PERFECT:
        return no_fit(terms, "the regressors explain the outcome exactly, so there are no variances to estimate")
    moments = moments_of(sample, residuals)
    best = maximise(moments)
    if best is None:
        return no_fit(terms, "the likelihood grows as the residual variance goes to 0, so it has no maximum")
    estimates, std_errors = in_data_units(sample, start + best.coefficients, best.covariance)
    variances = np.array([best.ratio, 1.0]) * best.residual_variance * sample.scales[-1] ** 2
    singular = best.ratio < SINGULAR_RATIO
    converged = is_optimum(moments, best)
    return Fit(
        terms=terms,
        estimates=np.concatenate([estimates, variances]),
        std_errors=np.concatenate([std_errors, [np.nan, np.nan]]),
        converged=converged,
        singular=singular,
        note=_note(singular=singular, converged=converged),
    )


def _note(*, singular: bool, converged: bool) -> str:
    if not converged:
        return "the best fit found could not be verified as the optimum"
    if singular:
        return "singular fit: the subject variance is estimated as 0, the edge of what it can be, so the estimates are those of ordinary least squares"
    return ""


def _least_squares(sample: Sample) -> tuple[Floats, Floats]:
    """Coefficients and residuals of least squares: the likelihood of the residuals keeps digits that the outcome's loses."""
    products = cross_products(np.column_stack([np.ones(sample.n_obs), sample.values]))
    coefficients = np.asarray(np.linalg.solve(products[:-1, :-1], products[:-1, -1]), dtype=np.float64)
    return coefficients, sample.values[:, -1] - coefficients[0] - weighted(sample.values[:, :-1], coefficients[1:])


def moments_of(sample: Sample, outcome: Floats) -> Moments:
    """The sums that the likelihood needs, for an outcome in place of the sample's."""
    values = np.column_stack([sample.values[:, :-1], outcome])
    means = np.column_stack([np.add.reduceat(column, sample.starts) / sample.sizes for column in values.T])
    width = values.shape[1] + 1
    within = np.zeros((width, width))
    within[1:, 1:] = cross_products(np.asfortranarray(values - means[sample.subject]))
    sizes, place, counts = np.unique(sample.sizes, return_inverse=True, return_counts=True)
    columns = np.column_stack([np.ones(sample.n_subjects), means])
    between = np.empty((len(sizes), width, width))
    for i in range(width):
        for j in range(width):
            between[:, i, j] = np.bincount(place, weights=columns[:, i] * columns[:, j])
    return Moments(within=within, between=between, sizes=sizes.astype(float), counts=counts.astype(float))


def profile(moments: Moments, ratio: float) -> Profile:
    """The restricted likelihood at `ratio`, with the coefficients and the residual variance that maximise it."""
    k = moments.n_coefficients
    degrees = moments.n_obs - k
    shrink = moments.sizes / (1.0 + moments.sizes * ratio)
    products = moments.within + np.sum(shrink[:, None, None] * moments.between, axis=0)
    change = -np.sum((shrink**2)[:, None, None] * moments.between, axis=0)
    inverse = np.linalg.inv(products[:k, :k])
    coefficients = inverse @ products[:k, k]
    contrast = np.append(-coefficients, 1.0)
    squares = max(float(contrast @ products @ contrast), np.finfo(float).tiny)
    _, log_determinant = np.linalg.slogdet(products[:k, :k])
    return Profile(
        ratio=ratio,
        deviance=degrees * np.log(squares) + float(moments.counts @ np.log1p(moments.sizes * ratio)) + log_determinant,
        slope=float(degrees * (contrast @ change @ contrast) / squares + moments.counts @ shrink + np.sum(inverse * change[:k, :k])),
        coefficients=coefficients,
        covariance=inverse * (squares / degrees),
        residual_variance=squares / degrees,
    )


def maximise(moments: Moments) -> Profile | None:
    """The global maximum over the ratio; None when the likelihood still grows at the largest."""
    from scipy.optimize import brentq

    tried = [profile(moments, float(ratio)) for ratio in RATIOS]
    best = min(range(len(tried)), key=lambda place: tried[place].deviance)
    if best == len(tried) - 1:
        return None
    low, high = tried[max(best - 1, 0)], tried[best + 1]
    if not low.slope < 0.0 < high.slope:
        return tried[best]
    root = brentq(lambda ratio: profile(moments, ratio).slope, low.ratio, high.ratio, xtol=1e-24, rtol=1e-14)
    return profile(moments, float(root))


def is_optimum(moments: Moments, found: Profile) -> bool:
    """Whether the likelihood falls to both sides of what was found (to the right of it, at 0)."""
    if found.ratio == 0.0:
        return found.slope >= 0.0
    step = 1e-4
    above, below = (profile(moments, found.ratio * (1.0 + side * step)) for side in (1.0, -1.0))
    curvature = (above.slope - below.slope) / (2.0 * step)
    return bool(curvature > 0.0 and abs(found.slope) <= STEP_TOLERANCE * curvature)
