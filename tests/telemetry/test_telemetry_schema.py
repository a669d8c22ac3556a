"""What is written as JSON is what the shipped schemas say, and the schemas say all of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pipeline
from pipeline.records import Caller, Gate, State
from pipeline.telemetry import bundle, manifest, reaper
from tests.telemetry.telemetry_support import stored

FOLDER = Path(pipeline.__file__).parent / "telemetry"


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("number", [1, 2])
def test_every_manifest_is_as_the_schema_says(runs: Path, state: State, number: int):
    run = stored(runs, state, number=number)
    validator("manifest").validate(json.loads((run.bundle / bundle.MANIFEST).read_bytes()))


@pytest.mark.parametrize("gate", list(Gate))
def test_manifests_and_checks_of_every_gate_are_as_the_schemas_say(runs: Path, gate: Gate):
    run = stored(runs, gate=gate)
    bundle.write_checks(run)
    validator("manifest").validate(json.loads((run.bundle / bundle.MANIFEST).read_bytes()))
    validator("checks").validate(json.loads((run.bundle / bundle.CHECKS).read_bytes()))


def test_a_reaped_manifest_and_one_with_all_there_can_be_are_as_the_schema_says(runs: Path):
    run = stored(runs, State.RUNNING)
    (run.bundle / bundle.LOCK).touch()
    validator("manifest").validate(reaper.reap(runs)[0].manifest)
    run.caller = Caller(traceparent="00-1-2-3", openlineage_parent=("a", "b", "c"))
    run.until, run.as_of = "weight", None
    run.telemetry_seconds, run.telemetry_lost = {"traces": 0.5}, {"lineage": 1}
    run.estimates = []
    run.steps[0].outputs = {name: replace(output, rows=None) for name, output in run.steps[0].outputs.items()}
    validator("manifest").validate(manifest.manifest(run))


def _objects(schema: Any) -> list[dict[str, Any]]:
    inner = [item for value in (schema.values() if isinstance(schema, dict) else schema) if isinstance(value, dict | list) for item in _objects(value)]
    return [*([schema] if isinstance(schema, dict) and isinstance(schema.get("properties"), dict) and "type" in schema else []), *inner]


@pytest.mark.parametrize("name", ["manifest", "checks"])
def test_the_schemas_leave_nothing_open(name: str):
    found = _objects(validator(name).schema)
    assert len(found) >= 3
    for schema in found:
        assert schema["additionalProperties"] is False
        assert sorted(schema["required"]) == sorted(schema["properties"])
        assert all(field.get("description") for field in schema["properties"].values())


def test_a_field_that_the_schema_does_not_know_is_refused(runs: Path):
    record = manifest.manifest(stored(runs))
    with pytest.raises(jsonschema.ValidationError, match="surprise"):
        validator("manifest").validate({**record, "surprise": 1})
