"""Least squares with errors clustered by subject, and tests and intervals for every model.

The only module that knows statsmodels. CRV1: statsmodels' `cov_type="cluster"` with its small-sample correction is
G/(G-1)·(n-1)/(n-k) with k the columns it is given: five with the intercept; four for the fixed effects, which are
nested in the clusters and not counted (the default of fixest's `ssc`), because the subjects' means are taken out before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.study.observations import Floats, Sample, listed, weighted

INTERCEPT = "intercept"
CONFIDENCE = 0.95
# Below this many clusters CRV1 errors are too small more often than not (Cameron and Miller 2015, section VI).
ENOUGH_CLUSTERS = 30
# Residuals of this share of the outcome's deviation are rounding.
PERFECT = 1e-10
# A clustered error of this share of the classical one is rounding.
DEGENERATE = 1e-6
# Beyond this share of a regressor's variation, one subject decides its coefficient.
DECIDES = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted model in the units of the data, or, with `converged` false, why there is none.

    `degrees` are those of the t distribution; None stands for the normal one. Missing numbers are NaN.
    """

    terms: tuple[str, ...]
    estimates: Floats
    std_errors: Floats
    degrees: float | None = None
    r_squared: float = float("nan")
    converged: bool = True
    singular: bool = False
    note: str = ""

    @property
    def statistics(self) -> Floats:
        """Estimates over their standard errors."""
        return self.estimates / self.std_errors

    @property
    def p_values(self) -> Floats:
        """Two-sided."""
        from scipy.special import ndtr, stdtr

        tails = -np.abs(self.statistics)
        return np.asarray(2.0 * (ndtr(tails) if self.degrees is None else stdtr(self.degrees, tails)))

    @property
    def margins(self) -> Floats:
        """Half the widths of the 95 % confidence intervals."""
        from scipy.special import ndtri, stdtrit

        upper = 0.5 + CONFIDENCE / 2
        return self.std_errors * float(ndtri(upper) if self.degrees is None else stdtrit(self.degrees, upper))


def no_fit(terms: tuple[str, ...], reason: str) -> Fit:
    """What stands for a model that can't be fitted."""
    missing = np.full(len(terms), np.nan)
    return Fit(terms=terms, estimates=missing, std_errors=missing, converged=False, note=f"not fitted: {reason}")


def fit_least_squares(sample: Sample, *, within: bool = False, clustered: bool = True) -> Fit:
    """Least squares of the outcome on the regressors, by statsmodels.

    `within`: the fixed-effects model, on deviations from the subjects' means, with the R² of these. `clustered`: t with
    G-1 degrees of freedom and CRV1 errors; otherwise the classical ones, which take rows as independent.
    The rows must have no `obstacle`.
    """
    outcome, design = _design(sample, within=within)
    estimates, classical, robust = _solve(sample, outcome, design)
    residual = _share_of_deviation(outcome, outcome - weighted(design, estimates))
    moved, std_errors = in_data_units(sample, estimates, robust if clustered else classical)
    terms = sample.regressors if within else (INTERCEPT, *sample.regressors)
    notes = [*_one_subject_decides(sample, design, classical), *_notes(sample, within=within)]
    if residual < PERFECT:
        std_errors[:] = np.nan
        notes.insert(0, "the regressors explain the outcome exactly, so there is nothing to estimate errors from")
    elif clustered:
        std_errors[std_errors < DEGENERATE * in_data_units(sample, estimates, classical)[1]] = np.nan
    return Fit(
        terms=terms,
        estimates=moved,
        std_errors=std_errors,
        degrees=sample.n_subjects - 1 if clustered else classical_degrees(sample, within=within),
        r_squared=1.0 if residual < PERFECT else max(0.0, 1.0 - residual**2),
        note="; ".join(notes if clustered else []),
    )


def _solve(sample: Sample, outcome: Floats, design: Floats) -> tuple[Floats, Floats, Floats]:
    """Coefficients with their classical and their clustered covariances, in standard units."""
    from statsmodels.regression.linear_model import OLS
    from threadpoolctl import threadpool_limits

    has_intercept = design.shape[1] > len(sample.regressors)
    # BLAS adds long vectors up in as many parts as it has threads; with one thread the last digits are the same everywhere.
    with threadpool_limits(limits=1, user_api="blas"):
        model = OLS(outcome, design, hasconst=has_intercept)
        # Fixed effects are coefficients too, which statsmodels can't know. The clustered correction does not look at this.
        model.df_resid = classical_degrees(sample, within=not has_intercept)
        result = model.fit()
        clustered = result.get_robustcov_results("cluster", groups=sample.subject, use_correction=True, use_t=True)
        return np.asarray(result.params), np.asarray(result.cov_params()), np.asarray(clustered.cov_params())


def _design(sample: Sample, *, within: bool) -> tuple[Floats, Floats]:
    """Outcome and design matrix, in standard units."""
    if within:
        values = sample.within()
        return values[:, -1], values[:, :-1]
    return sample.values[:, -1], np.column_stack([np.ones(sample.n_obs), sample.values[:, :-1]])


def classical_degrees(sample: Sample, *, within: bool = False) -> int:
    """Rows less all coefficients, with one for each subject under `within`."""
    return sample.n_obs - len(sample.regressors) - (sample.n_subjects if within else 1)


def _share_of_deviation(outcome: Floats, residuals: Floats) -> float:
    """Root of the share of the outcome's sum of squares (about 0, which is its mean) that the residuals have."""
    return float(np.sqrt(np.sum(residuals**2) / np.sum(outcome**2)))


def in_data_units(sample: Sample, estimates: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Coefficients and standard errors in the data's units from those in standard units.

    The intercept, when there is one, comes first: its value at regressors 0 is far from the rows, so all covariances
    are needed for its error.
    """
    slopes = len(sample.regressors)
    has_intercept = len(estimates) > slopes
    unit = np.diag(np.concatenate([np.ones(int(has_intercept)), 1.0 / sample.scales[:-1]])) * sample.scales[-1]
    if has_intercept:
        unit[0, 1:] = -sample.means[:-1] / sample.scales[:-1] * sample.scales[-1]
    moved = unit @ estimates
    if has_intercept:
        moved[0] += sample.means[-1]
    variances = np.diag(unit @ covariance @ unit.T)
    return moved, np.sqrt(np.where(variances > 0.0, variances, np.nan))


def _one_subject_decides(sample: Sample, design: Floats, covariance: Floats) -> list[str]:
    """A note on regressors whose variation, less what others share of it, lies for the most part in one subject.

    Then the clustered error, which compares subjects, has nothing to compare and is too small (partial leverage:
    MacKinnon, Nielsen and Webb 2023, Cluster-robust inference: A guide to empirical practice, section 7).
    """
    names = []
    for place, name in enumerate(sample.regressors, start=design.shape[1] - len(sample.regressors)):
        own = np.add.reduceat(weighted(design, covariance[:, place]) ** 2, sample.starts)
        if own.max() > DECIDES * own.sum():
            names.append(name)
    return [f"one subject alone decides {listed(names)}, so the clustered error of that is too small or missing"] if names else []


def _notes(sample: Sample, *, within: bool) -> list[str]:
    notes = []
    if sample.n_subjects < ENOUGH_CLUSTERS:
        notes.append(f"{sample.n_subjects} subjects: under {ENOUGH_CLUSTERS} clusters, clustered standard errors are unreliable")
    if within and (single := int(np.sum(sample.sizes == 1))):
        notes.append(f"{single} of {sample.n_subjects} subjects have one row, which says nothing about change within a subject")
    return notes
