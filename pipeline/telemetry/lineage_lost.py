"""The events that a killed run did not come to write: ABORT for what was open, and what its manifest knows of the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import LakeError
from pipeline.records import State
from pipeline.settings import Settings, Switch, load, variable
from pipeline.telemetry.bundle import MANIFEST
from pipeline.telemetry.lineage_events import COMPLETE, START, TERMINAL, RunEvents, terminal
from pipeline.telemetry.lineage_facets import error_facet
from pipeline.telemetry.manifest import iso
from pipeline.telemetry.manifest_reader import nanoseconds, run_of

Event = dict[str, Any]


def whole_events(path: Path) -> list[Event]:
    """The events of a file; a last line that was cut off in the middle is taken out of it.

    Raises:
        LakeError: another line is not JSON.
    """
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        os.truncate(path, len(whole))
    try:
        return [json.loads(each) for each in whole.splitlines()]
    except ValueError as error:
        raise LakeError(f"a line of {path.name} is not JSON, so the lineage of the run can't be closed", hint="delete the file") from error


def missing_events(bundle: Path, written: Sequence[Event], ended_ns: int, message: str) -> Iterator[Event]:
    """What has to be appended so that all runs of the bundle have ended: the steps' first, the pipeline's last."""
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    if manifest["settings"].get(variable("telemetry")) == Switch.OFF:
        return
    run = run_of(manifest, bundle)
    starts = {event["run"]["runId"]: event for event in written if event["eventType"] == START}
    ended = {event["run"]["runId"] for event in written if event["eventType"] in TERMINAL}
    if str(run.id) in ended:
        return
    events = RunEvents(run, _settings(manifest["settings"]))
    if str(run.id) not in starts:
        starts[str(run.id)] = json.loads(events.run_started())
        yield starts[str(run.id)]
    open_step = ""
    for step in run.steps:
        if str(step.id) in ended:
            continue
        if str(step.id) not in starts:
            starts[str(step.id)] = json.loads(events.step_started(step))
            yield starts[str(step.id)]
        lost = _Lost(step.state, step.ended_ns or ended_ns, f"step {step.step.name}: {message}")
        open_step = open_step or (lost.message if terminal(step.state) != COMPLETE else "")
        yield lost.end_of(starts[str(step.id)])
    yield _Lost(State.LOST, ended_ns, open_step or message).end_of(starts[str(run.id)])


@dataclass(frozen=True, slots=True)
class _Lost:
    """How something ended that did not say so itself."""

    state: State
    ended_ns: int
    message: str

    def end_of(self, start: Event) -> Event:
        """The terminal event that goes with a START: the same job, inputs and outputs, never before it."""
        kind = terminal(self.state)
        at_ns = max(self.ended_ns, nanoseconds(start["eventTime"]))
        state = State.LOST if self.state is State.RUNNING else self.state
        facets = {**start["run"]["facets"], "goldtrace": {**start["run"]["facets"]["goldtrace"], "state": state.value}}
        if kind != COMPLETE:
            from openlineage.client.serde import Serde

            facets["errorMessage"] = Serde.to_dict(error_facet(self.message))
        return {**start, "eventType": kind, "eventTime": iso(at_ns), "run": {**start["run"], "facets": facets}}


def _settings(masked: Mapping[str, str]) -> Settings:
    """What the run's events say of its settings; the rest does not matter here."""
    wanted = [variable(name) for name in ("openlineage_namespace", "trace_url", "report_url")]
    return load({name: masked[name] for name in wanted if name in masked}, dotenv=Path(os.devnull))
