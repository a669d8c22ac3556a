"""The demo: dated runs of the study with what is meant to go wrong."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from pipeline import api, demo
from pipeline.demo import Demo
from pipeline.demo_input import Trouble, collect, export
from pipeline.engine.lake import Lake
from pipeline.errors import UsageError
from pipeline.records import Gate, Run, State
from pipeline.study import PIPELINE
from pipeline.telemetry import bundle

NOW = datetime(2026, 11, 21, 17, 30, tzinfo=UTC)
STARTED = datetime.now(UTC)
Made = tuple[Demo, list[tuple[demo.Day, Run]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Four days of the study, and what was told of them."""
    folder = tmp_path_factory.mktemp("demo")
    found, told = Demo.of(runs=folder / "runs", folder=folder / ".demo"), []
    demo.make(found, 4, lambda day, run: told.append((day, run)), STARTED)
    return found, told


def folder_of(tmp_path: Path) -> Demo:
    return Demo.of(runs=tmp_path / "runs", folder=tmp_path / ".demo")


# ---------------------------------------------------------------------------------------------- the runs


def test_the_runs_are_the_last_days_and_come_to_what_their_input_is_meant_to_bring_about(made: Made) -> None:
    _, told = made
    assert all(day.is_as_meant(run) for day, run in told)
    states = [(run.state, run.gate) for _, run in told]
    assert states == [(State.COMPLETED, Gate.YELLOW), (State.FAILED, None), (State.FAILED, Gate.RED), (State.COMPLETED, Gate.GREEN)]
    by = datetime.combine(STARTED, PIPELINE.schedule.by, UTC)
    newest = by if by <= STARTED else by - timedelta(days=1)
    assert [day.deadline for day, _ in told] == [newest - timedelta(days=back) for back in (3, 2, 1, 0)]


def test_each_run_is_dated_before_its_deadline_and_marked(made: Made) -> None:
    found, told = made
    bundles = found.bundles()[::-1]
    assert [each.id for each in bundles] == sorted(str(run.id) for _, run in told)
    for (day, _), each in zip(told, bundles, strict=True):
        started, ended = (datetime.fromisoformat(each.manifest[name]) for name in ("started_at", "ended_at"))
        assert day.deadline - timedelta(minutes=10) <= started < ended < day.deadline
        assert each.manifest["as_of"] == (day.deadline.date() - timedelta(days=1)).isoformat()
        assert (each.manifest["environment"], each.manifest["clock_offset_seconds"] < 0) == ("demo", True)


def test_rows_grow_by_the_day_and_estimates_move(made: Made) -> None:
    _, told = made
    first, last = (run for _, run in told if run.state is State.COMPLETED)
    assert sum(source.rows for source in first.inputs) < sum(source.rows for source in last.inputs)
    assert first.estimates != last.estimates


def test_the_lake_is_the_demo_s_own_and_shows_its_last_run(made: Made) -> None:
    found, told = made
    assert Lake(found.settings.lake).current()["run_id"] == str(told[-1][1].id)
    assert told[-1][1].lake_name == "potato-demo"
    assert not Path("lake").exists()


def test_a_second_time_adds_nothing_and_a_lost_day_alone(made: Made) -> None:
    found, _ = made
    assert demo.make(found, 4, now=STARTED) == []
    days = demo.plan(found.pipeline, found.bundles()[:1] + found.bundles()[2:], 4, STARTED)
    assert [day.deadline for day in days] == [demo.plan(found.pipeline, [], 4, STARTED)[2].deadline]


