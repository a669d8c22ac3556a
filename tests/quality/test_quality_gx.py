"""Great Expectations: the same verdicts and counts as SQL, no values in results, and imported only when it is needed."""

import os
import subprocess
import sys
from datetime import date, datetime
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.quality import gx
from pipeline.quality.checks import evaluate
from pipeline.quality.expectations import EXPECTATIONS, NOT_HERE
from pipeline.quality.rules import describe, rules
from pipeline.records import Check, Expectation, Outcome, Privacy
from tests.quality.quality_support import check_of, column, make_landing, make_table, rule, source_contract, table_contract

NAN, INF = float("nan"), float("inf")
at = datetime.fromisoformat
EXAMPLES = 40 if os.environ.get("CI") else 12

COLUMNS = [
    column("i", "integer"),
    column("j", "integer", privacy=Privacy.PERSONAL),
    column("x", "number"),
    column("y", "number", privacy=Privacy.PERSONAL),
    column("s", "string", privacy=Privacy.FREE_TEXT),
    column("b", "boolean"),
    column("d", "date"),
    column("m", "timestamp"),
]
INTEGERS = st.sampled_from([0, 1, 2, -1, None])
BIG = st.sampled_from([0, 1, 2**53, 2**53 + 1, -(2**62), None])  # where doubles no longer tell neighbours apart
# Multiples of a quarter, so that sums and means are the same in whatever order they are added up.
NUMBERS = st.sampled_from([0.0, -0.0, 0.25, 1.0, 2.5, -3.75, 1e6, NAN, INF, -INF, None])
TEXTS = st.sampled_from(["", "a", "A", "P01", "P01\n", "é", "e\u0301", "日本", "\u0130", "\u2028", "\U0001f954", "a b", "nan", "None", "\0", None])
DATES = st.sampled_from([date(2024, 1, 31), date(2024, 2, 1), date(1, 1, 1), date(9999, 12, 31), None])
MOMENTS = st.sampled_from([at("2024-01-31"), at("2024-01-31T10:30"), at("1900-01-01T00:00:00.000001"), None])
ROWS = st.lists(st.tuples(INTEGERS, BIG, NUMBERS, NUMBERS, TEXTS, st.sampled_from([True, False, None]), DATES, MOMENTS), max_size=9)

SHARES = st.sampled_from([None, 0.5, 0.75, 1, 0])
PATTERNS = st.sampled_from(["^P[0-9]+$", "a$", "^[^a]*$", "^.$", "(a|é)", "^(a|A|)$", "[ -~]", "^[A-Za-z0-9_-]+$", "^.{1,3}$"])


@st.composite
def bounds(draw: st.DrawFn, values: list[Any], strict: bool = True) -> dict[str, Any]:
    """One or two bounds in order, strict or not."""
    low, high = sorted(draw(st.lists(st.sampled_from(values), min_size=2, max_size=2)))
    made = draw(st.sampled_from([{"min_value": low}, {"max_value": high}, {"min_value": low, "max_value": high}]))
    if strict:
        made |= {f"strict_{end}": True for end in ("min", "max") if f"{end}_value" in made and draw(st.booleans())}
    return made


SHARE_BOUNDS, COUNT_BOUNDS = bounds([0, 0.5, 1]), bounds([0, 1, 2, 3])
NUMBER_BOUNDS, DATE_BOUNDS = bounds([-3.75, 0, 0.25, 1, 2]), bounds(["2024-01-31", "2024-02-01"])
IGNORED_COLUMNS = ("all_values_are_missing", "any_value_is_missing", "never")
SETS: dict[str, list[Any]] = {"i": [0, 2], "x": [0.25, 1], "s": ["a", "é", "nan", "None", ""], "b": [True], "d": ["2024-01-31"], "m": ["2024-01-31"]}
NOTHING = st.just({})


