"""A lake on S3: what is published, what is left alone, and who may write. On moto always, on versitygw where its program is."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.engine import lake_lease
from pipeline.engine.lake import Lake
from pipeline.errors import LakeBusyError, LakeError, UsageError
from pipeline.records import DatasetVersion
from tests.engine.s3_support import BUCKET, Answer, Proxy, client, files, objects, stamps

RUN = uuid.UUID("01990000-0000-7000-8000-000000000001")
NEXT = uuid.UUID("01990000-0000-7000-8000-000000000002")
ONE = {"silver/a": {"part-0000.parquet": b"one"}, "gold/b": {"a.svg": b"<a/>", "b.svg": b"<b/>", "empty.txt": b""}}


@pytest.fixture
def lake(s3: Proxy, prefix: str, tmp_path: Path) -> Lake:
    return Lake(f"s3://{BUCKET}/{prefix}", tmp_path / "staging")


def stage(lake: Lake, staging: Path, contents: dict[str, dict[str, bytes]]) -> dict[str, tuple[DatasetVersion, Path]]:
    staged = {}
    for dataset, named in contents.items():
        folder = staging / dataset
        folder.mkdir(parents=True)
        for name, content in named.items():
            (folder / name).write_bytes(content)
        staged[dataset] = (lake.seal(dataset, folder, rows=1), folder)
    return staged


def publish(lake: Lake, run: uuid.UUID, contents: dict[str, dict[str, bytes]]) -> dict[str, DatasetVersion]:
    with lake.lock(run), lake.staging(run) as staging:
        return lake.publish(run, stage(lake, staging, contents), now_ns=0)


def read(lake: Lake, dataset: str) -> dict[str, bytes]:
    with lake.opened(dataset) as found:
        return {path.name: path.read_bytes() for path in found}


# ---------------------------------------------------------------------------------------------- publishing


def test_what_is_published_is_read_again_with_its_facts(lake: Lake) -> None:
    publish(lake, RUN, ONE)
    entry = lake.current()["datasets"]["silver/a"]
    assert (entry["rows"], entry["bytes"], entry["run_id"]) == (1, 3, str(RUN))
    assert {dataset: read(lake, dataset) for dataset in ONE} == ONE


def test_the_objects_are_the_files_of_a_lake_in_a_folder_byte_for_byte(s3: Proxy, lake: Lake, prefix: str, tmp_path: Path) -> None:
    publish(lake, RUN, ONE)
    publish(Lake(str(tmp_path / "folder")), RUN, ONE)
    found = objects(s3.server, prefix)
    assert found.pop(".lock") == b""
    assert found == files(tmp_path / "folder")


def test_publishing_the_same_again_writes_nothing_but_the_lock(s3: Proxy, lake: Lake, prefix: str) -> None:
    publish(lake, RUN, ONE)
    before = stamps(s3.server, prefix)
    s3.seen.clear()
    again = publish(lake, NEXT, ONE)
    assert {version.changed for version in again.values()} == {False}
    assert s3.puts() == []
    assert stamps(s3.server, prefix) == before


def test_a_new_version_leaves_the_old_one_and_other_datasets_as_they_were(lake: Lake, s3: Proxy, prefix: str) -> None:
    old = publish(lake, RUN, ONE)["silver/a"]
    before = stamps(s3.server, prefix)
    assert publish(lake, NEXT, {"silver/a": {"part-0000.parquet": b"two"}})["silver/a"].changed
    after = stamps(s3.server, prefix)
    assert {key for key in before if after[key] != before[key]} == {f"{prefix}/current.json"}
    assert objects(s3.server, prefix)[f"{old.path}/part-0000.parquet"] == b"one"
    assert read(lake, "silver/a") == {"part-0000.parquet": b"two"}


def test_a_version_that_lost_an_object_is_made_whole_again(lake: Lake, s3: Proxy, prefix: str) -> None:
    lost = publish(lake, RUN, ONE)["gold/b"]
    client(s3.server).delete_object(Bucket=BUCKET, Key=f"{prefix}/{lost.path}/b.svg")
    again = publish(lake, NEXT, ONE)
    assert {dataset: version.changed for dataset, version in again.items()} == {"silver/a": False, "gold/b": True}
    assert read(lake, "gold/b") == ONE["gold/b"]


def test_objects_that_a_killed_run_uploaded_are_not_uploaded_again_but_half_ones_are(lake: Lake, s3: Proxy, prefix: str) -> None:
    with lake.lock(RUN), lake.staging(RUN) as staging:
        staged = stage(lake, staging, ONE)
        lake.bring(staged)
    half = f"{prefix}/{staged['silver/a'][0].path}/part-0000.parquet"
    client(s3.server).put_object(Bucket=BUCKET, Key=half, Body=b"on")
    s3.seen.clear()
    publish(lake, NEXT, ONE)
    assert s3.puts() == [half, f"{prefix}/current.json"]


def test_a_lake_may_be_a_whole_bucket(s3: Proxy, tmp_path: Path) -> None:
    whole = Lake(f"s3://{BUCKET}", tmp_path / "staging")
    publish(whole, RUN, ONE)
    assert read(whole, "silver/a") == {"part-0000.parquet": b"one"}
    s3_client = client(s3.server)
    for key in [".lock", "current.json"]:
        s3_client.delete_object(Bucket=BUCKET, Key=key)


def test_nothing_of_a_run_is_left_on_this_machine(lake: Lake, tmp_path: Path) -> None:
    publish(lake, RUN, ONE)
    read(lake, "silver/a")
    assert [path.name for path in (tmp_path / "staging").rglob("*") if path.is_file()] == [".lock"]


def test_published_files_are_on_this_machine_until_the_lock_is_released(lake: Lake) -> None:
    with lake.lock(RUN):
        with lake.staging(RUN) as staging:
            published = lake.publish(RUN, stage(lake, staging, ONE), now_ns=0)
        assert (lake.files_of(RUN) / published["gold/b"].path / "a.svg").read_bytes() == b"<a/>"
    assert not lake.files_of(RUN).exists()


def test_a_dataset_that_is_not_there_is_named_with_those_that_are(lake: Lake) -> None:
    publish(lake, RUN, ONE)
    with pytest.raises(UsageError) as caught, lake.opened("silver/b"):
        pass
    assert "silver/a" in caught.value.hint


def test_a_version_whose_objects_are_gone_is_a_clear_error(lake: Lake, s3: Proxy, prefix: str) -> None:
    gone = publish(lake, RUN, ONE)["silver/a"]
    client(s3.server).delete_object(Bucket=BUCKET, Key=f"{prefix}/{gone.path}/part-0000.parquet")
    with pytest.raises(LakeError, match="is not there"), lake.opened("silver/a"):
        pass


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"datasets": {"silver/a": {}}}'])
def test_current_json_that_is_something_else_is_a_clear_error(moto_s3: Proxy, prefix: str, tmp_path: Path, content: bytes) -> None:
    client(moto_s3.server).put_object(Bucket=BUCKET, Key=f"{prefix}/current.json", Body=content)
    with pytest.raises(LakeError) as caught:
        Lake(f"s3://{BUCKET}/{prefix}", tmp_path).current()
    assert "restore it" in caught.value.hint


# ---------------------------------------------------------------------------------------------- one writer


def test_the_second_writer_is_refused_and_told_who_holds_the_lake(lake: Lake) -> None:
    with lake.lock(RUN), pytest.raises(LakeBusyError) as caught, Lake(lake.address).lock(NEXT):
        pass
    assert str(RUN) in caught.value.message
    assert f"process {os.getpid()} on " in caught.value.message


def test_a_writer_that_waits_gets_the_lake_when_it_is_free(lake: Lake) -> None:
    got = threading.Event()
    with lake.lock(RUN):
        thread = threading.Thread(target=lambda: _hold(Lake(lake.address), got))
        thread.start()
        assert not got.wait(0.3)
    thread.join(10)
    assert got.is_set()


def _hold(lake: Lake, got: threading.Event) -> None:
    with lake.lock(NEXT, wait=10):
        got.set()


HOLD = """
import sys, time, uuid
from pipeline.engine.lake import Lake
with Lake(sys.argv[1]).lock(uuid.UUID(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(lake: Lake) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen([sys.executable, "-c", HOLD, lake.address, str(RUN)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield other
        finally:
            other.kill()


def test_the_lock_of_a_killed_process_of_this_machine_is_free_at_once(lake: Lake, s3: Proxy, prefix: str) -> None:
    with held_elsewhere(lake) as other:
        with pytest.raises(LakeBusyError), lake.lock(NEXT):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
        with lake.lock(NEXT):
            assert json.loads(objects(s3.server, prefix)[".lock"])["run_id"] == str(NEXT)


@pytest.mark.slow
def test_a_lock_of_another_machine_ends_when_nobody_writes_it_any_more(lake: Lake, s3: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gone_here = 4_194_303  # there is hardly such a process on this machine, which says nothing about the other
    told = {"run_id": str(RUN), "pid": gone_here, "host": "elsewhere", "machine": "another", "since": "2026-11-21T00:00:00Z"}
    client(s3.server).put_object(Bucket=BUCKET, Key=f"{prefix}/.lock", Body=json.dumps(told).encode())
    with pytest.raises(LakeBusyError, match="process 4194303 on elsewhere"), lake.lock(NEXT):
        pass
    monkeypatch.setattr(lake_lease, "LEASE_SECONDS", 2.0)
    with lake.lock(NEXT, wait=20):
        assert json.loads(objects(s3.server, prefix)[".lock"])["run_id"] == str(NEXT)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"run_id": "x"}', b"null"])
def test_a_lake_is_busy_whatever_its_holder_wrote(moto_s3: Proxy, prefix: str, tmp_path: Path, content: bytes) -> None:
    client(moto_s3.server).put_object(Bucket=BUCKET, Key=f"{prefix}/.lock", Body=content)
    with pytest.raises(LakeBusyError, match="another run writes"), Lake(f"s3://{BUCKET}/{prefix}", tmp_path).lock(NEXT):
        pass


def test_who_holds_the_lock_writes_it_again_and_again(lake: Lake, s3: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_lease, "BEAT_SECONDS", 0.05)
    with lake.lock(RUN):
        _until(lambda: json.loads(objects(s3.server, prefix)[".lock"])["beat"] >= 3)
        lake.check()
        s3.rule = lambda asked: Answer(None, done_first=True) if asked.condition == "update" and len(s3.seen) % 2 else None
        time.sleep(0.3)
        s3.rule = lambda _: None
        publish_held(lake, ONE)  # answers that were lost cost no lock
    assert objects(s3.server, prefix)[".lock"] == b""


def publish_held(lake: Lake, contents: dict[str, dict[str, bytes]]) -> dict[str, DatasetVersion]:
    with lake.staging(RUN) as staging:
        return lake.publish(RUN, stage(lake, staging, contents), now_ns=0)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def take_over(s3: Proxy, prefix: str) -> None:
    told = {"run_id": str(NEXT), "pid": 1, "host": "elsewhere", "machine": "another", "since": "2026-11-21T00:00:00Z"}
    client(s3.server).put_object(Bucket=BUCKET, Key=f"{prefix}/.lock", Body=json.dumps(told).encode())


def test_a_run_that_lost_the_lock_publishes_nothing(lake: Lake, s3: Proxy, prefix: str) -> None:
    publish(lake, RUN, ONE)
    before = stamps(s3.server, prefix)
    with lake.lock(RUN):
        take_over(s3, prefix)
        with pytest.raises(LakeError, match="another run has taken the lake"):
            publish_held(lake, {"silver/a": {"part-0000.parquet": b"late"}})
    after = stamps(s3.server, prefix)
    assert after[f"{prefix}/current.json"] == before[f"{prefix}/current.json"]
    assert json.loads(objects(s3.server, prefix)[".lock"])["run_id"] == str(NEXT)  # which is not freed for the other


def test_a_run_that_lost_the_lock_learns_it_between_its_steps(lake: Lake, s3: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_lease, "BEAT_SECONDS", 0.05)
    with lake.lock(RUN):
        take_over(s3, prefix)
        _until(lambda: _raises(lake.check))


def _raises(call: Callable[[], None]) -> bool:
    try:
        call()
    except LakeError:
        return True
    return False


def test_what_another_run_published_meanwhile_is_not_overwritten(lake: Lake, s3: Proxy, prefix: str) -> None:
    publish(lake, RUN, ONE)
    with lake.lock(RUN):
        other = json.dumps({"run_id": str(NEXT), "published_at": None, "datasets": {}}).encode()
        client(s3.server).put_object(Bucket=BUCKET, Key=f"{prefix}/current.json", Body=other)
        with pytest.raises(LakeError, match="was replaced meanwhile"):
            publish_held(lake, {"silver/a": {"part-0000.parquet": b"late"}})
    assert objects(s3.server, prefix)["current.json"] == other


def test_the_first_publication_of_another_run_is_not_overwritten_either(lake: Lake, s3: Proxy, prefix: str) -> None:
    with lake.lock(RUN):
        other = json.dumps({"run_id": str(NEXT), "published_at": None, "datasets": {}}).encode()
        client(s3.server).put_object(Bucket=BUCKET, Key=f"{prefix}/current.json", Body=other)
        with pytest.raises(LakeError, match="was replaced meanwhile"):
            publish_held(lake, ONE)
    assert objects(s3.server, prefix)["current.json"] == other


def test_a_publication_whose_answer_was_lost_is_one(lake: Lake, s3: Proxy) -> None:
    lost = iter([Answer(None, done_first=True)])
    s3.rule = lambda asked: next(lost, None) if asked.key.endswith("current.json") and asked.method == "PUT" else None
    assert publish(lake, RUN, ONE)["silver/a"].changed
    assert lake.current()["run_id"] == str(RUN)


def test_of_many_writers_at_once_one_gets_the_lake(versitygw: str, lake: Lake, s3_server: str) -> None:
    if s3_server != versitygw:
        pytest.skip("moto's conditional writes are not atomic")
    start, held, done = threading.Barrier(8), [], threading.Event()

    def try_it(number: int) -> None:
        start.wait()
        try:
            with Lake(lake.address).lock(uuid.UUID(int=number + 1)):
                held.append(number)
                done.wait(10)
        except LakeBusyError:
            pass
        if not held or number not in held:
            losers.release()

    losers = threading.Semaphore(0)
    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(7):
        assert losers.acquire(timeout=20)
    done.set()
    for thread in threads:
        thread.join()
    assert len(held) == 1
