"""Fakes for the tests of pipelines, and for Goldtrace's own: a whole example run, a recording hook, readers of bundles.

Nothing here needs a server, and nothing outside the standard library is imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.records import Run, StepRun
from pipeline.testing_example import EXAMPLE_START, SECOND, example_id, example_pipeline, example_run

__all__ = [
    "EXAMPLE_START",
    "SECOND",
    "RecordingHook",
    "example_id",
    "example_pipeline",
    "example_run",
    "logs",
    "metrics",
    "read_lines",
    "spans",
]


# ---------------------------------------------------------------------------------------------- a hook that remembers


@dataclass(slots=True)
class RecordingHook:
    """A hook that remembers what it was told, as `(what, name, state)`, e.g. `("step left", "weight", "COMPLETED")`."""

    signal: str = "recording"
    events: list[tuple[str, str, str]] = field(default_factory=list)

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """Remember the entry and the exit of the run."""
        self.events.append(("run entered", run.pipeline.name, run.state.value))
        try:
            yield
        finally:
            self.events.append(("run left", run.pipeline.name, run.state.value))

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:  # noqa: ARG002 - the seam hands over both
        """Remember the entry and the exit of a step."""
        self.events.append(("step entered", step.step.name, step.state.value))
        try:
            yield
        finally:
            self.events.append(("step left", step.step.name, step.state.value))


# ---------------------------------------------------------------------------------------------- reading a bundle back


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line; none when there is no such file, and not the line that a killed run was writing."""
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]] if path.exists() else []


def lineage(bundle: Path) -> list[dict[str, Any]]:
    """All OpenLineage events of a bundle in order."""
    return read_lines(bundle / "lineage.ndjson")


def spans(bundle: Path) -> list[dict[str, Any]]:
    """All spans of a bundle in the order in which they ended, as OTLP JSON, with `attributes` as a plain dict."""
    return [
        _plain(span)
        for line in read_lines(bundle / "traces.jsonl")
        for group in line["resourceSpans"]
        for scope in group["scopeSpans"]
        for span in scope["spans"]
    ]


def logs(bundle: Path) -> list[dict[str, Any]]:
    """All log records of a bundle in order, as OTLP JSON, with `attributes` as a plain dict."""
    return [
        _plain(entry)
        for line in read_lines(bundle / "logs.jsonl")
        for group in line["resourceLogs"]
        for scope in group["scopeLogs"]
        for entry in scope["logRecords"]
    ]


def metrics(bundle: Path) -> dict[str, list[dict[str, Any]]]:
    """The data points of a bundle by instrument, with `attributes` as a plain dict."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in read_lines(bundle / "metrics.jsonl"):
        for metric in (metric for group in line["resourceMetrics"] for scope in group["scopeMetrics"] for metric in scope["metrics"]):
            kind = next(key for key in ("sum", "gauge", "histogram") if key in metric)
            found.setdefault(metric["name"], []).extend(_plain(point) for point in metric[kind]["dataPoints"])
    return found


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "attributes": {item["key"]: _value(item["value"]) for item in record.get("attributes", [])}}


def _value(value: dict[str, Any]) -> Any:
    """An OTLP `AnyValue` as Python; 64-bit integers are text in JSON."""
    kind, inner = next(iter(value.items()))
    if kind == "intValue":
        return int(inner)
    return [_value(item) for item in inner.get("values", [])] if kind == "arrayValue" else inner
