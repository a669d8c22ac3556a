"""Contracts and tables for the tests of quality, made in a line."""

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb

from pipeline.records import Check, Column, Contract, Expectation, Privacy, Severity

SQL_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "date": "DATE", "timestamp": "TIMESTAMP"}


def column(name: str, type_: str = "number", *, nullable: bool = True, privacy: Privacy = Privacy.PUBLIC) -> Column:
    return Column(name=name, type=type_, description="x", nullable=nullable, privacy=privacy)


def rule(name: str, *, severity: Severity = Severity.ERROR, quarantine: bool = False, **kwargs: Any) -> Expectation:
    return Expectation(name=name, kwargs=kwargs, severity=severity, quarantine=quarantine)


def table_contract(columns: Sequence[Column], *expectations: Expectation, **more: Any) -> Contract:
    return Contract(dataset="silver/t", description="x", owner="us", columns=tuple(columns), expectations=expectations, **more)


def source_contract(columns: Sequence[Column], *expectations: Expectation, **more: Any) -> Contract:
    return Contract(dataset="input/t", description="x", owner="us", columns=tuple(columns), expectations=expectations, pattern="*.csv", **more)


def make_table(connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], rows: Iterable[Sequence[object]], name: str = "t") -> str:
    """A table of the contract's types with these rows."""
    connection.sql(f"CREATE OR REPLACE TABLE {name} ({', '.join(_declared(c) for c in columns)})")
    _insert(connection, name, rows)
    return name


def make_landing(connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> str:
    """A landing table: each row is its values and the names of its bad cells; record numbers count from 1."""
    declared = ", ".join(_declared(c) for c in columns)
    connection.sql(f"CREATE OR REPLACE TABLE landing ({declared}, _bad_cells VARCHAR[], source_file VARCHAR, record_number BIGINT, load_id VARCHAR)")
    _insert(connection, "landing", [(*row[:-1], row[-1] or None, "a.csv", number, "f00d") for number, row in enumerate(rows, 1)])
    return "landing"


def _declared(made: Column) -> str:
    return f'"{made.name}" {SQL_TYPES[made.type]}'


def _insert(connection: duckdb.DuckDBPyConnection, name: str, rows: Iterable[Sequence[object]]) -> None:
    every = list(rows)
    if every:
        places = ", ".join(["(" + ", ".join("?" * len(every[0])) + ")"] * len(every))
        connection.execute(f"INSERT INTO {name} VALUES {places}", [value for row in every for value in row]).fetchall()


def check_of(checks: Iterable[Check], name: str, column_name: str | None = None) -> Check:
    """The one check of that expectation (and column)."""
    (found,) = [check for check in checks if check.expectation == name and (column_name is None or check.column == column_name)]
    return found
