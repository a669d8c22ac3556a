"""The gold models against formulas written out, statsmodels, published fits, and what can't be fitted."""

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.datasets import grunfeld
from statsmodels.regression.linear_model import OLS
from statsmodels.regression.mixed_linear_model import MixedLM
from threadpoolctl import threadpool_limits

from pipeline.study import models
from pipeline.study.inference import fit_least_squares
from pipeline.study.mixed import fit_random_intercept, is_optimum, maximise, moments_of, profile
from pipeline.study.models import MODELS, MODELS_LINEAGE, OUTCOME, REGRESSORS, fit_models
from pipeline.study.observations import standardise
from tests.study.frame_table import FrameTable
from tests.study.models_reference import arrays, crv1, dense_reml

NUMBERS = ["estimate", "std_error", "statistic", "p_value", "ci_low", "ci_high"]
COLUMNS = ["model", "term", *NUMBERS, "n_obs", "n_subjects", "r_squared", "converged", "singular", "note"]


def simulate(seed=0, *, subjects=40, rows=400, spread=1.0, noise=3.0):
    """Rows like the study's, of subjects with unequal numbers of rows."""
    random = np.random.default_rng(seed)
    subject = np.sort(random.integers(0, subjects, rows))
    frame = pd.DataFrame(
        {
            "subject_id": [f"person-{number:03d}" for number in subject],
            "week": np.arange(rows) % 12 + 1,
            "fiber_g_week": random.gamma(18, 9.5, rows),
            "calories_week": random.normal(11_700, 2_300, rows),
            "beans_week": random.integers(0, 2, rows),
            "potato_week": (random.random(rows) < 0.4).astype(int),
        }
    )
    levels = random.normal(0, spread, subjects)[subject]
    frame[OUTCOME] = levels - 0.02 * frame.fiber_g_week + 0.0003 * frame.calories_week + random.normal(0, noise, rows)
    return frame


def fitted(frame, model):
    """The model's rows by term."""
    estimates = fit_models(FrameTable(frame))
    return estimates[estimates.model == model].set_index("term")


# ------------------------------------------------------------------------------------------------ least squares


def test_ols_equals_the_crv1_formula_written_out():
    frame = simulate()
    coefficients, covariance = crv1(*arrays(frame), counted=5)
    found = fitted(frame, "ols_cluster")
    assert list(found.index) == ["intercept", *REGRESSORS]
    np.testing.assert_allclose(found.estimate, coefficients, rtol=1e-9)
    np.testing.assert_allclose(found.std_error, np.sqrt(np.diag(covariance)), rtol=1e-9)


def test_ols_equals_statsmodels_on_the_columns_as_they_are():
    frame = simulate(1)
    design, outcome, subjects = arrays(frame)
    expected = OLS(outcome, design).fit(cov_type="cluster", cov_kwds={"groups": pd.factorize(subjects)[0]}, use_t=True)
    found = fitted(frame, "ols_cluster")
    for column, values in (("estimate", expected.params), ("std_error", expected.bse), ("statistic", expected.tvalues), ("p_value", expected.pvalues)):
        np.testing.assert_allclose(found[column], values, rtol=1e-8)
    np.testing.assert_allclose(found[["ci_low", "ci_high"]], expected.conf_int(), rtol=1e-8)
    np.testing.assert_allclose(found.r_squared, expected.rsquared, rtol=1e-9)


def test_fixed_effects_equal_a_dummy_for_each_subject_with_crv1_that_does_not_count_them():
    frame = simulate(2)
    design, outcome, subjects = arrays(frame, intercept=False)
    dummies = (subjects[:, None] == np.unique(subjects)[None, :]).astype(float)
    coefficients, covariance = crv1(np.column_stack([design, dummies]), outcome, subjects, counted=4)
    found = fitted(frame, "fixed_effects")
    assert list(found.index) == list(REGRESSORS)
    np.testing.assert_allclose(found.estimate, coefficients[:4], rtol=1e-9)
    np.testing.assert_allclose(found.std_error, np.sqrt(np.diag(covariance))[:4], rtol=1e-9)


