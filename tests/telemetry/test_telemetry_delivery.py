"""Which events go when, in which order, and what is noted: against a real server on this machine."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import pipeline
from pipeline.errors import BackendError, RunNotFoundError, SettingsError, UsageError
from pipeline.records import State
from pipeline.report.html import write_report
from pipeline.telemetry import bundle, delivery, delivery_entry, delivery_queue, lineage, reaper
from pipeline.telemetry.delivery import deliver_at_end, replay
from tests.telemetry.delivery_support import Event, Listener, closed_port, entry, lines, runs_of, set_lines, settings, states, told, told_to
from tests.telemetry.lineage_support import kill
from tests.telemetry.telemetry_support import stored

FIRST = ["START example", "START example.weight", "COMPLETE example.weight", "START example.features", "COMPLETE example.features"]
WHOLE = [*FIRST, "START example.models", "COMPLETE example.models", "COMPLETE example"]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server takes is not left to how busy the machine is."""
    monkeypatch.setattr(delivery, "SECONDS", 60.0)


@pytest.fixture
def server() -> Any:
    with Listener() as listener:
        yield listener


def delivered(*folders: Path) -> None:
    """Note that runs were delivered before."""
    for folder in folders:
        total = len(lines(folder))
        delivery_entry.write(folder, delivery_entry.Entry(state=delivery_entry.Delivery.DELIVERED, events=total, total=total, target="http://before"))


# ------------------------------------------------------------------------------------------------ the end of a run


def test_a_run_is_sent_in_the_order_of_its_file_and_noted(runs: Path, server: Listener) -> None:
    folder = told(runs, 1)
    deliver_at_end(folder, settings(runs, server.url))
    assert server.taken == lines(folder)
    noted = entry(folder)
    assert (noted["state"], noted["events"], noted["total"], noted["answer"], noted["target"], noted["aside"]) == ("delivered", 8, 8, "201", server.url, [])
    assert set(server.paths) == {"/api/v1/lineage"}


def test_what_waits_goes_before_oldest_run_first_the_archived_ones_too(runs: Path, server: Listener) -> None:
    folders = [told(runs, number) for number in (1, 2, 3)]
    (runs / bundle.ARCHIVE).mkdir()
    archived = folders[0].rename(runs / bundle.ARCHIVE / folders[0].name)
    deliver_at_end(folders[2], settings(runs, server.url))
    assert told_to(server.taken, *folders) == [f"{number} {event}" for number in (1, 2, 3) for event in WHOLE]
    assert entry(archived)["state"] == "delivered"
    assert states(runs) == ["delivered"] * 3


def test_what_was_delivered_is_not_sent_again(runs: Path, server: Listener) -> None:
    for number in (1, 2):
        deliver_at_end(told(runs, number), settings(runs, server.url))
    assert len(server.taken) == 2 * len(WHOLE)


def test_the_other_parts_of_delivery_json_stay_as_they_are(runs: Path, server: Listener) -> None:
    folder = told(runs, 1)
    (folder / "delivery.json").write_text('{"experiments": {"state": "off"}}')
    deliver_at_end(folder, settings(runs, server.url))
    assert json.loads((folder / "delivery.json").read_text())["experiments"] == {"state": "off"}
    assert (folder / "delivery.json").stat().st_mode & 0o777 == 0o644


def test_a_run_that_another_process_has_delivered_already_is_left_as_it_is(runs: Path, server: Listener) -> None:
    folder = told(runs, 1)
    for _ in range(2):
        deliver_at_end(folder, settings(runs, server.url))
    assert (len(server.asked), entry(folder)["state"]) == (len(WHOLE), "delivered")


def test_the_report_leaves_lineage_out_as_it_is_written_before(runs: Path, server: Listener) -> None:
    folder = told(runs, 1)
    before = write_report(folder).read_bytes()
    deliver_at_end(folder, settings(runs, server.url))
    assert write_report(folder).read_bytes() == before


