"""Builds `contract.schema.json`, which the loader, `pipeline contracts check` and editors read.

`python -m pipeline.quality.contract_schema` writes it again; a test says that this changes nothing.
"""

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, Final

from pipeline.quality.expectations import EXPECTATIONS, ExpectationType, Parameter
from pipeline.records import Layer, Privacy, Severity

PATH: Final = Path(__file__).with_name("contract.schema.json")
COLUMN_TYPES: Final = ("string", "integer", "number", "boolean", "date", "timestamp")
_NAME: Final = "^[A-Za-z_][A-Za-z0-9_]*$"
_MOMENT: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?)?$"
_LAYERS: Final = "|".join(layer.value for layer in Layer)

_PARAMETERS: Final[dict[Parameter, dict[str, Any]]] = {
    Parameter.COLUMN: {"type": "string", "minLength": 1},
    Parameter.COLUMNS: {"type": "array", "minItems": 2, "uniqueItems": True, "items": {"type": "string"}},
    Parameter.BOUND: {"anyOf": [{"type": "number"}, {"type": "string", "pattern": _MOMENT}], "description": "a number, or a date as 2024-01-31"},
    Parameter.NUMBER: {"type": "number"},
    Parameter.COUNT: {"type": "integer", "minimum": 0},
    Parameter.SHARE: {"type": "number", "minimum": 0, "maximum": 1},
    Parameter.MOSTLY: {"type": "number", "minimum": 0, "maximum": 1, "description": "The share of the values that has to fit"},
    Parameter.FLAG: {"type": "boolean"},
    Parameter.REGEX: {"type": "string", "minLength": 1},
    Parameter.REGEXES: {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
    Parameter.VALUES: {
        "type": "array",
        "minItems": 1,
        "uniqueItems": True,
        "items": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}], "description": "text, a number, true or false"},
    },
    Parameter.PAIRS: {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 2, "maxItems": 2}},
    Parameter.TEXT: {"type": "string", "minLength": 1},
    Parameter.MAPPING: {"type": "object"},
    Parameter.IGNORE_COLUMNS: {"enum": ["all_values_are_missing", "any_value_is_missing", "never"]},
    Parameter.MATCH_ON: {"enum": ["any", "all"]},
    Parameter.OUTLIER_METHOD: {"enum": ["iqr", "std"]},
}


@cache
def schema() -> dict[str, Any]:
    """The schema as it is shipped."""
    loaded: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return loaded


def build() -> dict[str, Any]:
    """The schema, from the table of expectations."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Goldtrace contract",
        "description": "What a dataset promises: its columns, key and expectations. docs/contracts.md explains each key.",
        "type": "object",
        "required": ["dataset", "description", "owner"],
        "additionalProperties": False,
        "properties": _contract_properties(),
        "$defs": {
            "column": _column(),
            "expectation": _expectation(),
            **{f"{parameter.value}_value": definition for parameter, definition in _PARAMETERS.items()},
        },
    }


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": description, **more}


def _names(description: str) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"type": "string"}, "description": description}


def _contract_properties() -> dict[str, Any]:
    return {
        "dataset": _text("layer/name, where layer is input, bronze, silver or gold", pattern=rf"^({_LAYERS})/[a-z][a-z0-9_]*$"),
        "description": _text("What one row is and what it is for"),
        "owner": _text("Who answers for it"),
        "key": _names("Columns whose values no two rows share"),
        "max_quarantined_share": {"type": "number", "minimum": 0, "maximum": 1, "description": "More of the rows set aside turns the gate RED"},
        "pattern": _text("Sources: the file's name, as a glob, without a folder", pattern=r"^[^/\\]+$"),
        "as_of_column": _text("Sources: rows after the run's nominal date in this column are set aside"),
        "columns": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/column"}, "description": "The table's columns; left out for files"},
        "expectations": {"type": "array", "items": {"$ref": "#/$defs/expectation"}, "description": "Rules beyond what columns and key imply"},
    }


def _column() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name", "type", "description"],
        "additionalProperties": False,
        "properties": {
            "name": _text("letters, digits and _, not first a digit", pattern=_NAME),
            "type": {"type": "string", "enum": list(COLUMN_TYPES)},
            "description": _text("What it means"),
            "unit": _text("The unit it is measured in"),
            "nullable": {"type": "boolean", "default": True, "description": "Whether a value may be missing"},
            "privacy": {"type": "string", "enum": [privacy.value for privacy in Privacy], "default": Privacy.PUBLIC.value},
        },
    }


def _expectation() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["expect", "severity"],
        "additionalProperties": False,
        "properties": {
            "expect": {"type": "string", "enum": list(EXPECTATIONS)},
            "kwargs": {"type": "object"},
            "severity": {"type": "string", "enum": [severity.value for severity in Severity]},
            "quarantine": {"type": "boolean", "default": False, "description": "Whether rows that break the rule are set aside"},
            "description": _text("Why the rule stands"),
        },
        "allOf": [_kwargs_of(group) for group in _same_parameters()],
    }


def _same_parameters() -> list[list[ExpectationType]]:
    groups: defaultdict[str, list[ExpectationType]] = defaultdict(list)
    for expectation in EXPECTATIONS.values():
        groups[json.dumps([dict(expectation.required), dict(expectation.optional)])].append(expectation)
    return list(groups.values())


def _kwargs_of(group: list[ExpectationType]) -> dict[str, Any]:
    first = group[0]
    kwargs = {
        "type": "object",
        "required": list(first.required),
        "additionalProperties": False,
        "properties": {name: {"$ref": f"#/$defs/{parameter.value}_value"} for name, parameter in first.parameters.items()},
    }
    return {
        "if": {"required": ["expect"], "properties": {"expect": {"enum": [expectation.name for expectation in group]}}},
        "then": {**({"required": ["kwargs"]} if first.required else {}), "properties": {"kwargs": kwargs}},
    }


def text() -> str:
    """The built schema as the file's text."""
    return json.dumps(build(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
