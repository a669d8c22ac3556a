"""Evaluates a dataset against its contract: the checks, the numbers of its columns, and which rows are to be set aside.

Two engines give the same verdicts: `sql` (DuckDB, one aggregate query a table; what has no SQL form runs in Great
Expectations all the same) and `gx` (Great Expectations runs whatever it can). Which rows are set aside is always SQL's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Final, cast

from pipeline.quality import measuring
from pipeline.quality.expectations import Kind
from pipeline.quality.measuring import Measure, Measured, Number
from pipeline.quality.rules import Layout, Rule, describe, rules
from pipeline.quality.sql_forms import RowForm, identifier, moment
from pipeline.records import Check, ColumnStats, Contract, Layer, Outcome, Severity

if TYPE_CHECKING:
    import duckdb

SHARE: Final = "expect_quarantined_share_to_be_at_most"
COLUMN_SET: Final = "expect_table_columns_to_match_set"
COLUMN_TYPES: Final = "expect_table_columns_to_match_types"

_MAX_NAMES: Final = 20

Observed = dict[str, int | float | str | bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the evaluation of one dataset came to.

    Attributes:
        checks: implied rules first, then the contract's expectations in their order, then the share set aside.
        rows: rows looked at.
        column_stats: of each column of the contract that the table has.
        bad_rows: rows that break one or more rules that set rows aside.
        bad_predicate: SQL condition that holds for exactly those rows (never NULL); None when there are none.
        reasons: SQL expression (VARCHAR[]) of the labels of the rules that such a row breaks; None when there are none.
    """

    checks: tuple[Check, ...]
    rows: int
    column_stats: tuple[ColumnStats, ...]
    bad_rows: int = 0
    bad_predicate: str | None = None
    reasons: str | None = None


def evaluate(connection: duckdb.DuckDBPyConnection, table: str, contract: Contract, *, engine: str = "sql", as_of: date | None = None) -> Verdict:
    """Evaluate the contract of one table.

    Args:
        connection: where `table` can be read; its settings bound memory and threads.
        table: what stands behind FROM: a name, or `read_parquet('…')`. For a source it is the landing table, with
            `_bad_cells`, `source_file`, `record_number`, `load_id` beside the contract's columns.
        contract: the dataset's contract; it has columns.
        engine: `sql` or `gx`.
        as_of: the run's nominal date, for the contract's `as_of_column`.
    """
    layout = describe(connection, table, contract)
    every = rules(contract, layout, as_of)
    measured = measuring.measure(connection, table, contract, layout, every)
    by_gx = [index for index, rule in enumerate(every) if _runs_in_gx(rule, engine)]
    measures: dict[int, Measure | None] = dict(measured.measures)
    if by_gx:
        from pipeline.quality.gx import measure_with_gx

        measures |= dict(zip(by_gx, measure_with_gx(connection, table, layout, [every[index] for index in by_gx]), strict=True))
    checks = [check_of(contract, rule, measures.get(index), measured.rows, "gx" if index in by_gx else "sql") for index, rule in enumerate(every)]
    checks = _with_records(connection, table, layout, every, checks)
    sets_aside = contract.layer is Layer.INPUT or any(rule.quarantines for rule in every)
    broken = [rule for index, rule in enumerate(every) if rule.quarantines and measured.measures[index].unexpected]
    return Verdict(
        checks=(*_structure(contract, layout), *checks, *([_share(contract, measured)] if sets_aside else [])),
        rows=measured.rows,
        column_stats=measured.column_stats,
        bad_rows=measured.bad_rows,
        bad_predicate=_bad_predicate(broken, table) if broken else None,
        reasons=measuring.reasons(broken, table) if broken else None,
    )


def broken_alone(connection: duckdb.DuckDBPyConnection, table: str, contract: Contract, as_of: date | None) -> str:
    """SQL condition (never NULL) of the rows of a source that are to be set aside whatever the other rows are.

    `table` is what stands behind FROM, with the contract's columns and `_bad_cells`. Rows that share a key are not among them.
    """
    every = rules(contract, describe(connection, table, contract), as_of)
    conditions = [f"({rule.form.unexpected})" for rule in every if rule.quarantines and isinstance(rule.form, RowForm)]
    return f"coalesce({' OR '.join(conditions)}, FALSE)" if conditions else "FALSE"