def column_rules(name: str) -> list[tuple[str, dict[str, Any], st.SearchStrategy[dict[str, Any]]]]:
    """The rules that any column takes, and those about its order and its values."""
    any_type = ["values_to_not_be_null", "values_to_be_null", "values_to_be_unique"]
    made = [(f"expect_column_{kind}", {"column": name}, NOTHING) for kind in any_type]
    made += [("expect_column_unique_value_count_to_be_between", {"column": name}, COUNT_BOUNDS)]
    made += [("expect_column_proportion_of_non_null_values_to_be_between", {"column": name}, SHARE_BOUNDS)]
    if name in "ijxydm":
        limits = DATE_BOUNDS if name in "dm" else NUMBER_BOUNDS
        made += [(f"expect_column_{kind}_to_be_between", {"column": name}, limits) for kind in ("values", "min", "max")]
    if name in "xy":
        made += [(f"expect_column_{kind}_to_be_between", {"column": name}, NUMBER_BOUNDS) for kind in ("mean", "sum")]
    if name in SETS:
        made += [(f"expect_column_values_to_{kind}be_in_set", {"column": name, "value_set": SETS[name]}, NOTHING) for kind in ("", "not_")]
    return made


POOL = [
    *(made for name in "ijxysbdm" for made in column_rules(name)),
    *((f"expect_column_values_to_{kind}match_regex", {"column": "s"}, PATTERNS.map(lambda regex: {"regex": regex})) for kind in ("", "not_")),
    ("expect_column_value_lengths_to_be_between", {"column": "s"}, COUNT_BOUNDS),
    ("expect_column_value_lengths_to_equal", {"column": "s", "value": 1}, NOTHING),
    *(
        ("expect_compound_columns_to_be_unique", {"column_list": names, "ignore_row_if": ignore}, NOTHING)
        for names in (["i", "s"], ["x", "b", "d"])
        for ignore in IGNORED_COLUMNS
    ),
    *(
        ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": a, "column_B": b}, st.sampled_from([{}, {"or_equal": True}]))
        for a, b in (("i", "j"), ("x", "y"), ("i", "x"), ("y", "i"), ("d", "d"))
    ),
    ("expect_table_row_count_to_be_between", {}, COUNT_BOUNDS),
    ("expect_table_row_count_to_equal", {"value": 3}, NOTHING),
]


@st.composite
def suites(draw: st.DrawFn) -> list[Expectation]:
    """A dozen rules of the pool, with parameters that fit the columns."""
    suite = []
    for name, kwargs, more in draw(st.lists(st.sampled_from(POOL), min_size=1, max_size=14)):
        mostly = draw(SHARES) if "mostly" in EXPECTATIONS[name].parameters else None
        suite.append(rule(name, **kwargs, **draw(more), **({} if mostly is None else {"mostly": mostly})))
    return suite


def shown(check: Check) -> tuple[Any, ...]:
    return check.expectation, check.column, check.outcome, check.expected, dict(check.observed)


def test_the_pool_of_the_property_has_every_expectation_with_sql() -> None:
    assert {name for name, *_ in POOL} == {name for name, expectation in EXPECTATIONS.items() if expectation.build}


# Without shrinking: an example takes a tenth of a second, and is small enough to read.
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rows=ROWS, suite=suites())
def test_both_engines_come_to_the_same_verdicts_and_counts(db: duckdb.DuckDBPyConnection, rows: list[Any], suite: list[Expectation]) -> None:
    table, contract = make_table(db, COLUMNS, rows), table_contract(COLUMNS, *suite)
    by_sql, by_gx = (evaluate(db, table, contract, engine=engine) for engine in ("sql", "gx"))
    assert [shown(check) for check in by_gx.checks] == [shown(check) for check in by_sql.checks]
    moments_in_set = [("expect_column_values_to_be_in_set", name) for name in "dm"]  # Great Expectations gets these wrong, so SQL runs them
    assert {check.engine for check in by_gx.checks[2:] if (check.expectation, check.column) not in moments_in_set} <= {"gx"}
    assert {check.engine for check in by_sql.checks} == {"sql"}
    assert by_gx.column_stats == by_sql.column_stats


def test_both_engines_set_the_same_rows_of_a_source_aside(db: duckdb.DuckDBPyConnection) -> None:
    columns = [column("k", "string", nullable=False), column("d", "date", nullable=False), column("x")]
    contract = source_contract(
        columns,
        rule("expect_column_values_to_be_between", column="x", min_value=1, quarantine=True),
        key=("k", "d"),
        as_of_column="d",
        max_quarantined_share=1.0,
    )
    day = date(2026, 1, 5)
    rows = [
        ["A", day, 2.0, []],
        ["A", day, 2.0, []],
        ["B", None, None, ["d", "x"]],
        ["C", None, 1.0, []],
        ["D", date(2027, 1, 1), 0.0, []],
        [None, day, 1.0, []],
    ]
    table = make_landing(db, columns, rows)
    by_sql, by_gx = (evaluate(db, table, contract, engine=engine, as_of=date(2026, 6, 1)) for engine in ("sql", "gx"))
    assert [(*shown(check), check.records) for check in by_gx.checks] == [(*shown(check), check.records) for check in by_sql.checks]
    assert (by_gx.bad_predicate, by_gx.bad_rows) == (by_sql.bad_predicate, by_sql.bad_rows)
    assert check_of(by_gx.checks, "expect_column_values_to_not_be_null", "d").records == (("a.csv", 4),)


