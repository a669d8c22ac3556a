"""Asking a server one thing over HTTP, with a deadline for the whole answer: the only module of the doctor that knows urllib3.

urllib3 and nothing above it, as it reads no proxy from the environment: the servers asked here are this machine's, or, for lineage, one that runs
send to without a proxy too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pipeline.errors import BackendError
from pipeline.settings import mask

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

# More than any answer about one small run, and less than would hurt.
MAX_BYTES = 16 * 1024 * 1024
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said: status, its own clock, and the body."""

    url: str
    status: int
    date: datetime | None
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            BackendError: it is none, so another program answers there.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise BackendError(f"no JSON at {mask(self.url)}: does another program answer there?") from error

    def expect_success(self) -> Answer:
        """This answer.

        Raises:
            BackendError: its status is not 2xx.
        """
        if not 200 <= self.status < 300:
            raise BackendError(f"HTTP {self.status} at {mask(self.url)}", status=self.status)
        return self


def ask(
    url: str, query: Mapping[str, str] | None = None, *, timeout: float = 2.0, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """The answer to a GET, or to a POST of JSON when there is a `body`. Redirections are not followed: no server here needs one.

    Args:
        url: what is asked.
        query: put behind it, encoded.
        timeout: seconds for all of it.
        body: JSON to post.
        headers: sent along, to say who asks.

    Raises:
        BackendError: there is no answer; the message says why.
    """
    from urllib3.exceptions import HTTPError

    whole = f"{url}?{urlencode(query)}" if query else url
    deadline = time.monotonic() + timeout
    method, sent = ("GET", {}) if body is None else ("POST", {"Content-Type": "application/json"})
    try:
        response = _pool().request(method, whole, body=body, headers={**sent, **(headers or {})}, timeout=timeout, retries=False, preload_content=False)
        try:
            content = _read(response, deadline)
        finally:
            response.release_conn()
    except (HTTPError, OSError, ValueError) as error:
        raise BackendError(f"{_reason(error, timeout)} at {mask(url)}", reason=_reason(error, timeout)) from error
    return Answer(url=url, status=response.status, date=_date(response.headers.get("Date")), body=content)


@cache
def _pool() -> PoolManager:
    """One for the process, safe for threads, so that polling opens no connection each time."""
    from urllib3 import PoolManager

    return PoolManager(num_pools=20, maxsize=4)


def _read(response: BaseHTTPResponse, deadline: float) -> bytes:
    """The body. A server that sends a byte now and then never runs into the timeout of a single read."""
    parts: list[bytes] = []
    for part in response.stream(_CHUNK):
        parts.append(part)
        if time.monotonic() > deadline or sum(map(len, parts)) > MAX_BYTES:
            response.close()
            raise TimeoutError
    return b"".join(parts)


def _reason(error: Exception, timeout: float) -> str:
    """Why there is no answer, in the words of somebody who looks at servers."""
    from urllib3 import exceptions

    if isinstance(error, exceptions.TimeoutError | TimeoutError) and not isinstance(error, exceptions.NewConnectionError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, exceptions.NameResolutionError):
        return "unknown host"
    if isinstance(error, exceptions.NewConnectionError):
        return "connection refused" if isinstance(error.__cause__ or error.__context__, ConnectionRefusedError) else "no connection"
    if isinstance(error, exceptions.ProtocolError | ConnectionError):
        return "connection broken off"
    if isinstance(error, exceptions.SSLError):
        return "no secure connection"
    if isinstance(error, exceptions.LocationValueError):
        return "no web address"
    return "the key or the address can't be sent" if isinstance(error, ValueError) else "no answer"


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
