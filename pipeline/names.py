"""Every name that telemetry uses: metrics, attributes, labels, log events and log fields, each with type and meaning.

`docs/telemetry.md` is generated from this file. OpenTelemetry's semantic conventions (1.44) are used where they exist;
what is ours stands under `goldtrace.`. A name that is not here may not be written to a bundle.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Metric:
    """One instrument: OpenTelemetry name, kind (`counter|gauge|histogram`), UCUM unit, labels, meaning."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a resource, span or log record, or one label of a metric."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of log record (`event.name`) with the attributes it carries."""

    name: str
    attributes: tuple[Attribute, ...]
    meaning: str


SCOPE: Final = "goldtrace"

# ------------------------------------------------------------------------------------------------ labels of metrics
OUTCOME: Final = Attribute("outcome", "string", "`completed`, `failed`, `aborted` or `lost`; of a check `passed`, `failed` or `quarantined`")
GATE: Final = Attribute("gate", "string", "`green`, `yellow`, `red`, or `none` when the run ended before its checks")
STEP: Final = Attribute("step", "string", "The step's name")
DATASET: Final = Attribute("dataset", "string", "The dataset's name, `layer/name`")
LAYER: Final = Attribute("layer", "string", "`input`, `bronze`, `silver` or `gold`")
FLOW: Final = Attribute("flow", "string", "`in` (read by the step that writes it), `out` (written) or `quarantined`")
SEVERITY: Final = Attribute("severity", "string", "`warn` or `error`")
MODEL: Final = Attribute("model", "string", "The model's name")
TERM: Final = Attribute("term", "string", "The coefficient's name")
PLACE: Final = Attribute("place", "string", "The disk that is meant: of the `lake`, or of the `runs`")
SIGNAL: Final = Attribute(
    "signal", "string", "`traces`, `metrics`, `logs`, `lineage` or `experiments`; `bundle` is the manifest itself, `progress` the terminal"
)
SIGNALS: Final = ("traces", "metrics", "logs", "lineage", "experiments", "bundle", "progress")

# ------------------------------------------------------------------------------------------------------- metrics
RUNS: Final = Metric("goldtrace.runs", "counter", "{run}", ("outcome", "gate"), "Runs that ended; one sample is one run")
RUN_DURATION: Final = Metric("goldtrace.run.duration", "histogram", "s", ("outcome",), "Wall time of a run; the exemplar leads to its trace")
STEP_DURATION: Final = Metric("goldtrace.step.duration", "histogram", "s", ("step", "outcome"), "Wall time of a step; the exemplar leads to its span")
LAST_RUN_SUCCESS: Final = Metric("goldtrace.last_run.success", "gauge", "", (), "1 when the run completed, else 0")
LAST_RUN_DURATION: Final = Metric("goldtrace.last_run.duration", "gauge", "s", (), "Wall time of the run")
LAST_RUN_GATE: Final = Metric("goldtrace.last_run.gate", "gauge", "", (), "0 green, 1 yellow, 2 red; absent when the run ended before its checks")
LAST_RUN_SUCCESS_SHARE_20: Final = Metric(
    "goldtrace.last_run.success_share_20", "gauge", "", (), "Share of completed runs among the last 20 of the pipeline on this machine, this one included"
)
RUN_DUE: Final = Metric(
    "goldtrace.run.due",
    "gauge",
    "s",
    (),
    "By when the schedule wants the next run finished, in seconds since the epoch; absent after one beside the schedule",
)
RUN_EVERY: Final = Metric("goldtrace.run.every", "gauge", "s", (), "Time between two runs that the schedule wants; absent after one beside the schedule")
STEP_LAST_DURATION: Final = Metric("goldtrace.step.last_duration", "gauge", "s", ("step",), "Wall time of the step in the run")
DATASET_ROWS: Final = Metric("goldtrace.dataset.rows", "gauge", "{row}", ("dataset", "layer", "flow"), "Rows of a table in the run, by flow")
DATASET_BYTES: Final = Metric("goldtrace.dataset.bytes", "gauge", "By", ("dataset", "layer", "flow"), "Bytes of a dataset's files in the run, by flow")
DATASET_PUBLISHED: Final = Metric(
    "goldtrace.dataset.published", "gauge", "s", ("dataset", "layer"), "When the run published the dataset or found it unchanged, in seconds since the epoch"
)
DATASET_DUE: Final = Metric(
    "goldtrace.dataset.due",
    "gauge",
    "s",
    ("dataset", "layer"),
    "By when the schedule wants the dataset published next, in seconds since the epoch; only when published or found unchanged by a run of the schedule",
)
DATASET_MET: Final = Metric(
    "goldtrace.dataset.met",
    "gauge",
    "s",
    ("dataset", "layer"),
    "The deadline that the dataset met, in seconds since the epoch; only when it was published or found unchanged no later than 2 h after it",
)
CHECKS: Final = Metric("goldtrace.checks", "counter", "{check}", ("dataset", "severity", "outcome"), "Checks evaluated")
MODEL_ESTIMATE: Final = Metric("goldtrace.model.estimate", "gauge", "", ("model", "term"), "Coefficient")
MODEL_CI_LOW: Final = Metric("goldtrace.model.ci_low", "gauge", "", ("model", "term"), "Lower bound of the coefficient's 95 % confidence interval")
MODEL_CI_HIGH: Final = Metric("goldtrace.model.ci_high", "gauge", "", ("model", "term"), "Upper bound of the coefficient's 95 % confidence interval")
MODEL_P_VALUE: Final = Metric("goldtrace.model.p_value", "gauge", "", ("model", "term"), "Two-sided p value of the coefficient")
MODEL_CONVERGED: Final = Metric("goldtrace.model.converged", "gauge", "", ("model", "term"), "1 when the fit converged, else 0")
DISK_FREE: Final = Metric("goldtrace.disk.free", "gauge", "By", ("place",), "Bytes left for this user on the disk, when the run ended")
DISK_SIZE: Final = Metric("goldtrace.disk.size", "gauge", "By", ("place",), "Size of the disk")
TELEMETRY_SECONDS: Final = Metric(
    "goldtrace.telemetry.seconds", "gauge", "s", ("signal",), "Wall time that a hook took from the run, until metrics are collected"
)
TELEMETRY_LOST: Final = Metric("goldtrace.telemetry.lost", "counter", "{record}", ("signal",), "Calls of a hook that failed: each is a gap in that signal")

# ---------------------------------------------------------------------------------------------- resource attributes
RUN_ID: Final = Attribute(
    "goldtrace.run.id", "string", "The run's UUIDv7; its 128 bits are the trace id. First, as file readers tell files apart by their beginning"
)
SERVICE_NAME: Final = Attribute("service.name", "string", "Always `goldtrace`")
SERVICE_NAMESPACE: Final = Attribute("service.namespace", "string", "The pipeline's name")
SERVICE_VERSION: Final = Attribute("service.version", "string", "Goldtrace's version")
# The environment, and the pipeline's name, of the runs that `pipeline doctor` makes: no dashboard shows them and no one means them by `last`.
CANARY: Final = "canary"
ENVIRONMENT: Final = Attribute("deployment.environment.name", "string", "`local` unless `PIPELINE_ENVIRONMENT` says otherwise")

# ------------------------------------------------------------------------------------- attributes of spans and logs
PIPELINE_NAME: Final = Attribute("cicd.pipeline.name", "string", "The pipeline's name")
PIPELINE_RUN_ID: Final = Attribute("cicd.pipeline.run.id", "string", "The run's id")
PIPELINE_RESULT: Final = Attribute("cicd.pipeline.result", "string", "`success`, `failure` or `cancellation`")
TASK_NAME: Final = Attribute("cicd.pipeline.task.name", "string", "The step's name")
TASK_RUN_ID: Final = Attribute("cicd.pipeline.task.run.id", "string", "The step's OpenLineage run id; its low 64 bits are the span id")
TASK_RUN_RESULT: Final = Attribute("cicd.pipeline.task.run.result", "string", "`success`, `failure` or `cancellation`")
ERROR_TYPE: Final = Attribute("error.type", "string", "Slug of the error in `docs/errors.md`")
EXCEPTION_TYPE: Final = Attribute("exception.type", "string", "Class of the exception behind a failure")
EXCEPTION_MESSAGE: Final = Attribute("exception.message", "string", "The failure in words, without values of rows")
EXCEPTION_STACKTRACE: Final = Attribute("exception.stacktrace", "string", "Where it was raised (file, line, function; no values)")
CODE_FUNCTION: Final = Attribute("code.function.name", "string", "The step's function, or the kind of built-in step")
CODE_FILE: Final = Attribute("code.file.path", "string", "The step's file, relative to the package")
REVISION: Final = Attribute("vcs.ref.head.revision", "string", "The commit that ran")
REPOSITORY: Final = Attribute("vcs.repository.url.full", "string", "The repository's browsable address")
PROCESS_PID: Final = Attribute("process.pid", "int", "The process that ran it")
HOST_NAME: Final = Attribute("host.name", "string", "The machine that ran it")
RUN_STATE: Final = Attribute("goldtrace.run.state", "string", "The run's state")
RUN_GATE: Final = Attribute("goldtrace.run.gate", "string", "The run's gate")
RUN_SECONDS: Final = Attribute("goldtrace.run.seconds", "double", "Wall time of the run")
RUN_ROWS_IN: Final = Attribute("goldtrace.run.rows_in", "int", "Rows read from input files")
RUN_ROWS_QUARANTINED: Final = Attribute("goldtrace.run.rows_quarantined", "int", "Rows set aside")
RUN_STEPS: Final = Attribute("goldtrace.run.steps", "int", "Steps that were started")
RUN_AS_OF: Final = Attribute("goldtrace.run.as_of", "string", "The nominal date, when one was given")
STEP_NAME: Final = Attribute("goldtrace.step.name", "string", "The step's name")
STEP_KIND: Final = Attribute("goldtrace.step.kind", "string", "`ingest`, `sql` or `python`")
STEP_STATE: Final = Attribute("goldtrace.step.state", "string", "The step's state")
STEP_SECONDS: Final = Attribute("goldtrace.step.seconds", "double", "Wall time of the step")
STEP_INPUTS: Final = Attribute("goldtrace.step.inputs", "string[]", "Datasets that the step reads")
STEP_OUTPUTS: Final = Attribute("goldtrace.step.outputs", "string[]", "Datasets that the step writes")
STEP_ROWS_IN: Final = Attribute("goldtrace.step.rows_in", "int", "Rows of all tables that the step read")
STEP_ROWS_OUT: Final = Attribute("goldtrace.step.rows_out", "int", "Rows of all tables that the step wrote")
STEP_ROWS_QUARANTINED: Final = Attribute("goldtrace.step.rows_quarantined", "int", "Rows that the step set aside")
DATASET_NAME: Final = Attribute("goldtrace.dataset.name", "string", "The dataset's name, `layer/name`")
DATASET_LAYER: Final = Attribute("goldtrace.dataset.layer", "string", "The dataset's layer")
DATASET_VERSION: Final = Attribute("goldtrace.dataset.version", "string", "sha256 over the dataset's files")
DATASET_ROW_COUNT: Final = Attribute("goldtrace.dataset.row_count", "int", "Rows of the version")
DATASET_BYTE_COUNT: Final = Attribute("goldtrace.dataset.byte_count", "int", "Bytes of the version's files")
DATASET_CHANGED: Final = Attribute("goldtrace.dataset.changed", "boolean", "Whether the version replaced another one")
LINEAGE_NAMESPACE: Final = Attribute("goldtrace.lineage.namespace", "string", "Where lineage has the dataset: `file://<lake name>` or `s3://<bucket>`")
LINEAGE_NAME: Final = Attribute("goldtrace.lineage.name", "string", "What it is called there: its own name, in a bucket its key")
CHECK_EXPECTATION: Final = Attribute("goldtrace.check.expectation", "string", "The expectation's name, as in Great Expectations")
CHECK_COLUMN: Final = Attribute("goldtrace.check.column", "string", "The column that the check is about")
CHECK_SEVERITY: Final = Attribute("goldtrace.check.severity", "string", "`warn` or `error`")
CHECK_OUTCOME: Final = Attribute("goldtrace.check.outcome", "string", "`passed`, `failed` or `quarantined`")
CHECK_EXPECTED: Final = Attribute("goldtrace.check.expected", "string", "The rule in words")
CHECK_UNEXPECTED: Final = Attribute("goldtrace.check.unexpected_count", "int", "Rows that break the rule")
CHECK_ROWS: Final = Attribute("goldtrace.check.rows", "int", "Rows that were looked at")
GATE_WARNINGS: Final = Attribute("goldtrace.gate.warnings", "int", "Checks that made the gate YELLOW")
GATE_ERRORS: Final = Attribute("goldtrace.gate.errors", "int", "Checks that made the gate RED")
MLFLOW_EXPERIMENT: Final = Attribute("goldtrace.mlflow.experiment_id", "string", "The run's experiment in MLflow, when that took it in time and has a page")
MLFLOW_RUN: Final = Attribute("goldtrace.mlflow.run_id", "string", "The run's id in MLflow, or the model's own; with the experiment's")
MODEL_NAME: Final = Attribute("goldtrace.model.name", "string", "The model's name")
MODEL_TERM: Final = Attribute("goldtrace.model.term", "string", "The coefficient's name")
MODEL_VALUE: Final = Attribute("goldtrace.model.value", "double", "The coefficient")
MODEL_LOW: Final = Attribute("goldtrace.model.low", "double", "Lower bound of its 95 % confidence interval")
MODEL_HIGH: Final = Attribute("goldtrace.model.high", "double", "Upper bound of its 95 % confidence interval")
MODEL_P: Final = Attribute("goldtrace.model.p", "double", "Its two-sided p value")
MODEL_FIT_CONVERGED: Final = Attribute("goldtrace.model.fit_converged", "boolean", "Whether the fit converged")
MODEL_NOTE: Final = Attribute("goldtrace.model.note", "string", "What has to be known to read the fit")
TELEMETRY_SIGNAL: Final = Attribute("goldtrace.telemetry.signal", "string", "The signal whose hook failed")
EVENT_NAME: Final = Attribute("event.name", "string", "The kind of log record; on the record's own field `eventName` too")
LOGGER: Final = Attribute("goldtrace.logger", "string", "The logger that wrote a free log line")
LINK_REASON: Final = Attribute("goldtrace.link.reason", "string", "Why a span links to another trace: `caller`")
PHASE_NAME: Final = Attribute("goldtrace.phase.name", "string", "A part of a step: `read`, `compute`, `write`, `check`, `publish`")

# ---------------------------------------------------------------------------------------- log records with numbers
RUN_STARTED: Final = Event("run.started", (PIPELINE_NAME, RUN_AS_OF), "The run began")
RUN_FINISHED: Final = Event(
    "run.finished",
    (RUN_STATE, RUN_GATE, RUN_SECONDS, RUN_ROWS_IN, RUN_ROWS_QUARANTINED, RUN_STEPS, MLFLOW_EXPERIMENT, MLFLOW_RUN, ERROR_TYPE, EXCEPTION_MESSAGE),
    "The run ended",
)
STEP_FINISHED: Final = Event(
    "step.finished",
    (STEP_NAME, STEP_KIND, STEP_STATE, STEP_SECONDS, STEP_ROWS_IN, STEP_ROWS_OUT, STEP_ROWS_QUARANTINED, ERROR_TYPE, EXCEPTION_MESSAGE),
    "A step ended",
)
DATASET_PUBLISHED_EVENT: Final = Event(
    "dataset.published",
    (DATASET_NAME, DATASET_LAYER, DATASET_VERSION, DATASET_ROW_COUNT, DATASET_BYTE_COUNT, DATASET_CHANGED, LINEAGE_NAMESPACE, LINEAGE_NAME),
    "The run made this the current version, or found it unchanged",
)
CHECK_EVALUATED: Final = Event(
    "check.evaluated",
    (
        DATASET_NAME,
        CHECK_EXPECTATION,
        CHECK_COLUMN,
        CHECK_SEVERITY,
        CHECK_OUTCOME,
        CHECK_EXPECTED,
        CHECK_UNEXPECTED,
        CHECK_ROWS,
        LINEAGE_NAMESPACE,
        LINEAGE_NAME,
    ),
    "A check was evaluated",
)
GATE_DECIDED: Final = Event("gate.decided", (RUN_GATE, GATE_WARNINGS, GATE_ERRORS), "The verdict over all checks")
MODEL_ESTIMATED: Final = Event(
    "model.estimated",
    (MODEL_NAME, MODEL_TERM, MODEL_VALUE, MODEL_LOW, MODEL_HIGH, MODEL_P, MODEL_FIT_CONVERGED, MODEL_NOTE, MLFLOW_EXPERIMENT, MLFLOW_RUN),
    "A coefficient was estimated",
)
TELEMETRY_FAILED: Final = Event("telemetry.failed", (TELEMETRY_SIGNAL, EXCEPTION_TYPE, EXCEPTION_MESSAGE), "A hook failed; the run goes on")


def metrics() -> tuple[Metric, ...]:
    """All instruments, in the order of this file."""
    return tuple(value for value in globals().values() if isinstance(value, Metric))


def attributes() -> tuple[Attribute, ...]:
    """All attributes and labels, in the order of this file."""
    return tuple(value for value in globals().values() if isinstance(value, Attribute))


def events() -> tuple[Event, ...]:
    """All kinds of log records, in the order of this file."""
    return tuple(value for value in globals().values() if isinstance(value, Event))
