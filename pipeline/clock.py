"""The time of a run: the machine's, or one that is set back, for a run that is dated (`docs/demo.md`).

Every moment that a run writes down, and every id that it makes, comes from its one clock, so that they can't disagree. A clock
that is set back goes as fast as the machine's: what a run took is what it took.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime

from pipeline.errors import UsageError

_lock = threading.Lock()


def _unlock() -> None:
    """Make a new lock: after a fork, the old one may be held by a thread that the child does not have."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


class Clock:
    """Tells the time, `offset_ns` nanoseconds away from the machine's; safe to ask from threads."""

    def __init__(self, offset_ns: int = 0) -> None:
        self.offset_ns = offset_ns
        self._last = 0

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return time.time_ns() + self.offset_ns

    def tick(self) -> int:
        """Milliseconds since the epoch with 12 more bits below them: never the same twice and never backwards, on this clock.

        RFC 9562, section 6.2, method 3, with the last number plus one when time stood still.
        """
        milliseconds, rest = divmod(self.now_ns(), 1_000_000)
        now = milliseconds << 12 | (rest << 12) // 1_000_000
        with _lock:
            self._last = max(now, self._last + 1)
            return self._last


MACHINE = Clock()


def clock_at(moment: datetime | None) -> Clock:
    """A clock that shows `moment` now; the machine's own for None.

    Raises:
        UsageError: the moment has no time zone, or lies ahead: servers refuse telemetry from the future.
    """
    if moment is None:
        return MACHINE
    if moment.tzinfo is None:
        raise UsageError(f"at is {moment.isoformat()}, which has no time zone", hint="give it one, e.g. tzinfo=UTC")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    offset_ns = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000 - time.time_ns()
    if offset_ns > 0:
        raise UsageError(f"at is {moment.isoformat()}, which lies ahead", hint="give a moment that has been")
    return Clock(offset_ns)
