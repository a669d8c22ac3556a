"""Delivery as processes meet it: signals, kill -9, the command, a server of another process."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline import cli
from pipeline.records import Gate, State
from pipeline.telemetry import bundle, delivery, lineage_server
from pipeline.telemetry.delivery import deliver_at_end, replay
from pipeline.telemetry.lineage_server import Connection, Patience, Server
from tests.telemetry.delivery_support import Listener, ask, closed_port, entry, lines, marquez, raw_server, settings, states, told
from tests.telemetry.telemetry_support import ROOT

DELIVER = """
import sys
from pathlib import Path
from pipeline import api
from pipeline.settings import load
from pipeline.telemetry import delivery

delivery.SECONDS = 200.0  # so that what ends it is what the test does
api._deliver(Path(sys.argv[1]), load())
print("the run's own end")
sys.exit(3)
"""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server takes is not left to how busy the machine is."""
    monkeypatch.setattr(delivery, "SECONDS", 60.0)


def environment(runs: Path, url: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "OPENLINEAGE_DISABLED"}
    return {**kept, "PYTHONPATH": str(ROOT), "OPENLINEAGE_URL": url, "PIPELINE_RUNS": str(runs), "PIPELINE_TRACKING": "off", **more}


def start(runs: Path, url: str, *command: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", *map(str, command)], env=environment(runs, url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def pipeline(runs: Path, url: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", *arguments]
    return subprocess.run(command, env=environment(runs, url, **more), capture_output=True, text=True, timeout=100, check=False)


# ------------------------------------------------------------------------------------------------ signals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_sending_and_leaves_the_runs_own_exit_code(runs: Path, signum: signal.Signals) -> None:
    folder, asked = told(runs, 1), threading.Event()

    def swallow(connection: socket.socket) -> None:
        connection.recv(10)
        asked.set()
        time.sleep(60)

    with raw_server(swallow) as url:
        process = start(runs, url, DELIVER, folder)
        assert asked.wait(60)
        process.send_signal(signum)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (3, "the run's own end\n", "")
    assert entry(folder)["state"] == "pending"


def test_an_answer_that_is_cut_off_while_it_is_made_says_nothing_on_stderr(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cut(lineage_server._Timed):
        def sendall(self, *_: Any, **__: Any) -> None:
            pass

        def makefile(self, *_: Any, **__: Any) -> Any:  # the first thing that an answer does
            raise KeyboardInterrupt

    told_of: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told_of.append)
    monkeypatch.setattr(lineage_server, "_connect", lambda *_: Cut())
    server = Server.of(settings(runs, "http://127.0.0.1:9"))
    with Connection(server, Patience.in_all(60.0)) as connection, pytest.raises(KeyboardInterrupt):
        connection.post(b"{}")
    gc.collect()
    assert told_of == []


def test_who_is_killed_in_the_middle_leaves_the_run_to_the_next_one(runs: Path) -> None:
    folders, third, killed = [told(runs, 1), told(runs, 2)], threading.Event(), threading.Event()

    def answer(event: Any, count: int) -> tuple[int, bytes] | None:
        if count != 3:
            return 201, b""
        third.set()
        killed.wait(60)
        return None

    with Listener(answer) as server:
        process = start(runs, server.url, DELIVER, folders[0])
        assert third.wait(60)
        process.kill()
        process.communicate(timeout=60)
        killed.set()
        server.asked.clear()
        server.taken.clear()
        server.answer = lambda event, count: (201, b"")
        deliver_at_end(folders[1], settings(runs, server.url))
        assert server.taken == lines(folders[0]) + lines(folders[1])
    assert states(runs) == ["delivered"] * 2


# ------------------------------------------------------------------------------------------------ the command


def test_the_command_sends_what_waits_and_says_what_it_came_to(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [told(runs, number) for number in (1, 2)]
    monkeypatch.delenv("OPENLINEAGE_DISABLED")
    monkeypatch.setenv("PIPELINE_TRACKING", "off")
    with Listener() as server:
        monkeypatch.setenv("OPENLINEAGE_URL", server.url)
        done = CliRunner().invoke(cli.app, ["replay", "--runs", str(runs)])
        again = CliRunner().invoke(cli.app, ["replay", "--runs", str(runs)])
        one = CliRunner().invoke(cli.app, ["replay", "--runs", str(runs), "--json", folders[1].name])
        everything = CliRunner().invoke(cli.app, ["replay", "--runs", str(runs), "--all"])
    assert (done.exit_code, again.output) == (0, "no lineage waits\n")
    assert [line.split() for line in done.output.splitlines()[1:3]] == [[folder.name, "8", "of", "8", "delivered"] for folder in folders]
    assert f"the lineage of 2 runs is at {server.url}" in done.output
    told_json = json.loads(one.output)
    assert ([each["run_id"] for each in told_json["sent"]], told_json["sent"][0]["state"], told_json["waiting"]) == ([folders[1].name], "delivered", 0)
    assert "the lineage of 2 runs" in everything.output


def test_the_command_fails_with_a_word_of_advice_when_the_server_is_away(runs: Path) -> None:
    told(runs, 1)
    url = f"http://127.0.0.1:{closed_port()}"
    done = pipeline(runs, url.replace("://", "://ann:pw@"), "replay", OPENLINEAGE_API_KEY="s3cret")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: lineage can't be sent to {url.replace('://', '://**********@')}: connection refused\n"
        "hint: is Marquez up (make lineage.up)? OPENLINEAGE_URL says where it is; nothing is lost (docs/errors.md#backend)\n"
    )


