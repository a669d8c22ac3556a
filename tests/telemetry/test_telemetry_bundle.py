import fcntl
import json
import logging
import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import LakeError, RunNotFoundError
from pipeline.records import Run, State
from pipeline.telemetry import bundle, identity
from pipeline.testing import example_run
from tests.telemetry.telemetry_support import stored


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ------------------------------------------------------------------------------------------------- writing


def test_other_users_can_read_a_bundle_whatever_the_umask(runs: Path):
    before = os.umask(0o077)
    try:
        path = bundle.create(runs, identity.new_id())
        bundle.write_json(path / "a.json", {})
        with bundle.open_for_append(path / "a.jsonl"), bundle.alive(path):
            lock = mode(path / bundle.LOCK)
    finally:
        os.umask(before)
    assert [mode(runs), mode(path), mode(path / "a.json"), mode(path / "a.jsonl"), lock] == [0o755, 0o755, 0o644, 0o644, 0o644]


def test_a_runs_folder_that_cannot_be_made_is_a_lake_error_with_a_hint(tmp_path: Path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(LakeError) as caught:
        bundle.create(tmp_path / "runs", identity.new_id())
    assert "PIPELINE_RUNS" in caught.value.hint


def test_a_replaced_file_leaves_nothing_beside_it(tmp_path: Path):
    for value in range(3):
        bundle.write_json(tmp_path / "a.json", value)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "2\n")]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path):
    bundle.write_json(tmp_path / "a.json", "old")
    with pytest.raises(TypeError):
        bundle.write_json(tmp_path / "a.json", {"x": object()})
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", '"old"\n')]


scalars = st.floats() | st.integers() | st.text() | st.none()


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(IsADirectoryError):
        bundle.write_json(tmp_path / "a.json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@given(st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=10))
@settings(max_examples=50)
def test_what_is_written_is_json_without_nan(value: object):
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    path = Path("value.json")
    bundle.write_json(path, value)
    json.loads(path.read_text("utf-8"), parse_constant=refuse)


def test_a_name_that_is_no_unicode_is_written_all_the_same(tmp_path: Path):
    bundle.write_json(tmp_path / "a.json", {"file": os.fsdecode(b"w\xe4ight.csv")})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"file": "w?ight.csv"}


def test_the_manifest_is_tidied_on_its_way_out(runs: Path):
    run = stored(runs, State.FAILED)
    assert run.failure
    object.__setattr__(run.failure, "message", "mail ann@example.org in /home/ann/x")
    bundle.write_manifest(run)
    assert bundle.read(run.bundle).manifest["failure"]["message"] == "mail … in ~/x"


# ------------------------------------------------------------------------------------------------- liveness


def test_a_run_is_alive_while_it_holds_its_lock_and_takes_the_file_away(run: Run):
    assert not bundle.is_alive(run.bundle)
    with bundle.alive(run.bundle):
        assert bundle.is_alive(run.bundle)
        assert bundle.is_alive(run.bundle)
    assert not bundle.is_alive(run.bundle)
    assert not (run.bundle / bundle.LOCK).exists()


def test_the_lock_file_stays_for_a_reaper_when_the_last_manifest_could_not_be_written(runs: Path):
    run = stored(runs, State.RUNNING)
    with bundle.alive(run.bundle):
        pass
    assert not bundle.is_alive(run.bundle)
    assert bundle.read(run.bundle).state is State.LOST
    assert (run.bundle / bundle.LOCK).exists()


def test_two_who_ask_at_once_do_not_take_each_other_for_the_run(run: Run):
    (run.bundle / bundle.LOCK).touch()
    with (run.bundle / bundle.LOCK).open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not bundle.is_alive(run.bundle)


def test_a_killed_run_is_lost_and_a_living_one_is_running(runs: Path):
    run = stored(runs, State.RUNNING)
    process = multiprocessing.get_context("fork").Process(target=_live, args=(run.bundle,))
    process.start()
    _wait_for(lambda: bundle.is_alive(run.bundle))
    assert bundle.read(run.bundle).state is State.RUNNING
    process.kill()
    process.join()
    assert bundle.read(run.bundle).state is State.LOST
    assert (run.bundle / bundle.LOCK).exists()


