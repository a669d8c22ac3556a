"""Tables of dashboards: of the records of a run in Loki, whose facts are metadata of a line, and of instant queries in Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.stack.panels import PLAIN, Json, JsonValue, Link, Panel, Scale, Step, Target, Words, any_value_as, override, value_words

# What Grafana calls the time and the labels of a log line; the time is `timestamp` in the newer of its two forms.
TIME = ("Time", "timestamp")
LABELS = "labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        name: the field, as Loki or Prometheus spells it.
        title: what stands above it.
        unit: of a number; nothing for text.
        width: in pixels; the rest is shared among the others.
        words: values in words and colours.
        shown_as: one word in place of every value, for an id that is there for its links.
        steps: limits that colour a number.
        bar: a number as a bar.
        hidden: not shown; there for the addresses of other columns.
    """

    name: str
    title: str
    unit: str = ""
    width: int | None = None
    words: tuple[tuple[str, str, str], ...] = ()
    shown_as: str = ""
    steps: tuple[Step, ...] = PLAIN
    bar: bool = False
    hidden: bool = False
    links: tuple[Link, ...] = ()

    def override(self, *, cells: bool = True) -> Json:
        """What sets this column apart; without `cells` only what other panels than tables know too."""
        return override(self.title, **(self._value() | (self._cell() if cells else {})))

    def _cell(self) -> Json:
        if self.hidden:
            return {"custom_hideFrom": {"viz": True, "legend": False, "tooltip": False}}
        cell: Json = {"custom_width": self.width} if self.width else {}
        if self.bar:
            cell["custom_cellOptions"] = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
        elif self.words or self.steps != PLAIN:
            cell["custom_cellOptions"] = {"type": "color-text"}
        return cell

    def _value(self) -> Json:
        values: Json = {"unit": self.unit} if self.unit else {}
        mappings: list[JsonValue] = []
        if self.words:
            mappings.append(value_words({value: (text, color) for value, text, color in self.words}))
        if self.shown_as:
            mappings.append(any_value_as(self.shown_as))
        if mappings:
            values["mappings"] = mappings
        if self.steps != PLAIN:
            values["thresholds"] = {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in self.steps]}
        return values | ({"links": [link.json() for link in self.links]} if self.links else {})


def when(title: str = "When", width: int = 145) -> Column:
    """The time of a record."""
    return Column(name=TIME[0], title=title, width=width)


def hidden(*names: str) -> list[Column]:
    """What the addresses of other columns need, and nobody has to read."""
    return [Column(name=name, title=name, hidden=True) for name in names]


def of_records(words: Words, target: Target, columns: Sequence[Column], sort: tuple[str, bool] | None = None) -> Panel:
    """Log records as rows. `sort` is a title and whether the largest comes first; otherwise the newest does."""
    return _table(words, (target,), columns, sort, record_fields(columns))


def of_numbers(words: Words, targets: Sequence[Target], columns: Sequence[Column], sort: tuple[str, bool] | None = None) -> Panel:
    """Instant queries side by side, joined by their labels. A query's numbers are called `Value`, or `Value #A` and so on."""
    merge: list[Json] = [{"id": "merge", "options": {}}] if len(targets) > 1 else []
    return _table(words, targets, columns, sort, [*merge, _organize(columns)])


def record_fields(columns: Sequence[Column]) -> list[Json]:
    """Transformations: a line's metadata becomes columns, and what is a number in it becomes one."""
    numbers: list[JsonValue] = [{"targetField": column.name, "destinationType": "number"} for column in columns if column.unit]
    extract: Json = {"id": "extractFields", "options": {"source": LABELS, "format": "json", "keepTime": False, "replace": False}}
    convert: list[Json] = [{"id": "convertFieldType", "options": {"fields": {}, "conversions": numbers}}] if numbers else []
    return [extract, *convert, _organize(columns)]


def _organize(columns: Sequence[Column]) -> Json:
    """Only these columns, in this order, under their titles."""
    named: list[tuple[str, str]] = []
    for column in columns:
        named += [(name, column.title) for name in (TIME if column.name == TIME[0] else (column.name,))]
    options: Json = {
        "includeByName": {name: True for name, _ in named},
        "indexByName": {name: index for index, (name, _) in enumerate(named)},
        "renameByName": dict(named),
        "excludeByName": {},
    }
    return {"id": "organize", "options": options}


def _table(words: Words, targets: Sequence[Target], columns: Sequence[Column], sort: tuple[str, bool] | None, transformations: Sequence[Json]) -> Panel:
    options: Json = {"cellHeight": "sm", "frameIndex": 0, "showHeader": True}
    if sort:
        options["sortBy"] = [{"displayName": sort[0], "desc": sort[1]}]
    custom: Json = {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": False}
    return Panel(
        kind="table",
        words=words,
        targets=tuple(targets),
        scale=Scale(unit="short"),
        options=options,
        custom=custom,
        overrides=tuple(column.override() for column in columns),
        transformations=tuple(transformations),
    )
