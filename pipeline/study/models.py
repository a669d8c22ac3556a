"""The gold models: weight change in the following week on what was eaten in this one.

Three models of the same rows, told apart by what they take for granted about a subject's rows: `ols_cluster` (nothing
but independence between subjects), `fixed_effects` (each subject has a level of its own), `mixed_effects` (these levels
are draws from one normal distribution). None of them says what causes what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.engine import Table
    from pipeline.study.inference import Fit
    from pipeline.study.observations import Sample

OUTCOME: Final = "delta_kg_next"
REGRESSORS: Final = ("fiber_g_week", "calories_week", "beans_week", "potato_week")
MODELS: Final = ("ols_cluster", "fixed_effects", "mixed_effects")

_USED = tuple(f"silver/modeling_dataset.{column}" for column in (OUTCOME, *REGRESSORS))
_USED_BY_SUBJECT = ("silver/modeling_dataset.subject_id", *_USED)

# Which input columns can move which output columns. A row counts when its outcome and regressors are known.
MODELS_LINEAGE: Final = {
    "gold/models": {
        "model": (),
        "term": (),
        "estimate": _USED_BY_SUBJECT,
        "std_error": _USED_BY_SUBJECT,
        "statistic": _USED_BY_SUBJECT,
        "p_value": _USED_BY_SUBJECT,
        "ci_low": _USED_BY_SUBJECT,
        "ci_high": _USED_BY_SUBJECT,
        "n_obs": _USED,
        "n_subjects": _USED_BY_SUBJECT,
        "r_squared": _USED_BY_SUBJECT,
        "converged": _USED_BY_SUBJECT,
        "singular": _USED_BY_SUBJECT,
        "note": _USED_BY_SUBJECT,
    }
}


def fit_models(modeling_dataset: Table) -> pd.DataFrame:
    """Fit all models; one row a model and term, with the fit's facts on each.

    Estimates are in kg a unit of the regressor, the variances in kg². Missing numbers are NaN; a model that can't be
    fitted has nothing but missing numbers, `converged` false, and the reason in `note`.
    """
    import pandas as pd

    from pipeline.study.observations import read_sample

    sample = read_sample(modeling_dataset, OUTCOME, REGRESSORS)
    return pd.concat([_rows(name, fit_model(name, sample), sample) for name in MODELS], ignore_index=True)


def fit_model(name: str, sample: Sample) -> Fit:
    """Fit one of `MODELS`, or say why it can't be."""
    from pipeline.study.inference import INTERCEPT, fit_least_squares, no_fit
    from pipeline.study.mixed import VARIANCES, fit_random_intercept
    from pipeline.study.observations import obstacle

    within = name == "fixed_effects"
    if reason := obstacle(sample, within=within):
        first = () if within else (INTERCEPT,)
        last = VARIANCES if name == "mixed_effects" else ()
        return no_fit((*first, *sample.regressors, *last), reason)
    return fit_random_intercept(sample) if name == "mixed_effects" else fit_least_squares(sample, within=within)


def _rows(name: str, fit: Fit, sample: Sample) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "model": name,
            "term": list(fit.terms),
            "estimate": fit.estimates,
            "std_error": fit.std_errors,
            "statistic": fit.statistics,
            "p_value": fit.p_values,
            "ci_low": fit.estimates - fit.margins,
            "ci_high": fit.estimates + fit.margins,
            "n_obs": sample.n_obs,
            "n_subjects": sample.n_subjects,
            "r_squared": fit.r_squared,
            "converged": fit.converged,
            "singular": fit.singular,
            "note": fit.note,
        }
    )
