"""One run id joins everything that a run leaves: from any id in any file, the same run or step is found in every other."""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from pipeline import names
from pipeline.records import State
from pipeline.telemetry import bundle
from pipeline.testing import read_lines
from tests.end_to_end.end_support import go
from tests.telemetry.openlineage_support import Specification
from tests.telemetry.otlp_support import REQUESTS, id_lengths, parse

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OUTER = ("airflow", "nightly", "01a1a523-6300-7012-a9aa-9e88f1a50cd2")
STEPS = ("weight", "food", "fiber", "traject", "features", "modeling", "models", "reports", "figures")
# A tool's ids: trace id → spans, each span id → what it is the span of.
Ids = dict[str, dict[str, str]]


@pytest.fixture(scope="session")
def folder(study_run: Path) -> Path:
    """The bundle of the study's run."""
    (path,) = (study_run / "runs").glob("*-*-*-*-*")
    return path


# --------------------------------------------------------------------------------------------- reading OTLP JSON


def plain(value: dict[str, Any]) -> Any:
    """An OTLP AnyValue as what it stands for."""
    ((kind, found),) = value.items()
    if kind == "arrayValue":
        return [plain(each) for each in found.get("values", [])]
    return int(found) if kind == "intValue" else found


def attributes(holder: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: plain(each["value"]) for each in holder.get("attributes", [])}


