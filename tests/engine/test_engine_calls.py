"""A step's function: how it may end, and what it may return."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.engine.calls import call
from pipeline.engine.signals import AbortedError
from pipeline.errors import StepError
from pipeline.records import Column, Contract, Step, StepKind

TABLE = Contract(dataset="gold/total", description="x", owner="us", columns=(Column(name="week", type="integer", description="x"),))
FILES = Contract(dataset="gold/words", description="x", owner="us")
CONTRACTS = {"gold/total": TABLE, "gold/words": FILES}


def step(function: Callable[..., Any], *outputs: str) -> Step:
    return Step(name="total", kind=StepKind.PYTHON, inputs=(), outputs=outputs or ("gold/total",), description="x", function=function)


def ends(code: object) -> Callable[[], None]:
    return lambda: sys.exit(code)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [0, 5, None, "P1 weighs 80"])
def test_a_step_that_would_end_the_process_fails(code: object) -> None:
    with pytest.raises(StepError, match=r"^step total raised SystemExit, which is for ending a process$") as raised:
        call(step(ends(code)), {}, CONTRACTS)
    assert "return" in raised.value.hint


def test_a_keyboard_interrupt_of_a_step_aborts_the_run() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(AbortedError, match="SIGINT"):
        call(step(interrupt), {}, CONTRACTS)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "returned None for gold/total"),
        ({"week": [1]}, "returned a dict for gold/total"),
        (pd.Series([1]), "returned a Series for gold/total"),
        (pd.DataFrame([[1]]), "gold/total has a column name of type int"),
    ],
)
def test_a_table_is_a_data_frame_with_names(result: object, words: str) -> None:
    with pytest.raises(StepError, match=words) as raised:
        call(step(lambda: result), {}, CONTRACTS)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (b"text", "returned a bytes for gold/words"),
        ({}, "returned no file for gold/words"),
        ({"report.md": "text"}, "returned a str for the file report.md of gold/words"),
        ({"../report.md": b"x"}, r"'../report.md' is no file name"),
        ({"": b"x"}, "'' is no file name"),
        ({"..": b"x"}, "'..' is no file name"),
        ({1: b"x"}, "1 is no file name"),
    ],
)
def test_files_are_bytes_by_a_name_without_folders(result: object, words: str) -> None:
    with pytest.raises(StepError, match=words):
        call(step(lambda: result, "gold/words"), {}, CONTRACTS)


@pytest.mark.parametrize(
    ("result", "words"),
    [(pd.DataFrame({"week": [1]}), "returned a DataFrame"), (None, "returned None"), ({"gold/total": None, 3: None}, r"returned \['3', 'gold/total'\]")],
)
def test_several_outputs_are_a_dict_by_their_names(result: object, words: str) -> None:
    with pytest.raises(StepError, match=words) as raised:
        call(step(lambda: result, "gold/total", "gold/words"), {}, CONTRACTS)
    assert "gold/total, gold/words" in raised.value.hint


def test_a_step_that_changes_the_folder_leaves_the_run_where_it_was(tmp_path: Path) -> None:
    def wander() -> pd.DataFrame:
        os.chdir(tmp_path)
        return pd.DataFrame({"week": [1]})

    before = Path.cwd()
    call(step(wander), {}, CONTRACTS)
    assert Path.cwd() == before


@pytest.mark.parametrize(("end", "code"), [(ends(3), 3), (ends(0), 0), (ends("told"), 1), (lambda: None, 0), (lambda: 1 / 0, 1)])
def test_a_child_that_falls_out_of_the_function_ends_there(end: Callable[[], None], code: int) -> None:
    def forks() -> pd.DataFrame:
        child = os.fork()
        if child == 0:
            end()
        else:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
        return pd.DataFrame({"week": [1]})

    assert set(call(step(forks), {}, CONTRACTS)) == {"gold/total"}


class Callee:
    def __call__(self) -> None: ...

    def method(self) -> None: ...


def plain() -> None: ...


@functools.wraps(plain)
def decorated() -> None: ...


def test_the_code_of_a_step_is_found_behind_what_was_given() -> None:
    assert {step(function).code for function in (plain, decorated, functools.partial(plain), functools.partial(functools.partial(plain)))} == {plain}
    assert step(Callee()).code is Callee.__call__
    assert step(Callee().method).code is Callee.method
    assert step(len).code is None
