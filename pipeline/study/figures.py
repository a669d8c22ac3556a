"""The study's plots, as SVG: aggregates only, and the same bytes for the same tables.

The only module that knows matplotlib, by its object interface: no pyplot, no current figure. Text stays text, so the
files are small and can be read aloud; fonts that a reader lacks fall back to the next sans serif.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from pipeline.study.models import MODELS, REGRESSORS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pipeline.engine import Table
    from pipeline.study.aggregates import GroupMeans

# Okabe and Ito's colours are told apart by colour-blind readers; markers and dashes tell them apart in grey print.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
MODEL_LOOKS: Final = {
    "ols_cluster": ("OLS, clustered", BLUE, "o"),
    "fixed_effects": ("Fixed effects", ORANGE, "s"),
    "mixed_effects": ("Mixed model", GREEN, "D"),
}
# More points than this run into each other.
MOST_MARKERS = 40
# What one step of a regressor means in the plot: factor on the coefficient, and the axis in words.
STEPS: Final = {
    "fiber_g_week": (10.0, "kg per 10 g more fibre in the week"),
    "calories_week": (1000.0, "kg per 1,000 kcal more in the week"),
    "beans_week": (1.0, "kg, week with beans against without"),
    "potato_week": (1.0, "kg, week with potato against without"),
}


def draw_figures(models: Table, modeling_dataset: Table, subject_trajectories: Table) -> dict[str, bytes]:
    """All plots by file name. A plot that has nothing to show is drawn with the reason in it."""
    import matplotlib as mpl

    from pipeline.study.aggregates import change_by_fiber, change_by_week, missing_by_week

    with mpl.rc_context():
        _set_style()
        return {
            "coefficients.svg": coefficients(models.df()),
            "weight_change.svg": weight_change(change_by_week(subject_trajectories)),
            "fiber_and_weight_change.svg": fiber_and_weight_change(change_by_fiber(modeling_dataset)),
            "missing_weights.svg": missing_weights(*missing_by_week(subject_trajectories)),
        }


def _set_style() -> None:
    """The look of all plots, whatever the machine's matplotlibrc says."""
    import matplotlib as mpl

    mpl.rcdefaults()
    mpl.rc("svg", hashsalt="goldtrace", fonttype="none")
    mpl.rc("font", **{"family": ["sans-serif"], "sans-serif": ["DejaVu Sans", "Verdana", "Arial"], "size": 9.0})
    mpl.rc("text", parse_math=False)
    mpl.rc("axes", titlesize=9.0, labelsize=9.0, grid=True, axisbelow=True)
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("grid", color="#DDDDDD", linewidth=0.6)
    mpl.rc("legend", frameon=False)


def coefficients(models: pd.DataFrame) -> bytes:
    """Estimates with 95 % confidence intervals: a panel a regressor, a line a model."""
    title = "Weight change in the following week, and what was eaten in this one"
    figure = _figure(title, "Points: estimates. Bars: 95 % confidence intervals. Models describe; they don't show causes.", height=4.6)
    panels = figure.subplots(2, 2, sharey=True).flat
    for panel, regressor in zip(panels, REGRESSORS, strict=True):
        factor, label = STEPS[regressor]
        panel.axvline(0.0, color=GREY, linewidth=0.8, linestyle="--")
        panel.set_xlabel(label)
        panel.set_ylim(len(MODELS) - 0.5, -0.5)
        panel.set_yticks(range(len(MODELS)), [MODEL_LOOKS[name][0] for name in MODELS])
        panel.grid(visible=False, axis="y")
        for line, name in enumerate(MODELS):
            _interval(panel, line, models[(models["model"] == name) & (models["term"] == regressor)], factor)
    return _svg(figure, title)


def _interval(panel: Axes, line: int, row: pd.DataFrame, factor: float) -> None:
    """One model's estimate in a panel, or the words that it is missing."""
    _, color, marker = MODEL_LOOKS[MODELS[line]]
    known = row.dropna(subset=["estimate"])
    if known.empty:
        panel.annotate("not fitted", (0.5, line), xycoords=("axes fraction", "data"), ha="center", va="center", color=GREY)
        return
    estimate, low, high = (float(known[column].iloc[0]) * factor for column in ("estimate", "ci_low", "ci_high"))
    panel.plot([low, high], [line, line], color=color, linewidth=1.8, solid_capstyle="butt")
    panel.plot([estimate], [line], color=color, marker=marker, markersize=6)


