"""Measures rules with DuckDB: one aggregate query for a table, and a second only where something is broken.

The second says which rows are concerned: how many are to be set aside when keys are duplicated, and up to 100 places
(file, record number) of each broken rule.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from pipeline.quality.rules import Layout, Rule
from pipeline.quality.sql_forms import AggregateForm, RowForm, UniqueForm, identifier, literal
from pipeline.records import ColumnStats, Contract, Privacy, Severity

if TYPE_CHECKING:
    import duckdb

MAX_RECORDS: Final = 100

Number = int | float | date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What one rule came to: counts of rows, or the value of an aggregate.

    `considered` counts the rows, or the values of an aggregate, that are not missing (or that the rule ignores otherwise).
    `success` is the verdict of an engine that gives one; without it the numbers decide.
    """

    rows: int
    considered: int
    unexpected: int | None = None
    value: Number = None
    success: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a table came to: a measure for each rule with SQL, and the numbers of its columns."""

    rows: int
    measures: Mapping[int, Measure]
    column_stats: tuple[ColumnStats, ...]
    bad_rows: int
    error_rows: int


@dataclass(slots=True)
class _Query:
    """One SELECT of aggregates over a table with a flag (a boolean column) for each condition."""

    table: str
    flags: dict[str, str] = field(default_factory=dict)
    aggregates: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    values: tuple[object, ...] = ()

    def flag(self, condition: str) -> str:
        """The name of the column in which `condition` holds or not; NULL counts as not."""
        return self.flags.setdefault(condition, f'"flag {len(self.flags)}"')

    def want(self, aggregate: str) -> str:
        """Ask for an aggregate; `self[aggregate]` has it after `run`."""
        if aggregate not in self.places:
            self.places[aggregate] = len(self.aggregates)
            self.aggregates.append(aggregate)
        return aggregate

    def run(self, connection: duckdb.DuckDBPyConnection) -> None:
        flags = "".join(f", coalesce({condition}, FALSE) AS {name}" for condition, name in self.flags.items())
        self.values = connection.sql(f"SELECT {', '.join(self.aggregates)} FROM (SELECT *{flags} FROM {self.table})").fetchall()[0]

    def __getitem__(self, aggregate: str) -> object:
        return self.values[self.places[aggregate]]

    def count(self, aggregate: str) -> int:
        """A count as a number."""
        return int(str(self[aggregate]))


def measure(connection: duckdb.DuckDBPyConnection, table: str, contract: Contract, layout: Layout, rules: Sequence[Rule]) -> Measured:
    """Measure all rules that have SQL, and the columns, in one statement (and the rows to set aside in a second, when keys are duplicated)."""
    query = _Query(table)
    query.want("count(*)")
    ordered = {rule.form for rule in rules if isinstance(rule.form, UniqueForm) and _is_ordered(connection, table, rule.form)}
    wanted = {index: _wanted(query, rule, ordered) for index, rule in enumerate(rules) if rule.form is not None}
    setting_aside = [rule for rule in rules if rule.quarantines]
    bad = query.want(_any_of(query, _row_conditions(setting_aside)))
    error = query.want(_any_of(query, _row_conditions(_errors(setting_aside))))
    stats = [_want_stats(query, column.name, layout, column.privacy) for column in contract.columns if column.name in layout.usable]
    query.run(connection)
    rows = query.count("count(*)")
    measures = {index: _measure(query, rows, names) for index, names in wanted.items()}
    duplicated = [rule for index, rule in enumerate(rules) if rule.quarantines and isinstance(rule.form, UniqueForm) and measures[index].unexpected]
    bad_rows, error_rows = query.count(bad), query.count(error)
    if duplicated:
        bad_rows, error_rows = _bad_rows(connection, table, setting_aside)
    unique = {rule.form.columns[0] for index, rule in enumerate(rules) if isinstance(rule.form, UniqueForm) and _is_key_column(rule.form, measures[index])}
    return Measured(
        rows=rows,
        measures=measures,
        column_stats=tuple(_stats(query, rows, name, layout, unique) for name in stats),
        bad_rows=bad_rows,
        error_rows=error_rows,
    )


def condition(rule: Rule, table: str) -> str:
    """The SQL condition that a row of `table` breaks the rule; may be NULL where it doesn't."""
    if isinstance(rule.form, RowForm):
        return rule.form.unexpected
    if isinstance(rule.form, UniqueForm):
        return f"{rule.form.key} IN (SELECT k FROM ({rule.form.duplicates(table)}))"
    raise TypeError(f"{rule.expectation.name} is not about rows")


def records(connection: duckdb.DuckDBPyConnection, table: str, broken: Mapping[int, Rule]) -> dict[int, tuple[tuple[str, int], ...]]:
    """Up to 100 places (file, record number) of the rows that break each of the rules."""
    query = _Query(table)
    place = "{'f': source_file, 'r': record_number}"
    wanted = {index: query.want(f"min({place}, {MAX_RECORDS}) FILTER (WHERE {query.flag(condition(rule, table))})") for index, rule in broken.items()}
    query.run(connection)
    found: dict[int, tuple[tuple[str, int], ...]] = {}
    for index, aggregate in wanted.items():
        value = query[aggregate]
        places = value if isinstance(value, list) else []
        found[index] = tuple((str(item["f"]), int(item["r"])) for item in places)
    return found


