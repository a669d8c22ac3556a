"""Checks in SQL: their verdicts and numbers, the rows that are set aside, and the laws that hold for any table."""

import random
from datetime import date, datetime
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.quality.checks import SHARE, Verdict, evaluate, extra_columns_check
from pipeline.quality.quarantine import bad_rows_sql, good_rows_sql
from pipeline.records import Contract, Outcome, Privacy, Severity
from tests.quality.quality_support import check_of, column, make_landing, make_table, rule, source_contract, table_contract

NAN, INF = float("nan"), float("inf")
BETWEEN = "expect_column_values_to_be_between"
WEIGHING = [
    column("subject_id", "string", nullable=False, privacy=Privacy.IDENTIFIER),
    column("day", "date", nullable=False, privacy=Privacy.PERSONAL),
    column("weight_kg", "number", privacy=Privacy.PERSONAL),
    column("week", "integer"),
]
SOURCE = source_contract(
    WEIGHING,
    rule(BETWEEN, column="weight_kg", min_value=20, max_value=400, quarantine=True),
    rule(BETWEEN, column="week", min_value=1, quarantine=True, severity=Severity.WARN),
    key=("subject_id", "day"),
    as_of_column="day",
    max_quarantined_share=0.5,
)
DAY = date(2026, 1, 5)
moment = datetime.fromisoformat


def observed(db: duckdb.DuckDBPyConnection, type_: str, values: list[Any], name: str, **kwargs: Any) -> tuple[Outcome, int | None]:
    """The outcome and the unexpected count of one rule about a column `x` with these values."""
    columns = [column("x", type_)]
    table = make_table(db, columns, [[value] for value in values])
    check = check_of(evaluate(db, table, table_contract(columns, rule(name, column="x", **kwargs))).checks, name)
    count = check.observed.get("unexpected_count")
    return check.outcome, count if isinstance(count, int) else None


def split(db: duckdb.DuckDBPyConnection, contract: Contract, table: str, verdict: Verdict) -> tuple[list[Any], list[Any]]:
    good = db.sql(good_rows_sql(table, contract, verdict)).fetchall()
    bad = bad_rows_sql(table, contract, verdict)
    return good, [] if bad is None else db.sql(bad).fetchall()


# --------------------------------------------------------------------------------------------------- single rules


@pytest.mark.parametrize(
    ("type_", "values", "name", "kwargs", "unexpected"),
    [
        ("number", [1.0, 2.0, None, NAN, INF, -INF], BETWEEN, {"min_value": 1, "max_value": 2}, 3),
        ("number", [1.0, NAN, INF, None], BETWEEN, {"min_value": 1}, 1),
        ("number", [1.0, NAN, -INF, None], BETWEEN, {"max_value": 1}, 1),
        ("number", [1.0, 2.0], BETWEEN, {"min_value": 1, "max_value": 2, "strict_min": True, "strict_max": True}, 2),
        ("number", [0.1, 0.3], BETWEEN, {"min_value": 0.1, "max_value": 0.2}, 1),
        ("date", [date(2024, 1, 31), date(2024, 2, 1), None], BETWEEN, {"max_value": "2024-01-31"}, 1),
        ("timestamp", [moment("2024-01-31"), moment("2024-01-31T00:01")], BETWEEN, {"max_value": "2024-01-31"}, 1),
        ("timestamp", [moment("2024-01-31T10:00"), moment("2024-01-31T11:00")], BETWEEN, {"max_value": "2024-01-31T10:00:00"}, 1),
        ("number", [None, NAN, 1.0], "expect_column_values_to_not_be_null", {}, 1),
        ("number", [None, NAN, 1.0], "expect_column_values_to_be_null", {}, 2),
        ("number", [None, NAN, 1.0, 2.0], "expect_column_values_to_be_in_set", {"value_set": [1, 3]}, 2),
        ("number", [None, NAN, 1.0, 2.0], "expect_column_values_to_not_be_in_set", {"value_set": [1, 3]}, 1),
        ("string", ["it's", "x", None], "expect_column_values_to_be_in_set", {"value_set": ["it's"]}, 1),
        ("boolean", [True, False, None], "expect_column_values_to_be_in_set", {"value_set": [True]}, 1),
        ("date", [date(2024, 1, 31), None], "expect_column_values_to_not_be_in_set", {"value_set": ["2024-01-31"]}, 1),
        ("string", ["P1", "p1", "P1\n", None], "expect_column_values_to_match_regex", {"regex": "^P[0-9]$"}, 2),
        ("string", ["P1", "p1", None], "expect_column_values_to_not_match_regex", {"regex": "P"}, 1),
        ("string", ["", "é", "日本", None], "expect_column_value_lengths_to_be_between", {"min_value": 1, "max_value": 1}, 2),
        ("string", ["", "é", "日本", None], "expect_column_value_lengths_to_equal", {"value": 2}, 2),
        ("string", ["a", "b", "a", None, None], "expect_column_values_to_be_unique", {}, 2),
        ("number", [NAN, NAN, 1.0], "expect_column_values_to_be_unique", {}, 2),
    ],
)
def test_a_rule_about_rows_counts_those_that_break_it(
    db: duckdb.DuckDBPyConnection, type_: str, values: list[Any], name: str, kwargs: dict[str, Any], unexpected: int
) -> None:
    assert observed(db, type_, values, name, **kwargs) == (Outcome.FAILED if unexpected else Outcome.PASSED, unexpected)


