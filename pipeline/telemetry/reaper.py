"""Closes the bundles of runs whose process is gone, so that no tool shows them as running.

A dead run leaves `run.lock` behind without a lock on it. Its manifest gets the state LOST, which it keeps, an end (its last
sign of life), and the time it was closed; its log gets a last record (`lost_log.py`); lineage and experiments are closed by
callables, since this module knows neither.
Two reapers at once are safe: each bundle is closed under a lock on its folder, by whoever gets it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.clock import MACHINE
from pipeline.errors import RunNotFoundError
from pipeline.records import State
from pipeline.telemetry import bundle, lost_log, manifest, privacy
from pipeline.telemetry.bundle import Bundle

_log = logging.getLogger(__name__)

# What else has to be closed for a bundle: gets its folder, the end in nanoseconds since the epoch, and a message.
Closer = Callable[[Path, int, str], None]

LOST = "lost"
MESSAGE = "the process that ran it is gone"
MESSAGE_PUBLISHED = "the process that ran it is gone; it had published before"
HINT = "it was killed, or the machine went down; the lake is as it was unless its current.json names this run; run it again (docs/errors.md#lost)"
HINT_PUBLISHED = "it was killed, or the machine went down, after it had published; its telemetry has gaps (docs/errors.md#lost)"
# What the report, the deliverer or this module write later is no sign of the run's life.
_SIGNS = (bundle.MANIFEST, bundle.TRACES, bundle.METRICS, bundle.LOGS, bundle.CHECKS, "lineage.ndjson")


def reap(runs: Path, *, before: uuid.UUID | None = None, closers: Sequence[Closer] = ()) -> list[Bundle]:
    """Close every run whose process is gone, and return their bundles as they are now, newest first.

    A bundle that can't be closed (another user's, a full disk) is told in the log and tried again next time; so is a closer's
    error, but the manifest is written all the same.

    Args:
        runs: the folder with the bundles.
        before: leave runs alone that began with or after this one.
        closers: what else to close for each, in this order, before the manifest is written.
    """
    reaped = []
    for path in bundle.folders(runs):
        if (before is None or path.name < str(before)) and _is_left(path):
            try:
                reaped += _reap_one(path, closers)
            except Exception as error:  # noqa: BLE001 - somebody's old bundle, whatever is wrong with it, must not keep a new run from starting
                _log.warning("run %s is lost and can't be closed: %s", path.name, privacy.message(error))
    return reaped


def _is_left(path: Path) -> bool:
    return path.parent.name != bundle.ARCHIVE and not bundle.is_alive(path) and (path / bundle.LOCK).exists()


def _reap_one(path: Path, closers: Sequence[Closer]) -> list[Bundle]:
    with _claimed(path) as claimed:
        if not claimed or not _is_dead(path):
            return []
        _close(path, closers)
        return [bundle.read(path)]


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Whether this process is the one to close the bundle. The lock is on the folder: one on `run.lock` would mean a living run."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _is_dead(path: Path) -> bool:
    """Whether the manifest still says RUNNING, now that nobody else closes it."""
    try:
        found = bundle.read(path)
    except RunNotFoundError:
        return False  # it died before its first manifest, so there is no run to close
    if found.is_finished:
        # It ended, and died before it could take its lock file away.
        (path / bundle.LOCK).unlink(missing_ok=True)
    return found.state is State.LOST and not found.is_finished


def _close(path: Path, closers: Sequence[Closer]) -> None:
    record = dict(bundle.read(path).manifest)
    message = MESSAGE_PUBLISHED if _has_published(record) else MESSAGE
    offset_ns = round((record.get("clock_offset_seconds") or 0) * 1e9)
    ended_ns = last_sign_of_life(path) + offset_ns
    for closer in closers:
        try:
            closer(path, ended_ns, message)
        except Exception as error:  # noqa: BLE001 - one backend's trouble must not keep the run's state wrong
            _log.warning("run %s: a part of it can't be closed: %s", path.name, privacy.message(error))
    reaped_ns = MACHINE.now_ns() + offset_ns
    closed = lost(record, ended_ns, reaped_ns)
    bundle.release(path)
    try:
        lost_log.append(path, closed, ended_ns, reaped_ns)
    except (OSError, ValueError, LookupError, TypeError) as error:  # a log that is not ours to mend must not keep the run's state wrong
        _log.warning("run %s: its log can't be closed: %s", path.name, privacy.message(error))
    bundle.write_json(path / bundle.MANIFEST, closed)
    (path / bundle.LOCK).unlink(missing_ok=True)


def last_sign_of_life(path: Path) -> int:
    """When a run last wrote anything, in nanoseconds since the epoch by the machine's clock."""
    return max(file.stat().st_mtime_ns for name in _SIGNS if (file := path / name).exists())


def lost(record: dict[str, Any], ended_ns: int, reaped_ns: int) -> dict[str, Any]:
    """The manifest of a run that was lost: the run and its running steps end, with the reason."""
    message, hint = (MESSAGE_PUBLISHED, HINT_PUBLISHED) if _has_published(record) else (MESSAGE, HINT)
    failure = {"type": LOST, "message": message, "hint": hint, "exception": "", "step": None, "stacktrace": ""}
    steps = [_lost_step(step, ended_ns, failure) if step["state"] == State.RUNNING.value else step for step in record["steps"]]
    running = next((step["name"] for step in record["steps"] if step["state"] == State.RUNNING.value), None)
    return {
        **record,
        "state": State.LOST.value,
        "ended_at": manifest.iso(ended_ns),
        "reaped_at": manifest.iso(reaped_ns),
        "seconds": _seconds(record["started_at"], ended_ns),
        "failure": {**failure, "step": running},
        "steps": steps,
    }


def _has_published(record: Mapping[str, Any]) -> bool:
    return any(output["published"] for output in record["outputs"])


def _lost_step(step: dict[str, Any], ended_ns: int, failure: dict[str, Any]) -> dict[str, Any]:
    return {
        **step,
        "state": State.LOST.value,
        "ended_at": manifest.iso(ended_ns),
        "seconds": _seconds(step["started_at"], ended_ns),
        "failure": {**failure, "step": step["name"]},
    }


def _seconds(started_at: str, ended_ns: int) -> float:
    """The time between, never negative: file times are coarser than the clock."""
    started = datetime.fromisoformat(started_at).replace(tzinfo=UTC).timestamp()
    return max(0.0, round(ended_ns / 1e9 - started, 6))
