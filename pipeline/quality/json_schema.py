"""Evaluates a plain value against a JSON Schema 2020-12, for the keywords that `contract.schema.json` uses.

The `jsonschema` library would do, but its import is up to a second, on the way to a run's first step. A test holds
this evaluator to its verdicts on generated documents; a keyword that is not known here raises.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.quality.yaml_source import JsonPath
from pipeline.records import JsonValue

Schema = Mapping[str, Any]

_WORDS: Final = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
_ANNOTATIONS: Final = frozenset({"$schema", "$id", "$defs", "$comment", "title", "description", "default", "examples", "then", "else"})


@dataclass(frozen=True, slots=True)
class Violation:
    """One place that the schema does not allow."""

    path: JsonPath
    message: str
    hint: str = ""


def violations(value: JsonValue, schema: Schema) -> Iterator[Violation]:
    """All places of `value` that `schema` does not allow, in the schema's order.

    Raises:
        NotImplementedError: the schema uses a keyword outside of the part that is known here.
    """
    yield from _Evaluator(schema).violations(value, schema, ())


class _Evaluator:
    """Walks a value and a schema side by side. On trial (`if`, `anyOf`) only the verdict counts, and hints are left out: they are slow."""

    def __init__(self, root: Schema, is_trial: bool = False) -> None:
        self.root = root
        self.is_trial = is_trial

    def violations(self, value: JsonValue, schema: Schema, path: JsonPath) -> Iterator[Violation]:
        wanted = schema.get("type")
        if wanted is not None and not _is_type(value, wanted):
            yield Violation(path, f"{_name(path)} is {_shown(value)}, not {_wanted(wanted)}", _type_hint(value, wanted))
            return  # the other keywords speak of a value of that type
        for keyword, argument in schema.items():
            if keyword in _ANNOTATIONS or keyword == "type":
                continue
            method = getattr(self, "_" + re.sub(r"[^a-z]", "", keyword.lower()), None)
            if method is None:
                raise NotImplementedError(f"JSON Schema keyword {keyword}")
            yield from method(value, argument, path, schema)

    def _holds(self, value: JsonValue, schema: Schema) -> bool:
        return next(_Evaluator(self.root, is_trial=True).violations(value, schema, ()), None) is None

    def _ref(self, value: JsonValue, argument: str, path: JsonPath, _: Schema) -> Iterator[Violation]:
        target: Any = self.root
        for part in argument.removeprefix("#/").split("/"):
            target = target[part]
        yield from self.violations(value, target, path)

    def _enum(self, value: JsonValue, argument: list[JsonValue], path: JsonPath, _: Schema) -> Iterator[Violation]:
        if any(_same(value, allowed) for allowed in argument):
            return
        near = [] if self.is_trial else difflib.get_close_matches(str(value), [str(allowed) for allowed in argument], n=3)
        known = ", ".join(str(allowed) for allowed in argument[:12])
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {known}" + (" …" if len(argument) > 12 else "")
        yield Violation(path, f"{_name(path)} is {_shown(value)}, which is not known", hint)

    def _const(self, value: JsonValue, argument: JsonValue, path: JsonPath, _: Schema) -> Iterator[Violation]:
        if not _same(value, argument):
            yield Violation(path, f"{_name(path)} is {_shown(value)}, not {_shown(argument)}")

    def _pattern(self, value: JsonValue, argument: str, path: JsonPath, schema: Schema) -> Iterator[Violation]:
        if isinstance(value, str) and not re.search(argument, value):
            yield Violation(path, f"{_name(path)} is {_shown(value)}, which can't be", schema.get("description", f"it has to match {argument}"))

    def _minlength(self, value: JsonValue, argument: int, path: JsonPath, _: Schema) -> Iterator[Violation]:
        if isinstance(value, str) and len(value) < argument:
            yield Violation(path, f"{_name(path)} is empty")

    def _minitems(self, value: JsonValue, argument: int, path: JsonPath, _: Schema) -> Iterator[Violation]:
        if isinstance(value, list) and len(value) < argument:
            yield Violation(path, f"{_name(path)} has {len(value)} items; at least {argument} are needed")

    def _maxitems(self, value: JsonValue, argument: int, path: JsonPath, _: Schema) -> Iterator[Violation]:
        if isinstance(value, list) and len(value) > argument:
            yield Violation(path, f"{_name(path)} has {len(value)} items; at most {argument} may stand there")

    def _uniqueitems(self, value: JsonValue, argument: bool, path: JsonPath, _: Schema) -> Iterator[Violation]:
        if argument and isinstance(value, list):
            for index, item in enumerate(value):
                if any(_same(item, earlier) for earlier in value[:index]):
                    yield Violation((*path, index), f"{_name(path)} has {_shown(item)} twice")

    def _minimum(self, value: JsonValue, argument: float, path: JsonPath, _: Schema) -> Iterator[Violation]:
        if _is_type(value, "number") and value < argument:  # type: ignore[operator]
            yield Violation(path, f"{_name(path)} is {value}, less than {argument}")

    def _maximum(self, value: JsonValue, argument: float, path: JsonPath, _: Schema) -> Iterator[Violation]:
        if _is_type(value, "number") and value > argument:  # type: ignore[operator]
            yield Violation(path, f"{_name(path)} is {value}, more than {argument}")

    def _required(self, value: JsonValue, argument: list[str], path: JsonPath, _: Schema) -> Iterator[Violation]:
        if isinstance(value, dict):
            for key in argument:
                if key not in value:
                    yield Violation(path, f"{_name(path)} has no '{key}'", f"add {key}:")

    def _properties(self, value: JsonValue, argument: Mapping[str, Schema], path: JsonPath, _: Schema) -> Iterator[Violation]:
        if isinstance(value, dict):
            for key, item in value.items():
                if key in argument:
                    yield from self.violations(item, argument[key], (*path, key))

    def _additionalproperties(self, value: JsonValue, argument: bool, path: JsonPath, schema: Schema) -> Iterator[Violation]:
        known = list(schema.get("properties", {}))
        if argument is False and isinstance(value, dict):
            for key in value:
                if key not in known:
                    near = difflib.get_close_matches(key, known, n=1)
                    hint = f"did you mean {near[0]}?" if near else f"known here are {', '.join(known)}" if known else "nothing may stand here"
                    yield Violation((*path, key), f"'{key}' is not a key of {_name(path)}", hint)

    def _items(self, value: JsonValue, argument: Schema, path: JsonPath, _: Schema) -> Iterator[Violation]:
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from self.violations(item, argument, (*path, index))

    def _allof(self, value: JsonValue, argument: list[Schema], path: JsonPath, _: Schema) -> Iterator[Violation]:
        for schema in argument:
            yield from self.violations(value, schema, path)

    def _anyof(self, value: JsonValue, argument: list[Schema], path: JsonPath, schema: Schema) -> Iterator[Violation]:
        if not any(self._holds(value, option) for option in argument):
            yield Violation(path, f"{_name(path)} is {_shown(value)}, which can't be", schema.get("description", ""))

    def _if(self, value: JsonValue, argument: Schema, path: JsonPath, schema: Schema) -> Iterator[Violation]:
        branch = schema.get("then" if self._holds(value, argument) else "else")
        if branch is not None:
            yield from self.violations(value, branch, path)


def _is_type(value: JsonValue, wanted: str) -> bool:
    if wanted in ("number", "integer"):
        whole = wanted == "number" or isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return isinstance(value, int | float) and not isinstance(value, bool) and whole
    types: dict[str, type | None] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    kind = types[wanted]
    return kind is not None and isinstance(value, kind)


def _same(a: JsonValue, b: JsonValue) -> bool:
    """Equal as JSON: 1 is 1.0, but true is not 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _wanted(wanted: str) -> str:
    return _WORDS[wanted]


def _type_hint(value: JsonValue, wanted: str) -> str:
    if wanted == "boolean":
        return "write true or false"
    if wanted == "string" and isinstance(value, int | float):
        return "put it in quotes"
    return ""


def _name(path: JsonPath) -> str:
    """A place as a reader says it: `columns[2].type`; the whole document is 'the contract'."""
    name = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path)
    return name.lstrip(".") or "the contract"


def _shown(value: JsonValue) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "…")
    return {None: "empty", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else str(value)  # type: ignore[return-value]