def test_r_squared_of_fixed_effects_is_the_share_explained_within_subjects():
    frame = simulate(3)
    demeaned = frame.groupby("subject_id")[[*REGRESSORS, OUTCOME]].transform(lambda column: column - column.mean())
    expected = OLS(demeaned[OUTCOME], demeaned[list(REGRESSORS)]).fit().rsquared
    np.testing.assert_allclose(fitted(frame, "fixed_effects").r_squared, expected, rtol=1e-9)


def test_fixed_effects_on_grunfelds_firms_are_those_that_stata_prints():
    # xtreg invest mvalue kstock, fe vce(cluster company): .1101238 (.0151945), .3100653 (.0527518).
    # Stata counts the constant in k, the convention here doesn't: a factor of (200-2)/(200-3) on the variance.
    firms = grunfeld.load_pandas().data.query("firm != 'American Steel'").sort_values(["firm", "year"])
    firms["subject"] = pd.factorize(firms.firm)[0]
    fit = fit_least_squares(standardise(firms, ("value", "capital", "invest")), within=True)
    np.testing.assert_allclose(fit.estimates, [0.1101238, 0.3100653], atol=5e-8)
    np.testing.assert_allclose(fit.std_errors * np.sqrt(198 / 197), [0.0151945, 0.0527518], atol=5e-8)


def test_intervals_and_p_values_of_clustered_models_use_t_with_one_degree_less_than_subjects():
    found = fitted(simulate(4, subjects=12, rows=150), "fixed_effects")
    t = stats.t(11)
    np.testing.assert_allclose(found.p_value, 2 * t.sf(abs(found.statistic)), rtol=1e-9)
    np.testing.assert_allclose(found.ci_high - found.estimate, t.ppf(0.975) * found.std_error, rtol=1e-9)
    np.testing.assert_allclose(found.estimate - found.ci_low, t.ppf(0.975) * found.std_error, rtol=1e-9)


def test_classical_errors_are_statsmodels_with_and_without_subject_dummies():
    frame = simulate(5)
    sample = standardise(frame.assign(subject=pd.factorize(frame.subject_id)[0]), (*REGRESSORS, OUTCOME))
    design, outcome, subjects = arrays(frame)
    pooled = OLS(outcome, design).fit()
    np.testing.assert_allclose(fit_least_squares(sample, clustered=False).p_values, pooled.pvalues, rtol=1e-8)
    dummies = (subjects[:, None] == np.unique(subjects)[None, :]).astype(float)
    within = OLS(outcome, np.column_stack([design[:, 1:], dummies])).fit()
    np.testing.assert_allclose(fit_least_squares(sample, within=True, clustered=False).p_values, within.pvalues[:4], rtol=1e-8)


# -------------------------------------------------------------------------------------------------- mixed model

RAIL = [55, 53, 54, 26, 37, 32, 78, 91, 85, 92, 100, 96, 49, 51, 50, 80, 85, 83]
DYESTUFF2 = """7.298 3.846 2.434 9.566 7.990  5.220 6.556 0.608 11.788 -0.892  0.110 10.386 13.434 5.510 8.166
    2.212 4.852 7.092 9.288 4.980  0.282 9.014 4.458 9.446 7.198  1.722 4.782 8.106 0.758 3.758"""
ORTHODONT = """26 25 29 31  21.5 22.5 23 26.5  23 22.5 24 27.5  25.5 27.5 26.5 27  20 23.5 22.5 26  24.5 25.5 27 28.5
    22 22 24.5 26.5  24 21.5 24.5 25.5  23 20.5 31 26  27.5 28 31 31.5  23 23 23.5 25  21.5 23.5 24 28
    17 24.5 26 29.5  22.5 25.5 25.5 26  23 24.5 26 30  22 21.5 23.5 25  21 20 21.5 23  21 21.5 24 25.5
    20.5 24 24.5 26  23.5 24.5 25 26.5  21.5 23 22.5 23.5  20 21 21 22.5  21.5 22.5 23 25  23 23 23.5 24
    20 21 22 21.5  16.5 19 19 19.5  24.5 25 28 28"""


