"""A run's record as its manifest tells it, for what has to be said of a run that can't say it itself any more.

What a manifest has is all there, to the microsecond: not the rules and columns of contracts, the checks, and the code of the steps.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from pipeline.clock import Clock
from pipeline.records import (
    Caller,
    Code,
    Contract,
    DatasetVersion,
    Estimate,
    Failure,
    Gate,
    Phase,
    Pipeline,
    Process,
    Run,
    Schedule,
    SourceFile,
    State,
    Step,
    StepKind,
    StepRun,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def run_of(manifest: Mapping[str, Any], bundle: Path) -> Run:
    """The record of the run whose bundle has that manifest.

    Raises:
        LookupError, TypeError, ValueError: it is not whole.
    """
    outer = manifest["caller"]["openlineage_parent"]
    outputs = manifest["outputs"]
    return Run(
        id=uuid.UUID(manifest["run_id"]),
        pipeline=_pipeline(manifest["pipeline"], [_step(step) for step in manifest["steps"]]),
        bundle=bundle,
        lake=manifest["lake"]["address"],
        lake_name=manifest["lake"]["name"],
        environment=manifest["environment"],
        code=Code(**manifest["code"]),
        process=Process(**manifest["process"]),
        settings=manifest["settings"],
        libraries=manifest["libraries"],
        started_ns=nanoseconds(manifest["started_at"]),
        clock=Clock(round((manifest["clock_offset_seconds"] or 0) * 1e9)),
        as_of=date.fromisoformat(manifest["as_of"]) if manifest["as_of"] else None,
        until=manifest["until"],
        caller=Caller(traceparent=manifest["caller"]["traceparent"], openlineage_parent=tuple(outer) if outer else None),
        state=State(manifest["state"]),
        ended_ns=_moment(manifest["ended_at"]),
        reaped_ns=_moment(manifest["reaped_at"]),
        failure=_failure(manifest["failure"]),
        gate=Gate(manifest["gate"]) if manifest["gate"] else None,
        steps=[_step_run(step, manifest["inputs"], outputs) for step in manifest["steps"]],
        estimates=[Estimate(**estimate) for estimate in manifest["estimates"]],
        published={output["dataset"]: _version(output) for output in outputs if output["published"]},
        phases=[_phase(phase) for phase in manifest["phases"]],
        success_share_20=manifest["success_share_20"],
        telemetry_seconds=dict(manifest["telemetry"]["seconds"]),
        telemetry_lost=dict(manifest["telemetry"]["lost"]),
    )


def nanoseconds(text: str) -> int:
    """Nanoseconds since the epoch of an ISO time, exact to the microsecond."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1) * 1_000


def _moment(text: str | None) -> int | None:
    return nanoseconds(text) if text else None


def _pipeline(record: Mapping[str, Any], steps: Sequence[Step]) -> Pipeline:
    owner = record["owner"]
    return Pipeline(
        name=record["name"],
        description=record["description"],
        owner=owner,
        steps=tuple(steps),
        contracts={name: Contract(dataset=name, description=dataset["description"], owner=owner) for name, dataset in record["datasets"].items()},
        schedule=Schedule(every=timedelta(seconds=record["schedule"]["every_seconds"]), by=time.fromisoformat(record["schedule"]["by"])),
    )


def _step(record: Mapping[str, Any]) -> Step:
    return Step(
        name=record["name"],
        kind=StepKind(record["kind"]),
        inputs=tuple(record["inputs"]),
        outputs=tuple(record["outputs"]),
        description=record["description"],
    )


def _step_run(record: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> StepRun:
    return StepRun(
        step=_step(record),
        id=uuid.UUID(record["id"]),
        started_ns=nanoseconds(record["started_at"]),
        ended_ns=_moment(record["ended_at"]),
        state=State(record["state"]),
        failure=_failure(record["failure"]),
        rows_in=dict(record["rows_in"]),
        outputs={output["dataset"]: _version(output) for output in outputs if output["step"] == record["name"]},
        rows_quarantined=dict(record["rows_quarantined"]),
        inputs=[_source(source) for source in inputs if source["source"] in record["inputs"]],
        phases=[_phase(phase) for phase in record["phases"]],
    )


def _failure(record: Mapping[str, Any] | None) -> Failure | None:
    return Failure(**record) if record else None


def _version(record: Mapping[str, Any]) -> DatasetVersion:
    return DatasetVersion(**{**{field.name: record[field.name] for field in fields(DatasetVersion)}, "files": tuple(record["files"])})


def _source(record: Mapping[str, Any]) -> SourceFile:
    return SourceFile(**{field.name: record[field.name] for field in fields(SourceFile)})


def _phase(record: Mapping[str, Any]) -> Phase:
    started_ns = nanoseconds(record["started_at"])
    return Phase(name=record["name"], started_ns=started_ns, ended_ns=started_ns + round(record["seconds"] * 1e9))
