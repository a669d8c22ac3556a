"""Which input columns the columns of a step's tables are made from, whatever kind of step it is."""

import csv
from collections.abc import Mapping
from pathlib import Path

from pipeline.records import Contract, Expectation, Step, StepKind
from pipeline.telemetry.columns import SEED, Edge, Influence, StatementLineage, sql_lineage


def step_lineage(step: Step, contracts: Mapping[str, Contract]) -> dict[str, StatementLineage]:
    """The column lineage of a step's tables: declared, derived from its SQL, or column to column of an ingest step.

    Raises:
        DeclarationError: it can't be derived from the SQL.
    """
    if step.column_lineage:
        return {output: _declared(columns) for output, columns in step.column_lineage.items()}
    if step.kind is StepKind.INGEST:
        return {output: _ingested(contracts[step.inputs[0]], contracts[output]) for output in step.outputs}
    if step.sql is None:
        return {}
    tables = {name: [column.name for column in contracts[name].columns] for name in step.inputs}
    seeds = {f"{SEED}/{name}": _header(path) for name, path in step.seeds.items()}
    return {output: sql_lineage(step.sql.read_text("utf-8"), tables | seeds, output) for output in step.outputs}


def _declared(columns: Mapping[str, tuple[str, ...]]) -> StatementLineage:
    edges = {name: tuple(Edge(source, Influence.DIRECT, "TRANSFORMATION") for source in inputs) for name, inputs in columns.items()}
    return StatementLineage(columns=edges, rows=(), expressions={})


def _ingested(source: Contract, output: Contract) -> StatementLineage:
    """Each column is the source's of that name; the rows are those that break none of the source's rules about rows."""
    names = [column.name for column in source.columns]
    columns = {column.name: (_edge(source, column.name, "IDENTITY"),) for column in output.columns if column.name in names}
    ruled = {name for rule in source.expectations if rule.quarantine for name in _ruled_columns(rule)}
    ruled |= {*source.key, source.as_of_column or ""} | {column.name for column in source.columns if column.type != "string" or not column.nullable}
    return StatementLineage(columns=columns, rows=tuple(_edge(source, name, "FILTER") for name in names if name in ruled), expressions={})


def _edge(source: Contract, column: str, subtype: str) -> Edge:
    influence = Influence.DIRECT if subtype == "IDENTITY" else Influence.INDIRECT
    return Edge(f"{source.dataset}.{column}", influence, subtype)


def _ruled_columns(rule: Expectation) -> set[str]:
    """The columns that an expectation names: `column`, `column_A` and `column_B`, or `column_list`."""
    listed = rule.kwargs.get("column_list")
    single = (rule.kwargs.get(key) for key in ("column", "column_A", "column_B"))
    return {str(name) for name in (*(listed if isinstance(listed, list) else []), *single) if name is not None}


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])
