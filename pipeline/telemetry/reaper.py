"""Closes the bundles of runs whose process is gone, so that no tool shows them as running.

A dead run leaves `run.lock` behind without a lock on it. Lineage and experiments are closed by callables, since this module knows neither; then its
manifest gets the state LOST, which it keeps, an end (its last sign of life), and the time it was closed; then log, trace and metrics
get what is missing (`lost.py`), and the lock file goes. Whoever finds one left behind goes on where that stopped.
Two reapers at once are safe: each bundle is closed under a lock on its folder, by whoever gets it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.clock import MACHINE
from pipeline.errors import RunNotFoundError
from pipeline.records import State
from pipeline.telemetry import bundle, lost, manifest, privacy
from pipeline.telemetry.bundle import Bundle
from pipeline.telemetry.manifest_reader import nanoseconds

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
        try:
            found = bundle.read(path) if claimed else None
        except RunNotFoundError:
            found = None  # it died before its first manifest, so there is no run to close
        if found is None or found.state is State.RUNNING:
            return []
        if not found.is_finished:
            _close(path, closers)
        _leave(path)
        return [] if found.is_finished else [bundle.read(path)]


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


def _close(path: Path, closers: Sequence[Closer]) -> None:
    record = dict(bundle.read(path).manifest)
    message = MESSAGE_PUBLISHED if _has_published(record) else MESSAGE
    offset_ns = round((record.get("clock_offset_seconds") or 0) * 1e9)
    # A file's time is coarser than a clock's, and a manifest's is in microseconds.
    started_ns = max(nanoseconds(each["started_at"]) for each in (record, *record["steps"]))
    ended_ns = max((last_sign_of_life(path) + offset_ns) // 1000 * 1000, started_ns)
    for closer in closers:
        try:
            closer(path, ended_ns, message)
        except Exception as error:  # noqa: BLE001 - one backend's trouble must not keep the run's state wrong
            _log.warning("run %s: a part of it can't be closed: %s", path.name, privacy.message(error))
    closed = lost_manifest(record, ended_ns, MACHINE.now_ns() + offset_ns)
    bundle.release(path)
    bundle.write_json(path / bundle.MANIFEST, {**closed, "success_share_20": lost.success_share_20(path, closed)})


def _leave(path: Path) -> None:
    """Let the other files say how a lost run ended too, and take the lock file away: until then somebody has to come again."""
    record = bundle.read(path).manifest
    if record["state"] == State.LOST.value:
        try:
            lost.tell(path, record)
        except OSError as error:
            _log.warning("run %s: its telemetry can't be closed: %s", path.name, privacy.message(error))
            return
    (path / bundle.LOCK).unlink(missing_ok=True)


def last_sign_of_life(path: Path) -> int:
    """When a run last wrote anything, in nanoseconds since the epoch by the machine's clock."""
    return max(file.stat().st_mtime_ns for name in _SIGNS if (file := path / name).exists())


def lost_manifest(record: dict[str, Any], ended_ns: int, reaped_ns: int) -> dict[str, Any]:
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
        "seconds": manifest.seconds(nanoseconds(record["started_at"]), ended_ns),
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
        "seconds": manifest.seconds(nanoseconds(step["started_at"]), ended_ns),
        "failure": {**failure, "step": step["name"]},
    }
