"""Spans of a run: a root, one for each step, and the phases below them, as OTLP JSON lines in `traces.jsonl`.

The provider is ours alone and never the global one. Each span is written as it ends, so a killed run keeps what was finished.
While a step runs, its span is the current OpenTelemetry context: spans of a user's own instrumentation become its children.
Everything is sampled whatever the environment says, since a run is one trace and the bundle has to be whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.json.file import FileSpanExporter
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, Status, StatusCode, TraceFlags, Tracer, set_span_in_context

from pipeline import names
from pipeline.errors import LakeError
from pipeline.records import Failure, Phase, Run, State, Step, StepRun
from pipeline.telemetry import bundle, identity, privacy
from pipeline.telemetry.facts import in_lineage, rows_read, rows_written
from pipeline.telemetry.manifest import seconds
from pipeline.telemetry.resource import resource

# Room for a stack trace of 40 frames; a longer value is cut. Used unless the environment sets a limit of its own.
MAX_ATTRIBUTE_LENGTH = 16_384

RESULTS = {State.COMPLETED: "success", State.FAILED: "failure", State.RUNNING: "failure", State.ABORTED: "cancellation", State.LOST: "cancellation"}

Value = str | int | float | bool | Sequence[str]


class RunIds(IdGenerator):
    """The run's trace id for every trace, wanted ids for some spans, and random ones (from the operating system) for the rest."""

    def __init__(self, trace_id: int) -> None:
        self._trace_id = trace_id
        self._wanted: int | None = None

    def want(self, span_id: int | None) -> None:
        """Give the next span this id."""
        self._wanted = span_id

    def generate_span_id(self) -> int:
        """The wanted id, once; else a random one."""
        wanted, self._wanted = self._wanted, None
        return wanted or identity.new_span_id()

    def generate_trace_id(self) -> int:
        """The run's id."""
        return self._trace_id

    def is_trace_id_random(self) -> bool:
        """Yes: the low 56 bits of a UUIDv7 are random, which is what the flag means (W3C Trace Context, level 2)."""
        return True


class _Exporter(FileSpanExporter):
    """The official exporter, which tells a failed write only in its result, which nobody reads: here it is counted.

    A child that a step forked writes nothing when it falls out of the step: the spans are its parent's.
    """

    lost = 0

    def __init__(self, stream: IO[str], offset_ns: int) -> None:
        super().__init__(stream=stream)
        self._process = os.getpid()
        self._offset_ns = offset_ns

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if os.getpid() != self._process:
            return SpanExportResult.SUCCESS
        result = super().export([_moved(span, self._offset_ns) for span in spans] if self._offset_ns else spans)
        self.lost += len(spans) if result is not SpanExportResult.SUCCESS else 0
        return result


