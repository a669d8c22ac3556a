import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import RunNotFoundError
from pipeline.records import Outcome, Run, Severity, State
from pipeline.report import links
from pipeline.report.columns import read_columns
from pipeline.report.delivery import read_deliveries
from pipeline.report.facts import read_facts
from pipeline.report.page import check_groups, fitted, models, read_page, row_lines, slug
from tests.report.report_support import estimates, write_bundle

MakeRun = Callable[..., Run]
MakeBundle = Callable[..., Path]


# ---------------------------------------------------------------------------------------------- rows


def test_rows_in_equal_rows_out_and_rows_set_aside_where_a_file_is_read(make_bundle: MakeBundle) -> None:
    lines = {line.dataset: line for line in row_lines(read_facts(make_bundle()))}
    assert (lines["bronze/weight"].balance, lines["bronze/weight"].balanced) == ("601 = 600 + 1", True)
    assert lines["silver/weekly_features"].balance == ""
    assert (lines["gold/figures"].rows_out, lines["gold/figures"].files) == (None, 3)


def test_rows_that_went_missing_are_shown_as_missing(make_run: MakeRun) -> None:
    run = make_run()
    run.steps[0].rows_quarantined = {}
    line = row_lines(read_facts(write_bundle(run)))[0]
    assert (line.balance, line.balanced) == ("601 ≠ 600 + 0", False)


@pytest.mark.parametrize(
    ("state", "dataset", "status"),
    [
        (State.COMPLETED, "gold/models", "new version"),
        (State.COMPLETED, "bronze/weight", "unchanged"),
        (State.FAILED, "bronze/weight", "not published"),
        (State.FAILED, "gold/models", "not written"),
        (State.FAILED, "gold/figures", "not reached"),
    ],
)
def test_each_dataset_says_what_became_of_it(make_bundle: MakeBundle, state: State, dataset: str, status: str) -> None:
    assert {line.dataset: line.status for line in row_lines(read_facts(make_bundle(state)))}[dataset] == status


# ---------------------------------------------------------------------------------------------- checks and models


def test_checks_come_failed_first_then_set_aside_then_passed_by_dataset(make_bundle: MakeBundle) -> None:
    groups = check_groups(read_facts(make_bundle()).checks)
    assert [group.outcome for group in groups] == [Outcome.FAILED, Outcome.QUARANTINED, Outcome.PASSED]
    assert [name for name, _ in groups[1].datasets] == ["input/weight", "input/nutrition"]
    assert [group.tone for group in groups] == ["warn", "warn", "good"]
    assert sum(group.size for group in groups) == 51


def test_errors_come_before_warnings(make_bundle: MakeBundle) -> None:
    one = read_facts(make_bundle()).checks[0]
    failed = [replace(one, outcome=Outcome.FAILED, severity=severity) for severity in (Severity.WARN, Severity.ERROR)]
    ((_, checks),) = check_groups(failed)[0].datasets
    assert [check.severity for check in checks] == [Severity.ERROR, Severity.WARN]


def test_a_model_says_what_limits_its_numbers() -> None:
    found = {model.name: model.cautions for model in models(estimates())}
    assert found["mixed_effects"] == ("singular fit", "27 subjects, under 30")
    (broken,) = models([replace(estimates()[0], converged=False, n_subjects=300)])
    assert broken.cautions == ("not converged",)


# ---------------------------------------------------------------------------------------------- lineage and delivery


def test_columns_say_what_they_are_made_from(make_bundle: MakeBundle) -> None:
    found = {dataset.dataset: dataset for dataset in read_columns(make_bundle())}
    assert list(found)[:2] == ["input/weight", "bronze/weight"]
    column = next(column for column in found["silver/modeling_dataset"].columns if column.name == "fiber_g_week")
    assert [(origin.dataset, origin.column, origin.how) for origin in column.origins] == [("silver/weekly_features", "fiber_g_week", "identity")]


def test_a_read_after_the_write_does_not_hide_where_columns_come_from(make_bundle: MakeBundle) -> None:
    found = {dataset.dataset: dataset for dataset in read_columns(make_bundle())}
    assert any(column.origins for column in found["bronze/weight"].columns)


def test_a_lineage_file_that_was_cut_short_is_read_as_far_as_it_goes(make_bundle: MakeBundle) -> None:
    path = make_bundle() / "lineage.ndjson"
    whole = len(read_columns(path.parent))
    path.write_bytes(path.read_bytes()[:-300])
    assert 0 < len(read_columns(path.parent)) <= whole
    path.unlink()
    assert read_columns(path.parent) == ()


def test_deliveries_are_read_by_signal(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    assert read_deliveries(bundle) == ()
    (bundle / "delivery.json").write_text(json.dumps({"experiments": {"state": "pending", "target": "http://h", "detail": "refused"}, "odd": 1}))
    (one,) = read_deliveries(bundle)
    assert (one.signal, one.state, one.target, one.detail) == ("experiments", "pending", "http://h", "refused")


# ---------------------------------------------------------------------------------------------- links, names, absent files


def test_links_lead_to_the_trace_the_lineage_and_the_served_report(make_bundle: MakeBundle) -> None:
    facts = read_facts(make_bundle())
    assert [link.url for link in links.run_links(facts)] == [
        f"http://127.0.0.1:16686/trace/{facts.trace_id}",
        "http://127.0.0.1:3001/lineage/job/default/potato.figures?tableLevelNode=job%3Adefault%3Apotato.figures",
        f"http://127.0.0.1:8088/{facts.run_id}/report.html",
    ]


@pytest.mark.parametrize("address", ["javascript:alert(1)", "//host/x", "http:", "http://[", ""])
def test_what_is_no_web_address_is_never_a_link(make_run: MakeRun, address: str) -> None:
    run = make_run()
    run.settings = {"PIPELINE_TRACE_URL": address}
    assert links.run_links(read_facts(write_bundle(run))) == ()


def test_the_page_is_read_from_a_manifest_alone(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    for path in bundle.iterdir():
        if path.name != "manifest.json":
            path.unlink()
    page = read_page(bundle)
    assert (page.log, page.columns, page.checks, page.facts.checks_known) == (None, (), (), False)
    assert page.story.rest.startswith("7,301 rows read, 3 set aside; 48 of 51 checks hold")


def test_an_older_manifest_without_the_declared_steps_is_read(make_bundle: MakeBundle) -> None:
    path = make_bundle(State.FAILED, None) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["pipeline"]["steps"], manifest["telemetry"], manifest["reaped_at"]
    path.write_text(json.dumps(manifest))
    assert len(read_facts(path.parent).steps) == 7


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1, "state": "COMPLETED"}', '{"format": 9, "state": "COMPLETED"}'])
def test_what_is_no_manifest_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunNotFoundError) as caught:
        read_facts(tmp_path)
    assert caught.value.hint


def test_names_are_made_into_ids_and_cut_to_their_box() -> None:
    assert slug("silver/weekly features<") == "silver-weekly-features-"
    assert (fitted("subject", 200), fitted("subject_trajectories", 60)) == ("subject", "subject_…")