@pytest.mark.parametrize(
    ("type_", "values", "name", "kwargs", "outcome"),
    [
        ("number", [1.0, 2.0, None], "expect_column_mean_to_be_between", {"min_value": 1.5, "max_value": 1.5}, Outcome.PASSED),
        ("number", [1.0, NAN], "expect_column_mean_to_be_between", {"min_value": 0}, Outcome.FAILED),
        ("number", [], "expect_column_mean_to_be_between", {"min_value": 0}, Outcome.FAILED),
        ("number", [], "expect_column_sum_to_be_between", {"min_value": 0, "max_value": 0}, Outcome.PASSED),
        ("integer", [2**62, 2**62], "expect_column_sum_to_be_between", {"min_value": 2**63}, Outcome.PASSED),
        ("number", [3.0, NAN], "expect_column_max_to_be_between", {"max_value": 3}, Outcome.PASSED),
        ("number", [None], "expect_column_min_to_be_between", {"min_value": 0}, Outcome.FAILED),
        ("date", [date(2024, 1, 31)], "expect_column_min_to_be_between", {"min_value": "2024-01-31", "strict_min": True}, Outcome.FAILED),
        ("timestamp", [moment("2024-01-31T01:00")], "expect_column_max_to_be_between", {"max_value": "2024-01-31T01:00"}, Outcome.PASSED),
        ("string", ["a", "a", "b", None], "expect_column_unique_value_count_to_be_between", {"min_value": 2, "max_value": 2}, Outcome.PASSED),
        ("string", ["a", None], "expect_column_proportion_of_non_null_values_to_be_between", {"min_value": 0.5, "max_value": 0.5}, Outcome.PASSED),
        ("string", [], "expect_column_proportion_of_non_null_values_to_be_between", {"min_value": 0.1}, Outcome.FAILED),
    ],
)
def test_a_rule_about_a_number_of_the_table(
    db: duckdb.DuckDBPyConnection, type_: str, values: list[Any], name: str, kwargs: dict[str, Any], outcome: Outcome
) -> None:
    assert observed(db, type_, values, name, **kwargs)[0] is outcome


def test_row_counts_are_checked(db: duckdb.DuckDBPyConnection) -> None:
    columns = [column("x")]
    table = make_table(db, columns, [[1.0], [2.0]])
    rules = (rule("expect_table_row_count_to_be_between", min_value=3), rule("expect_table_row_count_to_equal", value=2))
    verdict = evaluate(db, table, table_contract(columns, *rules))
    assert [check.outcome for check in verdict.checks[-2:]] == [Outcome.FAILED, Outcome.PASSED]
    assert verdict.checks[-1].observed == {"rows": 2, "value": 2}


def test_mostly_asks_for_a_share_of_the_values_that_are_there(db: duckdb.DuckDBPyConnection) -> None:
    values = [*[1.0] * 19, 9.0, None, None]
    assert observed(db, "number", values, BETWEEN, max_value=1, mostly=0.95) == (Outcome.PASSED, 1)
    assert observed(db, "number", values, BETWEEN, max_value=1, mostly=0.96) == (Outcome.FAILED, 1)
    assert observed(db, "number", [None], BETWEEN, max_value=1, mostly=1) == (Outcome.PASSED, 0)


