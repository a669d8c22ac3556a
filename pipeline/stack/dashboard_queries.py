"""What dashboards ask, read back from their JSON, with Grafana's variables filled in: for tests, and for previews without Grafana."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# A variable's reference: $name, ${name}, ${name:format}. `$1` and the like belong to PromQL.
_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::\w+)?\}|([A-Za-z_]\w*))")
_DAY = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query of one panel.

    Attributes:
        dashboard: the dashboard's uid.
        panel: the panel's title.
        name: the query's letter.
        source: the datasource's uid, which is its kind as well.
        expr: PromQL, LogQL or a trace id, with variables.
        instant: asked for one moment.
        legend: how a series is called, with `{{label}}`.
        lines: at most so many log lines; None where that is not said.
        exemplars: asks for the traces behind a histogram too.
    """

    dashboard: str
    panel: str
    name: str
    source: str
    expr: str
    instant: bool
    legend: str = ""
    lines: int | None = None
    exemplars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a person has chosen: the dashboard's range in seconds since the epoch, and values of variables.

    Values are regular expressions where the dashboard lets one choose several, as Grafana makes of them.
    """

    start: float
    end: float
    values: Mapping[str, str]
    points: int = 1000

    @property
    def step(self) -> int:
        """The width of a graph's point in seconds, in Grafana's rounded steps."""
        wanted = (self.end - self.start) / self.points
        return next((step for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200) if step >= wanted), _DAY)

    def fill(self, expr: str, least_step: int = 15) -> str:
        """`expr` with the variables' values.

        Raises:
            KeyError: a variable has no value.
        """
        step = max(self.step, least_step)
        values = {
            "__interval": f"{step}s",
            "__interval_ms": f"{step * 1000}",
            "__to": f"{self.end * 1000:.0f}",
            "__rate_interval": f"{max(step + 15, 60)}s",
            "__range": f"{round(self.end - self.start)}s",
            **self.values,
        }
        return _REFERENCE.sub(lambda found: values[found[1] or found[2]], expr)


def panels(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All panels, those under headings too, without the headings."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panels(panel)
        else:
            yield panel


def queries(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """All queries of a dashboard's panels."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield Query(
                dashboard=dashboard["uid"],
                panel=panel["title"],
                name=target["refId"],
                source=target["datasource"]["uid"],
                expr=target.get("expr", target.get("query", "")),
                instant=target.get("instant", False) or target.get("queryType") == "instant",
                legend=target.get("legendFormat", ""),
                lines=target.get("maxLines"),
                exemplars=target.get("exemplar", False),
            )


def variables(dashboard: Mapping[str, Any]) -> dict[str, str]:
    """The query behind each variable; nothing for one that is typed in."""
    found = {each["name"]: each["query"] for each in dashboard["templating"]["list"]}
    return {name: query["query"] if isinstance(query, Mapping) else "" for name, query in found.items()}