def _moved(span: ReadableSpan, offset_ns: int) -> ReadableSpan:
    """The span with the events that a step's code added at their times on the run's clock: the SDK asks the machine."""
    start, end = span.start_time or 0, span.end_time or 0
    if all(start <= event.timestamp <= end for event in span.events):
        return span
    events = [event if start <= event.timestamp <= end else Event(event.name, event.attributes, timestamp=event.timestamp + offset_ns) for event in span.events]
    return ReadableSpan(
        span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


class TracesHook:
    """Writes a run's spans to its bundle."""

    signal = "traces"

    def __init__(self, resource_attributes: str = "") -> None:
        """Take what `OTEL_RESOURCE_ATTRIBUTES` says."""
        self._resource_attributes = resource_attributes
        self._trace: _Trace | None = None

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """The root span. It ends with the run's facts on it."""
        with bundle.open_for_append(run.bundle / bundle.TRACES) as file:
            self._trace = _Trace(run, file, self._resource_attributes)
            try:
                with self._trace.span(run.pipeline.name, run.span_id, run.started_ns, _links(run)) as span:
                    try:
                        yield
                    finally:
                        self._trace.phases(run.phases)
                        _finish_run(span, run)
            finally:
                self._trace.close()

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:
        """A step's span, with the step's name."""
        if self._trace is None:
            raise RuntimeError("a step outside of a run")
        with self._trace.span(step.step.name, step.span_id, step.started_ns) as span:
            try:
                yield
            finally:
                self._trace.phases(step.phases)
                _finish_step(span, run, step)
        self._trace.check()


class _Trace:
    """The provider of one run, and the spans that are open in it."""

    def __init__(self, run: Run, file: IO[str], resource_attributes: str) -> None:
        self._exporter = _Exporter(file, run.clock.offset_ns)
        self._told = 0
        self._ids = RunIds(run.trace_id)
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource(run, resource_attributes), id_generator=self._ids, span_limits=_limits(), shutdown_on_exit=False
        )
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._tracer: Tracer = self._provider.get_tracer(names.SCOPE, run.code.version)
        self._open: list[Span] = []

    @contextmanager
    def span(self, name: str, span_id: int, started_ns: int, links: Sequence[Link] = ()) -> Iterator[Span]:
        """A span below the open one, current until the block is left; the block ends it."""
        self._ids.want(span_id)
        span = self._tracer.start_span(name, self._parent(), links=links, start_time=started_ns, record_exception=False, set_status_on_exception=False)
        self._open.append(span)
        token = otel_context.attach(set_span_in_context(span))
        try:
            yield span
        finally:
            otel_context.detach(token)
            self._open.remove(span)

    def phases(self, phases: Sequence[Phase]) -> None:
        """Spans of what is over already, below the open one."""
        for phase in phases:
            attributes = {names.PHASE_NAME.name: phase.name}
            self._tracer.start_span(phase.name, self._parent(), attributes=attributes, start_time=phase.started_ns).end(phase.ended_ns)

    def _parent(self) -> Context:
        return set_span_in_context(self._open[-1], Context()) if self._open else Context()

    def check(self) -> None:
        """Raise when spans could not be written since the last look, so that the loss is counted.

        Raises:
            LakeError: a write failed.
        """
        lost, self._told = self._exporter.lost - self._told, self._exporter.lost
        if lost:
            raise LakeError(f"{lost} spans could not be written to {bundle.TRACES}", hint="is the disk full?")

    def close(self) -> None:
        """Shut the provider down, without waiting for anything."""
        self._provider.shutdown()
        self.check()


def write_missing(run: Run, file: IO[str], resource_attributes: str, written: Callable[[int], bool]) -> None:
    """Write the spans that a lost run had open: of the steps it died in, and its own, unless they are `written`.

    Raises:
        LakeError: they could not be written.
    """
    trace = _Trace(run, file, resource_attributes)
    with trace.span(run.pipeline.name, run.span_id, run.started_ns, _links(run)) as span:
        for step in run.steps:
            if step.state is State.LOST and not written(step.span_id):
                with trace.span(step.step.name, step.span_id, step.started_ns) as below:
                    _finish_step(below, run, step)
        _finish_run(span, run)
    trace.close()


def _limits() -> SpanLimits:
    limits = SpanLimits()
    return limits if limits.max_attribute_length is not None else SpanLimits(max_attribute_length=MAX_ATTRIBUTE_LENGTH)


def _links(run: Run) -> list[Link]:
    """The caller's span. A `TRACEPARENT` that is none is ignored here; the log says why."""
    caller = identity.parse_traceparent(run.caller.traceparent) if run.caller.traceparent else None
    if not isinstance(caller, identity.TraceParent):
        return []
    flags = TraceFlags(TraceFlags.SAMPLED if caller.sampled else TraceFlags.DEFAULT)
    return [Link(SpanContext(caller.trace_id, caller.span_id, is_remote=True, trace_flags=flags), {names.LINK_REASON.name: "caller"})]


def span_context(trace_id: int, span_id: int) -> Context:
    """An OpenTelemetry context in which that span of ours is current, for exemplars and log records."""
    return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))), Context())


def _finish_run(span: Span, run: Run) -> None:
    span.set_attributes(_run_attributes(run))
    if run.state is not State.COMPLETED:
        # What a step raised is told on the step's span.
        _fail(span, run.failure or _no_reason(run.state), run.ended_ns, with_event=run.failure is None or run.failure.step is None)
    span.end(run.ended_ns)