def test_a_pair_is_judged_where_both_values_are_there(db: duckdb.DuckDBPyConnection) -> None:
    columns = [column("a"), column("b")]
    rows = [[2.0, 1.0], [1.0, 1.0], [NAN, 1.0], [1.0, NAN], [None, 1.0], [1.0, None], [None, NAN], [None, None]]
    name = "expect_column_pair_values_a_to_be_greater_than_b"
    rules = [rule(name, column_A="a", column_B="b", or_equal=or_equal) for or_equal in (False, True)]
    strict, loose = evaluate(db, make_table(db, columns, rows), table_contract(columns, *rules)).checks[2:]
    assert (strict.observed["considered_count"], strict.observed["unexpected_count"], loose.observed["unexpected_count"]) == (4, 3, 2)


@pytest.mark.parametrize(("ignore", "unexpected"), [(None, 4), ("all_values_are_missing", 4), ("any_value_is_missing", 2), ("never", 6)])
def test_compound_values_are_unique_but_for_the_rows_that_are_ignored(db: duckdb.DuckDBPyConnection, ignore: str | None, unexpected: int) -> None:
    columns = [column("a", "string"), column("b", "integer")]
    table = make_table(db, columns, [["x", 1], ["x", 1], ["x", None], ["x", None], [None, None], [None, None], ["y", 1]])
    more = {} if ignore is None else {"ignore_row_if": ignore}
    name = "expect_compound_columns_to_be_unique"
    check = check_of(evaluate(db, table, table_contract(columns, rule(name, column_list=["a", "b"], **more))).checks, name)
    assert check.observed["unexpected_count"] == unexpected


# --------------------------------------------------------------------------------------------- tables that steps write


def test_a_table_has_the_contract_s_columns_and_types_and_key(db: duckdb.DuckDBPyConnection) -> None:
    columns = [column("k", "integer", nullable=False), column("x")]
    verdict = evaluate(db, make_table(db, columns, [[1, 1.0], [2, None]]), table_contract(columns, key=("k",)))
    assert [(check.expectation, check.outcome) for check in verdict.checks] == [
        ("expect_table_columns_to_match_set", Outcome.PASSED),
        ("expect_table_columns_to_match_types", Outcome.PASSED),
        ("expect_column_values_to_not_be_null", Outcome.PASSED),
        ("expect_column_values_to_be_unique", Outcome.PASSED),
    ]
    assert (verdict.rows, verdict.bad_rows, verdict.bad_predicate) == (2, 0, None)


def test_missing_extra_and_mistyped_columns_fail_and_so_do_the_rules_about_them(db: duckdb.DuckDBPyConnection) -> None:
    db.sql("CREATE TABLE t AS SELECT 'x' AS a, 1 AS extra")
    contract = table_contract([column("a"), column("b")], rule(BETWEEN, column="a", min_value=0), rule(BETWEEN, column="b", min_value=0))
    names, types, a, b = evaluate(db, "t", contract).checks
    assert (names.outcome, dict(names.observed)) == (Outcome.FAILED, {"missing_count": 1, "unexpected_count": 1, "missing": "b", "unexpected": "extra"})
    assert (types.outcome, types.observed["unexpected"]) == (Outcome.FAILED, "a VARCHAR")
    assert [(check.outcome, check.observed["not_evaluated"]) for check in (a, b)] == [(Outcome.FAILED, "a is VARCHAR"), (Outcome.FAILED, "b is missing")]


@pytest.mark.parametrize(
    ("type_", "sql", "fits"),
    [
        ("integer", "1::UTINYINT", True),
        ("integer", "1.5::DOUBLE", False),
        ("number", "1::INTEGER", True),
        ("number", "1.50::DECIMAL(9, 2)", True),
        ("string", "1", False),
        ("date", "TIMESTAMP '2024-01-01'", False),
        ("timestamp", "TIMESTAMP_NS '2024-01-01'", True),
        ("timestamp", "TIMESTAMPTZ '2024-01-01'", False),
    ],
)
def test_a_type_of_the_database_fits_a_type_of_the_contract_or_not(db: duckdb.DuckDBPyConnection, type_: str, sql: str, fits: bool) -> None:
    found = evaluate(db, f"(SELECT {sql} AS x)", table_contract([column("x", type_)]))
    assert check_of(found.checks, "expect_table_columns_to_match_types").outcome is (Outcome.PASSED if fits else Outcome.FAILED)