def _is_ordered(connection: duckdb.DuckDBPyConnection, table: str, form: UniqueForm) -> bool:
    """Whether the table lies in the order of its keys, so that none is there twice: files mostly come so, and steps write so."""
    [(disorder,)] = connection.sql(form.disorder(table)).fetchall()
    return int(disorder) <= 1


def _wanted(query: _Query, rule: Rule, ordered: Container[UniqueForm]) -> tuple[str, str | None, str | None]:
    """Asks for a rule's numbers; returns the aggregates of considered, unexpected and value. Those of `ordered` have no key twice."""
    form = rule.form
    if isinstance(form, RowForm):
        considered = "count(*)" if form.considered is None else f"count(*) FILTER (WHERE {query.flag(form.considered)})"
        return query.want(considered), query.want(f"count(*) FILTER (WHERE {query.flag(form.unexpected)})"), None
    if isinstance(form, UniqueForm):
        considered = query.want(f"count(*) FILTER (WHERE NOT {query.flag(form.ignored)})")
        twice = "0" if form in ordered else f"(SELECT coalesce(sum(n), 0)::BIGINT FROM ({form.duplicates(query.table)}))"
        return considered, query.want(twice), None
    if isinstance(form, AggregateForm):
        column = rule.expectation.column
        return query.want(f"count({identifier(column)})" if column else "count(*)"), None, query.want(form.expression)
    raise TypeError(f"{rule.expectation.name} has no SQL")


def _measure(query: _Query, rows: int, names: tuple[str, str | None, str | None]) -> Measure:
    considered, unexpected, value = names
    return Measure(
        rows=rows,
        considered=query.count(considered),
        unexpected=None if unexpected is None else query.count(unexpected),
        value=None if value is None else _number(query[value]),
    )


def _number(value: object) -> Number:
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, int | float | date) else None


def _errors(rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule.expectation.severity is Severity.ERROR]


def _row_conditions(rules: Iterable[Rule]) -> list[str]:
    return [rule.form.unexpected for rule in rules if isinstance(rule.form, RowForm)]


def _any_of(query: _Query, conditions: list[str]) -> str:
    """The count of rows for which any of the conditions holds."""
    if not conditions:
        return "0"
    return f"count(*) FILTER (WHERE {' OR '.join(query.flag(each) for each in conditions)})"


def _bad_rows(connection: duckdb.DuckDBPyConnection, table: str, rules: list[Rule]) -> tuple[int, int]:
    """How many rows break any of the rules, and any of those of severity `error`; keys included."""
    query = _Query(table)
    bad = query.want(_any_of(query, [condition(rule, table) for rule in rules]))
    error = query.want(_any_of(query, [condition(rule, table) for rule in _errors(rules)]))
    query.run(connection)
    return query.count(bad), query.count(error)


def _want_stats(query: _Query, name: str, layout: Layout, privacy: Privacy) -> tuple[str, str | None, str | None]:
    column = layout.usable[name]
    query.want(f"count({column.sql})")
    if privacy is not Privacy.PUBLIC or column.type not in ("integer", "number"):
        return name, None, None
    finite = f" FILTER (WHERE isfinite({column.sql}))" if column.has_nan else ""
    return name, query.want(f"min({column.sql}){finite}"), query.want(f"max({column.sql}){finite}")


def _stats(query: _Query, rows: int, names: tuple[str, str | None, str | None], layout: Layout, unique: set[str]) -> ColumnStats:
    name, least, greatest = names
    column = layout.usable[name]
    present = query.count(f"count({column.sql})")
    distinct = query.places.get(f"count(DISTINCT {column.sql})")
    return ColumnStats(
        column=name,
        null_count=rows - present,
        distinct_count=present if column.sql in unique else int(str(query.values[distinct])) if distinct is not None else None,
        min=_float(query[least]) if least else None,
        max=_float(query[greatest]) if greatest else None,
    )


def _float(value: object) -> float | None:
    number = _number(value)
    return float(number) if isinstance(number, int | float) and math.isfinite(number) else None


def _is_key_column(form: UniqueForm, found: Measure) -> bool:
    """Whether one column alone was found to have no value twice, so that its distinct values are known."""
    return len(form.columns) == 1 and found.unexpected == 0


def reasons(rules: Sequence[Rule], table: str) -> str:
    """The SQL expression (VARCHAR[]) of the labels of all given rules that a row breaks, in their order."""
    by_label: dict[str, list[str]] = {}
    for rule in rules:
        by_label.setdefault(rule.label, []).append(f"coalesce({condition(rule, table)}, FALSE)")
    cases = ", ".join(f"CASE WHEN {' OR '.join(conditions)} THEN {literal(label, 'string')} END" for label, conditions in by_label.items())
    return f"list_filter([{cases}], lambda reason: reason IS NOT NULL)"
