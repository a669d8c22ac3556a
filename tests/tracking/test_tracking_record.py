import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import Estimate, Gate, Run, State
from pipeline.settings import Settings
from pipeline.telemetry.manifest import manifest
from pipeline.testing import example_run
from pipeline.tracking.record import Tag, _keys, lost_record, model_record, run_record

ROW = Estimate(
    model="ols",
    term="dose",
    estimate=0.5,
    std_error=0.1,
    statistic=5.0,
    p_value=0.01,
    ci_low=0.3,
    ci_high=0.7,
    n_obs=10,
    n_subjects=3,
    r_squared=0.4,
    converged=True,
    singular=False,
    note="",
)


@pytest.fixture
def settings(settings_for: Callable[..., Settings], tmp_path: Path) -> Settings:
    return settings_for(tmp_path / "runs", report_url="https://reports.example.org/")


def test_a_record_is_plain_json(modelled: Callable[..., Run], settings: Settings) -> None:
    record = run_record(modelled(settings.runs, 1), settings, Path("/lake"))
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_runs_tags_lead_to_its_report_and_trace(settings: Settings, tmp_path: Path) -> None:
    run = example_run(tmp_path / "run")
    tags = run_record(run, settings, tmp_path)["tags"]
    assert tags["goldtrace.trace_id"] == run.id.hex
    assert tags["goldtrace.report"] == f"https://reports.example.org/{run.id}/report.html"
    assert tags["goldtrace.trace"] == f"http://127.0.0.1:16686/trace/{run.id.hex}"
    assert tags["mlflow.source.git.commit"] == run.code.commit
    assert tags["goldtrace.lineage"] == "http://127.0.0.1:3001/lineage/job/default/example?tableLevelNode=job%3Adefault%3Aexample"
    assert tags["goldtrace.dashboard"] == f"http://127.0.0.1:3000/d/goldtrace-run?var-run={run.id}&var-pipeline=example&var-environment=test"


def test_the_description_has_both_ids_and_every_address_as_a_link(settings: Settings, tmp_path: Path) -> None:
    run = example_run(tmp_path / "run", State.RUNNING)
    lost = lost_record(manifest(run), run.started_ns, "the process is gone", settings)
    for record in (run_record(example_run(tmp_path / "other"), settings, tmp_path), lost):
        tags = record["tags"]
        text = tags["mlflow.note.content"]
        assert f"`{run.id}`" in text
        assert f"`{run.id.hex}`" in text
        pages = {tags[f"goldtrace.{page}"] for page in ("report", "dashboard", "trace", "lineage")}
        assert set(re.findall(r"\[[^\]]+\]\(([^)\s]+)\)", text)) == pages
    assert lost["tags"]["mlflow.note.content"].endswith("the process is gone")


def test_a_password_in_an_address_is_masked(settings_for: Callable[..., Settings], tmp_path: Path) -> None:
    secret = settings_for(tmp_path / "runs", report_url="https://ann:SECRET@reports.example.org", trace_url="https://ann:SECRET@traces.example.org")
    assert "SECRET" not in json.dumps(run_record(example_run(tmp_path / "run"), secret, tmp_path))


@pytest.mark.parametrize(("state", "status"), [(State.COMPLETED, "FINISHED"), (State.FAILED, "FAILED"), (State.ABORTED, "KILLED"), (State.LOST, "KILLED")])
def test_how_a_run_ended_is_told_in_mlflows_words(state: State, status: str, settings: Settings, tmp_path: Path) -> None:
    record = run_record(example_run(tmp_path / "run", state), settings, tmp_path)
    assert (record["status"], record["state"]) == (status, state.value)


def test_a_run_that_published_nothing_has_no_models_and_no_figures(settings: Settings, tmp_path: Path) -> None:
    record = run_record(example_run(tmp_path / "run", gate=Gate.RED), settings, tmp_path)
    assert (record["models"], record["figures"]) == ([], [])
    assert record["tags"]["goldtrace.gate"] == "RED"


def test_what_was_fed_to_a_run_is_a_parameter(settings: Settings, tmp_path: Path) -> None:
    params = run_record(example_run(tmp_path / "run"), settings, tmp_path)["params"]
    assert params == {"as_of": "2026-11-03", "input/weight": "ab" * 8}


def test_a_lost_run_is_told_from_its_manifest(settings: Settings, tmp_path: Path) -> None:
    run = example_run(tmp_path / "run", State.RUNNING)
    record = lost_record(manifest(run), run.started_ns + 5_000_000_000, "gone", settings)
    assert (record["status"], record["state"], record["tags"]["goldtrace.state"]) == ("KILLED", "LOST", "LOST")
    assert record["ended_ms"] - record["started_ms"] == 5000
    assert record["tags"]["goldtrace.trace_id"] == run.id.hex


def test_the_formula_has_the_response_and_says_when_there_is_no_constant(fits: object, modelled: Callable[..., Run], settings: Settings) -> None:
    models = {model["name"]: model for model in run_record(modelled(settings.runs, 1), settings, Path("/lake"))["models"]}
    assert models["ols"]["params"]["formula"] == "change ~ dose + age"
    assert models["within"]["params"]["formula"] == "change ~ 0 + dose + age"
    assert models["mixed"]["params"]["variances"] == "var(subject), var(residual)"


def test_missing_and_infinite_numbers_are_no_metrics() -> None:
    metrics = model_record([replace(ROW, p_value=None, statistic=math.inf, ci_low=math.nan, r_squared=None)], None)["metrics"]
    assert metrics == {"estimate/dose": 0.5, "std_error/dose": 0.1, "ci_high/dose": 0.7, "converged": 1.0, "singular": 0.0}


def test_a_model_that_was_not_fitted_has_no_coefficients_and_keeps_its_note() -> None:
    record = model_record([replace(ROW, term="intercept", estimate=None, converged=False, note="no overlap")], None)
    assert record["coefficients"] is None
    assert not record["is_fitted"]
    assert record["params"]["note"] == "no overlap"


@pytest.mark.parametrize("row", [replace(ROW, converged=False), replace(ROW, term="dose:age"), replace(ROW, term="intercept"), replace(ROW, estimate=None)])
def test_only_a_converged_linear_predictor_over_columns_can_be_loaded(row: Estimate) -> None:
    record = model_record([row], None)
    assert record["coefficients"] is None
    assert "no loadable model" in record["description"]


def test_a_missing_variance_takes_nothing_from_the_fixed_part() -> None:
    record = model_record([ROW, replace(ROW, term="var(subject)", estimate=None)], None)
    assert record["is_fitted"]
    assert record["coefficients"] == {"format": 1, "model": "ols", "intercept": 0.0, "coefficients": {"dose": 0.5}}
    assert "fixed part" in record["description"]


@given(st.lists(st.text(max_size=8), unique=True, max_size=6))
def test_metric_keys_are_ones_that_mlflow_takes_and_tell_the_terms_apart(terms: list[str]) -> None:
    keys = _keys(terms)
    assert len(set(keys.values())) == len(terms)
    # MLflow's rule, and no path that leaves its folder.
    assert all(re.fullmatch(r"[/\w.\- ]+", key) and ".." not in key.split("/") and not key.startswith("/") for key in keys.values())


def test_a_variance_reads_well_as_a_metric() -> None:
    assert _keys(["var(subject)", "dose"]) == {"var(subject)": "var_subject", "dose": "dose"}


def test_every_tag_is_explained(root: Path) -> None:
    text = (root / "docs" / "mlflow.md").read_text(encoding="utf-8")
    assert [tag for tag in Tag if f"`{tag}`" not in text] == []
