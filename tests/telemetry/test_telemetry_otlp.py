"""The lines of a bundle are OTLP: each parses as an Export request with unknown fields refused, and ids have their lengths."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pipeline.records import Caller, Run, State
from pipeline.telemetry import bundle
from pipeline.telemetry.logs import LogsHook
from pipeline.telemetry.metrics import MetricsHook
from pipeline.telemetry.tracing import TracesHook
from tests.telemetry.telemetry_support import stored, tell

REQUESTS = {bundle.TRACES: ExportTraceServiceRequest, bundle.METRICS: ExportMetricsServiceRequest, bundle.LOGS: ExportLogsServiceRequest}
IDS = {"traceId": 16, "spanId": 8, "parentSpanId": 8}


def to_base64(value: Any) -> Any:
    """OTLP JSON has its ids in hex, protobuf's JSON in base64: hex would parse too, as 24 bytes of nonsense."""
    if isinstance(value, dict):
        return {key: base64.b64encode(bytes.fromhex(item)).decode() if key in IDS else to_base64(item) for key, item in value.items()}
    return [to_base64(item) for item in value] if isinstance(value, list) else value


def parse(run: Run, name: str) -> list[Message]:
    lines = (run.bundle / name).read_text("utf-8").splitlines()
    return [Parse(json.dumps(to_base64(json.loads(line))), REQUESTS[name](), ignore_unknown_fields=False) for line in lines]


def messages(message: Message) -> Iterator[Message]:
    """A message and all within it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for item in value if hasattr(value, "__len__") else [value]:
                yield from messages(item)


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.ABORTED])
@pytest.mark.parametrize("name", list(REQUESTS))
def test_each_line_is_an_export_request(runs: Path, state: State, name: str):
    run = stored(runs, state)
    run.caller = Caller(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    tell(run, LogsHook(), TracesHook(), MetricsHook())
    found = parse(run, name)
    assert found
    lengths = {
        (attribute, len(getattr(message, attribute)))
        for request in found
        for message in messages(request)
        for attribute in ("trace_id", "span_id", "parent_span_id")
        if getattr(message, attribute, b"")
    }
    assert lengths <= {("trace_id", 16), ("span_id", 8), ("parent_span_id", 8)}
    assert len(lengths) >= 2


def test_the_ids_join_all_three_files(run: Run):
    tell(run, LogsHook(), TracesHook(), MetricsHook())
    spans = {message.span_id for request in parse(run, bundle.TRACES) for message in messages(request) if message.DESCRIPTOR.name == "Span"}
    logs = {message.span_id for request in parse(run, bundle.LOGS) for message in messages(request) if message.DESCRIPTOR.name == "LogRecord"}
    exemplars = {message.span_id for request in parse(run, bundle.METRICS) for message in messages(request) if message.DESCRIPTOR.name == "Exemplar"}
    expected = {bytes.fromhex(run.id.hex[16:]), *(bytes.fromhex(step.id.hex[16:]) for step in run.steps)}
    assert logs == exemplars == expected <= spans
