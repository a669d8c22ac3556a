from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from pipeline.records import Run, StepRun
from pipeline.telemetry.guard import Hooks
from pipeline.testing import RecordingHook

PLACES = ["run entered", "run left", "step entered", "step left"]


class Bad:
    """A hook that raises in the places it is told."""

    def __init__(self, *places: str, error: type[BaseException] = OSError, signal: str = "bad") -> None:
        self.signal = signal
        self.places = places
        self.error = error

    def run(self, run: Run):
        return self._wrap("run")

    def step(self, run: Run, step: StepRun):
        return self._wrap("step")

    @contextmanager
    def _wrap(self, what: str) -> Iterator[None]:
        if f"{what} entered" in self.places:
            raise self.error(f"{what} entered")
        try:
            yield
        finally:
            if f"{what} left" in self.places:
                raise self.error(f"{what} left")


class Told(list):
    """What was logged about failures."""

    def __call__(self, run: Run, signal: str, error: Exception) -> None:
        self.append((signal, str(error)))


@pytest.fixture
def told() -> Told:
    return Told()


def go(run: Run, hooks: Hooks, error: BaseException | None = None) -> None:
    with hooks.run(run):
        for step in run.steps:
            with hooks.step(run, step):
                if error:
                    raise error


@pytest.mark.parametrize("place", PLACES)
def test_a_hook_that_fails_is_counted_told_once_and_disturbs_nobody(run: Run, told: Told, place: str):
    good = RecordingHook()
    go(run, Hooks([Bad(place), good, Bad(place, signal="worse")], told))
    assert len(good.events) == 2 + 2 * len(run.steps)
    times = 3 if place.startswith("step") else 1
    assert run.telemetry_lost == {"bad": times, "worse": times}
    assert sorted(told) == [("bad", place), ("worse", place)]


def test_a_hook_that_fails_when_the_run_begins_is_left_out_of_it(run: Run, told: Told):
    go(run, Hooks([Bad(*PLACES)], told))
    assert run.telemetry_lost == {"bad": 1}


@pytest.mark.parametrize("place", PLACES)
def test_a_steps_error_comes_out_unchanged_whatever_the_hooks_do(run: Run, told: Told, place: str):
    error = ValueError("the step's own")
    with pytest.raises(ValueError, match="the step's own") as caught:
        go(run, Hooks([RecordingHook(), Bad(place)], told), error)
    assert caught.value is error
    assert (error.__context__, error.__cause__) == (None, None)


def test_a_hook_cannot_swallow_a_steps_error(run: Run, told: Told):
    class Swallower(RecordingHook):
        @contextmanager
        def step(self, run: Run, step: StepRun) -> Iterator[None]:
            with suppress(ValueError):
                yield

    with pytest.raises(ValueError, match="own"):
        go(run, Hooks([Swallower()], told), ValueError("own"))
    assert run.telemetry_lost == {}


def test_a_hook_sees_the_error_that_a_step_raised(run: Run, told: Told):
    seen = []

    class Looker(RecordingHook):
        @contextmanager
        def step(self, run: Run, step: StepRun) -> Iterator[None]:
            try:
                yield
            except ValueError as error:
                seen.append(error)
                raise

    error = ValueError("own")
    with pytest.raises(ValueError, match="own"):
        go(run, Hooks([Looker(), Looker()], told), error)
    assert seen == [error, error]
    assert run.telemetry_lost == {}


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_in_a_hook_goes_on_and_leaves_the_other_hooks(run: Run, told: Told, place: str):
    outer, inner = RecordingHook(), RecordingHook()
    with pytest.raises(KeyboardInterrupt):
        go(run, Hooks([outer, Bad(place, error=KeyboardInterrupt), inner], told))
    for hook in (outer, inner):
        what = [event for event, _, _ in hook.events]
        assert what.count("run entered") == what.count("run left")
        assert what.count("step entered") == what.count("step left")
    assert run.telemetry_lost == {}


def test_hooks_that_were_entered_before_ctrl_c_are_told_of_it(run: Run, told: Told):
    seen = []

    class Looker(RecordingHook):
        @contextmanager
        def run(self, run: Run) -> Iterator[None]:
            try:
                yield
            except BaseException as error:
                seen.append(type(error))
                raise

    with pytest.raises(KeyboardInterrupt):
        go(run, Hooks([Looker(), Bad("run entered", error=KeyboardInterrupt)], told))
    assert seen == [KeyboardInterrupt]


def test_a_hook_that_raises_the_steps_error_again_has_not_failed(run: Run, told: Told):
    class Again(RecordingHook):
        def step(self, run: Run, step: StepRun):
            return self

        def __enter__(self) -> None:
            pass

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
            if error:
                raise error

    with pytest.raises(ValueError, match="own"):
        go(run, Hooks([Again()], told), ValueError("own"))
    assert run.telemetry_lost == {}


def test_hooks_are_left_in_the_opposite_order(run: Run):
    order = []

    class Ordered(RecordingHook):
        @contextmanager
        def run(self, run: Run) -> Iterator[None]:
            order.append(self.signal)
            yield
            order.append(self.signal)

    go(run, Hooks([Ordered("a"), Ordered("b")]))
    assert order == ["a", "b", "b", "a"]


def test_the_time_that_hooks_take_is_summed_by_signal(run: Run):
    class Slow(RecordingHook):
        @contextmanager
        def step(self, run: Run, step: StepRun) -> Iterator[None]:
            time.sleep(0.01)
            yield
            time.sleep(0.01)

    go(run, Hooks([Slow("slow"), RecordingHook("fast")]))
    assert 0.06 <= run.telemetry_seconds["slow"] < 60
    assert run.telemetry_seconds["fast"] < run.telemetry_seconds["slow"]


def test_a_log_that_fails_too_is_counted(run: Run):
    def broken(run: Run, signal: str, error: Exception) -> None:
        raise OSError

    go(run, Hooks([Bad("run left")], broken))
    assert run.telemetry_lost == {"bad": 1, "logs": 1}


def test_the_failure_is_told_in_the_log_unless_another_way_is_given(run: Run, capsys: pytest.CaptureFixture[str]):
    go(run, Hooks([Bad("step left")]))
    assert capsys.readouterr().err.count("gaps in the bad of this run: OSError: step left; the run goes on") == 1


def test_a_forked_child_that_falls_out_of_a_step_leaves_the_hooks_alone(run: Run, told: Told):
    class Witness(RecordingHook):
        @contextmanager
        def step(self, run: Run, step: StepRun) -> Iterator[None]:
            yield
            (run.bundle / f"left-{os.getpid()}").touch()

    hooks = Hooks([Witness()], told)
    with hooks.run(run):
        child = 0
        try:
            with hooks.step(run, run.steps[0]):
                child = os.fork()
        finally:
            if child == 0:
                os._exit(0)
        os.waitpid(child, 0)
    assert [path.name for path in run.bundle.glob("left-*")] == [f"left-{os.getpid()}"]
