from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import Run, State
from pipeline.telemetry import bundle, reaper
from pipeline.telemetry.logs import LogsHook
from tests.telemetry.telemetry_support import stored


def killed(runs: Path, *, cut_off: bytes = b"") -> Run:
    """A run that was killed after its first words, perhaps in the middle of a line."""
    run = stored(runs, State.RUNNING)
    (run.bundle / bundle.LOCK).touch()
    with LogsHook(terminal_level="error").run(run):
        pass
    log = run.bundle / bundle.LOGS
    first = log.read_bytes().splitlines(keepends=True)[0]
    log.write_bytes(first + cut_off)
    return run


def records(run: Run) -> list[dict[str, Any]]:
    """The log's lines, each of which has one record."""
    lines = [json.loads(line) for line in (run.bundle / bundle.LOGS).read_text("utf-8").splitlines()]
    return [line["resourceLogs"][0] for line in lines]


def last(run: Run) -> dict[str, Any]:
    """The last record, its attributes as a plain mapping of their texts."""
    record = records(run)[-1]["scopeLogs"][0]["logRecords"][0]
    return {**record, "attributes": {each["key"]: next(iter(each["value"].values())) for each in record["attributes"]}}


def test_a_lost_run_says_so_in_its_log_as_the_very_run_that_began(runs: Path):
    run = killed(runs)
    (found,) = reaper.reap(runs)
    started, finished = records(run)
    assert (finished["resource"], finished["scopeLogs"][0]["scope"]) == (started["resource"], started["scopeLogs"][0]["scope"])
    told = last(run)
    assert (told["eventName"], told["traceId"]) == ("run.finished", run.id.hex)
    facts = told["attributes"]
    assert (facts["event.name"], facts["goldtrace.run.state"], facts["error.type"]) == ("run.finished", "LOST", "lost")
    assert (facts["goldtrace.run.seconds"], facts["exception.message"]) == (found.manifest["seconds"], found.manifest["failure"]["message"])


def test_it_is_dated_with_the_last_sign_of_life_which_stays_one(runs: Path):
    run = killed(runs)
    log = run.bundle / bundle.LOGS
    sign = 1_900_000_000_000_000_000
    os.utime(log, ns=(0, sign))
    reaper.reap(runs)
    assert (last(run)["timeUnixNano"], log.stat().st_mtime_ns) == (str(sign), sign)


def test_half_a_line_gives_way_to_it(runs: Path):
    run = killed(runs, cut_off=b'{"resourceLogs":[{"resou')
    reaper.reap(runs)
    assert [len(records(run)), last(run)["eventName"]] == [2, "run.finished"]


def test_it_is_said_once_also_when_the_manifest_could_not_be_written(runs: Path):
    run = killed(runs)
    before = (run.bundle / bundle.MANIFEST).read_bytes()
    reaper.reap(runs)
    (run.bundle / bundle.MANIFEST).write_bytes(before)
    (run.bundle / bundle.LOCK).touch()
    reaper.reap(runs)
    assert len(records(run)) == 2


@pytest.mark.parametrize("content", [None, b"", b"not json\n"])
def test_a_log_that_is_not_there_or_not_ours_keeps_no_run_from_being_closed(runs: Path, content: bytes | None):
    run = killed(runs)
    log = run.bundle / bundle.LOGS
    log.unlink() if content is None else log.write_bytes(content)
    (found,) = reaper.reap(runs)
    assert found.state is State.LOST
    assert (log.read_bytes() if log.exists() else None) == content
