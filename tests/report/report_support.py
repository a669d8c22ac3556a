"""Bundles as a run of a study leaves them: nine steps, three models, sixty-one checks, logs and lineage."""

import difflib
import json
import os
from dataclasses import dataclass, replace
from datetime import time, timedelta
from pathlib import Path

import pytest

from pipeline import names
from pipeline.records import (
    Check,
    Contract,
    DatasetVersion,
    Estimate,
    Failure,
    Gate,
    Outcome,
    Phase,
    Pipeline,
    Run,
    Schedule,
    Severity,
    SourceFile,
    State,
    Step,
    StepKind,
    StepRun,
)
from pipeline.telemetry import bundle
from pipeline.testing import EXAMPLE_START, SECOND, example_id, example_run

MILLI = SECOND // 1000
# How a run may have ended.
ENDS = [
    (State.COMPLETED, Gate.GREEN),
    (State.COMPLETED, Gate.YELLOW),
    (State.COMPLETED, Gate.RED),
    (State.FAILED, None),
    (State.ABORTED, None),
    (State.LOST, None),
]
GOLDEN = Path(__file__).parent / "golden"

STEPS = (
    # name, kind, inputs, outputs, start ms, length ms, description
    ("weight", StepKind.INGEST, ("input/weight",), ("bronze/weight",), 210, 240, "Reads the body measures."),
    ("food", StepKind.INGEST, ("input/nutrition",), ("bronze/nutrition",), 460, 330, "Reads the food diary."),
    ("fiber", StepKind.INGEST, ("input/fiber",), ("bronze/fiber",), 800, 250, "Reads the daily totals."),
    ("traject", StepKind.SQL, ("bronze/weight",), ("silver/subject_trajectories",), 1060, 190, "How each subject's weight goes from one date to the next."),
    ("features", StepKind.SQL, ("bronze/nutrition", "bronze/fiber"), ("silver/weekly_features",), 1260, 420, "Totals and food categories by subject and week."),
    (
        "modeling",
        StepKind.SQL,
        ("silver/subject_trajectories", "silver/weekly_features"),
        ("silver/modeling_dataset",),
        1690,
        160,
        "Trajectories joined with features.",
    ),
    ("models", StepKind.PYTHON, ("silver/modeling_dataset",), ("gold/models",), 1860, 1420, "Fits the three models of the next change in weight."),
    ("reports", StepKind.PYTHON, ("gold/models", "silver/modeling_dataset"), ("gold/reports",), 3290, 90, "Writes the estimates as a readable report."),
    ("figures", StepKind.PYTHON, ("gold/models", "silver/modeling_dataset", "bronze/fiber"), ("gold/figures",), 3390, 640, "Draws the plots."),
)
ROWS = {
    "input/weight": 601,
    "input/nutrition": 3062,
    "input/fiber": 3638,
    "bronze/weight": 600,
    "bronze/nutrition": 3060,
    "bronze/fiber": 3638,
    "silver/subject_trajectories": 600,
    "silver/weekly_features": 541,
    "silver/modeling_dataset": 436,
    "gold/models": 17,
}
FILES = {"input/weight": "Potato_tidy.csv", "input/nutrition": "Potato_nutrition_rows.csv", "input/fiber": "Potato_fiber_daily.csv"}
COLUMNS = {
    "input/weight": ("subject_id", "date", "week", "weight_kg"),
    "bronze/weight": ("subject_id", "date", "week", "weight_kg", "record_number"),
    "silver/subject_trajectories": ("subject_id", "date", "delta_kg", "delta_kg_next", "weight_slope_kg_per_week"),
    "silver/weekly_features": ("subject_id", "week", "fiber_g_week", "calories_week", "beans_week", "potato_week"),
    "silver/modeling_dataset": ("subject_id", "week", "delta_kg_next", "fiber_g_week", "high_fiber_week"),
}


