from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pipeline import names
from pipeline.records import Caller, Gate, Run, State
from pipeline.telemetry import bundle
from pipeline.telemetry.guard import Hooks
from pipeline.telemetry.tracing import TracesHook
from pipeline.testing import spans
from tests.telemetry.telemetry_support import stored, tell

OUTER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def told(run: Run) -> dict[str, dict]:
    """The spans of a run that was told, by name; phases left out."""
    tell(run, TracesHook())
    return {span["name"]: span for span in spans(run.bundle) if names.PHASE_NAME.name not in span["attributes"]}


def test_the_ids_are_those_of_the_run_and_its_steps(run: Run):
    found = told(run)
    assert {span["traceId"] for span in spans(run.bundle)} == {run.id.hex}
    assert found["example"]["spanId"] == run.id.hex[16:]
    assert "parentSpanId" not in found["example"]
    for step in run.steps:
        assert found[step.step.name]["spanId"] == step.id.hex[16:]
        assert found[step.step.name]["parentSpanId"] == run.id.hex[16:]


def test_the_times_are_those_of_the_record(run: Run):
    found = told(run)
    assert [int(found["example"][key]) for key in ("startTimeUnixNano", "endTimeUnixNano")] == [run.started_ns, run.ended_ns]
    step = run.steps[1]
    assert [int(found["features"][key]) for key in ("startTimeUnixNano", "endTimeUnixNano")] == [step.started_ns, step.ended_ns]


def test_phases_are_spans_below_their_step_with_random_ids(run: Run):
    told(run)
    phases = [span for span in spans(run.bundle) if span["parentSpanId" if "parentSpanId" in span else "name"] == run.steps[0].id.hex[16:]]
    assert [span["name"] for span in phases] == ["read", "write", "check"]
    assert [int(span["startTimeUnixNano"]) for span in phases] == [phase.started_ns for phase in run.steps[0].phases]
    every = [span["spanId"] for span in spans(run.bundle)]
    assert len(set(every)) == len(every) == 4 + 9 + 2


def test_the_run_id_is_the_first_thing_in_each_line(run: Run):
    tell(run, TracesHook("team=study,goldtrace.run.id=forged,x=a%20b"))
    lines = (run.bundle / bundle.TRACES).read_text().splitlines()
    start = '{"resourceSpans":[{"resource":{"attributes":[{"key":"goldtrace.run.id","value":{"stringValue":"' + str(run.id)
    assert all(line.startswith(start) for line in lines)
    attributes = {item["key"]: item["value"]["stringValue"] for item in json.loads(lines[0])["resourceSpans"][0]["resource"]["attributes"]}
    assert attributes == {
        "goldtrace.run.id": str(run.id),
        "service.name": "goldtrace",
        "service.namespace": "example",
        "service.version": "0.1.0",
        "deployment.environment.name": "test",
        "team": "study",
        "x": "a b",
    }


def test_every_attribute_stands_in_names(run: Run):
    known = {attribute.name for attribute in names.attributes()}
    for span in told(run).values():
        assert span["attributes"].keys() <= known
        assert "status" not in span or span["status"] == {}


def test_the_facts_are_on_the_spans(run: Run):
    found = told(run)
    assert found["example"]["attributes"]["cicd.pipeline.result"] == "success"
    assert found["example"]["attributes"]["goldtrace.run.gate"] == "YELLOW"
    assert found["weight"]["attributes"]["goldtrace.step.rows_quarantined"] == 1
    assert found["features"]["attributes"]["code.file.path"] == "pipeline/testing_features.sql"
    assert found["models"]["attributes"]["code.function.name"] == "pipeline.testing_example._models"
    assert found["models"]["attributes"]["code.file.path"] == "pipeline/testing_example.py"


def test_a_failed_step_leaves_one_error_span_with_the_exception_and_the_run_fails_too(runs: Path):
    found = told(stored(runs, State.FAILED))
    failed = found["features"]
    assert failed["status"]["code"] == found["example"]["status"]["code"] == 2
    assert failed["attributes"]["error.type"] == found["example"]["attributes"]["error.type"] == "step"
    (event,) = failed["events"]
    assert (event["name"], event["timeUnixNano"]) == ("exception", failed["endTimeUnixNano"])
    assert [item["key"] for item in event["attributes"]] == ["exception.type", "exception.message", "exception.stacktrace"]
    assert "events" not in found["example"]
    assert found["weight"].get("status", {}) == {}


