"""What the tests of delivery share: bundles with lineage, and servers on this machine that do what they are told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipeline.records import Gate, State
from pipeline.settings import Settings, load
from pipeline.telemetry import bundle
from pipeline.telemetry.lineage import LineageHook
from tests.telemetry.telemetry_support import stored

Event = dict[str, Any]
Answer = tuple[int, bytes] | None


def settings(runs: Path, url: str, **more: str) -> Settings:
    return load({"OPENLINEAGE_URL": url, "PIPELINE_RUNS": str(runs), **more}, dotenv=Path("no.env"))


def told(runs: Path, number: int, state: State = State.COMPLETED, *, gate: Gate | None = None, pipeline: str | None = None, steps: int | None = None) -> Path:
    """The bundle of a run that has ended, with its manifest and its lineage."""
    run = stored(runs, state, gate=gate, number=number, pipeline=pipeline)
    run.steps = run.steps[:steps]
    hook = LineageHook(load({}, dotenv=Path("no.env")))
    with hook.run(run):
        for step in run.steps:
            with hook.step(run, step):
                pass
    bundle.write_manifest(run)
    return run.bundle


def entry(folder: Path) -> Event:
    """What `delivery.json` says of the lineage."""
    return json.loads((folder / "delivery.json").read_text())["lineage"]


def states(runs: Path) -> list[str]:
    """The state of each run's lineage, oldest first."""
    return [entry(folder)["state"] for folder in reversed(bundle.folders(runs))]


def lines(folder: Path) -> list[Event]:
    return [json.loads(line) for line in (folder / "lineage.ndjson").read_text().splitlines()]


def set_lines(folder: Path, change: Callable[[list[Event]], list[Event]]) -> None:
    (folder / "lineage.ndjson").write_text("".join(json.dumps(event) + "\n" for event in change(lines(folder))))


class Listener:
    """A real server on this machine: it keeps the events that it answers with 2xx, and answers what `answer` says (None: hangs up)."""

    def __init__(self, answer: Callable[[Event, int], Answer] = lambda event, count: (201, b"")) -> None:
        self.answer = answer
        self.taken: list[Event] = []
        self.asked: list[Event] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.well = 200
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        listener = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                listener.asked.append(event)
                listener.paths.append(self.path)
                listener.headers.append(dict(self.headers))
                answer = listener.answer(event, len(listener.asked))
                if answer is None:
                    self.close_connection = True
                    return
                if 200 <= answer[0] < 300:
                    listener.taken.append(event)
                self._reply(*answer)

            def do_GET(self) -> None:
                listener.paths.append(self.path)
                self._reply(listener.well, b"{}")

            def _reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", body.decode())
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def __enter__(self) -> Listener:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def told_to(taken: list[Event], *folders: Path) -> list[str]:
    """`1 START example`: which run's event it is, by the place of its bundle in `folders`, kind and job, as they came."""
    numbers = {folder.name: place for place, folder in enumerate(folders, 1)}
    return [f"{numbers[_root(event)]} {event['eventType']} {event['job']['name']}" for event in taken]


def runs_of(taken: list[Event]) -> list[str]:
    """The runs in the order in which they came, each once unless another came between."""
    found: list[str] = []
    for event in taken:
        if not found or found[-1] != _root(event):
            found.append(_root(event))
    return found


def _root(event: Event) -> str:
    parent = event["run"]["facets"].get("parent")
    return str(parent["run"]["runId"]) if parent else str(event["run"]["runId"])


@contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does with each connection what `serve` does."""
    listening = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                open_ones.append(connection)
                threading.Thread(target=_serve, args=(serve, connection), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for connection in open_ones:
            connection.close()


def _serve(serve: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with suppress(OSError):
        serve(connection)


@contextmanager
def unaccepting_server() -> Iterator[str]:
    """An address whose connections are never made: the queue of those that wait to be accepted is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(listening.getsockname())
        time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        for each in waiting:
            each.close()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def marquez(shared: Path) -> Iterator[str]:
    """The stand-in for Marquez as a process of its own."""
    port = closed_port()
    environment = {**os.environ, "MARQUEZ_PORT": str(port), "MARQUEZ_ADMIN_PORT": str(closed_port())}
    process = subprocess.Popen(
        [sys.executable, str(shared / "stack" / "standins" / "marquez.py")], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                ask(url, "/api/v1/namespaces")
                break
            except OSError:
                assert time.monotonic() < deadline, "the stand-in did not come up"
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def ask(url: str, path: str) -> Any:
    with urllib.request.urlopen(url + path, timeout=5) as response:
        return json.load(response)
