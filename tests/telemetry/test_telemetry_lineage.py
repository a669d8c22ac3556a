import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import DeclarationError, SettingsError
from pipeline.records import Caller, ColumnStats, Contract, Failure, Gate, Privacy, Run, State
from pipeline.telemetry.lineage import FILE, LineageHook
from pipeline.telemetry.lineage_datasets import dataset_namespace
from pipeline.telemetry.lineage_facets import browsable
from pipeline.testing import example_run
from tests.telemetry.lineage_support import Event, dataset, events, facet, find, kinds, settings, tell

ENDS = [State.COMPLETED, State.FAILED, State.ABORTED, State.LOST]
OUTER = ("airflow", "nightly", "01a1a523-6300-7012-a9aa-9e88f1a50cd2")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return example_run(tmp_path / "bundle")


@pytest.fixture
def told(run: Run) -> list[Event]:
    return tell(run)


# ------------------------------------------------------------------------------------------------ order


def test_the_pipeline_starts_first_and_ends_last_and_its_steps_are_between(told: list[Event]) -> None:
    assert kinds(told) == [
        "START example",
        "START weight",
        "COMPLETE weight",
        "START features",
        "COMPLETE features",
        "START models",
        "COMPLETE models",
        "COMPLETE example",
    ]


@pytest.mark.parametrize(("state", "kind"), [(State.FAILED, "FAIL"), (State.ABORTED, "ABORT"), (State.LOST, "ABORT"), (State.RUNNING, "ABORT")])
def test_a_step_that_was_not_started_has_no_events_and_the_others_end_as_they_did(tmp_path: Path, state: State, kind: str) -> None:
    told = tell(example_run(tmp_path / "bundle", state))
    assert kinds(told)[2:] == ["COMPLETE weight", "START features", f"{kind} features", f"{kind} example"]


def test_a_red_gate_fails_the_pipeline(tmp_path: Path) -> None:
    told = tell(example_run(tmp_path / "bundle", gate=Gate.RED))
    assert kinds(told)[-1] == "FAIL example"
    assert facet(told[-1], "goldtrace")["gate"] == "RED"


def test_event_times_are_those_of_the_record(run: Run, told: list[Event]) -> None:
    assert told[0]["eventTime"] == "2026-11-03T06:00:00.000000Z"
    assert find(told, "START features")["eventTime"] == "2026-11-03T06:00:00.700000Z"
    assert find(told, "COMPLETE features")["eventTime"] == "2026-11-03T06:00:01.200000Z"
    assert told[-1]["eventTime"] == "2026-11-03T06:00:02.000000Z"


def test_run_ids_are_those_of_the_record(run: Run, told: list[Event]) -> None:
    ids = [str(run.id), *(str(step.id) for step in run.steps)]
    assert list(dict.fromkeys(event["run"]["runId"] for event in told)) == ids


def test_the_file_is_appended_to_as_the_run_goes_on(run: Run) -> None:
    hook = LineageHook(settings())
    with hook.run(run):
        with hook.step(run, run.steps[0]):
            pass
        assert kinds(events(run.bundle)) == ["START example", "START weight", "COMPLETE weight"]
        with hook.step(run, run.steps[1]):
            assert kinds(events(run.bundle))[-1] == "START features"


def test_what_a_step_raises_goes_through_and_its_end_is_told(tmp_path: Path) -> None:
    run = example_run(tmp_path / "bundle", State.FAILED)
    hook = LineageHook(settings())
    with pytest.raises(ZeroDivisionError), hook.run(run), hook.step(run, run.steps[1]):
        raise ZeroDivisionError
    assert kinds(events(run.bundle)) == ["START example", "START features", "FAIL features", "FAIL example"]


def test_the_file_can_be_read_by_a_collector_under_another_user(run: Run, told: list[Event]) -> None:
    assert (run.bundle / FILE).stat().st_mode & 0o777 == 0o644


