"""What a contract's schema can't say: names that have to agree, and parameters that have to fit a column's type."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipeline.quality.expectations import EXPECTATIONS, ExpectationType, Kind, Parameter
from pipeline.quality.regexes import refusal
from pipeline.quality.sql_forms import moment
from pipeline.quality.yaml_source import JsonPath, Problem, Source
from pipeline.records import JsonValue

# What ingestion adds to a source's rows; a source's own columns can't be called so.
LANDING_COLUMNS: Final = ("_bad_cells", "source_file", "record_number", "load_id", "reasons")
_ONLY_SOURCES: Final = ("pattern", "as_of_column")
_MOMENTS: Final = frozenset({"date", "timestamp"})
_NUMBERS: Final = frozenset({"integer", "number"})


@dataclass(frozen=True, slots=True)
class _Finding:
    path: JsonPath
    message: str
    hint: str = ""


def meaning_problems(source: Source, broken: frozenset[JsonPath]) -> list[Problem]:
    """What is wrong beyond the schema. Parts below the paths in `broken` are left out: the schema has refused them."""
    if not isinstance(source.value, dict) or () in {path[:1] for path in broken if not path}:
        return []
    findings = _Meaning(source.value, broken).findings()
    return [source.problem(finding.path, finding.message, finding.hint) for finding in findings]


class _Meaning:
    """One contract's parts, as far as the schema allows them."""

    def __init__(self, value: dict[str, Any], broken: frozenset[JsonPath]) -> None:
        self.value = value
        self.layer = str(value["dataset"]).split("/")[0] if not self._is_broken(broken, "dataset") and "dataset" in value else ""
        self.columns: list[tuple[int, dict[str, Any]]] = self._whole_items("columns", broken)
        self.types: dict[str, str] = {column["name"]: column["type"] for _, column in self.columns}
        self.expectations = self._whole_items("expectations", broken)
        # A column that the schema refused has no type here, but still its name.
        self.names = _names_of(value.get("columns"))
        self.broken = broken

    @staticmethod
    def _is_broken(broken: frozenset[JsonPath], key: str) -> bool:
        return any(path[:1] == (key,) for path in broken)

    def _whole_items(self, key: str, broken: frozenset[JsonPath]) -> list[tuple[int, dict[str, Any]]]:
        items = self.value.get(key, [])
        if (key,) in broken or not isinstance(items, list):
            return []
        return [(index, item) for index, item in enumerate(items) if (key, index) not in broken]

    def findings(self) -> Iterator[_Finding]:
        yield from self._column_names()
        yield from self._layer_keys()
        yield from self._files()
        yield from self._key()
        yield from self._as_of()
        for index, item in self.expectations:
            yield from _ExpectationMeaning(self, index, item).findings()

    def _column_names(self) -> Iterator[_Finding]:
        first: dict[str, str] = {}
        for index, column in self.columns:
            name = column["name"]
            earlier = first.setdefault(name.casefold(), name)
            if index and earlier is not name:
                hint = "" if earlier == name else "names that differ only in capitals are one name in SQL"
                yield _Finding(("columns", index, "name"), f"the column '{name}' is declared twice", hint)
            if self.layer == "input" and name in LANDING_COLUMNS:
                yield _Finding(("columns", index, "name"), f"the column '{name}' is one that ingestion adds", f"kept names are {', '.join(LANDING_COLUMNS)}")

    def _layer_keys(self) -> Iterator[_Finding]:
        if self.layer == "input" and "pattern" not in self.value:
            yield _Finding(("dataset",), "a source has no 'pattern'", 'add pattern: "*name*.csv"')
        for key in _ONLY_SOURCES:
            if self.layer not in ("input", "") and key in self.value:
                yield _Finding((key,), f"'{key}' is for sources (input/…), and this is {self.value['dataset']}", "leave it out")
        if self.layer not in ("input", "") and "max_quarantined_share" in self.value and not any(item.get("quarantine") for _, item in self.expectations):
            yield _Finding(("max_quarantined_share",), "no rule sets rows aside here", "leave it out, or say quarantine: true in a rule about rows")

    def _files(self) -> Iterator[_Finding]:
        if self.value.get("columns"):
            return
        if self.layer in ("input", "bronze", "silver"):
            yield _Finding(("dataset",), "a table has no 'columns'", "only gold datasets can be folders of files")
        for key in ("key", "expectations"):
            if self.value.get(key):
                yield _Finding((key,), f"'{key}' speaks of columns, and there are none", "add columns:, or leave it out")

    def _key(self) -> Iterator[_Finding]:
        key = self.value.get("key", [])
        if self._is_broken(self.broken, "key") or not self.names:
            return
        nullable = {column["name"] for _, column in self.columns if column.get("nullable", True)}
        for index, name in enumerate(key):
            if name not in self.names:
                yield self._unknown_column(("key", index), name)
            elif name in nullable:
                yield _Finding(("key", index), f"the key's column '{name}' may be missing", "say nullable: false in the column")

    def _as_of(self) -> Iterator[_Finding]:
        name = self.value.get("as_of_column")
        if not isinstance(name, str) or not self.names:
            return
        if name not in self.names:
            yield self._unknown_column(("as_of_column",), name)
        elif self.types.get(name, "date") not in _MOMENTS:
            yield _Finding(("as_of_column",), f"as_of_column is '{name}', which is of type {self.types[name]}", "it has to be a date or a timestamp")

    def _unknown_column(self, path: JsonPath, name: str) -> _Finding:
        near = difflib.get_close_matches(name, self.names, n=1)
        return _Finding(path, f"there is no column '{name}'", f"did you mean {near[0]}?" if near else f"columns are {', '.join(self.names)}")

    def unknown_column(self, path: JsonPath, name: str) -> _Finding | None:
        """The finding that `name` is no column, if so and if it can be said."""
        return self._unknown_column(path, name) if self.names and name not in self.names else None


