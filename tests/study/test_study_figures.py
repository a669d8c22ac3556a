"""The plots: what is in them, what must not be, and the same bytes each time."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS

from pipeline.study.aggregates import change_by_fiber, change_by_week, group_means, missing_by_week
from tests.study.figures_support import drawn, estimates, study
from tests.study.frame_table import FrameTable

FILES = ["coefficients.svg", "weight_change.svg", "fiber_and_weight_change.svg", "missing_weights.svg"]


@pytest.fixture(scope="module")
def figures():
    """The plots of an ordinary study."""
    return drawn(study())


def words(svg):
    return " ".join(text.strip() for text in ET.fromstring(svg).itertext()) + " "


def test_every_plot_is_svg_with_a_title(figures):
    assert list(figures) == FILES
    for svg in figures.values():
        root = ET.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.find("{http://www.w3.org/2000/svg}title").text


@pytest.mark.parametrize(
    ("file", "labels"),
    [
        ("coefficients.svg", ["kg per 10 g more fibre", "kg per 1,000 kcal", "95 % confidence", "OLS, clustered", "Fixed effects", "Mixed model"]),
        ("weight_change.svg", ["kg from baseline", "week of the study", "people", "95 % confidence"]),
        ("fiber_and_weight_change.svg", ["fibre in the week (g)", "weight change in the following week (kg)", "95 % confidence"]),
        ("missing_weights.svg", ["share of rows (%)", "week of the study"]),
    ],
)
def test_axes_carry_units_and_plots_say_what_bands_are(figures, file, labels):
    text = words(figures[file])
    for label in labels:
        assert label in text


def test_captions_fit_into_the_width(figures):
    for svg in [*figures.values(), *drawn(study()[:0]).values()]:
        assert max(len(text) for text in ET.fromstring(svg).itertext()) < 110


def test_a_coefficient_stands_at_its_value_in_the_units_of_the_axis():
    text = words(drawn(study(), estimates(estimate=-0.05, ci_low=-0.0501, ci_high=-0.0499))["coefficients.svg"])
    assert " −0.5 " in text  # per 10 g
    assert " −50 " in text  # per 1,000 kcal


def test_the_same_tables_give_the_same_bytes_in_another_process_and_order(figures, tmp_path, root):
    program = f"""
import sys; sys.path.insert(0, {str(root)!r})
from pathlib import Path
from tests.study.figures_support import drawn, study
for name, svg in drawn(study().sample(frac=1, random_state=1)).items(): Path(name).write_bytes(svg)
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "7", "MPLBACKEND": "pdf"}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")} == figures


def test_the_machines_matplotlib_settings_neither_show_nor_change(figures):
    with mpl.rc_context({"font.size": 30.0, "axes.facecolor": "red"}):
        assert drawn(study()) == figures
        assert mpl.rcParams["font.size"] == 30.0


def test_no_subject_and_no_clock_is_in_a_plot(figures):
    for svg in figures.values():
        assert b"anna" not in svg
        assert not re.search(rb"20\d\d-\d\d|Matplotlib", svg)


def test_no_line_has_a_point_for_each_person():
    svg = drawn(study(subjects=200))
    assert all(len(content) < 60_000 for content in svg.values())


def test_groups_under_five_people_are_left_out_and_counted():
    frame = study(subjects=12, weeks=6)
    few = frame[(frame.week <= 4) | frame.subject_id.isin(sorted(frame.subject_id.unique())[:4])]
    means, (shares, suppressed) = change_by_week(FrameTable(few, "subject_trajectories")), missing_by_week(FrameTable(few, "subject_trajectories"))
    assert list(means.at) == list(shares.week) == [1, 2, 3, 4]
    assert means.suppressed == suppressed == 2
    text = words(drawn(few)["weight_change.svg"])
    assert "Weeks with fewer than 5 people are not shown (2 here)" in text


def test_many_rows_of_few_people_are_still_few_people():
    frame = pd.DataFrame({"subject_id": ["a", "b", "c", "d"] * 50, "fiber_g_week": 1.0, "delta_kg_next": np.arange(200) / 100})
    assert len(change_by_fiber(FrameTable(frame, "modeling_dataset")).at) == 0


@pytest.mark.parametrize("rows", [0, 3])
def test_a_plot_with_nothing_to_show_says_so(rows):
    figures = drawn(study()[:rows], estimates(estimate=np.nan, ci_low=np.nan, ci_high=np.nan))
    assert words(figures.pop("coefficients.svg")).count("not fitted") == 12
    for svg in figures.values():
        assert "Nothing to draw" in words(svg)


def test_a_mean_over_people_has_the_ordinary_t_interval():
    frame = study(weeks=1)
    found = change_by_week(FrameTable(frame, "subject_trajectories"))
    known = frame.delta_from_baseline_kg.dropna()
    assert found.means[0] == pytest.approx(known.mean(), rel=1e-12)
    assert found.margins[0] == pytest.approx(stats.sem(known) * stats.t.ppf(0.975, len(known) - 1), rel=1e-12)
    assert list(found.people) == [len(known)]


def test_the_order_of_rows_does_not_move_a_digit_of_a_mean():
    frame = study(subjects=60)
    for groups, table in ((change_by_week, "subject_trajectories"), (change_by_fiber, "modeling_dataset")):
        here, there = (groups(FrameTable(rows, table)) for rows in (frame, frame.sample(frac=1, random_state=5)))
        for numbers in ("at", "means", "margins"):
            np.testing.assert_array_equal(getattr(here, numbers), getattr(there, numbers))


def test_a_mean_over_rows_has_an_interval_clustered_by_person():
    random = np.random.default_rng(3)
    rows = pd.DataFrame({"subject": np.repeat(np.arange(1, 11), 6), "value": np.repeat(random.normal(size=10), 6) + random.normal(size=60)})
    found = group_means(np.zeros(60, dtype=np.int64), rows, np.zeros(1))
    expected = OLS(rows.value, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": rows.subject}, use_t=True)
    np.testing.assert_allclose(found.means, expected.params, rtol=1e-12)
    np.testing.assert_allclose(found.means + found.margins, expected.conf_int()[1], rtol=1e-9)


def test_bins_hold_about_as_many_rows_each():
    frame = study(subjects=50)
    bins = change_by_fiber(FrameTable(frame, "modeling_dataset"))
    counted = frame.dropna(subset="delta_kg_next")
    edges = np.quantile(counted.fiber_g_week, np.arange(1, len(bins.at)) / len(bins.at))
    expected = counted.groupby(np.searchsorted(edges, counted.fiber_g_week, side="right")).delta_kg_next.mean()
    np.testing.assert_allclose(bins.means, expected, rtol=1e-9)
    assert len(bins.at) == min(10, len(counted) // 40)


def test_shares_of_missing_weights_are_those_of_the_weeks_rows():
    frame = study()
    shares, _ = missing_by_week(FrameTable(frame, "subject_trajectories"))
    np.testing.assert_allclose(shares.no_weight, frame.weight_kg.isna().groupby(frame.week).mean())
    np.testing.assert_allclose(shares.no_change, frame.delta_kg_next.isna().groupby(frame.week).mean())


def test_importing_the_figures_imports_nothing_heavy():
    program = "import sys, pipeline.study.figures; print([name for name in ('numpy', 'pandas', 'scipy', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