def extra_columns_check(contract: Contract, names: Iterable[str]) -> Check:
    """Whether a source's file has columns beyond the contract's; a warning that names up to 20 of them.

    `names` is the file's header. They are shown as names: the caller has made sure that the line is a header (it has
    all of the contract's columns).
    """
    declared = {column.name for column in contract.columns}
    extra = [name for name in names if name not in declared]
    observed: Observed = {"unexpected_count": len(extra)}
    if extra:
        observed["unexpected"] = _joined(extra)
    return Check(
        dataset=contract.dataset,
        expectation=COLUMN_SET,
        column=None,
        severity=Severity.WARN,
        outcome=Outcome.FAILED if extra else Outcome.PASSED,
        expected="the file has no columns beyond the contract's",
        observed=observed,
        description="Implied by the columns",
    )


def _runs_in_gx(rule: Rule, engine: str) -> bool:
    return rule.unusable is None and not rule.only_sql and (rule.form is None or engine == "gx")


def _bad_predicate(broken: Sequence[Rule], table: str) -> str:
    return "coalesce(" + " OR ".join(f"({measuring.condition(rule, table)})" for rule in broken) + ", FALSE)"


def check_of(contract: Contract, rule: Rule, measure: Measure | None, rows: int, engine: str) -> Check:
    """The check that a rule and its measure make; without a measure the rule could not be evaluated, and failed."""
    expectation = rule.expectation
    if measure is None:
        outcome, observed = Outcome.FAILED, cast(Observed, {"rows": rows, "not_evaluated": rule.unusable or "Great Expectations raised"})
    else:
        outcome, observed = _outcome(rule, measure), _observed(rule, measure)
    return Check(
        dataset=contract.dataset,
        expectation=expectation.name,
        column=expectation.column,
        severity=expectation.severity,
        outcome=outcome,
        expected=rule.expected,
        observed=observed,
        quarantine=expectation.quarantine,
        engine=engine,
        description=expectation.description,
    )


def _outcome(rule: Rule, measure: Measure) -> Outcome:
    if rule.quarantines:
        return Outcome.QUARANTINED if measure.unexpected else Outcome.PASSED
    success = measure.success if measure.success is not None else _holds(rule, measure)
    return Outcome.PASSED if success else Outcome.FAILED


def _holds(rule: Rule, measure: Measure) -> bool:
    """Whether the numbers keep to the rule; the same arithmetic as Great Expectations'."""
    kwargs = rule.expectation.kwargs
    if rule.kind is not Kind.AGGREGATE:
        mostly = kwargs.get("mostly")
        expected_rows = measure.considered - (measure.unexpected or 0)
        return measure.considered == 0 or expected_rows / measure.considered >= (1.0 if mostly is None else float(cast(float, mostly)))
    if "value" in kwargs:
        return measure.value == kwargs["value"]
    return _is_within(measure.value, kwargs.get("min_value"), kwargs.get("max_value"), (bool(kwargs.get("strict_min")), bool(kwargs.get("strict_max"))))