def _finish_step(span: Span, run: Run, step: StepRun) -> None:
    span.set_attributes(_step_attributes(run, step))
    if step.state is not State.COMPLETED:
        _fail(span, step.failure or _no_reason(step.state), step.ended_ns, with_event=True)
    span.end(step.ended_ns)


def _no_reason(state: State) -> Failure:
    return Failure(type="bug", message=f"it ended in state {state.value} without a reason")


def _fail(span: Span, failure: Failure, ended_ns: int | None, *, with_event: bool) -> None:
    """Set status and error of a span that did not go well."""
    message = privacy.tidy(failure.message)
    span.set_attribute(names.ERROR_TYPE.name, failure.type)
    span.set_status(Status(StatusCode.ERROR, message))
    if with_event:
        values = {names.EXCEPTION_TYPE.name: failure.exception, names.EXCEPTION_MESSAGE.name: message, names.EXCEPTION_STACKTRACE.name: failure.stacktrace}
        span.add_event("exception", {key: value for key, value in values.items() if value}, timestamp=ended_ns)


def _run_attributes(run: Run) -> dict[str, Value]:
    return _known(
        {
            names.PIPELINE_NAME: run.pipeline.name,
            names.PIPELINE_RUN_ID: str(run.id),
            names.PIPELINE_RESULT: RESULTS[run.state],
            names.RUN_STATE: run.state.value,
            names.RUN_GATE: run.gate and run.gate.value,
            names.RUN_SECONDS: seconds(run.started_ns, run.ended_ns),
            names.RUN_ROWS_IN: sum(source.rows for source in run.inputs),
            names.RUN_ROWS_QUARANTINED: sum(sum(step.rows_quarantined.values()) for step in run.steps),
            names.RUN_STEPS: len(run.steps),
            names.RUN_AS_OF: run.as_of.isoformat() if run.as_of else None,
            names.REVISION: run.code.commit,
            names.REPOSITORY: run.code.repository,
            names.PROCESS_PID: run.process.pid,
            names.HOST_NAME: run.process.host,
        }
    )


def _step_attributes(run: Run, step: StepRun) -> dict[str, Value]:
    # Jaeger links one value, not a list of them.
    dataset = step.step.outputs[0] if len(step.step.outputs) == 1 else None
    return _known(
        {
            names.TASK_NAME: step.step.name,
            names.TASK_RUN_ID: str(step.id),
            names.TASK_RUN_RESULT: RESULTS[step.state],
            names.STEP_NAME: step.step.name,
            names.STEP_KIND: step.step.kind.value,
            names.STEP_STATE: step.state.value,
            names.STEP_SECONDS: seconds(step.started_ns, step.ended_ns),
            names.STEP_INPUTS: step.step.inputs,
            names.STEP_OUTPUTS: step.step.outputs,
            names.DATASET_NAME: dataset,
            **(in_lineage(run, dataset) if dataset else {}),
            names.STEP_ROWS_IN: rows_read(step),
            names.STEP_ROWS_OUT: rows_written(step),
            names.STEP_ROWS_QUARANTINED: sum(step.rows_quarantined.values()),
            names.CODE_FUNCTION: _function(step.step),
            names.CODE_FILE: _file(step.step),
        }
    )


def _known(values: dict[names.Attribute, Value | None]) -> dict[str, Value]:
    return {attribute.name: value for attribute, value in values.items() if value is not None}


def _function(step: Step) -> str:
    return f"{step.code.__module__}.{step.code.__qualname__}" if step.code else step.kind.value


def _file(step: Step) -> str | None:
    """The step's file from its top package on, wherever that is installed."""
    file = step.sql or (Path(step.code.__code__.co_filename) if step.code else None)
    if file is None:
        return None
    packages = [parent for parent in file.parents if (parent / "__init__.py").exists()]
    return file.relative_to(packages[-1].parent).as_posix() if packages else file.name
