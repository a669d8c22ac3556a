from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.records import Run
from pipeline.report.logs import read_log
from tests.report.report_support import LogLine, log_json, write_bundle

MakeRun = Callable[..., Run]


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    run = make_run()
    write_bundle(run)
    return run


def write_lines(run: Run, lines: list[LogLine]) -> Path:
    path = run.bundle / "logs.jsonl"
    path.write_text("".join(log_json(run, line) + "\n" for line in lines), "utf-8")
    return path


def test_a_record_is_read_with_its_level_step_event_and_facts(run: Run) -> None:
    write_lines(run, [LogLine(1500, 13, "models", "check.evaluated", "a rule broke", (("goldtrace.check.rows", 7), ("ok", True), ("part", 0.25)))])
    log = read_log(run.bundle)
    assert log
    (entry,) = log.entries
    assert (entry.level, entry.step, entry.event, entry.message) == ("warning", "models", "check.evaluated", "a rule broke")
    assert entry.facts == (("check.rows", "7"), ("ok", "yes"), ("part", "0.25"))
    assert entry.at.isoformat() == "2026-11-03T06:00:01.500000+00:00"


def test_a_run_without_telemetry_has_no_log(run: Run) -> None:
    (run.bundle / "logs.jsonl").unlink()
    assert read_log(run.bundle) is None


def test_a_line_that_was_cut_short_is_counted_and_passed_over(run: Run) -> None:
    path = write_lines(run, [LogLine(at, 9, "", "", f"line {at}") for at in range(3)])
    path.write_bytes(path.read_bytes()[:-200])
    log = read_log(run.bundle)
    assert log
    assert (len(log.entries), log.unreadable, log.left_out) == (2, 1, 0)


def test_a_long_log_keeps_its_ends_and_what_is_grave_between(run: Run) -> None:
    lines = [LogLine(at, 17 if at == 500 else 9, "", "", f"line {at}") for at in range(1000)]
    write_lines(run, lines)
    log = read_log(run.bundle, head=3, tail=2, urgent=10)
    assert log
    assert [entry.message for entry in log.entries] == ["line 0", "line 1", "line 2", "line 500", "line 998", "line 999"]
    assert (log.total, log.left_out) == (1000, 994)
    assert log.levels == ["error", "info"]


def test_a_log_of_a_hundred_thousand_lines_is_cut_to_what_a_page_bears(run: Run) -> None:
    line = log_json(run, LogLine(1, 9, "models", "", 'it said "severityNumber":17 to itself')) + "\n"
    (run.bundle / "logs.jsonl").write_text(line * 100_000, "utf-8")
    log = read_log(run.bundle)
    assert log
    assert (len(log.entries), log.total) == (800, 100_000)
