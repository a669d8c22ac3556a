"""Freshness and service levels: what is promised, how much of it is left, and how long things took."""

from __future__ import annotations

from typing import Final

from pipeline import names
from pipeline.stack.dashboards import Dashboard, Line, choices
from pipeline.stack.dashboards_overview import LOST, NO_RUNS, stale, success_share
from pipeline.stack.links import Addresses
from pipeline.stack.panels import GREEN, PURPLE, RED, YELLOW, Panel, Scale, Target, Words, bar_gauge, override, painted, series, stat
from pipeline.stack.queries import BY_PIPELINE, PIPELINE_LEGEND, now, of_runs, over_time, recorded
from pipeline.stack.rules import STEP_SECONDS, SUCCESS_SHARE

STEP_LEGEND: Final = f"{{{{{names.STEP.name}}}}} · {PIPELINE_LEGEND}"
BUCKETS: Final = "p95 (buckets)"
NOT_YET: Final = "Nothing is recorded yet: rules are evaluated every 15 s once a run has arrived"
# Asked for its exemplars, which only buckets have in Prometheus: its own line would say less than the points do.
EXEMPLARS_ONLY: Final = override(BUCKETS, custom_lineWidth=0, custom_showPoints="never", custom_hideFrom={"legend": True, "tooltip": True, "viz": False})


def build(addresses: Addresses) -> Dashboard:
    """The dashboard."""
    del addresses  # the same call for all
    return Dashboard(
        name="slo",
        title="Goldtrace · Freshness and SLOs",
        description="Is the data fresh, do runs succeed, are steps fast: and how much may still go wrong.",
        days=14,
        variables=choices(),
        parts=(
            Line(height=4, panels=((6, success_share()), *((6, panel) for panel in _budgets()))),
            Line(height=9, panels=((12, stale()), (12, _slow_steps()))),
            Line(height=8, panels=((12, _run_durations()), (12, _step_durations()))),
            Line(height=8, panels=((12, _share_over_time()), (12, _runs_a_day()))),
        ),
    )


def _budgets() -> list[Panel]:
    """How much of each error budget is left."""
    promises = (
        ("goldtrace:slo_success:budget_left", "How much success budget is left?", "More than 95 % of the last 20 runs complete."),
        ("goldtrace:slo_freshness:budget_left", "How much freshness budget is left?", "Silver is fresher than 2 h after the schedule says."),
        ("goldtrace:slo_latency:budget_left", "How much latency budget is left?", "The p95 of a step over the runs of 7 days stays under 5 min."),
    )
    scale = Scale(unit="percentunit", steps=((None, RED), (0.000001, YELLOW), (0.5, GREEN)), decimals=0)
    found = []
    for rule, title, promise in promises:
        description = f"{promise} 100 %: the error budget is untouched; 0 %: spent; below: overspent. Counted over runs, not minutes (docs/metrics.md)."
        words = Words(title=title, description=description, empty=NOT_YET)
        found.append(stat(words, [now(f"min by ({BY_PIPELINE}) ({recorded(rule)})", PIPELINE_LEGEND)], scale, filled=False))
    return found


def _slow_steps() -> Panel:
    words = Words(
        title="Which steps are slow?",
        description="The 95th percentile of each step's duration over the runs of 7 days, exact, longest first. Red: over 5 min, which breaks the objective.",
        empty=NOT_YET,
    )
    target = now(f"sort_desc({recorded('goldtrace:step_duration_seconds:p95_7d')})", STEP_LEGEND)
    return bar_gauge(words, target, Scale(unit="s", steps=((None, GREEN), (STEP_SECONDS, RED)), low=0))


def _run_durations() -> Panel:
    words = Words(
        title="How long did runs take?",
        description="A point is a run. A diamond is an exemplar: it leads to the run's trace.",
        empty=NO_RUNS,
    )
    exact = over_time(of_runs(names.LAST_RUN_DURATION), PIPELINE_LEGEND)
    return series(words, [exact, _exemplars(names.RUN_DURATION, BUCKETS)], Scale(unit="s", low=0)).with_overrides(EXEMPLARS_ONLY)


def _step_durations() -> Panel:
    words = Words(
        title="How long did each step take?",
        description="A point is a step of a run. A diamond is an exemplar: it leads to the step's span in the run's trace.",
        empty=NO_RUNS,
    )
    exact = over_time(of_runs(names.STEP_LAST_DURATION), STEP_LEGEND)
    return series(words, [exact, _exemplars(names.STEP_DURATION, BUCKETS)], Scale(unit="s", steps=((None, GREEN), (STEP_SECONDS, RED)), low=0)).with_overrides(
        EXEMPLARS_ONLY
    )


def _exemplars(histogram: names.Metric, legend: str) -> Target:
    """A histogram's quantile, which is there for its exemplars: gauges lose theirs in Prometheus."""
    expr = f"histogram_quantile(0.95, sum by (le) ({of_runs(histogram, function='sum', part='bucket')}))"
    return over_time(expr, legend, exemplars=True)


def _share_over_time() -> Panel:
    words = Words(
        title="How did the share of good runs move?",
        description="The share of completed runs among the last 20, as each run counted it. Below the dashed 95 % the objective is broken.",
        empty=NO_RUNS,
    )
    scale = Scale(unit="percentunit", steps=((None, RED), (SUCCESS_SHARE, GREEN)), low=0, high=1)
    return series(words, [over_time(of_runs(names.LAST_RUN_SUCCESS_SHARE_20), PIPELINE_LEGEND)], scale)


def _runs_a_day() -> Panel:
    words = Words(
        title="How many runs ended a day?",
        description="Runs by outcome in steps of at least a day. A schedule of once a day wants one; a gap is one that never came, or is lost and not closed.",
        empty=NO_RUNS,
    )
    expr = f"sum by ({names.OUTCOME.name}) ({of_runs(names.RUNS, function='sum')})"
    panel = series(words, [over_time(expr, f"{{{{{names.OUTCOME.name}}}}}")], Scale(unit="none", decimals=0), bars=True)
    return panel.each("1d").with_overrides(*painted(completed=GREEN, failed=RED, aborted=PURPLE, lost=LOST))
