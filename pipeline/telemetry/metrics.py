"""The numbers of a run as OpenTelemetry metrics: one OTLP JSON line in `metrics.jsonl`, collected once, when the run ends.

A sample is a run: everything is recorded at the end and collected by a single flush, since a second collection would count
every run twice. What is not known is absent, never zero. Labels are those of `names.py` and nothing else.
"""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import IO, Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.json.file import FileMetricExporter
from opentelemetry.metrics import Meter
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExportResult, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import Aggregation, ExplicitBucketHistogramAggregation
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from pipeline import names
from pipeline.errors import LakeError
from pipeline.lake_address import parse_s3
from pipeline.records import Check, Estimate, Gate, Outcome, Run, State, StepRun
from pipeline.telemetry import bundle, schedule
from pipeline.telemetry.manifest import seconds
from pipeline.telemetry.resource import resource
from pipeline.telemetry.tracing import span_context

# Seconds: from a step on a sample to a night's run.
BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
GATES = {Gate.GREEN: 0, Gate.YELLOW: 1, Gate.RED: 2}
OUTCOMES = {State.COMPLETED: "completed", State.FAILED: "failed", State.RUNNING: "failed", State.ABORTED: "aborted", State.LOST: "lost"}

# The root span is current while metrics are recorded, and is not the example for all of them. An empty context would not do:
# the SDK takes it for none.
NOBODY = set_span_in_context(INVALID_SPAN, Context())

Labels = Mapping[str, str]
# One measurement: instrument, value, labels, and the span that an exemplar leads to.
Sample = tuple[names.Metric, float, Labels, Context | None]


class _Exporter(FileMetricExporter):
    """The official exporter, which tells a failed write only in its result, which the reader drops: here it is kept.

    The SDK asks the machine for the time, so the points are moved to the run's: by `offset_ns`, or to `at_ns` where that is set.
    """

    failed = False
    offset_ns = 0
    at_ns: int | None = None

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: object) -> MetricExportResult:
        offset_ns = self.offset_ns if self.at_ns is None else self.at_ns - _collected_ns(metrics_data)
        result = super().export(_moved(metrics_data, offset_ns) if offset_ns else metrics_data, timeout_millis)
        self.failed = self.failed or result is not MetricExportResult.SUCCESS
        return result


def _collected_ns(metrics_data: MetricsData) -> int:
    """When the points were collected, which is one moment for all."""
    metrics = (metric for resource in metrics_data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics)
    return max(point.time_unix_nano for metric in metrics for point in metric.data.data_points)


def _moved(part: Any, offset_ns: int) -> Any:
    """A part of the SDK's data, a dataclass or a list of them, with all times in it moved."""
    if isinstance(part, list | tuple):
        return [_moved(each, offset_ns) for each in part]
    if not is_dataclass(part) or isinstance(part, type):
        return part
    found = {field.name: getattr(part, field.name) for field in fields(part)}
    return replace(part, **{name: value + offset_ns if name in _TIMES and value else _moved(value, offset_ns) for name, value in found.items()})


_TIMES = ("start_time_unix_nano", "time_unix_nano")


class MetricsHook:
    """Writes a run's metrics to its bundle."""

    signal = "metrics"

    def __init__(self, resource_attributes: str = "") -> None:
        """Take what `OTEL_RESOURCE_ATTRIBUTES` says."""
        self._resource_attributes = resource_attributes

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """Record and collect everything when the run has ended, unless this is a child that a step forked."""
        process = os.getpid()
        try:
            yield
        finally:
            if os.getpid() == process:
                self._write(run)

    def _write(self, run: Run) -> None:
        with bundle.open_for_append(run.bundle / bundle.METRICS) as file:
            write(run, file, self._resource_attributes)

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:  # noqa: ARG002 - the seam hands over both
        """Nothing: a step's numbers are on the run's record in the end."""
        yield


