"""`pipeline doctor`: sends a canary run through every hop of the stack, finds it again, and names the hop that is broken.

A run takes one way: runner, bundle, collector, servers. So a hop is judged by the run that arrives there, and one that waits
for a broken hop is not called broken itself: the cause is named before its consequences, with what mends it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipeline.errors import BackendError
from pipeline.records import Run, State
from pipeline.settings import Settings
from pipeline.stack import doctor_canary, doctor_lineage, doctor_preflight
from pipeline.stack.doctor_hops import BY_NAME, HOPS, Hop, pins
from pipeline.stack.doctor_look import Containers, Look, first_look
from pipeline.stack.doctor_mlflow import check_mlflow
from pipeline.stack.doctor_older import check_older
from pipeline.stack.doctor_preflight import Finding, Health
from pipeline.stack.doctor_probes import NONSENSE, Wanted
from pipeline.stack.doctor_verdict import Found, Seen, Verdict, judge

TIMEOUT: Final = 15.0
_POLL_SECONDS: Final = 0.1
RUN: Final = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that was found: the canary, the preflight, and a verdict for each hop, causes before consequences."""

    run_id: str
    preflight: Sequence[Finding]
    verdicts: Sequence[Verdict]
    timeout: float

    @property
    def broken(self) -> list[Verdict]:
        """The hops that are themselves broken."""
        return [verdict for verdict in self.verdicts if verdict.health is Health.BROKEN]

    @property
    def is_well(self) -> bool:
        """Whether everything that could be looked at is as it should be."""
        return not self.broken and not any(finding.health is Health.BROKEN for finding in self.preflight)

    def expect_well(self) -> None:
        """Nothing, when it is.

        Raises:
            BackendError: names what is broken, and what mends it, causes first.
        """
        if self.is_well:
            return
        bad = [finding for finding in self.preflight if finding.health is Health.BROKEN]
        names = [verdict.hop for verdict in self.broken] + [finding.name for finding in bad]
        mends = [verdict.mend for verdict in self.broken] + [finding.mend for finding in bad]
        raise BackendError(f"the stack is broken at {', '.join(names)}", hint="; ".join(dict.fromkeys(filter(None, mends))))


def examine(settings: Settings, containers: Containers, *, root: Path, timeout: float = TIMEOUT, finish: Callable[[Run], None] | None = None) -> Diagnosis:
    """Look at the stack, send a canary run through it, and judge each hop.

    Args:
        settings: where the servers are, and where runs are written.
        containers: what the engine says, see `ask_engine`.
        root: the project's folder, for `compose/.env`.
        timeout: the seconds that a hop gets to show the run.
        finish: writes the report of the canary; what serves it is a hop too.

    Raises:
        LakeError: the runs folder can't be written.
    """
    looks = first_look(settings)
    preflight = [*doctor_preflight.findings(settings, containers, looks, pins(root)), *check_mlflow(settings)]
    with _Watch(settings, looks, timeout) as watch:
        run = doctor_canary.run_canary(settings, watch.begin, finish)
        seen = watch.end()
    preflight.append(check_older(settings, containers, {name for name, each in seen.items() if each.found is Found.THERE}))
    doctor_canary.remove_old(settings.runs)
    judged = judge(seen, containers, doctor_lineage.elsewhere(settings)) if run.state is State.COMPLETED else []
    verdicts = [_of_run(run), *judged]
    return Diagnosis(run_id=str(run.id), preflight=preflight, verdicts=verdicts, timeout=timeout)


def _of_run(run: Run) -> Verdict:
    lost = {signal: count for signal, count in run.telemetry_lost.items() if count}
    failure = run.failure
    if failure is not None:
        return Verdict(hop=RUN, looked_for="the canary", health=Health.BROKEN, reason=failure.message, mend=failure.hint)
    if lost:
        reason = f"its bundle has gaps in {', '.join(sorted(lost))}"
        return Verdict(hop=RUN, looked_for="the canary", health=Health.BROKEN, reason=reason, mend=f"pipeline show {run.id}")
    return Verdict(hop=RUN, looked_for="COMPLETED, its bundle is whole", health=Health.OK)


# ---------------------------------------------------------------------------------------------- watching


class _Watch:
    """Looks for the run at all hops side by side, from the moment it has ended."""

    def __init__(self, settings: Settings, looks: Mapping[str, Look], timeout: float) -> None:
        self._settings = settings
        self._looks = looks
        self._left_out = doctor_lineage.left_out(settings)
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(len(HOPS))
        self._stop = threading.Event()
        self._waiting: dict[str, Future[Seen]] = {}

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *_: object) -> None:
        """Let nobody look any longer: an interrupt must not wait for a server."""
        self._stop.set()
        self._pool.shutdown()

    def begin(self, wanted: Wanted) -> None:
        """The run has ended: look for it wherever it can arrive."""
        for hop in HOPS:
            if hop.probe is not None and hop.name not in self._left_out and not self._is_held_up(hop):
                self._waiting[hop.name] = self._pool.submit(_look_for, hop.probe, self._settings, wanted, self._timeout, self._stop)

    def end(self) -> dict[str, Seen]:
        """What was seen at each hop, once all have it or had their time."""
        seen = {hop.name: Seen(found=Found.SILENT, reason=self._looks[hop.name].problem) for hop in HOPS if self._silent(hop)}
        seen |= {name: future.result() for name, future in self._waiting.items()}
        seen |= {name: Seen(found=Found.NOT_ASKED, reason=reason) for name, reason in self._left_out.items()}
        return {hop.name: seen.get(hop.name, Seen(found=Found.NOT_ASKED)) for hop in HOPS}

    def _is_held_up(self, hop: Hop) -> bool:
        """Whether it, or something that the run passes on its way, does not answer."""
        return self._silent(hop) or any(self._silent(BY_NAME[need]) for need in _all_needs(hop))

    def _silent(self, hop: Hop) -> bool:
        return hop.name in self._looks and bool(self._looks[hop.name].problem)


def _look_for(probe: Callable[[Settings, Wanted], str], settings: Settings, wanted: Wanted, timeout: float, stop: threading.Event) -> Seen:
    """Ask until all of the run is there, or the time is over."""
    seen = Seen(found=Found.NOT_ASKED)
    while not stop.is_set():
        since = (time.time_ns() - wanted.ended_ns) / 1e9
        seen = _ask_once(probe, settings, wanted)
        if seen.found in (Found.THERE, Found.TAKEN) or since > timeout:
            break
        stop.wait(_POLL_SECONDS)
    return replace(seen, reason=f"{seen.reason} after {timeout:g} s") if seen.found is Found.MISSING else seen


def _ask_once(probe: Callable[[Settings, Wanted], str], settings: Settings, wanted: Wanted) -> Seen:
    try:
        missing = probe(settings, wanted)
    except BackendError as error:
        return Seen(found=_found(error), reason=error.message)
    except NONSENSE as error:
        return Seen(found=Found.REFUSED, reason=f"an answer that can't be read ({type(error).__name__})")
    if missing:
        return Seen(found=Found.MISSING, reason=missing)
    return Seen(found=Found.THERE, seconds=(time.time_ns() - wanted.ended_ns) / 1e9)


def _found(error: BackendError) -> Found:
    if error.facts.get("is_taken"):
        return Found.TAKEN
    return Found.REFUSED if "status" in error.facts else Found.SILENT


def _all_needs(hop: Hop) -> Iterator[str]:
    for need in hop.needs:
        yield need
        yield from _all_needs(BY_NAME[need])