def test_a_broken_rule_of_a_table_fails_with_its_severity_and_places(db: duckdb.DuckDBPyConnection) -> None:
    columns = [column("x"), column("source_file", "string"), column("record_number", "integer")]
    table = make_table(db, columns, [[float(n % 2), "a.csv", n] for n in range(300, 0, -1)])
    (check,) = evaluate(db, table, table_contract(columns, rule(BETWEEN, column="x", max_value=0, severity=Severity.WARN))).checks[2:]
    assert (check.outcome, check.severity, check.observed["unexpected_share"]) == (Outcome.FAILED, Severity.WARN, 0.5)
    assert check.records == tuple(("a.csv", n) for n in range(1, 200, 2))


# ------------------------------------------------------------------------------------------------------------ sources


def test_rows_of_a_source_are_set_aside_with_every_reason(db: duckdb.DuckDBPyConnection) -> None:
    rows = [
        ["A", DAY, 80.0, 1, []],
        ["A", date(2026, 1, 6), 0.0, 1, []],
        ["A", date(2026, 1, 6), 81.0, 0, []],
        ["B", None, None, 1, ["day", "weight_kg"]],
        [None, date(2027, 1, 1), None, 1, []],
        ["C", DAY, None, None, []],
        ["E", DAY, 80.0, 1, []],
        ["E", DAY, 80.0, 1, []],
    ]
    table = make_landing(db, WEIGHING, rows)
    verdict = evaluate(db, table, SOURCE, as_of=date(2026, 6, 1))
    good, bad = split(db, SOURCE, table, verdict)
    assert [(row[0], row[-2]) for row in good] == [("A", 1), ("C", 6)]
    unique, weight = "subject_id, day: expect_compound_columns_to_be_unique", f"weight_kg: {BETWEEN}"
    assert {row[-3]: row[-1] for row in bad} == {
        2: [unique, weight],
        3: [unique, f"week: {BETWEEN}"],
        4: ["day: expect_column_values_to_be_of_type", "weight_kg: expect_column_values_to_be_of_type"],
        5: ["subject_id: expect_column_values_to_not_be_null", f"day: {BETWEEN}"],
        7: [unique],
        8: [unique],
    }
    assert (verdict.rows, verdict.bad_rows) == (8, 6)


def test_a_rule_that_sets_rows_aside_never_fails_by_itself(db: duckdb.DuckDBPyConnection) -> None:
    table = make_landing(db, WEIGHING, [["A", DAY, 80.0, 1, []], ["B", DAY, 900.0, 1, []]])
    verdict = evaluate(db, table, SOURCE)
    check = check_of(verdict.checks, BETWEEN, "weight_kg")
    assert (check.outcome, check.quarantine, check.records) == (Outcome.QUARANTINED, True, (("a.csv", 2),))
    assert check_of(verdict.checks, SHARE).outcome is Outcome.PASSED


def test_beyond_the_contract_s_share_one_more_check_fails_and_counts_errors_only(db: duckdb.DuckDBPyConnection) -> None:
    rows = [["A", DAY, 900.0, 1, []], ["B", DAY, 0.0, 1, []], ["C", DAY, 80.0, 0, []], ["D", DAY, 80.0, 1, []]]
    table = make_landing(db, WEIGHING, rows)
    share = check_of(evaluate(db, table, SOURCE).checks, SHARE)
    assert (share.outcome, share.severity) == (Outcome.PASSED, Severity.ERROR)
    assert share.observed == {"rows": 4, "unexpected_count": 2, "unexpected_share": 0.5, "quarantined_count": 3}
    rows[3][2] = 0.0
    assert check_of(evaluate(db, make_landing(db, WEIGHING, rows), SOURCE).checks, SHARE).outcome is Outcome.FAILED