def write(run: Run, file: IO[str], resource_attributes: str) -> None:
    """Write the line of a run that is over. That of a lost one is dated with its end, which was before now.

    Raises:
        LakeError: it could not be written.
    """
    exporter = _Exporter(stream=file, preferred_temporality=_TEMPORALITY, preferred_aggregation=_AGGREGATION)
    exporter.offset_ns = run.clock.offset_ns
    exporter.at_ns = run.ended_ns if run.state is State.LOST else None
    # An infinite interval: no thread, and no collection but the one below.
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
    provider = sdk.MeterProvider([reader], resource(run, resource_attributes), exemplar_filter=sdk.TraceBasedExemplarFilter(), shutdown_on_exit=False)
    meter = provider.get_meter(names.SCOPE, run.code.version)
    instruments = {metric: _instrument(meter, metric) for metric in names.metrics()}
    for metric, value, labels, context in samples(run):
        instruments[metric](value, labels, context or NOBODY)
    provider.force_flush()
    provider.shutdown()
    if exporter.failed:
        raise LakeError(f"the metrics could not be written to {bundle.METRICS}", hint="is the disk full?")


# A backend's wish for deltas in the environment would make Prometheus refuse the whole line.
_TEMPORALITY: dict[type, AggregationTemporality] = dict.fromkeys((sdk.Counter, sdk.Histogram), AggregationTemporality.CUMULATIVE)
_AGGREGATION: dict[type, Aggregation] = {sdk.Histogram: ExplicitBucketHistogramAggregation(BUCKETS)}


def _instrument(meter: Meter, metric: names.Metric) -> Callable[[float, Labels, Context], None]:
    if metric.kind == "counter":
        return meter.create_counter(metric.name, metric.unit, metric.meaning).add
    if metric.kind == "histogram":
        return meter.create_histogram(metric.name, metric.unit, metric.meaning).record
    return meter.create_gauge(metric.name, metric.unit, metric.meaning).set


# ---------------------------------------------------------------------------------------------- what there is to say


def samples(run: Run) -> Iterator[Sample]:
    """Everything that a finished run has to say in numbers."""
    yield from _of_run(run)
    for step in run.steps:
        yield from _of_step(run, step)
        yield from _of_datasets(run, step)
    yield from _of_schedule(run)
    yield from _of_published(run)
    yield from _of_checks(run.checks)
    for estimate in run.estimates:
        yield from _of_estimate(estimate)
    if run.state is not State.LOST:
        yield from _of_disks(run)
    for signal, took in sorted(run.telemetry_seconds.items()):
        yield names.TELEMETRY_SECONDS, took, {names.SIGNAL.name: signal}, None
    # Of those that this run did without, too: else what an earlier run lost would stay the last that was said of the signal.
    for signal in sorted({*names.SIGNALS, *run.telemetry_lost}):
        yield names.TELEMETRY_LOST, run.telemetry_lost.get(signal, 0), {names.SIGNAL.name: signal}, None


def _of_run(run: Run) -> Iterator[Sample]:
    outcome = {names.OUTCOME.name: OUTCOMES[run.state]}
    yield names.RUNS, 1, outcome | {names.GATE.name: run.gate.value.lower() if run.gate else "none"}, None
    yield names.LAST_RUN_SUCCESS, int(run.state is State.COMPLETED), {}, None
    took = seconds(run.started_ns, run.ended_ns)
    if took is not None:
        yield names.RUN_DURATION, took, outcome, span_context(run.trace_id, run.span_id)
        yield names.LAST_RUN_DURATION, took, {}, None
    if run.gate is not None:
        yield names.LAST_RUN_GATE, GATES[run.gate], {}, None
    if run.success_share_20 is not None:
        yield names.LAST_RUN_SUCCESS_SHARE_20, run.success_share_20, {}, None


def _of_schedule(run: Run) -> Iterator[Sample]:
    due = schedule.due(run)
    if due is not None:
        yield names.RUN_DUE, due.timestamp(), {}, None
        yield names.RUN_EVERY, run.pipeline.schedule.every.total_seconds(), {}, None


def _of_step(run: Run, step: StepRun) -> Iterator[Sample]:
    took = seconds(step.started_ns, step.ended_ns)
    # How long a step would have taken that was cut off is not known: what it had taken by its last sign of life may be next to nothing.
    if took is not None and step.state is not State.LOST:
        labels = {names.STEP.name: step.step.name}
        yield names.STEP_DURATION, took, labels | {names.OUTCOME.name: OUTCOMES[step.state]}, span_context(run.trace_id, step.span_id)
        yield names.STEP_LAST_DURATION, took, labels, None


