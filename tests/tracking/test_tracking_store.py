import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pipeline.records import State
from pipeline.telemetry import bundle
from pipeline.tracking.mlflow_store import sqlite_path

pytestmark = pytest.mark.slow


def test_each_run_is_one_parent_with_a_run_for_each_model(told) -> None:
    for run in (told.first, told.second):
        parent = told.parent(run)
        models = [said for said in told.of(run) if said["id"] != parent["id"]]
        assert {said["name"] for said in models} == {"ols", "within", "mixed", "unfitted"}
        assert {said["tags"]["mlflow.parentRunId"] for said in models} == {parent["id"]}


def test_a_parent_run_has_the_runs_name_state_and_times(told) -> None:
    parent = told.parent(told.first)
    assert parent["name"] == str(told.first.id)[:13]
    assert (parent["status"], parent["tags"]["goldtrace.state"], parent["tags"]["goldtrace.gate"]) == ("FINISHED", "COMPLETED", "YELLOW")
    assert (parent["start_time"], parent["end_time"]) == (told.first.started_ns // 10**6, told.first.ended_ns // 10**6)
    assert parent["metrics"] == {"seconds": 2.0}


def test_figures_are_artifacts_of_the_parent_and_tables_of_the_models(told) -> None:
    assert told.parent(told.first)["artifacts"] == ["figures/effects.png", "figures/weeks.png"]
    lines = told.model(told.first, "mixed")["estimates"].splitlines()
    assert lines[0].startswith("model,term,estimate,std_error")
    assert [line.split(",")[1] for line in lines[1:]] == ["intercept", "dose", "age", "var(subject)", "var(residual)"]


def test_estimates_are_metrics_of_the_run_and_of_the_model(told, fits) -> None:
    said = told.model(told.first, "mixed")
    dose = next(row.estimate for row in fits.estimates if (row.model, row.term) == ("mixed", "dose"))
    assert said["metrics"]["estimate/dose"] == said["models"][0]["metrics"]["estimate/dose"] == dose
    assert "estimate/var_subject" in said["metrics"]
    assert "r_squared" not in said["metrics"]


def test_delivering_again_adds_nothing_and_finds_the_same_runs(told) -> None:
    first, again = told.deliveries["first"], told.deliveries["first again"]
    assert (again["parent_run_id"], again["runs"]) == (first["parent_run_id"], first["runs"])
    assert len(told.of(told.first)) == 5


def test_what_was_left_half_done_is_done_again_from_the_start(told) -> None:
    assert told.deliveries["second again"]["parent_run_id"] != told.deliveries["second"]["parent_run_id"]
    assert told.parent(told.second)["id"] == told.deliveries["second again"]["parent_run_id"]
    assert {said["id"] for said in told.of(told.second)} == {told.parent(told.second)["id"], *told.deliveries["second again"]["runs"].values()}


def test_a_delivered_run_takes_on_another_state_when_that_is_delivered(told) -> None:
    parent = told.parent(told.second)
    assert (parent["status"], parent["tags"]["goldtrace.state"]) == ("KILLED", "LOST")
    assert {**told.deliveries["second then lost"], "at": ""} == {**told.deliveries["second again"], "at": ""}


def test_a_lost_run_is_entered_as_killed_by_the_next_runs_worker(told) -> None:
    parent = told.parent(told.lost)
    assert (parent["status"], parent["tags"]["goldtrace.state"]) == ("KILLED", "LOST")
    assert told.deliveries["lost"]["parent_run_id"] == parent["id"]


def test_no_run_is_shown_as_going_on(told) -> None:
    assert {said["status"] for said in told.said["runs"]} <= {"FINISHED", "FAILED", "KILLED"}


def test_a_model_that_was_not_fitted_is_a_failed_run_without_a_loadable_model(told) -> None:
    said = told.model(told.first, "unfitted")
    assert (said["status"], said["models"], said["params"]["note"]) == ("FAILED", [], "no overlap between files")


def test_loaded_ols_predicts_the_fitted_values(told, fits) -> None:
    (model,) = told.model(told.first, "ols")["models"]
    assert np.allclose(model["by_id"], fits.ols_fitted, rtol=1e-12, atol=1e-12)
    assert model["by_run"] == model["by_id"]


def test_loaded_within_model_predicts_the_fitted_differences_within_each_subject(told, fits) -> None:
    (model,) = told.model(told.first, "within")["models"]
    predicted = fits.data.assign(predicted=model["by_id"])
    centred = predicted["predicted"] - predicted.groupby("subject_id")["predicted"].transform("mean")
    assert np.allclose(centred, fits.within_fitted, rtol=1e-12, atol=1e-12)
    assert "only differences within" in model["metadata"]["description"]


def test_loaded_mixed_model_predicts_the_fixed_part(told, fits) -> None:
    (model,) = told.model(told.first, "mixed")["models"]
    assert np.allclose(model["by_id"], fits.mixed_fixed_part, rtol=1e-12, atol=1e-12)


def test_a_model_carries_its_code_coefficients_and_requirements_and_nothing_pickled(told) -> None:
    (model,) = told.model(told.first, "ols")["models"]
    assert set(model["files"]) == {
        "MLmodel",
        "code/goldtrace_linear_model.py",
        "conda.yaml",
        "data/coefficients.json",
        "python_env.yaml",
        "registered_model_meta",
        "requirements.txt",
    }
    assert [line.split("==")[0] for line in model["requirements"]] == ["mlflow", "pandas"]
    assert model["inputs"] == [{"type": "double", "name": name, "required": True} for name in ("dose", "age")]
    assert model["metadata"]["goldtrace.run_id"] == str(told.first.id)


def test_no_subjects_id_is_in_any_file_of_the_store(told, fits) -> None:
    files = [path for path in told.runs.rglob("*") if path.is_file()]
    assert any("Subject-Quokka" in value for value in fits.data["subject_id"])
    assert not [path.name for path in files if b"Subject-Quokka" in path.read_bytes()]


def test_the_store_lies_beside_the_runs_and_is_none(told) -> None:
    assert told.said["artifact_location"] == str(told.runs / "mlartifacts")
    assert {path.name for path in bundle.folders(told.runs)} == {str(run.id) for run in (told.first, told.second, told.lost)}
    assert [path.name for path in told.runs.glob(".mlflow.db.*")] == [".mlflow.db.lock"]
    assert not list(told.runs.glob("mlartifacts/**/*.jsonl"))


def test_the_tables_are_whole_however_many_made_them_at_once(told) -> None:
    with closing(sqlite3.connect(told.runs / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_lost_runs_bundle_is_read_as_lost(told) -> None:
    assert bundle.read(told.lost.bundle).state is State.LOST


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:////data/runs/mlflow.db", "/data/runs/mlflow.db"),
        ("sqlite+pysqlite:////data/mlflow.db?timeout=5", "/data/mlflow.db"),
        ("sqlite:///:memory:", None),
        ("http://127.0.0.1:5000", None),
        ("postgresql://host/mlflow", None),
    ],
)
def test_a_sqlite_address_is_a_file(uri: str, path: str | None) -> None:
    assert sqlite_path(uri) == (Path(path) if path else None)