def test_importing_the_hook_loads_neither_openlineage_nor_sqlglot() -> None:
    code = "import sys, pipeline.telemetry.lineage; print([name for name in ('openlineage', 'sqlglot', 'attr', 'requests') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ------------------------------------------------------------------------------------------------ jobs


def test_jobs_are_called_pipeline_and_pipeline_dot_step_in_one_namespace(run: Run) -> None:
    told = tell(run, settings(OPENLINEAGE_NAMESPACE="nightly"))
    assert {event["job"]["namespace"] for event in told} == {"nightly"}
    assert list(dict.fromkeys(event["job"]["name"] for event in told)) == ["example", "example.weight", "example.features", "example.models"]


def test_every_event_carries_the_facets_of_its_job(told: list[Event]) -> None:
    for event in told:
        assert {"documentation", "ownership", "jobType"} <= set(event["job"]["facets"])
        assert facet(event, "jobType", "job")["processingType"] == "BATCH"
    assert facet(find(told, "COMPLETE features"), "documentation", "job")["description"] == "Means by subject and week."
    assert facet(told[0], "documentation", "job")["description"] == "Body weight by week, and how it changes."


def test_a_job_has_the_same_facets_in_all_its_events(told: list[Event]) -> None:
    for start in (event for event in told if event["eventType"] == "START"):
        assert find(told, f"COMPLETE {start['job']['name'].removeprefix('example.')}")["job"] == start["job"]


def test_a_step_links_to_its_code_at_the_commit(run: Run, told: list[Event]) -> None:
    location = facet(find(told, "START features"), "sourceCodeLocation", "job")
    assert location["url"] == f"https://example.org/goldtrace/blob/{run.code.commit}/pipeline/testing_features.sql"
    assert location["version"] == run.code.commit
    assert facet(find(told, "START models"), "sourceCodeLocation", "job")["path"] == "pipeline/testing_example.py"


@pytest.mark.parametrize("missing", ["repository", "commit"])
def test_without_a_repository_or_a_commit_there_is_no_link(run: Run, missing: str) -> None:
    run.code = replace(run.code, **{missing: None})
    assert all("sourceCodeLocation" not in event["job"]["facets"] for event in tell(run))


@pytest.mark.parametrize(("place", "git", "path"), [("code", True, "code/features.sql"), ("code", False, None), ("site-packages/theirs", True, None)])
def test_a_link_needs_a_file_in_a_work_tree_that_was_not_installed_there(run: Run, tmp_path: Path, place: str, git: bool, path: str | None) -> None:
    sql = tmp_path / place / "features.sql"
    sql.parent.mkdir(parents=True)
    sql.write_text("SELECT subject_id, week, avg(weight_kg) AS weight_mean_kg, count(*) AS weight_days FROM bronze.weight GROUP BY ALL")
    run.code = replace(run.code, root=tmp_path if git else None)
    run.steps[1].step = replace(run.steps[1].step, sql=sql)
    location = facet(find(tell(run), "START features"), "sourceCodeLocation", "job")
    assert (location and location["path"]) == path


@pytest.mark.parametrize(
    ("repository", "url"),
    [
        ("https://github.com/o/r", "https://github.com/o/r/blob/c0/a%20b.sql"),
        ("https://gitlab.com/g/o/r/", "https://gitlab.com/g/o/r/-/blob/c0/a%20b.sql"),
        ("https://bitbucket.org/o/r", "https://bitbucket.org/o/r/src/c0/a%20b.sql"),
    ],
)
def test_the_link_has_the_form_of_the_repositorys_host(repository: str, url: str) -> None:
    assert browsable(repository, "c0", "a b.sql") == url


def test_the_sql_of_a_step_is_told(told: list[Event]) -> None:
    assert facet(find(told, "START features"), "sql", "job")["query"].startswith("-- The middle step")
    assert facet(find(told, "START models"), "sql", "job") is None


# ------------------------------------------------------------------------------------------------ runs


