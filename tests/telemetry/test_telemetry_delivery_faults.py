"""Whatever a server does: a run is held up for 2 s at most, nothing is lost, and no key gets anywhere else."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BackendError, SettingsError
from pipeline.telemetry import delivery, delivery_queue, lineage_server
from pipeline.telemetry.delivery import deliver_at_end, replay
from pipeline.telemetry.lineage_server import Connection, Patience, Server
from tests.telemetry.delivery_support import (
    Listener,
    closed_port,
    entry,
    lines,
    raw_server,
    set_lines,
    settings,
    told,
    unaccepting_server,
)

KEY = "s3cret-key"
SECONDS = delivery.SECONDS


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server takes is not left to how busy the machine is; where it never ends, a test says how long to wait."""
    monkeypatch.setattr(delivery, "SECONDS", 60.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's bundle that tests share which never get to deliver it."""
    return told(tmp_path_factory.mktemp("faults") / "runs", 1)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that may be held up for less than 2 s, so that the tests are quick."""
    monkeypatch.setattr(delivery, "SECONDS", 0.3)


# Far above the time that is given, on however busy a machine, and far below what these servers would take.
LONG = 10.0


def seconds_of(folder: Path, url: str, **more: str) -> float:
    started = time.monotonic()
    deliver_at_end(folder, settings(folder.parent, url, **more))
    return time.monotonic() - started


# ------------------------------------------------------------------------------------------------ servers that don't answer


def read_all(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def dribble(head: bytes, part: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(part)
            time.sleep(0.05)

    return serve


NEVER_ENDING = {
    "says nothing": read_all,
    "reads nothing": lambda connection: time.sleep(30),
    "a status line, sign by sign": dribble(b"", b"H"),
    "headers without end": dribble(b"HTTP/1.1 201 Created\r\n", b"X: y\r\n"),
    "a header, sign by sign": dribble(b"HTTP/1.1 201 Created\r\nX: ", b"y"),
    "go on, go on": dribble(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "an error's body, sign by sign": dribble(b"HTTP/1.1 503 Away\r\nContent-Length: 100000\r\n\r\n", b"z"),
    "chunks without end": dribble(b"HTTP/1.1 503 Away\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n"),
}


@pytest.mark.parametrize("serve", NEVER_ENDING.values(), ids=NEVER_ENDING)
@pytest.mark.usefixtures("brief")
def test_a_server_that_never_ends_holds_a_run_up_for_its_time_only(folder: Path, serve: Callable[[socket.socket], None]) -> None:
    with raw_server(serve) as url:
        assert seconds_of(folder, url) < LONG
    assert entry(folder)["state"] == "pending"


def test_a_black_hole_costs_two_seconds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SECONDS", SECONDS)
    with raw_server(read_all) as url:
        assert 1.5 < seconds_of(folder, url) < LONG
    assert SECONDS < 2


@pytest.mark.parametrize("left", [0.4, 0.0, -7.0])
def test_a_run_that_was_held_up_before_is_held_up_for_what_is_left(folder: Path, left: float) -> None:
    with raw_server(read_all) as url:
        started = time.monotonic()
        deliver_at_end(folder, settings(folder.parent, url), left)
        assert max(left, delivery.LEAST_SECONDS) * 0.9 < time.monotonic() - started < LONG


@pytest.mark.slow
def test_a_server_that_answers_gets_the_time_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = told(tmp_path / "runs", 1)
    monkeypatch.setattr(delivery, "LEAST_SECONDS", 3.0)
    monkeypatch.setattr(delivery, "ANSWERING_SECONDS", 60.0)
    # The first answer comes at once, the second when the time for a server that does not answer is over.
    with Listener(lambda event, count: (time.sleep(3.1 if count == 2 else 0.0), (201, b""))[1]) as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url), 0.0)
        assert server.taken == lines(bundle)


@pytest.mark.parametrize(("answering", "left"), [(90, 90), (1, 60)])
def test_an_answer_changes_what_is_left_once_and_never_to_less(folder: Path, answering: float, left: float) -> None:
    with Listener() as server, Connection(Server.of(settings(folder.parent, server.url)), Patience.in_all(60, answering)) as connection:
        assert 30 < connection.patience.left <= 60
        for _ in range(2):
            connection.post(b"{}")
            assert left - 30 < connection.patience.left <= left


@pytest.mark.usefixtures("brief")
def test_a_connection_that_is_never_made_does_too(folder: Path) -> None:
    with unaccepting_server() as url:
        assert seconds_of(folder, url) < LONG
    assert entry(folder)["state"] == "pending"


@pytest.mark.usefixtures("brief")
def test_a_name_that_no_server_looks_up_does_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, look_up = threading.Event(), lineage_server._look_up
    # A name server that does not answer can't be had without the network's configuration.
    monkeypatch.setattr(lineage_server, "_look_up", lambda host, port, flags: look_up(host, port, flags) if flags else done.wait(20))
    assert seconds_of(folder, "http://lineage.example.org") < LONG
    done.set()


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (lambda connection: connection.close(), "connection broken off"),
        (lambda connection: connection.sendall(b"\x00\xff nonsense\r\n\r\n"), "no answer in HTTP"),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 fine\r\n" + b"X: y\r\n" * 500 + b"\r\n"), "no answer in HTTP"),
        (lambda connection: connection.sendall(b"HTTP/1.1 201 " + b"x" * 100_000 + b"\r\n\r\n"), "no answer in HTTP"),
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n"), "no answer in HTTP"),
    ],
)
def test_what_is_no_answer_is_pending_with_the_reason(tmp_path: Path, serve: Callable[[socket.socket], None], words: str) -> None:
    bundle = told(tmp_path / "runs", 1)

    def after_the_request(connection: socket.socket) -> None:
        connection.recv(1 << 20)
        serve(connection)
        connection.close()

    with raw_server(after_the_request) as url:
        deliver_at_end(bundle, settings(bundle.parent, url))
    assert (entry(bundle)["state"], words in entry(bundle)["detail"] or entry(bundle)["detail"]) == ("pending", True)


def test_a_port_that_is_closed_costs_milliseconds(folder: Path) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    assert min(seconds_of(folder, url) for _ in range(5)) < 0.1


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 64 + ".invalid", "no..where"])
def test_a_host_that_is_unknown_is_pending(tmp_path: Path, host: str) -> None:
    bundle = told(tmp_path / "runs", 1)
    deliver_at_end(bundle, settings(bundle.parent, f"http://{host}"))
    assert (entry(bundle)["state"], entry(bundle)["detail"]) == ("pending", "unknown host")


def test_a_name_with_several_addresses_is_tried_at_each(tmp_path: Path) -> None:
    with Listener() as server:
        bundle = told(tmp_path / "runs", 1)
        deliver_at_end(bundle, settings(bundle.parent, server.url.replace("127.0.0.1", "localhost")))
    assert entry(bundle)["state"] == "delivered"


def test_a_connection_that_the_server_ends_between_two_events_is_made_anew(tmp_path: Path) -> None:
    def one_each(connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        head, _, body = request.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65536)
        taken.append(json.loads(body))
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")  # and does not say that it ends here
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    taken: list[Any] = []
    bundle = told(tmp_path / "runs", 1)
    with raw_server(one_each) as url:
        deliver_at_end(bundle, settings(bundle.parent, url))
    assert taken == lines(bundle)


@pytest.mark.slow
def test_a_replay_waits_for_one_answer_so_long_and_not_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = told(tmp_path / "runs", 1)
    monkeypatch.setattr(delivery, "REPLAY_SECONDS", 5.0)
    with Listener(lambda event, count: (time.sleep(0.7), (201, b""))[1]) as server:
        assert replay(settings(bundle.parent, server.url)).problem is None
        assert len(server.taken) * 0.7 > delivery.REPLAY_SECONDS
    monkeypatch.setattr(delivery, "REPLAY_SECONDS", 1.0)
    with raw_server(read_all) as url:
        found = replay(settings(bundle.parent, url), ["last"])
    assert found.problem is not None
    assert "no answer in time" in found.problem.message


# ------------------------------------------------------------------------------------------------ servers that say no


@pytest.mark.parametrize("status", [502, 503, 504, 429, 408])
def test_a_server_that_is_busy_or_half_there_is_pending_and_asked_once(tmp_path: Path, status: int) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener(lambda event, count: (status, b"later")) as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url))
        assert len(server.asked) == 1
    assert (entry(bundle)["state"], entry(bundle)["detail"]) == ("pending", f"it answers {status} later")


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 404, 405])
def test_a_wrong_address_or_key_is_pending_and_told(tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener(lambda event, count: (status, b"")) as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url))
    assert entry(bundle)["state"] == "pending"
    assert f"it answers {status}" in caplog.text


def test_a_redirection_is_not_followed_and_the_key_stays_here(tmp_path: Path) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener() as elsewhere, Listener(lambda event, count: (307, f"{elsewhere.url}/api/v1/lineage".encode())) as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url, OPENLINEAGE_API_KEY=KEY))
        assert (elsewhere.asked, elsewhere.paths) == ([], [])


@pytest.mark.parametrize("status", [400, 413, 422])
def test_an_event_that_is_refused_is_put_aside_and_the_rest_goes_on(tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener(lambda event, count: (status, b'["missing producer"]') if count == 3 else (201, b"")) as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url))
        assert server.taken == [event for place, event in enumerate(lines(bundle), 1) if place != 3]
        assert len(server.asked) == 8
    noted = entry(bundle)
    assert (noted["state"], noted["events"], noted["aside"]) == ("failed", 8, [{"event": 3, "reason": f'{status} ["missing producer"]'}])
    assert "1 of 8 events put aside" in caplog.text


def test_an_event_over_which_the_server_fails_twice_is_put_aside(tmp_path: Path) -> None:
    bundle = told(tmp_path / "runs", 1)
    poison = lines(bundle)[2]
    with Listener(lambda event, count: (500, b"boom") if event == poison else (201, b"")) as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url))
        assert server.asked.count(poison) == 2
        assert len(server.taken) == 7
        assert "/api/v1/namespaces/default" in server.paths
    assert entry(bundle)["aside"] == [{"event": 3, "reason": "500 boom"}]


def test_a_server_that_fails_once_is_asked_again(tmp_path: Path) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener(lambda event, count: (500, b"") if count == 2 else (201, b"")) as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url))
    assert (entry(bundle)["state"], entry(bundle)["aside"]) == ("delivered", [])


def test_a_server_whose_database_is_away_fails_over_everything_and_loses_nothing(tmp_path: Path) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener(lambda event, count: (500, b"boom")) as server:
        server.well = 500
        deliver_at_end(bundle, settings(bundle.parent, server.url))
    assert (entry(bundle)["state"], entry(bundle)["events"], entry(bundle)["aside"]) == ("pending", 0, [])


@pytest.mark.parametrize("status", [201, 422])
def test_a_huge_answer_is_not_read(tmp_path: Path, status: int) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener(lambda event, count: (status, b"x" * 5_000_000)) as server:
        assert seconds_of(bundle, server.url) < LONG
    noted = entry(bundle)
    assert noted["events"] > 0
    assert all(len(each["reason"]) <= 304 for each in noted["aside"])


def test_hostile_words_become_one_short_line_of_text_without_the_key(tmp_path: Path) -> None:
    bundle = told(tmp_path / "runs", 1)
    words = f"\x1b[2J\0{KEY}\r\n<script>\u202e http://ann:pw@host ".encode() + b"\xff" * 500
    with Listener(lambda event, count: (422, words)) as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url, OPENLINEAGE_API_KEY=KEY))
    text = (bundle / "delivery.json").read_text()
    assert KEY not in text
    assert "ann:pw" not in text
    assert entry(bundle)["aside"][0]["reason"].isprintable()
    assert len(entry(bundle)["aside"][0]["reason"]) <= 304


# ------------------------------------------------------------------------------------------------ events that must not go


def test_what_marquez_fails_over_each_time_is_taken_out_before_sending(tmp_path: Path) -> None:
    bundle = told(tmp_path / "runs", 1)
    text = (
        (bundle / "lineage.ndjson")
        .read_text()
        .replace('"Means by subject and week."', r'"Means\u0000 by\ud800 week."')
        .replace('"rowCount":6', '"rowCount":NaN')
    )
    (bundle / "lineage.ndjson").write_text(text)
    with Listener() as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url))
    sent = json.dumps(server.taken)
    assert (len(server.taken), "NaN" in sent, "\\u0000" in sent, "\\ud800" in sent, "Means by? week." in sent) == (8, False, False, False, True)


@pytest.mark.parametrize("namespace", ["file://my lake", "file://ä", "", "a~b", "arn:aws:x", None, 7])
def test_a_namespace_that_would_break_the_servers_lists_is_never_sent(tmp_path: Path, namespace: object) -> None:
    bundle = told(tmp_path / "runs", 1)

    def spoil(events: list[Any]) -> list[Any]:
        events[2]["outputs"][0]["namespace"] = namespace
        return events

    set_lines(bundle, spoil)
    with Listener() as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url))
        assert len(server.asked) == 7
    assert "not sent: the namespace" in entry(bundle)["aside"][0]["reason"]


@pytest.mark.parametrize("line", [b"{", b"[]", b"7", b"null", b'{"job": {}}', b'{"job": {"name": ""}}', b'{"job": 3}', b"[" * 100_000])
def test_a_line_that_is_no_event_is_put_aside(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is not JSON|has no name"):
        delivery_queue.sendable(line)


def test_an_event_goes_as_it_stands_in_the_file() -> None:
    line = b'{"job":{"name":"x", "namespace":"default"},"inputs":[{"namespace":"s3://bucket"}], "n": 1.50}'
    assert delivery_queue.sendable(line) == line


# ------------------------------------------------------------------------------------------------ who asks, and where


def test_the_key_goes_as_bearer_and_stands_nowhere_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener(lambda event, count: (401, KEY.encode())) as server:
        where = settings(bundle.parent, server.url.replace("://", "://ann:pw@"), OPENLINEAGE_API_KEY=KEY)
        deliver_at_end(bundle, where)
        assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    told_somewhere = (bundle / "delivery.json").read_text() + caplog.text + repr(Server.of(where))
    assert (KEY in told_somewhere, "ann" in told_somewhere, "**********@127.0.0.1" in told_somewhere) == (False, False, True)


def test_user_and_password_of_the_address_go_as_basic(tmp_path: Path) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener() as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url.replace("://", "://ann:p%40w@")))
        assert server.headers[0]["Authorization"] == "Basic YW5uOnBAdw=="


def test_a_server_that_repeats_user_and_password_does_not_bring_them_into_the_bundle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener(lambda event, count: (403, b"Authorization: Basic YW5uOnBAdw== is p@w")) as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url.replace("://", "://ann:p%40w@")))
    assert entry(bundle)["detail"] == "it answers 403 Authorization: Basic ********** is **********"
    assert "p@w" not in caplog.text


@pytest.mark.parametrize(
    ("address", "path"),
    [("", "/api/v1/lineage"), ("/", "/api/v1/lineage"), ("/marquez/", "/marquez/api/v1/lineage"), ("/api/v1/lineage", "/api/v1/lineage")],
)
def test_the_endpoint_is_below_the_address(tmp_path: Path, address: str, path: str) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener() as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url + address))
        assert set(server.paths) == {path}


def test_a_key_with_a_line_break_is_pending_and_not_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = told(tmp_path / "runs", 1)
    with Listener() as server:
        deliver_at_end(bundle, settings(bundle.parent, server.url, OPENLINEAGE_API_KEY="one\ntwo"))
        assert server.asked == []
    assert "the key or the address" in entry(bundle)["detail"]
    assert "two" not in entry(bundle)["detail"] + caplog.text


@pytest.mark.parametrize("url", ["localhost:5080", "ftp://host", "http://", "http://host:99999", "console"])
def test_an_address_that_is_none_is_refused_before_anything_runs(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="OPENLINEAGE_URL"):
        settings(tmp_path, url)


def test_over_tls_the_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    try:
        subprocess.run([*made, "-keyout", str(key), "-out", str(certificate), *name], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not there to make a certificate")
    bundle = told(tmp_path / "runs", 1)
    with Listener() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        where = settings(bundle.parent, server.url.replace("http://127.0.0.1", "https://localhost"))
        deliver_at_end(bundle, where)
        assert "CERTIFICATE" in entry(bundle)["detail"].upper() or "self" in entry(bundle)["detail"]
        assert server.asked == []
        lineage_server._tls.cache_clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        deliver_at_end(bundle, where)
        assert server.taken == lines(bundle)
    lineage_server._tls.cache_clear()


@pytest.mark.usefixtures("brief")
def test_a_tls_server_that_never_shakes_hands_does_too(folder: Path) -> None:
    with raw_server(read_all) as url:
        assert seconds_of(folder, url.replace("http", "https")) < LONG


def test_a_failed_request_leaves_no_open_connection(folder: Path) -> None:
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        read_all(connection)
        ended.set()

    with raw_server(serve) as url, Connection(Server.of(settings(folder.parent, url)), Patience.in_all(2.0)) as connection:
        connection.open()
        with pytest.raises(BackendError, match="no answer in time"):
            connection.post(b"{}")
        assert ended.wait(LONG)
