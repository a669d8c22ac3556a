"""What an SQL step's file may hold."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from pipeline.engine.sql_files import read_select
from pipeline.errors import StepError
from pipeline.records import Step, StepKind


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as opened:
        opened.execute("CREATE SCHEMA bronze; CREATE TABLE bronze.a AS SELECT 1 AS x; CREATE TABLE bronze.b AS SELECT 1 AS x")
        yield opened


def step(folder: Path, sql: str) -> Step:
    path = folder / "it.sql"
    path.write_text(sql)
    return Step(name="it", kind=StepKind.SQL, inputs=("bronze/a",), outputs=("silver/it",), description="x", sql=path)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT x FROM bronze.a",
        "SELECT x FROM bronze.a;",
        "SELECT x FROM bronze.a ; \n -- done; really\n ; /* ; */",
        "SELECT x FROM bronze.a -- the end",
        "SELECT x FROM bronze.a WHERE 'a; -- b' <> ''",
        "SELECT x FROM bronze.a -- a; b\nWHERE x = 1;",
        "WITH b AS (SELECT x FROM bronze.a) SELECT x FROM b",
        "FROM bronze.a",
    ],
)
def test_one_select_stands_in_brackets_whatever_it_ends_with(connection: duckdb.DuckDBPyConnection, tmp_path: Path, sql: str) -> None:
    assert connection.execute(f"SELECT * FROM ({read_select(connection, step(tmp_path, sql))})").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("", "holds no statement"),
        ("-- nothing", "holds no statement"),
        ("SELECT 1; SELECT 2", "holds 2 statements"),
        ("ATTACH 'x.db'", "holds a statement of kind ATTACH"),
        ("INSTALL httpfs", "holds a statement of kind LOAD"),
        ("COPY (SELECT 1) TO 'x.csv'", "holds a statement of kind COPY"),
        ("SELECT 1) TO 'x.csv'; --", "syntax error"),
        ("SELEC 1", "syntax error"),
        ("SELECT x FROM bronze.b", "reads bronze/b, which is not among its inputs"),
        ("SELECT x FROM bronze.a WHERE x IN (SELECT x FROM bronze.b)", "reads bronze/b"),
    ],
)
def test_anything_else_is_refused_with_what_it_is(connection: duckdb.DuckDBPyConnection, tmp_path: Path, sql: str, words: str) -> None:
    with pytest.raises(StepError, match=words) as raised:
        read_select(connection, step(tmp_path, sql))
    assert raised.value.hint
