"""The lock of a lake on S3: an object that says who holds it, and that its holder writes again and again.

Each write is conditional on the object being what the writer saw last, so of two writers one is told. Who does not write for
`LEASE_SECONDS`, by the server's clock, has lost it: the next run takes it over. That the old one did not notice (its machine slept, its
network was away) does no harm: it looks before it publishes, and publishing is conditional itself. The lock of a process of
this machine that is gone is taken over at once. An empty object is a free lock.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.clock import MACHINE
from pipeline.engine.lake_store import LOCK
from pipeline.engine.s3_objects import ConflictError, Found, Objects
from pipeline.errors import LakeBusyError, LakeError
from pipeline.telemetry.manifest import iso

LEASE_SECONDS = 60.0
BEAT_SECONDS = 15.0
_POLL_SECONDS = 1.0

_log = logging.getLogger(__name__)
# The runs of this process that hold a lease: its own id in a lock is no sign that the run goes on.
_held: set[str] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds the lock, as its object says."""

    run_id: str
    pid: int
    host: str
    machine: str
    since: str

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """The holder; None for what no run wrote."""
        try:
            told = json.loads(content)
            return cls(run_id=str(told["run_id"]), pid=int(told["pid"]), host=str(told["host"]), machine=str(told["machine"]), since=str(told["since"]))
        except (ValueError, LookupError, TypeError):
            return None

    def __str__(self) -> str:
        return f"run {self.run_id}, process {self.pid} on {self.host}, since {self.since}"

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine that is no more. What is not known is no."""
        if self.machine != machine():
            return False
        if self.pid == os.getpid():
            return self.run_id not in _held
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False


def machine() -> str:
    """This machine since it was started, and this container on it: where a process id means one process."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = [platform.node(), f"{uuid.getnode():x}"]
    with suppress(OSError):  # elsewhere than on Linux the two above have to do
        parts += [boot.read_text(encoding="ascii").strip(), str(space.readlink())]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


class Lease:
    """One run's hold of the lock."""

    def __init__(self, objects: Objects, run_id: uuid.UUID) -> None:
        self._objects = objects
        self._run_id = str(run_id)
        self._since = iso(MACHINE.now_ns())
        self._beats = 0
        self._etag = ""
        self._lost = False
        self._writing = threading.Lock()
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="goldtrace-lease", daemon=True)

    # ------------------------------------------------------------------------------------------------- taking it

    def acquire(self, wait: float) -> None:
        """Take the lock when it is free or left behind.

        Raises:
            LakeBusyError: another run holds it, `wait` seconds long.
            LakeError: it can't be read or written.
        """
        deadline = time.monotonic() + wait
        while not self._try():
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._busy()
            time.sleep(min(_POLL_SECONDS, left))
        _held.add(self._run_id)
        self._heart.start()

    def _try(self) -> bool:
        found = self._objects.get(LOCK)
        if found is not None and found.content.strip() and not self._is_left(found):
            return False
        try:
            self._etag = self._objects.put(LOCK, self._content(), replacing=None if found is None else found.etag)
        except ConflictError:
            return False  # another run was quicker
        return True

    def _is_left(self, found: Found) -> bool:
        holder = Holder.parse(found.content)
        if holder is not None and holder.is_gone:
            _log.warning("the lock of the lake was left by %s, whose process is gone", holder)
            return True
        age = self._objects.age_seconds(LOCK, found.etag)
        return age is not None and age > LEASE_SECONDS

    def _busy(self) -> LakeBusyError:
        found = self._objects.get(LOCK)
        holder = Holder.parse(found.content) if found is not None else None
        hint = f"wait for it, or use --wait SECONDS; a lock that a killed run left on another machine ends after {LEASE_SECONDS:.0f} s"
        return LakeBusyError(f"another run writes to the lake {self._objects.address}{f' ({holder})' if holder else ''}", hint=hint)

    def _content(self) -> bytes:
        told: dict[str, Any] = {"run_id": self._run_id, "pid": os.getpid(), "host": platform.node(), "machine": machine(), "since": self._since}
        return json.dumps({**told, "beat": self._beats}).encode()

    # ------------------------------------------------------------------------------------------------- keeping it

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            try:
                self._write()
            except LakeError as error:  # the network is away; publishing will see whether it came back in time
                _log.warning("the lock of the lake could not be renewed: %s", error.message)

    def _write(self) -> None:
        with self._writing:
            if self._lost or self._released.is_set():
                return
            self._beats += 1
            try:
                self._etag = self._objects.put(LOCK, self._content(), replacing=self._etag)
            except ConflictError:
                self._lost = not self._found_again()

    def _found_again(self) -> bool:
        """Whether the lock is ours all the same: a write whose answer was lost has changed its tag."""
        found = self._objects.get(LOCK)
        holder = Holder.parse(found.content) if found is not None else None
        if found is None or holder is None or holder.run_id != self._run_id:
            return False
        with suppress(ConflictError):
            self._etag = self._objects.put(LOCK, self._content(), replacing=found.etag)
            return True
        return False

    def check(self) -> None:
        """See whether another run has taken the lock, as far as is known here.

        Raises:
            LakeError: it has.
        """
        if self._lost:
            text = f"another run has taken the lake {self._objects.address} over, as this one gave no sign of life for {LEASE_SECONDS:.0f} s"
            raise LakeError(text, hint="nothing was published; did the machine sleep, or the network fail? run it again")

    def confirm(self) -> None:
        """Write the lock once more, to be sure that it is still ours.

        Raises:
            LakeError: another run has taken it, or it can't be written.
        """
        self._write()
        self.check()

    def release(self) -> None:
        """Free the lock. If that fails it ends by itself, or with this process."""
        self._released.set()
        _held.discard(self._run_id)
        with self._writing:
            if self._lost or not self._etag or self._objects.is_away:
                return
            with suppress(LakeError, ConflictError):
                self._objects.put(LOCK, b"", replacing=self._etag)
        if self._heart.is_alive():
            self._heart.join(timeout=1)
