"""The first look: is everything fine, what is stale, how did the last runs go. It fits a laptop's screen without scrolling."""

from __future__ import annotations

from pipeline import names
from pipeline.stack import links, tables
from pipeline.stack.dashboards import Dashboard, Line, choices
from pipeline.stack.links import Addresses, field
from pipeline.stack.panels import BLUE, GREEN, GREY, NONE_IS_GOOD, PURPLE, RED, YELLOW, Panel, Scale, Words, stat, state_timeline
from pipeline.stack.queries import BY_PIPELINE, KEPT, PIPELINE_LEGEND, RUN_ID, last, now, of_run, of_runs, over_time, records, sample
from pipeline.stack.rules import FRESH_SECONDS, MISSED_SECONDS, SUCCESS_SHARE
from pipeline.stack.spelling import ENVIRONMENT, NAMESPACE
from pipeline.stack.tables import Column

NO_RUNS = "No run has arrived: make run, then wait a few seconds"
NO_GATE = "No run has got as far as its checks"
# A day's run that is as late as it may be: a longer silence stays empty in the timeline.
GAP_MS = (24 * 3600 + FRESH_SECONDS) * 1000
# What fires about the chosen pipelines and about the stack, which has neither label.
FIRING = f'alertstate="firing",{ENVIRONMENT}!="{names.CANARY}",{ENVIRONMENT}=~"$environment|",{NAMESPACE}=~"$pipeline|"'
# Alerts that say what the verdict counts by itself, at once and not only when rules are evaluated next.
FACTS = ("GoldtraceRunFailed", "GoldtraceRunMissed", "GoldtraceDatasetStale", "GoldtraceGateRed")
# By when runs and datasets are due. A dataset that is no longer written, and so is due earlier than the others, is not late.
RUN_DUE = f"max by ({BY_PIPELINE}) (max_over_time({sample(names.RUN_DUE)}[{KEPT}]))"
_DUE = last(names.DATASET_DUE)
DATASET_DUE = f"({_DUE} >= on ({BY_PIPELINE}) group_left () max by ({BY_PIPELINE}) ({_DUE}))"

LOST = "dark-purple"
STATES = {"COMPLETED": ("Completed", GREEN), "FAILED": ("Failed", RED), "ABORTED": ("Aborted", PURPLE), "LOST": ("Lost", LOST)}
GATES = {"GREEN": ("GREEN", GREEN), "YELLOW": ("YELLOW", YELLOW), "RED": ("RED", RED)}
SUCCESS_WORDS = {"0": ("No", RED), "1": ("Yes", GREEN)}
GATE_WORDS = {"0": ("GREEN", GREEN), "1": ("YELLOW", YELLOW), "2": ("RED", RED)}
TIMELINE_WORDS = {
    "1": ("Completed", GREEN),
    "2": ("Completed, gate YELLOW", YELLOW),
    "3": ("Aborted", PURPLE),
    "4": ("Lost", LOST),
    "5": ("Failed", RED),
    "6": ("Gate RED", "dark-red"),
}


def build(addresses: Addresses) -> Dashboard:
    """The dashboard."""
    return Dashboard(
        name="overview",
        title="Goldtrace · Overview",
        description="Is everything fine? What is stale? How did the last runs go?",
        days=14,
        variables=choices(),
        parts=(
            Line(height=3, panels=((5, _verdict()), (5, _last_state()), (4, last_gate()), (5, _next_run()), (5, success_share()))),
            Line(height=5, panels=((15, _timeline()), (9, _firing(addresses)))),
            Line(height=7, panels=((14, runs(addresses)), (10, stale()))),
        ),
    )


def _verdict() -> Panel:
    failed = f"(count({last(names.LAST_RUN_SUCCESS)} == 0) or vector(0))"
    missed = f"(count({RUN_DUE} + {MISSED_SECONDS} < time()) or vector(0))"
    late = f"(count({DATASET_DUE} + {FRESH_SECONDS} < time()) or vector(0))"
    others = f'(count(ALERTS{{{FIRING},alertname!~"{"|".join(FACTS)}",severity!="info"}}) or vector(0))'
    expr = f"({failed} + {missed} + {late} + {others}) and on() count({last(names.LAST_RUN_SUCCESS)})"
    words = Words(
        title="Is everything fine?",
        description=(
            "Pipelines whose last run failed, plus those whose next run is more than 1 h overdue, plus datasets that are more than 2 h overdue, "
            "plus whatever else is firing. A pipeline without a schedule is never overdue; what is only informative doesn't count. "
            "The demonstration's runs count like others for 30 days: choose your own environment above to leave them out."
        ),
        empty=NO_RUNS,
    )
    return stat(words, [now(expr, "to look at")], Scale(unit="none", steps=NONE_IS_GOOD, decimals=0, words={"0": ("Yes", GREEN)}))


