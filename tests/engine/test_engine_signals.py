"""Signals and the processes that a step forks."""

import os
import signal
import time

from pipeline.engine.signals import Signals


def test_a_signal_to_a_forked_child_ends_the_child_and_is_none_to_the_run() -> None:
    interrupted = []
    with Signals() as signals:
        signals.interrupt = lambda: interrupted.append(1)
        with signals.armed():
            ready, tell = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(tell, b".")
                time.sleep(10)
                os._exit(0)
            os.read(ready, 1)
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
            time.sleep(0.1)
    assert (signals.received, interrupted) == (None, [])


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
