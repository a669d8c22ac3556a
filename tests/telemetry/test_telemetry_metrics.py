from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import names
from pipeline.records import Gate, Run, State
from pipeline.telemetry import bundle
from pipeline.telemetry.guard import Hooks
from pipeline.telemetry.metrics import MetricsHook, samples
from pipeline.telemetry.tracing import TracesHook
from pipeline.testing import example_run, metrics, read_lines
from tests.telemetry.telemetry_support import stored, tell


def numbers(run: Run) -> dict[str, dict[tuple[str, ...], float]]:
    """The values of a told run by instrument and labels' values."""
    tell(run, MetricsHook())
    return {
        name: {tuple(point["attributes"].values()): float(point.get("asDouble", point.get("asInt", point.get("sum", "nan")))) for point in points}
        for name, points in metrics(run.bundle).items()
    }


def test_a_run_leaves_one_line_with_one_point_for_each_set_of_labels(run: Run):
    tell(run, TracesHook(), MetricsHook())
    assert len(read_lines(run.bundle / bundle.METRICS)) == 1
    for points in metrics(run.bundle).values():
        labels = [tuple(sorted(point["attributes"].items())) for point in points]
        assert len(set(labels)) == len(labels)


def test_nothing_is_collected_before_the_end_of_the_run(run: Run):
    hooks = Hooks([MetricsHook()])
    with hooks.run(run):
        with hooks.step(run, run.steps[0]):
            pass
        assert not (run.bundle / bundle.METRICS).exists()