@pytest.mark.slow
def test_two_weeks_hold_one_failed_one_red_and_one_yellow_run_and_can_be_removed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "demo"]
    environment = {**os.environ, "OPENLINEAGE_DISABLED": "", "OPENLINEAGE_URL": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=165, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "14 runs of the demo in runs/" in done.stdout
    assert "lineage waits" in done.stderr
    ends = [(each.state, each.manifest["gate"]) for each in bundle.iter_bundles(tmp_path / "runs")]
    assert len(ends) == 14
    assert [ends.count(end) for end in ((State.FAILED, None), (State.FAILED, "RED"), (State.COMPLETED, "YELLOW"))] == [1, 1, 1]
    subprocess.run([*command, "--remove"], cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert list((tmp_path / "runs").iterdir()) == []


# ---------------------------------------------------------------------------------------------- which days


def test_before_the_deadline_of_a_day_its_run_is_not_made() -> None:
    before = demo.plan(PIPELINE, [], 3, datetime.combine(NOW.date(), time(5, 59), UTC))
    after = demo.plan(PIPELINE, [], 3, datetime.combine(NOW.date(), time(6), UTC))
    assert (before[-1].deadline.day, after[-1].deadline.day) == (20, 21)


@pytest.mark.parametrize("days", range(4, 29))
def test_each_trouble_comes_once_and_not_on_the_newest_day(days: int) -> None:
    troubles = [day.trouble for day in demo.plan(PIPELINE, [], days, NOW)]
    assert len(troubles) == days
    assert [troubles.count(each) for each in Trouble if each is not Trouble.NONE] == [1, 1, 1]
    assert troubles[-1] is Trouble.NONE


def test_the_days_after_a_demo_have_no_trouble_again(made: Made) -> None:
    found, _ = made
    days = demo.plan(PIPELINE, found.bundles(), 9, STARTED + timedelta(days=5))
    assert {day.trouble for day in days} == {Trouble.NONE}
    assert len(days) == 5


def test_a_run_that_failed_for_another_reason_is_not_taken_for_a_trouble(made: Made) -> None:
    found, _ = made
    there = [each for each in found.bundles() if demo._seen(each) is Trouble.MISSING_COLUMN]
    other = [replace(each, manifest={**each.manifest, "failure": {**each.manifest["failure"], "type": "lake_busy"}}) for each in there]
    assert [demo._seen(each) for each in other] == [Trouble.NONE]


def test_two_processes_do_not_make_or_delete_one_demo_at_once(made: Made) -> None:
    found, _ = made
    before = found.bundles()
    with found.alone():
        for work in (lambda: demo.make(found, 28), found.remove):
            with pytest.raises(UsageError, match="another process"):
                work()
    assert found.bundles() == before


@pytest.mark.parametrize("days", [0, 29])
def test_days_that_no_server_would_keep_are_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(UsageError, match="days is"):
        demo.make(folder_of(tmp_path), days)


# ---------------------------------------------------------------------------------------------- removing


def test_removing_leaves_runs_that_are_not_the_demo_s(tmp_path: Path, made: Made) -> None:
    found = folder_of(tmp_path)
    theirs = {"environment": ("demo", None), "clock_offset_seconds": ("local", -5.0)}
    for number, (environment, offset) in enumerate(theirs.values()):
        record = dict(made[0].bundles()[0].manifest, environment=environment, clock_offset_seconds=offset)
        path = found.settings.runs / f"01a1fcaa-9868-7026-9903-9979dc0c45d{number}"
        path.mkdir(parents=True)
        (path / "manifest.json").write_text(json.dumps(record))
    assert found.remove() == 0
    assert len(list(found.settings.runs.iterdir())) == 2


# ---------------------------------------------------------------------------------------------- the input


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the exports of two days are cut from."""
    folder = tmp_path_factory.mktemp("source") / "data"
    collect(PIPELINE, folder, NOW.date() - timedelta(days=1), NOW.date())
    return folder


def cells(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_day_s_input_ends_with_the_day_and_is_what_came_before_and_more(data: Path, tmp_path: Path) -> None:
    for back in (1, 0):
        export(PIPELINE, data, tmp_path / str(back), NOW.date() - timedelta(days=back), Trouble.NONE)
    for name in ("Sample_tidy.csv", "Sample_nutrition_rows.csv", "Sample_fiber_daily.csv"):
        before, after = (cells(tmp_path / str(back), name) for back in (1, 0))
        assert max(row["date"] for row in after) == "2026-11-21"
        assert [row for row in after if row["date"] < "2026-11-21"] == before


def test_input_that_reaches_far_enough_stays_as_it_is(data: Path) -> None:
    before = (data / "Sample_tidy.csv").stat().st_mtime_ns
    collect(PIPELINE, data, NOW.date() - timedelta(days=3), NOW.date() + timedelta(weeks=8))
    assert (data / "Sample_tidy.csv").stat().st_mtime_ns == before


def test_input_that_has_come_to_its_end_is_made_anew(tmp_path: Path) -> None:
    collect(PIPELINE, tmp_path / "data", NOW.date(), NOW.date())
    far = NOW.date() + timedelta(weeks=11)
    collect(PIPELINE, tmp_path / "data", far, far)
    assert max(row["date"] for row in cells(tmp_path / "data", "Sample_fiber_daily.csv")) >= far.isoformat()


def test_input_of_which_only_a_part_was_made_is_made_anew(data: Path, tmp_path: Path) -> None:
    days = (NOW.date() - timedelta(days=1), NOW.date())

    def stopped(out: Path, **_: int) -> None:
        out.mkdir(parents=True)
        (out / "Sample_tidy.csv").write_text("subject_id,date\n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(replace(PIPELINE, generate=stopped), tmp_path / "data", *days)
    collect(PIPELINE, tmp_path / "data", *days)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert all((tmp_path / "data" / path.name).read_bytes() == path.read_bytes() for path in data.iterdir())


def test_a_missing_column_is_missing_in_every_row(data: Path, tmp_path: Path) -> None:
    export(PIPELINE, data, tmp_path / "in", NOW.date(), Trouble.MISSING_COLUMN)
    assert list(cells(tmp_path / "in", "Sample_fiber_daily.csv")[0]) == ["subject_id", "date", "week", "total_calories"]


def test_a_pipeline_that_generates_no_input_has_no_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from dataclasses import replace\nfrom pipeline.study import PIPELINE as STUDY\nPIPELINE = replace(STUDY, name='other', generate=None)\n"
    (tmp_path / "no_generator.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="pipeline other makes no input files"):
        demo.make(Demo.of(runs=tmp_path / "runs", app="no_generator:PIPELINE", folder=tmp_path / ".demo"))
    assert api.load_app("no_generator:PIPELINE").generate is None
