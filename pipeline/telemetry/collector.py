"""Hands the telemetry of archived bundles to the collector: it tails `runs/*/` and never looks into the archive.

A line of a bundle is an OTLP Export request already, so it is posted to the collector's OTLP/HTTP receiver as it is. What was handed
over stands in the bundle's `delivery.json`. A record that was read before, when its bundle was not archived yet, does no harm: each
store takes the same record twice for one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pipeline import delivery_file
from pipeline._version import __version__
from pipeline.clock import MACHINE
from pipeline.errors import BackendError
from pipeline.telemetry import bundle, manifest

if TYPE_CHECKING:
    from urllib3 import PoolManager, Retry, Timeout
    from urllib3.exceptions import HTTPError

KEY: Final = "telemetry"
# Of lines that go in one request; a line that is longer goes alone.
MAX_BYTES: Final = 1024 * 1024
# With the pauses between them half a minute, in which a collector that is short of memory gets room again.
ATTEMPTS: Final = 9
_PAUSE_SECONDS = 5
_CONNECT_SECONDS = 2.0
# It waits with its answer while the queue to a store is full.
_ANSWER_SECONDS = 20.0
# What OTLP says is worth another try, and what speaks of the records in the request. All else means that no collector answers there.
_TRY_AGAIN = frozenset({429, 502, 503, 504})
_REFUSED = frozenset({400, 413, 500})

OnProgress = Callable[[Path], None]
_log = logging.getLogger(__name__)


class State(StrEnum):
    """What became of a bundle's telemetry. `failed`: all was sent, and some lines are broken or were refused."""

    DELIVERED = "delivered"
    FAILED = "failed"
    PENDING = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A file of a bundle, the path that takes its lines, and the one key that each of them has."""

    file: str
    path: str
    key: str


SIGNALS: Final = (
    Signal(file=bundle.TRACES, path="/v1/traces", key="resourceSpans"),
    Signal(file=bundle.METRICS, path="/v1/metrics", key="resourceMetrics"),
    Signal(file=bundle.LOGS, path="/v1/logs", key="resourceLogs"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """What it came to: how many runs were handed over and how many wait, what is wrong with single ones, and why it stopped, if it did."""

    runs: int
    waiting: int
    troubles: tuple[str, ...]
    problem: BackendError | None


def archived(runs: Path) -> list[Path]:
    """The archived bundles that have telemetry, oldest first."""
    return [folder for folder in reversed(bundle.folders(runs)) if folder.parent.name == bundle.ARCHIVE and _has_telemetry(folder)]


def waiting(runs: Path, target: str) -> list[Path]:
    """Those of them that the collector at `target` was not given yet, oldest first."""
    return [folder for folder in archived(runs) if not _is_settled(folder, target)]


def forget(runs: Path) -> None:
    """Note that all of them wait: for a collector whose storage is new, as the stores' is then.

    It is noted before that storage is made, so that who is interrupted in between leaves them to the next.
    """
    for folder in archived(runs):
        if KEY not in delivery_file.read(folder):
            continue
        try:
            _note(folder, State.PENDING, "", "the collector's storage was new: to be sent once more")
        except OSError as error:
            _log.warning("what became of the telemetry of run %s can't be noted: %s", folder.name, error.strerror)


def deliver(folders: Sequence[Path], target: str, *, attempts: int = ATTEMPTS, on_progress: OnProgress | None = None) -> HandedOver:
    """Post what bundles hold to a collector, bundle by bundle, in the order given, and note it in each.

    Args:
        folders: the bundles.
        target: the address of the collector's OTLP/HTTP receiver.
        attempts: how often a request is tried while the collector is away or has no room.
        on_progress: is told of each bundle when it was looked at.
    """
    runs, looked_at, troubles = 0, 0, list[str]()
    with _Receiver(target, attempts) as receiver:
        for folder in folders:
            try:
                left_out = receiver.take(folder)
                runs += 1
                troubles += _settle(folder, target, left_out)
            except BackendError as error:
                return HandedOver(runs=runs, waiting=len(folders) - looked_at, troubles=tuple(troubles), problem=error)
            except OSError as error:
                troubles.append(f"the telemetry of run {folder.name} can't be read, or not be noted: {error.strerror}")
            looked_at += 1
            if on_progress:
                on_progress(folder)
    return HandedOver(runs=runs, waiting=0, troubles=tuple(troubles), problem=None)


# ---------------------------------------------------------------------------------------------- delivery.json


def _has_telemetry(folder: Path) -> bool:
    try:
        return any((folder / signal.file).exists() for signal in SIGNALS)
    except OSError:
        return True  # a closed door: whoever sends says so


def _is_settled(folder: Path, target: str) -> bool:
    known = delivery_file.read(folder).get(KEY)
    return isinstance(known, dict) and known.get("state") in (State.DELIVERED, State.FAILED) and known.get("target") == target


def _settle(folder: Path, target: str, left_out: int) -> list[str]:
    """Note that a bundle was handed over, and return what was wrong with it."""
    if not left_out:
        _note(folder, State.DELIVERED, target, "")
        return []
    detail = f"{left_out} {'line is' if left_out == 1 else 'lines are'} broken or refused, and left out"
    _note(folder, State.FAILED, target, detail)
    return [f"of the telemetry of run {folder.name}, {detail}"]


def _note(folder: Path, state: State, target: str, detail: str) -> None:
    delivery_file.write(folder, KEY, {"state": state.value, "target": target, "at": manifest.iso(MACHINE.now_ns()), "detail": detail})


# ---------------------------------------------------------------------------------------------- requests


class _Receiver:
    """The collector's OTLP/HTTP receiver."""

    def __init__(self, target: str, attempts: int) -> None:
        from urllib3 import PoolManager

        # It would print a warning for each attempt; who called is told of the last.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        self._target = target
        self._pool: PoolManager = PoolManager(
            retries=_retries(attempts), headers={"Content-Type": "application/json", "User-Agent": f"goldtrace/{__version__}"}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.clear()

    def take(self, folder: Path) -> int:
        """Post all lines of a bundle, and return how many were left out.

        No two runs share a request: Prometheus refuses a whole request for one sample that is too old.

        Raises:
            BackendError: the collector is away.
            OSError: a file can't be read.
        """
        there = [signal for signal in SIGNALS if (folder / signal.file).exists()]
        return sum(self._post_lines(signal, lines) for signal in there for lines in _batches(folder / signal.file))

    def _post_lines(self, signal: Signal, lines: Sequence[bytes]) -> int:
        """Post lines in one request, or each alone where that is refused, and return how many were left out."""
        parts = [part for line in lines if (part := _part(line, signal.key)) is not None]
        broken = len(lines) - len(parts)
        if not parts or self._is_taken(signal, parts):
            return broken
        return broken + (1 if len(parts) == 1 else sum(not self._is_taken(signal, [part]) for part in parts))

    def _is_taken(self, signal: Signal, parts: Sequence[list[Any]]) -> bool:
        from urllib3.exceptions import HTTPError

        body = json.dumps({signal.key: [each for part in parts for each in part]}, separators=(",", ":"))
        try:
            answer = self._pool.request("POST", self._target + signal.path, body=body.encode("ascii"), timeout=_timeout())
        except HTTPError as error:
            raise self._away(_reason(error)) from error
        if 200 <= answer.status < 300:
            return True
        if answer.status in _REFUSED:
            return False
        raise self._away(f"it answers {answer.status}")

    def _away(self, reason: str) -> BackendError:
        hint = "make obs.logs ARGS=collector; make obs.up goes on where this stopped"
        return BackendError(f"the collector at {self._target} can't be reached: {reason}", hint=hint, reason=reason, target=self._target)


def _retries(attempts: int) -> Retry:
    from urllib3 import Retry

    return Retry(
        total=attempts - 1,
        read=min(1, attempts - 1),
        redirect=False,
        allowed_methods=None,
        status_forcelist=_TRY_AGAIN,
        backoff_factor=0.5,
        backoff_max=_PAUSE_SECONDS,
        retry_after_max=_PAUSE_SECONDS,
        raise_on_status=False,
    )


def _timeout() -> Timeout:
    from urllib3 import Timeout

    return Timeout(connect=_CONNECT_SECONDS, read=_ANSWER_SECONDS)


def _reason(error: HTTPError) -> str:
    from urllib3 import exceptions

    found = error.reason if isinstance(error, exceptions.MaxRetryError) else error
    if isinstance(found, exceptions.NewConnectionError):
        return "connection refused" if isinstance(found.__cause__ or found.__context__, ConnectionRefusedError) else "no connection"
    return "no answer in time" if isinstance(found, exceptions.TimeoutError) else "connection broken off"


def _batches(path: Path) -> Iterator[list[bytes]]:
    """The lines of a file, in their order, as many together as fit into a request."""
    lines, size = list[bytes](), 0
    with path.open("rb") as file:
        for line in file:
            if lines and size + len(line) > MAX_BYTES:
                yield lines
                lines, size = [], 0
            lines.append(line)
            size += len(line)
    if lines:
        yield lines


def _part(line: bytes, key: str) -> list[Any] | None:
    """What stands under a line's key; None when the line is broken."""
    try:
        found = json.loads(line, parse_constant=_no_number)[key]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