@pytest.mark.parametrize(("state", "kind"), [(State.ABORTED, "aborted"), (State.LOST, "lost")])
def test_a_stopped_run_is_cancelled_and_says_by_what(runs: Path, state: State, kind: str):
    found = told(stored(runs, state))
    for span in (found["example"], found["features"]):
        assert span["attributes"]["error.type"] == kind
        assert span["status"]["code"] == 2
    assert found["example"]["attributes"]["cicd.pipeline.result"] == "cancellation"


def test_a_red_gate_fails_the_root_span_only(runs: Path):
    found = told(stored(runs, gate=Gate.RED))
    assert (found["example"]["status"]["code"], found["example"]["attributes"]["error.type"]) == (2, "gate")
    assert [found[step].get("status", {}) for step in ("weight", "features", "models")] == [{}, {}, {}]
    assert [event["name"] for event in found["example"]["events"]] == ["exception"]


def test_a_run_that_ended_without_a_reason_is_a_bug(run: Run):
    run.state, run.failure = State.FAILED, None
    assert told(run)["example"]["attributes"]["error.type"] == "bug"


def test_the_caller_is_a_link_and_not_the_parent(run: Run):
    run.caller = Caller(traceparent=OUTER)
    (link,) = told(run)["example"]["links"]
    assert (link["traceId"], link["spanId"]) == (OUTER[3:35], OUTER[36:52])
    assert link["attributes"] == [{"key": "goldtrace.link.reason", "value": {"stringValue": "caller"}}]


def test_a_bad_caller_is_no_link(run: Run):
    run.caller = Caller(traceparent=OUTER.upper())
    assert "links" not in told(run)["example"]


def test_the_environment_cannot_turn_sampling_off(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert len(told(run)) == 4


def test_a_long_value_is_cut_unless_the_environment_says_otherwise(runs: Path, monkeypatch: pytest.MonkeyPatch):
    def trace(number: int) -> str:
        run = stored(runs, State.FAILED, number=number)
        assert run.steps[1].failure
        run.steps[1].failure = replace(run.steps[1].failure, stacktrace="x" * 50_000)
        (event,) = told(run)["features"]["events"]
        return event["attributes"][2]["value"]["stringValue"]

    assert len(trace(1)) == 16_384
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "100")
    assert len(trace(2)) == 100


def test_spans_of_a_users_own_instrumentation_become_children_of_the_step(run: Run):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    hooks = Hooks([TracesHook()])
    with hooks.run(run), hooks.step(run, run.steps[0]), provider.get_tracer("theirs").start_as_current_span("theirs"):
        pass
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (run.trace_id, run.steps[0].span_id)


def test_a_run_within_a_users_span_is_a_trace_of_its_own(run: Run):
    with TracerProvider(shutdown_on_exit=False).get_tracer("theirs").start_as_current_span("theirs"):
        found = told(run)
    assert found["example"]["traceId"] == run.id.hex
    assert "parentSpanId" not in found["example"]


def test_the_global_provider_is_left_alone(run: Run):
    before = otel.get_tracer_provider()
    told(run)
    assert otel.get_tracer_provider() is before


def test_a_span_is_in_the_file_as_soon_as_it_ended(run: Run):
    hooks = Hooks([TracesHook()])
    with hooks.run(run):
        with hooks.step(run, run.steps[0]):
            assert spans(run.bundle) == []
        assert [span["name"] for span in spans(run.bundle)] == ["read", "write", "check", "weight"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_spans_that_cannot_be_written_are_counted(run: Run):
    (run.bundle / bundle.TRACES).symlink_to("/dev/full")
    heard: list[str] = []
    hooks = Hooks([TracesHook()], on_failure=lambda run, signal, error: heard.append(str(error)))
    with hooks.run(run):
        for step in run.steps:
            with hooks.step(run, step):
                pass
    assert run.telemetry_lost["traces"] >= 3
    assert heard == ["4 spans could not be written to traces.jsonl"]
