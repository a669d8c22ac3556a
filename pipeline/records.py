"""What the layers hand to each other: declarations, facts of a run, and the seam of the hooks.

No outside library is imported here, and nothing is read or written.
Times are nanoseconds since the Unix epoch (`*_ns`); sizes are bytes; shares are between 0 and 1.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from enum import StrEnum
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol

from pipeline.clock import MACHINE, Clock

JsonValue = str | int | float | bool | None | list[Any] | dict[str, Any]


class Layer(StrEnum):
    """Where a dataset stands between raw files and results."""

    INPUT = "input"
    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"


class State(StrEnum):
    """What became of a run or a step."""

    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    ABORTED = "ABORTED"
    LOST = "LOST"


class Gate(StrEnum):
    """The verdict over all checks: GREEN all hold, YELLOW a `warn` failed, RED an `error` failed."""

    GREEN = "GREEN"
    YELLOW = "YELLOW"
    RED = "RED"


class Severity(StrEnum):
    """What a failed check does to the gate: `warn` makes it YELLOW, `error` RED."""

    WARN = "warn"
    ERROR = "error"


class Privacy(StrEnum):
    """How far a column's values may go.

    `public` values may be summarised with minimum and maximum; `personal` ones (about a person) only as counts,
    shares and means; `identifier` (names a person) and `free_text` only as counts.
    """

    PUBLIC = "public"
    PERSONAL = "personal"
    IDENTIFIER = "identifier"
    FREE_TEXT = "free_text"


class StepKind(StrEnum):
    """How a step does its work."""

    INGEST = "ingest"
    SQL = "sql"
    PYTHON = "python"


class Outcome(StrEnum):
    """What a check came to. `quarantined`: rows broke a row rule and were set aside, so the dataset holds it now."""

    PASSED = "passed"
    FAILED = "failed"
    QUARANTINED = "quarantined"


# ---------------------------------------------------------------------------------------------- contracts


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a contract; `type` is `string|integer|number|boolean|date|timestamp`."""

    name: str
    type: str
    description: str
    unit: str | None = None
    nullable: bool = True
    privacy: Privacy = Privacy.PUBLIC


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One rule, named and parametrised as in Great Expectations (`expect_…`, `kwargs`).

    With `quarantine`, rows that break it are set aside: up to the contract's `max_quarantined_share` the gate is
    YELLOW; beyond it, when the severity is `error`, RED.
    """

    name: str
    kwargs: Mapping[str, JsonValue]
    severity: Severity
    quarantine: bool = False
    description: str = ""

    @property
    def column(self) -> str | None:
        """The one column the rule is about, if it is about one."""
        value = self.kwargs.get("column")
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a dataset promises. A source (layer `input`) has a file `pattern`; an artefact (`files`) has no columns."""

    dataset: str
    description: str
    owner: str
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    max_quarantined_share: float = 0.0
    pattern: str | None = None
    as_of_column: str | None = None
    path: Path | None = None

    @property
    def layer(self) -> Layer:
        """The part of the name before the slash."""
        return Layer(self.dataset.split("/", 1)[0])

    @property
    def is_table(self) -> bool:
        """Whether the dataset is a table (it has columns) and not a folder of files."""
        return bool(self.columns)

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            KeyError: the contract has no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


# ---------------------------------------------------------------------------------------------- declarations


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a run is due: one every `every`, finished `by` that time of day (UTC)."""

    every: timedelta
    by: time


# Output dataset → output column → the input columns it is made from, each as "layer/dataset.column".
ColumnLineage = Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One declared step. Made by `ingest`, `sql_step` and `python_step`, not by hand."""

    name: str
    kind: StepKind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    description: str
    function: Callable[..., Any] | None = None
    sql: Path | None = None
    seeds: Mapping[str, Path] = field(default_factory=dict)
    column_lineage: ColumnLineage = field(default_factory=dict)

    @property
    def code(self) -> FunctionType | None:
        """The function that was written for it: what a decorator, a `partial`, a method or a callable object stands for."""
        found: object = self.function
        while found is not None and not (isinstance(found, FunctionType) and not hasattr(found, "__wrapped__")):
            inner = (getattr(found, name, None) for name in ("__wrapped__", "func", "__func__"))
            found = next((each for each in inner if each is not None), None) or _class_call(found)
        return found


