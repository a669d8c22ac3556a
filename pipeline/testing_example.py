"""An example pipeline and its runs, made by hand: for tests of whatever looks at a run. Use it from `pipeline.testing`."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from pipeline.records import (
    Check,
    Code,
    Column,
    ColumnStats,
    Contract,
    DatasetVersion,
    Estimate,
    Expectation,
    Failure,
    Gate,
    Outcome,
    Phase,
    Pipeline,
    Privacy,
    Process,
    Run,
    Schedule,
    Severity,
    SourceFile,
    State,
    Step,
    StepKind,
    StepRun,
)

SECOND = 1_000_000_000
EXAMPLE_START = int(datetime(2026, 11, 2, 6, 0, tzinfo=UTC).timestamp()) * SECOND


def example_pipeline() -> Pipeline:
    """A small pipeline with one step of each kind: `weight` (ingest), `features` (SQL), `models` (Python)."""
    return Pipeline(
        name="example",
        description="Body weight by week, and how it changes.",
        owner="study team",
        steps=(
            Step(name="weight", kind=StepKind.INGEST, inputs=("input/weight",), outputs=("bronze/weight",), description="Reads the scale's file."),
            Step(
                name="features",
                kind=StepKind.SQL,
                inputs=("bronze/weight",),
                outputs=("silver/weekly_weight",),
                description="Means by subject and week.",
                sql=Path(__file__).with_name("testing_features.sql"),
            ),
            Step(
                name="models",
                kind=StepKind.PYTHON,
                inputs=("silver/weekly_weight",),
                outputs=("gold/models",),
                description="The trend of the weekly means.",
                function=_models,
                column_lineage={"gold/models": {"estimate": ("silver/weekly_weight.week", "silver/weekly_weight.weight_mean_kg")}},
            ),
        ),
        contracts={contract.dataset: contract for contract in _contracts()},
        schedule=Schedule(every=timedelta(days=1), by=time(7, 0)),
        estimates="gold/models",
        headline=("ols", "week"),
    )


def _models(weekly_weight: object) -> object:
    """A step's function: pure, from tables to tables. The example never runs it."""
    return weekly_weight


_SUBJECT = Column(name="subject_id", type="string", description="The person the row is about.", nullable=False, privacy=Privacy.IDENTIFIER)
_DAY = Column(name="date", type="date", description="The day of the measurement.", privacy=Privacy.PERSONAL)
_WEEK = Column(name="week", type="integer", description="The week of the study.", nullable=False)
_WEIGHT = Column(name="weight_kg", type="number", unit="kg", description="Body weight.", privacy=Privacy.PERSONAL)


def _contracts() -> tuple[Contract, ...]:
    return (_source(), _bronze(), _silver(), _gold())


def _source() -> Contract:
    rule = Expectation(
        name="expect_column_values_to_be_between",
        kwargs={"column": "weight_kg", "min_value": 20, "max_value": 400},
        severity=Severity.ERROR,
        quarantine=True,
        description="Scales show nothing else.",
    )
    return Contract(
        dataset="input/weight",
        description="The scale's file.",
        owner="study team",
        columns=(_SUBJECT, _DAY, _WEEK, _WEIGHT),
        key=("subject_id", "date"),
        expectations=(rule,),
        max_quarantined_share=0.2,
        pattern="*weight*.csv",
        as_of_column="date",
    )


def _bronze() -> Contract:
    origin = (
        Column(name="source_file", type="string", description="The file that the row came from."),
        Column(name="record_number", type="integer", description="The row's place in that file, from 1."),
        Column(name="load_id", type="string", description="The first 16 hex digits of the file's sha256."),
    )
    columns = (_SUBJECT, _DAY, _WEEK, _WEIGHT, *origin)
    return Contract(dataset="bronze/weight", description="Each measurement as it came.", owner="study team", columns=columns)


def _silver() -> Contract:
    mean = Column(name="weight_mean_kg", type="number", unit="kg", description="Mean of the known weights.", privacy=Privacy.PERSONAL)
    days = Column(name="weight_days", type="integer", description="Days with a known weight.")
    return Contract(
        dataset="silver/weekly_weight",
        description="One row for each subject and week.",
        owner="study team",
        columns=(_SUBJECT, _WEEK, mean, days),
        key=("subject_id", "week"),
    )


def _gold() -> Contract:
    columns = (
        Column(name="model", type="string", description="The model's name."),
        Column(name="term", type="string", description="The coefficient's name."),
        Column(name="estimate", type="number", description="The coefficient."),
    )
    return Contract(dataset="gold/models", description="One row for each coefficient.", owner="study team", columns=columns, key=("model", "term"))


