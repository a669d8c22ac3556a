"""Turning SIGINT, SIGTERM and SIGHUP into an orderly end: raised once, in the main thread, and only where work can be thrown away.

A query of DuckDB holds the main thread, so Python's own handlers would wait for its end. The kernel's byte on the wake-up
descriptor reaches a second thread at once, which interrupts the query.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class AbortedError(BaseException):
    """A signal ended the run. Not an `Exception`: no step may swallow it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Signals:
    """Handles signals while it is entered; outside the main thread, where Python allows no handlers, it does nothing."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.interrupt: Callable[[], None] | None = None
        self._armed = False
        self._active = threading.current_thread() is threading.main_thread()
        self._process = os.getpid()

    def __enter__(self) -> "Signals":
        if not self._active:
            return self
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before = {signum: signal.signal(signum, self._handle) for signum in HANDLED}
        _entered.append(self)
        self._watcher = threading.Thread(target=self._watch, name="goldtrace-signals", daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._active or os.getpid() != self._process:
            return
        _entered.remove(self)
        self._restore()
        self._writer.close()
        self._watcher.join(timeout=1)
        self._reader.close()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._wakeup)

    @staticmethod
    def restore_in_child() -> None:
        """Give a child that a step forks what was there before: a signal to it is not one to the run, and the descriptor is its parent's."""
        while _entered:
            _entered.pop()._restore()

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Where a signal may interrupt: work that can be thrown away. Everywhere else it waits for the next such place.

        Raises:
            AbortedError: a signal came, now or since the last such place.
        """
        self._armed = True
        try:
            self.check()
            yield
        except BaseException as error:
            self._armed = False
            if self.received is not None and not isinstance(error, AbortedError):
                raise AbortedError(self.received) from error  # DuckDB's word for being interrupted
            raise
        self._armed = False
        self.check()  # a step may have swallowed the interruption

    def check(self) -> None:
        """Raise if a signal came.

        Raises:
            AbortedError: it did.
        """
        if self.received is not None:
            raise AbortedError(self.received)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self.received is None:  # a second Ctrl-C must not break the orderly end
            self.received = signum
            if self._armed:
                raise AbortedError(signum)

    def _watch(self) -> None:
        while self._reader.recv(1):
            if self._armed and self.interrupt is not None:
                self.interrupt()


_entered: list[Signals] = []
os.register_at_fork(after_in_child=Signals.restore_in_child)
