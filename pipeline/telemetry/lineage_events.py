"""OpenLineage events of one run, each as one line of JSON.

Pipeline events have no inputs and outputs (they would hide the steps in Marquez); a step's have all of them, in START too, since an
event without them cuts the job off the graph until its next good run. There are START and one terminal event, nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.records import Run, State, StepRun
from pipeline.settings import Settings
from pipeline.telemetry.columns import StatementLineage
from pipeline.telemetry.lineage_datasets import input_dataset, output_dataset
from pipeline.telemetry.lineage_facets import PRODUCER, job_facets, job_name, run_facets
from pipeline.telemetry.manifest import iso

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent, RunState

START = "START"
COMPLETE = "COMPLETE"
FAIL = "FAIL"
ABORT = "ABORT"
TERMINAL = frozenset({COMPLETE, FAIL, ABORT})
# A run that is left RUNNING ended without anybody saying how.
_TERMINAL_OF = {State.COMPLETED: COMPLETE, State.FAILED: FAIL}


@dataclass(frozen=True, slots=True)
class RunEvents:
    """Makes the events of one run."""

    run: Run
    settings: Settings

    def run_started(self) -> str:
        """The pipeline's START."""
        return line(self._pipeline_event(START, self.run.started_ns))

    def run_ended(self) -> str:
        """The pipeline's terminal event."""
        return line(self._pipeline_event(terminal(self.run.state), self.run.ended_ns or self._last_sign()))

    def step_started(self, step: StepRun) -> str:
        """A step's START: what it will read and write, as the contracts say."""
        return line(self._step_event(START, step, step.started_ns, {}))

    def step_ended(self, step: StepRun, lineage: Mapping[str, StatementLineage]) -> str:
        """A step's terminal event: the same, and what was seen, with `lineage` by output."""
        return line(self._step_event(terminal(step.state), step, step.ended_ns or self._last_sign(), lineage))

    def _pipeline_event(self, kind: str, at_ns: int) -> RunEvent:
        from openlineage.client.event_v2 import Job, RunEvent
        from openlineage.client.event_v2 import Run as OpenLineageRun

        return RunEvent(
            eventType=_run_state(kind),
            eventTime=str(iso(at_ns)),
            run=OpenLineageRun(runId=str(self.run.id), facets=run_facets(self.run, self.settings, ended=kind != START)),
            job=Job(namespace=self.settings.openlineage_namespace, name=job_name(self.run.pipeline), facets=job_facets(self.run)),
            producer=PRODUCER,
        )

    def _step_event(self, kind: str, step: StepRun, at_ns: int, lineage: Mapping[str, StatementLineage]) -> RunEvent:
        from openlineage.client.event_v2 import Job, RunEvent
        from openlineage.client.event_v2 import Run as OpenLineageRun

        ended = kind != START
        return RunEvent(
            eventType=_run_state(kind),
            eventTime=str(iso(at_ns)),
            run=OpenLineageRun(runId=str(step.id), facets=run_facets(self.run, self.settings, step, ended=ended)),
            job=Job(namespace=self.settings.openlineage_namespace, name=job_name(self.run.pipeline, step.step), facets=job_facets(self.run, step.step)),
            inputs=[input_dataset(self.run, step, name, ended=ended) for name in step.step.inputs],
            outputs=[output_dataset(self.run, step, name, lineage.get(name), ended=ended) for name in step.step.outputs],
            producer=PRODUCER,
        )

    def _last_sign(self) -> int:
        """The newest time on the record, for an end that nobody wrote down."""
        return max([self.run.started_ns, *(step.ended_ns or step.started_ns for step in self.run.steps)])


def terminal(state: State) -> str:
    """The kind of terminal event that tells a state."""
    return _TERMINAL_OF.get(state, ABORT)


def _run_state(kind: str) -> RunState:
    from openlineage.client.event_v2 import RunState

    return RunState(kind)


def line(event: RunEvent | Mapping[str, Any]) -> str:
    """An event as one line of JSON, without what makes Marquez fail for ever: NUL, NaN and infinities."""
    from openlineage.client.serde import Serde

    return Serde.to_json(clean(Serde.to_dict(event)), allow_nan=False, separators=(",", ":"))


def clean(value: Any) -> Any:
    """A JSON value without NUL and lone surrogates in its texts, and with null for numbers that JSON does not have."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean(key): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value