def _class_call(thing: object) -> FunctionType | None:
    call = vars(type(thing)).get("__call__")
    return call if isinstance(call, FunctionType) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What its estimates don't say about a model: the column it explains, how its standard errors are made, what it means."""

    response: str
    errors: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A named graph of steps with the contracts of everything they read and write.

    `estimates` names the dataset whose rows are model estimates (`Estimate`), `figures` the one whose files are plots;
    `headline` is the (model, term) that a summary shows; `models` says of each model what its estimates don't.
    """

    name: str
    description: str
    owner: str
    steps: tuple[Step, ...]
    contracts: Mapping[str, Contract]
    schedule: Schedule
    estimates: str | None = None
    figures: str | None = None
    headline: tuple[str, str] | None = None
    models: Mapping[str, ModelCard] = field(default_factory=dict)
    sample: Path | None = None
    generate: Callable[..., None] | None = None


# ---------------------------------------------------------------------------------------------- facts of a run


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One input file as it was read. `file` is the base name: a folder may name a person."""

    source: str
    file: str
    bytes: int
    sha256: str
    rows: int

    @property
    def load_id(self) -> str:
        """The first 16 hex digits of the file's hash."""
        return self.sha256[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """One written version. `path` is relative to the lake; `rows` is None for a folder of files.

    `changed` says whether the lake had another current version before; it is None until the run has published.
    """

    dataset: str
    version: str
    path: str
    files: tuple[str, ...]
    bytes: int
    rows: int | None
    changed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnStats:
    """Aggregates of one column, for lineage and report; minimum and maximum only where the column is `public`."""

    column: str
    null_count: int
    distinct_count: int | None = None
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One expectation evaluated on one dataset in one run.

    `observed` holds counts, shares and aggregates (`rows`, `unexpected_count`, `unexpected_share`, …), never a value of
    a row. `records` are up to 100 places of broken rows as (file, record number).
    """

    dataset: str
    expectation: str
    column: str | None
    severity: Severity
    outcome: Outcome
    expected: str
    observed: Mapping[str, int | float | str | bool | None]
    quarantine: bool = False
    engine: str = "sql"
    description: str = ""
    records: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One row of a model's coefficient table, with the fit it comes from. Missing numbers are None."""

    model: str
    term: str
    estimate: float | None
    std_error: float | None
    statistic: float | None
    p_value: float | None
    ci_low: float | None
    ci_high: float | None
    n_obs: int
    n_subjects: int
    r_squared: float | None
    converged: bool
    singular: bool
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a run or step that is worth its own span (`read`, `write`, `check`, `publish`)."""

    name: str
    started_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a run or a step failed. `type` is an error's slug; `exception` the Python class behind it."""

    type: str
    message: str
    hint: str = ""
    exception: str = ""
    step: str | None = None
    stacktrace: str = ""


@dataclass(slots=True, kw_only=True)
class StepRun:
    """One step in one run: filled by the runner while it goes on, whole when a hook's context ends."""

    step: Step
    id: uuid.UUID
    started_ns: int
    ended_ns: int | None = None
    state: State = State.RUNNING
    failure: Failure | None = None
    rows_in: dict[str, int | None] = field(default_factory=dict)
    outputs: dict[str, DatasetVersion] = field(default_factory=dict)
    rows_quarantined: dict[str, int] = field(default_factory=dict)
    column_stats: dict[str, tuple[ColumnStats, ...]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    inputs: list[SourceFile] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)

    @property
    def span_id(self) -> int:
        """The low 64 bits of the step's OpenLineage run id."""
        return self.id.int & 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What code ran: the package's version, and the commit when the pipeline's code lies in a git work tree.

    `dirty` means what it means to `git describe --dirty`: a tracked file has changes. `root` is the work tree's folder on
    this machine, which is told to nobody.
    """

    version: str
    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    repository: str | None = None
    root: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Where it ran."""

    pid: int
    host: str
    python: str
    platform: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who started the run: an outer W3C `TRACEPARENT`, or an outer OpenLineage parent (namespace, job, run id)."""

    traceparent: str | None = None
    openlineage_parent: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRun:
    """A run in MLflow, where its page is known: the experiment, the run, and the run of each model by the model's name."""

    experiment_id: str
    run_id: str
    models: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class Run:
    """One execution of a pipeline: filled by the runner while it goes on, whole when a hook's context ends."""

    id: uuid.UUID
    pipeline: Pipeline
    bundle: Path
    lake: str
    lake_name: str
    environment: str
    code: Code
    process: Process
    settings: Mapping[str, str]
    libraries: Mapping[str, str]
    started_ns: int
    clock: Clock = MACHINE
    as_of: date | None = None
    until: str | None = None
    caller: Caller = field(default_factory=Caller)
    steps_planned: tuple[Step, ...] = ()
    state: State = State.RUNNING
    ended_ns: int | None = None
    reaped_ns: int | None = None
    failure: Failure | None = None
    gate: Gate | None = None
    steps: list[StepRun] = field(default_factory=list)
    estimates: list[Estimate] = field(default_factory=list)
    published: dict[str, DatasetVersion] = field(default_factory=dict)
    phases: list[Phase] = field(default_factory=list)
    success_share_20: float | None = None
    experiment: ExperimentRun | None = None
    telemetry_seconds: dict[str, float] = field(default_factory=dict)
    telemetry_lost: dict[str, int] = field(default_factory=dict)

    @property
    def trace_id(self) -> int:
        """The run id's 128 bits."""
        return self.id.int

    @property
    def span_id(self) -> int:
        """The root span's id: the run id's low 64 bits."""
        return self.id.int & 0xFFFF_FFFF_FFFF_FFFF

    @property
    def checks(self) -> list[Check]:
        """All checks so far, in the order of the steps."""
        return [check for step in self.steps for check in step.checks]

    @property
    def inputs(self) -> list[SourceFile]:
        """All input files read so far."""
        return [source for step in self.steps for source in step.inputs]

    @property
    def warnings(self) -> list[Check]:
        """The checks that did not simply pass."""
        return [check for check in self.checks if check.outcome is not Outcome.PASSED]


class Hook(Protocol):
    """One listener to a run: traces, metrics, logs, lineage, experiments, progress.

    The contexts wrap the run and each step. The runner fills the record before a context ends, so a hook reads the
    final facts in its exit. An error in a hook is counted and logged once, and never reaches the run.
    """

    signal: str

    def run(self, run: Run) -> AbstractContextManager[None]:
        """Wrap the whole run; `run` is live."""
        ...

    def step(self, run: Run, step: StepRun) -> AbstractContextManager[None]:
        """Wrap one step; `step` is live."""
        ...
