"""The same input gives the same bytes: in other processes, with other threads, from files of another age, at any size."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engine.lake import Lake
from pipeline.records import Gate, State
from pipeline.study.synth import generate
from tests.end_to_end.end_support import FILES, SAMPLE, go, inputs, lake_now

SUBJECTS, WEEKS, DIARY_ROWS = 4_700, 52, 2_000_000


def test_the_same_input_again_changes_no_byte_of_the_lake_and_says_unchanged(study_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once more in another process than the first time, with one thread and with two, from files made in another order and of another age."""
    shutil.copytree(study_run / "lake", "lake")
    shutil.copytree(study_run / "runs", "runs", ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts"))
    before = lake_now()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for age, name in enumerate(reversed(FILES.values()), 1):
        (folder / name).write_bytes((SAMPLE / name).read_bytes())
        os.utime(folder / name, (1e9 * age, 1e9 * age))
    for threads in (1, 2):
        run = go(input=folder, threads=threads)
        assert (run.state, run.gate) == (State.COMPLETED, Gate.GREEN)
        assert {name: version.changed for name, version in run.published.items()} == dict.fromkeys(Lake("lake").current()["datasets"], False)
        assert lake_now() == before
        assert all(output["changed"] is False for output in json.loads((run.bundle / "manifest.json").read_text())["outputs"])
        assert "unchanged" in (run.bundle / "report.html").read_text("utf-8")
        assert (run.bundle / "logs.jsonl").read_text("utf-8").count("is unchanged:") == len(run.published)


def test_another_input_and_the_first_one_again_make_the_first_ones_versions_current_again(tmp_path: Path) -> None:
    first = {name: version.version for name, version in go(until="traject").published.items()}
    held = lake_now()
    rows = (SAMPLE / FILES["weight"]).read_text("utf-8").splitlines(keepends=True)
    other = inputs(tmp_path / "other")
    (other / FILES["weight"]).write_text("".join(rows[:-3]), encoding="utf-8")
    changed = go(until="traject", input=other)
    assert {version.changed for version in changed.published.values()} == {True}
    again = go(until="traject")
    assert {name: version.version for name, version in again.published.items()} == first
    now = lake_now()
    assert {name: now[name] for name in held if not name.endswith("current.json")} == {name: held[name] for name in held if not name.endswith("current.json")}


def spoil(diary: Path) -> None:
    """Make a row in ten thousand one that is set aside."""
    with diary.open(encoding="utf-8", newline="") as lines, diary.with_suffix(".part").open("w", encoding="utf-8", newline="") as spoilt:
        for number, line in enumerate(lines):
            whole = line.count(",") == 8 and '"' not in line
            spoilt.write(f"{line.rpartition(',')[0]},-1\n" if number % 9_973 == 9_972 and whole else line)
    diary.with_suffix(".part").replace(diary)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_at_two_million_diary_rows_and_two_threads_five_runs_leave_the_same_bytes(tmp_path: Path) -> None:
    """Sums of floating-point numbers over two threads would differ from run to run here; each run is a process of its own, as a user's is."""
    generate(tmp_path / "input", subjects=SUBJECTS, weeks=WEEKS, seed=11)
    spoil(next((tmp_path / "input").glob("*nutrition_rows*")))
    settings = {"PIPELINE_INPUT": str(tmp_path / "input"), "PIPELINE_THREADS": "2", "PIPELINE_TRACKING": "off", "PIPELINE_LOG_LEVEL": "warning"}
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "run"]
    first: dict[str, tuple[str, int]] = {}
    for number in range(5):
        subprocess.run(command, env={**os.environ, **settings, "PYTHONHASHSEED": str(number)}, check=True, capture_output=True, text=True)
        newest = max(Path("runs").glob("*/manifest.json"))
        told = json.loads(newest.read_text())
        assert (told["state"], told["gate"]) == ("COMPLETED", "YELLOW")
        assert sum(rows for step in told["steps"] for rows in step["rows_quarantined"].values()) > 100
        assert sum(source["rows"] for source in told["inputs"] if source["source"] == "input/nutrition") >= DIARY_ROWS
        assert {output["changed"] for output in told["outputs"]} == {number == 0}
        first = first or lake_now()
        assert lake_now() == first