def balanced(outcome, size, **regressors):
    values = np.array(outcome.split() if isinstance(outcome, str) else outcome, dtype=float)
    subjects = len(values) // size
    columns = {name: np.tile(np.array(column, dtype=float), subjects) for name, column in regressors.items()}
    frame = pd.DataFrame({"subject": np.repeat(range(subjects), size), **columns, "outcome": values})
    return standardise(frame, (*regressors, "outcome"))


def test_rail_is_as_published():
    # Pinheiro and Bates (2000), section 1.1: 66.5 (10.17104), standard deviations 24.80547 and 4.020779.
    fit = fit_random_intercept(balanced(RAIL, 3))
    np.testing.assert_allclose(fit.estimates[0], 66.5, rtol=1e-12)
    np.testing.assert_allclose(fit.std_errors[0], 10.17104, atol=5e-6)
    np.testing.assert_allclose(np.sqrt(fit.estimates[1:]), [24.80547, 4.020779], atol=5e-6)


def test_orthodont_is_as_lme4_prints_it():
    # lmer(distance ~ age + (1 | Subject)): 16.7611 (0.8024), 0.6602 (0.0616), standard deviations 2.1147 and 1.4316.
    fit = fit_random_intercept(balanced(ORTHODONT, 4, age=[8, 10, 12, 14]))
    np.testing.assert_allclose(fit.estimates[:2], [16.7611, 0.6602], atol=5e-5)
    np.testing.assert_allclose(fit.std_errors[:2], [0.8024, 0.0616], atol=5e-5)
    np.testing.assert_allclose(np.sqrt(fit.estimates[2:]), [2.1147, 1.4316], atol=5e-5)


def test_dyestuff2_is_a_singular_fit_as_in_lme4():
    # lmer(Yield ~ 1 + (1 | Batch)): boundary (singular) fit, 5.6656 (0.6784), variances 0 and 13.81.
    fit = fit_random_intercept(balanced(DYESTUFF2, 5))
    assert fit.singular
    assert fit.converged
    assert "singular fit" in fit.note
    np.testing.assert_allclose(fit.estimates, [5.6656, 0.0, 13.81], atol=5e-3)
    np.testing.assert_allclose(fit.std_errors[0], 0.6784, atol=5e-5)


@pytest.mark.parametrize("seed", range(3))
def test_reml_equals_general_optimisation_over_dense_matrices(seed):
    frame = simulate(seed, subjects=15, rows=120, spread=2.0)
    coefficients, errors, variances = dense_reml(*arrays(frame))
    found = fitted(frame, "mixed_effects")
    np.testing.assert_allclose(found.estimate, [*coefficients, *variances], rtol=1e-6)
    np.testing.assert_allclose(found.std_error[:5], errors, rtol=1e-6)


def test_reml_equals_statsmodels_where_that_converges():
    frame = simulate(7, subjects=30, rows=300, spread=2.0)
    scaled = frame.assign(fiber_g_week=(frame.fiber_g_week - 171) / 40, calories_week=(frame.calories_week - 11_700) / 2_300)
    design, outcome, subjects = arrays(scaled)
    expected = MixedLM(outcome, design, groups=subjects).fit(reml=True, method="bfgs", gtol=1e-10)
    assert expected.converged
    found = fitted(scaled, "mixed_effects")
    np.testing.assert_allclose(found.estimate, [*expected.fe_params, expected.cov_re[0, 0], expected.scale], rtol=1e-6)
    # statsmodels inverts the observed information of coefficients and variances together; lme4, and we, the expected one.
    np.testing.assert_allclose(found.std_error[:5], expected.bse_fe, rtol=2e-3)


