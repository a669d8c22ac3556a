"""Publishing all at once, naming versions by content, and one writer at a time."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.engine.lake import Lake, quarantine_name
from pipeline.errors import LakeBusyError, LakeError, UsageError
from pipeline.records import DatasetVersion

RUN = uuid.UUID("01990000-0000-7000-8000-000000000001")
NEXT = uuid.UUID("01990000-0000-7000-8000-000000000002")


def publish(lake: Lake, run: uuid.UUID, **contents: bytes) -> dict[str, DatasetVersion]:
    """Publish one file a dataset; `silver__a=b"…"` is dataset silver/a."""
    with lake.lock(run), lake.staging(run) as staging:
        staged = {}
        for key, content in contents.items():
            dataset = key.replace("__", "/")
            folder = staging / dataset
            folder.mkdir(parents=True)
            (folder / "part-0000.parquet").write_bytes(content)
            staged[dataset] = (lake.seal(dataset, folder, rows=1), folder)
        return lake.publish(run, staged, now_ns=0)


def tree(root: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(root.rglob("*")) if path.is_file()}


def contents(lake: Lake, dataset: str) -> list[bytes]:
    with lake.opened(dataset) as files:
        return [path.read_bytes() for path in files]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_a_published_dataset_is_found_with_its_facts(lake: Lake) -> None:
    publish(lake, RUN, silver__a=b"one")
    entry = lake.current()["datasets"]["silver/a"]
    assert (entry["rows"], entry["bytes"], entry["run_id"]) == (1, 3, str(RUN))
    assert contents(lake, "silver/a") == [b"one"]


def test_a_version_is_what_sha256sum_says_of_the_folder(lake: Lake) -> None:
    version = publish(lake, RUN, silver__a=b"one")["silver/a"].version
    line = f"{hashlib.sha256(b'one').hexdigest()}  part-0000.parquet\n"
    assert version == hashlib.sha256(line.encode()).hexdigest()


def test_publishing_the_same_again_changes_no_byte_and_no_time(lake: Lake) -> None:
    publish(lake, RUN, silver__a=b"one", gold__b=b"two")
    before = tree(Path(lake.address))
    again = publish(lake, NEXT, silver__a=b"one", gold__b=b"two")
    assert {version.changed for version in again.values()} == {False}
    after = tree(Path(lake.address))
    assert {name: content for name, (content, _) in after.items()} == {name: content for name, (content, _) in before.items()}
    assert after["current.json"] == before["current.json"]


def test_an_old_version_stays_when_a_new_one_is_published(lake: Lake) -> None:
    old = publish(lake, RUN, silver__a=b"one")["silver/a"]
    new = publish(lake, NEXT, silver__a=b"two")["silver/a"]
    assert new.changed
    assert (Path(lake.address) / old.path / "part-0000.parquet").read_bytes() == b"one"


def test_datasets_that_a_run_did_not_write_stay_current(lake: Lake) -> None:
    publish(lake, RUN, silver__a=b"one", gold__b=b"two")
    publish(lake, NEXT, silver__a=b"new")
    datasets = lake.current()["datasets"]
    assert (datasets["gold/b"]["run_id"], datasets["silver/a"]["run_id"]) == (str(RUN), str(NEXT))


def test_a_quarantine_that_became_empty_is_not_current_any_more(lake: Lake) -> None:
    publish(lake, RUN, bronze__a=b"one", quarantine__bronze__a=b"bad")
    assert quarantine_name("bronze/a") in lake.current()["datasets"]
    publish(lake, NEXT, bronze__a=b"better")
    assert quarantine_name("bronze/a") not in lake.current()["datasets"]


def test_a_failed_run_leaves_nothing_of_a_new_lake(lake: Lake) -> None:
    with pytest.raises(ZeroDivisionError), lake.lock(RUN), lake.staging(RUN) as staging:
        (staging / "x").write_bytes(b"half")
        _ = 1 / 0
    assert not Path(lake.address).exists()


def test_a_failed_run_leaves_an_old_lake_as_it_was(lake: Lake) -> None:
    publish(lake, RUN, silver__a=b"one")
    before = {name: content for name, (content, _) in tree(Path(lake.address)).items()}
    with pytest.raises(ZeroDivisionError), lake.lock(NEXT), lake.staging(NEXT) as staging:
        (staging / "x").write_bytes(b"half")
        _ = 1 / 0
    assert {name: content for name, (content, _) in tree(Path(lake.address)).items()} == before


def test_the_second_writer_is_refused_and_told_who_holds_the_lake(lake: Lake) -> None:
    with lake.lock(RUN), pytest.raises(LakeBusyError) as caught, lake.lock(NEXT):
        pass
    assert str(RUN) in caught.value.message
    assert str(os.getpid()) in caught.value.message


def test_a_writer_that_waits_gets_a_lake_that_its_holder_removed(lake: Lake) -> None:
    script = f"""