def test_a_steps_parent_is_exactly_the_pipelines_run_and_job(run: Run, told: list[Event]) -> None:
    for event in told[1:-1]:
        parent = facet(event, "parent")
        assert parent["run"]["runId"] == told[0]["run"]["runId"] == parent["root"]["run"]["runId"]
        assert parent["job"] == {"namespace": told[0]["job"]["namespace"], "name": told[0]["job"]["name"]} == parent["root"]["job"]
    assert facet(told[0], "parent") is None


def test_an_outer_job_is_the_pipelines_parent_and_everybodys_root(run: Run) -> None:
    run.caller = Caller(openlineage_parent=OUTER)
    told = tell(run)
    for event in (told[0], told[-1]):
        assert facet(event, "parent")["job"] == {"namespace": "airflow", "name": "nightly"}
        assert facet(event, "parent")["run"] == {"runId": OUTER[2]}
    assert facet(told[1], "parent")["job"]["name"] == "example"
    assert facet(told[1], "parent")["root"]["run"] == {"runId": OUTER[2]}


def test_an_outer_job_whose_run_is_no_uuid_is_left_out(run: Run) -> None:
    run.caller = Caller(openlineage_parent=("airflow", "nightly", "manual__2026-11-03"))
    told = tell(run)
    assert facet(told[0], "parent") is None
    assert facet(told[1], "parent")["root"]["run"]["runId"] == str(run.id)


def test_the_nominal_time_is_the_day_that_was_asked_for(told: list[Event]) -> None:
    for event in told:
        nominal = facet(event, "nominalTime")
        assert (nominal["nominalStartTime"], nominal["nominalEndTime"]) == ("2026-11-03T00:00:00Z", "2026-11-04T00:00:00Z")


def test_without_a_day_that_was_asked_for_there_is_no_nominal_time(run: Run) -> None:
    run.as_of = None
    assert all(facet(event, "nominalTime") is None for event in tell(run))


def test_our_facet_is_flat_and_joins_trace_report_and_bundle(run: Run, told: list[Event]) -> None:
    ours = facet(find(told, "COMPLETE features"), "goldtrace")
    assert ours["traceId"] == run.id.hex
    assert ours["spanId"] == f"{run.steps[1].span_id:016x}"
    assert ours["traceUrl"] == f"http://127.0.0.1:16686/trace/{run.id.hex}?uiFind={ours['spanId']}"
    assert ours["reportUrl"] == "http://127.0.0.1:8088/bundle/report.html"
    assert ours["bundle"] == "bundle"
    assert not any(isinstance(value, dict | list) for value in ours.values())


def test_an_addresss_password_is_not_told(run: Run) -> None:
    told = tell(run, settings(PIPELINE_TRACE_URL="http://me:secret@traces.example.org"))
    assert "secret" not in json.dumps(told)
    assert facet(told[0], "goldtrace")["traceUrl"].endswith(f"traces.example.org/trace/{run.id.hex}")


def test_state_and_gate_are_only_told_at_the_end(told: list[Event]) -> None:
    assert {"state", "gate"}.isdisjoint(facet(told[0], "goldtrace"))
    assert facet(told[-1], "goldtrace")["state"] == "COMPLETED"
    assert facet(told[-1], "goldtrace")["gate"] == "YELLOW"


@pytest.mark.parametrize("state", [State.FAILED, State.ABORTED, State.LOST])
def test_what_did_not_complete_says_why_and_the_pipeline_names_the_step(tmp_path: Path, state: State) -> None:
    run = example_run(tmp_path / "bundle", state)
    *_, step, pipeline = tell(run)
    assert run.failure is not None
    for event in (step, pipeline):
        assert run.failure.message.removeprefix("step features: ") in facet(event, "errorMessage")["message"]
        assert "step features: " in facet(event, "errorMessage")["message"]
    assert facet(step, "errorMessage")["stackTrace"] == run.failure.stacktrace


def test_a_pipelines_failure_names_the_step_that_failed_also_when_it_does_not_say_so_itself(tmp_path: Path) -> None:
    run = example_run(tmp_path / "bundle", State.FAILED)
    run.failure = Failure(type="gate", message="1 check of severity error failed")
    assert facet(tell(run)[-1], "errorMessage")["message"] == "step features: 1 check of severity error failed"