class _ExpectationMeaning:
    """One expectation of a contract: whether its parameters fit the columns."""

    def __init__(self, contract: _Meaning, index: int, item: dict[str, Any]) -> None:
        self.contract = contract
        self.item = item
        self.kind: ExpectationType = EXPECTATIONS[item["expect"]]
        self.kwargs: dict[str, Any] = item.get("kwargs", {})
        self.path: JsonPath = ("expectations", index)

    def findings(self) -> Iterator[_Finding]:
        columns = list(self._named_columns())
        unknown = [finding for path, name in columns if (finding := self.contract.unknown_column(path, name))]
        yield from unknown
        yield from self._quarantine()
        yield from self._patterns()
        yield from self._bounds_order()
        if not unknown:
            types = {name: self.contract.types[name] for _, name in columns if name in self.contract.types}
            yield from self._types(columns, types)

    def _at(self, *parts: str | int) -> JsonPath:
        return (*self.path, "kwargs", *parts)

    def _named_columns(self) -> Iterator[tuple[JsonPath, str]]:
        for name, parameter in self.kind.parameters.items():
            if name not in self.kwargs:
                continue
            if parameter is Parameter.COLUMN:
                yield self._at(name), self.kwargs[name]
            elif parameter is Parameter.COLUMNS:
                for index, column in enumerate(self.kwargs[name]):
                    yield self._at(name, index), column

    def _quarantine(self) -> Iterator[_Finding]:
        if not self.item.get("quarantine"):
            return
        at = (*self.path, "quarantine")
        name, leave_out = self.kind.name, "leave quarantine out"
        if self.kind.kind is Kind.AGGREGATE:
            yield _Finding(at, f"{name} is not about rows, so no row can be set aside", leave_out)
        elif self.kind.build is None:
            yield _Finding(at, f"{name} runs in Great Expectations, which does not say which rows to set aside", leave_out)
        elif "mostly" in self.kwargs:
            yield _Finding(at, "'mostly' and 'quarantine' exclude each other", "max_quarantined_share says how many rows may be set aside")

    def _patterns(self) -> Iterator[_Finding]:
        for name, parameter in self.kind.parameters.items():
            if name in self.kwargs and parameter in (Parameter.REGEX, Parameter.REGEXES):
                patterns = self.kwargs[name] if parameter is Parameter.REGEXES else [self.kwargs[name]]
                for index, pattern in enumerate(patterns):
                    refused = refusal(pattern)
                    if refused is not None:
                        at = self._at(name, index) if parameter is Parameter.REGEXES else self._at(name)
                        yield _Finding(at, f"the regular expression {pattern!r} has at position {refused.position + 1}: {refused.reason}", refused.hint)

    def _bounds_order(self) -> Iterator[_Finding]:
        if "min_value" not in self.kind.parameters:
            return
        low, high = self.kwargs.get("min_value"), self.kwargs.get("max_value")
        if low is None and high is None:
            yield _Finding(self._at(), f"{self.kind.name} has no bound", "give min_value, max_value or both")
        elif low is not None and high is not None and isinstance(low, str) == isinstance(high, str) and low > high:
            yield _Finding(self._at("min_value"), f"min_value is {low}, more than max_value ({high})")
        for end in ("min", "max"):
            if self.kwargs.get(f"strict_{end}") and self.kwargs.get(f"{end}_value") is None:
                yield _Finding(self._at(f"strict_{end}"), f"strict_{end} without {end}_value", "leave it out, or add the bound")

    def _types(self, columns: list[tuple[JsonPath, str]], types: dict[str, str]) -> Iterator[_Finding]:
        for path, name in columns:
            if name in types and types[name] not in self.kind.types:
                fitting = ", ".join(sorted(self.kind.types))
                yield _Finding(path, f"'{name}' is of type {types[name]}, which {self.kind.name} does not take", f"it takes {fitting}")
        if {"column_A", "column_B"} <= self.kind.parameters.keys() and len({_family(kind) for kind in types.values()}) > 1:
            yield _Finding(self._at("column_B"), "the two columns can't be compared: " + " and ".join(sorted(set(types.values()))))
        if "column" in self.kwargs and self.kwargs["column"] in types:
            yield from self._values_fit(types[self.kwargs["column"]])

    def _values_fit(self, column_type: str) -> Iterator[_Finding]:
        for name, parameter in self.kind.parameters.items():
            value = self.kwargs.get(name)
            if value is None or parameter not in (Parameter.BOUND, Parameter.VALUES):
                continue
            for index, item in enumerate(value if isinstance(value, list) else [value]):
                if not _fits(item, column_type):
                    at = self._at(name, index) if isinstance(value, list) else self._at(name)
                    shown = str(item).lower() if isinstance(item, bool) else repr(item)
                    yield _Finding(at, f"{name} has {shown}, and '{self.kwargs['column']}' is of type {column_type}", _VALUE_HINTS[column_type])


def _names_of(columns: JsonValue) -> list[str]:
    """The names of all columns that have one."""
    items = columns if isinstance(columns, list) else []
    return [item["name"] for item in items if isinstance(item, dict) and isinstance(item.get("name"), str)]


_VALUE_HINTS: Final = {
    "string": "put it in quotes",
    "integer": "write a whole number",
    "number": "write a number, without quotes",
    "boolean": "write true or false",
    "date": "write a date as 2024-01-31",
    "timestamp": "write 2024-01-31 or 2024-01-31T10:00:00, without a time zone",
}


def _family(column_type: str) -> str:
    return "number" if column_type in _NUMBERS else column_type


def _fits(value: JsonValue, column_type: str) -> bool:
    if isinstance(value, bool) or column_type == "boolean":
        return isinstance(value, bool) and column_type == "boolean"
    if column_type in _MOMENTS:
        return isinstance(value, str) and _is_moment(value, column_type)
    if column_type == "string":
        return isinstance(value, str)
    return isinstance(value, int | float) and (column_type == "number" or float(value).is_integer())


def _is_moment(text: str, column_type: str) -> bool:
    try:
        moment(text, column_type)
    except ValueError:
        return False
    return True