def study_pipeline() -> Pipeline:
    """The declaration of the study, as far as a report shows it."""
    steps = tuple(
        Step(name=name, kind=kind, inputs=inputs, outputs=outputs, description=description) for name, kind, inputs, outputs, _, _, description in STEPS
    )
    datasets = sorted({dataset for step in steps for dataset in (*step.inputs, *step.outputs)})
    return Pipeline(
        name="potato",
        description="What people ate and how their weight went.",
        owner="study team",
        steps=steps,
        contracts={name: Contract(dataset=name, description=f"What {name} holds.", owner="study team") for name in datasets},
        schedule=Schedule(every=timedelta(days=1), by=time(7, 0)),
        estimates="gold/models",
        figures="gold/figures",
        headline=("ols_cluster", "fiber_g_week"),
    )


def study_run(path: Path, state: State = State.COMPLETED, gate: Gate | None = None, number: int = 1) -> Run:
    """A run of the study; states and gates as in `pipeline.testing.example_run`, with what stops it in step `models`."""
    run = example_run(path, state, gate=gate, number=number)
    start = EXAMPLE_START + number * 86_400 * SECOND
    run.pipeline = study_pipeline()
    run.steps_planned = run.pipeline.steps
    run.process = replace(run.process, command="pipeline run --as-of 2026-11-03", host="lab-07")
    run.settings = {
        "OPENLINEAGE_NAMESPACE": "default",
        "OPENLINEAGE_URL": "http://127.0.0.1:5080",
        "PIPELINE_LAKE": "lake",
        "PIPELINE_LINEAGE_URL": "http://127.0.0.1:3001",
        "PIPELINE_REPORT_URL": "http://127.0.0.1:8088",
        "PIPELINE_TRACE_URL": "http://127.0.0.1:16686",
        "OPENLINEAGE_API_KEY": "**********",
    }
    run.libraries = {"duckdb": "2.0.0", "pandas": "3.1.0", "statsmodels": "0.15.0", "mlflow": "3.17.2", "openlineage-python": "1.54.0"}
    run.telemetry_seconds = {"traces": 0.0081, "logs": 0.0124, "lineage": 0.0312, "metrics": 0.0043, "experiments": 0.41}
    run.telemetry_lost = {}
    run.phases = [Phase(name="inspect", started_ns=start + 30 * MILLI, ended_ns=start + 205 * MILLI)]
    whole = state is State.COMPLETED or gate is Gate.RED
    stopped = run.steps[-1] if not whole else None
    run.steps = [_step_run(run, place, number) for place in range(9 if whole else 7)]
    if stopped is not None:
        last = run.steps[-1]
        last.state, last.failure = state, stopped.failure and replace(stopped.failure, step="models", message=_message(state))
        last.outputs, last.checks, last.phases = {}, [], last.phases[:1]
        last.ended_ns = None if state is State.RUNNING else last.started_ns + 800 * MILLI
        run.ended_ns = None if state is State.RUNNING else last.started_ns + 830 * MILLI
        run.failure = last.failure
        run.estimates = []
        if state is State.LOST:
            run.reaped_ns = start + 3600 * SECOND
        return run
    run.ended_ns = start + 4203 * MILLI
    run.estimates = estimates()
    if gate is Gate.RED:
        _break(run)
        return run
    if gate is Gate.GREEN:
        for step in run.steps:
            step.checks = [
                replace(check, outcome=Outcome.PASSED, observed={**check.observed, "unexpected_count": 0, "unexpected_share": 0.0}, records=())
                for check in step.checks
            ]
            step.rows_quarantined = {}
    run.published = {name: replace(output, changed=name in {"gold/models", "gold/reports"}) for step in run.steps for name, output in step.outputs.items()}
    run.phases.append(Phase(name="publish", started_ns=start + 4060 * MILLI, ended_ns=start + 4170 * MILLI))
    return run


def _message(state: State) -> str:
    return {
        State.FAILED: "step models: the matrix of the 5 regressors has rank 4",
        State.ABORTED: "SIGINT ended the run",
        State.LOST: "the process is gone",
    }.get(state, "")


