"""The text of `pipeline runs`, `show` and `run`, as a file. `GOLDTRACE_ACCEPT=1 pytest <this file>` accepts what changed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.report.html import write_report
from pipeline.report.tables import NO_RUNS, run_text, runs_json, runs_table, summary
from pipeline.telemetry import bundle
from tests.report.report_support import ENDS, same_as_golden

MakeBundle = Callable[..., Path]


@pytest.fixture
def bundles(make_bundle: MakeBundle) -> list[bundle.Bundle]:
    return [bundle.read(make_bundle(state, gate, number)) for number, (state, gate) in enumerate(ENDS, 1)]


def test_the_texts_are_those_of_the_golden_file(bundles: list[bundle.Bundle], capsys: pytest.CaptureFixture[str]) -> None:
    parts = [runs_table(bundles), *(text(one) for text in (run_text, summary) for one in (bundles[1], bundles[2], bundles[3]))]
    text = "\n\n----\n\n".join(parts) + "\n"
    same_as_golden("tables.txt", text.replace(str(bundles[0].path.parent), "runs"), capsys)


def test_no_runs_are_said_in_words() -> None:
    assert runs_table([]) == NO_RUNS


def test_the_summary_ends_with_where_the_report_is(bundles: list[bundle.Bundle]) -> None:
    assert summary(bundles[0]).endswith(f"bundle  {bundles[0].path}")
    report = write_report(bundles[0].path)
    assert summary(bundles[0]).endswith(f"report  {report}")


def test_a_lists_objects_are_json_with_unrounded_numbers(bundles: list[bundle.Bundle]) -> None:
    objects = json.loads(json.dumps(runs_json(bundles)))
    assert [one["state"] for one in objects] == ["COMPLETED", "COMPLETED", "FAILED", "FAILED", "ABORTED", "LOST"]
    assert objects[1]["headline"]["estimate"] == -0.000312
    assert (objects[1]["rows_in"], objects[1]["rows_quarantined"], objects[1]["seconds"]) == (7301, 3, 4.203)
    assert (objects[3]["error_type"], objects[3]["headline"]) == ("step", None)
