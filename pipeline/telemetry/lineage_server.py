"""Posts OpenLineage events over one HTTP connection, until a moment that nothing a server does can move.

Before each read the socket asks how much time is left, so a server that sends a byte now and then ends like one that sends none.
The client is the standard library's: openlineage has loaded it in every run, so it costs nothing (urllib3, requests and httpx are two
to four times as slow to import alone); it follows no redirection, which would hand the key to somebody else, repeats nothing by
itself, and reads no proxy from the environment. It is imported only once something listens.
"""

from __future__ import annotations

import base64
import math
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from pipeline._version import __version__
from pipeline.errors import BackendError
from pipeline.settings import Settings, mask

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse
    from ssl import SSLContext

ENDPOINT = "/api/v1/lineage"
# Of an answer's body: enough for a reason, and little enough to throw away.
MAX_BODY = 8 * 1024
MAX_WORDS = 300
# What a status says of the request as a whole (where it went, who asks, how often), not of the event in it.
_NOT_OF_THE_EVENT = frozenset({401, 402, 403, 404, 405, 407, 408, 410, 421, 423, 425, 426, 428, 429, 451, 502, 503, 504, 511})
_Address: TypeAlias = tuple[int, int, int, str, Any]


class Verdict(Enum):
    """What an answer means for an event."""

    TAKEN = "taken"
    REFUSED = "refused"
    BROKEN = "broken"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and the words that came with it."""

    status: int
    words: str

    @property
    def verdict(self) -> Verdict:
        """TAKEN; REFUSED for good; BROKEN: the server failed over it, which may be the event's doing; AWAY: nothing to do with the event."""
        if 200 <= self.status < 300:
            return Verdict.TAKEN
        if self.status in _NOT_OF_THE_EVENT or self.status < 400:
            return Verdict.AWAY
        return Verdict.REFUSED if self.status < 500 else Verdict.BROKEN

    def __str__(self) -> str:
        return f"{self.status} {self.words}".strip()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait: `request` seconds for one answer, and for everything until a moment of `time.monotonic()`.

    For a server that has answered once, everything may take until `answering`, if that is later.
    """

    request: float
    until: float = math.inf
    answering: float = -math.inf

    @classmethod
    def in_all(cls, seconds: float, answering: float = 0.0) -> Patience:
        """So many seconds from now on for everything, and `answering` seconds if that is more and the server does answer."""
        now = time.monotonic()
        return cls(seconds, now + seconds, now + answering)

    def answered(self) -> Patience:
        """What is left for a server that has answered."""
        return self if self.answering <= self.until else replace(self, request=self.answering - time.monotonic(), until=self.answering)

    def deadline(self) -> float:
        """By when a request that is made now has to be answered."""
        return min(self.until, time.monotonic() + self.request)

    @property
    def left(self) -> float:
        """Seconds until the end, infinite when there is none."""
        return max(0.0, self.until - time.monotonic())


@dataclass(frozen=True, slots=True)
class Server:
    """Where events go. Neither its text nor its `repr` shows a key or a password."""

    target: str
    _url: SplitResult = field(repr=False)
    _key: str = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Server:
        """The server of `OPENLINEAGE_URL`."""
        key = settings.openlineage_api_key.get_secret_value().strip() if settings.openlineage_api_key else ""
        return cls(mask(settings.openlineage_url), urlsplit(settings.openlineage_url), key)

    @property
    def is_secure(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self._url.scheme == "https"

    @property
    def host(self) -> str:
        """The host's name or address."""
        return self._url.hostname or ""

    @property
    def port(self) -> int:
        """The port, the scheme's unless the address names one."""
        return self._url.port or (443 if self.is_secure else 80)

    def path(self, endpoint: str = ENDPOINT) -> str:
        """The path of an endpoint, below the address's own."""
        return self._url.path.rstrip("/").removesuffix(ENDPOINT) + endpoint

    def url(self, endpoint: str) -> str:
        """The address of an endpoint for another client; who asks is left to the `headers`."""
        return urlunsplit((self._url.scheme, self._url.netloc.rpartition("@")[2], self.path(endpoint), "", ""))

    def headers(self) -> dict[str, str]:
        """What each request says of itself and of who asks."""
        headers = {"Content-Type": "application/json", "User-Agent": f"goldtrace/{__version__}"}
        if self._key:
            return {**headers, "Authorization": f"Bearer {self._key}"}
        return {**headers, "Authorization": f"Basic {self._basic}"} if self._basic else headers

    @property
    def _basic(self) -> str:
        """User and password as a header has them; empty when the address has none."""
        if self._url.username is None:
            return ""
        return base64.b64encode(f"{unquote(self._url.username)}:{self._password}".encode()).decode()

    @property
    def _password(self) -> str:
        return unquote(self._url.password or "")

    def tidy(self, text: str) -> str:
        """A server's words as one short line, without the key or the password, should the server repeat what it was sent."""
        for secret in filter(None, (self._key, self._basic, self._password)):
            text = text.replace(secret, "**********")
        return mask("".join(sign if sign.isprintable() else " " for sign in text))[:MAX_WORDS].strip()


