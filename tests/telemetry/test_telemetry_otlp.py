"""The lines of a bundle are OTLP: each parses as an Export request with unknown fields refused, and ids have their lengths."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.records import Caller, Run, State
from pipeline.telemetry import bundle
from pipeline.telemetry.logs import LogsHook
from pipeline.telemetry.metrics import MetricsHook
from pipeline.telemetry.tracing import TracesHook
from tests.telemetry.otlp_support import REQUESTS, id_lengths, messages, parse
from tests.telemetry.telemetry_support import stored, tell


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.ABORTED])
@pytest.mark.parametrize("name", list(REQUESTS))
def test_each_line_is_an_export_request(runs: Path, state: State, name: str):
    run = stored(runs, state)
    run.caller = Caller(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    tell(run, LogsHook(), TracesHook(), MetricsHook())
    lengths = id_lengths(parse(run.bundle, name))
    assert lengths <= {("trace_id", 16), ("span_id", 8), ("parent_span_id", 8)}
    assert len(lengths) >= 2


def test_the_ids_join_all_three_files(run: Run):
    tell(run, LogsHook(), TracesHook(), MetricsHook())
    spans = {message.span_id for request in parse(run.bundle, bundle.TRACES) for message in messages(request) if message.DESCRIPTOR.name == "Span"}
    logs = {message.span_id for request in parse(run.bundle, bundle.LOGS) for message in messages(request) if message.DESCRIPTOR.name == "LogRecord"}
    exemplars = {message.span_id for request in parse(run.bundle, bundle.METRICS) for message in messages(request) if message.DESCRIPTOR.name == "Exemplar"}
    expected = {bytes.fromhex(run.id.hex[16:]), *(bytes.fromhex(step.id.hex[16:]) for step in run.steps)}
    assert logs == exemplars == expected <= spans
