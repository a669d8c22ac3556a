"""Whole runs with a lake on S3, and what becomes of them when S3 is away, slow, busy or refuses."""

import json
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline import api
from pipeline.engine import lake_lease, s3_objects
from pipeline.engine.lake import Lake
from pipeline.engine.runner import Order, execute, exit_code
from pipeline.errors import LakeError, UsageError
from pipeline.records import Run, State, StepRun
from pipeline.settings import load
from tests.engine.engine_support import Go, write_source
from tests.engine.s3_support import (
    BUCKET,
    KEY_ID,
    SECRET,
    TOKEN,
    Answer,
    Proxy,
    Request,
    client,
    credentials,
    files,
    impatient,
    objects,
    person,
    policies_held,
    stamps,
    uploads,
)

pytestmark = pytest.mark.slow
VERSION = "silver/a/" + 64 * "0"


def published(run: Run) -> bool:
    return (run.state, exit_code(run)) == (State.COMPLETED, 0)


def refused(run: Run, words: str) -> None:
    assert (run.state, exit_code(run), run.published) == (State.FAILED, 1, {})
    assert run.failure is not None
    assert run.failure.type == "lake"
    assert words in run.failure.message
    assert run.failure.hint
    assert json.loads((run.bundle / "manifest.json").read_text())["failure"]["message"] == run.failure.message


# ---------------------------------------------------------------------------------------------- a run


def test_a_run_publishes_on_s3_what_it_publishes_in_a_folder_byte_for_byte(go: Go, app: Path, s3: Proxy, prefix: str) -> None:
    write_source(app, "weight", "weight_kg", [(f"P{i}", 1, 70) for i in range(9)] + [("P9", 1, 900)])  # one row goes to quarantine
    assert published(go())
    assert published(go(lake=f"s3://{BUCKET}/{prefix}"))
    ours, theirs = files(app / "lake"), objects(s3.server, prefix)
    assert theirs.pop(".lock") == b""
    one, other = (json.loads(each.pop("current.json")) for each in (ours, theirs))
    assert theirs == ours
    assert {name: (entry["version"], entry["path"]) for name, entry in one["datasets"].items()} == {
        name: (entry["version"], entry["path"]) for name, entry in other["datasets"].items()
    }
    assert any(name.startswith("quarantine/bronze/weight/") for name in theirs)


def test_the_same_input_again_writes_nothing_but_the_lock(go: Go, s3: Proxy, prefix: str) -> None:
    lake = f"s3://{BUCKET}/{prefix}"
    assert published(go(lake=lake))
    before = stamps(s3.server, prefix)
    s3.seen.clear()
    run = go(lake=lake)
    assert {version.changed for version in run.published.values()} == {False}
    assert s3.puts() == []
    assert stamps(s3.server, prefix) == before


def test_tables_are_read_from_s3(go: Go, s3: Proxy, prefix: str) -> None:
    go(lake=f"s3://{BUCKET}/{prefix}")
    assert len(api.read("bronze/weight", lake=f"s3://{BUCKET}/{prefix}")) == 10
    with pytest.raises(UsageError) as caught:
        api.read("gold/words", lake=f"s3://{BUCKET}/{prefix}")
    assert f"s3://{BUCKET}/{prefix}/gold/words/" in caught.value.hint


