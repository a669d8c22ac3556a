"""The study's real input: its tables and estimates against slow and plain ones that are computed here from the files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.engine.lake import Lake
from pipeline.records import Gate, Run, State
from pipeline.study import HERE
from tests.end_to_end.end_support import go
from tests.study import silver_reference as silver
from tests.study.models_reference import REGRESSORS, arrays, crv1, reml_at

SILVER = ("subject_trajectories", "weekly_features", "modeling_dataset")


@pytest.fixture(scope="session")
def real_data(shared: Path) -> Path:
    """The folder with the real input."""
    return shared / "data" / "potato"


@pytest.fixture(scope="session")
def real_run(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A run on it, and the folder with its lake and its bundle."""
    folder, before = tmp_path_factory.mktemp("real"), Path.cwd()
    os.chdir(folder)
    run = go(input=real_data)
    os.chdir(before)
    return run, folder


@pytest.fixture(scope="session")
def expected(real_data: Path) -> dict[str, list[dict[str, Any]]]:
    """The silver tables by their definitions, from the files."""
    weight, nutrition, fiber = (silver.read(real_data, source) for source in silver.SOURCES)
    trajectories = silver.subject_trajectories(weight)
    features = silver.weekly_features(nutrition, fiber, silver.read_phrases(HERE / "food_phrases.csv"))
    return dict(zip(SILVER, (trajectories, features, silver.modeling_dataset(trajectories, features)), strict=True))


@pytest.fixture(scope="session")
def estimates(real_run: tuple[Run, Path]) -> pd.DataFrame:
    """What the run found, by model and term."""
    rows = [{name: getattr(row, name) for name in row.__slots__} for row in real_run[0].estimates]
    return pd.DataFrame(rows).set_index(["model", "term"])


def rows_of(folder: Path, dataset: str) -> list[dict[str, Any]]:
    """A table's rows as plain values, missing ones None."""
    import duckdb

    with duckdb.connect() as connection, Lake(str(folder / "lake")).opened(dataset) as files:
        result = connection.execute("FROM read_parquet(?)", [[str(path) for path in files]])
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def test_the_real_data_complete_with_a_green_gate_and_all_rows(real_run: tuple[Run, Path]) -> None:
    run, _ = real_run
    assert (run.state, run.gate, run.telemetry_lost) == (State.COMPLETED, Gate.GREEN, {})
    assert {source.file: source.rows for source in run.inputs} == {"Potato_tidy.csv": 600, "Potato_nutrition_rows.csv": 3060, "Potato_fiber_daily.csv": 3637}
    assert run.published["silver/modeling_dataset"].rows == 436


@pytest.mark.parametrize("source", silver.SOURCES)
def test_bronze_is_what_the_file_says_in_its_order(real_run: tuple[Run, Path], real_data: Path, source: str) -> None:
    run, folder = real_run
    load = next(each.load_id for each in run.inputs if each.source == f"input/{source}")
    file = next(each.file for each in run.inputs if each.source == f"input/{source}")
    assert rows_of(folder, f"bronze/{source}") == [row | {"source_file": file, "load_id": load} for row in silver.read(real_data, source)]


@pytest.mark.parametrize("table", SILVER)
def test_silver_tables_are_as_defined_to_1e_9(real_run: tuple[Run, Path], expected: dict[str, list[dict[str, Any]]], table: str) -> None:
    assert silver.differences(rows_of(real_run[1], f"silver/{table}"), expected[table]) == []
    assert len(expected["modeling_dataset"]) == 436


@pytest.mark.parametrize(("model", "intercept", "counted"), [("ols_cluster", True, 5), ("fixed_effects", False, 4)])
def test_clustered_estimates_are_as_defined_to_1e_9(
    estimates: pd.DataFrame, expected: dict[str, list[dict[str, Any]]], model: str, intercept: bool, counted: int
) -> None:
    frame = pd.DataFrame(expected["modeling_dataset"])
    design, outcome, subjects = arrays(frame, intercept=intercept)
    if not intercept:
        design = np.column_stack([design, subjects[:, None] == np.unique(subjects)[None, :]])
    coefficients, covariance = crv1(design.astype(float), outcome, subjects, counted=counted)
    found = estimates.loc[model]
    terms = [*(["intercept"] if intercept else []), *REGRESSORS]
    assert list(found.index) == terms
    errors = np.sqrt(np.diag(covariance))[: len(terms)]
    assert_inference(found, coefficients[: len(terms)], errors, stats.t(frame.subject_id.nunique() - 1))
    assert (found.n_obs == 436).all()
    assert (found.n_subjects == 50).all()


def assert_inference(found: pd.DataFrame, coefficients: Any, errors: Any, law: Any) -> None:
    statistics = coefficients / errors
    margin = law.ppf(0.975) * errors
    for name, values in (
        ("estimate", coefficients),
        ("std_error", errors),
        ("statistic", statistics),
        ("p_value", 2 * law.sf(np.abs(statistics))),
        ("ci_low", coefficients - margin),
        ("ci_high", coefficients + margin),
    ):
        np.testing.assert_allclose(found[name].to_numpy(float), values, rtol=1e-9, err_msg=name)


def test_the_mixed_model_is_the_optimum_at_the_boundary_and_is_called_singular(estimates: pd.DataFrame, expected: dict[str, list[dict[str, Any]]]) -> None:
    """The deviance over whole covariance matrices grows with the subjects' variance; at 0 the model is least squares with classical errors."""
    design, outcome, subjects = arrays(pd.DataFrame(expected["modeling_dataset"]))
    scale = np.abs(design).max(axis=0)
    deviances = [reml_at(design / scale, outcome, subjects, ratio)[3] for ratio in (0, 1e-4, 0.1, 10)]
    assert deviances == sorted(deviances)
    assert deviances[0] < deviances[1]
    bread = np.linalg.inv(design.T @ design)
    coefficients = bread @ design.T @ outcome
    residual = ((outcome - design @ coefficients) ** 2).sum() / (len(outcome) - design.shape[1])
    found = estimates.loc["mixed_effects"]
    assert found.singular.all()
    assert found.converged.all()
    assert found.note.str.contains("singular fit").all()
    assert_inference(found.iloc[:5], coefficients, np.sqrt(np.diag(bread) * residual), stats.norm)
    assert found.estimate["var(subject)"] == 0.0
    np.testing.assert_allclose(found.estimate["var(residual)"], residual, rtol=1e-6)


def test_no_file_is_named_by_its_way_from_the_root(real_run: tuple[Run, Path], real_data: Path) -> None:
    run, folder = real_run
    for path in (folder / run.bundle).iterdir():
        text = path.read_text("utf-8")
        assert str(real_data.parent) not in text, path.name
        assert str(folder) not in text, path.name
    for path in (folder / "lake" / "gold").rglob("*.*"):
        assert str(real_data.parent).encode() not in path.read_bytes()
