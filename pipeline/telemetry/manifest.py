"""A run's record as the JSON of `manifest.json` and `checks.json`; the one place that knows their shape.

`manifest.schema.json` beside this file describes the same, and `docs/bundle.md` explains each field.
"""

import uuid
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pipeline.records import Check, Code, DatasetVersion, Failure, Outcome, Phase, Pipeline, Run, Severity, SourceFile, StepRun
from pipeline.settings import from_here

FORMAT = 1


def iso(ns: int | None) -> str | None:
    """Nanoseconds since the epoch as ISO 8601 in UTC with microseconds, `2026-11-21T14:11:02.123456Z`."""
    if ns is None:
        return None
    return datetime.fromtimestamp(ns // 1000 / 1_000_000, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(started_ns: int, ended_ns: int | None) -> float | None:
    """The time between; None while it goes on, and when the machine's clock went back meanwhile."""
    return None if ended_ns is None or ended_ns < started_ns else round((ended_ns - started_ns) / 1e9, 6)


def span_hex(id_: uuid.UUID) -> str:
    """The 16 hex digits of the span that belongs to a run's or step's id."""
    return f"{id_.int & 0xFFFF_FFFF_FFFF_FFFF:016x}"


def manifest(run: Run) -> dict[str, Any]:
    """The manifest of a run as it stands."""
    return {
        "format": FORMAT,
        "run_id": str(run.id),
        "trace_id": run.id.hex,
        "span_id": span_hex(run.id),
        "state": run.state.value,
        "gate": run.gate and run.gate.value,
        "started_at": iso(run.started_ns),
        "ended_at": iso(run.ended_ns),
        "reaped_at": iso(run.reaped_ns),
        "seconds": seconds(run.started_ns, run.ended_ns),
        "as_of": run.as_of and run.as_of.isoformat(),
        "until": run.until,
        "clock_offset_seconds": round(run.clock.offset_ns / 1e9, 6) or None,
        "environment": run.environment,
        "failure": _failure(run.failure),
        "pipeline": _pipeline(run.pipeline),
        "steps_planned": [step.name for step in run.steps_planned],
        "steps": [_step(step) for step in run.steps],
        "inputs": [_source(source) for source in run.inputs],
        "outputs": [_output(run, step, name) for step in run.steps for name in step.outputs],
        "quarantined": [_quarantined(step, name, version) for step in run.steps for name, version in _set_aside(run, step)],
        "checks": _check_counts(run.checks),
        "estimates": [asdict(estimate) for estimate in run.estimates],
        "phases": [_phase(phase) for phase in run.phases],
        "caller": {"traceparent": run.caller.traceparent, "openlineage_parent": run.caller.openlineage_parent and list(run.caller.openlineage_parent)},
        "lake": {"address": from_here(run.lake), "name": run.lake_name},
        "process": asdict(run.process),
        "code": _code(run.code),
        "settings": dict(run.settings),
        "libraries": dict(run.libraries),
        "success_share_20": run.success_share_20,
        "telemetry": {"seconds": {name: round(value, 6) for name, value in run.telemetry_seconds.items()}, "lost": dict(run.telemetry_lost)},
    }


def checks(run: Run) -> dict[str, Any]:
    """All checks of a run, with the places of broken rows as file and record number."""
    return {"format": FORMAT, "run_id": str(run.id), "checks": [_check(step, check) for step in run.steps for check in step.checks]}


def _code(code: Code) -> dict[str, Any]:
    return {name: value for name, value in asdict(code).items() if name != "root"}


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    return asdict(failure) if failure else None


def _pipeline(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "name": pipeline.name,
        "description": pipeline.description,
        "owner": pipeline.owner,
        "schedule": {"every_seconds": int(pipeline.schedule.every.total_seconds()), "by": pipeline.schedule.by.isoformat(timespec="minutes")},
        "headline": pipeline.headline and list(pipeline.headline),
        "estimates": pipeline.estimates,
        "figures": pipeline.figures,
        "datasets": {name: {"layer": contract.layer.value, "description": contract.description} for name, contract in sorted(pipeline.contracts.items())},
        # All of them, also those that the run never reached: what is downstream of a failure is asked for just then.
        "steps": [{"name": step.name, "kind": step.kind.value, "inputs": list(step.inputs), "outputs": list(step.outputs)} for step in pipeline.steps],
    }


def _step(run: StepRun) -> dict[str, Any]:
    return {
        "name": run.step.name,
        "kind": run.step.kind.value,
        "description": run.step.description,
        "id": str(run.id),
        "span_id": span_hex(run.id),
        "inputs": list(run.step.inputs),
        "outputs": list(run.step.outputs),
        "state": run.state.value,
        "started_at": iso(run.started_ns),
        "ended_at": iso(run.ended_ns),
        "seconds": seconds(run.started_ns, run.ended_ns),
        "rows_in": dict(run.rows_in),
        "rows_out": {name: output.rows for name, output in run.outputs.items() if output.rows is not None},
        "rows_quarantined": dict(run.rows_quarantined),
        "phases": [_phase(phase) for phase in run.phases],
        "failure": _failure(run.failure),
    }


def _phase(phase: Phase) -> dict[str, Any]:
    return {"name": phase.name, "started_at": iso(phase.started_ns), "seconds": seconds(phase.started_ns, phase.ended_ns)}


def _source(source: SourceFile) -> dict[str, Any]:
    return {**asdict(source), "load_id": source.load_id}


def _output(run: Run, step: StepRun, name: str) -> dict[str, Any]:
    version: DatasetVersion = run.published.get(name, step.outputs[name])
    return {**asdict(version), "files": list(version.files), "layer": name.split("/", 1)[0], "step": step.step.name, "published": name in run.published}


def _set_aside(run: Run, step: StepRun) -> list[tuple[str, DatasetVersion]]:
    """What the run published beside its steps' outputs: under another name that ends in one's, the rows that were left out of it."""
    declared = {name for each in run.steps for name in each.outputs}
    beside = {name: version for name, version in run.published.items() if name not in declared}
    return [(name, version) for name in step.outputs for aside, version in beside.items() if aside.endswith(f"/{name}")]


def _quarantined(step: StepRun, name: str, version: DatasetVersion) -> dict[str, Any]:
    return {**asdict(version), "dataset": name, "files": list(version.files), "step": step.step.name}


def _check_counts(checks: list[Check]) -> dict[str, int]:
    outcomes = Counter(check.outcome for check in checks)
    failed = [check for check in checks if check.outcome is Outcome.FAILED]
    return {
        **{outcome.value: outcomes[outcome] for outcome in Outcome},
        "errors": sum(check.severity is Severity.ERROR for check in failed),
        "warnings": sum(check.severity is Severity.WARN for check in failed) + outcomes[Outcome.QUARANTINED],
    }


def _check(step: StepRun, check: Check) -> dict[str, Any]:
    return {
        **asdict(check),
        "step": step.step.name,
        "observed": dict(check.observed),
        "records": [{"file": file, "record": number} for file, number in check.records],
    }
