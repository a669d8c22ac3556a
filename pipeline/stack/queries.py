"""PromQL and LogQL over the names of `names.py`, as the dashboards ask.

A sample is a run, and a run is seldom: what a run said last is `last_over_time` over the days that are kept, what the runs of
a step of the graph said is `*_over_time(x[$__interval])`. Never `rate` or `increase`, which need two samples a window.
An instant query stands at the end of the dashboard's range, so a range in the past shows what was known then.
"""

from __future__ import annotations

from typing import Final

from pipeline import names
from pipeline.stack import spelling
from pipeline.stack.panels import LOKI, PROMETHEUS, Target
from pipeline.stack.spelling import ENVIRONMENT, NAMESPACE

KEPT: Final = "30d"
RUN_ID: Final = spelling.label(names.RUN_ID.name)
EVENT: Final = spelling.label(names.EVENT_NAME.name)
# The labels that tell one pipeline's series from another's, and how a series is called by them.
BY_PIPELINE: Final = f"{NAMESPACE}, {ENVIRONMENT}"
PIPELINE_LEGEND: Final = f"{{{{{NAMESPACE}}}}} · {{{{{ENVIRONMENT}}}}}"
_CHOSEN: Final = f'{NAMESPACE}=~"$pipeline",{ENVIRONMENT}=~"$environment",{ENVIRONMENT}!="{names.CANARY}"'


def chosen(more: str = "") -> str:
    """The selector of what the dashboard's variables choose, and `more`."""
    return "{" + _CHOSEN + (f",{more}" if more else "") + "}"


def sample(metric: names.Metric, more: str = "", part: str = "") -> str:
    """The selector of a metric's series; `part` of a histogram is `bucket`, `sum` or `count`."""
    return spelling.metric(metric) + (f"_{part}" if part else "") + chosen(more)


def last(metric: names.Metric, more: str = "") -> str:
    """What was said last. A series that is no longer written keeps its last value for 30 days."""
    return f"last_over_time({sample(metric, more)}[{KEPT}])"


def of_runs(metric: names.Metric, more: str = "", function: str = "last", part: str = "") -> str:
    """What the runs in each step of a graph said, at the step's beginning: at its end the newest runs would wait for the step to be over."""
    return f"{function}_over_time({sample(metric, more, part)}[$__interval] offset -$__interval)"


def recorded(rule: str, more: str = "") -> str:
    """A recording rule (prometheus/rules)."""
    return rule + chosen(more)


def now(expr: str, legend: str = "", *, table: bool = False) -> Target:
    """An instant query."""
    return Target(source=PROMETHEUS, expr=expr, legend=legend, instant=True, table=table)


def over_time(expr: str, legend: str = "", *, exemplars: bool = False) -> Target:
    """A query over the dashboard's range."""
    return Target(source=PROMETHEUS, expr=expr, legend=legend, exemplars=exemplars)


def records(event: names.Event | None = None, more: str = "", *, lines: int = 200, oldest_first: bool = False) -> Target:
    """Log records, the newest unless otherwise said, of one kind if that is named."""
    return Target(source=LOKI, expr=record_query(event, more), lines=lines, oldest_first=oldest_first)


def record_query(event: names.Event | None = None, more: str = "") -> str:
    """LogQL for the log records of the chosen pipelines. `more` are label filters on the records' facts."""
    filters = [f'{EVENT}="{event.name}"'] if event else []
    service = f'{spelling.label(names.SERVICE_NAME.name)}="goldtrace"'
    return " | ".join(["{" + f"{service},{_CHOSEN}" + "}", *filters, *([more] if more else [])])


def last_fact(event: names.Event, fact: names.Attribute, legend: str) -> Target:
    """A number of the newest record of its kind, for each pipeline."""
    unwrapped = f"{record_query(event)} | unwrap {spelling.label(fact.name)}"
    return Target(source=LOKI, expr=f"last_over_time({unwrapped} [{KEPT}]) by ({BY_PIPELINE})", legend=legend, instant=True)


def of_run(attribute: names.Attribute) -> str:
    """A fact's name in Loki."""
    return spelling.label(attribute.name)


def this_run(more: str = "") -> str:
    """Label filters for the run that the variable `run` names."""
    return f'{RUN_ID}="$run"' + (f" | {more}" if more else "")