# ------------------------------------------------------------------------------------ what has no SQL form

ONLY_GX = [
    rule("expect_column_median_to_be_between", column="x", min_value=2, max_value=2),
    rule("expect_column_stdev_to_be_between", column="x", min_value=1, max_value=1),
    rule("expect_column_proportion_of_unique_values_to_be_between", column="x", min_value=1),
    rule("expect_column_distinct_values_to_be_in_set", column="s", value_set=["a1", "a2", "a3"]),
    rule("expect_column_distinct_values_to_contain_set", column="s", value_set=["a1"]),
    rule("expect_column_distinct_values_to_equal_set", column="s", value_set=["a1", "a2", "a3"]),
    rule("expect_column_most_common_value_to_be_in_set", column="s", value_set=["a1", "a2", "a3"], ties_okay=True),
    rule("expect_column_quantile_values_to_be_between", column="x", quantile_ranges={"quantiles": [0.5], "value_ranges": [[1, 3]]}),
    rule("expect_column_values_to_match_regex_list", column="s", regex_list=["^(a)[0-9]$", "b"], match_on="any"),
    rule("expect_column_values_to_not_match_regex_list", column="s", regex_list=["^b$"]),
    rule("expect_column_values_to_match_strftime_format", column="t", strftime_format="%Y-%m-%d"),
    rule("expect_column_values_to_be_dateutil_parseable", column="t"),
    rule("expect_column_values_to_be_json_parseable", column="j"),
    rule("expect_column_values_to_match_json_schema", column="j", json_schema={"type": "object"}),
    rule("expect_column_values_to_be_increasing", column="x", strictly=True),
    rule("expect_column_values_to_be_decreasing", column="y"),
    rule("expect_column_value_z_scores_to_be_less_than", column="x", threshold=3, double_sided=True),
    rule("expect_column_values_to_not_be_outliers", column="x", method="iqr", multiplier=1.5),
    rule("expect_column_pair_values_to_be_equal", column_A="x", column_B="z"),
    rule("expect_column_pair_values_to_be_in_set", column_A="x", column_B="z", value_pairs_set=[[1, 1], [2, 2], [3, 3]]),
    rule("expect_multicolumn_sum_to_equal", column_list=["x", "y"], sum_total=4),
    rule("expect_multicolumn_values_to_be_equal", column_list=["x", "z"]),
    rule("expect_select_column_values_to_be_unique_within_record", column_list=["s", "t"]),
    rule("expect_table_column_count_to_be_between", min_value=6, max_value=6),
    rule("expect_table_column_count_to_equal", value=6),
    rule("expect_table_columns_to_match_ordered_list", column_list=["x", "y", "z", "s", "t", "j"]),
]
ONLY_GX_COLUMNS = [column("x"), column("y"), column("z"), *(column(name, "string", privacy=Privacy.IDENTIFIER) for name in "stj")]
ONLY_GX_ROWS = [[1.0, 3.0, 1.0, "a1", "2024-01-31", "{}"], [2.0, 2.0, 2.0, "a2", "2024-02-01", "{}"], [3.0, 1.0, 3.0, "a3", "2024-02-02", '{"a": 1}']]


@pytest.mark.parametrize("other", [1.0, NAN, None])
def test_both_engines_take_a_zero_and_a_negative_zero_for_one_key(db: duckdb.DuckDBPyConnection, other: float | None) -> None:
    columns, key = [column("x"), column("y")], rule("expect_compound_columns_to_be_unique", column_list=["x", "y"])
    table = make_table(db, columns, [[0.0, 1.0], [-0.0, 1.0], [other, 1.0]])
    found = [evaluate(db, table, table_contract(columns, key), engine=engine).checks[-1].observed["unexpected_count"] for engine in ("sql", "gx")]
    assert found == [2, 2]


