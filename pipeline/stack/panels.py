"""Panels of Grafana dashboards as plain Python: a panel knows what it answers, what it asks, and what its numbers mean.

The JSON is that of Grafana 13.2 (schema version 42), written by hand, since the SDK on PyPI makes that of Grafana 10.1. A
test checks it against the types of `@grafana/schema`. Nothing here knows a metric: that is the dashboards' part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

JsonValue: TypeAlias = "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
Json: TypeAlias = dict[str, JsonValue]

# The uids that grafana/provisioning gives; they are for ever.
PROMETHEUS: Final = "prometheus"
LOKI: Final = "loki"
JAEGER: Final = "jaeger"

GREEN, YELLOW, RED, GREY, PURPLE, BLUE, NEUTRAL = "green", "yellow", "red", "#8e8e8e", "purple", "blue", "text"
# A limit and the colour from it on; the first has no limit.
Step: TypeAlias = tuple[float | None, str]
PLAIN: Final[tuple[Step, ...]] = ((None, NEUTRAL),)
NONE_IS_GOOD: Final[tuple[Step, ...]] = ((None, GREEN), (1, RED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a panel says to a person.

    Attributes:
        title: the question that it answers.
        description: how to read it, and where it stops being true.
        empty: what it says when there is nothing: why, and what to do.
    """

    title: str
    description: str
    empty: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One query.

    Attributes:
        source: uid of the datasource.
        expr: PromQL, LogQL or a trace id.
        legend: name of a series, with `{{label}}`.
        instant: one moment, the end of the dashboard's range, instead of a series over it.
        table: rows with labels as columns.
        exemplars: ask for the traces behind a histogram too.
        lines: at most so many lines of a log.
        oldest_first: log lines in the order in which they were written; otherwise the newest first.
    """

    source: str
    expr: str
    legend: str = ""
    instant: bool = False
    table: bool = False
    exemplars: bool = False
    lines: int | None = None
    oldest_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where a value leads."""

    title: str
    url: str
    outside: bool = True

    def json(self) -> Json:
        """As Grafana wants it; what is outside opens beside."""
        return {"title": self.title, "url": self.url, "targetBlank": self.outside}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What numbers mean: unit, limits with colours, and words in place of numbers."""

    unit: str
    steps: tuple[Step, ...] = PLAIN
    decimals: int | None = None
    low: float | None = None
    high: float | None = None
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def json(self) -> Json:
        """As the part of a field's configuration that it is."""
        config: Json = {"unit": self.unit, "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in self.steps]}}
        extras: Json = {"decimals": self.decimals, "min": self.low, "max": self.high}
        config |= {key: value for key, value in extras.items() if value is not None}
        if self.words:
            config["mappings"] = [value_words(self.words)]
        return config


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel, without its place."""

    kind: str
    words: Words
    targets: tuple[Target, ...]
    scale: Scale
    options: Mapping[str, JsonValue]
    custom: Mapping[str, JsonValue] = field(default_factory=dict)
    color: str = "thresholds"
    overrides: tuple[Mapping[str, JsonValue], ...] = ()
    transformations: tuple[Mapping[str, JsonValue], ...] = ()
    links: tuple[Link, ...] = ()
    # A variable: one panel for each of its values.
    repeat: str = ""
    # The least step of a query.
    interval: str = ""

    def leading_to(self, *links: Link) -> Panel:
        """The same with links on its values."""
        return replace(self, links=links)

    def each(self, interval: str) -> Panel:
        """The same with steps of at least this length (`1d`)."""
        return replace(self, interval=interval)

    def repeated(self, variable: str) -> Panel:
        """One for each value of a variable."""
        return replace(self, repeat=variable)

    def with_overrides(self, *overrides: Mapping[str, JsonValue]) -> Panel:
        """The same with other settings for some of its fields."""
        return replace(self, overrides=self.overrides + overrides)

    def json(self, number: int, place: Mapping[str, JsonValue]) -> Json:
        """The panel as Grafana wants it, at its place."""
        defaults: Json = {**self.scale.json(), "noValue": self.words.empty, "color": {"mode": self.color}}
        if self.custom:
            defaults["custom"] = self.custom
        if self.links:
            defaults["links"] = [link.json() for link in self.links]
        panel: Json = {
            "id": number,
            "type": self.kind,
            "title": self.words.title,
            "description": self.words.description,
            "gridPos": place,
            "datasource": _datasource(self.targets[0].source),
            "targets": [_target(target, "ABCDEFGH"[index]) for index, target in enumerate(self.targets)],
            "fieldConfig": {"defaults": defaults, "overrides": list(self.overrides)},
            "options": dict(self.options),
        }
        if self.transformations:
            panel["transformations"] = list(self.transformations)
        if self.interval:
            panel["interval"] = self.interval
        return panel | ({"repeat": self.repeat, "repeatDirection": "h", "maxPerRow": 3} if self.repeat else {})


def _datasource(uid: str) -> Json:
    return {"type": uid, "uid": uid}  # each has the name of its type


def _target(target: Target, name: str) -> Json:
    asked: Json = {"refId": name, "datasource": _datasource(target.source)}
    if target.source == JAEGER:
        return asked | {"query": target.expr}
    asked["expr"] = target.expr
    if target.legend:
        asked["legendFormat"] = target.legend
    if target.source == LOKI:
        lines: Json = {"maxLines": target.lines, "direction": "forward" if target.oldest_first else "backward"} if target.lines else {}
        return asked | {"queryType": "instant" if target.instant else "range", "editorMode": "code"} | lines
    asked |= {"instant": target.instant, "range": not target.instant, "format": "table" if target.table else "time_series", "editorMode": "code"}
    return asked | ({"exemplar": True} if target.exemplars else {})


def value_words(words: Mapping[str, tuple[str, str]]) -> Json:
    """Values shown as words in colours."""
    return {"type": "value", "options": {value: {"text": text, "color": color, "index": index} for index, (value, (text, color)) in enumerate(words.items())}}


def any_value_as(text: str) -> Json:
    """Whatever the value is, this word: for a column of ids that is there for its links."""
    return {"type": "regex", "options": {"pattern": ".+", "result": {"text": text}}}


def override(name: str, **properties: JsonValue) -> Json:
    """Settings of one field by its shown name; `custom_width` stands for `custom.width`."""
    values: list[JsonValue] = [{"id": key.replace("_", ".", 1) if key.startswith("custom_") else key, "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": values}


def painted(**colors: str) -> list[Json]:
    """Colours of series by the last word of their names."""
    return [
        {"matcher": {"id": "byRegexp", "options": f"/{word}$/"}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}
        for word, color in colors.items()
    ]


# ------------------------------------------------------------------------------------------------------------ kinds


def stat(words: Words, targets: Sequence[Target], scale: Scale, *, filled: bool = True) -> Panel:
    """One number a series, large."""
    options: Json = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background_solid" if filled else "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "showPercentChange": False,
        "textMode": "auto",
        "wideLayout": True,
    }
    return Panel(kind="stat", words=words, targets=tuple(targets), scale=scale, options=options)


def facts(words: Words, target: Target, transformations: Sequence[Mapping[str, JsonValue]], overrides: Sequence[Mapping[str, JsonValue]]) -> Panel:
    """The fields of one record, side by side."""
    base = stat(words, [target], Scale(unit="short"), filled=False)
    options: Json = {**base.options, "reduceOptions": {"calcs": ["lastNotNull"], "fields": "/.*/", "values": False}, "textMode": "value_and_name"}
    return replace(base, options=options, transformations=tuple(transformations), overrides=tuple(overrides))


def series(words: Words, targets: Sequence[Target], scale: Scale, *, bars: bool = False) -> Panel:
    """Numbers over time: a point is a run, or bars that stand on each other."""
    custom: Json = {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 80 if bars else 0,
        "lineWidth": 1,
        "pointSize": 7,
        "showPoints": "auto" if bars else "always",
        "spanNulls": not bars,
        "stacking": {"mode": "normal" if bars else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if bars or scale.steps == PLAIN else "dashed"},
        "axisSoftMin": 0,
    }
    options: Json = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return Panel(kind="timeseries", words=words, targets=tuple(targets), scale=scale, options=options, custom=custom, color="palette-classic")


def flow(words: Words, targets: Sequence[Target], scale: Scale) -> Panel:
    """What a server measures all the time, as lines."""
    panel = series(words, targets, scale)
    return replace(panel, custom={**panel.custom, "showPoints": "never", "spanNulls": False, "fillOpacity": 10})


def state_timeline(words: Words, target: Target, scale: Scale, *, gap_ms: int) -> Panel:
    """States over time; a gap longer than `gap_ms` stays empty."""
    options: Json = {
        "mergeValues": False,
        "showValue": "auto",
        "alignValue": "center",
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    custom: Json = {"fillOpacity": 85, "lineWidth": 1, "spanNulls": gap_ms}
    return Panel(kind="state-timeline", words=words, targets=(target,), scale=scale, options=options, custom=custom)


def bar_gauge(words: Words, target: Target, scale: Scale) -> Panel:
    """One bar a series, longest first where the query sorts."""
    options: Json = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "displayMode": "basic",
        "orientation": "horizontal",
        "namePlacement": "left",
        "showUnfilled": True,
        "sizing": "auto",
        "minVizHeight": 16,
        "minVizWidth": 8,
        "maxVizHeight": 28,
        "valueMode": "color",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
    }
    return Panel(kind="bargauge", words=words, targets=(target,), scale=scale, options=options)


def logs(words: Words, target: Target) -> Panel:
    """Log lines, oldest first."""
    options: Json = {
        "dedupStrategy": "none",
        "enableLogDetails": True,
        "prettifyLogMessage": False,
        "showCommonLabels": False,
        "showLabels": False,
        "showLogContextToggle": False,
        "showTime": True,
        "sortOrder": "Ascending",
        "wrapLogMessage": True,
    }
    return Panel(kind="logs", words=words, targets=(target,), scale=Scale(unit="none"), options=options)


def trace(words: Words, trace_id: str) -> Panel:
    """A trace as a waterfall."""
    return Panel(kind="traces", words=words, targets=(Target(source=JAEGER, expr=trace_id),), scale=Scale(unit="ms"), options={})
