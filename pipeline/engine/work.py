"""The work of one step: read, compute, write to staging, check, set broken rows aside."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.clock import Clock
from pipeline.engine import duck, sources
from pipeline.engine.calls import call
from pipeline.engine.lake import Lake, quarantine_name
from pipeline.engine.lake_folder import lake_error, translated
from pipeline.engine.sql_files import read_select
from pipeline.engine.table import Table
from pipeline.errors import StepError
from pipeline.quality import checks, quarantine
from pipeline.records import Contract, DatasetVersion, Phase, Pipeline, Step, StepKind, StepRun

if TYPE_CHECKING:
    import duckdb

    from pipeline.engine.fingerprints import Fingerprints
    from pipeline.engine.landing import Landing
    from pipeline.settings import Settings

_LANDING = "landing"
# DuckDB's words before the name of a column that can't be cast.
_SOURCE_COLUMN = "source column "


@contextmanager
def phase(clock: Clock, phases: list[Phase], name: str) -> Iterator[None]:
    """Note how long a part of a run or step took, also when it raises."""
    started = clock.now_ns()
    try:
        yield
    finally:
        phases.append(Phase(name=name, started_ns=started, ended_ns=clock.now_ns()))


@dataclass(slots=True, kw_only=True)
class Workshop:
    """What the steps of one run share: the database, the staging folder, and what was staged so far."""

    pipeline: Pipeline
    settings: Settings
    lake: Lake
    staging: Path
    connection: duckdb.DuckDBPyConnection
    headers: Mapping[str, sources.Header]
    fingerprints: Fingerprints
    as_of: date | None
    clock: Clock
    staged: dict[str, tuple[DatasetVersion, Path]] = field(default_factory=dict)

    def do(self, run: StepRun) -> None:
        """Run one step; its record has all facts afterwards, and as many as there are when it raises."""
        doing = {StepKind.INGEST: self._ingest, StepKind.SQL: self._sql, StepKind.PYTHON: self._python}
        for dataset in run.step.inputs:
            if dataset in self.staged:
                run.rows_in[dataset] = self.staged[dataset][0].rows
        try:
            doing[run.step.kind](run)
        except Exception as error:
            refused = duck.disk_error(error)  # of any query: a landing, a result, a spill
            if refused is None and duck.is_memory_error(error):
                text = f"step {run.step.name} needs more memory than PIPELINE_MEMORY_LIMIT, which is {self.settings.memory_limit}"
                raise StepError(text, hint="raise it, or lower PIPELINE_THREADS", step=run.step.name) from None
            if refused is None:
                raise
            raise lake_error(refused, self.lake.disk, "write") from error

    # ------------------------------------------------------------------------------------------------ the three kinds

    def _ingest(self, run: StepRun) -> None:
        source, bronze = run.step.inputs[0], run.step.outputs[0]
        header = self.headers[source]
        folder = self.staging / _LANDING / source
        with phase(self.clock, run.phases, "read"):
            broken = checks.broken_alone(self.connection, f"({sources.typed(header)})", header.contract, self.as_of)
            with translated(self.lake.disk, "write"):
                file, landed = sources.land(self.connection, header, broken, folder, self.fingerprints)
        run.inputs.append(file)
        run.rows_in[source] = file.rows
        if header.extra:
            run.checks.append(checks.extra_columns_check(header.contract, header.extra))
        self._split(run, header.contract, landed.table, bronze, landed)
        shutil.rmtree(folder)
        self._seal(run, bronze)
        self._check(run, self.pipeline.contracts[bronze])

    def _sql(self, run: StepRun) -> None:
        step = run.step
        self._register_seeds(step)
        with phase(self.clock, run.phases, "compute"):
            self._write(step.outputs[0], read_select(self.connection, step))
        self._finish(run, step.outputs[0])

    def _python(self, run: StepRun) -> None:
        with phase(self.clock, run.phases, "compute"):
            results = call(run.step, {table.name: table for table in map(self._table, run.step.inputs)}, self.pipeline.contracts)
        for dataset, result in results.items():
            with phase(self.clock, run.phases, "write"):
                self._write_result(run.step, dataset, result)
            self._finish(run, dataset)

    # --------------------------------------------------------------------------------------------------- their parts

    def _folder(self, dataset: str) -> Path:
        folder = self.staging / dataset
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _write(self, dataset: str, select: str) -> int:
        return duck.write_parquet(self.connection, select, self._folder(dataset) / duck.PART)

    def _write_result(self, step: Step, dataset: str, result: Any) -> None:
        contract = self.pipeline.contracts[dataset]
        if not contract.is_table:
            with translated(self.lake.disk, "write"):
                for name, content in sorted(result.items()):
                    (self._folder(dataset) / name).write_bytes(content)
            return
        self.connection.register("result", result)
        columns = ", ".join(_cast(contract, name) for name in result.columns)
        with _typed(step, contract):
            self._write(dataset, f"SELECT {columns} FROM result")
        self.connection.unregister("result")

    def _finish(self, run: StepRun, dataset: str) -> None:
        """Check what was written and, where rows broke a row rule, write it again without them."""
        contract = self.pipeline.contracts[dataset]
        if any(rule.quarantine for rule in contract.expectations):
            whole = self.staging / _LANDING / dataset
            whole.parent.mkdir(parents=True, exist_ok=True)
            self._folder(dataset).rename(whole)
            self._split(run, contract, duck.parquet(whole), dataset)
            shutil.rmtree(whole)
            self._seal(run, dataset)
            return
        self._seal(run, dataset)
        self._check(run, contract)

    def _check(self, run: StepRun, contract: Contract) -> None:
        if contract.is_table:
            with phase(self.clock, run.phases, "check"):
                verdict = checks.evaluate(self.connection, duck.parquet(self._folder(contract.dataset)), contract, engine=self.settings.quality_engine.value)
            run.checks += verdict.checks
            run.column_stats[contract.dataset] = verdict.column_stats

    def _split(self, run: StepRun, contract: Contract, table: str, dataset: str, landed: Landing | None = None) -> None:
        """Check `table`, write its good rows to `dataset` and its broken ones to quarantine: no row is lost or made.

        What `landed` has set aside already need not be looked for, unless rows break a rule about several (a key) as well.
        """
        with phase(self.clock, run.phases, "check"):
            verdict = checks.evaluate(self.connection, table, contract, engine=self.settings.quality_engine.value, as_of=self.as_of)
        run.checks += verdict.checks
        run.column_stats[contract.dataset] = verdict.column_stats
        apart = landed if landed is not None and verdict.bad_rows == landed.rows_aside else None
        with phase(self.clock, run.phases, "write"):
            if apart is not None:
                apart.good.rename(self._folder(dataset))
                good, table = apart.rows - apart.rows_aside, apart.aside_table
            else:
                good = self._write(dataset, quarantine.good_rows_sql(table, contract, verdict))
            bad, set_aside = 0, quarantine.bad_rows_sql(table, contract, verdict)
            if set_aside is not None:
                bad = self._write(quarantine_name(dataset), set_aside)
                self._stage(quarantine_name(dataset), bad)
        run.rows_quarantined[dataset] = bad
        if good + bad != verdict.rows:
            raise StepError(
                f"step {run.step.name}: {verdict.rows} rows in, {good} out and {bad} quarantined", hint="this is a bug in Goldtrace", step=run.step.name
            )

    def _seal(self, run: StepRun, dataset: str) -> None:
        rows = None
        if self.pipeline.contracts[dataset].is_table:
            [(rows,)] = self.connection.execute(f"SELECT count(*) FROM {duck.parquet(self._folder(dataset))}").fetchall()
        with phase(self.clock, run.phases, "hash"):
            run.outputs[dataset] = self._stage(dataset, rows)
        if rows is not None:
            layer, name = dataset.split("/", 1)
            self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {layer}")
            self.connection.execute(f"CREATE VIEW {layer}.{duck.quoted(name)} AS SELECT * FROM {duck.parquet(self._folder(dataset))}")

    def _stage(self, dataset: str, rows: int | None) -> DatasetVersion:
        version = self.lake.seal(dataset, self._folder(dataset), rows)
        self.staged[dataset] = (version, self._folder(dataset))
        return version

    def _table(self, dataset: str) -> Table:
        version, folder = self.staged[dataset]
        return Table(name=dataset.split("/", 1)[1], rows=version.rows or 0, files=sorted(folder.iterdir()), connection=self.connection)

    def _register_seeds(self, step: Step) -> None:
        self.connection.execute("CREATE SCHEMA IF NOT EXISTS seed")
        for name, path in step.seeds.items():
            self.connection.execute(
                f"CREATE OR REPLACE VIEW seed.{duck.quoted(name)} AS SELECT * FROM read_csv({duck.literal(path)}, header=true, delim=',', quote='\"')"
            )


def _cast(contract: Contract, name: str) -> str:
    """A frame's column as the contract's type, NaN as missing; one that the contract doesn't know is left for its check to name."""
    known = {column.name: column for column in contract.columns}
    if name not in known:
        return duck.quoted(name)
    kind = duck.SQL_TYPES[known[name].type]
    value = f"CAST({duck.quoted(name)} AS {kind})"
    if kind == "DOUBLE":
        value = f"CASE WHEN NOT isnan({value}) THEN {value} END"
    if kind == "BIGINT":  # DuckDB would round
        value = f"CASE WHEN TRY_CAST({duck.quoted(name)} AS DOUBLE) <> {value} THEN error({duck.literal(_SOURCE_COLUMN + name)}) ELSE {value} END"
    return f"{value} AS {duck.quoted(name)}"


@contextmanager
def _typed(step: Step, contract: Contract) -> Iterator[None]:
    """Say which column of a frame is not what the contract says, instead of what DuckDB says, which quotes values."""
    import duckdb

    try:
        yield
    except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
        found = re.search(rf"{_SOURCE_COLUMN}(\w+)", str(error))
        types = {column.name: column.type for column in contract.columns}
        if found is None or found.group(1) not in types:
            raise
        name = found.group(1)
        text = f"step {step.name}: a value of {contract.dataset}, column {name}, is no {types[name]}"
        raise StepError(text, hint=f"its contract says {types[name]}: mend the step, or the contract", step=step.name) from error