class Connection:
    """A connection to a server for as long as the context lasts; it is made anew when the server has ended it."""

    def __init__(self, server: Server, patience: Patience) -> None:
        self.server = server
        self.patience = patience
        self._http: HTTPConnection | None = None
        self._socket: _Timed | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def open(self) -> None:
        """Connect.

        Raises:
            BackendError: nothing answers; the message says why.
        """
        try:
            self._socket = _connect(self.server.host, self.server.port, self.patience.deadline())
        except OSError as error:
            raise self._error(error) from error

    def post(self, event: bytes) -> Answer:
        """Send an event, and wait for the answer.

        Raises:
            BackendError: there is none.
        """
        answer = self._ask("POST", self.server.path(), event)
        self.patience = self.patience.answered()
        return answer

    def is_well(self, namespace: str) -> bool:
        """Whether the server answers a question that has nothing to do with an event, but that its database has to answer."""
        try:
            return self._ask("GET", self.server.path(f"/api/v1/namespaces/{quote(namespace, safe='')}")).status < 500
        except BackendError:
            return False

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        from http.client import HTTPException

        is_used, deadline = self._http is not None, self.patience.deadline()
        try:
            try:
                return self._exchange(method, path, body, deadline)
            except (ConnectionResetError, BrokenPipeError):
                if not is_used:
                    raise
            # A server may end a connection that it has kept for a while, just when the next request is under way.
            self._drop()
            return self._exchange(method, path, body, deadline)
        except (OSError, HTTPException, ValueError) as error:
            self._drop()
            raise self._error(error) from None  # where a header can't be sent, the library's own message has its value

    def _exchange(self, method: str, path: str, body: bytes | None, deadline: float) -> Answer:
        http = self._connected(deadline)
        http.sock.until = deadline  # type: ignore[union-attr] # ours: _Timed, or the same over TLS
        http.request(method, path, body, self.server.headers())
        with http.getresponse() as response:
            answer = Answer(response.status, self.server.tidy(self._body(response)))
            is_over = response.isclosed()
        if not is_over or http.sock is None:
            self._drop()  # a body that is too long, or the server's wish
        return answer

    def _body(self, response: HTTPResponse) -> str:
        """The first of the body: the status has said it all, so that the rest is missing is no failure."""
        from http.client import HTTPException

        read = b""
        with suppress(OSError, HTTPException):
            read = response.read(MAX_BODY)
        return "" if 200 <= response.status < 300 else read.decode("utf-8", "replace")

    def _connected(self, deadline: float) -> HTTPConnection:
        if self._http is None:
            from http.client import HTTPConnection

            opened, self._socket = self._socket, None
            opened = opened or _connect(self.server.host, self.server.port, deadline)
            opened.until = deadline
            self._http = HTTPConnection(self.server.host, self.server.port)
            self._http.auto_open = 0  # it would connect with timeouts of its own
            self._http.response_class = _response_class()
            self._http.sock = _secured(opened, self.server.host) if self.server.is_secure else opened
        return self._http

    def _drop(self) -> None:
        for each in (self._http, self._socket):
            if each is not None:
                with suppress(OSError):
                    each.close()
        self._http = self._socket = None

    def _error(self, error: Exception) -> BackendError:
        reason = _reason(error)
        return BackendError(f"lineage can't be sent to {self.server.target}: {reason}", reason=reason, target=self.server.target)


