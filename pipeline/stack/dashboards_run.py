"""One run: how it ended, where the time went, what the checks said, what it published and estimated, and its log."""

from __future__ import annotations

from pipeline import names
from pipeline.stack import links, tables
from pipeline.stack.dashboards import Dashboard, Line, Section, choices, run_variable, trace_variable
from pipeline.stack.dashboards_overview import GATES, STATES, run_columns
from pipeline.stack.links import Addresses, field
from pipeline.stack.panels import GREEN, GREY, RED, YELLOW, Panel, Words, facts, logs, trace
from pipeline.stack.queries import of_run, records, this_run
from pipeline.stack.spelling import ENVIRONMENT, NAMESPACE
from pipeline.stack.tables import Column

CHOOSE = "No run is chosen: click one in the table above, or paste an id into Run"
# What a log says beyond the checks that passed.
NOT_PASSED = f'{of_run(names.CHECK_OUTCOME)}!="passed"'
TELLING = f'{of_run(names.EVENT_NAME)}!="{names.CHECK_EVALUATED.name}" or {NOT_PASSED}'
LOG_LINES = 1000
OUTCOMES = (("failed", "failed", RED), ("quarantined", "set aside", YELLOW), ("passed", "passed", GREEN))


def build(addresses: Addresses) -> Dashboard:
    """The dashboard."""
    return Dashboard(
        name="run",
        title="Goldtrace · Run",
        description="One run in full: choose it in the table, or paste its id.",
        days=30,
        variables=(*choices(), run_variable(), trace_variable()),
        parts=(
            Line(height=7, panels=((24, _runs(addresses)),)),
            Section(title="The run that is chosen"),
            Line(height=3, panels=((24, _summary(addresses)),)),
            Line(height=11, panels=((24, _waterfall()),)),
            Line(height=9, panels=((13, _steps(addresses)), (11, _datasets(addresses)))),
            Line(height=8, panels=((12, _broken_checks(addresses)), (12, _passed_checks(addresses)))),
            Line(height=8, panels=((24, estimates("What did the models estimate?", addresses, this_run())),)),
            Line(height=10, panels=((24, _log()),)),
        ),
        links=(addresses.report_of("${run}"), addresses.trace_of("${trace}")),
    )


def _runs(addresses: Addresses) -> Panel:
    words = Words(
        title="Which run?",
        description="The newest 200 runs in the range. A click on a run's id shows it below; its report, trace and job are one click further.",
        empty="No run ended in this range: choose a longer one",
    )
    return tables.of_records(words, records(names.RUN_FINISHED, lines=200), run_columns(addresses))


def _summary(addresses: Addresses) -> Panel:
    words = Words(
        title="How did it end?",
        description="From the run's own last record. A run that was killed has none, until `pipeline reap` closes it; one that still runs has none either.",
        empty=CHOOSE,
    )
    columns = [
        Column(name=of_run(names.RUN_STATE), title="State", words=tuple((value, *shown) for value, shown in STATES.items())),
        Column(name=of_run(names.RUN_GATE), title="Gate", words=tuple((value, *shown) for value, shown in GATES.items())),
        Column(name=of_run(names.RUN_SECONDS), title="Took", unit="s"),
        Column(name=of_run(names.RUN_STEPS), title="Steps", unit="none"),
        Column(name=of_run(names.RUN_ROWS_IN), title="Rows in", unit="locale"),
        Column(name=of_run(names.RUN_ROWS_QUARANTINED), title="Set aside", unit="locale", steps=((None, GREY), (1, YELLOW))),
    ]
    overrides = [column.override(cells=False) for column in columns]
    panel = facts(words, records(names.RUN_FINISHED, this_run(), lines=1), tables.record_fields(columns), overrides)
    return panel.leading_to(addresses.report_of("${run:percentencode}"), addresses.trace_of("${trace:percentencode}"))


def _waterfall() -> Panel:
    words = Words(
        title="Where did the time go?",
        # Grafana's panel of traces doesn't show what an empty one means.
        description="The run's trace from Jaeger: its id is the run's id without hyphens. It does not depend on the range. "
        "Empty while no run is chosen: click one in the table above, or paste an id into Run.",
        empty=CHOOSE,
    )
    return trace(words, "${trace}")


def _steps(addresses: Addresses) -> Panel:
    words = Words(
        title="What did each step do?",
        description="A row is a step that ended: rows that it read, wrote and set aside. The step leads to its job in Marquez and its span in Jaeger.",
        empty=CHOOSE,
    )
    step = field(of_run(names.STEP_NAME))
    span = addresses.trace_of(field(links.TRACE_ID), field(links.SPAN_ID))
    columns = [
        Column(name=of_run(names.STEP_NAME), title="Step", width=95, links=(addresses.job_of(field(NAMESPACE), step), span)),
        Column(name=of_run(names.STEP_STATE), title="State", width=95, words=tuple((value, *shown) for value, shown in STATES.items())),
        Column(name=of_run(names.STEP_SECONDS), title="Took", unit="s", bar=True),
        Column(name=of_run(names.STEP_ROWS_IN), title="Rows in", unit="locale", width=80),
        Column(name=of_run(names.STEP_ROWS_OUT), title="Rows out", unit="locale", width=80),
        Column(name=of_run(names.STEP_ROWS_QUARANTINED), title="Set aside", unit="locale", width=80, steps=((None, GREY), (1, YELLOW))),
        Column(name=of_run(names.EXCEPTION_MESSAGE), title="Problem"),
        *tables.hidden(NAMESPACE, links.TRACE_ID, links.SPAN_ID),
    ]
    return tables.of_records(words, records(names.STEP_FINISHED, this_run(), oldest_first=True), columns)


