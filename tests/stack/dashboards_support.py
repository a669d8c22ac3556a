"""What the tests of dashboards share: the dashboards as they are in the repository, and the words of their queries."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from pipeline import names
from pipeline.stack import rules, spelling
from pipeline.stack.dashboard_queries import Choice, Query, queries, variables
from tests.stack.programs import program
from tests.stack.rules_support import run

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "grafana" / "dashboards"
NAMES = ("overview", "run", "quality", "slo", "models", "stack")
RUN = "01a1ff2f-0d85-7155-a920-f03ce764bd85"
# As Grafana fills variables in: several values are a regular expression.
CHOICE = Choice(
    start=1_795_000_000 - 14 * 86400,
    end=1_795_000_000,
    values={
        "pipeline": "(potato|other)",
        "environment": "(local|demo)",
        "run": RUN,
        "trace": RUN.replace("-", ""),
        "model": "fixed_effects",
        "term": "fiber_g_week",
    },
)
# Labels that are not ours: of Prometheus' scrapes, its alerts and histograms, and of the servers' own metrics.
FOREIGN = {"job", "le", "alertname", "alertstate", "severity", "about", "exporter", "data_type", "server", "run", "trace"}
# Metadata of a line that is no attribute: Loki takes it from the record's own fields.
LINE_FIELDS = {"trace_id", "span_id"}


def load(name: str) -> dict[str, Any]:
    """A dashboard as it is in the repository."""
    found = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def all_queries(*sources: str) -> list[Query]:
    """The queries of all dashboards to these datasources."""
    return [query for name in NAMES for query in queries(load(name)) if query.source in sources]


def everything(name: str) -> Choice:
    """The choice with "All" wherever a dashboard offers it. Without `allValue` Grafana makes it of what is offered: nothing, in a range without a run."""
    values = {each["name"]: each.get("allValue", "()") for each in load(name)["templating"]["list"] if each.get("includeAll")}
    return replace(CHOICE, values={**CHOICE.values, **values})


def promql(*, all_chosen: bool = False) -> dict[str, str]:
    """Every PromQL expression with its variables filled in, by where it stands; those behind variables too."""
    found = _filled("prometheus", all_chosen=all_chosen)
    for name in NAMES:
        for variable, query in variables(load(name)).items():
            inner = re.fullmatch(r"(?:label_values\((.*), \w+\)|query_result\((.*)\))", query)
            if inner:
                found[f"goldtrace-{name}: variable {variable}"] = (everything(name) if all_chosen else CHOICE).fill(inner[1] or inner[2])
    return found


def logql(*, all_chosen: bool = False) -> dict[str, str]:
    """Every LogQL expression likewise."""
    return _filled("loki", all_chosen=all_chosen)


def _filled(source: str, *, all_chosen: bool) -> dict[str, str]:
    choices = {f"goldtrace-{name}": everything(name) if all_chosen else CHOICE for name in NAMES}
    return {f"{query.dashboard}: {query.panel} ({query.name})": choices[query.dashboard].fill(query.expr) for query in all_queries(source)}


def expr_of(name: str, panel: str, letter: str = "A") -> str:
    """A panel's query as it stands in its dashboard."""
    (found,) = [query.expr for query in queries(load(name)) if (query.panel, query.name) == (panel, letter)]
    return found


def problem(folder: Path, expr: str, series: Mapping[str, str], at: str, wanted: Mapping[str, float], every: str = "1m") -> str:
    """What promtool has against these answers of a query, by labels; nothing when it answers so."""
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    asked = {"expr": expr, "eval_time": at, "exp_samples": [{"labels": labels, "value": value} for labels, value in wanted.items()]}
    tests = [{"interval": every, "input_series": inputs, "promql_expr_test": [asked]}]
    (folder / "tests.yml").write_text(yaml.safe_dump({"evaluation_interval": "1h", "fuzzy_compare": True, "tests": tests}), "utf-8")
    result = run(program("promtool"), "test", "rules", folder / "tests.yml")
    return "" if result.returncode == 0 else result.stdout + result.stderr


def without_text(expr: str) -> str:
    """A query without what stands in quotes."""
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)


def metrics_in(expr: str) -> set[str]:
    """The metrics that a PromQL expression names."""
    bare = re.sub(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", without_text(expr))
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    words = re.findall(r"[A-Za-z_:][A-Za-z0-9_:]*\b(?!\s*\()", bare)
    return {word for word in words if word not in PROMQL_WORDS and not re.fullmatch(r"e\d*", word)}


PROMQL_WORDS = {"and", "or", "unless", "on", "by", "offset", "bool", "group_left", "group_right", "s", "m", "h", "d"}


def labels_in(expr: str) -> set[str]:
    """The labels that a query selects or groups by, and the fields that LogQL filters or unwraps."""
    selectors = "".join(re.findall(r"\{([^}]*)\}", without_text(expr)))
    groups = ",".join(re.findall(r"\b(?:by|on|without|ignoring|group_left)\s*\(([^)]*)\)", without_text(expr)))
    found = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors)) | set(re.findall(r"\w+", groups))
    after = without_text(expr).partition("}")[2] if "|" in expr else ""
    return found | set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", after)) | set(re.findall(r"unwrap (\w+)", after))


def known_metrics() -> set[str]:
    """What may be asked of Prometheus: our instruments, our recording rules."""
    ours = {series for metric in names.metrics() for series in spelling.series(metric)}
    return ours | {rule.record for rule in rules.recordings()}


def known_labels() -> set[str]:
    """Our attributes as Prometheus and Loki spell them."""
    return {spelling.label(attribute.name) for attribute in names.attributes()}


def titles(panel: Mapping[str, Any]) -> set[str]:
    """The titles of a table's columns."""
    return {title for each in panel.get("transformations", []) if each["id"] == "organize" for title in each["options"]["renameByName"].values()}
