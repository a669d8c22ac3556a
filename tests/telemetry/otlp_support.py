"""OTLP JSON lines as the messages of the protocol: what a collector makes of a bundle's files."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.json_format import Parse
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pipeline.telemetry import bundle

REQUESTS = {bundle.TRACES: ExportTraceServiceRequest, bundle.METRICS: ExportMetricsServiceRequest, bundle.LOGS: ExportLogsServiceRequest}
IDS = {"traceId": 16, "spanId": 8, "parentSpanId": 8}


def to_base64(value: Any) -> Any:
    """OTLP JSON has its ids in hex, protobuf's JSON in base64: hex would parse too, as 24 bytes of nonsense."""
    if isinstance(value, dict):
        return {key: base64.b64encode(bytes.fromhex(item)).decode() if key in IDS else to_base64(item) for key, item in value.items()}
    return [to_base64(item) for item in value] if isinstance(value, list) else value


def parse(folder: Path, name: str) -> list[Message]:
    """Each line of a bundle's file as its Export request, with unknown fields refused."""
    lines = (folder / name).read_text("utf-8").splitlines()
    return [Parse(json.dumps(to_base64(json.loads(line))), REQUESTS[name](), ignore_unknown_fields=False) for line in lines]


def messages(message: Message) -> Iterator[Message]:
    """A message and all within it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for item in value if hasattr(value, "__len__") else [value]:
                yield from messages(item)


def id_lengths(requests: list[Message]) -> set[tuple[str, int]]:
    """The names of all ids that are set, with their lengths in bytes."""
    return {
        (attribute, len(getattr(message, attribute)))
        for request in requests
        for message in messages(request)
        for attribute in ("trace_id", "span_id", "parent_span_id")
        if getattr(message, attribute, b"")
    }
