"""One run from start to end: lock, hooks, steps, gate, publishing, and a true state whatever happens.

The order matters. The lock is taken before anything heavy is imported; the manifest says RUNNING before the first step;
a signal only interrupts the work of a step, never publishing or telemetry, so that a run that published is never called
aborted and no line is half-written.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pipeline.clock import clock_at
from pipeline.engine import duck, estimates, origin, sources
from pipeline.engine.fingerprints import Fingerprints
from pipeline.engine.graph import steps_until
from pipeline.engine.lake import Lake
from pipeline.engine.signals import AbortedError, Signals
from pipeline.engine.work import Workshop, phase
from pipeline.errors import GateError, GoldtraceError, InputError, LakeBusyError, LakeError
from pipeline.quality import gate
from pipeline.records import Check, Failure, Gate, Hook, Pipeline, Run, State, Step, StepKind, StepRun
from pipeline.telemetry import bundle, identity, privacy, reaper
from pipeline.telemetry.guard import Hooks

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.tracking.experiments import LostRuns

_Inputs: TypeAlias = tuple[Mapping[str, sources.Header], Fingerprints]

ABORTED = "aborted"
# What is counted as lost when a manifest can't be written while the run goes on.
BUNDLE = "bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for.

    `until` a step, `as_of` a nominal date, `wait` seconds for the lake, `hooks` beside the built-in ones; `finish` is called
    when the bundle is whole. `at`, a moment that has been, is what the run's clock shows when it begins: everything that the run
    writes is dated by it, and the manifest says by how much.
    """

    until: str | None = None
    as_of: date | None = None
    wait: float = 0.0
    at: datetime | None = None
    hooks: Sequence[Hook] = ()
    finish: Callable[[Run], None] | None = None


def execute(pipeline: Pipeline, settings: Settings, order: Order) -> Run:
    """Run a pipeline and leave its bundle. The returned record has the state; nothing is raised for a run that fails.

    Raises:
        UsageError: `until` names no step, `at` can't be a run's time, or what the lake's address needs is not installed.
        LakeError: the runs folder can't be written, so that not even a bundle can be left.
    """
    steps = steps_until(pipeline, order.until)
    lake = Lake(settings.lake, settings.staging)
    run = _new_run(pipeline, settings, order, steps)
    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        stack.enter_context(bundle.alive(run.bundle))
        _begin_bundle(run)
        prepared = _prepare(run, settings, stack, _locked(lake, run, order.wait, signals))
        hooks = _hooks(run, settings, order, lake)
        with hooks.run(run), _judged(run, hooks):
            if isinstance(prepared, Exception | AbortedError):
                raise prepared
            with _workshop(run, settings, lake, *prepared) as shop:
                _run_steps(run, shop, hooks, signals)
        bundle.release(run.bundle)
        # The checks first: a manifest that says how the run ended says that the bundle is whole.
        if _recorded(hooks, run, bundle.write_checks) & _recorded(hooks, run, bundle.write_manifest) and order.finish:
            order.finish(run)
    _recorded(hooks, run, lambda _: bundle.archive(settings.runs))
    return run


def exit_code(run: Run) -> int:
    """What the command returns: 0, 1, 3, 4, or 128 and the signal's number."""
    if run.state is State.COMPLETED:
        return 0
    kind = run.failure.type if run.failure else GoldtraceError.slug
    if run.state is State.ABORTED and run.failure:
        return 128 + signal.Signals[run.failure.exception].value
    return {GateError.slug: GateError.exit_code, LakeBusyError.slug: LakeBusyError.exit_code}.get(kind, 1)


