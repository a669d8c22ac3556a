"""Is the data sound: the gate, failed checks, rows set aside, and how many rows each table has, run by run."""

from __future__ import annotations

from pipeline import names
from pipeline.stack import links, tables
from pipeline.stack.dashboards import Dashboard, Line, choices
from pipeline.stack.dashboards_overview import NO_GATE, NO_RUNS, last_gate
from pipeline.stack.dashboards_run import NOT_PASSED, check_columns
from pipeline.stack.links import Addresses
from pipeline.stack.panels import GREEN, NONE_IS_GOOD, RED, YELLOW, Panel, Scale, Words, painted, series, stat
from pipeline.stack.queries import BY_PIPELINE, PIPELINE_LEGEND, RUN_ID, last_fact, of_runs, over_time, records
from pipeline.stack.spelling import ENVIRONMENT
from pipeline.stack.tables import Column

DATASET = names.DATASET.name
# Two pipelines may call a dataset the same.
BY_DATASET = f"{DATASET}, {BY_PIPELINE}"
DATASET_LEGEND = f"{{{{{DATASET}}}}} · {PIPELINE_LEGEND}"
OUTCOME_COLORS = painted(passed=GREEN, failed=RED, quarantined=YELLOW)
FAILED = 'outcome!="passed"'
WRITTEN = 'flow="out"'


def build(addresses: Addresses) -> Dashboard:
    """The dashboard."""
    return Dashboard(
        name="quality",
        title="Goldtrace · Data quality",
        description="Is the data sound, and was it so in the runs before?",
        days=14,
        variables=choices(),
        parts=(
            Line(height=4, panels=((6, last_gate()), *((6, panel) for panel in _counts()))),
            Line(height=8, panels=((12, _failures()), (12, _quarantined_share()))),
            Line(height=9, panels=((24, _broken(addresses)),)),
            Line(height=9, panels=((12, _rows()), (12, _evaluated()))),
        ),
    )


def _counts() -> list[Panel]:
    errors = Words(
        title="How many errors turned the gate RED?",
        description="Failed checks of severity error in the newest run that got as far as its checks. Any at all, and the run publishes nothing.",
        empty=NO_GATE,
    )
    warnings = Words(
        title="How many warnings turned it YELLOW?",
        description="What the gate of the newest run was warned about: failed checks of severity warn, and rows set aside within what a contract allows.",
        empty=NO_GATE,
    )
    rows = Words(
        title="How many rows did the last run set aside?",
        description="Rows that broke a rule of their contract and went to quarantine with the reason. Rows in = rows out + rows set aside.",
        empty=NO_RUNS,
    )
    warned = ((None, GREEN), (1, YELLOW))
    return [
        stat(errors, [last_fact(names.GATE_DECIDED, names.GATE_ERRORS, PIPELINE_LEGEND)], Scale(unit="none", steps=NONE_IS_GOOD)),
        stat(warnings, [last_fact(names.GATE_DECIDED, names.GATE_WARNINGS, PIPELINE_LEGEND)], Scale(unit="none", steps=warned)),
        stat(rows, [last_fact(names.RUN_FINISHED, names.RUN_ROWS_QUARANTINED, PIPELINE_LEGEND)], Scale(unit="locale", steps=warned)),
    ]


def _failures() -> Panel:
    words = Words(
        title="In which runs did checks fail?",
        description="Checks that failed, and checks that set rows aside, by dataset. A bar is the runs of one step of the graph; no bar, nothing failed.",
        empty="Every check passed in every run of this range",
    )
    expr = f"sum by ({BY_DATASET}, {names.OUTCOME.name}) ({of_runs(names.CHECKS, FAILED, 'sum')})"
    target = over_time(expr, f"{DATASET_LEGEND} · {{{{{names.OUTCOME.name}}}}}")
    return series(words, [target], Scale(unit="none", decimals=0), bars=True).with_overrides(*painted(failed=RED, quarantined=YELLOW))


def _quarantined_share() -> Panel:
    aside, read = (
        f"sum by ({BY_DATASET}) ({of_runs(names.DATASET_ROWS, flow, 'sum')})" for flow in ('layer="bronze",flow="quarantined"', 'layer="bronze",flow="in"')
    )
    words = Words(
        title="Which share of the rows read was set aside?",
        description="Rows in quarantine as a share of the rows read, by the dataset that was to take them. The input's contract says how many are too many.",
        empty=NO_RUNS,
    )
    steps = ((None, GREEN), (0.05, RED))
    return series(words, [over_time(f"{aside} / ({read} > 0)", DATASET_LEGEND)], Scale(unit="percentunit", steps=steps, low=0))


def _broken(addresses: Addresses) -> Panel:
    words = Words(
        title="Which checks did not pass, and in which run?",
        description="The newest 500 checks that failed or set rows aside. The run leads to its page, its report and its trace.",
        empty="Every check passed in every run of this range",
    )
    of_its_run = [
        tables.when(),
        Column(name=RUN_ID, title="Run", width=130, links=links.run_links(addresses)),
        *tables.hidden(links.TRACE_ID),
        Column(name=ENVIRONMENT, title="Environment", width=100),
    ]
    target = records(names.CHECK_EVALUATED, NOT_PASSED, lines=500)
    return tables.of_records(words, target, [*of_its_run, *check_columns(addresses)])


def _rows() -> Panel:
    words = Words(
        title="How many rows does each table have, run by run?",
        description="Rows that the run's steps wrote, whether or not the run published them. A fall or a jump is worth a look.",
        empty=NO_RUNS,
    )
    expr = f"max by ({BY_DATASET}) ({of_runs(names.DATASET_ROWS, WRITTEN)})"
    return series(words, [over_time(expr, DATASET_LEGEND)], Scale(unit="locale", low=0))


def _evaluated() -> Panel:
    words = Words(
        title="How many checks were evaluated?",
        description="All checks of the runs in one step of the graph, by outcome. Fewer than usual: a run ended early, or a contract lost rules.",
        empty=NO_RUNS,
    )
    expr = f"sum by ({names.OUTCOME.name}) ({of_runs(names.CHECKS, function='sum')})"
    return series(words, [over_time(expr, f"{{{{{names.OUTCOME.name}}}}}")], Scale(unit="none", decimals=0), bars=True).with_overrides(*OUTCOME_COLORS)