def _of_datasets(run: Run, step: StepRun) -> Iterator[Sample]:
    """Rows and bytes of what a step wrote: `in` is all that the step read, so in = out + quarantined for one that only sorts out."""
    rows_in = None if None in step.rows_in.values() or not step.rows_in else sum(rows or 0 for rows in step.rows_in.values())
    for name, version in step.outputs.items():
        of_rows = {"in": rows_in, "out": version.rows, "quarantined": step.rows_quarantined.get(name, 0)} if version.rows is not None else {}
        of_bytes = {"in": _bytes_in(run, step), "out": version.bytes}
        yield from _flows(names.DATASET_ROWS, name, of_rows)
        yield from _flows(names.DATASET_BYTES, name, of_bytes)


def _flows(metric: names.Metric, dataset: str, flows: Mapping[str, int | None]) -> Iterator[Sample]:
    for flow, value in flows.items():
        if value is not None:
            yield metric, value, _dataset(dataset) | {names.FLOW.name: flow}, None


def _bytes_in(run: Run, step: StepRun) -> int | None:
    """The bytes of everything that a step read; None when some of it was not made in this run."""
    sizes = {source.source: source.bytes for source in run.inputs} | {name: output.bytes for other in run.steps for name, output in other.outputs.items()}
    return sum(sizes[name] for name in step.step.inputs) if step.step.inputs and all(name in sizes for name in step.step.inputs) else None


def _dataset(name: str) -> dict[str, str]:
    return {names.DATASET.name: name, names.LAYER.name: name.split("/", 1)[0]}


def _of_published(run: Run) -> Iterator[Sample]:
    """When each of the pipeline's datasets became current. Not the quarantines: they are there only when rows were set aside, so they'd look stale."""
    at = next((phase.ended_ns for phase in reversed(run.phases) if phase.name == "publish"), run.ended_ns)
    for name in run.published if at is not None else ():
        if name in run.pipeline.contracts:
            yield names.DATASET_PUBLISHED, (at or 0) / 1e9, _dataset(name), None
            yield from _of_freshness(run, name, (at or 0) / 1e9)


def _of_freshness(run: Run, dataset: str, published: float) -> Iterator[Sample]:
    deadline, due = schedule.deadline(run), schedule.due(run)
    if deadline is not None and due is not None:
        yield names.DATASET_DUE, due.timestamp(), _dataset(dataset), None
        if published <= (deadline + schedule.FRESH_WITHIN).timestamp():
            yield names.DATASET_MET, deadline.timestamp(), _dataset(dataset), None


def _of_checks(checks: Iterable[Check]) -> Iterator[Sample]:
    counted: Counter[tuple[str, str, Outcome]] = Counter((check.dataset, check.severity.value, check.outcome) for check in checks)
    for (dataset, severity, outcome), count in counted.items():
        yield names.CHECKS, count, {names.DATASET.name: dataset, names.SEVERITY.name: severity, names.OUTCOME.name: outcome.value}, None


def _of_estimate(estimate: Estimate) -> Iterator[Sample]:
    labels = {names.MODEL.name: estimate.model, names.TERM.name: estimate.term}
    values = {
        names.MODEL_ESTIMATE: estimate.estimate,
        names.MODEL_CI_LOW: estimate.ci_low,
        names.MODEL_CI_HIGH: estimate.ci_high,
        names.MODEL_P_VALUE: estimate.p_value,
        names.MODEL_CONVERGED: int(estimate.converged),
    }
    for metric, value in values.items():
        if value is not None and math.isfinite(value):
            yield metric, value, labels, None


def _of_disks(run: Run) -> Iterator[Sample]:
    """How full the disks are that a run writes to. Beside it nothing in the stack knows the size of a disk."""
    lake = {"lake": Path(run.lake)} if parse_s3(run.lake) is None else {}  # a bucket has no size
    for place, folder in {**lake, "runs": run.bundle}.items():
        try:
            usage = shutil.disk_usage(folder)
        except OSError:
            continue  # a run that stopped before it wrote there: what is not known is absent
        yield names.DISK_FREE, usage.free, {names.PLACE.name: place}, None
        yield names.DISK_SIZE, usage.total, {names.PLACE.name: place}, None