def _new_run(pipeline: Pipeline, settings: Settings, order: Order, steps: tuple[Step, ...]) -> Run:
    clock = clock_at(order.at)
    run_id = identity.new_id(clock)
    return Run(
        id=run_id,
        pipeline=pipeline,
        bundle=bundle.create(settings.runs, run_id),
        lake=settings.lake,
        lake_name=settings.lake_name or pipeline.name,
        environment=settings.environment,
        code=origin.code(_home(steps)),
        process=origin.process(sys.argv),
        settings=settings.masked(),
        libraries=origin.libraries(),
        started_ns=clock.now_ns(),
        clock=clock,
        as_of=order.as_of,
        until=order.until,
        caller=origin.caller(settings),
        steps_planned=steps,
    )


def _begin_bundle(run: Run) -> None:
    try:
        bundle.write_manifest(run)
    except OSError as error:
        raise LakeError(f"{run.bundle} can't be written: {error.strerror}", hint="set PIPELINE_RUNS to a folder that can be written") from error
    bundle.reserve(run.bundle)


def _recorded(hooks: Hooks, run: Run, write: Callable[[Run], object]) -> bool:
    """Write a part of the bundle, and say whether that went well: a disk that refuses it now must not cost the run."""
    try:
        write(run)
    except OSError as error:
        hooks.failed(run, BUNDLE, error)
        return False
    return True


def _home(steps: Sequence[Step]) -> Path:
    """The folder of the pipeline's own code."""
    for step in steps:
        if step.sql is not None:
            return step.sql.parent
        if step.code is not None:
            return Path(step.code.__code__.co_filename).parent
    return Path.cwd()


@contextmanager
def _locked(lake: Lake, run: Run, wait: float, signals: Signals) -> Iterator[None]:
    """Hold the lake's lock; a signal ends only the wait for it."""
    with ExitStack() as held:
        with signals.armed():
            held.enter_context(lake.lock(run.id, wait))
        lake.current()  # one that can't be read would refuse the results at the run's end
        yield


def _prepare(run: Run, settings: Settings, stack: ExitStack, lock: AbstractContextManager[None]) -> _Inputs | Exception | AbortedError:
    """Look at the input files, take the lock, and let their hashes be taken while the heavy imports go on.

    An error is handed back and raised once the hooks listen, so that it is told like any other.
    """
    contracts = [run.pipeline.contracts[step.inputs[0]] for step in run.steps_planned if step.kind is StepKind.INGEST]
    try:
        headers = sources.inspect(_input_folder(run.pipeline, settings), contracts) if contracts else {}
        stack.enter_context(lock)
    except (Exception, AbortedError) as error:  # noqa: BLE001 - raised again within the hooks
        return error
    return headers, stack.enter_context(Fingerprints(header.path for header in headers.values()))


@contextmanager
def _workshop(run: Run, settings: Settings, lake: Lake, headers: Mapping[str, sources.Header], fingerprints: Fingerprints) -> Iterator[Workshop]:
    with lake.staging(run.id) as staging:
        connection = duck.connect(settings, staging / "spill")
        try:
            yield Workshop(
                pipeline=run.pipeline,
                settings=settings,
                lake=lake,
                staging=staging,
                connection=connection,
                headers=headers,
                fingerprints=fingerprints,
                as_of=run.as_of,
                clock=run.clock,
            )
        finally:
            connection.close()


def reap(settings: Settings, lost: LostRuns | None = None) -> list[bundle.Bundle]:
    """Close the runs whose process is gone, in the bundle, the lineage and MLflow; returns their bundles, newest first.

    `lost` tells afterwards how many MLflow took.

    Raises:
        BackendError: MLflow did not take them; the bundles are closed all the same.
    """
    from pipeline.telemetry import lineage
    from pipeline.tracking.experiments import LostRuns

    lost = lost or LostRuns(settings)
    reaped = reaper.reap(settings.runs, closers=[lineage.close, lost.close])
    lost.deliver()
    return reaped


def _input_folder(pipeline: Pipeline, settings: Settings) -> Path:
    folder = settings.input or pipeline.sample
    if folder is None:
        raise InputError(f"pipeline {pipeline.name} ships no sample", hint="name a folder with --input or PIPELINE_INPUT")
    return folder


