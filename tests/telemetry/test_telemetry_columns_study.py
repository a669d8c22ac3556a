"""The column lineage of the study's own steps, held to the truth by changing one input column at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.engine import Table
from pipeline.records import Step, StepKind
from pipeline.study import PIPELINE
from pipeline.telemetry.columns import StatementLineage
from pipeline.telemetry.step_columns import step_lineage
from tests.telemetry.perturbation import EQUAL, GONE, MISSING, SHIFT, Laboratory, Rows, undeclared, unseen

STEPS = {step.name: step for step in PIPELINE.steps}
SQL_STEPS = [step.name for step in PIPELINE.steps if step.kind is StepKind.SQL]
DECLARED = [step.name for step in PIPELINE.steps if step.column_lineage]
SEEN = "'scale.csv' AS source_file, row_number() OVER () AS record_number, 'abc' AS load_id"
FOODS = "['baked potato', 'rice and beans', 'oats, banana', 'toast', 'milk', 'chicken', 'eggs', 'walnut', 'carrot', 'sparkling water', 'fruit salad']"
BRONZE = {
    "bronze/weight": f"""SELECT 'S' || s AS subject_id, DATE '2026-01-05' + CAST(7 * w + s % 3 AS INTEGER) AS date, w + 1 AS week,
        CASE WHEN (s * 7 + w * 5) % 9 <> 0 THEN 70 + 4 * s + (s * 31 + w * w * 17) % 23 / 10.0::DOUBLE END AS weight_kg,
        ((s + 2 * w) % 10 + 1)::DOUBLE AS energy_1_10, ((3 * s + w) % 10 + 1)::DOUBLE AS mood_1_10, {SEEN}
        FROM range(6) AS r(s), range(7) AS q(w) ORDER BY s, w""",
    "bronze/nutrition": f"""SELECT 'S' || s AS subject_id, DATE '2026-01-05' + CAST(d AS INTEGER) AS date,
        {FOODS}[(s * 5 + d * 3 + i * i) % 11 + 1] AS food_item, 'meal' AS category, (100 + 7 * i)::DOUBLE AS calories,
        5.5::DOUBLE AS protein_g, 4.5::DOUBLE AS carbs_g, 3.5::DOUBLE AS fat_g, i::DOUBLE AS fiber_g, {SEEN}
        FROM range(6) AS r(s), range(0, 46, 3) AS q(d), range(2) AS p(i) ORDER BY s, d, i""",
    "bronze/fiber": f"""SELECT 'S' || s AS subject_id, DATE '2026-01-05' + CAST(d AS INTEGER) AS date, d // 7 + 1 AS week,
        CASE WHEN (s + d) % 11 <> 0 THEN 1500 + (s * 97 + d * 61) % 700 / 1.7::DOUBLE END AS total_calories,
        CASE WHEN (s + d) % 13 <> 0 THEN 15 + (s * 37 + d * 53) % 170 / 9.1::DOUBLE END AS total_fiber_g, {SEEN}
        FROM range(6) AS r(s), range(0, 49, 2) AS q(d) ORDER BY s, d""",
}


@pytest.fixture(scope="module")
def laboratory() -> Iterator[Laboratory]:
    """All tables that the study's steps read, made by the steps themselves from generated bronze tables."""
    made = Laboratory()
    for name, sql in BRONZE.items():
        made.add(name, sql)
    for seed, path in {seed: path for step in PIPELINE.steps for seed, path in step.seeds.items()}.items():
        made.add(f"seed/{seed}", f"SELECT * FROM read_csv('{path}', header = true)")
    for name in SQL_STEPS:
        made.add(STEPS[name].outputs[0], _sql(STEPS[name]))
    yield made
    made.connection.close()


def _sql(step: Step) -> str:
    assert step.sql is not None
    return step.sql.read_text("utf-8")


def _lineage(step: Step) -> StatementLineage:
    return step_lineage(step, PIPELINE.contracts)[step.outputs[0]]


@pytest.mark.parametrize("name", SQL_STEPS)
def test_an_sql_steps_lineage_explains_every_change_and_claims_no_more(laboratory: Laboratory, name: str) -> None:
    step = STEPS[name]
    changes = laboratory.changes(step.inputs, laboratory.query(_sql(step)), PIPELINE.contracts[step.outputs[0]].key, ways=(SHIFT, MISSING))
    assert undeclared(_lineage(step), changes) == []
    assert unseen(_lineage(step), changes) == []


@pytest.mark.parametrize("name", SQL_STEPS)
def test_an_sql_steps_lineage_tells_of_every_column_of_its_contract(name: str) -> None:
    step = STEPS[name]
    told = _lineage(step)
    assert list(told.columns) == [column.name for column in PIPELINE.contracts[step.outputs[0]].columns]
    assert all(told.columns.values())


@pytest.mark.parametrize("name", DECLARED)
def test_a_python_steps_declared_lineage_explains_every_change_and_claims_no_more(laboratory: Laboratory, tmp_path: Path, name: str) -> None:
    step = STEPS[name]
    declared = {edge.input for edges in _lineage(step).columns.values() for edge in edges}
    others = {f"{name}.{column}" for name in step.inputs for column in laboratory.schemas[name]} - declared
    run, key = _function(laboratory, step, tmp_path), PIPELINE.contracts[step.outputs[0]].key
    changes = laboratory.changes(step.inputs, run, key, ways=(SHIFT, GONE, EQUAL), together=others)
    assert undeclared(_lineage(step), changes) == []
    assert unseen(_lineage(step), changes) == []


def _function(laboratory: Laboratory, step: Step, folder: Path) -> Callable[[], Rows]:
    """A run that calls a Python step's function on the tables as they are."""

    def run() -> Rows:
        assert step.function is not None
        tables = {}
        for name in step.inputs:
            short, path = name.split("/")[1], folder / f"{name.replace('/', '_')}.parquet"
            (rows,) = laboratory.connection.execute(f"COPY {name.replace('/', '.')} TO '{path}' (FORMAT parquet)").fetchone() or (0,)
            tables[short] = Table(name=short, rows=rows, files=[path], connection=laboratory.connection)
        return [dict(row) for row in step.function(**tables).to_dict("records")]

    return run