def test_the_command_fails_when_the_server_refuses_a_part(runs: Path) -> None:
    told(runs, 1)
    with Listener(lambda event, count: (422, b"odd") if count == 2 else (201, b"")) as server:
        done = pipeline(runs, server.url, "replay")
    assert (done.returncode, "1 of 8 events put aside, the first: 422 odd" in done.stdout) == (1, True)
    assert "refused a part of the lineage" in done.stderr


# ------------------------------------------------------------------------------------------------ Marquez

# One server for all tests here: each test's runs have numbers, and so ids, of their own.


@pytest.fixture(scope="module")
def marquez_url(shared: Path) -> Any:
    with marquez(shared) as url:
        yield url


def jobs(url: str) -> dict[str, str]:
    found = ask(url, "/api/v1/jobs?limit=100")["jobs"]
    return {job["name"]: job["latestRun"]["state"] for job in found}


def shown(url: str, pipeline_name: str) -> tuple[Any, ...]:
    """What Marquez says is current: states of the graph, schemas and versions."""
    graph = ask(url, f"/api/v1/lineage?nodeId=job:default:{pipeline_name}.features&depth=20")["graph"]
    nodes = {node["id"]: (node["data"].get("latestRun") or {}).get("id") for node in graph if node["type"] == "JOB"}
    versions = {node["id"]: node["data"].get("currentVersion") for node in graph if node["type"] == "DATASET"}
    return nodes, versions


def test_marquez_shows_failed_red_and_good_runs_as_they_were_when_they_come_late(runs: Path, marquez_url: str) -> None:
    told(runs, 21, pipeline="late")
    told(runs, 22, State.FAILED, pipeline="late")
    folder = told(runs, 23, gate=Gate.RED, pipeline="late")
    deliver_at_end(folder, settings(runs, marquez_url))
    assert states(runs) == ["delivered"] * 3
    # One state a run, oldest last.
    found = ask(marquez_url, "/api/v1/namespaces/default/jobs/late/runs")["runs"]
    assert [run["state"] for run in found] == ["FAILED", "FAILED", "COMPLETED"]
    assert ask(marquez_url, "/warnings")["totalCount"] == 0


def test_after_an_old_run_came_behind_marquez_shows_what_it_showed_before(runs: Path, marquez_url: str) -> None:
    older = told(runs, 31, pipeline="behind")
    hidden = older.rename(runs.parent / older.name)
    deliver_at_end(told(runs, 32, pipeline="behind"), settings(runs, marquez_url))
    newest = told(runs, 33, State.FAILED, pipeline="behind")
    deliver_at_end(newest, settings(runs, marquez_url))
    before = shown(marquez_url, "behind")
    hidden.rename(older)
    replay(settings(runs, marquez_url))
    assert shown(marquez_url, "behind") == before


@pytest.mark.parametrize("stop", [1, 2, 5, 7])
def test_a_run_that_went_in_two_parts_is_shown_as_if_it_went_in_one(runs: Path, marquez_url: str, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = told(runs, 40 + stop, pipeline=f"part{stop}")
    whole = (folder / "lineage.ndjson").read_bytes().splitlines()
    courier_pass_on, count = delivery._Courier._pass_on, iter(range(100))

    def interrupted(self: Any, line: bytes, number: int, known: Any) -> Any:
        if next(count) == stop:
            raise KeyboardInterrupt
        return courier_pass_on(self, line, number, known)

    monkeypatch.setattr(delivery._Courier, "_pass_on", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deliver_at_end(folder, settings(runs, marquez_url))
    assert (entry(folder)["state"], entry(folder)["events"]) == ("pending", stop)
    deliver_at_end(folder, settings(runs, marquez_url))
    assert (entry(folder)["state"], entry(folder)["events"]) == ("delivered", len(whole))
    assert {state for name, state in jobs(marquez_url).items() if name.split(".")[0] == f"part{stop}"} == {"COMPLETED"}
    assert len(ask(marquez_url, f"/api/v1/namespaces/default/jobs/part{stop}/runs")["runs"]) == 1


@pytest.mark.slow
def test_a_run_of_the_command_is_in_marquez_when_it_ends(runs: Path, marquez_url: str) -> None:
    done = pipeline(runs, marquez_url, "run", "--until", "traject")
    assert done.returncode == 0, done.stderr
    assert {name: state for name, state in jobs(marquez_url).items() if name.startswith("potato")} == {
        "potato": "COMPLETED",
        "potato.weight": "COMPLETED",
        "potato.traject": "COMPLETED",
    }
    assert entry(bundle.folders(runs)[0])["state"] == "delivered"


@pytest.mark.slow
def test_a_run_without_a_server_says_nothing_of_lineage_and_ends_well(runs: Path) -> None:
    done = pipeline(runs, f"http://127.0.0.1:{closed_port()}", "run", "--until", "traject")
    assert done.returncode == 0
    assert "lineage" not in (done.stdout + done.stderr).lower()
    assert entry(bundle.folders(runs)[0])["state"] == "pending"
