"""Archived bundles reach the collector: every line once and as it is, oldest run first, and what was handed over is noted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import Run
from pipeline.telemetry import bundle, collector
from pipeline.telemetry.collector import SIGNALS, Signal
from pipeline.telemetry.logs import LogsHook
from pipeline.telemetry.metrics import MetricsHook
from pipeline.telemetry.tracing import TracesHook
from pipeline.testing import logs, metrics, spans
from tests.stack.test_stack_configs import running_collector, wait_for_text
from tests.telemetry.delivery_support import Answer, Event, Listener, closed_port
from tests.telemetry.telemetry_support import python, stored, tell
from tests.telemetry.test_telemetry_schema import validator

TRACES, METRICS, LOGS = SIGNALS


def with_telemetry(runs: Path, number: int) -> Run:
    return tell(stored(runs, number=number), LogsHook(terminal_level="error"), TracesHook(), MetricsHook())


def archive(runs: Path, count: int = 1) -> list[Path]:
    """Archived bundles, oldest first."""
    for number in range(1, count + 1):
        with_telemetry(runs, number)
    return sorted(bundle.archive(runs, keep=0))


def parts(folder: Path, signal: Signal) -> list[Any]:
    """What the lines of a file hold, in their order."""
    return [each for line in (folder / signal.file).read_text().splitlines() for each in json.loads(line)[signal.key]]


def posted(listener: Listener, signal: Signal) -> list[Any]:
    """What came of a signal and was taken, in the order in which it came."""
    return [each for event in listener.taken if signal.key in event for each in event[signal.key]]


def entry(folder: Path) -> Event:
    return json.loads((folder / "delivery.json").read_text())["telemetry"]


def run_of(part: Event) -> str:
    (run,) = [each["value"]["stringValue"] for each in part["resource"]["attributes"] if each["key"] == "goldtrace.run.id"]
    return run


def hand_over(runs: Path, target: str, attempts: int = 3) -> collector.HandedOver:
    return collector.deliver(collector.waiting(runs, target), target, attempts=attempts)


# ---------------------------------------------------------------------------------------------- what arrives


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.file)
def test_every_line_of_archived_bundles_arrives_once_and_as_it_is(runs: Path, signal: Signal):
    folders = archive(runs, 3)
    with Listener() as listener:
        found = hand_over(runs, listener.url)
    assert (found.runs, found.waiting, found.troubles, found.problem) == (3, 0, (), None)
    assert posted(listener, signal) == [part for folder in folders for part in parts(folder, signal)]
    assert {path for path, event in zip(listener.paths, listener.asked, strict=True) if signal.key in event} == {signal.path}


def test_the_oldest_run_goes_first_and_no_two_share_a_request(runs: Path):
    folders = archive(runs, 3)
    with Listener() as listener:
        hand_over(runs, listener.url)
    runs_asked = [{run_of(part) for part in next(iter(event.values()))} for event in listener.asked]
    assert runs_asked == [{folder.name} for folder in folders for _ in SIGNALS]


def test_a_large_file_goes_in_several_requests(runs: Path):
    (folder,) = archive(runs)
    path = folder / bundle.LOGS
    path.write_text(path.read_text() * 500)
    with Listener() as listener:
        hand_over(runs, listener.url)
    sizes = [int(headers["Content-Length"]) for headers, event in zip(listener.headers, listener.asked, strict=True) if LOGS.key in event]
    assert len(sizes) == -(-path.stat().st_size // collector.MAX_BYTES)
    assert max(sizes) <= collector.MAX_BYTES
    assert posted(listener, LOGS) == parts(folder, LOGS)


def test_what_is_not_archived_is_left_to_the_collector(runs: Path):
    archive(runs)
    with_telemetry(runs, 2)
    with Listener() as listener:
        assert hand_over(runs, listener.url).runs == 1
    assert not (next(path for path in runs.iterdir() if path.name != bundle.ARCHIVE) / "delivery.json").exists()


def test_a_run_without_telemetry_is_passed_over_without_a_note(runs: Path):
    stored(runs)
    (folder,) = bundle.archive(runs, keep=0)
    assert collector.archived(runs) == collector.waiting(runs, "http://nowhere") == []
    assert not (folder / "delivery.json").exists()


def test_a_real_collector_takes_it(runs: Path, tmp_path: Path):
    (folder,) = archive(runs)
    out = tmp_path / "collector"
    out.mkdir()
    with running_collector(out) as port:
        found = hand_over(runs, f"http://127.0.0.1:{port}")
        came = {signal: [json.loads(line) for line in wait_for_text(out / signal.file).splitlines()] for signal in SIGNALS}
    assert (found.runs, found.troubles, found.problem) == (1, (), None)
    for signal in SIGNALS:
        (out / signal.file).write_text("".join(json.dumps(line) + "\n" for line in came[signal]))
    assert sorted(span["spanId"] for span in spans(out)) == sorted(span["spanId"] for span in spans(folder))
    assert [record["timeUnixNano"] for record in logs(out)] == [record["timeUnixNano"] for record in logs(folder)]
    assert {name: len(points) for name, points in metrics(out).items()} == {name: len(points) for name, points in metrics(folder).items()}


# ---------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("status", [429, 503])
def test_a_collector_without_room_is_asked_again(runs: Path, status: int):
    (folder,) = archive(runs)
    with Listener(lambda event, count: (status if count == 1 else 200, b"{}")) as listener:
        found = hand_over(runs, listener.url)
    assert (found.runs, found.problem, len(listener.asked)) == (1, None, 4)
    assert posted(listener, TRACES) == parts(folder, TRACES)


@pytest.mark.parametrize("broken", ["no JSON", '{"resourceSpans": [NaN]}', '{"resourceLogs": []}', '{"resourceSpans": {}}', "[]", "[" * 100_000, "\udcff"])
def test_a_broken_line_is_left_out_and_counted(runs: Path, broken: str):
    (folder,) = archive(runs)
    whole = parts(folder, TRACES)
    path = folder / bundle.TRACES
    path.write_text(broken + "\n" + path.read_text(), errors="surrogateescape")
    with Listener() as listener:
        found = hand_over(runs, listener.url)
    assert posted(listener, TRACES) == whole
    assert (entry(folder)["state"], entry(folder)["detail"]) == ("failed", "1 line is broken or refused, and left out")
    assert found.troubles == (f"of the telemetry of run {folder.name}, 1 line is broken or refused, and left out",)


def test_a_line_that_is_refused_takes_no_other_with_it(runs: Path):
    (folder,) = archive(runs)
    whole = parts(folder, LOGS)
    bad = whole[1]

    def answer(event: Event, count: int) -> Answer:
        return (400 if bad in event.get(LOGS.key, ()) else 200), b"{}"

    with Listener(answer) as listener:
        found = hand_over(runs, listener.url)
    assert posted(listener, LOGS) == [part for part in whole if part is not bad]
    assert (found.runs, len(found.troubles), entry(folder)["state"]) == (1, 1, "failed")


def test_a_bundle_that_cannot_be_read_keeps_no_other_from_going(runs: Path):
    first, second = archive(runs, 2)
    (first / bundle.TRACES).unlink()
    (first / bundle.TRACES).mkdir()
    with Listener() as listener:
        found = hand_over(runs, listener.url)
    assert (found.runs, found.waiting, found.problem) == (1, 0, None)
    assert found.troubles == (f"the telemetry of run {first.name} can't be read, or not be noted: Is a directory",)
    assert (entry(second)["state"], (first / "delivery.json").exists()) == ("delivered", False)


def test_a_collector_that_is_away_is_told_and_nothing_is_noted(runs: Path, caplog: pytest.LogCaptureFixture):
    folders = archive(runs, 2)
    port = closed_port()
    found = hand_over(runs, f"http://127.0.0.1:{port}", attempts=2)
    assert found.problem is not None
    assert found.problem.message == f"the collector at http://127.0.0.1:{port} can't be reached: connection refused"
    assert (found.runs, found.waiting) == (0, 2)
    assert not [folder for folder in folders if (folder / "delivery.json").exists()]
    assert caplog.records == []


@pytest.mark.parametrize("status", [301, 404, 503])
def test_where_no_collector_answers_it_stops_and_goes_on_there_the_next_time(runs: Path, status: int):
    folders = archive(runs, 3)
    with Listener(lambda event, count: (status if 4 <= count <= 5 else 200, b"/elsewhere")) as listener:
        found = hand_over(runs, listener.url, attempts=2 if status == 503 else 1)
        assert (found.runs, found.waiting) == (1, 2)
        assert found.problem is not None
        assert found.problem.facts["reason"] == f"it answers {status}"
        assert collector.waiting(runs, listener.url) == folders[1:]
        listener.answer = lambda event, count: (200, b"")
        assert hand_over(runs, listener.url).runs == 2


# ---------------------------------------------------------------------------------------------- what is noted


def settled(runs: Path, target: str) -> Sequence[Path]:
    waiting = collector.waiting(runs, target)
    return [folder for folder in collector.archived(runs) if folder not in waiting]


def test_what_was_handed_over_is_noted_and_does_not_go_twice(runs: Path):
    (folder,) = archive(runs)
    (folder / "delivery.json").write_text('{"lineage": {"state": "off"}}')
    with Listener() as listener:
        hand_over(runs, listener.url)
        assert settled(runs, listener.url) == [folder]
    assert {key: value for key, value in entry(folder).items() if key != "at"} == {"state": "delivered", "target": listener.url, "detail": ""}
    assert json.loads((folder / "delivery.json").read_text())["lineage"] == {"state": "off"}


def test_another_collector_is_given_it_too(runs: Path):
    archive(runs)
    with Listener() as listener, Listener() as other:
        hand_over(runs, listener.url)
        assert hand_over(runs, other.url).runs == 1


def test_a_collector_that_begins_anew_is_given_all_once_more(runs: Path):
    folders = archive(runs, 2)
    with Listener() as listener:
        hand_over(runs, listener.url)
        collector.forget(runs)
        assert collector.waiting(runs, listener.url) == folders
        hand_over(runs, listener.url)
    assert len(posted(listener, METRICS)) == 4


def test_what_was_never_handed_over_has_nothing_to_forget(runs: Path):
    (folder,) = archive(runs)
    collector.forget(runs)
    assert not (folder / "delivery.json").exists()


def test_every_note_is_as_the_schema_says(runs: Path):
    whole, broken, again = archive(runs, 3)
    with Listener() as listener:
        collector.deliver([again], listener.url)
        collector.forget(runs)
        (broken / bundle.METRICS).write_text("{\n")
        collector.deliver([whole, broken], listener.url)
    assert [entry(folder)["state"] for folder in (whole, broken, again)] == ["delivered", "failed", "pending"]
    for folder in (whole, broken, again):
        validator("delivery").validate(json.loads((folder / "delivery.json").read_text()))


def test_without_an_archive_no_http_is_loaded(runs: Path):
    code = "import sys; from pathlib import Path; from pipeline.telemetry import collector; r = Path(sys.argv[1]); collector.forget(r)"
    done = python(f"{code}; print(collector.waiting(r, 'http://127.0.0.1:1'), 'urllib3' in sys.modules)", runs)
    assert done.stdout == "[] False\n", done.stderr
