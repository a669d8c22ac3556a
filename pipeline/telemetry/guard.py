"""The guard between a run and its hooks: telemetry never breaks a run, never hides a step's error, and never fails in silence.

A hook's error is counted on the run (`telemetry_lost`) and logged once for each signal; the time that each hook takes is
summed up (`telemetry_seconds`). What is no `Exception`, like a `KeyboardInterrupt`, is not a hook's error and goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Literal

from pipeline.records import Hook, Run, StepRun

OnFailure = Callable[[Run, str, Exception], None]


class Hooks:
    """Many hooks as one. A hook that fails when the run begins is left out of the rest of the run."""

    def __init__(self, hooks: Sequence[Hook], on_failure: OnFailure | None = None) -> None:
        self._hooks = tuple(hooks)
        self._on_failure = _log_failure if on_failure is None else on_failure
        self._told: set[str] = set()
        self._listening: tuple[Hook, ...] = self._hooks

    def run(self, run: Run) -> AbstractContextManager[None]:
        """Enter all hooks for a run, in their order; they are left in the opposite order."""
        self._told.clear()
        self._listening = self._hooks
        return _Guarded(self, run, [(hook, partial(hook.run, run)) for hook in self._hooks], drop=True)

    def step(self, run: Run, step: StepRun) -> AbstractContextManager[None]:
        """Enter all hooks that still listen for a step."""
        return _Guarded(self, run, [(hook, partial(hook.step, run, step)) for hook in self._listening], drop=False)

    def failed(self, run: Run, signal: str, error: Exception) -> None:
        """Count a hook's error, and tell the first one of each signal."""
        run.telemetry_lost[signal] = run.telemetry_lost.get(signal, 0) + 1
        if signal in self._told:
            return
        self._told.add(signal)
        try:
            self._on_failure(run, signal, error)
        except Exception:  # noqa: BLE001 - the log itself may be what is broken; the count still tells
            run.telemetry_lost["logs"] = run.telemetry_lost.get("logs", 0) + 1

    def drop(self, hook: Hook) -> None:
        """Leave a hook out from now on."""
        self._listening = tuple(other for other in self._listening if other is not hook)


_Opener = Callable[[], AbstractContextManager[None]]


class _Guarded:
    """The contexts of all hooks around one run or step. A class, since a generator would touch the step's exception."""

    def __init__(self, hooks: Hooks, run: Run, openers: list[tuple[Hook, _Opener]], *, drop: bool) -> None:
        self._hooks = hooks
        self._run = run
        self._openers = openers
        self._drop = drop
        self._open: list[tuple[Hook, AbstractContextManager[None]]] = []
        self._process = os.getpid()

    def __enter__(self) -> None:
        for hook, opener in self._openers:
            started = time.perf_counter()
            try:
                context = opener()
                context.__enter__()
                self._open.append((hook, context))
            except Exception as error:  # noqa: BLE001 - whatever a hook raises, the run goes on
                self._hooks.failed(self._run, hook.signal, error)
                if self._drop:
                    self._hooks.drop(hook)
            except BaseException as error:
                # Not a hook's failure (Ctrl-C): leave what is entered, and let it go on.
                self._leave(type(error), error, error.__traceback__)
                raise
            finally:
                self._took(hook, started)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Literal[False]:
        # A child that a step forked may fall out of it: the files and the facts are its parent's.
        if os.getpid() == self._process:
            self._leave(kind, error, trace)
        return False  # a hook may not swallow a step's error either

    def _leave(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        interrupted: BaseException | None = None
        while self._open:
            hook, context = self._open.pop()
            started = time.perf_counter()
            try:
                context.__exit__(kind, error, trace)
            except Exception as own:  # noqa: BLE001 - whatever a hook raises, the run goes on
                if own is not error:
                    self._hooks.failed(self._run, hook.signal, own)
            except BaseException as own:  # noqa: BLE001 - raised below, once the other hooks are left
                if own is not error:
                    interrupted = own
            finally:
                self._took(hook, started)
        if interrupted is not None:
            raise interrupted

    def _took(self, hook: Hook, started: float) -> None:
        spent = self._run.telemetry_seconds
        spent[hook.signal] = spent.get(hook.signal, 0.0) + time.perf_counter() - started


def _log_failure(run: Run, signal: str, error: Exception) -> None:
    from pipeline.telemetry import logs

    logs.telemetry_failed(run, signal, error)