@pytest.mark.parametrize("rows", [1, 2, 5])
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_keys_are_counted_whether_or_not_they_lie_in_order(db: duckdb.DuckDBPyConnection, rows: int, data: st.DataObject) -> None:
    value = st.one_of(st.none(), st.sampled_from(["", "a", "b"]))
    table = data.draw(st.lists(st.tuples(value, st.one_of(st.none(), st.sampled_from([NAN, -0.0, 0.0, 1.0]))), min_size=rows, max_size=rows))
    if data.draw(st.booleans()):
        table.sort(key=lambda pair: (str(pair[0]), str(pair[1])))
    columns = [column("x", "string"), column("y", "number")]
    checks = evaluate(db, make_table(db, columns, [list(pair) for pair in table]), table_contract(columns, key=("x", "y"))).checks
    keys = [(x, "NaN" if y != y else y) for x, y in table if x is not None and y is not None]
    assert check_of(checks, "expect_compound_columns_to_be_unique").observed["unexpected_count"] == sum(keys.count(key) > 1 for key in keys)


def test_a_key_is_duplicated_though_its_rows_are_set_aside_for_something_else(db: duckdb.DuckDBPyConnection) -> None:
    table = make_landing(db, WEIGHING, [["A", DAY, 900.0, 1, []], ["A", DAY, 80.0, 1, []], ["B", DAY, 80.0, 1, []]])
    verdict = evaluate(db, table, SOURCE)
    assert check_of(verdict.checks, "expect_compound_columns_to_be_unique").observed["unexpected_count"] == 2
    assert [row[0] for row in split(db, SOURCE, table, verdict)[0]] == ["B"]


@pytest.mark.parametrize("type_", ["date", "timestamp"])
def test_the_nominal_day_itself_still_counts(db: duckdb.DuckDBPyConnection, type_: str) -> None:
    columns = [column("at", type_)]
    values: list[Any] = [DAY, date(2026, 1, 6)] if type_ == "date" else [moment("2026-01-05T23:59"), moment("2026-01-06")]
    table = make_landing(db, columns, [[value, []] for value in values])
    contract = source_contract(columns, as_of_column="at", max_quarantined_share=1.0)
    assert evaluate(db, table, contract, as_of=DAY).bad_rows == 1
    assert evaluate(db, table, contract).bad_rows == 0


def test_an_empty_source_has_nothing_to_set_aside(db: duckdb.DuckDBPyConnection) -> None:
    verdict = evaluate(db, make_landing(db, WEIGHING, []), SOURCE)
    assert (verdict.rows, verdict.bad_rows, verdict.bad_predicate, verdict.reasons) == (0, 0, None, None)
    assert {check.outcome for check in verdict.checks} == {Outcome.PASSED}


def test_a_table_can_set_rows_aside_too_and_keeps_its_order(db: duckdb.DuckDBPyConnection) -> None:
    columns = [column("k", "integer", nullable=False), column("x")]
    contract = table_contract(columns, rule(BETWEEN, column="x", max_value=1, quarantine=True), key=("k",), max_quarantined_share=0.5)
    table = make_table(db, columns, [[3, 0.0], [1, 5.0], [2, 1.0], [0, None]])
    verdict = evaluate(db, table, contract)
    good, bad = split(db, contract, table, verdict)
    assert ([row[0] for row in good], bad) == ([3, 2, 0], [(1, 5.0, [f"x: {BETWEEN}"])])
    assert check_of(verdict.checks, SHARE).outcome is Outcome.PASSED


# ------------------------------------------------------------------------------------------------------------ privacy


def test_numbers_of_columns_say_least_and_greatest_of_public_ones_only(db: duckdb.DuckDBPyConnection) -> None:
    columns = [column("p"), column("q", privacy=Privacy.PERSONAL), column("i", "integer"), column("s", "string"), column("empty")]
    table = make_table(db, columns, [[1.5, 2.0, 3, "x", None], [INF, None, None, None, None], [NAN, 4.0, 1, "y", None]])
    stats = {item.column: item for item in evaluate(db, table, table_contract(columns)).column_stats}
    assert {name: (item.null_count, item.min, item.max) for name, item in stats.items()} == {
        "p": (0, 1.5, 1.5),
        "q": (1, None, None),
        "i": (1, 1.0, 3.0),
        "s": (1, None, None),
        "empty": (3, None, None),
    }


