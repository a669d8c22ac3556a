"""The line of progress on a terminal."""

import io
import time
from pathlib import Path

from pipeline.records import StepRun
from pipeline.report.progress import CLEAR, ProgressHook
from pipeline.testing import example_run


def test_a_step_that_takes_time_is_shown_with_its_rows_and_leaves_nothing_behind(tmp_path: Path) -> None:
    shown = io.StringIO()
    run, hook = example_run(tmp_path), ProgressHook(shown)
    step: StepRun = run.steps[0]
    step.rows_in = {"input/weight": 1234}
    with hook.run(run), hook.step(run, step):
        time.sleep(0.5)
    lines = shown.getvalue().split(CLEAR)
    assert any(line.startswith(f"  {len(run.steps)}/{len(run.steps_planned)} {step.step.name}, 1,234 rows in, ") for line in lines)
    assert lines[-1] == ""


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    run = example_run(tmp_path)
    with ProgressHook(Gone()).run(run):
        pass