@contextmanager
def _judged(run: Run, hooks: Hooks) -> Iterator[None]:
    """Give the run its state."""
    try:
        yield
        run.state = State.COMPLETED
    except (Exception, AbortedError) as error:  # noqa: BLE001 - the run's end is told whatever ended it
        run.state = State.ABORTED if isinstance(error, AbortedError) else State.FAILED
        run.failure = _failure(error, run, _failed_step(run))
    run.ended_ns = run.clock.now_ns()
    _recorded(hooks, run, _count_successes)


def _count_successes(run: Run) -> None:
    run.success_share_20 = bundle.success_share_20(run)


def _run_steps(run: Run, shop: Workshop, hooks: Hooks, signals: Signals) -> None:
    signals.interrupt = shop.connection.interrupt
    stopped: set[str] = set()
    for step in run.steps_planned:
        if stopped.intersection(step.inputs):
            stopped.update(step.outputs)  # what is made from refused data is not made
            continue
        shop.lake.check()
        try:
            _run_step(run, step, shop, hooks, signals)
        except GateError:
            stopped.update(step.outputs)  # the other sources are still looked at, so that one run names all that is wrong
    run.gate = gate.decide(run.checks)
    if run.gate is Gate.RED:
        raise _gate_error(run.checks)
    run.estimates = estimates.read(run.pipeline, shop)
    with phase(run.clock, run.phases, "publish"):
        with signals.armed():
            shop.lake.bring(shop.staged)
        run.published = shop.lake.publish(run.id, shop.staged, run.clock.now_ns())
    # The hooks take their time to end: a run that is killed meanwhile is lost, but what it published is on record.
    _recorded(hooks, run, bundle.write_manifest)


def _run_step(run: Run, step: Step, shop: Workshop, hooks: Hooks, signals: Signals) -> None:
    record = StepRun(step=step, id=identity.new_id(run.clock), started_ns=run.clock.now_ns())
    run.steps.append(record)
    _recorded(hooks, run, bundle.write_manifest)
    with hooks.step(run, record):
        try:
            with signals.armed():
                shop.do(record)
            _refuse_red(record)
            record.state = State.COMPLETED
        except (Exception, AbortedError) as error:
            record.state = State.ABORTED if isinstance(error, AbortedError) else State.FAILED
            record.failure = _failure(error, run, record)
            raise
        finally:
            record.ended_ns = run.clock.now_ns()


def _refuse_red(record: StepRun) -> None:
    if gate.decide(record.checks) is Gate.RED:
        raise _gate_error(record.checks)


def _gate_error(checks: Sequence[Check]) -> GateError:
    words = gate.gate_words(checks).removeprefix(f"{Gate.RED}: ")
    return GateError(words, hint="mend the records that the report names, or the contract where the rule is wrong; nothing was published")


def _failed_step(run: Run) -> StepRun | None:
    return next((step for step in reversed(run.steps) if step.failure is not None), None)


def _failure(error: BaseException, run: Run, step: StepRun | None) -> Failure:
    if isinstance(error, AbortedError):
        return Failure(
            type=ABORTED,
            message=f"{error} ended the run",
            hint="nothing was published; run it again",
            exception=str(error),
            step=step.step.name if step else None,
        )
    return privacy.failure(error, privacy.Known.of(run), step=step)


def _hooks(run: Run, settings: Settings, order: Order, lake: Lake) -> Hooks:
    """All listeners, once the runs that died are closed: that comes before the new run's first event (`docs/lineage.md`)."""
    from pipeline.telemetry import lineage
    from pipeline.telemetry.setup import hooks_for
    from pipeline.tracking.experiments import ExperimentsHook, LostRuns

    lost = LostRuns(settings)
    reaper.reap(settings.runs, before=run.id, closers=[lineage.close, lost.close])
    return Hooks([*hooks_for(settings), ExperimentsHook(settings, lake.files_of(run.id), lost), *order.hooks])
