"""The models by their formulas, written out and slow: what the fits are held against. Nothing here is taken from the fits."""

import numpy as np
from scipy import optimize

OUTCOME = "delta_kg_next"
REGRESSORS = ["fiber_g_week", "calories_week", "beans_week", "potato_week"]


def crv1(design, outcome, groups, counted):
    """Coefficients and CRV1 covariance, straight from the formula."""
    bread = np.linalg.inv(design.T @ design)
    coefficients = bread @ design.T @ outcome
    residuals = outcome - design @ coefficients
    scores = [design[groups == group].T @ residuals[groups == group] for group in np.unique(groups)]
    meat = sum(np.outer(score, score) for score in scores)
    n, g = len(outcome), len(scores)
    return coefficients, bread @ meat @ bread * g / (g - 1) * (n - 1) / (n - counted)


def reml_at(design, outcome, groups, ratio):
    """Coefficients, their information, the residual variance and the REML deviance when the subjects' variance is `ratio` times the residual one."""
    n, k = design.shape
    inverse = np.linalg.inv(np.eye(n) + ratio * (groups[:, None] == groups[None, :]))
    information = design.T @ inverse @ design
    coefficients = np.linalg.solve(information, design.T @ inverse @ outcome)
    residuals = outcome - design @ coefficients
    variance = residuals @ inverse @ residuals / (n - k)
    deviance = (n - k) * np.log(variance) - np.linalg.slogdet(inverse)[1] + np.linalg.slogdet(information)[1]
    return coefficients, information, variance, deviance


def dense_reml(design, outcome, groups):
    """Random-intercept REML by general optimisation over (n, n) covariance matrices: coefficients, errors, variances."""
    search = optimize.minimize_scalar(
        lambda logarithm: reml_at(design, outcome, groups, np.exp(logarithm))[3], bounds=(-12, 6), method="bounded", options={"xatol": 1e-10}
    )
    ratio = np.exp(search.x)
    coefficients, information, variance, _ = reml_at(design, outcome, groups, ratio)
    return coefficients, np.sqrt(np.diag(np.linalg.inv(information)) * variance), np.array([ratio, 1.0]) * variance


def arrays(frame, *, intercept=True):
    regressors = frame[REGRESSORS].to_numpy(float)
    design = np.column_stack([np.ones(len(frame)), regressors]) if intercept else regressors
    return design, frame[OUTCOME].to_numpy(float), frame.subject_id.to_numpy()