def _share_of(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _is_within(value: Number, low: object, high: object, strict: tuple[bool, bool]) -> bool:
    if value is None or value != value:  # NaN
        return False
    bounds = [(bound, is_strict) for bound, is_strict in ((low, strict[0]), (high, strict[1]))]
    for (bound, is_strict), sign in zip(bounds, (1, -1), strict=True):
        if bound is None:
            continue
        difference = _compare(value, bound) * sign
        if difference < 0 or (is_strict and difference == 0):
            return False
    return True


def _compare(value: int | float | date, bound: object) -> int:
    """-1, 0 or 1 as `value` is below, at or above `bound`, which may be a date in ISO 8601."""
    if isinstance(value, date):
        limit: date = moment(str(bound), "timestamp" if hasattr(value, "hour") else "date")
        return (value > limit) - (value < limit)
    number = cast(float, bound)
    return (value > number) - (value < number)


def _observed(rule: Rule, measure: Measure) -> Observed:
    if measure.unexpected is not None:
        share = _share_of(measure.unexpected, measure.considered)
        return {"rows": measure.rows, "considered_count": measure.considered, "unexpected_count": measure.unexpected, "unexpected_share": share}
    value = _json_value(measure.value)
    if value is not None and rule.shown_from is not None and measure.considered >= rule.shown_from:
        return {"rows": measure.rows, "value": value}
    success = measure.success if measure.success is not None else _holds(rule, measure)
    return {"rows": measure.rows, "unexpected": not success}


def _json_value(value: Number) -> int | float | str | None:
    """A value as JSON can hold it; None for NaN and infinities."""
    if isinstance(value, date):
        return value.isoformat().removesuffix("T00:00:00")
    return value if value is None or math.isfinite(value) else None


def _with_records(connection: duckdb.DuckDBPyConnection, table: str, layout: Layout, every: Sequence[Rule], checks: Sequence[Check]) -> list[Check]:
    about_rows = {index: rule for index, rule in enumerate(every) if rule.form is not None and rule.kind is not Kind.AGGREGATE}
    broken = {index: rule for index, rule in about_rows.items() if checks[index].outcome is not Outcome.PASSED}
    if not broken or not layout.has_records:
        return list(checks)
    found = measuring.records(connection, table, broken)
    return [replace(check, records=found[index]) if index in found else check for index, check in enumerate(checks)]


def _structure(contract: Contract, layout: Layout) -> list[Check]:
    """The set of columns and their types, for tables that steps write; a source's are the ingest's business."""
    if contract.layer is Layer.INPUT:
        return []
    names: Observed = {"missing_count": len(layout.missing), "unexpected_count": len(layout.others)}
    names |= {key: _joined(value) for key, value in (("missing", layout.missing), ("unexpected", layout.others)) if value}
    types: Observed = {"unexpected_count": len(layout.mistyped)}
    if layout.mistyped:
        types["unexpected"] = _joined(f"{name} {kind}" for name, kind in layout.mistyped.items())
    return [
        _structure_check(contract, COLUMN_SET, f"the table has the contract's {len(contract.columns)} columns and no others", names),
        _structure_check(contract, COLUMN_TYPES, "the columns have the contract's types", types),
    ]


def _structure_check(contract: Contract, name: str, expected: str, observed: Observed) -> Check:
    holds = not observed.get("missing_count") and not observed["unexpected_count"]
    return Check(
        dataset=contract.dataset,
        expectation=name,
        column=None,
        severity=Severity.ERROR,
        outcome=Outcome.PASSED if holds else Outcome.FAILED,
        expected=expected,
        observed=observed,
        description="Implied by the columns",
    )


def _joined(names: Iterable[str]) -> str:
    shown = ["".join(char if char.isprintable() else "?" for char in name[:60]) for name in names]
    more = f", and {len(shown) - _MAX_NAMES} more" if len(shown) > _MAX_NAMES else ""
    return ", ".join(identifier(name) if "," in name else name for name in shown[:_MAX_NAMES]) + more


def _share(contract: Contract, measured: Measured) -> Check:
    """No more of the rows may be set aside by rules of severity `error` than the contract says."""
    share = _share_of(measured.error_rows, measured.rows)
    return Check(
        dataset=contract.dataset,
        expectation=SHARE,
        column=None,
        severity=Severity.ERROR,
        outcome=Outcome.FAILED if share > contract.max_quarantined_share else Outcome.PASSED,
        expected=f"at most {100 * contract.max_quarantined_share:.10g} % of the rows are set aside by rules of severity error",
        observed={"rows": measured.rows, "unexpected_count": measured.error_rows, "unexpected_share": share, "quarantined_count": measured.bad_rows},
        description="Implied by max_quarantined_share",
    )