def test_at_the_boundary_reml_is_least_squares_with_classical_errors_and_is_called_singular():
    frame = simulate(8)
    frame[OUTCOME] -= frame.groupby("subject_id")[OUTCOME].transform("mean")
    design, outcome, _ = arrays(frame)
    expected = OLS(outcome, design).fit()
    found = fitted(frame, "mixed_effects")
    np.testing.assert_allclose(found.estimate[:5], expected.params, rtol=1e-9)
    np.testing.assert_allclose(found.std_error[:5], expected.bse, rtol=1e-9)
    np.testing.assert_allclose(found.estimate[5:], [0.0, expected.mse_resid], rtol=1e-9)
    assert found.singular.all()
    assert found.converged.all()


def test_variances_have_an_estimate_and_nothing_else():
    found = fitted(simulate(9, spread=3.0), "mixed_effects").loc[["var(subject)", "var(residual)"]]
    assert found.estimate.gt(0).all()
    assert found[NUMBERS[1:]].isna().all().all()
    assert not found.singular.any()


def test_z_statistics_have_normal_p_values_and_intervals():
    found = fitted(simulate(10), "mixed_effects")[:5]
    np.testing.assert_allclose(found.p_value, 2 * stats.norm.sf(abs(found.statistic)), rtol=1e-9)
    np.testing.assert_allclose(found.ci_high - found.estimate, stats.norm.ppf(0.975) * found.std_error, rtol=1e-9)


def test_the_slope_of_the_likelihood_is_its_derivative():
    frame = simulate(11, subjects=10, rows=60)
    sample = standardise(frame.assign(subject=pd.factorize(frame.subject_id)[0]), (*REGRESSORS, OUTCOME))
    moments = moments_of(sample, sample.values[:, -1])
    for ratio in (0.01, 0.3, 20.0):
        step = 1e-6 * ratio
        difference = profile(moments, ratio + step).deviance - profile(moments, ratio - step).deviance
        assert profile(moments, ratio).slope == pytest.approx(difference / (2 * step), rel=1e-5)


def test_a_ratio_beside_the_optimum_is_not_taken_for_it():
    frame = simulate(12, spread=2.0)
    sample = standardise(frame.assign(subject=pd.factorize(frame.subject_id)[0]), (*REGRESSORS, OUTCOME))
    moments = moments_of(sample, sample.values[:, -1])
    best = maximise(moments)
    assert is_optimum(moments, best)
    assert not is_optimum(moments, profile(moments, best.ratio * 1.001))
    assert not is_optimum(moments, profile(moments, 0.0))


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_reml_reaches_the_optimum_for_any_ratio_of_variances(spread):
    found = fitted(simulate(13, spread=spread, noise=1.0), "mixed_effects")
    assert found.converged.all()
    assert found.estimate["var(residual)"] == pytest.approx(1.0, rel=0.2)


# --------------------------------------------------------------------------------------------------------- laws


@settings(max_examples=8)
@given(scales=st.lists(st.sampled_from([1e-7, 1e-3, 1.0, 1e4, 1e8]), min_size=5, max_size=5), seed=st.integers(0, 100))
def test_units_change_coefficients_and_never_statistics(scales, seed):
    frame = simulate(seed, subjects=12, rows=100, spread=2.0)
    other = frame.copy()
    for column, scale in zip((*REGRESSORS, OUTCOME), scales, strict=True):
        other[column] = other[column] * scale
    here, there = fit_models(FrameTable(frame)), fit_models(FrameTable(other))
    np.testing.assert_allclose(there.statistic, here.statistic, rtol=1e-6, atol=1e-9)
    unit = dict(zip(REGRESSORS, scales, strict=False)) | {"var(subject)": 1 / scales[4], "var(residual)": 1 / scales[4]}
    factors = np.array([scales[4] / unit.get(term, 1.0) for term in here.term])
    np.testing.assert_allclose(there.estimate, here.estimate * factors, rtol=1e-6, atol=1e-12 * scales[4] ** 2)
    assert (there.converged == here.converged).all()