def test_an_orphaned_child_does_not_keep_a_killed_run_alive(runs: Path):
    run = stored(runs, State.RUNNING)
    process = multiprocessing.get_context("fork").Process(target=_live_with_child, args=(run.bundle,))
    process.start()
    _wait_for((run.bundle / "child").exists)
    process.kill()
    process.join()
    try:
        # A child that has only just been forked may not have had its turn yet, in which it closes its copy of the lock.
        _wait_for(lambda: bundle.read(run.bundle).state is State.LOST)
    finally:
        os.kill(int((run.bundle / "child").read_text()), 9)


def _live(path: Path) -> None:
    with bundle.alive(path):
        time.sleep(60)


def _live_with_child(path: Path) -> None:
    with bundle.alive(path):
        child = os.fork()
        if child:
            (path / "child.tmp").write_text(str(child))
            (path / "child.tmp").rename(path / "child")
        time.sleep(60)


def _wait_for(condition: object) -> None:
    deadline = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------------- reading


def test_bundles_are_listed_newest_first_with_the_archived_ones(runs: Path):
    ids = [str(stored(runs, number=number).id) for number in (2, 1, 3)]
    (runs / bundle.ARCHIVE).mkdir()
    (runs / ids[1]).rename(runs / bundle.ARCHIVE / ids[1])
    listed = bundle.list_bundles(runs)
    assert [item.id for item in listed] == [ids[2], ids[0], ids[1]]
    assert [item.is_archived for item in listed] == [False, False, True]
    assert len(bundle.list_bundles(runs, limit=2)) == 2


def test_no_runs_folder_means_no_runs(tmp_path: Path):
    assert bundle.list_bundles(tmp_path / "none") == []


def test_what_is_not_a_bundle_is_left_out_and_a_half_made_one_is_told(runs: Path, caplog: pytest.LogCaptureFixture):
    stored(runs)
    (runs / "notes").mkdir()
    (runs / "a.txt").write_text("")
    half, broken, newer = (bundle.create(runs, identity.new_id()) for _ in range(3))
    (broken / bundle.MANIFEST).write_text("{")
    (newer / bundle.MANIFEST).write_text('{"format": 99, "state": "COMPLETED"}')
    with caplog.at_level(logging.WARNING):
        assert len(bundle.list_bundles(runs)) == 1
    assert [any(path.name in line for line in caplog.messages) for path in (half, broken, newer)] == [True, True, True]
    assert "notes" not in caplog.text


@pytest.mark.parametrize("text", ["[" * 100_000, '{"state": []}', '{"pipeline": null}', '{"pipeline": {}}', '{"environment": 3}'])
def test_somebodys_odd_manifest_does_not_keep_a_run_from_ending(runs: Path, text: str):
    other, run = (stored(runs, number=number) for number in (1, 2))
    path = other.bundle / bundle.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | json.loads(text)) if text.startswith("{") else text)
    assert bundle.success_share_20(run) == 1
    assert [each.id for each in bundle.list_bundles(runs)] == [str(run.id)]


def test_a_run_that_has_not_written_its_manifest_yet_is_left_out_without_a_word(runs: Path, caplog: pytest.LogCaptureFixture):
    path = bundle.create(runs, identity.new_id())
    with bundle.alive(path):
        assert bundle.list_bundles(runs) == []
    assert caplog.messages == []


@pytest.mark.parametrize("spelled", ["last", "last~0", "{id}", "{hex}", "{upper}", "{prefix}"])
def test_a_run_is_found_by_what_one_calls_it(runs: Path, spelled: str):
    stored(runs, number=1)
    newest = stored(runs, number=5000).id
    text = spelled.format(id=newest, hex=newest.hex, upper=str(newest).upper(), prefix=str(newest)[:10])
    assert bundle.find(runs, text).id == str(newest)


def test_the_run_before_the_last_is_found_too(runs: Path):
    oldest = stored(runs, number=1)
    stored(runs, number=2)
    assert bundle.find(runs, "last~1").id == str(oldest.id)


