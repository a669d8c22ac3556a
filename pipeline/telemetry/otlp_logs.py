"""Log records as OTLP JSON lines in `logs.jsonl`, each written as it comes.

The official exporter of log records, `opentelemetry-exporter-otlp-json-file`, keeps them in a private module, `_log_exporter`,
since the logs part of OpenTelemetry Python is not declared stable. That is why it and the SDK are pinned to exact versions in
`pyproject.toml`: look here first when they are raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.json.file._log_exporter import FileLogExporter
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult, SimpleLogRecordProcessor

from pipeline import names
from pipeline.records import Run
from pipeline.telemetry.facts import Level, Line
from pipeline.telemetry.resource import resource
from pipeline.telemetry.tracing import MAX_ATTRIBUTE_LENGTH, span_context

SEVERITIES = {
    Level.DEBUG: (SeverityNumber.DEBUG, "DEBUG"),
    Level.INFO: (SeverityNumber.INFO, "INFO"),
    Level.WARNING: (SeverityNumber.WARN, "WARN"),
    Level.ERROR: (SeverityNumber.ERROR, "ERROR"),
}


class _Exporter(FileLogExporter):
    """The official exporter, which tells a failed write only in its result, which nobody reads: here it is counted."""

    lost = 0

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        result = super().export(batch)
        self.lost += len(batch) if result is not LogRecordExportResult.SUCCESS else 0
        return result


class LogFile:
    """The provider of one run, ours alone and never the global one."""

    def __init__(self, run: Run, file: IO[str], resource_attributes: str = "") -> None:
        self._trace_id = run.trace_id
        self._clock = run.clock
        self._exporter = _Exporter(stream=file)
        self._provider = LoggerProvider(resource(run, resource_attributes), shutdown_on_exit=False, log_record_limits=_limits())
        self._provider.add_log_record_processor(SimpleLogRecordProcessor(self._exporter))
        self._logger = self._provider.get_logger(names.SCOPE, run.code.version)

    @property
    def lost(self) -> int:
        """Records that could not be written."""
        return self._exporter.lost

    def write(self, line: Line, at_ns: int, span_id: int) -> None:
        """Write a record; `span_id` is used unless the line has its own, or a span of the same trace is current."""
        number, text = SEVERITIES[line.level]
        event = {names.EVENT_NAME.name: line.event} if line.event else {}
        step = {names.STEP.name: line.step} if line.step else {}
        self._logger.emit(
            timestamp=at_ns,
            observed_timestamp=self._clock.now_ns(),
            context=span_context(self._trace_id, line.span_id or self._current() or span_id),
            severity_number=number,
            severity_text=text,
            body=line.body,
            attributes={**event, **step, **line.attributes},
            event_name=line.event or None,
        )

    def _current(self) -> int | None:
        """The current span, when it is of this trace: a step's, or one of the user's below it."""
        context = trace.get_current_span().get_span_context()
        return context.span_id if context.trace_id == self._trace_id else None

    def close(self) -> None:
        """Shut the provider down, without waiting for anything."""
        self._provider.shutdown()


def _limits() -> LogRecordLimits:
    limits = LogRecordLimits()
    return limits if limits.max_log_record_attribute_length is not None else LogRecordLimits(max_log_record_attribute_length=MAX_ATTRIBUTE_LENGTH)
