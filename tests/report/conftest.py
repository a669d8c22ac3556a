"""Runs and bundles of a study, made by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.records import Gate, Run, State
from pipeline.testing import EXAMPLE_START, SECOND, example_id
from tests.report.report_support import study_run, write_bundle

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes a run of the study in a bundle of its own: `make_run(State.FAILED, number=2)`."""

    def make(state: State = State.COMPLETED, gate: Gate | None = Gate.YELLOW, number: int = 1) -> Run:
        return study_run(tmp_path / "runs" / str(example_id(number * 16, EXAMPLE_START + number * 86_400 * SECOND)), state, gate, number)

    return make


@pytest.fixture
def make_bundle(make_run: MakeRun) -> Callable[..., Path]:
    """As `make_run`, with the files written; returns the bundle's folder."""
    return lambda *args, **kwargs: write_bundle(make_run(*args, **kwargs))
