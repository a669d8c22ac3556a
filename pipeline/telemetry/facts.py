"""The facts of a run as log records: one sentence to read, and the numbers as attributes, so that a run can be read back from logs.

Only what `names.py` lists for each event is written; what is not known is left out. No outside library is imported here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TypeGuard

from pipeline import names
from pipeline.lake_address import dataset_place
from pipeline.records import Check, DatasetVersion, Estimate, ExperimentRun, Failure, Gate, Outcome, Run, Severity, State, StepRun
from pipeline.telemetry import identity, privacy
from pipeline.telemetry.manifest import seconds

# A rate over fewer rows says more of the start than of the work.
_RATE_FROM_ROWS = 10_000

Value = str | int | float | bool | Sequence[str]


class Level(IntEnum):
    """How grave a line is; the numbers are those of the standard library."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One log record on its way to terminal and bundle.

    `at_ns` is when it happened (None: now); `span_id` the span it belongs to (None: the one that is current); `shown_at` the level
    that the terminal has to be set to, where it differs: a hundred passed checks are for the bundle.
    """

    body: str
    level: Level = Level.INFO
    event: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    at_ns: int | None = None
    step: str | None = None
    span_id: int | None = None
    shown_at: int | None = None


def run_started(run: Run) -> Iterator[Line]:
    """`run.started`, and a warning when the caller's `TRACEPARENT` can't be linked to."""
    values = {names.PIPELINE_NAME: run.pipeline.name, names.RUN_AS_OF: run.as_of.isoformat() if run.as_of else None}
    yield _line(names.RUN_STARTED, values, Line(body=f"run {run.id} of {run.pipeline.name} started", at_ns=run.started_ns, span_id=run.span_id))
    caller = identity.parse_traceparent(run.caller.traceparent) if run.caller.traceparent else None
    if isinstance(caller, str):
        yield Line(body=f"TRACEPARENT is ignored: {caller}", level=Level.WARNING, span_id=run.span_id)


def step_finished(run: Run, step: StepRun) -> Iterator[Line]:
    """`check.evaluated` for each check of a step, then `step.finished`."""
    for check in step.checks:
        yield _check(run, step, check)
    took = seconds(step.started_ns, step.ended_ns)
    rows_in, rows_out = rows_read(step), rows_written(step)
    set_aside = sum(step.rows_quarantined.values())
    values = {
        names.STEP_NAME: step.step.name,
        names.STEP_KIND: step.step.kind.value,
        names.STEP_STATE: step.state.value,
        names.STEP_SECONDS: took,
        names.STEP_ROWS_IN: rows_in,
        names.STEP_ROWS_OUT: rows_out,
        names.STEP_ROWS_QUARANTINED: set_aside,
        **_failure(step.failure),
    }
    body = f"{step.step.name} {_ended(step.state, took)}: {_flow(step, rows_in, rows_out)}" + (f", {set_aside:,} quarantined" if set_aside else "")
    body += f" ({rows_in / took:,.0f} rows/s)" if rows_in and took and rows_in >= _RATE_FROM_ROWS else ""
    body = f"{body}: {_message(step.failure)}" if step.failure else body
    yield _line(names.STEP_FINISHED, values, Line(body=body, level=_level(step.state), at_ns=step.ended_ns, step=step.step.name, span_id=step.span_id))


def run_finished(run: Run) -> Iterator[Line]:
    """`model.estimated` and `dataset.published` for each, `gate.decided`, and `run.finished` last."""
    for estimate in run.estimates:
        yield _estimate(run, estimate)
    if run.gate is not None:
        yield _gate(run, run.gate)
    for version in run.published.values():
        yield _published(run, version)
    took = seconds(run.started_ns, run.ended_ns)
    values = {
        names.RUN_STATE: run.state.value,
        names.RUN_GATE: run.gate and run.gate.value,
        names.RUN_SECONDS: took,
        names.RUN_ROWS_IN: sum(source.rows for source in run.inputs),
        names.RUN_ROWS_QUARANTINED: sum(sum(step.rows_quarantined.values()) for step in run.steps),
        names.RUN_STEPS: len(run.steps),
        **_in_mlflow(run.experiment),
        **_failure(run.failure),
    }
    body = f"run {run.id} {_ended(run.state, took)}" + (f", gate {run.gate.value}" if run.gate else "")
    body = f"{body}: {_message(run.failure)}" if run.failure else body
    yield _line(names.RUN_FINISHED, values, Line(body=body, level=_level(run.state), at_ns=run.ended_ns, span_id=run.span_id))


def in_lineage(run: Run, dataset: str) -> dict[names.Attribute, str]:
    """Where lineage has a dataset: links from a store that tells of it need both."""
    namespace, name = dataset_place(run.lake, run.lake_name, dataset)
    return {names.LINEAGE_NAMESPACE: namespace, names.LINEAGE_NAME: name}


def telemetry_failed(signal: str, error: Exception) -> Line:
    """`telemetry.failed`: a hook's error, told once for each signal."""
    text = privacy.message(error)
    values = {names.TELEMETRY_SIGNAL: signal, names.EXCEPTION_TYPE: privacy.exception_name(error), names.EXCEPTION_MESSAGE: text}
    body = f"gaps in the {signal} of this run: {privacy.exception_name(error)}: {text}; the run goes on"
    return _line(names.TELEMETRY_FAILED, values, Line(body=body, level=Level.WARNING))


