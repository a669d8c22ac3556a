"""Our comparisons are SQLite's."""

import sqlite3

import hypothesis.strategies as st
from hypothesis import example, given

from pipeline.tracking.dynamodb.comparisons import matches

SIGNS = st.text(alphabet="aAbß%_\\.\nÉéİ[*", max_size=5)


def sqlite_says(found: str | None, comparator: str, wanted: str) -> bool:
    """As MLflow asks it: case counts in LIKE, and ILIKE compares what SQLite makes lower."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute("PRAGMA case_sensitive_like = true")
        text = "lower(?) LIKE lower(?)" if comparator == "ILIKE" else f"? {comparator} ?"
        answer = bool(connection.execute(f"SELECT {text}", (found, wanted)).fetchone()[0])
    connection.close()
    return answer


@given(found=st.one_of(st.none(), SIGNS), comparator=st.sampled_from(["=", "!=", "LIKE", "ILIKE"]), wanted=SIGNS)
@example(found="É", comparator="ILIKE", wanted="é")
@example(found="A\nb", comparator="ILIKE", wanted="a%B")
def test_texts_compare_as_in_sqlite(found: str | None, comparator: str, wanted: str) -> None:
    assert matches(found, comparator, wanted) == sqlite_says(found, comparator, wanted)


def test_what_is_missing_is_in_no_list_and_out_of_none() -> None:
    assert not matches(None, "IN", ("a",))
    assert not matches(None, "NOT IN", ("a",))
    assert matches("b", "NOT IN", ("a",))