def records(folder: Path, file: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each span, log record or metric of a file, with its resource's attributes."""
    resources, scopes, items = {
        bundle.TRACES: ("resourceSpans", "scopeSpans", "spans"),
        bundle.LOGS: ("resourceLogs", "scopeLogs", "logRecords"),
        bundle.METRICS: ("resourceMetrics", "scopeMetrics", "metrics"),
    }[file]
    for line in read_lines(folder / file):
        for resource in line[resources]:
            for scope in resource[scopes]:
                yield from ((item, attributes(resource["resource"])) for item in scope[items])


def points(metric: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = next(metric[kind] for kind in ("sum", "gauge", "histogram") if kind in metric)["dataPoints"]
    return found


# --------------------------------------------------------------------------------------------- ids by file


def low_64(run_id: str) -> str:
    return run_id.replace("-", "")[16:]


def in_manifest(folder: Path) -> Ids:
    told = json.loads((folder / bundle.MANIFEST).read_text())
    assert told["run_id"].replace("-", "") == told["trace_id"]
    assert all(low_64(each["id"]) == each["span_id"] for each in told["steps"])
    return {told["trace_id"]: {told["span_id"]: "potato", **{each["span_id"]: each["name"] for each in told["steps"]}}}


def in_traces(folder: Path) -> Ids:
    found: Ids = {}
    for span, _ in records(folder, bundle.TRACES):
        told = attributes(span)
        if names.PHASE_NAME.name not in told:
            assert told.get(names.TASK_NAME.name, told.get(names.PIPELINE_NAME.name)) == span["name"]
            assert low_64(told.get(names.TASK_RUN_ID.name, told.get(names.PIPELINE_RUN_ID.name))) == span["spanId"]
            found.setdefault(span["traceId"], {})[span["spanId"]] = span["name"]
    return found


def in_logs(folder: Path) -> Ids:
    found: Ids = {}
    for record, _ in records(folder, bundle.LOGS):
        found.setdefault(record["traceId"], {})[record["spanId"]] = attributes(record).get(names.STEP.name, "potato")
    return found


def in_metrics(folder: Path) -> Ids:
    found: Ids = {}
    for metric, _ in records(folder, bundle.METRICS):
        for point in points(metric) if metric["name"] in (names.RUN_DURATION.name, names.STEP_DURATION.name) else []:
            (example,) = point["exemplars"]
            found.setdefault(example["traceId"], {})[example["spanId"]] = attributes(point).get(names.STEP.name, "potato")
    return found


def in_lineage(folder: Path) -> Ids:
    found: Ids = {}
    for event in read_lines(folder / "lineage.ndjson"):
        ours = event["run"]["facets"]["goldtrace"]
        name = event["job"]["name"].removeprefix("potato.")
        parent = event["run"]["runId"] if name == "potato" else event["run"]["facets"]["parent"]["run"]["runId"]
        assert ours["traceId"] == parent.replace("-", "")
        assert ours["spanId"] == low_64(event["run"]["runId"])
        assert ours["traceUrl"].split("/trace/")[1].split("?")[0] == ours["traceId"]
        assert str(uuid.UUID(ours["traceId"])) in ours["reportUrl"]
        found.setdefault(ours["traceId"], {})[ours["spanId"]] = name
    return found


def in_report(folder: Path) -> Ids:
    """From the links to spans and the ids that are shown."""
    page = (folder / "report.html").read_text("utf-8")
    (trace,) = set(re.findall(r"/trace/([0-9a-f]{32})", page))
    assert str(uuid.UUID(trace)) in page
    spans = {low_64(trace): "potato"}  # the end of the trace id, so a search for it finds that
    for step in STEPS:
        (span,) = re.findall(rf'<details class="step" id="step-{step}".*?uiFind=([0-9a-f]{{16}})', page, re.DOTALL)
        spans[span] = step
    return {trace: spans}


READERS: dict[str, Callable[[Path], Ids]] = {
    "manifest": in_manifest,
    "traces": in_traces,
    "logs": in_logs,
    "metrics": in_metrics,
    "lineage": in_lineage,
    "report": in_report,
}
read = cache(lambda file, folder: READERS[file](folder))


@pytest.mark.parametrize(("here", "there"), list(permutations(READERS, 2)))
def test_each_id_in_one_file_finds_the_same_in_every_other(folder: Path, here: str, there: str) -> None:
    ids = read(here, folder)
    assert {name for spans in ids.values() for name in spans.values()} == {"potato", *STEPS}
    for trace, spans in ids.items():
        assert {span: read(there, folder)[trace][span] for span in spans} == spans


def test_the_folder_the_checks_and_the_resources_have_the_runs_id(folder: Path) -> None:
    run_id = json.loads((folder / bundle.MANIFEST).read_text())["run_id"]
    assert folder.name == run_id
    assert json.loads((folder / bundle.CHECKS).read_text())["run_id"] == run_id
    assert {resource[names.RUN_ID.name] for file in REQUESTS for _, resource in records(folder, file)} == {run_id}
    assert all(next(iter(resource)) == names.RUN_ID.name for file in REQUESTS for _, resource in records(folder, file))


def test_mlflow_has_the_runs_ids_on_every_run_and_the_bundle_has_mlflows(folder: Path) -> None:
    with sqlite3.connect(folder.parent / "mlflow.db") as database:
        rows = database.execute("SELECT run_uuid, key, value FROM tags").fetchall()
    database.close()
    tags: dict[str, dict[str, str]] = {}
    for run, key, value in rows:
        tags.setdefault(run, {})[key] = value
    delivered = json.loads((folder / "delivery.json").read_text())["experiments"]
    assert set(tags) == {delivered["parent_run_id"], *delivered["runs"].values()}
    for found in tags.values():
        assert (found["goldtrace.run_id"], found["goldtrace.trace_id"]) == (folder.name, folder.name.replace("-", ""))
        assert found.get("mlflow.parentRunId", delivered["parent_run_id"]) == delivered["parent_run_id"]
    assert {tags[run]["goldtrace.model"]: run for run in delivered["runs"].values()} == delivered["runs"]


def test_spans_are_one_tree_below_the_runs(folder: Path) -> None:
    spans = {span["spanId"]: span for span, _ in records(folder, bundle.TRACES)}
    assert len(spans) == len(list(records(folder, bundle.TRACES)))
    (root,) = (span for span in spans.values() if not span.get("parentSpanId"))
    assert root["name"] == "potato"
    for span in spans.values():
        parent = spans.get(span.get("parentSpanId", ""), root)
        assert int(parent["startTimeUnixNano"]) <= int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) <= int(parent["endTimeUnixNano"])


# --------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("file", REQUESTS)
def test_each_line_is_an_export_request_with_ids_of_16_and_8_bytes(folder: Path, file: str) -> None:
    lengths = id_lengths(parse(folder, file))
    assert lengths <= {("trace_id", 16), ("span_id", 8), ("parent_span_id", 8)}
    assert {("trace_id", 16), ("span_id", 8)} <= lengths


def test_every_event_and_facet_of_the_lineage_validates(folder: Path, shared: Path) -> None:
    specification = Specification(shared / "openlineage")
    events = read_lines(folder / "lineage.ndjson")
    seen = set().union(*(specification.validate(event) for event in events))
    assert {"schema", "columnLineage", "dataQualityMetrics", "dataQualityAssertions", "outputStatistics", "sql", "version"} <= seen
    assert [event["eventType"] for event in events] == ["START", *["START", "COMPLETE"] * len(STEPS), "COMPLETE"]
    assert (events[0]["job"]["name"], events[-1]["job"]["name"]) == ("potato", "potato")


def test_every_metric_is_there_exactly_once_with_its_labels_and_its_unit(folder: Path) -> None:
    (_,) = read_lines(folder / bundle.METRICS)
    found = {metric["name"]: metric for metric, _ in records(folder, bundle.METRICS)}
    assert len(found) == len(list(records(folder, bundle.METRICS)))
    assert set(found) == {metric.name for metric in names.metrics()}
    for metric in names.metrics():
        labels = [tuple(sorted(attributes(point).items())) for point in points(found[metric.name])]
        assert Counter(labels).most_common(1)[0][1] == 1
        assert {key for each in labels for key, _ in each} == set(metric.labels)
        assert found[metric.name].get("unit", "") == metric.unit


def test_metrics_say_what_the_manifest_says(folder: Path) -> None:
    told = json.loads((folder / bundle.MANIFEST).read_text())
    found = {metric["name"]: metric for metric, _ in records(folder, bundle.METRICS)}
    rows = {(labels["dataset"], labels["flow"]): value for labels, value in map(labelled, points(found[names.DATASET_ROWS.name]))}
    for step in told["steps"]:
        for flow, key in (("out", "rows_out"), ("quarantined", "rows_quarantined")):
            for dataset, number in step[key].items():
                assert rows[dataset, flow] == number
    checks = sum(value for _, value in map(labelled, points(found[names.CHECKS.name])))
    assert checks == sum(told["checks"][outcome] for outcome in ("passed", "failed", "quarantined"))
    estimates = {(labels["model"], labels["term"]): value for labels, value in map(labelled, points(found[names.MODEL_ESTIMATE.name]))}
    assert estimates == {(each["model"], each["term"]): each["estimate"] for each in told["estimates"]}


def labelled(point: dict[str, Any]) -> tuple[dict[str, Any], float]:
    return attributes(point), int(point["asInt"]) if "asInt" in point else point["asDouble"]


def test_no_attribute_is_used_that_is_not_documented(folder: Path) -> None:
    documented = {each.name for each in names.attributes()}
    used: set[str] = set()
    for file in REQUESTS:
        for record, resource in records(folder, file):
            used |= {*resource, *attributes(record)}
            for part in (*record.get("events", []), *record.get("links", []), *(points(record) if file == bundle.METRICS else [])):
                used |= {*attributes(part)}
    assert used - documented == set()
    assert len(used) > 50


def test_every_kind_of_log_record_is_there_with_its_attributes_and_no_others(folder: Path) -> None:
    events = {event.name: {each.name for each in event.attributes} for event in names.events()}
    seen: dict[str, set[str]] = {}
    for record, _ in records(folder, bundle.LOGS):
        told = attributes(record)
        seen.setdefault(told[names.EVENT_NAME.name], set()).update(told)
        assert told[names.EVENT_NAME.name] == record["eventName"]
    assert set(seen) == set(events) - {names.TELEMETRY_FAILED.name}
    for name, used in seen.items():
        assert used - events[name] <= {names.EVENT_NAME.name, names.STEP.name}


# --------------------------------------------------------------------------------------------- callers


def test_a_caller_is_a_link_of_the_root_span_and_the_parent_of_the_pipelines_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", TRACEPARENT)
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", "/".join(OUTER))
    run = go(until="weight")
    assert run.state is State.COMPLETED
    links = {span["name"]: span["links"] for span, _ in records(run.bundle, bundle.TRACES) if span.get("links")}
    assert [(link["traceId"], link["spanId"], attributes(link)) for link in links.pop("potato")] == [
        (TRACEPARENT.split("-")[1], TRACEPARENT.split("-")[2], {names.LINK_REASON.name: "caller"})
    ]
    assert links == {}
    for event in read_lines(run.bundle / "lineage.ndjson"):
        parent = event["run"]["facets"]["parent"]
        direct = OUTER if event["job"]["name"] == "potato" else ("default", "potato", str(run.id))
        assert (parent["job"]["namespace"], parent["job"]["name"], parent["run"]["runId"]) == direct
        assert (parent["root"]["job"]["name"], parent["root"]["run"]["runId"]) == (OUTER[1], OUTER[2])


@pytest.mark.parametrize(("variable", "value"), [("TRACEPARENT", "00-0-0-01"), ("OPENLINEAGE_PARENT_ID", "nightly"), ("OPENLINEAGE_PARENT_ID", "a/b/c")])
def test_a_caller_that_makes_no_sense_is_left_out_and_the_run_completes(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    run = go(until="weight")
    assert (run.state, run.telemetry_lost) == (State.COMPLETED, {})
    assert [span for span, _ in records(run.bundle, bundle.TRACES) if span.get("links")] == []
    assert [event for event in read_lines(run.bundle / "lineage.ndjson") if event["job"]["name"] == "potato" and "parent" in event["run"]["facets"]] == []