def _check(run: Run, step: StepRun, check: Check) -> Line:
    broken, rows = check.observed.get("unexpected_count"), check.observed.get("rows")
    values = {
        names.DATASET_NAME: check.dataset,
        names.CHECK_EXPECTATION: check.expectation,
        names.CHECK_COLUMN: check.column,
        names.CHECK_SEVERITY: check.severity.value,
        names.CHECK_OUTCOME: check.outcome.value,
        names.CHECK_EXPECTED: check.expected,
        names.CHECK_UNEXPECTED: broken,
        names.CHECK_ROWS: rows,
        **in_lineage(run, check.dataset),
    }
    passed = check.outcome is Outcome.PASSED
    grave = check.outcome is Outcome.FAILED and check.severity is Severity.ERROR
    level = Level.INFO if passed else Level.ERROR if grave else Level.WARNING
    counted = f" ({broken} of {rows} rows)" if broken and rows is not None else ""
    body = f"{check.dataset}: {check.expected}: {check.outcome.value}{counted}"
    shown_at = Level.DEBUG if passed else None
    return _line(names.CHECK_EVALUATED, values, Line(body=body, level=level, at_ns=step.ended_ns, step=step.step.name, span_id=step.span_id, shown_at=shown_at))


def _gate(run: Run, gate: Gate) -> Line:
    failed = [check for check in run.checks if check.outcome is Outcome.FAILED]
    errors = sum(check.severity is Severity.ERROR for check in failed)
    warnings = len(run.warnings) - errors
    values = {names.RUN_GATE: gate.value, names.GATE_WARNINGS: warnings, names.GATE_ERRORS: errors}
    level = {Gate.GREEN: Level.INFO, Gate.YELLOW: Level.WARNING, Gate.RED: Level.ERROR}[gate]
    body = f"gate {gate.value}: {_count(errors, 'error')}, {_count(warnings, 'warning')} in {_count(len(run.checks), 'check')}"
    return _line(names.GATE_DECIDED, values, Line(body=body, level=level, at_ns=run.ended_ns, span_id=run.span_id))