def test_a_state_without_a_failure_still_has_a_message(tmp_path: Path) -> None:
    run = example_run(tmp_path / "bundle", State.ABORTED)
    run.failure = run.steps[1].failure = None
    assert facet(tell(run)[-1], "errorMessage")["message"] == "step features: it was stopped"


def test_what_completed_has_no_error(told: list[Event]) -> None:
    assert all(facet(event, "errorMessage") is None for event in told)


# ------------------------------------------------------------------------------------------------ datasets


@pytest.mark.parametrize("state", ENDS)
def test_the_pipelines_own_events_have_no_inputs_and_outputs(tmp_path: Path, state: State) -> None:
    told = tell(example_run(tmp_path / "bundle", state))
    assert [(event["inputs"], event["outputs"]) for event in (told[0], told[-1])] == [([], []), ([], [])]


@pytest.mark.parametrize("state", ENDS)
def test_a_steps_last_event_repeats_what_its_start_said_of_each_dataset(tmp_path: Path, state: State) -> None:
    told = tell(example_run(tmp_path / "bundle", state))
    for start, end in zip(told[1:-1:2], told[2:-1:2], strict=True):
        assert start["eventType"] == "START"
        assert end["run"]["runId"] == start["run"]["runId"]
        for side in ("inputs", "outputs"):
            assert start[side]
            for before, after in zip(start[side], end[side], strict=True):
                assert (before["namespace"], before["name"]) == (after["namespace"], after["name"])
                assert before["facets"].items() <= after["facets"].items()


def test_every_dataset_carries_its_contract_in_every_event(told: list[Event]) -> None:
    for each in (each for event in told for each in (*event["inputs"], *event["outputs"])):
        assert {"schema", "documentation", "dataSource"} <= set(each["facets"])
        assert all({"type", "description"} <= set(field) for field in each["facets"]["schema"]["fields"])


def test_units_are_told_with_the_meaning(told: list[Event]) -> None:
    fields = dataset(told[1], "bronze/weight")["facets"]["schema"]["fields"]
    assert next(field for field in fields if field["name"] == "weight_kg")["description"] == "Body weight. Unit: kg."


def test_datasets_are_in_the_lakes_namespace(run: Run, told: list[Event]) -> None:
    named = {(each["namespace"], each["name"]) for event in told for each in (*event["inputs"], *event["outputs"])}
    assert named == {("file://example", name) for name in run.pipeline.contracts}