def test_an_origin_far_away_moves_the_intercept_alone():
    frame = simulate(14)
    moved = frame.assign(calories_week=frame.calories_week + 1e7)
    here, there = fit_models(FrameTable(frame)), fit_models(FrameTable(moved))
    slopes = here.term != "intercept"
    np.testing.assert_allclose(there[slopes].estimate, here[slopes].estimate, rtol=1e-8)
    np.testing.assert_allclose(there[slopes].std_error, here[slopes].std_error, rtol=1e-8)


@settings(max_examples=6)
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_rows_does_not_move_a_digit(seed):
    frame = simulate(seed, subjects=9, rows=80)
    shuffled = frame.sample(frac=1, random_state=seed)
    pd.testing.assert_frame_equal(fit_models(FrameTable(frame)), fit_models(FrameTable(shuffled)), check_exact=True)


def test_rows_that_lack_the_outcome_or_a_regressor_are_left_out():
    frame = simulate(15)
    holes = frame.astype({"beans_week": float})
    holes.loc[3, OUTCOME], holes.loc[5, "beans_week"], holes.loc[7, "fiber_g_week"] = np.nan, np.nan, np.inf
    expected = fit_models(FrameTable(frame.drop(index=[3, 5, 7])))
    pd.testing.assert_frame_equal(fit_models(FrameTable(holes)), expected, check_exact=True)
    assert (expected.n_obs == 397).all()


@pytest.mark.parametrize("within", [False, True])
def test_the_number_of_threads_does_not_move_a_digit(within):
    frame = simulate(1, subjects=900, rows=60_000)
    sample = standardise(frame.assign(subject=pd.factorize(frame.subject_id)[0]), (*REGRESSORS, OUTCOME))
    fits = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            fits.append([*(fit_least_squares(sample, within=within, clustered=clustered) for clustered in (True, False)), fit_random_intercept(sample)])
    for one, two in zip(*fits, strict=True):
        np.testing.assert_array_equal(one.estimates, two.estimates)
        np.testing.assert_array_equal(one.std_errors, two.std_errors)


# -------------------------------------------------------------------------------------------------- the real data


def modeling_dataset_of(folder):
    """The study's own SQL over the three files in a folder, with nothing of the engine."""
    study = Path(models.__file__).parent
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA bronze; CREATE SCHEMA silver; CREATE SCHEMA seed")
        connection.execute(f"CREATE TABLE seed.food_phrases AS FROM read_csv('{study / 'food_phrases.csv'}')")
        for name, pattern in (("weight", "*tidy*"), ("nutrition", "*nutrition_rows*"), ("fiber", "*fiber_daily*")):
            rows = f"read_csv('{folder / pattern}.csv', types={{'subject_id': 'VARCHAR'}})"
            connection.execute(f"CREATE TABLE bronze.{name} AS SELECT *, '' AS source_file, row_number() OVER () AS record_number, '' AS load_id FROM {rows}")
        for name in ("subject_trajectories", "weekly_features", "modeling_dataset"):
            connection.execute(f"CREATE TABLE silver.{name} AS {(study / 'silver' / f'{name}.sql').read_text().rstrip().rstrip(';')}")
        return connection.execute("FROM silver.modeling_dataset").df()


def test_the_real_data_give_these_estimates_and_a_singular_fit(shared):
    frame = modeling_dataset_of(shared / "data" / "potato")
    found = fit_models(FrameTable(frame))
    ols, within, mixed = (found[found.model == model].set_index("term") for model in MODELS)
    assert (found.n_obs == 436).all()
    assert (found.n_subjects == 50).all()
    assert found.converged.all()
    assert mixed.singular.all()
    coefficients, covariance = crv1(*arrays(frame), counted=5)
    np.testing.assert_allclose(ols.estimate, coefficients, rtol=1e-9)
    np.testing.assert_allclose(ols.std_error, np.sqrt(np.diag(covariance)), rtol=1e-9)
    np.testing.assert_allclose(mixed.estimate[:5], coefficients, rtol=1e-9)
    assert mixed.estimate["var(subject)"] == 0.0
    # As independent rows fibre looks significant; with errors clustered by subject it does not.
    fiber = [(model.estimate["fiber_g_week"], model.p_value["fiber_g_week"]) for model in (ols, within, mixed)]
    np.testing.assert_allclose(fiber, [(-0.0159894, 0.068276), (-0.0177227, 0.075775), (-0.0159894, 0.026908)], atol=5e-7)


