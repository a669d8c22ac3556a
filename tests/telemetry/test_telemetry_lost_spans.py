from __future__ import annotations

import json
from pathlib import Path

from pipeline.records import Run
from pipeline.telemetry import bundle, reaper
from pipeline.telemetry.manifest_reader import nanoseconds
from pipeline.testing import spans
from tests.telemetry.telemetry_support import killed, reap_again

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def names(run: Run) -> list[str]:
    return [span["name"] for span in spans(run.bundle)]


def test_the_spans_that_were_open_are_written_so_that_none_lacks_its_parent(runs: Path):
    run = killed(runs)
    known = {span["spanId"] for span in spans(run.bundle)}
    assert {span["parentSpanId"] for span in spans(run.bundle)} - known == {run.id.hex[16:]}
    reaper.reap(runs)
    found = {span["spanId"]: span for span in spans(run.bundle)}
    assert names(run) == ["read", "write", "check", "weight", "features", "example"]
    assert {span.get("parentSpanId") for span in found.values()} - found.keys() == {None}
    assert {span["traceId"] for span in found.values()} == {run.id.hex}
    assert found[run.steps[1].id.hex[16:]]["parentSpanId"] == run.id.hex[16:]


def test_they_are_errors_and_end_at_the_last_sign_of_life(runs: Path):
    run = killed(runs)
    (found,) = reaper.reap(runs)
    step, root = spans(run.bundle)[-2:]
    for span in (step, root):
        assert span["status"] == {"code": 2, "message": reaper.MESSAGE}
        assert span["attributes"]["error.type"] == "lost"
        assert int(span["endTimeUnixNano"]) == nanoseconds(found.manifest["ended_at"])
    assert [int(span["startTimeUnixNano"]) for span in (step, root)] == [run.steps[1].started_ns, run.started_ns]
    assert [event["name"] for event in step["events"]] == ["exception"]


def test_they_say_of_run_and_step_what_the_manifest_knows(runs: Path):
    run = killed(runs)
    (found,) = reaper.reap(runs)
    step, root = (span["attributes"] for span in spans(run.bundle)[-2:])
    assert (root["goldtrace.run.state"], root["cicd.pipeline.result"]) == ("LOST", "cancellation")
    assert (root["cicd.pipeline.run.id"], root["goldtrace.run.seconds"]) == (str(run.id), found.manifest["seconds"])
    assert (root["goldtrace.run.rows_in"], root["goldtrace.run.rows_quarantined"], root["goldtrace.run.steps"]) == (10, 1, 2)
    assert root["vcs.ref.head.revision"] == run.code.commit
    assert (step["goldtrace.step.name"], step["cicd.pipeline.task.run.id"], step["goldtrace.step.state"]) == ("features", str(run.steps[1].id), "LOST")
    assert (step["goldtrace.step.kind"], step["goldtrace.dataset.name"]) == ("sql", "silver/weekly_weight")
    assert (step["goldtrace.lineage.namespace"], step["goldtrace.lineage.name"]) == (f"file://{run.lake_name}", "silver/weekly_weight")


def test_the_caller_is_still_linked_to(runs: Path):
    run = killed(runs)
    record = json.loads((run.bundle / bundle.MANIFEST).read_text())
    record["caller"]["traceparent"] = CALLER
    bundle.write_json(run.bundle / bundle.MANIFEST, record)
    reaper.reap(runs)
    (link,) = spans(run.bundle)[-1]["links"]
    assert (link["traceId"], link["spanId"]) == tuple(CALLER.split("-")[1:3])


def test_a_step_whose_span_the_run_wrote_itself_gets_no_second_one(runs: Path):
    run = killed(runs)
    traces = run.bundle / bundle.TRACES
    reaper.reap(runs)
    before = traces.read_bytes().splitlines(keepends=True)
    traces.write_bytes(b"".join(before[:-1]) + before[-1][:100])  # a reaper died in the middle of the last line
    reap_again(run)
    assert names(run) == ["read", "write", "check", "weight", "features", "example"]
    assert traces.read_bytes().splitlines(keepends=True)[:-1] == before[:-1]


def test_a_run_that_wrote_its_own_span_gets_nothing(runs: Path):
    run = killed(runs)
    reaper.reap(runs)
    before = (run.bundle / bundle.TRACES).read_bytes()
    reap_again(run)
    assert (run.bundle / bundle.TRACES).read_bytes() == before