def test_lineage_calls_datasets_by_bucket_and_key_and_input_files_by_the_lakes_name(go: Go, moto_s3: Proxy, prefix: str) -> None:
    run = go(lake=f"s3://{BUCKET}/{prefix}")
    events = [json.loads(line) for line in (run.bundle / "lineage.ndjson").read_text().splitlines()]
    datasets = {(each["namespace"], each["name"]): each for event in events for each in (*event["inputs"], *event["outputs"])}
    assert {place for place in datasets if "/input/" not in f"/{place[1]}"} == {
        (f"s3://{BUCKET}", f"{prefix}/{name}") for name in ("bronze/weight", "bronze/food", "silver/features", "gold/total", "gold/words")
    }
    assert {place for place in datasets if "input/" in place[1]} == {("file://small", "input/weight"), ("file://small", "input/food")}
    features = [each for event in events for each in event["outputs"] if each["name"].endswith("/silver/features")][-1]
    assert features["facets"]["dataSource"]["uri"] == f"s3://{BUCKET}"
    inputs = {(each["namespace"], each["name"]) for field in features["facets"]["columnLineage"]["fields"].values() for each in field["inputFields"]}
    assert inputs == {(f"s3://{BUCKET}", f"{prefix}/bronze/weight"), (f"s3://{BUCKET}", f"{prefix}/bronze/food")}


def test_the_report_and_the_manifest_name_the_lake(go: Go, moto_s3: Proxy, prefix: str) -> None:
    run = go(lake=f"s3://{BUCKET}/{prefix}/")
    assert json.loads((run.bundle / "manifest.json").read_text())["lake"]["address"] == f"s3://{BUCKET}/{prefix}"
    assert f"s3://{BUCKET}/{prefix}" in (run.bundle / "report.html").read_text()


def test_a_run_that_finds_the_lake_held_ends_with_its_own_code(go: Go, moto_s3: Proxy, prefix: str, tmp_path: Path) -> None:
    with Lake(f"s3://{BUCKET}/{prefix}").lock(uuid.uuid4()):
        run = go(lake=f"s3://{BUCKET}/{prefix}")
    assert (run.state, exit_code(run)) == (State.FAILED, 4)
    assert run.failure is not None
    assert run.failure.type == "lake_busy"


def test_without_the_libraries_a_run_does_not_begin(go: Go, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match="obstore is not installed") as caught:
        go(lake=f"s3://{BUCKET}/x")
    assert "make setup.aws" in caught.value.hint
    assert not (app / "runs").exists()


class Takeover:
    """Takes the lock away while a step goes on, and ends the step when the run has noticed."""

    signal = "takeover"

    def __init__(self, server: str, key: str, noticed: threading.Event) -> None:
        self._server, self._key, self._noticed = server, key, noticed

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        yield

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:
        if step.step.name == "food":
            told = {"run_id": str(uuid.uuid4()), "pid": 1, "host": "elsewhere", "machine": "another", "since": "2026-11-21T00:00:00Z"}
            client(self._server).put_object(Bucket=BUCKET, Key=self._key, Body=json.dumps(told).encode())
            self._noticed.wait(30)
        yield


