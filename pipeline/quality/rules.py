"""All rules that hold for one table: what its contract implies, and its expectations, bound to the table as it stands.

Implied are the set of columns and their types, `nullable: false`, the key, and for sources that every cell is a value
of its type and that no row lies after the run's nominal date.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final, cast

from pipeline.quality.expectations import EXPECTATIONS, ExpectationType, Kind, expected_words
from pipeline.quality.sql_forms import Form, PhysicalColumn, RowForm, literal
from pipeline.records import Column, Contract, Expectation, JsonValue, Layer, Privacy, Severity

if TYPE_CHECKING:
    import duckdb

MIN_VALUES: Final = 5
BAD_CELLS: Final = "_bad_cells"
OF_TYPE: Final = "expect_column_values_to_be_of_type"
NOT_NULL: Final = "expect_column_values_to_not_be_null"
IN_SET: Final = "expect_column_values_to_be_in_set"
BETWEEN: Final = "expect_column_values_to_be_between"
UNIQUE: Final = "expect_column_values_to_be_unique"
COMPOUND_UNIQUE: Final = "expect_compound_columns_to_be_unique"

_INTEGERS: Final = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"})
_PHYSICAL: Final[Mapping[str, frozenset[str]]] = {
    "string": frozenset({"VARCHAR"}),
    "integer": _INTEGERS,
    "number": _INTEGERS | {"DOUBLE", "FLOAT", "DECIMAL"},
    "boolean": frozenset({"BOOLEAN"}),
    "date": frozenset({"DATE"}),
    "timestamp": frozenset({"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}),
}
_TYPE_WORDS: Final = {"integer": "a whole number", "number": "a finite number", "boolean": "true or false", "date": "a date", "timestamp": "a date with a time"}


@dataclass(frozen=True, slots=True)
class Layout:
    """A table's columns: those of the contract that stand there with a fitting type, and everything else by name.

    Attributes:
        usable: the contract's columns as they stand, by name.
        missing: the contract's columns that the table doesn't have.
        mistyped: name and DuckDB type of columns whose type is not the contract's.
        others: columns that the contract doesn't have.
    """

    usable: Mapping[str, PhysicalColumn]
    missing: tuple[str, ...]
    mistyped: Mapping[str, str]
    others: tuple[str, ...]

    @property
    def has_bad_cells(self) -> bool:
        """Whether it is a landing table: cells that are no value of their type are named in a column of their own."""
        return BAD_CELLS in self.others

    @property
    def has_records(self) -> bool:
        """Whether each row says from which file and record it comes."""
        return {"source_file", "record_number"} <= {*self.others, *self.usable}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One expectation, ready to be evaluated on one table.

    Attributes:
        expectation: what the contract says, or implies.
        kind: what it is about.
        expected: the rule in words.
        form: its SQL, if it has one.
        unusable: why it can't be evaluated on this table, if so.
        shown_from: how many values an observed aggregate has to be made of for a check to hold it; None: it never does.
        only_sql: whether Great Expectations can't evaluate it, since it doesn't see the source's text.
    """

    expectation: Expectation
    kind: Kind
    expected: str
    form: Form | None = None
    unusable: str | None = None
    shown_from: int | None = 0
    only_sql: bool = False

    @property
    def quarantines(self) -> bool:
        """Whether rows that break it are set aside."""
        return self.expectation.quarantine and self.form is not None

    @property
    def label(self) -> str:
        """How a quarantined row names the rule: `weight_kg: expect_column_values_to_be_between`."""
        return f"{', '.join(columns_of(self.expectation))}: {self.expectation.name}"


def columns_of(expectation: Expectation) -> list[str]:
    """The columns that an expectation names."""
    names = [expectation.kwargs[key] for key in ("column", "column_A", "column_B") if key in expectation.kwargs]
    return [str(name) for name in (*names, *cast(list[JsonValue], expectation.kwargs.get("column_list", [])))]


def describe(connection: duckdb.DuckDBPyConnection, table: str, contract: Contract) -> Layout:
    """How the table stands against the contract's columns."""
    rows = connection.sql(f"DESCRIBE SELECT * FROM {table}").fetchall()
    physical = {str(row[0]): str(row[1]) for row in rows}
    declared = {column.name: column.type for column in contract.columns}
    fitting = {name: physical[name] for name, kind in declared.items() if name in physical and physical[name].split("(")[0] in _PHYSICAL[kind]}
    return Layout(
        usable={name: PhysicalColumn(name, declared[name], kind) for name, kind in fitting.items()},
        missing=tuple(name for name in declared if name not in physical),
        mistyped={name: physical[name] for name in declared if name in physical and name not in fitting},
        others=tuple(name for name in physical if name not in declared),
    )


