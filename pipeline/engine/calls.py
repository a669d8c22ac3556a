"""Calling a step's own function, and holding what it returns to what the step declares."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pipeline.engine.signals import AbortedError
from pipeline.errors import StepError

if TYPE_CHECKING:
    from pipeline.engine.table import Table
    from pipeline.records import Contract, Step


def call(step: Step, tables: Mapping[str, Table], contracts: Mapping[str, Contract]) -> dict[str, Any]:
    """What the step's function makes of its tables: a DataFrame or the files of each output.

    Raises:
        StepError: it returned something else than it declares, or tried to end the process.
        AbortedError: it raised KeyboardInterrupt.
    """
    with _same_folder():
        made = _called(step, tables)
    return {dataset: _checked(step, contracts[dataset], result) for dataset, result in _by_output(step, made).items()}


def _called(step: Step, tables: Mapping[str, Table]) -> Any:
    assert step.function is not None  # `python_step` sets it
    process = os.getpid()
    try:
        return step.function(**tables)
    except KeyboardInterrupt as error:  # not ours, which is an AbortedError: code of the step has set its own handler
        raise AbortedError(signal.SIGINT) from error
    except (Exception, AbortedError):
        raise
    except BaseException as error:
        if os.getpid() != process:
            os._exit(_exit_code(error))
        text = f"step {step.name} raised {type(error).__name__}, which is for ending a process"
        raise StepError(text, hint="a step ends by returning, or by raising an Exception", step=step.name) from error
    finally:
        if os.getpid() != process:
            os._exit(int(sys.exc_info()[0] is not None))  # a child that the function forked fell out of it: the run is its parent's


def _exit_code(error: BaseException) -> int:
    code = error.code if isinstance(error, SystemExit) else 1
    return code if isinstance(code, int) else int(code is not None)


@contextmanager
def _same_folder() -> Iterator[None]:
    """Come back to the working folder, whatever the block does: the addresses of lake and runs may be relative to it."""
    before = Path.cwd()
    try:
        yield
    finally:
        os.chdir(before)


def _by_output(step: Step, made: Any) -> Mapping[str, Any]:
    if len(step.outputs) == 1:
        return {step.outputs[0]: made}
    declared = f"it declares {', '.join(step.outputs)}: return a dict from each of these names to its table or files"
    if not isinstance(made, Mapping):
        raise StepError(f"step {step.name} returned {_kind(made)}", hint=declared, step=step.name)
    if set(made) != set(step.outputs):
        raise StepError(f"step {step.name} returned {sorted(map(str, made))}", hint=declared, step=step.name)
    return made


def _checked(step: Step, contract: Contract, result: Any) -> Any:
    return _table(step, contract.dataset, result) if contract.is_table else _files(step, contract.dataset, result)


def _table(step: Step, dataset: str, result: Any) -> Any:
    pandas = sys.modules.get("pandas")  # who returns a DataFrame has imported it
    if pandas is None or not isinstance(result, pandas.DataFrame):
        raise StepError(f"step {step.name} returned {_kind(result)} for {dataset}", hint="return a pandas DataFrame", step=step.name)
    strange = next((name for name in result.columns if not isinstance(name, str)), None)
    if strange is not None:
        text = f"step {step.name}: {dataset} has a column name of type {type(strange).__name__}"
        raise StepError(text, hint="give columns names that are text", step=step.name)
    return result


def _files(step: Step, dataset: str, result: Any) -> Any:
    hint = f"{dataset} is a folder of files: return a dict from file name to bytes"
    if not isinstance(result, Mapping) or not result:
        what = "no file" if isinstance(result, Mapping) else _kind(result)
        raise StepError(f"step {step.name} returned {what} for {dataset}", hint=hint, step=step.name)
    for name, content in result.items():
        if not isinstance(name, str) or name in ("", "..") or PurePath(name).name != name:
            raise StepError(f"step {step.name}: {name!r} is no file name for {dataset}", hint=hint, step=step.name)
        if not isinstance(content, bytes):
            raise StepError(f"step {step.name} returned {_kind(content)} for the file {name} of {dataset}", hint=hint, step=step.name)
    return result


def _kind(thing: object) -> str:
    return "None" if thing is None else f"a {type(thing).__name__}"
