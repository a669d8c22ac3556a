from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from pipeline.records import Run, State
from pipeline.telemetry import bundle, reaper
from pipeline.telemetry.manifest import iso
from tests.telemetry.telemetry_support import stored


def dead(runs: Path, number: int = 1) -> Run:
    """A run that was killed in its second step: its lock file is there, and nobody holds it."""
    run = stored(runs, State.RUNNING, number=number)
    (run.bundle / bundle.LOCK).touch()
    return run


def test_a_run_whose_process_is_gone_is_closed(runs: Path):
    run = dead(runs)
    (found,) = reaper.reap(runs)
    record = found.manifest
    assert (found.id, found.state, record["state"], found.is_finished) == (str(run.id), State.LOST, "LOST", True)
    assert [step["state"] for step in record["steps"]] == ["COMPLETED", "LOST"]
    assert (record["failure"]["type"], record["failure"]["step"], record["steps"][1]["failure"]["type"]) == ("lost", "features", "lost")
    assert record["failure"]["hint"]
    assert record["reaped_at"] >= record["ended_at"]
    assert record["seconds"] >= record["steps"][1]["seconds"] >= 0
    assert not (run.bundle / bundle.LOCK).exists()


def test_it_ended_with_its_last_sign_of_life(runs: Path):
    run = dead(runs)
    last = run.started_ns + 5_000_000_000
    (run.bundle / bundle.TRACES).touch()
    (run.bundle / "report.html").touch()
    os.utime(run.bundle / bundle.MANIFEST, ns=(0, run.started_ns))
    os.utime(run.bundle / bundle.TRACES, ns=(0, last))
    (found,) = reaper.reap(runs)
    assert (found.manifest["ended_at"], found.manifest["seconds"]) == (iso(last), 5.0)


def test_what_it_had_published_is_not_denied(runs: Path):
    run = dead(runs)
    record = json.loads((run.bundle / bundle.MANIFEST).read_text())
    record["outputs"] = [{**output, "published": True} for output in record["outputs"]]
    bundle.write_json(run.bundle / bundle.MANIFEST, record)
    told: list[str] = []
    (found,) = reaper.reap(runs, closers=[lambda _path, _ended_ns, message: told.append(message)])
    assert record["outputs"]
    assert found.manifest["failure"]["hint"] == reaper.HINT_PUBLISHED
    assert told == [found.manifest["failure"]["message"]] == [reaper.MESSAGE_PUBLISHED]


def test_a_manifest_that_is_not_whole_is_told_and_keeps_nothing_from_being_closed(runs: Path, caplog: pytest.LogCaptureFixture):
    broken, good = dead(runs, number=2), dead(runs)
    record = json.loads((broken.bundle / bundle.MANIFEST).read_text())
    del record["steps"]
    bundle.write_json(broken.bundle / bundle.MANIFEST, record)
    with caplog.at_level(logging.WARNING):
        assert [found.id for found in reaper.reap(runs)] == [str(good.id)]
    assert "can't be closed" in caplog.text


def test_reaping_again_changes_nothing(runs: Path):
    run = dead(runs)
    reaper.reap(runs)
    before = (run.bundle / bundle.MANIFEST).read_bytes()
    assert reaper.reap(runs) == []
    assert (run.bundle / bundle.MANIFEST).read_bytes() == before


def test_living_and_finished_runs_and_newer_ones_are_left_alone(runs: Path):
    living = stored(runs, State.RUNNING, number=1)
    stored(runs, number=2)
    newer = dead(runs, number=3)
    with bundle.alive(living.bundle):
        assert reaper.reap(runs, before=newer.id) == []
        assert [found.id for found in reaper.reap(runs)] == [str(newer.id)]


def test_a_run_that_ended_and_then_died_stays_as_it_was(runs: Path):
    run = stored(runs)
    (run.bundle / bundle.LOCK).touch()
    assert reaper.reap(runs) == []
    assert bundle.read(run.bundle).state is State.COMPLETED
    assert not (run.bundle / bundle.LOCK).exists()


def test_a_run_that_died_before_its_first_manifest_is_no_run(runs: Path):
    run = dead(runs)
    (run.bundle / bundle.MANIFEST).unlink()
    assert reaper.reap(runs) == []


def test_what_else_has_to_be_closed_is_told_the_end_before_the_manifest_says_lost(runs: Path):
    run = dead(runs)
    told = []
    reaper.reap(runs, closers=[lambda path, ended_ns, message: told.append((path, iso(ended_ns), message, bundle.read(path).is_finished))])
    assert told == [(run.bundle, bundle.read(run.bundle).manifest["ended_at"], reaper.MESSAGE, False)]


def test_a_closer_that_fails_is_told_and_keeps_nothing_from_being_closed(runs: Path, caplog: pytest.LogCaptureFixture):
    def broken(path: Path, ended_ns: int, message: str) -> None:
        raise ConnectionError("refused")

    told = []
    dead(runs)
    with caplog.at_level(logging.WARNING):
        (found,) = reaper.reap(runs, closers=[broken, lambda *_: told.append(1)])
    assert (found.state, told) == (State.LOST, [1])
    assert "can't be closed: refused" in caplog.text


def test_two_reapers_at_once_close_each_run_once(runs: Path):
    for number in range(8):
        dead(runs, number)
    closed: list[str] = []
    found: list[bundle.Bundle] = []

    def close(path: Path, ended_ns: int, message: str) -> None:
        time.sleep(0.005)
        closed.append(path.name)

    reapers = [threading.Thread(target=lambda: found.extend(reaper.reap(runs, closers=[close]))) for _ in range(4)]
    for thread in reapers:
        thread.start()
    for thread in reapers:
        thread.join()
    assert len(closed) == len(set(closed)) == len(found) == 8


def test_a_run_is_shown_as_lost_also_while_it_is_being_closed(runs: Path):
    run = dead(runs)
    seen = []
    reaper.reap(runs, closers=[lambda *_: seen.append(bundle.read(run.bundle).state)])
    assert seen == [State.LOST]


def test_a_bundle_that_cannot_be_written_is_told_and_tried_again(runs: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    dead(runs)
    with monkeypatch.context() as patched:
        patched.setattr(bundle, "write_json", full)
        assert reaper.reap(runs) == []
    assert "No space left on device" in caplog.text
    assert len(reaper.reap(runs)) == 1