def rules(contract: Contract, layout: Layout, as_of: date | None) -> list[Rule]:
    """All rules about rows and numbers of the table, implied ones first."""
    bound = [_bind(expectation, contract, layout) for expectation in (*_implied(contract, as_of), *contract.expectations)]
    return [*_type_rules(contract, layout), *bound]


def _type_rules(contract: Contract, layout: Layout) -> Iterator[Rule]:
    """For a landing table: each cell is a value of its column's type. Any text is a string."""
    for column in contract.columns if layout.has_bad_cells else ():
        if column.type != "string":
            expectation = Expectation(
                name=OF_TYPE, kwargs={"column": column.name, "type_": column.type}, severity=Severity.ERROR, quarantine=True, description="Implied by the type"
            )
            expected = f"{column.name} is {_TYPE_WORDS[column.type]}"
            yield Rule(expectation=expectation, kind=Kind.ROW, expected=expected, form=RowForm(_bad_cell(column.name)), only_sql=True)


def _bad_cell(name: str) -> str:
    return f"coalesce(list_contains({BAD_CELLS}, {literal(name, 'string')}), FALSE)"


def _implied(contract: Contract, as_of: date | None) -> Iterator[Expectation]:
    is_source = contract.layer is Layer.INPUT
    for column in contract.columns:
        if not column.nullable:
            yield _implied_rule(NOT_NULL, {"column": column.name}, is_source, "Implied by nullable: false")
    if len(contract.key) == 1:
        yield _implied_rule(UNIQUE, {"column": contract.key[0]}, is_source, "Implied by the key")
    elif contract.key:
        kwargs: dict[str, JsonValue] = {"column_list": list(contract.key), "ignore_row_if": "any_value_is_missing"}
        yield _implied_rule(COMPOUND_UNIQUE, kwargs, is_source, "Implied by the key")
    if contract.as_of_column is not None and as_of is not None:
        yield _implied_rule(BETWEEN, _until(contract.column(contract.as_of_column), as_of), True, "Implied by the run's nominal date")


def _implied_rule(name: str, kwargs: dict[str, JsonValue], quarantine: bool, description: str) -> Expectation:
    return Expectation(name=name, kwargs=kwargs, severity=Severity.ERROR, quarantine=quarantine, description=description)


def _until(column: Column, as_of: date) -> dict[str, JsonValue]:
    if column.type == "timestamp":
        return {"column": column.name, "max_value": (as_of + timedelta(days=1)).isoformat(), "strict_max": True}
    return {"column": column.name, "max_value": as_of.isoformat()}


def _bind(expectation: Expectation, contract: Contract, layout: Layout) -> Rule:
    kind = EXPECTATIONS[expectation.name]
    unfit = [f"{name} is missing" for name in columns_of(expectation) if name in layout.missing]
    unfit += [f"{name} is {layout.mistyped[name]}" for name in columns_of(expectation) if name in layout.mistyped]
    form = kind.build(expectation.kwargs, layout.usable) if kind.build and not unfit else None
    privacy = {column.name: column.privacy for column in contract.columns}
    only_sql = False
    column = layout.usable.get(str(expectation.column))
    if expectation.name == NOT_NULL and layout.has_bad_cells and column and column.type != "string" and isinstance(form, RowForm):
        # A cell that is no value of its type is not missing: it breaks the rule about types alone.
        form = RowForm(f"({form.unexpected} AND NOT {_bad_cell(column.name)})")
        only_sql = True
    if expectation.name == IN_SET and column and column.type in ("date", "timestamp"):
        only_sql = True  # Great Expectations takes a moment at midnight for a text on its way to pandas, which then finds none
    return Rule(
        expectation=expectation,
        kind=kind.kind,
        expected=expected_words(kind, expectation.kwargs),
        form=form,
        unusable=", ".join(unfit) or None,
        shown_from=_shown_from(kind, [privacy[name] for name in columns_of(expectation)]),
        only_sql=only_sql,
    )


def _shown_from(kind: ExpectationType, privacy: list[Privacy]) -> int | None:
    if not set(privacy) <= kind.shown:
        return None
    # A mean or sum of fewer values says too much about each of them.
    return 0 if set(privacy) <= {Privacy.PUBLIC} or kind.shown == frozenset(Privacy) else MIN_VALUES