import sys, time, uuid
from pipeline.engine.lake import Lake
with Lake({str(Path(lake.address))!r}).lock(uuid.uuid4()):
    print("held", flush=True)
    time.sleep(0.5)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with lake.lock(NEXT, wait=10):
            assert (Path(lake.address) / ".lock").exists()
            with pytest.raises(LakeBusyError), Lake(str(Path(lake.address))).lock(RUN):
                pass


def test_a_lock_whose_holder_was_killed_is_free(lake: Lake) -> None:
    script = f"import os, uuid\nfrom pipeline.engine.lake import Lake\nwith Lake({str(Path(lake.address))!r}).lock(uuid.uuid4()): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", script], check=False)
    with lake.lock(RUN):
        assert json.loads((Path(lake.address) / ".lock").read_text())["run_id"] == str(RUN)


def test_leftovers_of_a_killed_run_go_with_the_next_one(lake: Lake) -> None:
    (Path(lake.address) / ".staging" / "dead").mkdir(parents=True)
    publish(lake, RUN, silver__a=b"one")
    assert not (Path(lake.address) / ".staging").exists()


def test_a_lake_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("x")
    with pytest.raises(LakeError, match="can't write the lake"), Lake(str(tmp_path / "lake")).lock(RUN):
        pass


def test_current_json_that_is_not_json_is_a_clear_error(lake: Lake) -> None:
    Path(lake.address).mkdir()
    (Path(lake.address) / "current.json").write_text("{")
    with pytest.raises(LakeError, match="not JSON"):
        lake.current()


def test_a_version_whose_folder_is_gone_is_a_clear_error(lake: Lake) -> None:
    publish(lake, RUN, silver__a=b"one")
    shutil.rmtree(lake.place("silver/a"))
    with pytest.raises(LakeError, match="can't read the lake"), lake.opened("silver/a"):
        pass


def test_a_dataset_that_is_not_there_is_named_with_those_that_are(lake: Lake) -> None:
    publish(lake, RUN, silver__a=b"one")
    with pytest.raises(UsageError) as caught, lake.opened("silver/b"):
        pass
    assert "silver/a" in caught.value.hint


def test_publishing_that_breaks_off_puts_what_it_moved_back_whole(lake: Lake) -> None:
    with lake.lock(RUN), lake.staging(RUN) as staging:
        staged = {}
        for name in ("silver/a", "silver/b"):
            (staging / name).mkdir(parents=True)
            (staging / name / "part-0000.parquet").write_bytes(b"one")
            staged[name] = (lake.seal(name, staging / name, rows=1), staging / name)
        (Path(lake.address) / "silver").mkdir()
        (Path(lake.address) / "silver" / "b").write_bytes(b"in the way")
        with pytest.raises(LakeError):
            lake.publish(RUN, staged, now_ns=0)
        assert list((Path(lake.address) / "silver" / "a").iterdir()) == []
        assert (staging / "silver/a" / "part-0000.parquet").read_bytes() == b"one"


def test_publishing_that_breaks_off_leaves_no_file_behind(lake: Lake) -> None:
    publish(lake, RUN, silver__a=b"a")
    before = tree(Path(lake.address))
    with lake.lock(NEXT), lake.staging(NEXT) as staging:
        (staging / "a").mkdir()
        (staging / "a" / "part-0000.parquet").write_bytes(b"new")
        made = (lake.seal("silver/a", staging / "a", rows=1), staging / "a")
        lost = (replace(made[0], dataset="silver/b", path="silver/b/0"), staging / "gone")
        with pytest.raises(LakeError):
            lake.publish(NEXT, {"silver/a": made, "silver/b": lost}, now_ns=0)
    assert {**tree(Path(lake.address)), ".lock": None} == {**before, ".lock": None}


@pytest.mark.parametrize("content", ["{}", "[]", '{"datasets": []}', '{"datasets": {"silver/a": {}}}'])
def test_current_json_that_is_something_else_is_a_clear_error(lake: Lake, content: str) -> None:
    Path(lake.address).mkdir()
    (Path(lake.address) / "current.json").write_text(content)
    with pytest.raises(LakeError, match="does not say which version") as raised:
        lake.current()
    assert "restore it" in raised.value.hint


def test_a_version_that_lost_a_file_is_published_again(lake: Lake) -> None:
    publish(lake, RUN, silver__a=b"one", silver__b=b"two")
    (Path(lake.place("silver/a")) / "part-0000.parquet").unlink()
    again = publish(lake, NEXT, silver__a=b"one", silver__b=b"two")
    assert (again["silver/a"].changed, again["silver/b"].changed) == (True, False)
    assert contents(lake, "silver/a") == [b"one"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run_id": "x"}', "null"])
def test_a_lake_is_busy_whatever_its_holder_wrote(lake: Lake, content: str) -> None:
    with lake.lock(RUN):
        (Path(lake.address) / ".lock").write_text(content)
        with pytest.raises(LakeBusyError, match="another run writes"), lake.lock(NEXT):
            pass