def test_nobody_means_a_run_of_the_doctor_by_the_last_one(runs: Path):
    meant = stored(runs, number=1).id
    canary = stored(runs, number=2, environment="canary")
    assert bundle.find(runs, "last").id == str(meant)
    assert bundle.find(runs, str(canary.id)).id == str(canary.id)


@pytest.mark.parametrize("text", ["", "-", "zz", "last~2", "last~x", "lastly"])
def test_a_run_that_is_not_there_is_told_with_those_that_are(runs: Path, text: str):
    known = [stored(runs, number=number).id for number in (1, 2)]
    with pytest.raises(RunNotFoundError) as caught:
        bundle.find(runs, text)
    assert str(known[0]) in caught.value.hint or "last~1" in caught.value.hint


def test_a_prefix_of_many_runs_is_told_with_five_of_them(runs: Path):
    newest = [str(stored(runs, number=number).id) for number in range(7)][::-1]
    with pytest.raises(RunNotFoundError, match="7 runs begin with '01a'") as caught:
        bundle.find(runs, "01a")
    assert caught.value.hint == f"give more of it: {', '.join(newest[:5])} and 2 more"


def test_without_any_run_the_hint_says_how_to_make_one(runs: Path):
    with pytest.raises(RunNotFoundError) as caught:
        bundle.find(runs, "last")
    assert "pipeline run" in caught.value.hint


# ------------------------------------------------------------------------------------------------- share of the last 20


def test_the_share_counts_this_run_and_the_19_before_it_of_the_same_pipeline_and_environment(runs: Path):
    states = [State.COMPLETED] * 10 + [State.FAILED, State.ABORTED, State.LOST]
    for number, state in enumerate(states):
        stored(runs, state, number=number)
    stored(runs, State.FAILED, number=30, environment="prod")
    stored(runs, State.FAILED, number=31, pipeline="other")
    this = stored(runs, State.COMPLETED, number=40)
    assert bundle.success_share_20(this) == pytest.approx(11 / 14)
    for number in range(50, 70):
        stored(runs, State.FAILED, number=number)
    assert bundle.success_share_20(this) == pytest.approx(1 / 20)


def test_a_bundle_of_something_else_does_not_count(runs: Path):
    foreign = stored(runs, number=1).bundle / bundle.MANIFEST
    foreign.write_text(json.dumps({"format": 1, "state": "FAILED"}))
    assert bundle.success_share_20(stored(runs, number=2)) == 1.0


def test_a_running_run_does_not_count_and_a_lost_one_does(runs: Path):
    this = stored(runs, number=9)
    running = stored(runs, State.RUNNING, number=1)
    with bundle.alive(running.bundle):
        assert bundle.success_share_20(this) == 1.0
    assert bundle.success_share_20(this) == 0.5


# ------------------------------------------------------------------------------------------------- archive


def test_the_oldest_finished_runs_are_moved_out_of_the_collectors_sight(runs: Path):
    running = stored(runs, State.RUNNING, number=0)
    made = [stored(runs, number=number) for number in range(1, 6)]
    with bundle.alive(running.bundle):
        moved = bundle.archive(runs, keep=2)
    assert sorted(path.name for path in moved) == sorted(str(run.id) for run in made[:3])
    assert {path.parent.name for path in moved} == {bundle.ARCHIVE}
    assert running.bundle.exists()
    assert len(bundle.list_bundles(runs)) == 6
    assert bundle.archive(runs, keep=2) == []


def test_a_finished_run_that_still_writes_its_report_is_not_moved(runs: Path):
    oldest = stored(runs, number=1)
    stored(runs, number=2)
    with bundle.alive(oldest.bundle):
        assert bundle.archive(runs, keep=1) == []
    assert len(bundle.archive(runs, keep=1)) == 1


def test_listing_the_newest_of_many_reads_no_more_than_those(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    run = example_run(tmp_path / "one")
    bundle.write_manifest(run)
    text = (run.bundle / bundle.MANIFEST).read_bytes()
    for number in range(200):
        path = bundle.create(tmp_path / "runs", identity.new_id())
        (path / bundle.MANIFEST).write_bytes(text if number >= 195 else b"{")  # an older one would be told in the log if it were read
    assert len(bundle.list_bundles(tmp_path / "runs", limit=5)) == 5
    assert caplog.records == []