# ---------------------------------------------------------------------------------------------- a run of it


def example_id(number: int, started_ns: int) -> uuid.UUID:
    """A UUIDv7 that is always the same for the same number and time, so that golden files hold."""
    tail = (number * 0x9E37_79B9_7F4A_7C15) & 0x3FFF_FFFF_FFFF_FFFF
    return uuid.UUID(int=(started_ns // 1_000_000) << 80 | 0x7 << 76 | (number & 0xFFF) << 64 | 0x2 << 62 | tail)


def example_run(bundle: Path, state: State = State.COMPLETED, *, gate: Gate | None = None, number: int = 1) -> Run:
    """A realistic run of `example_pipeline`, with the same ids, times and facts for the same `number`.

    COMPLETED has a gate (YELLOW, since one row of ten was quarantined; or the `gate` given); `gate=Gate.RED` makes it FAILED
    with error type `gate` and nothing published. FAILED, ABORTED and LOST end in the second step, RUNNING is in it.
    Each `number` is a day later than the one before. The bundle's folder is made; no file is written.
    """
    bundle.mkdir(parents=True, exist_ok=True)
    start = EXAMPLE_START + number * 86_400 * SECOND
    pipeline = example_pipeline()
    run = Run(
        id=example_id(number * 16, start),
        pipeline=pipeline,
        bundle=bundle,
        lake="lake",
        lake_name="example",
        environment="test",
        code=Code(
            version="0.1.0", commit="4f2a9c1e" * 5, branch="main", dirty=False, repository="https://example.org/goldtrace", root=Path(__file__).parents[1]
        ),
        process=Process(pid=4242, host="host", python="3.11.9", platform="Linux-6.1-x86_64", command="pipeline run"),
        settings={"PIPELINE_LAKE": "lake", "PIPELINE_RUNS": "runs"},
        libraries={"duckdb": "2.0.0"},
        started_ns=start,
        as_of=date(2026, 11, 2) + timedelta(days=number),
        steps_planned=pipeline.steps,
        phases=[Phase(name="inspect", started_ns=start + SECOND // 100, ended_ns=start + SECOND // 20)],
    )
    whole = state is State.COMPLETED or gate is Gate.RED
    run.steps = [step(run, number) for step in (_weight, _features, _modelling)[: 3 if whole else 2]]
    if whole:
        _finish(run, gate or Gate.YELLOW)
    else:
        _stop_in_the_second_step(run, state)
    return run


def _step_run(run: Run, place: int, number: int) -> StepRun:
    """The step at `place`: a second after the one before, half a second long, in three phases."""
    start = run.started_ns + (place + 1) * SECOND // 10 + place * SECOND // 2
    cuts = [start, start + SECOND // 10, start + SECOND * 3 // 10, start + SECOND // 2]
    return StepRun(
        step=run.pipeline.steps[place],
        id=example_id(number * 16 + place + 1, start),
        started_ns=start,
        ended_ns=cuts[-1],
        state=State.COMPLETED,
        phases=[Phase(name=name, started_ns=a, ended_ns=b) for name, a, b in zip(("read", "write", "check"), cuts, cuts[1:], strict=False)],
    )


def _version(dataset: str, digit: str, rows: int, size: int) -> dict[str, DatasetVersion]:
    version = digit * 64
    return {dataset: DatasetVersion(dataset=dataset, version=version, path=f"{dataset}/{version}", files=("part-0.parquet",), bytes=size, rows=rows)}


def _weight(run: Run, number: int) -> StepRun:
    step = _step_run(run, 0, number)
    step.inputs = [SourceFile(source="input/weight", file="weight.csv", bytes=412, sha256="ab" * 32, rows=10)]
    step.rows_in = {"input/weight": 10}
    step.rows_quarantined = {"bronze/weight": 1}
    step.outputs = _version("bronze/weight", "1", 9, 2048)
    step.column_stats = {
        "input/weight": (ColumnStats(column="subject_id", null_count=0, distinct_count=3), ColumnStats(column="weight_kg", null_count=1)),
        "bronze/weight": (ColumnStats(column="week", null_count=0, distinct_count=3, min=1, max=3),),
    }
    step.checks = [
        Check(
            dataset="input/weight",
            expectation="expect_column_values_to_be_between",
            column="weight_kg",
            severity=Severity.ERROR,
            outcome=Outcome.QUARANTINED,
            expected="weight_kg between 20 and 400",
            observed={"rows": 10, "unexpected_count": 1, "unexpected_share": 0.1},
            quarantine=True,
            description="Scales show nothing else.",
            records=(("weight.csv", 7),),
        )
    ]
    return step


def _features(run: Run, number: int) -> StepRun:
    step = _step_run(run, 1, number)
    step.rows_in = {"bronze/weight": 9}
    step.outputs = _version("silver/weekly_weight", "2", 6, 1024)
    step.column_stats = {"silver/weekly_weight": (ColumnStats(column="weight_days", null_count=0, distinct_count=2, min=1, max=2),)}
    step.checks = [
        Check(
            dataset="silver/weekly_weight",
            expectation="expect_compound_columns_to_be_unique",
            column=None,
            severity=Severity.ERROR,
            outcome=Outcome.PASSED,
            expected="no two rows share subject_id, week",
            observed={"rows": 6, "unexpected_count": 0, "unexpected_share": 0.0},
        )
    ]
    return step


def _modelling(run: Run, number: int) -> StepRun:
    step = _step_run(run, 2, number)
    step.rows_in = {"silver/weekly_weight": 6}
    step.outputs = _version("gold/models", "3", 2, 512)
    step.column_stats = {"gold/models": (ColumnStats(column="estimate", null_count=0, distinct_count=2, min=-0.25, max=80.5),)}
    return step


def _finish(run: Run, gate: Gate) -> None:
    """All steps done: estimates, verdict, and the publishing that a RED gate prevents."""
    fit = Estimate(
        model="ols",
        term="week",
        estimate=-0.25,
        std_error=0.1,
        statistic=-2.5,
        p_value=0.07,
        ci_low=-0.53,
        ci_high=0.03,
        n_obs=6,
        n_subjects=3,
        r_squared=0.4,
        converged=True,
        singular=False,
        note="3 clusters: errors are unreliable under 30",
    )
    missing = replace(fit, term="var(subject)", estimate=None, std_error=None, statistic=None, p_value=None, ci_low=None, ci_high=None)
    run.estimates = [replace(fit, term="intercept", estimate=80.5, ci_low=79.0, ci_high=82.0, p_value=1e-9), fit, missing]
    run.gate = gate
    run.ended_ns = run.started_ns + 2 * SECOND
    run.success_share_20 = 1.0
    if gate is Gate.RED:
        run.state = State.FAILED
        run.failure = Failure(type="gate", message="1 check of severity error failed: nothing was published", hint="pipeline show last", exception="GateError")
        run.steps[1].checks = [replace(run.steps[1].checks[0], outcome=Outcome.FAILED, observed={"rows": 6, "unexpected_count": 2, "unexpected_share": 1 / 3})]
        return
    run.state = State.COMPLETED
    if gate is Gate.GREEN:
        run.steps[0].rows_quarantined = {}
        run.steps[0].outputs = _version("bronze/weight", "1", 10, 2048)
        run.steps[0].checks = [replace(run.steps[0].checks[0], outcome=Outcome.PASSED, observed={"rows": 10, "unexpected_count": 0}, records=())]
        run.steps[1].rows_in = {"bronze/weight": 10}
    run.published = {name: replace(output, changed=name != "gold/models") for step in run.steps for name, output in step.outputs.items()}
    run.phases.append(Phase(name="publish", started_ns=run.ended_ns - SECOND // 20, ended_ns=run.ended_ns - SECOND // 50))


def _stop_in_the_second_step(run: Run, state: State) -> None:
    """The second step has begun and not finished: no output, no check, no gate."""
    step = run.steps[1]
    step.outputs, step.column_stats, step.checks, step.phases = {}, {}, [], step.phases[:1]
    run.state = step.state = state
    step.ended_ns = None
    if state is State.RUNNING:
        return
    failure = {
        State.FAILED: Failure(
            type="step", message="step features: Binder Error: column weight does not exist", hint="see the SQL", exception="BinderException"
        ),
        State.ABORTED: Failure(type="aborted", message="stopped by SIGINT", exception="KeyboardInterrupt"),
        State.LOST: Failure(type="lost", message="the process is gone", hint="run it again"),
    }[state]
    step.failure = run.failure = replace(failure, step=step.step.name, stacktrace='File "pipeline/engine/runner.py", line 1, in work')
    step.ended_ns = step.started_ns + SECOND // 5
    run.ended_ns = step.ended_ns + SECOND // 10
    run.success_share_20 = 0.5
    if state is State.LOST:
        run.reaped_ns = run.ended_ns + 3600 * SECOND