def _datasets(addresses: Addresses) -> Panel:
    words = Words(
        title="What did it publish?",
        description="Each dataset that the run made current or found unchanged. A failed or RED run publishes nothing.",
        empty="Nothing was published, or no run is chosen",
    )
    columns = [
        *links.dataset_column(addresses),
        Column(name=of_run(names.DATASET_ROW_COUNT), title="Rows", unit="locale", width=75),
        Column(name=of_run(names.DATASET_BYTE_COUNT), title="Size", unit="bytes", width=85),
        Column(name=of_run(names.DATASET_CHANGED), title="Changed", width=85, words=(("true", "changed", GREEN), ("false", "unchanged", GREY))),
        Column(name=of_run(names.DATASET_VERSION), title="Version", width=110),
        *tables.hidden(NAMESPACE),
    ]
    return tables.of_records(words, records(names.DATASET_PUBLISHED_EVENT, this_run()), columns, sort=("Dataset", False))


def _broken_checks(addresses: Addresses) -> Panel:
    words = Words(
        title="Which checks did not pass?",
        description="Checks of the run that failed, and rules that set rows aside. Counts are of rows; no value of a row is ever shown.",
        empty="Every check passed, or no run is chosen",
    )
    return tables.of_records(words, records(names.CHECK_EVALUATED, this_run(NOT_PASSED), lines=500), check_columns(addresses), sort=("Outcome", False))


def _passed_checks(addresses: Addresses) -> Panel:
    words = Words(
        title="Which checks passed?",
        description="Checks of the run that held, the last first. What was looked at is what the contract of each dataset asks for.",
        empty="No check passed, or no run is chosen",
    )
    passed = f'{of_run(names.CHECK_OUTCOME)}="passed"'
    return tables.of_records(words, records(names.CHECK_EVALUATED, this_run(passed), lines=1000), check_columns(addresses), sort=("Dataset", False))


def check_columns(addresses: Addresses) -> list[Column]:
    """What a table says of a check."""
    return [
        Column(name=of_run(names.CHECK_OUTCOME), title="Outcome", width=90, words=OUTCOMES),
        *links.dataset_column(addresses, width=170),
        Column(name=of_run(names.CHECK_EXPECTED), title="Rule"),
        Column(name=of_run(names.CHECK_UNEXPECTED), title="Broken by", unit="locale", width=90),
        Column(name=of_run(names.CHECK_ROWS), title="Of rows", unit="locale", width=80),
        Column(name=of_run(names.CHECK_SEVERITY), title="Severity", width=80),
        *tables.hidden(NAMESPACE),
    ]


def estimates(title: str, addresses: Addresses, more: str = "", *, dated: bool = False) -> Panel:
    """A row for each coefficient that a run estimated."""
    words = Words(
        title=title,
        description="Coefficients with 95 % confidence intervals, as the run wrote them down. A model that could not be fitted has no row; the gate says why.",
        empty="No model was fitted" if dated else "No model was fitted, or no run is chosen",
    )
    of_its_run = [tables.when(), Column(name=of_run(names.RUN_ID), title="Run", width=130, links=links.run_links(addresses))] if dated else []
    columns = [
        *of_its_run,
        Column(name=of_run(names.MODEL_NAME), title="Model", width=110),
        Column(name=of_run(names.MODEL_TERM), title="Term", width=110),
        *(
            Column(name=of_run(fact), title=shown, unit="none", width=85)
            for fact, shown in ((names.MODEL_VALUE, "Estimate"), (names.MODEL_LOW, "Low"), (names.MODEL_HIGH, "High"), (names.MODEL_P, "p"))
        ),
        Column(name=of_run(names.MODEL_FIT_CONVERGED), title="Fit", width=110, words=(("true", "converged", GREEN), ("false", "did not converge", RED))),
        *links.mlflow_columns(addresses),
        Column(name=of_run(names.MODEL_NOTE), title="Note"),
        *(tables.hidden(NAMESPACE, ENVIRONMENT, links.TRACE_ID) if dated else []),
    ]
    return tables.of_records(words, records(names.MODEL_ESTIMATED, more, lines=500), columns)


def _log() -> Panel:
    words = Words(
        title="What did it say?",
        description=f"The run's log, oldest line first, without the checks that passed. Of a longer one the newest {LOG_LINES} lines are shown: its "
        "beginning is in the bundle's logs.jsonl. A line leads to its trace.",
        empty=CHOOSE,
    )
    target = records(None, this_run(TELLING), lines=LOG_LINES)
    return logs(words, target)