def test_the_instruments_are_exactly_those_of_names(run: Run):
    run.telemetry_seconds["traces"] = 0.01
    tell(run, MetricsHook())
    (line,) = read_lines(run.bundle / bundle.METRICS)
    written = {metric["name"]: metric for metric in line["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]}
    kinds = {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}
    assert written.keys() == {metric.name for metric in names.metrics()}
    for metric in names.metrics():
        found = written[metric.name]
        assert (found.get("unit", ""), found["description"]) == (metric.unit, metric.meaning)
        for point in found[kinds[metric.kind]]["dataPoints"]:
            assert {item["key"] for item in point.get("attributes", [])} == set(metric.labels), metric.name


def test_what_was_lost_is_told_of_each_signal_also_of_those_that_a_run_did_without(run: Run):
    found = numbers(run)
    assert found["goldtrace.telemetry.lost"] == {(signal,): 0.0 for signal in names.SIGNALS}
    assert ("experiments",) not in found.get("goldtrace.telemetry.seconds", {})


def test_counters_and_histograms_are_cumulative_whatever_the_environment_says(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram")
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")
    tell(run, MetricsHook())
    text = (run.bundle / bundle.METRICS).read_text()
    assert '"aggregationTemporality":2' in text
    assert '"aggregationTemporality":1' not in text
    assert "exemplars" in text
    assert "explicitBounds" in text


def test_the_exemplars_of_durations_lead_to_the_spans_and_nothing_else_has_any(run: Run):
    tell(run, TracesHook(), MetricsHook())
    found = metrics(run.bundle)
    leads = {
        name: [(item["traceId"], item["spanId"]) for point in points for item in point.get("exemplars", [])]
        for name, points in found.items()
        if any("exemplars" in point for point in points)
    }
    assert leads == {
        "goldtrace.run.duration": [(run.id.hex, run.id.hex[16:])],
        "goldtrace.step.duration": [(run.id.hex, step.id.hex[16:]) for step in run.steps],
    }


def test_the_numbers_of_a_completed_run(run: Run):
    found = numbers(run)
    assert found["goldtrace.runs"] == {("completed", "yellow"): 1}
    assert found["goldtrace.run.duration"] == {("completed",): 2.0}
    assert found["goldtrace.last_run.success"] == {(): 1}
    assert found["goldtrace.last_run.gate"] == {(): 1}
    assert found["goldtrace.last_run.success_share_20"] == {(): 1.0}
    assert found["goldtrace.step.last_duration"] == {("weight",): 0.5, ("features",): 0.5, ("models",): 0.5}
    assert found["goldtrace.dataset.rows"]["bronze/weight", "bronze", "in"] == 10
    assert found["goldtrace.dataset.rows"]["bronze/weight", "bronze", "out"] == 9
    assert found["goldtrace.dataset.rows"]["bronze/weight", "bronze", "quarantined"] == 1
    assert found["goldtrace.dataset.bytes"]["bronze/weight", "bronze", "in"] == 412
    assert found["goldtrace.dataset.bytes"]["silver/weekly_weight", "silver", "in"] == 2048
    assert found["goldtrace.checks"] == {("input/weight", "error", "quarantined"): 1, ("silver/weekly_weight", "error", "passed"): 1}
    assert found["goldtrace.model.estimate"] == {("ols", "intercept"): 80.5, ("ols", "week"): -0.25}


def test_what_is_not_known_is_absent_and_not_zero(runs: Path):
    found = numbers(stored(runs, State.FAILED))
    assert found["goldtrace.runs"] == {("failed", "none"): 1}
    assert found["goldtrace.last_run.success"] == {(): 0}
    assert not found.keys() & {"goldtrace.last_run.gate", "goldtrace.dataset.published", "goldtrace.model.estimate", "goldtrace.model.converged"}


def test_a_red_run_published_nothing_and_its_gate_is_2(runs: Path):
    found = numbers(stored(runs, gate=Gate.RED))
    assert found["goldtrace.last_run.gate"] == {(): 2}
    assert "goldtrace.dataset.published" not in found


def test_datasets_are_published_when_the_run_published_them(run: Run):
    published = next(phase for phase in run.phases if phase.name == "publish")
    assert set(numbers(run)["goldtrace.dataset.published"].values()) == {published.ended_ns / 1e9}


def test_a_folder_of_files_has_bytes_and_no_rows(run: Run):
    step = run.steps[2]
    step.outputs = {"gold/models": replace(step.outputs["gold/models"], rows=None)}
    found = numbers(run)
    assert ("gold/models", "gold", "out") not in found["goldtrace.dataset.rows"]
    assert found["goldtrace.dataset.bytes"]["gold/models", "gold", "out"] == 512


def test_a_number_that_is_none_is_left_out_without_a_word(run: Run, caplog: pytest.LogCaptureFixture):
    run.estimates = [replace(run.estimates[1], estimate=float("nan"), p_value=float("inf"))]
    found = numbers(run)
    assert "goldtrace.model.estimate" not in found
    assert "goldtrace.model.p_value" not in found
    assert caplog.messages == []
    assert found["goldtrace.model.converged"] == {("ols", "week"): 1}


@given(st.sampled_from(State), st.integers(0, 3))
def test_in_is_out_and_quarantined_for_ingested_data_and_labels_are_bounded(state: State, number: int):
    run = example_run(Path("bundle"), state, number=number)
    rows = {labels["flow"]: value for metric, value, labels, _ in samples(run) if metric is names.DATASET_ROWS and labels["dataset"] == "bronze/weight"}
    assert rows["in"] == rows["out"] + rows["quarantined"]
    for metric, _, labels, _ in samples(run):
        assert tuple(labels) == metric.labels
        assert str(run.id) not in json.dumps(dict(labels))


def test_a_quarantine_has_no_time_of_publishing_as_it_would_look_stale(run: Run):
    published = set(run.published)
    run.published["quarantine/bronze/weight"] = next(iter(run.published.values()))
    told = {labels["dataset"] for metric, _, labels, _ in samples(run) if metric is names.DATASET_PUBLISHED}
    assert told == published != set()


def test_rows_set_aside_are_counted_for_the_dataset_that_lost_them_alone(run: Run):
    step = run.steps[0]
    (name, version), *_ = step.outputs.items()
    step.outputs["bronze/other"] = replace(version, dataset="bronze/other")
    step.rows_quarantined = {name: 2, "bronze/other": 3}
    aside = {labels["dataset"]: value for metric, value, labels, _ in samples(run) if metric is names.DATASET_ROWS and labels["flow"] == "quarantined"}
    assert (aside[name], aside["bronze/other"]) == (2, 3)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_metrics_that_cannot_be_written_are_counted(run: Run):
    (run.bundle / bundle.METRICS).symlink_to("/dev/full")
    with Hooks([MetricsHook()], on_failure=lambda *_: None).run(run):
        pass
    assert run.telemetry_lost == {"metrics": 1}