def _reason(error: Exception) -> str:
    """Why there is no answer, in words that hold nothing of the request's."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionError):
        return "connection broken off"
    if isinstance(error, socket.gaierror):
        return "unknown host"
    if isinstance(error, OSError):
        return f"no connection ({getattr(error, 'verify_message', None) or error.strerror or type(error).__name__})"
    if isinstance(error, ValueError):
        return "the key or the address can't be sent: is there a line break in it?"
    return f"no answer in HTTP ({type(error).__name__})"


@cache
def _response_class() -> type[HTTPResponse]:
    from http.client import HTTPResponse

    class Response(HTTPResponse):
        """An answer that a signal may cut off while it is being made: without `fp`, Python complains of its half on stderr."""

        fp = None  # type: ignore[assignment] # the base class has none until its first line of work is done

    return Response


# ---------------------------------------------------------------------------------------------- the socket


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return min(left, 3600.0)


class _Timed(socket.socket):
    """A socket that waits until a moment, not for so many seconds after each byte."""

    until = math.inf

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(_left(self.until))
        return super().recv_into(*arguments, **options)

    def sendall(self, *arguments: Any, **options: Any) -> None:
        self.settimeout(_left(self.until))
        super().sendall(*arguments, **options)


def _secured(plain: _Timed, host: str) -> Any:
    try:
        context = _tls()
        plain.settimeout(_left(plain.until))
        secure = context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
    return secure


@cache
def _tls() -> SSLContext:
    import ssl

    class Timed(ssl.SSLSocket):
        """The same over TLS."""

        until = math.inf

        def recv_into(self, *arguments: Any, **options: Any) -> int:
            self.settimeout(_left(self.until))
            return super().recv_into(*arguments, **options)

        def send(self, *arguments: Any, **options: Any) -> int:
            self.settimeout(_left(self.until))
            return super().send(*arguments, **options)

    context = ssl.create_default_context()
    context.sslsocket_class = Timed
    return context


def _connect(host: str, port: int, until: float) -> _Timed:
    addresses = _addresses(host, port, until)
    for place, (family, kind, protocol, _, address) in enumerate(addresses, 1):
        opened = _Timed(family, kind, protocol)
        try:
            # One address that swallows everything leaves time for the next.
            opened.settimeout(_left(until) / (len(addresses) - place + 1))
            opened.connect(address)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException as error:
            opened.close()
            if place < len(addresses) and isinstance(error, OSError):
                continue
            raise
        return opened
    raise ConnectionRefusedError


def _addresses(host: str, port: int, until: float) -> list[_Address]:
    """What a host's name stands for. Nothing ends a look-up that no name server answers, so it has a thread to wait in."""
    with suppress(socket.gaierror):
        return _look_up(host, port, socket.AI_NUMERICHOST)
    found: SimpleQueue[list[_Address] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            found.put(_look_up(host, port, 0))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            found.put(error)

    threading.Thread(target=ask, name="goldtrace-lookup", daemon=True).start()
    try:
        answer = found.get(timeout=_left(until))
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer if isinstance(answer, OSError) else socket.gaierror from answer
    return answer


def _look_up(host: str, port: int, flags: int) -> list[_Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError as error:  # a part of it is empty or over 63 signs
        raise socket.gaierror(socket.EAI_NONAME, "no host's name") from error
    return [(*each[:3], str(each[3]), each[4]) for each in found]