def test_distinct_values_are_counted_where_they_are_known(db: duckdb.DuckDBPyConnection) -> None:
    columns = [column("k", "integer", nullable=False), column("s", "string"), column("x")]
    contract = table_contract(columns, rule("expect_column_unique_value_count_to_be_between", column="s", min_value=1), key=("k",))
    stats = evaluate(db, make_table(db, columns, [[1, "a", 1.0], [2, "a", 2.0], [3, None, 2.0]]), contract).column_stats
    assert [item.distinct_count for item in stats] == [3, 1, None]


@pytest.mark.parametrize("name", ["min", "max", "mean", "sum"])
@pytest.mark.parametrize("privacy", list(Privacy))
def test_what_was_observed_of_a_person_s_column_is_not_in_the_check(db: duckdb.DuckDBPyConnection, name: str, privacy: Privacy) -> None:
    columns = [column("x", privacy=privacy)]
    rules = rule(f"expect_column_{name}_to_be_between", column="x", max_value=1)
    few = evaluate(db, make_table(db, columns, [[81.25]]), table_contract(columns, rules)).checks[-1]
    many = evaluate(db, make_table(db, columns, [[81.25]] * 5), table_contract(columns, rules)).checks[-1]
    shown = privacy is Privacy.PUBLIC
    assert ("value" in few.observed, "value" in many.observed) == (shown, shown or (privacy is Privacy.PERSONAL and name in ("mean", "sum")))
    assert shown or few.observed == {"rows": 1, "unexpected": True}


def test_an_infinite_number_is_not_put_into_json(db: duckdb.DuckDBPyConnection) -> None:
    columns = [column("x")]
    check = evaluate(db, make_table(db, columns, [[INF]]), table_contract(columns, rule("expect_column_max_to_be_between", column="x", max_value=1))).checks[-1]
    assert (check.outcome, check.observed) == (Outcome.FAILED, {"rows": 1, "unexpected": True})


def test_extra_columns_of_a_file_are_a_warning_with_their_names() -> None:
    contract = source_contract([column("a")])
    assert extra_columns_check(contract, ["a"]).outcome is Outcome.PASSED
    check = extra_columns_check(contract, ["a", "b", "c,d", "e\n" + "x" * 100])
    assert (check.outcome, check.severity, check.observed["unexpected_count"]) == (Outcome.FAILED, Severity.WARN, 3)
    assert check.observed["unexpected"] == 'b, "c,d", e?' + "x" * 58


# --------------------------------------------------------------------------------------------------------------- laws

RECORDS = st.lists(
    st.tuples(
        st.sampled_from(["A", "B", "C", None]),
        st.sampled_from([DAY, date(2026, 1, 6), date(2027, 1, 1), None]),
        st.sampled_from([80.0, 20.0, 400.0, 81.5, None, 19.9, NAN, INF, -INF]),
        st.sampled_from([1, 2, None, 0]),
        st.sampled_from([[], [], [], ["day"], ["day", "weight_kg"]]),
    ),
    max_size=14,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=RECORDS, seed=st.randoms(use_true_random=False))
def test_rows_are_good_or_bad_in_any_order_and_the_good_ones_keep_to_the_rules(db: duckdb.DuckDBPyConnection, rows: list[Any], seed: random.Random) -> None:
    as_of = date(2026, 12, 31)
    table = make_landing(db, WEIGHING, rows)
    verdict = evaluate(db, table, SOURCE, as_of=as_of)
    good, bad = split(db, SOURCE, table, verdict)
    assert (len(good) + len(bad), len(bad)) == (len(rows), verdict.bad_rows)
    assert all(reasons for *_, reasons in bad)
    assert sum(row[-1].count(f"weight_kg: {BETWEEN}") for row in bad) == check_of(verdict.checks, BETWEEN, "weight_kg").observed["unexpected_count"]
    again = evaluate(db, make_landing(db, WEIGHING, [[*row[:4], []] for row in good]), SOURCE, as_of=as_of)
    assert {check.outcome for check in again.checks} == {Outcome.PASSED}
    shuffled = list(rows)
    seed.shuffle(shuffled)
    other = evaluate(db, make_landing(db, WEIGHING, shuffled), SOURCE, as_of=as_of)
    assert [(check.outcome, check.observed) for check in other.checks] == [(check.outcome, check.observed) for check in verdict.checks]
    assert other.column_stats == verdict.column_stats