def _published(run: Run, version: DatasetVersion) -> Line:
    values = {
        names.DATASET_NAME: version.dataset,
        names.DATASET_LAYER: version.dataset.split("/", 1)[0],
        names.DATASET_VERSION: version.version,
        names.DATASET_ROW_COUNT: version.rows,
        names.DATASET_BYTE_COUNT: version.bytes,
        names.DATASET_CHANGED: version.changed,
        **in_lineage(run, version.dataset),
    }
    rows = f"{_count(version.rows, 'row')}, " if version.rows is not None else ""
    body = f"{version.dataset} is {'unchanged' if version.changed is False else 'published'}: {rows}version {version.version[:12]}"
    return _line(names.DATASET_PUBLISHED_EVENT, values, Line(body=body, at_ns=run.ended_ns, span_id=run.span_id, shown_at=Level.DEBUG))


def _estimate(run: Run, estimate: Estimate) -> Line:
    values = {
        names.MODEL_NAME: estimate.model,
        names.MODEL_TERM: estimate.term,
        names.MODEL_VALUE: estimate.estimate,
        names.MODEL_LOW: estimate.ci_low,
        names.MODEL_HIGH: estimate.ci_high,
        names.MODEL_P: estimate.p_value,
        names.MODEL_FIT_CONVERGED: estimate.converged,
        names.MODEL_NOTE: estimate.note or None,
        **_in_mlflow(run.experiment, estimate.model),
    }
    value = "no estimate" if estimate.estimate is None else f"{estimate.estimate:.4g}"
    bounds = f" ({estimate.ci_low:.4g} to {estimate.ci_high:.4g})" if estimate.ci_low is not None and estimate.ci_high is not None else ""
    body = f"{estimate.model}: {estimate.term} {value}{bounds}"
    return _line(names.MODEL_ESTIMATED, values, Line(body=body, at_ns=run.ended_ns, span_id=run.span_id, shown_at=Level.DEBUG))


def _line(event: names.Event, values: Mapping[names.Attribute, Value | None], line: Line) -> Line:
    """The line as that event, with the attributes that `names.py` lists for it, and no others.

    Raises:
        ValueError: an attribute is not listed.
    """
    strangers = [attribute.name for attribute in values if attribute not in event.attributes]
    if strangers:
        raise ValueError(f"{event.name} has no {', '.join(strangers)}")
    return replace(line, event=event.name, attributes={attribute.name: value for attribute, value in values.items() if _is_known(value)})


def _is_known(value: Value | None) -> TypeGuard[Value]:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _in_mlflow(there: ExperimentRun | None, model: str | None = None) -> dict[names.Attribute, Value | None]:
    """Which page of MLflow is the run's, or that of one of its models."""
    run_id = there and (there.run_id if model is None else there.models.get(model))
    return {names.MLFLOW_EXPERIMENT: there.experiment_id, names.MLFLOW_RUN: run_id} if there and run_id else {}


def _failure(failure: Failure | None) -> dict[names.Attribute, Value | None]:
    return {names.ERROR_TYPE: failure.type, names.EXCEPTION_MESSAGE: _message(failure)} if failure else {}


def _message(failure: Failure) -> str:
    return privacy.tidy(failure.message)


def _ended(state: State, took: float | None) -> str:
    return state.value.lower() + (f" after {took:.2f} s" if took is not None else "")


def rows_read(step: StepRun) -> int | None:
    """The rows of all tables that a step read; None when it read none."""
    known = [rows for rows in step.rows_in.values() if rows is not None]
    return sum(known) if known else None


def rows_written(step: StepRun) -> int | None:
    """The rows of all tables that a step wrote; None when it wrote none."""
    known = [output.rows for output in step.outputs.values() if output.rows is not None]
    return sum(known) if known else None


def _flow(step: StepRun, rows_in: int | None, rows_out: int | None) -> str:
    files = [name for output in step.outputs.values() if output.rows is None for name in output.files]
    out = [_count(len(files), "file")] if files else []
    out = [_count(rows_out, "row"), *out] if rows_out is not None else out
    return f"{_count(rows_in, 'row') if rows_in is not None else 'nothing'} in, {' and '.join(out) or 'nothing'} out"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _level(state: State) -> Level:
    return {State.COMPLETED: Level.INFO, State.FAILED: Level.ERROR}.get(state, Level.WARNING)