def _step_run(run: Run, place: int, number: int) -> StepRun:
    _, _, inputs, outputs, begin, length, _ = STEPS[place]
    start = run.started_ns + begin * MILLI
    cuts = [start + length * MILLI * part // 100 for part in (2, 12, 70, 85, 99)]
    step = StepRun(
        step=run.pipeline.steps[place],
        id=example_id(number * 16 + place + 1, start),
        started_ns=start,
        ended_ns=start + length * MILLI,
        state=State.COMPLETED,
        phases=[Phase(name=phase, started_ns=a, ended_ns=b) for phase, a, b in zip(("read", "compute", "write", "check"), cuts, cuts[1:], strict=False)],
        rows_in={name: ROWS[name] for name in inputs},
    )
    step.outputs = {dataset: _version(dataset, place) for dataset in outputs}
    step.checks = [check for dataset in (*inputs, *outputs) for check in _checks(dataset) if dataset.startswith("input") or dataset in outputs]
    source = inputs[0]
    if source in FILES:
        digest = f"{place + 10:x}7c4e09{place}" * 8
        step.inputs = [SourceFile(source=source, file=FILES[source], bytes=ROWS[source] * 47, sha256=digest, rows=ROWS[source])]
        aside = ROWS[source] - ROWS[outputs[0]]
        step.rows_quarantined = {source: aside} if aside else {}
    return step


def _version(dataset: str, place: int) -> DatasetVersion:
    version = f"{place + 1}f3b9d{place}a" * 8
    rows = ROWS.get(dataset)
    files = ("part-0.parquet",) if rows is not None else ("estimates.md",) if dataset == "gold/reports" else ("changes.png", "fiber.png", "coefficients.png")
    return DatasetVersion(dataset=dataset, version=version, path=f"{dataset}/{version}", files=files, bytes=(rows or 900) * 31, rows=rows)


def _checks(dataset: str) -> list[Check]:
    """Some checks that hold; of two sources also one that set rows aside, and of one table one that warns."""
    rows = ROWS.get(dataset, 3)
    base = Check(
        dataset=dataset,
        expectation="expect_column_values_to_not_be_null",
        column="subject_id",
        severity=Severity.ERROR,
        outcome=Outcome.PASSED,
        expected="subject_id is never missing",
        observed={"rows": rows, "considered_count": rows, "unexpected_count": 0, "unexpected_share": 0.0},
    )
    found = [
        base,
        replace(
            base,
            expectation="expect_table_columns_to_match_set",
            column=None,
            expected="the contract's columns, no more",
            observed={"missing_count": 0, "unexpected_count": 0},
        ),
    ]
    if rows > 500:
        found += [
            replace(base, column=name, expected=f"{name} is a number", expectation="expect_column_values_to_be_of_type")
            for name in ("week", "weight_kg", "calories")
        ]
    if dataset == "input/weight":
        found.append(_aside(base, "weight_kg", "20 ≤ weight_kg ≤ 400", ((FILES[dataset], 12),)))
    if dataset == "input/nutrition":
        found.append(_aside(base, "calories", "0 ≤ calories", ((FILES[dataset], 2101), (FILES[dataset], 2102))))
    if dataset == "silver/weekly_features":
        low = replace(base, expectation="expect_column_mean_to_be_between", column="fiber_g_week", expected="50 ≤ mean of fiber_g_week ≤ 400")
        found.append(
            replace(
                low,
                severity=Severity.WARN,
                outcome=Outcome.FAILED,
                observed={"rows": rows, "value": 38.27161},
                description="Less than 50 g a week was never seen.",
            )
        )
    return found


def _aside(base: Check, column: str, expected: str, records: tuple[tuple[str, int], ...]) -> Check:
    rows = int(base.observed["rows"] or 0)
    return replace(
        base,
        expectation="expect_column_values_to_be_between",
        column=column,
        expected=expected,
        outcome=Outcome.QUARANTINED,
        quarantine=True,
        observed={"rows": rows, "unexpected_count": len(records), "unexpected_share": len(records) / rows},
        records=records,
        description="Scales show nothing else.",
    )


def _break(run: Run) -> None:
    """A table breaks a rule of severity error: the run publishes nothing."""
    step = run.steps[5]
    broken = tuple((FILES["input/weight"], number) for number in (3, 4, 5, 19, 27, 112, 201, 202, 203, 340, 341, 400, 508, 511))
    step.checks.append(
        replace(
            step.checks[0],
            expectation="expect_compound_columns_to_be_unique",
            column=None,
            expected="no two rows share subject_id, week",
            outcome=Outcome.FAILED,
            observed={"rows": 436, "unexpected_count": 14, "unexpected_share": 14 / 436},
            records=broken,
        )
    )
    run.gate, run.state, run.published = Gate.RED, State.FAILED, {}
    run.failure = Failure(
        type="gate", message="1 check of severity error failed: nothing was published", hint="look at the records named in the report", exception="GateError"
    )


def estimates() -> list[Estimate]:
    """Three models with terms of very different scales, one of them a singular fit."""
    rows = (
        ("ols_cluster", "intercept", 0.2143, 0.1187, 1.81),
        ("ols_cluster", "fiber_g_week", -0.000312, 0.000448, -0.70),
        ("ols_cluster", "calories_week", -0.00000871, 0.00000402, -2.17),
        ("ols_cluster", "beans_week", -0.0714, 0.0611, -1.17),
        ("ols_cluster", "potato_week", 0.0482, 0.0533, 0.90),
        ("fixed_effects", "fiber_g_week", -0.000198, 0.000561, -0.35),
        ("fixed_effects", "calories_week", -0.0000113, 0.00000513, -2.20),
        ("fixed_effects", "beans_week", -0.0913, 0.0702, -1.30),
        ("fixed_effects", "potato_week", 0.0571, 0.0613, 0.93),
        ("mixed_effects", "intercept", 0.2143, 0.1021, 2.10),
        ("mixed_effects", "fiber_g_week", -0.000312, 0.000402, -0.78),
        ("mixed_effects", "calories_week", -0.00000871, 0.00000387, -2.25),
        ("mixed_effects", "beans_week", -0.0714, 0.0592, -1.21),
        ("mixed_effects", "potato_week", 0.0482, 0.0520, 0.93),
        ("mixed_effects", "var(subject)", 0.0, None, None),
        ("mixed_effects", "var(residual)", 0.2713, None, None),
    )
    notes = {
        "ols_cluster": "Errors are clustered by subject (CRV1, t with 26 degrees of freedom). With 27 clusters they are unreliable: 30 or more are wanted.",
        "fixed_effects": "Within subject: what stays the same about a person is taken out.",
        "mixed_effects": "Singular fit: the variance between subjects is estimated as 0.",
    }
    return [
        Estimate(
            model=model,
            term=term,
            estimate=value,
            std_error=error,
            statistic=statistic,
            p_value=None if statistic is None else max(0.0, 1 - abs(statistic) * 0.44),
            ci_low=None if error is None else value - 2 * error,
            ci_high=None if error is None else value + 2 * error,
            n_obs=436,
            n_subjects=27,
            r_squared=None if model == "mixed_effects" else 0.0231,
            converged=True,
            singular=model == "mixed_effects",
            note=notes[model],
        )
        for model, term, value, error, statistic in rows
    ]


# ---------------------------------------------------------------------------------------------- files beside the manifest


@dataclass(frozen=True, slots=True)
class LogLine:
    """One record to write: milliseconds after the start, severity, step, event, message, attributes."""

    at: int
    severity: int
    step: str
    event: str
    message: str
    attributes: tuple[tuple[str, object], ...] = ()


def log_json(run: Run, line: LogLine) -> str:
    """The record as one line of OTLP JSON."""
    attributes = [(names.STEP_NAME.name, line.step)] if line.step else []
    record = {
        "timeUnixNano": str(run.started_ns + line.at * MILLI),
        "severityNumber": line.severity,
        "severityText": {9: "INFO", 13: "WARN", 17: "ERROR"}[line.severity],
        "eventName": line.event,
        "body": {"stringValue": line.message},
        "attributes": [{"key": key, "value": _any_value(value)} for key, value in (*attributes, *line.attributes)],
        "traceId": run.id.hex,
        "spanId": "00" * 8,
    }
    return json.dumps({"resourceLogs": [{"resource": {"attributes": []}, "scopeLogs": [{"scope": {"name": "goldtrace"}, "logRecords": [record]}]}]})


def _any_value(value: object) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}


