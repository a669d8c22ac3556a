"""What the tests of rules share: finding Prometheus' own programs, and writing their test files from short scenarios.

Times in a scenario count from 0, which is the epoch: so a deadline is written as the seconds from the scenario's beginning.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import yaml

from pipeline.stack.rules import rule_files
from tests.stack.programs import program

ROOT = Path(__file__).resolve().parents[2]
DAY = 1440
NAMES = {"service_namespace": "potato", "deployment_environment_name": "local"}

Labels = dict[str, str]
# When, and who fires then: labels beside the pipeline's, and the summary.
Expected = tuple[str, list[tuple[Labels, str]]]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Samples, and what an alert makes of them. `of_pipeline` adds the pipeline's labels to series and alerts."""

    name: str
    series: dict[str, str]
    expected: list[Expected]
    of_pipeline: bool = True
    every: str = "1h"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Samples, and what a recording rule makes of them: when, and the values by labels beside the pipeline's."""

    record: str
    series: dict[str, str]
    expected: list[tuple[str, list[tuple[Labels, float]]]] = field(default_factory=list)


def daily(*values: float | str | None, tail: int = 5 * DAY) -> str:
    """A run a day at midnight, as promtool writes it; None is a day without a sample. Then nothing."""
    days = [f"{'_' if value is None else value} _x{DAY - 1}" for value in values]
    return " ".join(days) + f" _x{tail}"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=120, env={"PATH": os.environ["PATH"], "TZ": "UTC"})


def rules() -> dict[str, dict[str, Any]]:
    """All rules as Prometheus reads them, by name."""
    groups = [group for text in rule_files().values() for group in yaml.safe_load(text)["groups"]]
    return {rule.get("alert") or rule["record"]: rule for group in groups for rule in group["rules"]}


def series(text: str, *, of_pipeline: bool = True) -> str:
    """A series with the labels that the collector and Prometheus add to it, unless it has them."""
    name, _, inner = text.rstrip("}").partition("{")
    labels = {**(NAMES | {"service_name": "goldtrace", "job": "potato/goldtrace"} if of_pipeline else {}), **dict(re.findall(r'(\w+)="([^"]*)"', inner))}
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def promtool(folder: Path, rule: str, tests: list[dict[str, Any]], every: str = "1h") -> str:
    """What promtool has against the tests of one rule; nothing when they hold. The rule is alone, so that days pass quickly."""
    wanted = {"groups": [{"name": "one", "rules": [rules()[rule]]}]}
    (folder / "rules.yml").write_text(yaml.safe_dump(wanted), "utf-8")
    content = {"rule_files": ["rules.yml"], "evaluation_interval": every, "fuzzy_compare": True, "tests": tests}
    (folder / "tests.yml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    result = run(program("promtool"), "test", "rules", folder / "tests.yml")
    return "" if result.returncode == 0 else result.stdout + result.stderr


def alert_test(alert: str, scenario: Scenario) -> dict[str, Any]:
    """One scenario as promtool's test."""
    inputs = [{"series": series(name, of_pipeline=scenario.of_pipeline), "values": values} for name, values in scenario.series.items()]
    checks = [
        {"eval_time": when, "alertname": alert, "exp_alerts": [_firing(alert, labels, summary, scenario) for labels, summary in firing]}
        for when, firing in scenario.expected
    ]
    return {"name": scenario.name, "interval": "1m", "input_series": inputs, "alert_rule_test": checks}


def _firing(alert: str, labels: Labels, summary: str, scenario: Scenario) -> dict[str, Any]:
    rule = rules()[alert]
    labels = (NAMES if scenario.of_pipeline else {}) | labels
    filled = {key: re.sub(r"{{ \$labels\.(\w+) \| urlquery }}", lambda found: quote_plus(labels[found[1]]), text) for key, text in rule["annotations"].items()}
    return {"exp_labels": rule["labels"] | labels, "exp_annotations": filled | {"summary": summary}}


def recorded_test(recorded: Recorded) -> dict[str, Any]:
    """The scenario of a recording rule as promtool's test."""
    inputs = [{"series": series(name), "values": values} for name, values in recorded.series.items()]
    checks = [
        {"expr": recorded.record, "eval_time": when, "exp_samples": [{"labels": _labels(recorded.record, labels), "value": value} for labels, value in values]}
        for when, values in recorded.expected
    ]
    return {"name": recorded.record, "interval": "1m", "input_series": inputs, "promql_expr_test": checks}


def _labels(record: str, labels: Labels) -> str:
    return record + "{" + ",".join(f'{key}="{value}"' for key, value in (NAMES | labels).items()) + "}"
