"""The schema of contracts: built from the table of expectations, and read by us as by the `jsonschema` library."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.quality import contract_schema
from pipeline.quality.json_schema import violations
from pipeline.quality.yaml_source import read_yaml

GOOD = {
    "dataset": "silver/t",
    "description": "x",
    "owner": "us",
    "key": ["a", "b"],
    "columns": [{"name": "a", "type": "string", "description": "x", "nullable": False}, {"name": "b", "type": "number", "description": "x", "unit": "kg"}],
    "expectations": [
        {"expect": "expect_column_values_to_be_between", "kwargs": {"column": "b", "min_value": 1, "max_value": 2.5}, "severity": "warn"},
        {"expect": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["a", "b"]}, "severity": "error", "description": "x"},
        {"expect": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "severity": "error"},
    ],
}
VALUES = st.sampled_from([None, True, False, 0, 1, 1.0, -3, 0.5, "", "x", "2024-01-31", "error", [], ["a", "a"], ["a", "b"], [1, True], {}, {"column": "a"}])
KEYS = st.sampled_from(["dataset", "key", "columns", "expectations", "name", "type", "expect", "kwargs", "column", "min_value", "mostly", "severity", "zzz"])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inside for place in places(item, (*path, key)))]


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """The good contract with up to three things put elsewhere, left out or changed."""
    document = copy.deepcopy(GOOD)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from([place for place in places(document) if place]))
        parent: Any = document
        for key in path[:-1]:
            parent = parent[key]
        change = draw(st.sampled_from(["set", "remove", "add", "rename"]))
        if change == "remove":
            del parent[path[-1]]
        elif change == "add" and isinstance(parent, dict):
            parent[draw(KEYS)] = draw(VALUES)
        elif change == "rename" and path[-1] == "expect":
            parent["expect"] = draw(st.sampled_from(list(contract_schema.EXPECTATIONS)))
        else:
            parent[path[-1]] = draw(VALUES)
    return document


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema.Draft202012Validator(contract_schema.schema())


def test_building_the_schema_again_changes_nothing() -> None:
    assert contract_schema.PATH.read_text(encoding="utf-8") == contract_schema.text()


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(contract_schema.schema())


@given(document=documents())
def test_our_reading_of_the_schema_is_that_of_the_library(validator: Any, document: Any) -> None:
    ours = {violation.path for violation in violations(document, contract_schema.schema())}
    theirs = {tuple(error.absolute_path) for error in validator.iter_errors(document)}
    assert bool(ours) == bool(theirs), json.dumps(document)
    # The library puts an unknown key and a repeated item at their parent; a wrong type hides what else is wrong there.
    assert {path[:2] for path in ours} >= {path[:1] for path in theirs if len(path) == 1} - {path[:1] for path in ours}


def test_the_library_takes_the_study_s_contracts_too(validator: Any, root: Path) -> None:
    for path in (root / "pipeline" / "study" / "contracts").glob("*.yaml"):
        assert list(validator.iter_errors(read_yaml(path).value)) == []


def test_a_keyword_that_is_not_known_is_not_passed_over() -> None:
    with pytest.raises(NotImplementedError, match="patternProperties"):
        list(violations({"a": 1}, {"patternProperties": {"a": {"type": "string"}}}))


@pytest.mark.parametrize(
    ("value", "schema", "count"),
    [
        (1.0, {"type": "integer"}, 0),
        (True, {"type": "number"}, 1),
        (True, {"enum": [1]}, 1),
        ([1, True], {"uniqueItems": True}, 0),
        ([1, 1.0], {"uniqueItems": True}, 1),
        (3, {"minimum": 3, "maximum": 3}, 0),
        ("a", {"if": {"const": "a"}, "then": {"minLength": 2}, "else": {"type": "number"}}, 1),
        ("b", {"if": {"const": "a"}, "then": {"minLength": 2}, "else": {"type": "number"}}, 1),
    ],
)
def test_the_odd_corners_are_read_as_the_standard_says(value: Any, schema: dict[str, Any], count: int) -> None:
    assert len(list(violations(value, schema))) == count == len(list(jsonschema.Draft202012Validator(schema).iter_errors(value)))