@pytest.mark.parametrize(("variable", "value"), [("OPENLINEAGE_DISABLED", "true"), ("OPENLINEAGE_DISABLED", " TRUE "), ("PIPELINE_TELEMETRY", "off")])
def test_turned_off_nothing_is_sent_then_or_later(runs: Path, server: Listener, variable: str, value: str) -> None:
    folder = told(runs, 1)
    deliver_at_end(folder, settings(runs, server.url, **{variable: value}))
    assert (server.asked, entry(folder)) == ([], {"state": "off"})
    deliver_at_end(told(runs, 2), settings(runs, server.url))
    assert len(server.taken) == len(WHOLE)


def test_nothing_listening_leaves_it_pending_without_a_word(runs: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    folder = told(runs, 1)
    deliver_at_end(folder, settings(runs, f"http://127.0.0.1:{closed_port()}"))
    noted = entry(folder)
    assert (noted["state"], noted["events"], noted["total"], noted["detail"]) == ("pending", 0, 8, "connection refused")
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_neither_a_living_run_nor_a_dead_one_that_is_not_closed_is_sent(runs: Path, server: Listener) -> None:
    living, dead = stored(runs, State.RUNNING, number=1), stored(runs, State.RUNNING, number=2)
    for run in (living, dead):
        kill(run)
    with bundle.alive(living.bundle):
        (dead.bundle / bundle.LOCK).touch()
        own = told(runs, 3)
        deliver_at_end(own, settings(runs, server.url))
    assert runs_of(server.taken) == [own.name]
    assert not (living.bundle / "delivery.json").exists()


def test_a_lost_run_is_sent_with_its_closing_events_before_the_next_runs_start(runs: Path, server: Listener) -> None:
    lost = stored(runs, State.RUNNING, number=1)
    kill(lost)
    (lost.bundle / bundle.LOCK).touch()
    reaper.reap(runs, closers=[lineage.close])
    own = told(runs, 2)
    deliver_at_end(own, settings(runs, server.url))
    sent = told_to(server.taken, lost.bundle, own)
    assert sent[: sent.index("2 START example")][-2:] == ["1 ABORT example.features", "1 ABORT example"]


def test_a_run_whose_lineage_has_no_end_is_not_sent_since_it_would_be_shown_as_running(runs: Path, server: Listener) -> None:
    folder = told(runs, 1)
    set_lines(folder, lambda events: events[:-1])
    deliver_at_end(folder, settings(runs, server.url))
    assert (server.asked, entry(folder)["state"], entry(folder)["detail"]) == ([], "failed", "not sent: lineage.ndjson does not tell the run's end")


def test_a_bundle_that_went_to_the_archive_meanwhile_is_found_there(runs: Path, server: Listener) -> None:
    folder = told(runs, 1)
    (runs / bundle.ARCHIVE).mkdir()
    deliver_at_end(folder.rename(runs / bundle.ARCHIVE / folder.name) and folder, settings(runs, server.url))
    assert entry(runs / bundle.ARCHIVE / folder.name)["state"] == "delivered"


def test_a_note_that_cannot_be_written_is_told_and_costs_nothing_else(runs: Path, server: Listener, caplog: pytest.LogCaptureFixture) -> None:
    folder = told(runs, 1)
    (folder / "delivery.json").mkdir()
    deliver_at_end(folder, settings(runs, server.url))
    assert "can't be written down" in caplog.text


# ------------------------------------------------------------------------------------------------ going on where it stopped


@hypothesis_settings(max_examples=25)
@given(stops=st.lists(st.integers(0, 20), min_size=1, max_size=4))
def test_wherever_a_server_goes_away_every_event_comes_once_and_in_order(stops: list[int]) -> None:
    with tempfile.TemporaryDirectory() as place, Listener() as server:
        runs = Path(place) / "runs"
        folders = [Path(shutil.copytree(folder, runs / folder.name)) for folder in _TOLD]
        for stop in stops:
            goal = len(server.taken) + stop
            server.answer = lambda event, count, goal=goal: (201, b"") if len(server.taken) < goal else (503, b"")
            deliver_at_end(folders[-1], settings(runs, server.url))
        server.answer = lambda event, count: (201, b"")
        deliver_at_end(folders[-1], settings(runs, server.url))
        assert server.taken == [event for folder in folders for event in lines(folder)]
        assert states(runs) == ["delivered"] * 2


@pytest.fixture(scope="module", autouse=True)
def _two_runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("told")
    _TOLD[:] = [told(folder, 1), told(folder, 2, State.FAILED)]
    yield
    _TOLD.clear()


_TOLD: list[Path] = []


def test_a_run_that_went_in_part_to_another_server_starts_over(runs: Path, server: Listener) -> None:
    folder = told(runs, 1)
    with Listener(lambda event, count: (201, b"") if count < 4 else (503, b"")) as other:
        deliver_at_end(folder, settings(runs, other.url))
    assert entry(folder)["events"] == 3
    deliver_at_end(folder, settings(runs, server.url))
    assert server.taken == lines(folder)


def test_a_run_is_not_begun_when_there_is_no_time_for_all_of_it(runs: Path, server: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = told(runs, 1), told(runs, 2)
    monkeypatch.setattr(delivery, "_RESERVE", 1e9)  # at the first one's pace, there is none
    deliver_at_end(second, settings(runs, server.url))
    assert server.taken == lines(first)
    assert entry(second)["state"] == "pending"


# ------------------------------------------------------------------------------------------------ old runs behind newer ones


def test_after_old_runs_came_behind_newer_ones_the_newest_is_sent_once_more_whole(runs: Path, server: Listener) -> None:
    folders = [told(runs, number) for number in (1, 2, 3)]
    delivered(*folders[1:])
    replay(settings(runs, server.url))
    assert runs_of(server.taken) == [folders[0].name, folders[2].name]
    assert len(server.taken) == 2 * len(WHOLE)
    assert states(runs) == ["delivered"] * 3
    replay(settings(runs, server.url))
    assert len(server.taken) == 2 * len(WHOLE)


def test_it_is_noted_before_the_old_one_goes_so_that_a_kill_does_not_forget_it(runs: Path, server: Listener) -> None:
    folders = [told(runs, number) for number in (1, 2)]
    delivered(folders[1])
    seen: list[str] = []
    server.answer = lambda event, count: (seen.append(entry(folders[1])["state"]), (503, b""))[1]
    deliver_at_end(folders[0], settings(runs, server.url))
    assert (seen, entry(folders[1])["detail"]) == (["pending"], delivery_queue.AGAIN)


def test_a_newer_run_that_waits_itself_is_all_that_is_needed(runs: Path, server: Listener) -> None:
    folders = [told(runs, number) for number in (1, 2, 3)]
    delivered(folders[1])
    deliver_at_end(folders[2], settings(runs, server.url))
    assert runs_of(server.taken) == [folders[0].name, folders[2].name]


def test_where_the_newest_run_did_not_get_to_every_step_the_newest_that_did_goes_before_it(runs: Path, server: Listener) -> None:
    folders = [told(runs, 1), told(runs, 2), told(runs, 3), told(runs, 4, State.FAILED), told(runs, 5, State.FAILED)]
    delivered(*folders[1:])
    replay(settings(runs, server.url))
    assert runs_of(server.taken) == [folders[0].name, folders[2].name, folders[4].name]


def test_another_pipelines_runs_are_not_sent_again(runs: Path, server: Listener) -> None:
    folders = [told(runs, 1), told(runs, 2), told(runs, 3, pipeline="other")]
    delivered(folders[2])
    replay(settings(runs, server.url))
    assert runs_of(server.taken) == [folders[0].name, folders[1].name]


def test_in_each_lake_the_newest_is_sent_once_more_as_their_datasets_are_others(runs: Path, server: Listener) -> None:
    folders = [told(runs, number) for number in (1, 2, 3)]
    set_manifest(folders[2], lambda record: record["lake"].update(name="other"))
    delivered(*folders[1:])
    replay(settings(runs, server.url))
    assert runs_of(server.taken) == [folder.name for folder in folders]


# ------------------------------------------------------------------------------------------------ bundles of all kinds


def set_manifest(folder: Path, change: Callable[[Any], object]) -> None:
    record = json.loads((folder / "manifest.json").read_text())
    change(record)
    (folder / "manifest.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(settings=[]),
        lambda record: record.update(steps=[3]),
        lambda record: record.update(pipeline=None),
        lambda record: record.update(lake="lake"),
        lambda record: record.update(state=[]),
        lambda record: record.clear(),
    ],
)
@pytest.mark.parametrize("was_sent", [False, True])
def test_a_damaged_manifest_does_not_keep_other_runs_from_going(runs: Path, server: Listener, change: Callable[[Any], object], was_sent: bool) -> None:
    folders = [told(runs, number) for number in (1, 2, 3)]
    delivered(*folders[1 if was_sent else 2 :])
    set_manifest(folders[1], change)
    deliver_at_end(folders[0], settings(runs, server.url))
    assert runs_of(server.taken) == [folders[0].name, folders[2].name]


def test_among_more_bundles_than_there_is_time_to_look_at_the_newest_are(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [told(runs, number) for number in (1, 2, 3)]
    monkeypatch.setattr(delivery_queue, "NEWEST", 2)
    assert delivery_queue.queue(runs, until=time.monotonic() - 1).folders == tuple(folders[1:])
    assert delivery_queue.queue(runs, until=time.monotonic() + 60).folders == tuple(folders)


# ------------------------------------------------------------------------------------------------ two at once


def test_while_another_process_sends_a_run_is_left_to_it(runs: Path, server: Listener) -> None:
    folder = told(runs, 1)
    held = os.open(runs, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    deliver_at_end(folder, settings(runs, server.url))
    os.close(held)
    assert (server.asked, entry(folder)["state"]) == ([], "pending")


def test_a_run_that_was_left_to_the_one_who_sends_is_sent_by_it(runs: Path, server: Listener) -> None:
    first, second = told(runs, 1), told(runs, 2)
    hidden = second.rename(runs.parent / second.name)

    def answer(event: Event, count: int) -> tuple[int, bytes]:
        if count == 3:
            hidden.rename(second)  # it ends just now
            deliver_at_end(second, settings(runs, server.url))
        return 201, b""

    server.answer = answer
    deliver_at_end(first, settings(runs, server.url))
    assert server.taken == lines(first) + lines(second)
    assert states(runs) == ["delivered"] * 2


# ------------------------------------------------------------------------------------------------ replay


def test_a_run_that_is_named_is_sent_whole_again_and_then_the_newest(runs: Path, server: Listener) -> None:
    folders = [told(runs, number) for number in (1, 2, 3)]
    delivered(*folders)
    found = replay(settings(runs, server.url), [folders[0].name])
    assert runs_of(server.taken) == [folders[0].name, folders[2].name]
    assert [each.run_id for each in found.sent] == [folders[0].name, folders[2].name]
    assert (found.waiting, found.problem, found.failed) == (0, None, ())


def test_all_sends_every_run_to_a_server_that_has_none(runs: Path, server: Listener) -> None:
    folders = [told(runs, number) for number in (1, 2)]
    delivered(*folders)
    replay(settings(runs, server.url), everything=True)
    assert server.taken == lines(folders[0]) + lines(folders[1])


def test_a_run_whose_lineage_was_off_is_sent_when_it_is_named(runs: Path, server: Listener) -> None:
    folder = told(runs, 1)
    deliver_at_end(folder, settings(runs, server.url, OPENLINEAGE_DISABLED="true"))
    assert replay(settings(runs, server.url)).sent == ()
    replay(settings(runs, server.url), ["last"])
    assert server.taken == lines(folder)


@pytest.mark.parametrize("everything", [False, True])
def test_nothing_waiting_asks_no_server(runs: Path, everything: bool) -> None:
    assert replay(settings(runs, "http://127.0.0.1:1"), everything=everything).sent == ()


def test_a_server_that_is_away_is_an_error_that_says_what_to_do_and_changes_no_note(runs: Path) -> None:
    folder = told(runs, 1)
    delivered(folder)
    with pytest.raises(BackendError, match="connection refused") as caught:
        replay(settings(runs, f"http://127.0.0.1:{closed_port()}"), ["last"])
    assert "make lineage.up" in caught.value.hint
    assert entry(folder)["state"] == "delivered"


def test_a_server_that_goes_away_in_the_middle_is_told_with_what_waits(runs: Path, server: Listener) -> None:
    for number in (1, 2, 3):
        told(runs, number)
    server.answer = lambda event, count: (201, b"") if count <= 10 else None
    found = replay(settings(runs, server.url))
    assert found.problem is not None
    assert "connection broken off" in found.problem.message
    assert [each.entry.state.value for each in found.sent] == ["delivered", "pending"]
    assert found.waiting == 2


def test_progress_is_told_after_each_event(runs: Path, server: Listener) -> None:
    told(runs, 1)
    seen: list[int] = []
    replay(settings(runs, server.url), on_progress=lambda sent, number: seen.append(number))
    assert seen == list(range(1, 9))


def test_what_cannot_be_replayed_is_refused(runs: Path) -> None:
    running = stored(runs, State.RUNNING)
    with pytest.raises(UsageError, match="LOST"):
        replay(settings(runs, "http://127.0.0.1:1"), [running.bundle.name])
    with pytest.raises(RunNotFoundError):
        replay(settings(runs, "http://127.0.0.1:1"), ["nope"])
    with pytest.raises(UsageError, match="no lineage"):
        replay(settings(runs, "http://127.0.0.1:1"), [stored(runs, number=2).bundle.name])
    with pytest.raises(SettingsError, match="turned off"):
        replay(settings(runs, "http://127.0.0.1:1", OPENLINEAGE_DISABLED="true"))


def test_another_process_that_sends_is_named(runs: Path, server: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    told(runs, 1)
    monkeypatch.setattr(delivery, "LOCK_SECONDS", 0.0)
    held = os.open(runs, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(BackendError, match="another process"):
        replay(settings(runs, server.url))
    os.close(held)


# ------------------------------------------------------------------------------------------------ the notes


def test_every_note_is_as_the_schema_says(runs: Path, server: Listener) -> None:
    schema = json.loads((Path(pipeline.__file__).parent / "telemetry" / "delivery.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    server.answer = lambda event, count: (422, b"no") if event["eventType"] == "COMPLETE" and count < 9 else (201, b"")
    folders = [told(runs, number) for number in (1, 2)]
    for folder in folders:
        deliver_at_end(folder, settings(runs, server.url))
    away, off = told(runs, 3), told(runs, 4)
    deliver_at_end(away, settings(runs, "http://127.0.0.1:1"))
    deliver_at_end(off, settings(runs, server.url, OPENLINEAGE_DISABLED="true"))
    assert states(runs) == ["failed", "delivered", "pending", "off"]
    for folder in (*folders, away, off):
        jsonschema.validate(json.loads((folder / "delivery.json").read_text()), schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"lineage": 7}',
        '{"lineage": {"state": []}}',
        '{"lineage": {"state": "odd"}}',
        '{"lineage": {"state": "pending", "events": "x", "aside": 3}}',
    ],
)
def test_a_note_that_makes_no_sense_counts_as_none(runs: Path, server: Listener, text: str) -> None:
    folder = told(runs, 1)
    (folder / "delivery.json").write_text(text)
    deliver_at_end(folder, settings(runs, server.url))
    assert server.taken == lines(folder)
