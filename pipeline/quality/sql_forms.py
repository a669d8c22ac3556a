"""Expectations as DuckDB SQL: what a row has to be to break a rule, or the aggregate that a rule is about.

Every form gives the same counts as Great Expectations does on pandas; a property test holds that. Missing values are
ignored by row rules. NaN is a value and no number: outside of every range and set, never missing, equal to itself.
Names come from contracts, whose schema allows letters, digits and underscores only; values are written as literals.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, cast

from pipeline.records import JsonValue

Kwargs = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class PhysicalColumn:
    """A column as it stands in the table: its contract's type, and its type in DuckDB."""

    name: str
    type: str
    physical: str

    @property
    def sql(self) -> str:
        """The name in quotes."""
        return identifier(self.name)

    @property
    def has_nan(self) -> bool:
        """Whether a value may be NaN."""
        return self.physical in ("DOUBLE", "FLOAT")


Columns = Mapping[str, PhysicalColumn]


@dataclass(frozen=True, slots=True)
class RowForm:
    """A rule about each row. Both are SQL conditions; NULL counts as false.

    `unexpected` holds for rows that break the rule, `considered` for rows that the share is taken of (None: all).
    """

    unexpected: str
    considered: str | None = None


@dataclass(frozen=True, slots=True)
class UniqueForm:
    """A rule that no two rows share the values of `columns`; rows for which `ignored` holds are left out."""

    columns: tuple[str, ...]
    ignored: str

    @property
    def key(self) -> str:
        """The values as one SQL value."""
        return self.columns[0] if len(self.columns) == 1 else "{" + ", ".join(f"'k{i}': {column}" for i, column in enumerate(self.columns)) + "}"

    def duplicates(self, table: str) -> str:
        """The SELECT of the keys that two or more rows share, with their number of rows `n`."""
        grouped = ", ".join(self.columns)
        return f"SELECT {self.key} AS k, count(*) AS n FROM {table} WHERE NOT ({self.ignored}) GROUP BY {grouped} HAVING count(*) > 1"

    def disorder(self, table: str) -> str:
        """The SELECT of how many rows are not above the one before them, in whatever order they are read.

        At most one (the first has none before it) means that no key is there twice, and takes a tenth of the time of
        counting keys. A missing value is above nothing, so it counts.
        """
        before = [f"lag({column}) OVER ()" for column in self.columns]
        pairs = ", ".join(f"{column} AS c{i}, {lag} AS b{i}" for i, (column, lag) in enumerate(zip(self.columns, before, strict=True)))
        above = " OR ".join("(" + " AND ".join([*(f"c{i} = b{i}" for i in range(place)), f"c{place} > b{place}"]) + ")" for place in range(len(before)))
        return f"SELECT count(*) FILTER (WHERE NOT coalesce({above}, FALSE)) FROM (SELECT {pairs} FROM {table})"


@dataclass(frozen=True, slots=True)
class AggregateForm:
    """A rule about one number of the table: an aggregate expression."""

    expression: str


Form = RowForm | UniqueForm | AggregateForm
Build = Callable[[Kwargs, Columns], Form]


def identifier(name: str) -> str:
    """`name` as a quoted SQL name."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: JsonValue | date, column_type: str) -> str:
    """`value` as a SQL literal to compare a column of a contract's type with."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"CAST('{value!r}' AS DOUBLE)"
    text = value.isoformat() if isinstance(value, date) else str(value)
    quoted = "'" + text.replace("'", "''") + "'"
    return {"date": f"DATE {quoted}", "timestamp": f"TIMESTAMP {quoted}"}.get(column_type, quoted)


def moment(text: str, column_type: str) -> date:
    """A bound that is written as ISO 8601, as the value that a date or timestamp column is compared with.

    Raises:
        ValueError: it is no such date, or a time of day for a date.
    """
    value = datetime.fromisoformat(text)
    if value.tzinfo is not None:
        raise ValueError("a time zone")
    if column_type == "timestamp":
        return value
    if len(text) != len("2024-01-31"):
        raise ValueError("a time of day")
    return value.date()


def _column(kwargs: Kwargs, columns: Columns, key: str = "column") -> PhysicalColumn:
    return columns[str(kwargs[key])]


def _within(expression: str, kwargs: Kwargs, column_type: str) -> str:
    """The condition that `expression` lies within the bounds of `kwargs`."""
    conditions = []
    for key, strict, loose in (("min_value", ">", ">="), ("max_value", "<", "<=")):
        if kwargs.get(key) is not None:
            operator = strict if kwargs.get("strict_" + key[:3]) else loose
            conditions.append(f"{expression} {operator} {literal(kwargs[key], column_type)}")
    return " AND ".join(conditions)


def _present(column: PhysicalColumn) -> str:
    return f"{column.sql} IS NOT NULL"


def _values_between(kwargs: Kwargs, columns: Columns) -> Form:
    column = _column(kwargs, columns)
    unexpected = f"NOT ({_within(column.sql, kwargs, column.type)})"
    if column.has_nan and kwargs.get("max_value") is None:
        # DuckDB orders NaN above all numbers: without an upper bound it would pass.
        unexpected = f"({unexpected} OR isnan({column.sql}))"
    return RowForm(unexpected, _present(column))


