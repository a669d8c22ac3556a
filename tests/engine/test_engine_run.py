"""Whole runs of a small pipeline, in this process: states, gate, publishing."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline import api
from pipeline.engine.lake import Lake
from pipeline.engine.runner import Order, execute, exit_code
from pipeline.records import Gate, Outcome, Run, State, StepRun
from pipeline.settings import load
from pipeline.telemetry import bundle
from tests.engine.engine_support import Go, tree, write_source


def test_a_run_publishes_all_datasets_and_says_so_in_its_manifest(go: Go, app: Path) -> None:
    run = go()
    assert (run.state, run.gate, exit_code(run)) == (State.COMPLETED, Gate.GREEN, 0)
    assert sorted(Lake("lake").current()["datasets"]) == ["bronze/food", "bronze/weight", "gold/total", "gold/words", "silver/features"]
    found = bundle.find(app / "runs", "last")
    assert found.state is State.COMPLETED
    assert [step["state"] for step in found.manifest["steps"]] == ["COMPLETED"] * 5


@pytest.mark.parametrize("lake", ["a lake [1]", "it's a*lake?"])
def test_a_lake_may_be_called_like_a_pattern(go: Go, app: Path, lake: str) -> None:
    write_source(app, "weight", "weight_kg", [(f"P{i}", 1, 70) for i in range(9)] + [("P9", 1, 900)])
    run = go(lake=lake)
    assert (run.state, run.gate) == (State.COMPLETED, Gate.YELLOW)
    assert [path.name for path in (app / lake / run.published["bronze/weight"].path).iterdir()] == ["part-0000.parquet"]


def test_the_same_input_again_changes_nothing(go: Go, app: Path) -> None:
    go()
    before = tree(app / "lake")
    run = go()
    assert {version.changed for version in run.published.values()} == {False}
    assert tree(app / "lake") == before


def test_until_runs_what_the_step_needs_and_nothing_else(go: Go) -> None:
    run = go(until="features")
    assert [step.step.name for step in run.steps] == ["weight", "food", "features"]
    assert sorted(run.published) == ["bronze/food", "bronze/weight", "silver/features"]


def test_a_broken_row_is_set_aside_with_its_place_and_the_gate_is_yellow(go: Go, app: Path) -> None:
    write_source(app, "weight", "weight_kg", [(f"P{i}", 1, 70) for i in range(9)] + [("P9", 1, 900)])
    run = go()
    (aside,) = bundle.read(run.bundle).manifest["quarantined"]
    current = Lake("lake").current()["datasets"]["quarantine/bronze/weight"]
    assert (aside["dataset"], aside["step"], aside["rows"], aside["version"], aside["path"]) == (
        "bronze/weight",
        "weight",
        1,
        current["version"],
        current["path"],
    )
    assert f"{aside['version']}" in (run.bundle / "report.html").read_text("utf-8")
    assert (run.gate, run.steps[0].rows_quarantined) == (Gate.YELLOW, {"bronze/weight": 1})
    broken = [check for check in run.checks if check.outcome is Outcome.QUARANTINED]
    assert [check.records for check in broken] == [(("weight.csv", 10),)]
    set_aside = api.read("quarantine/bronze/weight", lake="lake")
    assert list(set_aside["record_number"]) == [10]
    assert len(api.read("bronze/weight", lake="lake")) == 9


def test_a_row_rule_of_a_later_table_sets_rows_aside_too(go: Go, app: Path) -> None:
    contract = app / "contracts" / "features.yaml"
    rule = "{expect: expect_column_values_to_be_between, kwargs: {column: delta, min_value: 1}, severity: warn, quarantine: true}"
    contract.write_text(contract.read_text() + f"expectations:\n  - {rule}\n")
    write_source(app, "food", "calories", [("P3", 2, 73), ("P4", 1, 74)])
    run = go()
    features = next(step for step in run.steps if step.step.name == "features")
    assert (run.gate, features.rows_quarantined) == (Gate.YELLOW, {"silver/features": 2})
    assert sorted(api.read("quarantine/silver/features", lake="lake")["subject_id"]) == ["P3", "P4"]
    assert len(api.read("silver/features", lake="lake")) == 8


def test_too_many_broken_rows_publish_nothing_and_all_sources_are_looked_at(go: Go, app: Path) -> None:
    write_source(app, "weight", "weight_kg", [(f"P{i}", 1, 900) for i in range(10)])
    write_source(app, "food", "calories", [(f"P{i}", 1, -1) for i in range(10)])
    run = go()
    assert (run.state, run.gate, exit_code(run)) == (State.FAILED, Gate.RED, 3)
    assert run.failure is not None
    assert run.failure.type == "gate"
    assert [(step.step.name, step.state) for step in run.steps] == [("weight", State.FAILED), ("food", State.FAILED)]
    assert not (app / "lake").exists()


def test_a_step_that_raises_fails_the_run_and_its_words_do_not_leave_the_lake(go: Go, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go()
    before = tree(app / "lake")
    monkeypatch.setenv("APP_RAISES", "1")
    run = go()
    assert (run.state, exit_code(run)) == (State.FAILED, 1)
    assert run.failure is not None
    assert (run.failure.type, run.failure.step, run.failure.exception) == ("step", "total", "ValueError")
    assert tree(app / "lake") == before
    for path in run.bundle.iterdir():
        assert b"SECRET-PERSON" not in path.read_bytes(), path.name


def test_a_missing_input_file_fails_before_a_lake_is_made(go: Go, app: Path) -> None:
    (app / "input" / "food.csv").unlink()
    run = go()
    assert (run.state, exit_code(run), run.steps) == (State.FAILED, 1, [])
    assert run.failure is not None
    assert "input/food: no file in" in run.failure.message
    assert not (app / "lake").exists()


def test_rows_after_the_nominal_date_need_a_column_for_it(go: Go) -> None:
    from datetime import date

    assert go(as_of=date(2026, 1, 1)).gate is Gate.GREEN


def test_a_busy_lake_leaves_a_failed_bundle_and_exit_code_4(go: Go, app: Path) -> None:
    from pipeline.telemetry.identity import new_id

    with Lake(str(app / "lake")).lock(new_id()):
        run = go()
    assert (run.state, exit_code(run)) == (State.FAILED, 4)
    assert run.failure is not None
    assert run.failure.type == "lake_busy"


def test_what_nobody_foresaw_about_the_input_is_a_failed_run_too(go: Go, app: Path) -> None:
    run = go(input=Path("x" * 5000))  # longer than a name may be
    assert (run.state, exit_code(run)) == (State.FAILED, 1)
    assert bundle.read(run.bundle).manifest["failure"]["exception"] == "OSError"
    assert not (app / "lake").exists()


def test_what_was_published_is_on_record_before_the_hooks_end(go: Go, app: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Slow:
        signal = "slow"

        @contextmanager
        def run(self, run: Run) -> Iterator[None]:
            yield
            seen.append(json.loads((run.bundle / "manifest.json").read_text()))

        @contextmanager
        def step(self, run: Run, step: StepRun) -> Iterator[None]:
            yield

    go()  # loads the app
    execute(sys.modules["small_app"].PIPELINE, load(tracking="off"), Order(hooks=[Slow()]))
    [record] = seen
    assert (record["state"], record["gate"]) == ("RUNNING", "GREEN")
    assert [output["published"] for output in record["outputs"]] == [True] * 5


def test_telemetry_off_leaves_the_manifest_and_no_signal(go: Go) -> None:
    run = go(telemetry="off")
    assert {path.name for path in run.bundle.iterdir()} == {"manifest.json", "checks.json", "delivery.json", "report.html"}


def rewrite(app: Path, body: str) -> None:
    """Give step `total` another body."""
    text = (app / "small_app.py").read_text()
    before, _, rest = text.partition("def total(features):")
    (app / "small_app.py").write_text(f"{before}def total(features):\n    {body}\n\ndef words{rest.partition('def words')[2]}")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import pandas as pd; return pd.DataFrame({'week': [1, 2.5], 'total': [1.0, 2.0]})", "a value of gold/total, column week, is no integer"),
        ("import pandas as pd; return pd.DataFrame({'week': ['P1', 'P2'], 'total': [1.0, 2.0]})", "a value of gold/total, column week, is no integer"),
        ("import pandas as pd; return pd.DataFrame({'week': [1], 'total': ['much']})", "a value of gold/total, column total, is no number"),
        ("raise SystemExit(0)", "step total raised SystemExit, which is for ending a process"),
        ("raise MemoryError", "MemoryError"),
    ],
)
def test_a_step_that_does_not_return_its_table_fails_with_its_name_and_a_state(go: Go, app: Path, body: str, words: str) -> None:
    rewrite(app, body)
    run = go()
    assert run.failure
    assert (run.state, exit_code(run), run.failure.type, run.failure.step) == (State.FAILED, 1, "step", "total")
    assert words in run.failure.message
    assert bundle.find(app / "runs", "last").state is State.FAILED


def test_whole_numbers_are_integers_whatever_a_frame_calls_them(go: Go, app: Path) -> None:
    rewrite(app, "import pandas as pd; return pd.DataFrame({'week': [1.0, None, 2**60], 'total': [1.0, 2.0, 3.0]}).astype({'week': 'object'})")
    assert go().state is State.COMPLETED
    assert sorted(api.read("gold/total")["week"].dropna().tolist()) == [1, 2**60]


def test_too_little_memory_is_told_with_the_setting(go: Go) -> None:
    failure = go(memory_limit="1KB").failure
    assert failure
    assert "needs more memory than PIPELINE_MEMORY_LIMIT, which is 1KB" in failure.message


def test_a_lake_that_can_not_be_published_to_is_told_before_the_first_step(go: Go, app: Path) -> None:
    (app / "lake").mkdir()
    (app / "lake" / "current.json").write_text("{}")
    run = go()
    assert run.failure
    assert (run.failure.type, run.steps) == ("lake", [])


def test_two_runs_at_once_in_one_process_keep_their_facts_apart(go: Go, app: Path) -> None:
    import threading

    code = (app / "small_app.py").read_text()
    talking = "import logging; from pipeline import get_logger; logging.getLogger('theirs').warning('standard'); get_logger().info('structured')"
    (app / "small_app.py").write_text(code.replace("def words(total):\n", f"def words(total):\n    {talking}\n"))
    done: dict[str, Run] = {}
    threads = [threading.Thread(target=lambda lake=lake: done.update({lake: go(lake=lake)})) for lake in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in done.values():
        records = [
            record
            for line in (run.bundle / "logs.jsonl").read_text().splitlines()
            for resource in json.loads(line)["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
        ]
        assert {record["traceId"] for record in records} == {run.id.hex}
        assert sum(record.get("eventName") == "step.finished" for record in records) == 5
        free = [record["body"]["stringValue"] for record in records if not record.get("eventName")]
        assert free == ["standard", "structured"]
