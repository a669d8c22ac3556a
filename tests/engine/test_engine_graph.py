"""Declaring a pipeline: what is refused, in which words, and the order in which steps run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.graph import define, ingest, python_step, sql_step, steps_until
from pipeline.errors import DeclarationError, UsageError
from pipeline.records import Pipeline, Schedule, Step

TABLE = "dataset: {name}\ndescription: x\nowner: us\n{more}columns:\n  - {{name: a, type: integer, description: x}}\n"


@pytest.fixture
def declare(tmp_path: Path) -> Callable[..., Pipeline]:
    """Declare a pipeline whose contracts are those of the datasets that are named."""

    def declarer(*steps: Step, contracts: str, **more: Any) -> Pipeline:
        folder = tmp_path / "contracts"
        folder.mkdir()
        for name in contracts.split():
            pattern = 'pattern: "*.csv"\n' if name.startswith("input/") else ""
            (folder / f"{name.replace('/', '_')}.yaml").write_text(TABLE.format(name=name, more=pattern))
        schedule: Any = Schedule.__new__(Schedule)
        return define(**{"name": "p", "description": "x", "owner": "us", "contracts": folder, "schedule": schedule, "steps": steps, **more})

    return declarer


def step(name: str, inputs: str = "", outputs: str = "") -> Step:
    return python_step(name, dict, inputs=inputs.split(), outputs=outputs.split(), description="x")


def test_steps_run_behind_the_writers_of_what_they_read(declare: Callable[..., Pipeline]) -> None:
    last, first = step("last", "silver/b", "gold/c"), step("first", "bronze/a", "silver/b")
    pipeline = declare(last, first, ingest("in", source="input/a", output="bronze/a", description="x"), contracts="input/a bronze/a silver/b gold/c")
    assert [each.name for each in pipeline.steps] == ["in", "first", "last"]


def test_until_takes_what_a_step_needs(declare: Callable[..., Pipeline]) -> None:
    pipeline = declare(step("a", "", "silver/a"), step("b", "", "silver/b"), step("c", "silver/a", "gold/c"), contracts="silver/a silver/b gold/c")
    assert [each.name for each in steps_until(pipeline, "c")] == ["a", "c"]
    assert [each.name for each in steps_until(pipeline, None)] == ["a", "b", "c"]
    with pytest.raises(UsageError) as caught:
        steps_until(pipeline, "d")
    assert caught.value.hint == "its steps are a, b, c"


@pytest.mark.parametrize(
    ("steps", "contracts", "words"),
    [
        ([step("a", "silver/x", "silver/a")], "silver/a", "step a: dataset 'silver/x' has no contract"),
        ([step("a", "", "silver/a"), step("b", "", "silver/a")], "silver/a", "steps a and b both write silver/a"),
        ([step("a", "silver/b", "silver/a"), step("b", "silver/a", "silver/b")], "silver/a silver/b", "steps wait for each other: a, b"),
        ([step("a", "silver/a", "silver/a")], "silver/a", "steps wait for each other: a"),
        ([step("a", "silver/b", "silver/a")], "silver/a silver/b", "step a reads silver/b, which no step writes"),
        ([step("a", "", "input/a")], "input/a", "step a writes input/a, which is a source"),
        ([step("a", "", "silver/a")], "silver/a silver/b", "silver/b has a contract, but no step reads or writes it"),
        ([step("a", "", "silver/a"), step("a", "", "silver/b")], "silver/a silver/b", "two steps are called 'a'"),
        ([step("a%", "", "silver/a")], "silver/a", "'a%' is not a name"),
    ],
    ids=["unknown dataset", "two writers", "cycle", "own output", "no writer", "source written", "unused contract", "two names", "bad name"],
)
def test_a_graph_that_can_not_work_is_refused(declare: Callable[..., Pipeline], steps: list[Step], contracts: str, words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare(*steps, contracts=contracts)
    assert words in caught.value.message
    assert caught.value.hint


def test_a_missing_sql_file_is_refused(declare: Callable[..., Pipeline], tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"step a: there is no file nowhere\.sql"):
        declare(sql_step("a", tmp_path / "nowhere.sql", inputs=[], output="silver/a", description="x"), contracts="silver/a")


def test_estimates_need_a_contract(declare: Callable[..., Pipeline]) -> None:
    with pytest.raises(DeclarationError, match="'gold/models' has no contract"):
        declare(step("a", "", "silver/a"), contracts="silver/a", estimates="gold/models")


def test_an_sql_file_in_another_encoding_is_refused(declare: Callable[..., Pipeline], tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_bytes("SELECT 'é'".encode("latin-1"))
    with pytest.raises(DeclarationError, match=r"a.sql is not UTF-8 \(byte 9\)"):
        declare(sql_step("a", tmp_path / "a.sql", inputs=[], output="silver/a", description="x"), contracts="silver/a")