def test_every_expectation_without_sql_runs_in_great_expectations(db: duckdb.DuckDBPyConnection) -> None:
    assert {item.name for item in ONLY_GX} == {name for name, expectation in EXPECTATIONS.items() if expectation.build is None}
    table = make_table(db, ONLY_GX_COLUMNS, ONLY_GX_ROWS)
    checks = evaluate(db, table, table_contract(ONLY_GX_COLUMNS, *ONLY_GX)).checks[2:]
    assert [(check.expectation, check.outcome, check.engine) for check in checks] == [(item.name, Outcome.PASSED, "gx") for item in ONLY_GX]


def test_great_expectations_finds_what_is_broken_and_says_no_value(db: duckdb.DuckDBPyConnection) -> None:
    rows = [[value * 1000.5 for value in row[:3]] + [f"SECRET-{text}" for text in row[3:]] for row in ONLY_GX_ROWS]  # type: ignore[operator]
    table = make_table(db, ONLY_GX_COLUMNS, rows)
    kept = [item for item in ONLY_GX if item.column in ("s", "t", "j")]
    checks = evaluate(db, table, table_contract(ONLY_GX_COLUMNS, *kept)).checks[2:]
    holds = "expect_column_values_to_not_match_regex_list"
    assert {check.expectation for check in checks if check.outcome is Outcome.PASSED} == {holds}
    assert "SECRET" not in repr(checks)
    assert check_of(checks, "expect_column_most_common_value_to_be_in_set").observed == {"rows": 3, "unexpected": True}
    assert check_of(checks, "expect_column_values_to_be_json_parseable").observed["unexpected_count"] == 3


def test_the_results_themselves_carry_no_values(db: duckdb.DuckDBPyConnection) -> None:
    columns = [column("s", "string")]
    contract = table_contract(columns, rule("expect_column_values_to_match_regex", column="s", regex="^$"))
    table = make_table(db, columns, [["SECRET"]])
    layout = describe(db, table, contract)
    found = gx.validate(gx.context(), "t", gx.read_frame(db, table, layout), layout, rules(contract, layout, None))
    assert not found.success
    assert "SECRET" not in str(found)


def test_a_rule_that_cannot_be_evaluated_fails_without_values(db: duckdb.DuckDBPyConnection) -> None:
    columns = [column("x")]
    table = make_table(db, columns, [[81.25]])
    broken = rule("expect_column_quantile_values_to_be_between", column="x", quantile_ranges={"quantiles": [7], "value_ranges": [[0, 1]]})
    check = evaluate(db, table, table_contract(columns, broken)).checks[-1]
    assert (check.outcome, check.observed) == (Outcome.FAILED, {"rows": 1, "not_evaluated": "Great Expectations raised"})


# ------------------------------------------------------------------------------------------ the table, and the import


def test_the_table_of_expectations_is_great_expectations_own() -> None:
    library = gx.import_gx()
    theirs = {name.lower() for name in dir(library.expectations) if name.startswith(("Expect", "UnexpectedRows"))} - {"expectation"}
    assert theirs == {name.replace("_", "") for name in (*EXPECTATIONS, *NOT_HERE)}
    for name, expectation in EXPECTATIONS.items():
        fields = getattr(library.expectations, "".join(part.capitalize() for part in name.split("_"))).__fields__
        assert set(expectation.parameters) <= set(fields), name
        assert {key for key, field in fields.items() if field.required} <= set(expectation.required), name


def test_sql_alone_does_not_import_heavy_libraries() -> None:
    script = """
import duckdb, sys
from pipeline.records import Column, Contract, Expectation, Severity
from pipeline.quality.checks import evaluate
from pipeline.quality import contracts, quarantine, gate, contract_docs, data_docs, gx
assert not {"pandas", "numpy", "jsonschema", "great_expectations", "pyarrow"} & set(sys.modules), sorted(sys.modules)
rule = Expectation(name="expect_column_mean_to_be_between", kwargs={"column": "x", "min_value": 1}, severity=Severity.ERROR)
contract = Contract(dataset="silver/t", description="", owner="", columns=(Column(name="x", type="number", description=""),), expectations=(rule,))
assert len(evaluate(duckdb.connect(), "(SELECT 1.5::DOUBLE AS x)", contract).checks) == 3
assert not {"pandas", "jsonschema", "great_expectations", "pyarrow"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_analytics_are_off_and_the_log_is_at_warnings() -> None:
    gx.import_gx()
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
    assert gx.context().variables.analytics_enabled is False