def test_outputs_are_overwritten_in_start_and_end_alike_and_inputs_are_not(told: list[Event]) -> None:
    for event in told:
        assert all(each["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "OVERWRITE" for each in event["outputs"])
        assert all("lifecycleStateChange" not in each["facets"] for each in event["inputs"])


def test_versions_are_those_that_were_written_and_read(told: list[Event]) -> None:
    assert dataset(find(told, "COMPLETE weight"), "bronze/weight")["facets"]["version"]["datasetVersion"] == "1" * 64
    assert dataset(find(told, "COMPLETE weight"), "input/weight")["facets"]["version"]["datasetVersion"] == "ab" * 32
    assert dataset(find(told, "COMPLETE features"), "bronze/weight")["facets"]["version"]["datasetVersion"] == "1" * 64
    assert "version" not in dataset(find(told, "START features"), "silver/weekly_weight")["facets"]


def test_counts_of_an_output_are_on_the_dataset_and_on_the_run(told: list[Event]) -> None:
    written = dataset(find(told, "COMPLETE features"), "silver/weekly_weight")
    metrics, statistics = written["facets"]["dataQualityMetrics"], written["outputFacets"]["outputStatistics"]
    assert (metrics["rowCount"], metrics["bytes"], metrics["fileCount"]) == (6, 1024, 1)
    assert metrics["columnMetrics"] == {"weight_days": {"nullCount": 0, "distinctCount": 2, "min": 1, "max": 2}}
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (6, 1024, 1)


def test_counts_of_a_source_are_on_the_ingest_steps_input(told: list[Event]) -> None:
    metrics = dataset(find(told, "COMPLETE weight"), "input/weight")["inputFacets"]["dataQualityMetrics"]
    assert (metrics["rowCount"], metrics["bytes"], metrics["columnMetrics"]["weight_kg"]) == (10, 412, {"nullCount": 1})


def test_an_artefact_has_counts_and_no_columns(run: Run) -> None:
    contract = Contract(dataset="gold/models", description="Plots.", owner="us")
    run.pipeline = replace(run.pipeline, contracts={**run.pipeline.contracts, "gold/models": contract})
    run.steps[2].step = replace(run.steps[2].step, column_lineage={})
    run.steps[2].outputs["gold/models"] = replace(run.steps[2].outputs["gold/models"], rows=None)
    run.steps[2].column_stats = {}
    written = dataset(find(tell(run), "COMPLETE models"), "gold/models")
    assert {"schema", "columnLineage"}.isdisjoint(written["facets"])
    assert "rowCount" not in written["facets"]["dataQualityMetrics"]
    assert written["facets"]["dataQualityMetrics"]["bytes"] == 512


def test_checks_are_told_by_the_step_that_writes_and_those_of_a_source_on_the_input(told: list[Event]) -> None:
    places = {
        (event["job"]["name"], each["name"], place)
        for event in told
        for each in (*event["inputs"], *event["outputs"])
        for place in ("facets", "inputFacets")
        if "dataQualityAssertions" in each.get(place, {})
    }
    assert places == {("example.weight", "input/weight", "inputFacets"), ("example.features", "silver/weekly_weight", "facets")}


def test_a_check_is_told_with_what_was_expected_and_seen(told: list[Event]) -> None:
    (assertion,) = dataset(find(told, "COMPLETE weight"), "input/weight")["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert assertion == {
        "assertion": "expect_column_values_to_be_between",
        "success": False,
        "column": "weight_kg",
        "severity": "error",
        "description": "Scales show nothing else.",
        "expected": "weight_kg between 20 and 400",
        "actual": "rows=10, unexpected_count=1, unexpected_share=0.1",
        "params": {"outcome": "quarantined", "engine": "sql"},
    }


@pytest.mark.parametrize("lake", ["a b", "a~b", "a:b", "a:1b", "ä", "", "a%b", "a\nb"])
def test_a_lakes_name_that_marquez_cannot_take_is_refused(lake: str) -> None:
    with pytest.raises(SettingsError) as refused:
        dataset_namespace(lake)
    assert "PIPELINE_LAKE_NAME" in refused.value.hint


@pytest.mark.parametrize("lake", ["potato", "a-b_c", "x/y", "host:8080", "host:8080/y"])
def test_other_names_of_lakes_are_taken(lake: str) -> None:
    assert dataset_namespace(lake) == f"file://{lake}"


def test_a_refused_namespace_leaves_no_event(run: Run) -> None:
    run.lake_name = "my lake"
    with pytest.raises(SettingsError, match="my lake"):
        tell(run)
    assert not (run.bundle / FILE).exists()


# ------------------------------------------------------------------------------------------------ column lineage


def test_columns_of_an_sql_step_come_from_its_sql_with_both_ways_to_say_so(told: list[Event]) -> None:
    lineage = dataset(find(told, "COMPLETE features"), "silver/weekly_weight")["facets"]["columnLineage"]
    (source,) = lineage["fields"]["weight_mean_kg"]["inputFields"]
    assert (source["namespace"], source["name"], source["field"]) == ("file://example", "bronze/weight", "weight_kg")
    assert source["transformations"] == [{"type": "DIRECT", "subtype": "AGGREGATION"}]
    assert lineage["fields"]["weight_mean_kg"]["transformationType"] == "AGGREGATION"
    assert lineage["fields"]["weight_mean_kg"]["transformationDescription"] == "AVG(weight.weight_kg)"
    assert {entry["field"] for entry in lineage["dataset"]} == {"subject_id", "week"}


def test_columns_of_an_ingest_step_are_the_files_and_rules_decide_its_rows(told: list[Event]) -> None:
    lineage = dataset(find(told, "COMPLETE weight"), "bronze/weight")["facets"]["columnLineage"]
    assert set(lineage["fields"]) == {"subject_id", "date", "week", "weight_kg"}
    assert lineage["fields"]["week"]["transformationType"] == "IDENTITY"
    assert {entry["field"] for entry in lineage["dataset"]} == {"subject_id", "date", "week", "weight_kg"}


def test_columns_of_a_python_step_are_those_that_it_declares(told: list[Event]) -> None:
    fields = dataset(find(told, "COMPLETE models"), "gold/models")["facets"]["columnLineage"]["fields"]
    assert {entry["field"] for entry in fields["estimate"]["inputFields"]} == {"week", "weight_mean_kg"}
    assert set(fields) == {"estimate"}


def test_only_what_completed_tells_column_lineage(tmp_path: Path) -> None:
    told = tell(example_run(tmp_path / "bundle", State.FAILED))
    with_columns = [kind for kind, event in zip(kinds(told), told, strict=True) if any("columnLineage" in each["facets"] for each in event["outputs"])]
    assert with_columns == ["COMPLETE weight"]


def test_sql_whose_lineage_is_unknown_costs_that_facet_and_is_said(run: Run, tmp_path: Path) -> None:
    sql = tmp_path / "features.sql"
    sql.write_text("PIVOT bronze.weight ON week USING avg(weight_kg)")
    step = run.steps[1]
    step.step = replace(step.step, sql=sql)
    hook = LineageHook(settings())
    with hook.run(run), pytest.raises(DeclarationError, match=r"silver/weekly_weight can't be derived"), hook.step(run, step):
        pass
    event = find(events(run.bundle), "COMPLETE features")
    assert "columnLineage" not in dataset(event, "silver/weekly_weight")["facets"]
    assert "version" in dataset(event, "silver/weekly_weight")["facets"]


# ------------------------------------------------------------------------------------------------ privacy, and what breaks Marquez


@pytest.mark.parametrize("privacy", [Privacy.PERSONAL, Privacy.IDENTIFIER, Privacy.FREE_TEXT])
def test_extremes_of_a_column_that_is_not_public_are_not_told_even_if_they_are_on_the_record(run: Run, privacy: Privacy) -> None:
    contract = run.pipeline.contracts["silver/weekly_weight"]
    columns = tuple(replace(column, privacy=privacy) for column in contract.columns)
    run.pipeline = replace(run.pipeline, contracts={**run.pipeline.contracts, contract.dataset: replace(contract, columns=columns)})
    run.steps[1].column_stats = {contract.dataset: (ColumnStats(column="weight_days", null_count=0, distinct_count=2, min=777.125, max=888.375),)}
    text = json.dumps(tell(run))
    assert "777.125" not in text
    assert "888.375" not in text


def test_files_and_record_numbers_of_broken_rows_are_not_told(run: Run, told: list[Event]) -> None:
    run.steps[0].checks = [replace(run.steps[0].checks[0], records=(("anna.csv", 424_242),))]
    text = json.dumps(tell(run))
    assert "anna.csv" not in text
    assert "424242" not in text


def test_nul_and_numbers_that_json_lacks_are_left_out(run: Run) -> None:
    step = run.steps[1]
    step.column_stats = {"silver/weekly_weight": (ColumnStats(column="weight_days", null_count=0, min=-math.inf, max=math.nan),)}
    step.state = run.state = State.FAILED
    step.failure = run.failure = Failure(type="step", message="a\0b \ud800")
    tell(run)
    text = (run.bundle / FILE).read_text()
    assert "\\u0000" not in text
    assert "\\ud800" not in text
    assert "NaN" not in text
    assert "Infinity" not in text
    assert facet(events(run.bundle)[-1], "errorMessage")["message"] == "step features: ab ?"