def _last_state() -> Panel:
    words = Words(
        title="Did the last run complete?",
        description="The newest run of each pipeline; the timeline says how. One that was killed counts once the next run or `pipeline reap` has closed it.",
        empty=NO_RUNS,
    )
    panel = stat(words, [now(last(names.LAST_RUN_SUCCESS), PIPELINE_LEGEND)], Scale(unit="none", steps=((None, RED), (1, GREEN)), words=SUCCESS_WORDS))
    return panel.leading_to(links.dashboard("goldtrace-run", "Runs of this pipeline"))


def last_gate() -> Panel:
    """What the newest verdict over the checks was."""
    words = Words(
        title="Did the data pass?",
        description="The gate of the newest run that got as far as its checks: YELLOW when a warning failed, RED when an error did and nothing was published.",
        empty=NO_GATE,
    )
    steps = ((None, GREEN), (1, YELLOW), (2, RED))
    panel = stat(words, [now(last(names.LAST_RUN_GATE), PIPELINE_LEGEND)], Scale(unit="none", steps=steps, words=GATE_WORDS))
    return panel.leading_to(links.dashboard("goldtrace-quality", "Data quality of this pipeline"))


def _next_run() -> Panel:
    words = Words(
        title="When is the next run due?",
        description="By the pipeline's schedule, seen from the end of the range. 'ago' means that it is overdue; it counts as missed after 1 h.",
        empty="No schedule: the pipeline declares none, or only runs beside it came",
    )
    steps = ((None, RED), (-MISSED_SECONDS, YELLOW), (0, GREEN))
    expr = f"{RUN_DUE} - time()"
    return stat(words, [now(expr, PIPELINE_LEGEND)], Scale(unit="dtdurations", steps=steps, decimals=0), filled=False)


def success_share() -> Panel:
    """The success SLO's number."""
    words = Words(
        title="How many of the last 20 completed?",
        description="Counted by the run itself from the bundles on its machine. The objective is 95 %: at most one failure in 20.",
        empty=NO_RUNS,
    )
    steps = ((None, RED), (SUCCESS_SHARE, GREEN))
    panel = stat(words, [now(last(names.LAST_RUN_SUCCESS_SHARE_20), PIPELINE_LEGEND)], Scale(unit="percentunit", steps=steps, decimals=0), filled=False)
    return panel.leading_to(links.dashboard("goldtrace-slo", "Freshness and SLOs of this pipeline"))


def _timeline() -> Panel:
    outcomes = (
        (1, 'outcome="completed",gate!="yellow"'),
        (2, 'outcome="completed",gate="yellow"'),
        (3, 'outcome="aborted"'),
        (4, 'outcome="lost"'),
        (5, 'outcome="failed",gate!="red"'),
        (6, 'outcome="failed",gate="red"'),
    )
    parts = " or ".join(f"{code} * {of_runs(names.RUNS, labels)}" for code, labels in outcomes)
    words = Words(
        title="How did the last runs go?",
        description=(
            "Each run's state lasts until the next run, at most 26 h: a day without a run stays empty. Where several runs fall into one step of the graph "
            "the worst is shown; a shorter range tells them apart."
        ),
        empty=NO_RUNS,
    )
    states = f"max by ({BY_PIPELINE}) ({parts})"
    # Only between two points is a gap bridged: the end of the range repeats the newest run's state, for the run to last until now.
    until_now = f"last_over_time(({states})[{GAP_MS // 3_600_000}h:$__interval]) and on () (vector(time() * 1000) > $__to - $__interval_ms)"
    target = over_time(f"{states} or ({until_now})", PIPELINE_LEGEND)
    steps = ((None, GREEN), (2, YELLOW), (3, PURPLE), (4, LOST), (5, RED), (6, "dark-red"))
    panel = state_timeline(words, target, Scale(unit="none", steps=steps, words=TIMELINE_WORDS), gap_ms=GAP_MS)
    return panel.leading_to(links.dashboard("goldtrace-run", "Runs in this range"))


