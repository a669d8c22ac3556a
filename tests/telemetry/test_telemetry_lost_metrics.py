from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import Run, State
from pipeline.telemetry import bundle, reaper
from pipeline.telemetry.manifest_reader import nanoseconds
from pipeline.telemetry.metrics import MetricsHook
from pipeline.testing import logs, metrics, read_lines
from tests.telemetry.otlp_support import REQUESTS, id_lengths, parse
from tests.telemetry.telemetry_support import killed, published, python, reap_again, stored, tell


def numbers(run: Run) -> dict[str, dict[tuple[str, ...], Any]]:
    """The values by instrument and labels; of a histogram the sum."""
    return {
        name: {tuple(point["attributes"].values()): float(point.get("asInt", point.get("asDouble", point.get("sum")))) for point in points}
        for name, points in metrics(run.bundle).items()
    }


def test_a_lost_run_is_a_run_that_did_not_succeed(runs: Path):
    stored(runs, number=0)
    run = killed(runs)
    (found,) = reaper.reap(runs)
    told = numbers(run)
    assert told["goldtrace.runs"] == {("lost", "none"): 1}
    assert told["goldtrace.last_run.success"] == {(): 0}
    assert told["goldtrace.last_run.success_share_20"] == {(): 0.5} == {(): found.manifest["success_share_20"]}
    assert told["goldtrace.run.duration"] == {("lost",): found.manifest["seconds"]}
    assert told["goldtrace.run.due"].keys() == {()}


def test_what_it_did_not_come_to_know_is_absent(runs: Path):
    run = killed(runs)
    reaper.reap(runs)
    told = numbers(run)
    assert told["goldtrace.step.duration"].keys() == {("weight", "completed")}
    assert told["goldtrace.step.last_duration"].keys() == {("weight",)}
    assert ("bronze/weight", "bronze", "out") in told["goldtrace.dataset.rows"]
    absent = {"goldtrace.last_run.gate", "goldtrace.dataset.published", "goldtrace.checks", "goldtrace.disk.free", "goldtrace.model.estimate"}
    assert not told.keys() & absent


def test_one_that_had_published_says_what_and_with_which_gate(runs: Path):
    run = killed(runs)
    published(run)
    reaper.reap(runs)
    told = numbers(run)
    assert told["goldtrace.runs"] == {("lost", "yellow"): 1}
    assert told["goldtrace.last_run.gate"] == {(): 1}
    assert {dataset for dataset, _ in told["goldtrace.dataset.published"]} == {"bronze/weight", "silver/weekly_weight", "gold/models"}
    assert told["goldtrace.model.estimate"]["ols", "week"] == -0.25


def test_the_sample_is_dated_with_the_last_sign_of_life(runs: Path):
    run = killed(runs)
    os.utime(run.bundle / bundle.LOGS, ns=(0, 1_900_000_000_000_000_000))
    (found,) = reaper.reap(runs)
    points = [point for points in metrics(run.bundle).values() for point in points]
    assert {int(point["timeUnixNano"]) for point in points} == {nanoseconds(found.manifest["ended_at"])} == {1_900_000_000_000_000_000}
    assert all(int(point["startTimeUnixNano"]) < int(point["timeUnixNano"]) for point in points if "startTimeUnixNano" in point)


def test_the_share_is_that_of_its_time(runs: Path):
    earlier = killed(runs, number=1)
    for number in (2, 3):
        stored(runs, number=number)
    end = earlier.steps[1].started_ns + 1_000_000
    for file in earlier.bundle.iterdir():
        os.utime(file, ns=(0, end))
    (found,) = reaper.reap(runs)
    assert found.manifest["success_share_20"] == 0


@pytest.mark.parametrize("name", list(REQUESTS))
def test_each_line_is_an_export_request_of_the_run(runs: Path, name: str):
    run = killed(runs, cut_off=b'{"resource')
    reaper.reap(runs)
    assert id_lengths(parse(run.bundle, name)) <= {("trace_id", 16), ("span_id", 8), ("parent_span_id", 8)}
    file = run.bundle / name
    first = f'[{{"resource":{{"attributes":[{{"key":"goldtrace.run.id","value":{{"stringValue":"{run.id}"}}}}'
    assert all(first in line for line in file.read_text("utf-8").splitlines())
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_it_is_one_line_whoever_comes_again(runs: Path):
    run = killed(runs)
    reaper.reap(runs)
    before = (run.bundle / bundle.METRICS).read_bytes()
    assert before.count(b"\n") == 1
    reap_again(run)
    assert (run.bundle / bundle.METRICS).read_bytes() == before
    (run.bundle / bundle.METRICS).write_bytes(before[:500])  # a reaper died in the middle of it
    reap_again(run)
    assert numbers(run)["goldtrace.runs"] == {("lost", "none"): 1}