def weight_change(weeks: GroupMeans) -> bytes:
    """Mean weight change from baseline by week, with the number of people below."""
    title = "Weight change from baseline"
    left_out = _suppressed(weeks.suppressed, "week")
    if not len(weeks.at):
        return _nothing(title, f"Nothing to draw: no week with known weights of enough people.\n{left_out}")
    figure = _figure(title, f"Line: mean over people. Band: 95 % confidence interval.\n{left_out}", height=4.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _mean_with_band(upper, weeks, BLUE)
    upper.set_ylabel("kg from baseline")
    lower.bar(weeks.at, weeks.people, color=GREY, width=0.6)
    lower.set_ylabel("people")
    lower.set_ylim(bottom=0)
    _week_axis(lower)
    return _svg(figure, title)


def fiber_and_weight_change(bins: GroupMeans) -> bytes:
    """Mean weight change in the following week by fibre eaten in this one."""
    title = "Fibre in a week, and weight change in the following one"
    left_out = _suppressed(bins.suppressed, "bin")
    if not len(bins.at):
        return _nothing(title, f"Nothing to draw: no rows of enough people with fibre and weight known.\n{left_out}")
    figure = _figure(title, f"Points: means of bins of equal size. Band: 95 % confidence interval, clustered by person.\n{left_out}", height=3.8)
    panel = figure.subplots()
    _mean_with_band(panel, bins, GREEN)
    panel.set_xlabel("fibre in the week (g)")
    panel.set_ylabel("weight change in the following week (kg)")
    return _svg(figure, title)


def missing_weights(weeks: pd.DataFrame, suppressed: int) -> bytes:
    """The share of missing weights, and of rows that the models can't use for it, by week."""
    title = "Missing weights"
    left_out = _suppressed(suppressed, "week")
    if weeks.empty:
        return _nothing(title, f"Nothing to draw: no week with enough people.\n{left_out}")
    figure = _figure(title, f"Shares of all rows of the week.\n{left_out}", height=3.8)
    panel = figure.subplots()
    marks = len(weeks) <= MOST_MARKERS
    panel.plot(weeks["week"], 100 * weeks["no_weight"], color=BLUE, marker="o" if marks else "", markersize=4, label="weight not known")
    label = "change in the following week not known"
    panel.plot(weeks["week"], 100 * weeks["no_change"], color=ORANGE, marker="s" if marks else "", markersize=4, linestyle="--", label=label)
    panel.set_ylabel("share of rows (%)")
    panel.set_ylim(-2, 102)
    panel.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.0)
    _week_axis(panel)
    return _svg(figure, title)


def _mean_with_band(panel: Axes, groups: GroupMeans, color: str) -> None:
    panel.axhline(0.0, color=GREY, linewidth=0.8, linestyle="--")
    panel.fill_between(groups.at, groups.means - groups.margins, groups.means + groups.margins, color=color, alpha=0.2, linewidth=0)
    marker = "o" if len(groups.at) <= MOST_MARKERS else ""
    panel.errorbar(groups.at, groups.means, groups.margins, color=color, linewidth=1.8, elinewidth=0.6, marker=marker, markersize=4)


def _week_axis(panel: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("week of the study")


def _suppressed(groups: int, word: str) -> str:
    from pipeline.study.aggregates import SMALLEST_GROUP

    return f"{word.capitalize()}s with fewer than {SMALLEST_GROUP} people are not shown ({groups} here)."


def _figure(title: str, caption: str, *, height: float) -> Figure:
    """An empty figure (width 7.2 inches) with its title above and its caption below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height), layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=11, fontweight="bold")
    figure.supxlabel(caption, fontsize=8, color=GREY)
    return figure


def _nothing(title: str, reason: str) -> bytes:
    return _svg(_figure(title, reason, height=0.8), title)


def _svg(figure: Figure, title: str) -> bytes:
    file = io.BytesIO()
    # Unless told not to, the file says when and by which version it was drawn.
    figure.savefig(file, format="svg", metadata={"Title": title, "Date": None, "Creator": None})
    return file.getvalue()