def _not_null(kwargs: Kwargs, columns: Columns) -> Form:
    return RowForm(f"{_column(kwargs, columns).sql} IS NULL")


def _null(kwargs: Kwargs, columns: Columns) -> Form:
    return RowForm(_present(_column(kwargs, columns)))


def _set(kwargs: Kwargs, column: PhysicalColumn) -> str:
    return ", ".join(literal(value, column.type) for value in cast(list[JsonValue], kwargs["value_set"]))


def _in_set(kwargs: Kwargs, columns: Columns) -> Form:
    column = _column(kwargs, columns)
    return RowForm(f"{column.sql} NOT IN ({_set(kwargs, column)})", _present(column))


def _not_in_set(kwargs: Kwargs, columns: Columns) -> Form:
    column = _column(kwargs, columns)
    return RowForm(f"{column.sql} IN ({_set(kwargs, column)})", _present(column))


def _match(kwargs: Kwargs, columns: Columns) -> Form:
    column = _column(kwargs, columns)
    return RowForm(f"NOT regexp_matches({column.sql}, {literal(kwargs['regex'], 'string')})", _present(column))


def _not_match(kwargs: Kwargs, columns: Columns) -> Form:
    column = _column(kwargs, columns)
    return RowForm(f"regexp_matches({column.sql}, {literal(kwargs['regex'], 'string')})", _present(column))


def _lengths_between(kwargs: Kwargs, columns: Columns) -> Form:
    column = _column(kwargs, columns)
    return RowForm(f"NOT ({_within(f'length({column.sql})', kwargs, 'integer')})", _present(column))


def _length_equals(kwargs: Kwargs, columns: Columns) -> Form:
    column = _column(kwargs, columns)
    return RowForm(f"length({column.sql}) <> {literal(kwargs['value'], 'integer')}", _present(column))


def _unique(kwargs: Kwargs, columns: Columns) -> Form:
    column = _column(kwargs, columns)
    return UniqueForm((column.sql,), f"{column.sql} IS NULL")


def _compound_unique(kwargs: Kwargs, columns: Columns) -> Form:
    names = [columns[name].sql for name in cast(list[str], kwargs["column_list"])]
    ignore = kwargs.get("ignore_row_if", "all_values_are_missing")
    joined = {"all_values_are_missing": " AND ", "any_value_is_missing": " OR "}.get(str(ignore))
    return UniqueForm(tuple(names), joined.join(f"{name} IS NULL" for name in names) if joined else "FALSE")


def _pair_greater(kwargs: Kwargs, columns: Columns) -> Form:
    a, b = _column(kwargs, columns, "column_A"), _column(kwargs, columns, "column_B")
    considered = f"({_present(a)} AND {_present(b)})"
    numbers = "".join(f" AND NOT isnan({column.sql})" for column in (a, b) if column.has_nan)
    return RowForm(f"({considered} AND NOT ({a.sql} {'>=' if kwargs.get('or_equal') else '>'} {b.sql}{numbers}))", considered)


def _mean(kwargs: Kwargs, columns: Columns) -> Form:
    return AggregateForm(f"avg({_column(kwargs, columns).sql})")


def _sum(kwargs: Kwargs, columns: Columns) -> Form:
    return AggregateForm(f"coalesce(sum({_column(kwargs, columns).sql}), 0)")


def _extreme(function: str) -> Build:
    def build(kwargs: Kwargs, columns: Columns) -> Form:
        column = _column(kwargs, columns)
        numbers = f" FILTER (WHERE NOT isnan({column.sql}))" if column.has_nan else ""
        return AggregateForm(f"{function}({column.sql}){numbers}")

    return build


def _distinct(kwargs: Kwargs, columns: Columns) -> Form:
    return AggregateForm(f"count(DISTINCT {_column(kwargs, columns).sql})")


def _share_present(kwargs: Kwargs, columns: Columns) -> Form:
    return AggregateForm(f"coalesce(count({_column(kwargs, columns).sql}) / nullif(count(*), 0), 0)")


def _rows(_: Kwargs, __: Columns) -> Form:
    return AggregateForm("count(*)")


SQL_FORMS: Final[Mapping[str, Build]] = {
    "expect_column_values_to_be_between": _values_between,
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_be_null": _null,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_in_set": _not_in_set,
    "expect_column_values_to_match_regex": _match,
    "expect_column_values_to_not_match_regex": _not_match,
    "expect_column_value_lengths_to_be_between": _lengths_between,
    "expect_column_value_lengths_to_equal": _length_equals,
    "expect_column_values_to_be_unique": _unique,
    "expect_compound_columns_to_be_unique": _compound_unique,
    "expect_column_pair_values_a_to_be_greater_than_b": _pair_greater,
    "expect_column_mean_to_be_between": _mean,
    "expect_column_sum_to_be_between": _sum,
    "expect_column_min_to_be_between": _extreme("min"),
    "expect_column_max_to_be_between": _extreme("max"),
    "expect_column_unique_value_count_to_be_between": _distinct,
    "expect_column_proportion_of_non_null_values_to_be_between": _share_present,
    "expect_table_row_count_to_be_between": _rows,
    "expect_table_row_count_to_equal": _rows,
}
