"""What a bundle's manifest and checks say, as typed records; everything else in this package works on these.

Only `manifest.json` has to exist: a run that was killed, or had its telemetry off, has little else. Keys that an older
manifest lacks are read as absent.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pipeline.errors import RunNotFoundError
from pipeline.records import Check, DatasetVersion, Estimate, Failure, Gate, Layer, Outcome, Severity, SourceFile, State, StepKind
from pipeline.telemetry import bundle
from pipeline.telemetry.bundle import Bundle

REPORT: Final = "report.html"

# The rank of an outcome in every list: what needs a person first.
OUTCOME_RANK: Final = {Outcome.FAILED: 0, Outcome.QUARANTINED: 1, Outcome.PASSED: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFacts:
    """A part of a run or step: `start` is in seconds after the run's start."""

    name: str
    start: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """One step. A step that the run never reached has no `start` (seconds after the run's start) and no state."""

    name: str
    kind: StepKind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    description: str = ""
    id: str = ""
    span_id: str = ""
    state: State | None = None
    started_at: datetime | None = None
    start: float | None = None
    seconds: float | None = None
    rows_in: Mapping[str, int | None]
    rows_out: Mapping[str, int]
    rows_quarantined: Mapping[str, int]
    phases: tuple[PhaseFacts, ...] = ()
    failure: Failure | None = None

    @property
    def quarantined(self) -> int:
        """Rows that the step set aside."""
        return sum(self.rows_quarantined.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFacts:
    """One dataset that the run wrote, and whether it became the current version."""

    step: str
    version: DatasetVersion
    published: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One run as its bundle tells it. `checks` are complete only when `checks.json` was written (`checks_known`)."""

    bundle: Path
    run_id: str
    trace_id: str
    span_id: str
    state: State
    gate: Gate | None
    started_at: datetime
    ended_at: datetime | None
    reaped_at: datetime | None
    seconds: float | None
    as_of: str | None
    until: str | None
    clock_offset_seconds: float | None
    environment: str
    failure: Failure | None
    pipeline: str
    description: str
    owner: str
    headline: tuple[str, str] | None
    datasets: Mapping[str, str]
    steps: tuple[StepFacts, ...]
    inputs: tuple[SourceFile, ...]
    outputs: tuple[OutputFacts, ...]
    set_aside: tuple[OutputFacts, ...]
    checks: tuple[Check, ...]
    check_counts: Mapping[str, int]
    checks_known: bool
    estimates: tuple[Estimate, ...]
    phases: tuple[PhaseFacts, ...]
    lake: str
    process: Mapping[str, str]
    code: Mapping[str, str]
    settings: Mapping[str, str]
    libraries: Mapping[str, str]
    success_share_20: float | None
    telemetry_seconds: Mapping[str, float]
    telemetry_lost: Mapping[str, int]

    @property
    def short_id(self) -> str:
        """The id's first 13 characters: its time to the millisecond, enough to name a run on one machine."""
        return self.run_id[:13]

    @property
    def steps_run(self) -> tuple[StepFacts, ...]:
        """The steps that were started, in the order in which they were."""
        return tuple(step for step in self.steps if step.state is not None)

    @property
    def last_step(self) -> StepFacts | None:
        """The step that a failure names, or else the last one started."""
        named = [step for step in self.steps_run if self.failure and step.name == self.failure.step]
        return named[0] if named else next(reversed(self.steps_run), None)

    @property
    def known_seconds(self) -> float:
        """The run's time; for one without an end, up to the last thing in it that is on record."""
        ends = [self.seconds or 0.0, *(phase.start + phase.seconds for phase in self.phases)]
        for step in self.steps_run:
            ends += [(step.start or 0.0) + (step.seconds or 0.0), *(phase.start + phase.seconds for phase in step.phases)]
        return max(ends)

    @property
    def rows_read(self) -> int:
        """Records of all input files."""
        return sum(source.rows for source in self.inputs)

    @property
    def rows_quarantined(self) -> int:
        """Rows that any step set aside."""
        return sum(step.quarantined for step in self.steps)

    @property
    def published(self) -> tuple[OutputFacts, ...]:
        """The datasets that became, or stayed, the current version by this run."""
        return tuple(output for output in self.outputs if output.published)

    @property
    def unchanged(self) -> int:
        """How many published datasets were already the current version."""
        return sum(output.version.changed is False for output in self.published)

    @property
    def check_total(self) -> int:
        """How many checks were evaluated."""
        return sum(self.check_counts.get(outcome.value, 0) for outcome in Outcome)

    @property
    def headline_estimate(self) -> Estimate | None:
        """The estimate that the pipeline calls its headline, when there is one with a number."""
        for estimate in self.estimates:
            if (estimate.model, estimate.term) == self.headline and estimate.estimate is not None:
                return estimate
        return None

    def writer(self, dataset: str) -> StepFacts | None:
        """The step that writes `dataset`; None for a source."""
        return next((step for step in self.steps if dataset in step.outputs), None)


def layer(dataset: str) -> str:
    """The part of a dataset's name before the slash."""
    return dataset.split("/", 1)[0]


def layer_rank(dataset: str) -> int:
    """The place of a dataset's layer from input to gold; unknown layers come last."""
    order = [known.value for known in Layer]
    return order.index(layer(dataset)) if layer(dataset) in order else len(order)


def read_facts(path: Path) -> Facts:
    """What the manifest and the checks of the bundle in a folder say, with the state as it truly is.

    Raises:
        RunNotFoundError: there is no manifest, or it is not one.
    """
    return facts_of(bundle.read(path))


def facts_of(found: Bundle, *, with_checks: bool = True) -> Facts:
    """The facts of a bundle; without its list of checks where their numbers, which the manifest has, are enough.

    Raises:
        RunNotFoundError: the manifest lacks what every manifest has.
    """
    try:
        return _facts(found, _read_checks(found.path) if with_checks else None)
    except (KeyError, TypeError, ValueError) as error:
        raise RunNotFoundError(
            f"{found.path.name}/{bundle.MANIFEST} is not what this version writes: {error!r}", hint="it may come from a newer Goldtrace; see docs/bundle.md"
        ) from error


def _read_checks(path: Path) -> Mapping[str, Any] | None:
    """The checks of a bundle; None when there are none or the file was cut short."""
    try:
        found = json.loads((path / bundle.CHECKS).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _facts(found: Bundle, checks: Mapping[str, Any] | None) -> Facts:
    manifest = found.manifest
    started = _time(manifest["started_at"])
    pipeline = manifest["pipeline"]
    telemetry = manifest.get("telemetry") or {}
    return Facts(
        bundle=found.path,
        **{name: manifest[name] for name in ("run_id", "trace_id", "span_id", "seconds", "as_of", "until", "environment")},
        clock_offset_seconds=manifest.get("clock_offset_seconds"),
        state=found.state,
        gate=Gate(manifest["gate"]) if manifest["gate"] else None,
        started_at=started,
        ended_at=_time_or_none(manifest["ended_at"]),
        reaped_at=_time_or_none(manifest.get("reaped_at")),
        failure=_failure(manifest["failure"]),
        pipeline=pipeline["name"],
        description=pipeline.get("description") or "",
        owner=pipeline.get("owner") or "",
        headline=tuple(pipeline["headline"]) if pipeline.get("headline") else None,
        datasets={name: entry.get("description") or "" for name, entry in pipeline.get("datasets", {}).items()},
        steps=_steps(manifest, started, found.state),
        inputs=tuple(SourceFile(**{key: entry[key] for key in ("source", "file", "bytes", "sha256", "rows")}) for entry in manifest["inputs"]),
        outputs=tuple(_output(entry) for entry in manifest["outputs"]),
        set_aside=tuple(_output({**entry, "published": True}) for entry in manifest.get("quarantined", ())),
        checks=tuple(_check(entry) for entry in (checks or {}).get("checks", ())),
        check_counts=manifest.get("checks") or {},
        checks_known=checks is not None,
        estimates=tuple(Estimate(**entry) for entry in manifest["estimates"]),
        phases=_phases(manifest.get("phases", ()), started),
        lake=(manifest.get("lake") or {}).get("address", ""),
        process=_texts(manifest.get("process")),
        code=_texts(manifest.get("code")),
        settings=_texts(manifest.get("settings")),
        libraries=_texts(manifest.get("libraries")),
        success_share_20=manifest.get("success_share_20"),
        telemetry_seconds=telemetry.get("seconds") or {},
        telemetry_lost=telemetry.get("lost") or {},
    )


def _steps(manifest: Mapping[str, Any], started: datetime, state: State) -> tuple[StepFacts, ...]:
    """The steps that ran, and after them those planned that the run never reached."""
    ran = [_step(entry, started) for entry in manifest["steps"]]
    if state is State.LOST:
        ran = [replace(step, state=State.LOST) if step.state is State.RUNNING else step for step in ran]
    names = {step.name for step in ran}
    planned = manifest.get("steps_planned") or []
    waiting = [entry for entry in manifest["pipeline"].get("steps", ()) if entry["name"] in planned and entry["name"] not in names]
    return (*ran, *(_waiting_step(entry) for entry in waiting))


def _waiting_step(entry: Mapping[str, Any]) -> StepFacts:
    return StepFacts(
        name=entry["name"],
        kind=StepKind(entry["kind"]),
        inputs=tuple(entry["inputs"]),
        outputs=tuple(entry["outputs"]),
        rows_in={},
        rows_out={},
        rows_quarantined={},
    )


def _step(entry: Mapping[str, Any], started: datetime) -> StepFacts:
    began = _time(entry["started_at"])
    return StepFacts(
        **{name: entry[name] for name in ("name", "description", "id", "span_id", "seconds", "rows_in", "rows_out", "rows_quarantined")},
        kind=StepKind(entry["kind"]),
        inputs=tuple(entry["inputs"]),
        outputs=tuple(entry["outputs"]),
        state=State(entry["state"]),
        started_at=began,
        start=(began - started).total_seconds(),
        phases=_phases(entry.get("phases", ()), started),
        failure=_failure(entry["failure"]),
    )


def _phases(entries: list[Mapping[str, Any]], started: datetime) -> tuple[PhaseFacts, ...]:
    return tuple(PhaseFacts(name=entry["name"], start=(_time(entry["started_at"]) - started).total_seconds(), seconds=entry["seconds"]) for entry in entries)


def _output(entry: Mapping[str, Any]) -> OutputFacts:
    version = DatasetVersion(
        **{key: entry[key] for key in ("dataset", "version", "path", "bytes", "rows", "changed")},
        files=tuple(entry["files"]),
    )
    return OutputFacts(step=entry["step"], version=version, published=entry["published"])


def _check(entry: Mapping[str, Any]) -> Check:
    return Check(
        **{key: entry[key] for key in ("dataset", "expectation", "column", "expected", "observed", "quarantine", "engine", "description")},
        severity=Severity(entry["severity"]),
        outcome=Outcome(entry["outcome"]),
        records=tuple((place["file"], place["record"]) for place in entry["records"]),
    )


def _failure(entry: Mapping[str, Any] | None) -> Failure | None:
    return Failure(**entry) if entry else None


def _texts(entry: Mapping[str, Any] | None) -> dict[str, str]:
    """A flat mapping as text, what is unknown left out."""
    return {key: str(value) for key, value in (entry or {}).items() if value is not None}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _time_or_none(text: str | None) -> datetime | None:
    return _time(text) if text else None
