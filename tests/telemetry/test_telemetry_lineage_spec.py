"""The events against the specification's schemas, and against a stand-in that answers as Marquez was seen to."""

import importlib
import json
import re
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import Caller, Gate, Run, State
from pipeline.testing import example_run
from tests.telemetry.lineage_support import Event, close_lost, kill, tell
from tests.telemetry.openlineage_support import Specification, facets_of

OUTER = ("airflow", "nightly", "01a1a523-6300-7012-a9aa-9e88f1a50cd2")
VARIANTS = ["completed", "green", "red", "failed", "aborted", "lost", "lost without a file"]


def _tell(variant: str, folder: Path, number: int = 1) -> tuple[Run, list[Event]]:
    gates = {"green": Gate.GREEN, "red": Gate.RED}
    states = {"failed": State.FAILED, "aborted": State.ABORTED, "lost": State.RUNNING, "lost without a file": State.RUNNING}
    run = example_run(folder / variant, states.get(variant, State.COMPLETED), gate=gates.get(variant), number=number)
    if variant.startswith("lost"):
        kill(run, lines=0 if variant == "lost without a file" else None)
        return run, close_lost(run)
    run.caller = Caller(openlineage_parent=OUTER) if variant == "green" else Caller()
    return run, tell(run)


# ------------------------------------------------------------------------------------------------ the specification


@pytest.fixture(scope="module")
def specification(shared: Path) -> Specification:
    return Specification(shared / "openlineage")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_event_and_every_core_facet_validates(tmp_path: Path, variant: str, specification: Specification) -> None:
    seen = set().union(*(specification.validate(event) for event in _tell(variant, tmp_path)[1]))
    assert {"documentation", "dataSource", "lifecycleStateChange", "parent", "jobType", "goldtrace"} <= seen