# ------------------------------------------------------------------------------------------- what can't be fitted


def constant(frame):
    return frame.assign(beans_week=0)


def constant_in_each_subject(frame):
    return frame.assign(potato_week=frame.subject_id.str[-1].astype(int) % 2)


def collinear(frame):
    return frame.assign(calories_week=3 * frame.fiber_g_week + 100)


def outcome_constant(frame):
    return frame.assign(**{OUTCOME: 0.3})


def no_change_within(frame):
    return frame.assign(**{OUTCOME: frame.subject_id.str[-2:].astype(float)})


def all_missing(frame):
    return frame.assign(**{OUTCOME: None})


def one_row_each(frame):
    return frame.drop_duplicates("subject_id")


UNFIT = [
    (lambda frame: frame[:0], MODELS, "there is no row"),
    (all_missing, MODELS, "there is no row"),
    (lambda frame: frame[frame.subject_id == "person-001"], MODELS, "one subject"),
    (constant, MODELS, "beans_week is constant"),
    (lambda frame: constant(frame).assign(potato_week=1), MODELS, "beans_week and potato_week are constant"),
    (outcome_constant, MODELS, "delta_kg_next is constant"),
    (collinear, MODELS, "calories_week follows from fiber_g_week"),
    (lambda frame: frame.assign(potato_week=1 - frame.beans_week), MODELS, "potato_week follows from beans_week"),
    (lambda frame: frame.groupby("subject_id").head(1)[:5], ["ols_cluster", "mixed_effects"], "5 rows for 5 coefficients"),
    (constant_in_each_subject, ["fixed_effects"], "potato_week is constant within every subject"),
    (no_change_within, ["fixed_effects"], "delta_kg_next is constant within every subject"),
    (one_row_each, ["fixed_effects"], "constant within every subject"),
    (one_row_each, ["mixed_effects"], "each subject has one row"),
    (lambda frame: frame.groupby("subject_id").head(2)[:9], ["fixed_effects"], "9 rows for 9 coefficients"),
]


@pytest.mark.parametrize(("change", "models", "reason"), UNFIT)
def test_a_model_that_cannot_be_fitted_says_why_and_keeps_its_rows(change, models, reason):
    whole = fit_models(FrameTable(simulate()))
    found = fit_models(FrameTable(change(simulate())))
    assert list(found.columns) == COLUMNS
    assert found[["model", "term"]].equals(whole[["model", "term"]])
    unfit = found[found.model.isin(models)]
    assert unfit[[*NUMBERS, "r_squared"]].isna().all().all()
    assert not unfit.converged.any()
    assert unfit.note.str.contains(reason, regex=False).all()
    assert found.dtypes.equals(whole.dtypes)


def test_a_perfect_fit_has_estimates_and_no_errors():
    frame = simulate()
    frame[OUTCOME] = 2 + 0.1 * frame.fiber_g_week - 0.5 * frame.beans_week
    found = fit_models(FrameTable(frame))
    for model in ("ols_cluster", "fixed_effects"):
        rows = found[found.model == model].set_index("term")
        assert rows.estimate["fiber_g_week"] == pytest.approx(0.1, rel=1e-9)
        assert rows.std_error.isna().all()
        assert (rows.r_squared == 1.0).all()
        assert rows.note.str.contains("explain the outcome exactly").all()
    mixed = found[found.model == "mixed_effects"]
    assert mixed.estimate.isna().all()
    assert not mixed.converged.any()


