"""A real HTTP server in front of another (DynamoDB, S3, MLflow's): it hands requests on, and does to some of them what it is told."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """What is answered in the server's place."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/x-amz-json-1.0"),)


class Lost(NamedTuple):
    """The request is done, and its answer is thrown away."""


class Slow(NamedTuple):
    """The request waits for so many seconds before it is handed on."""

    seconds: float


class Silent(NamedTuple):
    """Nothing is answered for so many seconds, and nothing is done."""

    seconds: float


Fault = Answer | Lost | Slow | Silent | None


def refusing(status: int, code: str, message: str = "said on purpose", **more: Any) -> Answer:
    """An error as DynamoDB writes it."""
    return Answer(status, json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "Message": message, "message": message, **more}).encode())


def cancelled(*reasons: str) -> Answer:
    """A transaction that was not done, with each action's reason."""
    told = [{"Code": reason, "Message": None if reason == "None" else "said on purpose"} for reason in reasons]
    return refusing(400, "TransactionCanceledException", f"Transaction cancelled for specific reasons [{', '.join(reasons)}]", CancellationReasons=told)


class Proxy:
    """`fault` is asked for each request by its operation and body. `asked` are the operations, as they came."""

    def __init__(self, target: str) -> None:
        self.fault: Callable[[str, bytes], Fault] = lambda operation, body: None
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.times: list[float] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(urlsplit(target).netloc))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._over = threading.Event()

    def forget(self) -> None:
        """Do no harm from now on, and begin to count anew."""
        self.fault = lambda operation, body: None
        for noted in (self.asked, self.bodies, self.times):
            noted.clear()

    def first(self, times: int, fault: Fault, *operations: str) -> None:
        """Do this to the first requests of these operations (all, when none is named)."""
        left = [times]

        def choose(operation: str, body: bytes) -> Fault:
            if (operations and operation not in operations) or left[0] == 0:
                return None
            left[0] -= 1
            return fault

        self.fault = choose

    def _handler(self, target: str) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                operation = (self.headers["X-Amz-Target"] or f"{self.command} {self.path}").rpartition(".")[2]
                proxy.asked.append(operation)
                proxy.bodies.append(body)
                proxy.times.append(time.monotonic())
                fault = proxy.fault(operation, body)
                if isinstance(fault, Silent):
                    proxy._over.wait(fault.seconds)
                    self.close_connection = True
                    return
                if isinstance(fault, Slow):
                    time.sleep(fault.seconds)
                answer = fault if isinstance(fault, Answer) else self._hand_on(body)
                if isinstance(fault, Lost):
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                with suppress(OSError):  # whoever asked is gone
                    self.wfile.write(answer.body)

            do_GET = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_POST  # noqa: N815 - the base class's names

            def _hand_on(self, body: bytes) -> Answer:
                connection = HTTPConnection(target, timeout=30)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                headers = [(name, value) for name, value in answer.getheaders() if name.lower() in ("content-type", "etag", "last-modified")]
                said = Answer(answer.status, answer.read(), tuple(headers))
                connection.close()
                return said

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