def test_a_whole_run_uses_every_facet_that_is_promised(tmp_path: Path) -> None:
    seen = {key for variant in ("green", "failed") for event in _tell(variant, tmp_path)[1] for _, key, _ in facets_of(event)}
    assert seen == {
        *("schema", "documentation", "columnLineage", "dataSource", "version", "lifecycleStateChange"),
        *("dataQualityMetrics", "dataQualityAssertions", "outputStatistics"),
        *("nominalTime", "processing_engine", "errorMessage", "tags", "parent", "goldtrace"),
        *("ownership", "jobType", "sourceCodeLocation", "sql"),
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_formats_that_a_schema_does_not_check_hold(tmp_path: Path, variant: str) -> None:
    for event in _tell(variant, tmp_path)[1]:
        assert uuid.UUID(event["run"]["runId"]).version == 7
        assert datetime.fromisoformat(event["eventTime"]).utcoffset() is not None
        for _, _, facet in facets_of(event):
            assert re.fullmatch(r"urn:goldtrace:[\w.+-]+", facet["_producer"])
            assert re.match(r"(https://openlineage\.io/spec/|urn:goldtrace:facet:)", facet["_schemaURL"])


# ------------------------------------------------------------------------------------------------ the stand-in for Marquez


class Marquez:
    """The stand-in, asked in this process."""

    def __init__(self, standins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(standins))
        self._request = importlib.import_module("jsonhttp").Request
        self._respond = importlib.import_module("marquez").api()

    def ask(self, method: str, path: str, body: Event | None = None, **query: str) -> Any:
        parts = tuple(part.replace("%2F", "/") for part in path.split("/"))
        reply = self._respond(self._request(method=method, parts=parts, query=query, body=json.dumps(body).encode()))
        assert reply.status in (200, 201), reply.body
        return reply.body

    def send(self, told: list[Event]) -> None:
        for event in told:
            self.ask("POST", "api/v1/lineage", event)

    def states(self) -> dict[str, str]:
        return {job["name"]: job["latestRun"]["state"] for job in self.ask("GET", "api/v1/jobs")["jobs"]}

    def dataset(self, name: str) -> Any:
        return self.ask("GET", f"api/v1/namespaces/file:%2F%2Fexample/datasets/{name.replace('/', '%2F')}")

    def versions(self, name: str) -> Any:
        return self.ask("GET", f"api/v1/namespaces/file:%2F%2Fexample/datasets/{name.replace('/', '%2F')}/versions")["versions"]

    def edges(self) -> set[tuple[str, str]]:
        graph = self.ask("GET", "api/v1/lineage", nodeId="job:default:example.features")["graph"]
        return {tuple(edge[end].rsplit(":", 1)[-1] for end in ("origin", "destination")) for node in graph for edge in node["outEdges"]}


EDGES = {
    ("input/weight", "example.weight"),
    ("example.weight", "bronze/weight"),
    ("bronze/weight", "example.features"),
    ("example.features", "silver/weekly_weight"),
    ("silver/weekly_weight", "example.models"),
    ("example.models", "gold/models"),
}


@pytest.fixture
def marquez(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Marquez:
    return Marquez(shared / "stack" / "standins", monkeypatch)


@pytest.mark.parametrize("variant", VARIANTS)
def test_marquez_takes_every_event_and_warns_of_none(marquez: Marquez, tmp_path: Path, variant: str) -> None:
    marquez.send(_tell(variant, tmp_path)[1])
    assert marquez.ask("GET", "warnings")["totalCount"] == 0
    assert marquez.ask("GET", "api/v1/namespaces")["namespaces"]


@pytest.mark.parametrize(("variant", "state"), [("completed", "COMPLETED"), ("failed", "FAILED"), ("aborted", "ABORTED"), ("lost", "ABORTED")])
def test_marquez_shows_each_jobs_state_and_no_job_that_was_not_run(marquez: Marquez, tmp_path: Path, variant: str, state: str) -> None:
    marquez.send(_tell(variant, tmp_path)[1])
    steps = {"example.weight": "COMPLETED", "example.features": state} | ({"example.models": state} if variant == "completed" else {})
    assert marquez.states() == {"example": state, **steps}


def test_marquez_shows_a_red_gate_as_a_failed_pipeline(marquez: Marquez, tmp_path: Path) -> None:
    marquez.send(_tell("red", tmp_path)[1])
    assert marquez.states()["example"] == "FAILED"


def test_marquez_draws_the_whole_graph_without_the_pipelines_own_node(marquez: Marquez, tmp_path: Path) -> None:
    marquez.send(_tell("completed", tmp_path)[1])
    assert marquez.edges() == EDGES


@pytest.mark.parametrize("variant", ["failed", "aborted", "lost", "lost without a file"])
def test_a_later_run_that_did_not_complete_keeps_the_graph_and_the_current_versions(marquez: Marquez, tmp_path: Path, variant: str) -> None:
    marquez.send(_tell("completed", tmp_path)[1])
    before = marquez.dataset("silver/weekly_weight")
    marquez.send(_tell(variant, tmp_path, number=2)[1])
    assert marquez.edges() == EDGES
    after = marquez.dataset("silver/weekly_weight")
    assert (after["currentVersion"], after["fields"], after["description"]) == (before["currentVersion"], before["fields"], before["description"])


def test_the_graph_is_whole_while_a_later_run_is_going_on(marquez: Marquez, tmp_path: Path) -> None:
    marquez.send(_tell("completed", tmp_path)[1])
    for event in _tell("green", tmp_path, number=2)[1]:
        marquez.send([event])
        assert marquez.edges() == EDGES


def test_a_run_makes_one_version_of_each_dataset(marquez: Marquez, tmp_path: Path) -> None:
    for number, variant in enumerate(("completed", "green"), 1):
        marquez.send(_tell(variant, tmp_path, number)[1])
        for name in ("bronze/weight", "silver/weekly_weight", "gold/models"):
            assert len(marquez.versions(name)) == number


def test_marquez_knows_columns_and_what_they_are_made_from(marquez: Marquez, tmp_path: Path) -> None:
    marquez.send(_tell("completed", tmp_path)[1])
    (column,) = (each for each in marquez.dataset("silver/weekly_weight")["columnLineage"] if each["name"] == "weight_mean_kg")
    assert [(each["dataset"], each["field"]) for each in column["inputFields"]] == [("bronze/weight", "weight_kg")]


def test_marquez_keeps_descriptions_links_and_checks_after_the_last_event(marquez: Marquez, tmp_path: Path) -> None:
    run, told = _tell("completed", tmp_path)
    marquez.send(told)
    job = marquez.ask("GET", "api/v1/namespaces/default/jobs/example.features")
    assert job["description"] == "Means by subject and week."
    assert job["location"] == f"https://example.org/goldtrace/blob/{run.code.commit}/pipeline/testing_features.sql"
    for name, contract in run.pipeline.contracts.items():
        assert marquez.dataset(name)["description"] == contract.description
    assert marquez.dataset("input/weight")["facets"]["dataQualityAssertions"]["assertions"][0]["success"] is False
    assert marquez.dataset("silver/weekly_weight")["facets"]["dataQualityAssertions"]["assertions"][0]["success"] is True


def test_replaying_a_run_changes_nothing_that_is_shown(marquez: Marquez, tmp_path: Path) -> None:
    told = _tell("completed", tmp_path)[1]
    marquez.send(told)
    before = (marquez.states(), marquez.edges(), marquez.versions("gold/models"))
    marquez.send(told)
    assert (marquez.states(), marquez.edges(), marquez.versions("gold/models")) == before


def test_every_facet_is_in_the_documentation(root: Path, tmp_path: Path) -> None:
    documented = (root / "docs" / "lineage.md").read_text()
    seen = {key for variant in ("green", "failed") for event in _tell(variant, tmp_path)[1] for _, key, _ in facets_of(event)}
    assert {key for key in seen if f"`{key}`" not in documented} == set()