def test_a_run_that_wrote_its_own_is_not_counted_twice(runs: Path):
    run = killed(runs)
    run.state = State.COMPLETED
    tell(run, MetricsHook())
    before = (run.bundle / bundle.METRICS).read_bytes()
    reaper.reap(runs)
    assert (run.bundle / bundle.METRICS).read_bytes() == before


@pytest.mark.parametrize("setting", [{"PIPELINE_TELEMETRY": "off"}, {"OTEL_SDK_DISABLED": "true"}])
def test_a_run_that_was_to_write_no_telemetry_gets_none(runs: Path, setting: dict[str, str]):
    run = stored(runs, State.RUNNING)
    run.settings = {**run.settings, **setting}
    bundle.write_manifest(run)
    (run.bundle / bundle.LOCK).touch()
    (found,) = reaper.reap(runs)
    assert found.state is State.LOST
    assert not [name for name in REQUESTS if (run.bundle / name).exists()]


def test_a_disk_that_refuses_it_now_is_asked_again_by_the_next_one(runs: Path, caplog: pytest.LogCaptureFixture):
    run = killed(runs)
    (run.bundle / bundle.METRICS).mkdir()
    (found,) = reaper.reap(runs)
    assert (found.state, "can't be closed" in caplog.text) == (State.LOST, True)
    (run.bundle / bundle.METRICS).rmdir()
    assert reaper.reap(runs) == []
    assert numbers(run)["goldtrace.last_run.success"] == {(): 0}
    assert not (run.bundle / bundle.LOCK).exists()


def test_a_manifest_that_lacks_something_is_closed_without(runs: Path, caplog: pytest.LogCaptureFixture):
    run = killed(runs)
    record = json.loads((run.bundle / bundle.MANIFEST).read_text())
    del record["estimates"]
    bundle.write_json(run.bundle / bundle.MANIFEST, record)
    (found,) = reaper.reap(runs)
    assert (found.state, found.manifest["success_share_20"]) == (State.LOST, None)
    assert not (run.bundle / bundle.LOCK).exists()
    assert "telemetry can't be closed" in caplog.text


def test_nothing_of_opentelemetry_is_loaded_when_nobody_was_lost(runs: Path):
    stored(runs)
    code = "import sys, pathlib; from pipeline.telemetry import reaper; reaper.reap(pathlib.Path(sys.argv[1])); print('opentelemetry' in sys.modules)"
    assert python(code, runs).stdout == "False\n"


def test_it_is_told_by_the_manifest_whose_run_it_was_and_which(runs: Path):
    run = killed(runs)
    record = json.loads((run.bundle / bundle.MANIFEST).read_text())
    record |= {"until": "features", "clock_offset_seconds": -86_400.0, "settings": {**record["settings"], "OTEL_RESOURCE_ATTRIBUTES": "team=potatoes"}}
    bundle.write_json(run.bundle / bundle.MANIFEST, record)
    (found,) = reaper.reap(runs)
    (line,) = read_lines(run.bundle / bundle.METRICS)
    assert {"key": "team", "value": {"stringValue": "potatoes"}} in line["resourceMetrics"][0]["resource"]["attributes"]
    assert "goldtrace.run.due" not in numbers(run)
    observed, day_ns = int(logs(run.bundle)[-1]["observedTimeUnixNano"]), 86_400 * 10**9
    assert abs(time.time_ns() - day_ns - observed) < day_ns / 24
    assert observed >= int(metrics(run.bundle)["goldtrace.runs"][0]["timeUnixNano"]) == nanoseconds(found.manifest["ended_at"])


def test_no_span_ends_before_it_began_as_a_files_time_is_coarse(runs: Path):
    run = killed(runs)
    for file in run.bundle.iterdir():
        os.utime(file, ns=(0, run.steps[1].started_ns - 4_000_000))
    (found,) = reaper.reap(runs)
    assert nanoseconds(found.manifest["ended_at"]) == run.steps[1].started_ns
    assert found.manifest["steps"][1]["seconds"] == 0