def log_lines(run: Run) -> list[LogLine]:
    """What a run logs: its beginning, its steps' ends, its checks that did not pass, its end."""
    lines = [LogLine(1, 9, "", "run.started", "run of potato started", (("cicd.pipeline.name", "potato"),))]
    for step in run.steps:
        end = ((step.ended_ns or step.started_ns) - run.started_ns) // MILLI
        lines += [
            LogLine(end - 3, 13, step.step.name, "check.evaluated", f"{check.dataset}: {check.expected}", ((names.CHECK_OUTCOME.name, check.outcome.value),))
            for check in step.checks
            if check.outcome is not Outcome.PASSED
        ]
        severity = 9 if step.state is State.COMPLETED else 17
        seconds = ((step.ended_ns or step.started_ns) - step.started_ns) / SECOND
        lines.append(LogLine(end, severity, step.step.name, "step.finished", f"{step.step.name} {step.state.lower()}", ((names.STEP_SECONDS.name, seconds),)))
    return [*lines, LogLine(4200, 9, "", "run.finished", f"run {run.state.lower()}", ((names.RUN_ROWS_IN.name, 7301),))]


def lineage_events(run: Run) -> list[dict[str, object]]:
    """A terminal event for each step that ended, with schemas, and column lineage by equal names."""
    return [
        {
            "eventType": "COMPLETE",
            "job": {"namespace": "default", "name": f"potato.{step.step.name}"},
            "inputs": [_dataset(name, ()) for name in step.step.inputs],
            "outputs": [_dataset(name, step.step.inputs) for name in step.step.outputs],
        }
        for step in run.steps
    ]