def test_a_likelihood_without_maximum_is_not_a_fit():
    frame = simulate()
    frame[OUTCOME] = frame.subject_id.str[-2:].astype(float) + 0.1 * frame.fiber_g_week
    mixed = fitted(frame, "mixed_effects")
    assert mixed.estimate.isna().all()
    assert mixed.note.str.contains("has no maximum").all()


def eats_beans(frame, subject):
    return (frame.subject_id == subject) & (frame.week % 2 == 0)


def test_an_estimate_that_one_subject_decides_is_noted():
    frame = simulate()
    found = fitted(frame.assign(beans_week=eats_beans(frame, "person-001")), "fixed_effects")
    assert found.note.str.contains("one subject alone decides beans_week,").all()


def test_a_clustered_error_that_is_nothing_but_rounding_is_missing():
    frame = simulate(subjects=4, rows=16).assign(subject_id=np.repeat(["a", "b", "c", "d"], 4))
    # Orthogonal within subjects, so that the one subject that eats beans is alone in their score.
    for column, signs in zip(REGRESSORS, ([1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1], [1, 1, -1, -1]), strict=True):
        frame[column] = np.tile(signs, 4)
    frame.loc[frame.subject_id != "a", "beans_week"] = 0
    frame["potato_week"] *= (frame.subject_id == "b") * 2.0
    found = fitted(frame, "fixed_effects")
    assert np.isnan(found.std_error["beans_week"])
    assert np.isnan(found.p_value["beans_week"])
    assert found.std_error[["fiber_g_week", "calories_week"]].notna().all()
    assert found.estimate.notna().all()


def test_under_thirty_subjects_the_note_says_that_clustered_errors_are_unreliable():
    few = fit_models(FrameTable(simulate(subjects=29)))
    clustered = few.model.isin(["ols_cluster", "fixed_effects"])
    assert few[clustered].note.str.contains("29 subjects: under 30 clusters, clustered standard errors are unreliable").all()
    enough = fit_models(FrameTable(simulate(subjects=30)))
    assert (enough[enough.model != "mixed_effects"].note == "").all()


def test_subjects_with_one_row_are_counted_in_the_note_of_fixed_effects():
    frame = simulate(subjects=30)
    first = frame.subject_id == "person-000"
    found = fitted(pd.concat([frame[first][:1], frame[~first]]), "fixed_effects")
    assert found.note.str.contains("1 of 30 subjects have one row").all()


# ------------------------------------------------------------------------------------------------------ promises


def test_no_subject_id_is_in_the_output():
    text = fit_models(FrameTable(simulate())).to_csv() + fit_models(FrameTable(constant(simulate()))).to_csv()
    assert "person" not in text


def disturbed(frame, column):
    """Three frames in which one column differs: in its values, in what is missing, and by being the same everywhere."""
    random = np.random.default_rng(5)
    if column in {"subject_id", "week"}:
        values = frame[column]
        changes = [random.permutation(values.to_numpy()), values.iloc[0], values.where(frame.index > 0, values.iloc[-1])]
    else:
        values = frame[column].astype(float)
        changes = [random.permutation(values), values.where(frame.subject_id != "person-001"), 0.0]
    return [frame.assign(**{column: change}) for change in changes]


def test_declared_column_lineage_is_what_changes_when_one_column_does():
    frame = simulate(3)
    before = fit_models(FrameTable(frame))
    seen = {column: set() for column in COLUMNS}
    for column in ("subject_id", "week", *REGRESSORS, OUTCOME):
        for other in disturbed(frame, column):
            after = fit_models(FrameTable(other))
            for output in COLUMNS:
                if not after[output].equals(before[output]):
                    seen[output].add(f"silver/modeling_dataset.{column}")
    declared = {column: set(sources) for column, sources in MODELS_LINEAGE["gold/models"].items()}
    # Singularity needs a subject variance at 0, which a change in these columns brings about in other data.
    assert seen.pop("singular") <= declared.pop("singular")
    assert seen == declared


def test_importing_the_models_imports_nothing_heavy():
    program = "import sys, pipeline.study.models; print([name for name in ('numpy', 'pandas', 'scipy', 'statsmodels') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
