"""Asks the servers what a dashboard asks, and shapes the answers as its panels do: for scripts/preview_dashboards.py."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.stack.dashboard_queries import Choice

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Numbers with their labels: one for an instant query."""

    name: str
    labels: Labels
    points: Sequence[tuple[float, float]]
    query: str

    @property
    def last(self) -> float:
        """The newest number."""
        return self.points[-1][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a panel's queries gave: series, rows of log records, or spans."""

    series: list[Series] = field(default_factory=list)
    records: list[dict[str, str]] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where the servers answer."""

    prometheus: str
    loki: str
    jaeger: str

    def ask(self, panel: Mapping[str, Any], choice: Choice) -> Answer:
        """All of a panel's queries."""
        answer = Answer()
        for target in panel["targets"]:
            source = target["datasource"]["uid"]
            expr = choice.fill(target.get("expr", target.get("query", "")), 86400 if panel.get("interval") == "1d" else 15)
            if source == "jaeger":
                answer.spans.extend(_get(f"{self.jaeger}/api/traces/{expr}", {})["data"][0]["spans"])
            elif source == "loki" and target["queryType"] == "range":
                found = self._records(expr, target.get("maxLines", 1000), choice)
                answer.records.extend(reversed(found) if target.get("direction") == "forward" else found)
            else:
                answer.series.extend(self._series(panel, target, expr, choice))
        return answer

    def _records(self, expr: str, lines: int, choice: Choice) -> list[dict[str, str]]:
        asked = {"query": expr, "start": f"{choice.start * 1e9:.0f}", "end": f"{choice.end * 1e9:.0f}", "limit": lines, "direction": "backward"}
        found = _get(f"{self.loki}/loki/api/v1/query_range", asked)["data"]["result"]
        rows = [{**stream["stream"], "Time": time, "Line": line} for stream in found for time, line, *_ in stream["values"]]
        return sorted(rows, key=lambda row: row["Time"], reverse=True)[:lines]

    def _series(self, panel: Mapping[str, Any], target: Mapping[str, Any], expr: str, choice: Choice) -> list[Series]:
        instant = target.get("instant") or target.get("queryType") == "instant"
        base = f"{self.loki}/loki/api/v1" if target["datasource"]["uid"] == "loki" else f"{self.prometheus}/api/v1"
        step = max(choice.step, 86400 if panel.get("interval") == "1d" else 15)
        ranged: dict[str, Any] = {"start": choice.start // step * step, "end": choice.end, "step": step}
        found = _get(f"{base}/query" if instant else f"{base}/query_range", {"query": expr, **({"time": choice.end} if instant else ranged)})
        return [
            Series(
                name=_legend(choice.fill(target.get("legendFormat", "")), each["metric"]),
                labels=each["metric"],
                points=[(float(time), float(value)) for time, value in (each.get("values") or [each["value"]])],
                query=target["refId"],
            )
            for each in found["data"]["result"]
        ]


def _get(url: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    with urllib.request.urlopen(url + ("?" + urllib.parse.urlencode(asked) if asked else ""), timeout=120) as answer:
        found = json.load(answer)
    assert isinstance(found, dict), "the servers answer with an object"
    return found


def _legend(template: str, labels: Labels) -> str:
    for name, value in labels.items():
        template = template.replace("{{" + name + "}}", value)
    return template or ", ".join(labels.values())


def rows(panel: Mapping[str, Any], answer: Answer) -> list[dict[str, str]]:
    """A table's rows by their columns' titles, as its transformations make them."""
    organize = next(each["options"] for each in panel["transformations"] if each["id"] == "organize")
    raw = answer.records or _merged(answer.series, len(panel["targets"]) > 1)
    order = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    found = [{organize["renameByName"][name]: str(row[name]) for name in order if name in row} for row in raw]
    for sort in reversed(panel["options"].get("sortBy", [])):
        found.sort(key=lambda row, title=sort["displayName"]: _sortable(row.get(title, "")), reverse=sort["desc"])  # type: ignore[misc]
    return found


def columns(panel: Mapping[str, Any]) -> list[str]:
    """A table's titles in order."""
    organize = next(each["options"] for each in panel["transformations"] if each["id"] == "organize")
    order = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    return list(dict.fromkeys(organize["renameByName"][name] for name in order))


def _merged(series: Sequence[Series], several: bool) -> list[dict[str, Any]]:
    by_labels: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for each in series:
        row = by_labels.setdefault(tuple(sorted(each.labels.items())), dict(each.labels))
        row[f"Value #{each.query}" if several else "Value"] = each.last
    return list(by_labels.values())


def _sortable(text: str) -> tuple[bool, float, str]:
    try:
        return (False, float(text), "")
    except ValueError:
        return (text == "", 0.0, text)
