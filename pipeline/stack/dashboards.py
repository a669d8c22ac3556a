"""What all dashboards share: variables, places of panels, and the JSON around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline import names
from pipeline.settings import Settings
from pipeline.stack import spelling
from pipeline.stack.links import TAG
from pipeline.stack.panels import PROMETHEUS, Json, JsonValue, Link, Panel
from pipeline.stack.spelling import ENVIRONMENT, NAMESPACE

# The last version of this form of dashboard; Grafana brings older ones up to it as it loads them.
SCHEMA_VERSION = 42
WIDTH = 24
# What "All" asks for. Grafana's own meaning is the values that the range knows, and a pipeline whose last run is older would be left out.
EVERYTHING: Final = ".*"
# The tag of dashboards that take one value of a variable. They are not handed "All", which Grafana would keep and ask for as a list.
ONE_VALUE_TAG: Final = f"{TAG}-one"
# The environment that runs have unless somebody names another; by the alphabet the demonstration's would come first.
DEFAULT_ENVIRONMENT: Final[str] = Settings.model_fields["environment"].default


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Panels side by side, each with its width of 24; all are `height` high."""

    height: int
    panels: tuple[tuple[int, Panel], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading over the lines that follow."""

    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard. `days` is the range that it opens with; with `one_value` its variables take one value each."""

    name: str
    title: str
    description: str
    days: int
    variables: tuple[Json, ...]
    parts: tuple[Line | Section, ...]
    links: tuple[Link, ...] = ()
    one_value: bool = False

    @property
    def uid(self) -> str:
        """Its identity in Grafana; links from everywhere name it."""
        return f"goldtrace-{self.name}"

    def json(self) -> Json:
        """The whole, without Grafana's own `id` and `version`."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [ONE_VALUE_TAG if self.one_value else TAG],
            "schemaVersion": SCHEMA_VERSION,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": f"now-{self.days}d", "to": "now"},
            "timezone": "browser",
            "templating": {"list": list(self.variables)},
            "annotations": {"list": []},
            "links": [_family(TAG), _family(ONE_VALUE_TAG), *(_outside(link) for link in self.links)],
            "panels": list(_placed(self.parts)),
        }


def _placed(parts: Sequence[Line | Section]) -> Iterator[Json]:
    """The panels, each line below the one before."""
    top, number = 0, 1
    for part in parts:
        if isinstance(part, Section):
            yield {"type": "row", "id": number, "title": part.title, "collapsed": False, "panels": [], "gridPos": _place(0, top, WIDTH, 1)}
            top, number = top + 1, number + 1
            continue
        left = 0
        for width, panel in part.panels:
            yield panel.json(number, _place(left, top, width, part.height))
            left, number = left + width, number + 1
        top += part.height


def _place(left: int, top: int, width: int, height: int) -> Json:
    return {"x": left, "y": top, "w": width, "h": height}


def _family(tag: str) -> Json:
    """The other dashboards with a tag; those that can take it get what is chosen here."""
    return {
        "type": "dashboards",
        "title": "Goldtrace",
        "tags": [tag],
        "asDropdown": False,
        "includeVars": tag == TAG,
        "keepTime": False,
        "targetBlank": False,
        "icon": "dashboard",
        "tooltip": "",
        "url": "",
    }


def _outside(link: Link) -> Json:
    return {
        **_family(TAG),
        "type": "link",
        "title": link.title,
        "url": link.url,
        "tags": [],
        "includeVars": False,
        "targetBlank": True,
        "icon": "external link",
    }


# -------------------------------------------------------------------------------------------------------- variables


def choices(*, several: bool = True) -> tuple[Json, ...]:
    """Which environment and which pipeline; with `several` more than one, at first all. The doctor's canary is none of them.

    Where one environment has to be chosen it is the default one at first, or another where no run has that.
    """
    runs = spelling.metric(names.RUNS)
    real = f'{ENVIRONMENT}!="{names.CANARY}"'
    environment = _query("environment", "Environment", f"label_values({runs}{{{real}}}, {ENVIRONMENT})", several=several)
    usual: Json = {"current": {"text": DEFAULT_ENVIRONMENT, "value": DEFAULT_ENVIRONMENT}}
    return (
        environment | ({} if several else usual),
        _query("pipeline", "Pipeline", f'label_values({runs}{{{real},{ENVIRONMENT}=~"$environment"}}, {NAMESPACE})', several=several),
    )


def labels_of(metric: names.Metric, label: names.Attribute, more: str = "", *, several: bool) -> Json:
    """A variable of the values that a label of a metric has in what is chosen, and in `more`."""
    selector = f'{ENVIRONMENT}!="{names.CANARY}",{ENVIRONMENT}=~"$environment",{NAMESPACE}=~"$pipeline"' + (f",{more}" if more else "")
    query = f"label_values({spelling.metric(metric)}{{{selector}}}, {spelling.label(label.name)})"
    return _query(label.name, label.name.capitalize(), query, several=several)


def _query(name: str, title: str, query: str, *, several: bool) -> Json:
    variable: Json = {
        "name": name,
        "label": title,
        "type": "query",
        "datasource": {"type": PROMETHEUS, "uid": PROMETHEUS},
        "query": {"qryType": 1, "query": query, "refId": name},
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "multi": several,
        "includeAll": several,
    }
    everything: Json = {"allValue": EVERYTHING, "current": {"text": ["All"], "value": ["$__all"]}}
    return variable | (everything if several else {})


def run_variable() -> Json:
    """The run that a dashboard is about; nothing at first."""
    empty: JsonValue = {"text": "", "value": "", "selected": True}
    return {"name": "run", "label": "Run", "type": "textbox", "query": "", "current": empty, "options": [empty]}


def trace_variable() -> Json:
    """The run's trace id, which is its id without hyphens. Links bring the run's id alone, so Prometheus takes the hyphens out."""
    groups = "-?".join(f"(.{{{length}}})" for length in (8, 4, 4, 4, 12))
    query = f'query_result(label_replace(label_replace(vector(1), "run", "$run", "", ""), "trace", "$1$2$3$4$5", "run", "{groups}"))'
    return {
        "name": "trace",
        "label": "Trace",
        "type": "query",
        "hide": 2,
        "datasource": {"type": PROMETHEUS, "uid": PROMETHEUS},
        "query": {"qryType": 3, "query": query, "refId": "trace"},
        "refresh": 2,
        "regex": '/trace="([^"]+)"/',
        "sort": 0,
        "multi": False,
        "includeAll": False,
        "skipUrlSync": True,
    }
