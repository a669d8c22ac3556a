from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import Run, State
from pipeline.telemetry import bundle, reaper
from tests.telemetry.telemetry_support import killed, published, reap_again


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
    assert (told["eventName"], told["traceId"], told["severityText"]) == ("run.finished", run.id.hex, "WARN")
    facts = told["attributes"]
    assert (facts["event.name"], facts["goldtrace.run.state"], facts["error.type"]) == ("run.finished", "LOST", "lost")
    assert (facts["goldtrace.run.seconds"], facts["exception.message"]) == (found.manifest["seconds"], found.manifest["failure"]["message"])


def test_what_it_had_published_is_not_denied_in_its_log(runs: Path):
    run = killed(runs)
    published(run)
    reaper.reap(runs)
    facts = last(run)["attributes"]
    assert (facts["goldtrace.run.gate"], facts["exception.message"]) == ("YELLOW", reaper.MESSAGE_PUBLISHED)


def test_it_is_dated_with_the_last_sign_of_life(runs: Path):
    run = killed(runs)
    sign = 1_900_000_000_000_000_000
    os.utime(run.bundle / bundle.LOGS, ns=(0, sign))
    reaper.reap(runs)
    assert last(run)["timeUnixNano"] == str(sign)


def test_half_a_line_gives_way_to_it(runs: Path):
    run = killed(runs, cut_off=b'{"resourceLogs":[{"resou')
    reaper.reap(runs)
    assert [len(records(run)), last(run)["eventName"]] == [2, "run.finished"]


def test_it_is_said_once_whoever_comes_again(runs: Path):
    run = killed(runs)
    before = (run.bundle / bundle.MANIFEST).read_bytes()
    reaper.reap(runs)
    reap_again(run)
    (run.bundle / bundle.MANIFEST).write_bytes(before)
    (run.bundle / bundle.LOCK).touch()
    reaper.reap(runs)
    assert len(records(run)) == 2


@pytest.mark.parametrize("content", [b"", b"not json\n"])
def test_a_log_that_says_nothing_is_added_to(runs: Path, content: bytes):
    run = killed(runs)
    log = run.bundle / bundle.LOGS
    log.write_bytes(content)
    (found,) = reaper.reap(runs)
    assert found.state is State.LOST
    assert log.read_bytes().startswith(content + b'{"resourceLogs":[{"resource":{"attributes":[{"key":"goldtrace.run.id"')