def test_a_run_that_loses_the_lock_ends_before_its_next_step(app: Path, moto_s3: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(app)
    monkeypatch.syspath_prepend(str(app))
    sys.modules.pop("small_app", None)
    monkeypatch.setattr(lake_lease, "BEAT_SECONDS", 0.05)
    settings = load(lake=f"s3://{BUCKET}/{prefix}", tracking="off", app="small_app:PIPELINE")
    noticed, write = threading.Event(), lake_lease.Lease._write

    def write_and_tell(lease: lake_lease.Lease) -> None:
        write(lease)
        if lease._lost:
            noticed.set()

    monkeypatch.setattr(lake_lease.Lease, "_write", write_and_tell)
    hook = Takeover(moto_s3.server, f"{prefix}/.lock", noticed)
    run = execute(api.load_app(settings.app), settings, Order(hooks=[hook]))
    assert noticed.is_set()
    refused(run, "another run has taken the lake")
    assert [step.step.name for step in run.steps] == ["weight", "food"]


# ---------------------------------------------------------------------------------------------- away, busy, refusing

EVERY = [
    pytest.param(Answer(403, "AccessDenied"), "access is denied (403 AccessDenied)", id="denied"),
    pytest.param(Answer(400, "ExpiredToken"), "the credentials have expired (400 ExpiredToken)", id="expired"),
    pytest.param(Answer(403, "InvalidAccessKeyId"), "the credentials are refused", id="unknown key"),
    pytest.param(Answer(404, "NoSuchBucket"), "there is no such bucket", id="no bucket"),
    pytest.param(Answer(404), "it refuses (404)", id="404 of something else"),
    pytest.param(Answer(301, "PermanentRedirect"), "the bucket is in another region", id="region"),
    pytest.param(Answer(503, "SlowDown"), "it is too busy (503 SlowDown)", id="busy"),
    pytest.param(Answer(500, "InternalError"), "it is too busy (500 InternalError)", id="fault"),
    pytest.param(Answer(501, "NotImplemented"), "it can't write under a condition", id="no conditions"),
    pytest.param(Answer(None), "there is no connection", id="cut off"),
    pytest.param(Answer(None, seconds=30), "there is no answer in time", id="black hole"),
]


def holds_no_secret(run: Run, captured: str) -> None:
    texts = {path.name: path.read_text(errors="replace") for path in run.bundle.rglob("*") if path.is_file()} | {"output": captured}
    for name, text in texts.items():
        assert not [secret for secret in (SECRET, KEY_ID, TOKEN) if secret in text], name


@pytest.mark.parametrize(("answer", "words"), EVERY)
def test_a_run_that_finds_no_lake_fails_clearly_and_the_next_one_mends_it(
    go: Go, moto_s3: Proxy, prefix: str, answer: Answer, words: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    moto_s3.rule = lambda _: answer
    started = time.monotonic()
    with impatient():
        run = go(lake=f"s3://{BUCKET}/{prefix}")
    assert time.monotonic() - started < 15
    refused(run, words)
    assert run.steps == []
    assert {asked.token for asked in moto_s3.seen} == {TOKEN}
    output = capfd.readouterr()
    holds_no_secret(run, output.out + output.err)
    moto_s3.rule = lambda _: None
    assert published(go(lake=f"s3://{BUCKET}/{prefix}"))


@pytest.mark.parametrize(
    ("what", "answer", "words"),
    [
        pytest.param("a version", Answer(503, "SlowDown"), "it is too busy", id="uploads busy"),
        pytest.param("current.json", Answer(403, "AccessDenied"), "access is denied", id="current.json denied"),
        pytest.param("a version", Answer(400, "ExpiredToken"), "have expired", id="uploads expired"),
        pytest.param("a version", Answer(None), "there is no connection", id="uploads cut off"),
        pytest.param("a version", Answer(None, seconds=30), "no answer in time", id="uploads in a black hole"),
        pytest.param("current.json", Answer(None), "there is no connection", id="current.json cut off"),
        pytest.param("current.json", Answer(503, "SlowDown"), "it is too busy", id="current.json busy"),
    ],
)
def test_a_run_that_can_not_publish_leaves_what_is_current_and_the_next_one_mends_it(
    go: Go, app: Path, moto_s3: Proxy, prefix: str, answer: Answer, words: str, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    lake = f"s3://{BUCKET}/{prefix}"
    assert published(go(lake=lake))
    before = objects(moto_s3.server, prefix)
    write_source(app, "weight", "weight_kg", [(f"P{i}", i % 2 + 1, 60 + i) for i in range(10)])
    moto_s3.rule = lambda asked: answer if asked.method == "PUT" and _is(what, asked) else None
    with impatient():
        run = go(lake=lake)
    refused(run, words)
    assert len(run.steps) == 5
    output = capfd.readouterr()
    holds_no_secret(run, output.out + output.err)
    after = objects(moto_s3.server, prefix)
    assert {path: after[path] for path in before if path != ".lock"} == {path: content for path, content in before.items() if path != ".lock"}
    moto_s3.rule = lambda _: None
    assert published(go(lake=lake))
    assert objects(moto_s3.server, prefix)["current.json"] != before["current.json"]


def _is(what: str, asked: Request) -> bool:
    return asked.key.endswith("/current.json") if what == "current.json" else "/silver/" in asked.key


def test_a_busy_s3_is_asked_again_until_it_has_time(go: Go, moto_s3: Proxy, prefix: str) -> None:
    turns: dict[tuple[str, str], int] = {}

    def busy_twice(asked: Request) -> Answer | None:
        turns[asked.method, asked.key] = turns.get((asked.method, asked.key), 0) + 1
        return Answer(503, "SlowDown") if turns[asked.method, asked.key] <= 2 and asked.method == "PUT" else None

    moto_s3.rule = busy_twice
    assert published(go(lake=f"s3://{BUCKET}/{prefix}"))
    assert max(turns.values()) >= 3


def test_an_endpoint_where_nobody_listens_and_one_without_a_name_fail_the_run(go: Go, monkeypatch: pytest.MonkeyPatch, moto_s3: Proxy) -> None:
    for endpoint in ("http://127.0.0.1:1", "http://nowhere.invalid"):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)  # which wins over AWS_ENDPOINT_URL
        with impatient():
            refused(go(lake=f"s3://{BUCKET}/x"), f"at {endpoint}: there is no connection")


def test_a_bucket_that_is_not_there_is_no_empty_lake(s3: Proxy, tmp_path: Path) -> None:
    lake = Lake("s3://goldtrace-nowhere/x", tmp_path)
    for call in (lake.current, lake.lock(uuid.uuid4()).__enter__):
        with pytest.raises(LakeError, match="there is no such bucket"):
            call()


def test_without_credentials_the_run_says_so(go: Go, monkeypatch: pytest.MonkeyPatch, moto_s3: Proxy) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    refused(go(lake=f"s3://{BUCKET}/x"), "there are no AWS credentials")


def test_a_profile_gives_credentials_region_and_endpoint(go: Go, monkeypatch: pytest.MonkeyPatch, moto_s3: Proxy, prefix: str, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(
        f"[profile study]\naws_access_key_id={KEY_ID}\naws_secret_access_key={SECRET}\nregion=eu-north-1\nservices=here\n"
        f"[services here]\ns3 =\n  endpoint_url = {moto_s3.endpoint}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "study")
    assert published(go(lake=f"s3://{BUCKET}/{prefix}"))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    refused(go(lake=f"s3://{BUCKET}/{prefix}"), "ProfileNotFound")


@pytest.mark.usefixtures("versitygw")
def test_a_real_server_refuses_a_wrong_secret(go: Go, monkeypatch: pytest.MonkeyPatch, versitygw: str, moto_s3: Proxy) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", versitygw)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    refused(go(lake=f"s3://{BUCKET}/x"), "the credentials are refused (403 SignatureDoesNotMatch)")


# ---------------------------------------------------------------------------------------------- large files


@pytest.fixture
def objects_of(tmp_path: Path) -> Callable[[str], s3_objects.Objects]:
    def make(prefix: str) -> s3_objects.Objects:
        from pipeline.lake_address import S3Address

        return s3_objects.Objects(S3Address(BUCKET, prefix))

    return make


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "part-0000.parquet"
    file.write_bytes(os.urandom(20_000_001))
    return file


def test_a_large_file_goes_up_in_parts_and_comes_back_whole(
    s3: Proxy, prefix: str, large: Path, tmp_path: Path, objects_of: Callable[[str], s3_objects.Objects]
) -> None:
    there = objects_of(prefix)
    there.upload(f"{VERSION}/x", large, threading.Event())
    assert len([asked for asked in s3.seen if "partNumber" in asked.query]) == 4
    there.download(f"{VERSION}/x", 20_000_001, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    assert uploads(s3.server, prefix) == []


@pytest.mark.parametrize("answer", [Answer(403, "AccessDenied"), Answer(None), Answer(503, "SlowDown")])
def test_an_upload_that_breaks_leaves_no_parts(s3: Proxy, prefix: str, tmp_path: Path, large: Path, answer: Answer) -> None:
    s3.rule = lambda asked: answer if "partNumber=2" in asked.query else None
    lake = Lake(f"s3://{BUCKET}/{prefix}", tmp_path / "staging")
    run = uuid.uuid4()
    with lake.lock(run), lake.staging(run) as staging:
        (staging / "a").mkdir()
        large.rename(staging / "a" / large.name)
        with pytest.raises(LakeError):
            lake.publish(run, {"silver/a": (lake.seal("silver/a", staging / "a", rows=1), staging / "a")}, now_ns=0)
        assert [asked for asked in s3.seen if "partNumber" in asked.query]
        assert uploads(s3.server, prefix) == []
        assert lake.current()["datasets"] == {}


def test_parts_that_a_killed_run_left_go_with_the_next_and_others_stay(s3: Proxy, go: Go, prefix: str) -> None:
    s3_client = client(s3.server)
    other = f"{prefix}/holiday.mp4"
    others = [s3_client.create_multipart_upload(Bucket=BUCKET, Key=key) for key in (f"{prefix}/{VERSION}/part-0000.parquet", other)]
    assert published(go(lake=f"s3://{BUCKET}/{prefix}"))
    assert uploads(s3.server, prefix) == [other]
    s3_client.abort_multipart_upload(Bucket=BUCKET, Key=other, UploadId=others[1]["UploadId"])


def test_an_upload_that_is_told_to_stop_does_so_soon(moto_s3: Proxy, prefix: str, large: Path, objects_of: Callable[[str], s3_objects.Objects]) -> None:
    stop = threading.Event()

    def stop_at_the_first_part(asked: Request) -> None:
        if "partNumber" in asked.query:
            stop.set()

    moto_s3.rule = stop_at_the_first_part
    there = objects_of(prefix)
    large.write_bytes(large.read_bytes() * 3)
    with pytest.raises(s3_objects.StoppedError):
        there.upload(f"{VERSION}/x", large, stop)
    assert len([asked for asked in moto_s3.seen if "partNumber" in asked.query]) < 8
    assert uploads(moto_s3.server, prefix) == []


# ---------------------------------------------------------------------------------------------- permissions


def test_the_policy_of_the_documents_is_enough_and_nothing_of_it_is_too_much(monkeypatch: pytest.MonkeyPatch, moto: str, root: Path, tmp_path: Path) -> None:
    text = (root / "docs" / "aws.md").read_text()
    policy = json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0].replace("my-bucket", BUCKET).replace("study", "policy"))
    actions = [action for statement in policy["Statement"] for action in statement["Action"]]
    people = {without: person(moto, _less(policy, without)) for without in (None, *actions)}
    for without, (key_id, secret) in people.items():
        client(moto).create_multipart_upload(Bucket=BUCKET, Key=f"policy/{VERSION}/x")  # somebody's that was killed
        for name, value in credentials(moto, AWS_ACCESS_KEY_ID=key_id, AWS_SECRET_ACCESS_KEY=secret).items():
            monkeypatch.setenv(name, value)
        with policies_held(moto):
            words = _denied(tmp_path / f"{without}")
        assert words == "" if without is None else "denied" in words.lower(), (without, words)


def _less(policy: dict[str, Any], action: str | None) -> dict[str, Any]:
    return {**policy, "Statement": [{**each, "Action": [name for name in each["Action"] if name != action] or ["s3:None"]} for each in policy["Statement"]]}


def _denied(staging: Path) -> str:
    lake, run = Lake(f"s3://{BUCKET}/policy", staging), uuid.uuid4()
    try:
        with lake.lock(run), lake.staging(run) as folder:
            (folder / "a").mkdir()
            (folder / "a" / "x").write_bytes(run.bytes)
            lake.publish(run, {"silver/a": (lake.seal("silver/a", folder / "a", rows=1), folder / "a")}, now_ns=0)
        with lake.opened("silver/a") as files:
            assert files[0].read_bytes() == run.bytes
    except LakeError as error:
        return error.message
    return ""