def _firing(addresses: Addresses) -> Panel:
    about = ", ".join(f'"{label}"' for label in ("dataset", "step", "model", "term", "signal", "place", "server"))
    expr = f'sum by (alertname, severity, {BY_PIPELINE}, about) (label_join(ALERTS{{{FIRING}}}, "about", " ", {about}))'
    words = Words(
        title="What is firing?",
        description="Alerts of Prometheus at the end of the range, those of the stack itself too. Silenced and inhibited ones are among them.",
        empty="Nothing is firing",
    )
    columns = [
        Column(name="severity", title="Severity", width=80, words=(("critical", "critical", RED), ("warning", "warning", YELLOW), ("info", "info", BLUE))),
        Column(name="alertname", title="Alert", links=(addresses.alerts(),)),
        Column(name=NAMESPACE, title="Pipeline", width=80),
        Column(name=ENVIRONMENT, title="Environment", width=95),
        Column(name="about", title="About"),
    ]
    return tables.of_numbers(words, [now(expr, table=True)], columns, sort=("Severity", False))


def runs(addresses: Addresses) -> Panel:
    """The newest runs; each leads on."""
    words = Words(
        title="Which runs were last?",
        description=(
            "The newest 50 runs in the range, from their own log records. A click on a run leads to its page here, its report, its trace and its job; "
            "MLflow is where it can be opened in MLflow."
        ),
        empty="No run ended in this range",
    )
    return tables.of_records(words, records(names.RUN_FINISHED, lines=50), run_columns(addresses, brief=True))


def run_columns(addresses: Addresses, *, brief: bool = False) -> list[Column]:
    """What a table says of a run; `brief` for a narrow one."""
    counts = [
        Column(name=of_run(names.RUN_ROWS_IN), title="Rows in", unit="locale", width=80),
        Column(name=of_run(names.RUN_ROWS_QUARANTINED), title="Set aside", unit="locale", width=80, steps=((None, GREY), (1, YELLOW))),
        Column(name=links.TRACE_ID, title="Trace", width=60, shown_as="open", links=(addresses.trace_of(field(links.TRACE_ID)),)),
    ]
    return [
        tables.when("Ended"),
        Column(name=NAMESPACE, title="Pipeline", width=75),
        Column(name=ENVIRONMENT, title="Environment", width=95),
        Column(name=of_run(names.RUN_STATE), title="State", width=90, words=tuple((value, *shown) for value, shown in STATES.items())),
        Column(name=of_run(names.RUN_GATE), title="Gate", width=75, words=tuple((value, *shown) for value, shown in GATES.items())),
        Column(name=of_run(names.RUN_SECONDS), title="Took", unit="s", width=75),
        Column(name=RUN_ID, title="Run", width=110, links=links.run_links(addresses)),
        *(tables.hidden(links.TRACE_ID) if brief else counts),
        *links.mlflow_columns(addresses),
        Column(name=of_run(names.EXCEPTION_MESSAGE), title="Problem"),
    ]


def stale() -> Panel:
    """How old each dataset is, and when it is due."""
    words = Words(
        title="What is stale?",
        description=(
            "When a run last published each dataset or found it unchanged, and when its pipeline's schedule wants it next, seen from the end of the range. "
            "Yellow: overdue; red: overdue by more than 2 h, which breaks the freshness objective. A dataset that is no longer written "
            "stays here for 30 days, without a time."
        ),
        empty="No dataset has been published in the last 30 days",
    )
    age = f"time() - {last(names.DATASET_PUBLISHED)}"
    due = f"{DATASET_DUE} - time()"
    quality = links.dashboard("goldtrace-quality", "Data quality of this pipeline", links.field(NAMESPACE))
    columns = [
        Column(name=names.DATASET.name, title="Dataset", links=(quality,)),
        Column(name=NAMESPACE, title="Pipeline", width=80),
        Column(name=ENVIRONMENT, title="Environment", width=100),
        Column(name="Value #A", title="Age", unit="dtdurations", width=110),
        Column(name="Value #B", title="Due in", unit="dtdurations", width=130, steps=((None, RED), (-FRESH_SECONDS, YELLOW), (0, GREEN))),
    ]
    by = f"{BY_PIPELINE}, {names.DATASET.name}"
    targets = [now(f"max by ({by}) ({expr})", table=True) for expr in (age, due)]
    return tables.of_numbers(words, targets, columns, sort=("Due in", False))
