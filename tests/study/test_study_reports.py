"""The study's report: its numbers, its words, and what must not be in it."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.linear_model import OLS

from pipeline.study.models import OUTCOME, REGRESSORS, fit_models
from pipeline.study.reports import write_report
from tests.study.frame_table import FrameTable


def rows_that_clustering_matters_for(subjects=40, size=10, seed=0):
    """Fibre and outcome that differ by subject alone: as independent rows they look significant by accident."""
    random = np.random.default_rng(seed)
    subject = np.repeat(np.arange(subjects), size)
    count = len(subject)
    frame = pd.DataFrame(
        {
            "subject_id": [f"person-{number:03d}" for number in subject],
            "fiber_g_week": 170 + 30 * random.normal(size=subjects)[subject] + random.normal(size=count),
            "calories_week": 11_700 + 2_300 * random.normal(size=count),
            "beans_week": random.integers(0, 2, count),
            "potato_week": random.integers(0, 2, count),
        }
    )
    frame[OUTCOME] = 2 * random.normal(size=subjects)[subject] + random.normal(size=count)
    return frame


def report(frame):
    files = write_report(models=FrameTable(fit_models(FrameTable(frame))), modeling_dataset=FrameTable(frame))
    assert list(files) == ["report.md"]
    return files["report.md"].decode()


def cells(text, heading, term):
    """The cells of a term's line in the table under a heading (or under the words it begins with)."""
    section = text[text.index(heading) :]
    line = next(line for line in section.splitlines() if line.startswith(f"| `{term}` |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_tables_hold_the_models_numbers():
    frame = rows_that_clustering_matters_for()
    text, models = report(frame), fit_models(FrameTable(frame))
    for row in models.dropna(subset=["estimate"]).itertuples():
        shown = cells(text, f"## Model `{row.model}`", row.term)[1].replace("−", "-").replace(",", "")
        assert float(shown) == pytest.approx(row.estimate, rel=5e-4)


def test_p_values_of_independent_rows_are_those_of_plain_least_squares():
    frame = rows_that_clustering_matters_for(seed=1)
    plain = OLS(frame[OUTCOME], frame[list(REGRESSORS)].assign(intercept=1.0)).fit()
    text = report(frame)
    for term in REGRESSORS:
        shown = cells(text, "In `ols_cluster`", term)[1]
        assert shown == ("< 0.001" if plain.pvalues[term] < 0.001 else f"{plain.pvalues[term]:.3f}")


def test_what_clustering_takes_away_is_said_in_words():
    # Of the first seeds, one in which rows as independent make fibre significant, and clustered errors don't.
    text = next(text for text in (report(rows_that_clustering_matters_for(seed=seed)) for seed in range(12)) if "rests on taking" in text)
    assert re.search(r"In `ols_cluster`, if all rows were independent, `fiber_g_week`[^.]* a p value under 0.05\. With errors clustered", text)
    assert "what looks significant in `fiber_g_week` rests on taking a subject's rows for independent" in text


def test_a_report_says_that_nothing_is_a_cause_and_how_many_rows_count():
    frame = rows_that_clustering_matters_for()
    frame.loc[:4, OUTCOME] = np.nan
    text = report(frame)
    assert "**No causes.**" in text
    assert "395 rows (subject-weeks) of 40 subjects; 5 more lack the outcome or a regressor and are left out." in text


def test_the_means_are_those_of_the_rows_that_count():
    frame = rows_that_clustering_matters_for()
    fiber = cells(report(frame), "## Data", "fiber_g_week")
    assert fiber[2:] == ["g", f"{frame.fiber_g_week.mean():#.4g}", f"{frame.fiber_g_week.std():#.4g}"]


def test_a_singular_fit_is_explained():
    frame = rows_that_clustering_matters_for()
    frame[OUTCOME] -= frame.groupby("subject_id")[OUTCOME].transform("mean")
    text = report(frame)
    assert "Note: singular fit: the subject variance is estimated as 0" in text
    assert "`mixed_effects` found no variance between subjects" in text


@pytest.mark.parametrize("change", [lambda frame: frame[:0], lambda frame: frame[:10], lambda frame: frame.assign(beans_week=0)])
def test_models_that_cannot_be_fitted_are_reported_with_the_reason(change):
    text = report(change(rows_that_clustering_matters_for()))
    assert text.count("**not converged**") == 3
    assert text.count("Note: not fitted: ") == 3
    assert "`ols_cluster` could not be fitted, so there is nothing to compare." in text
    assert "nan" not in text


def test_means_of_fewer_than_five_people_are_not_shown():
    text = report(rows_that_clustering_matters_for(subjects=4))
    assert "Means are not shown for fewer than 5 subjects." in text
    assert "standard deviation" not in text


def test_no_subject_and_no_clock_is_in_the_report():
    text = report(rows_that_clustering_matters_for())
    assert "person" not in text
    assert not re.search(r"20\d\d-\d\d", text)


def test_the_order_of_rows_does_not_change_a_byte():
    frame = rows_that_clustering_matters_for()
    assert report(frame) == report(frame.sample(frac=1, random_state=2))


def test_importing_the_reports_imports_nothing_heavy():
    program = "import sys, pipeline.study.reports; print([name for name in ('numpy', 'pandas', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