def _dataset(name: str, inputs: tuple[str, ...]) -> dict[str, object]:
    fields = [
        {"name": column, "type": "string" if column.endswith("id") else "number", "description": f"The {column} of the row."}
        for column in COLUMNS.get(name, ())
    ]
    origins = {
        column: [
            {"namespace": "file://potato", "name": source, "field": column, "transformations": [{"type": "DIRECT", "subtype": "IDENTITY"}]}
            for source in inputs
            if column in COLUMNS.get(source, ())
        ]
        for column in COLUMNS.get(name, ())
    }
    made = {column: {"inputFields": found} for column, found in origins.items() if found}
    facets = {"schema": {"fields": fields}, **({"columnLineage": {"fields": made}} if made else {})}
    return {"namespace": "file://potato", "name": name, "facets": facets}


def write_bundle(run: Run) -> Path:
    """All files of a run's bundle but its report."""
    run.bundle.mkdir(parents=True, exist_ok=True)
    bundle.write_manifest(run)
    bundle.write_checks(run)
    (run.bundle / "logs.jsonl").write_text("".join(log_json(run, line) + "\n" for line in log_lines(run)), "utf-8")
    (run.bundle / "lineage.ndjson").write_text("".join(json.dumps(event) + "\n" for event in lineage_events(run)), "utf-8")
    return run.bundle


def same_as_golden(name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Compare with a file in `golden/`; GOLDTRACE_ACCEPT=1 accepts what changed and prints it."""
    path = GOLDEN / name
    known = path.read_text("utf-8") if path.exists() else ""
    changes = "".join(difflib.unified_diff(known.splitlines(keepends=True), text.splitlines(keepends=True), name, "now"))
    if changes and os.environ.get("GOLDTRACE_ACCEPT"):
        path.write_text(text, "utf-8")
        with capsys.disabled():
            print(f"\naccepted:\n{changes}")
    else:
        assert not changes, f"{name} differs (GOLDTRACE_ACCEPT=1 accepts it):\n{changes}"
