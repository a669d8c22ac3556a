"""What ingestion leaves to DuckDB for the sake of speed, and has to hold: encoding, the order of rows, the same bytes."""

import hashlib
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine import duck, sources
from pipeline.errors import InputError
from pipeline.quality import checks, quarantine
from pipeline.records import Column, Contract
from pipeline.settings import load

CONTRACT = Contract(
    dataset="input/diary",
    description="x",
    owner="x",
    pattern="*.csv",
    columns=(Column(name="who", type="string", description="x"), Column(name="kg", type="number", description="x")),
)
ROWS = 300_000  # more than two row groups


def landed(file: Path, threads: int | None = None) -> tuple[duckdb.DuckDBPyConnection, str]:
    """A connection, and the landing table with each row's place."""
    folder = file.parent / "landing"
    folder.mkdir(exist_ok=True)
    connection = duck.connect(load(threads=threads), file.parent / "spill")
    header = sources.inspect(file.parent, [CONTRACT])[CONTRACT.dataset]
    source = sources.land(connection, header, folder / "part-0000.parquet")
    origin = f"{duck.constant(source.file)} AS source_file, file_row_number + 1 AS record_number, {duck.constant(source.load_id)} AS load_id"
    return connection, f"(SELECT * EXCLUDE (file_row_number), {origin} FROM {duck.parquet(folder, record_numbers=True)})"


@settings(max_examples=40)
@given(text=st.lists(st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from(["é", "€", "😀", "a long text in one cell"]).map(str.encode)), max_size=5))
def test_text_is_refused_if_and_only_if_it_is_not_utf_8(tmp_path_factory: pytest.TempPathFactory, text: list[bytes]) -> None:
    cell = b"".join(text).translate(None, b'",\r\n\0')
    file = tmp_path_factory.mktemp("landing") / "diary.csv"
    file.write_bytes(b"who,kg\nA,1\n" + cell + b',2\n"' + cell + b'",3\n')
    try:
        cell.decode()
    except UnicodeDecodeError:
        with pytest.raises(InputError, match="is not UTF-8"):
            landed(file)
    else:
        landed(file)[0].close()


def test_a_byte_that_is_not_utf_8_is_refused_in_a_column_that_nobody_asked_for(tmp_path: Path) -> None:
    (tmp_path / "diary.csv").write_bytes(b"who,kg,remark\nA,1,fine\nB,2,caf\xe9\n")

    with pytest.raises(InputError, match="line 3, column 3"):
        landed(tmp_path / "diary.csv")


def written(connection: duckdb.DuckDBPyConnection, select: str | None, file: Path) -> tuple[int, str]:
    """Rows and hash of a SELECT's file, in which each row's number is above the one before."""
    if select is None:
        return 0, ""
    rows = duck.write_parquet(connection, select, file)
    placed = f"SELECT record_number, file_row_number AS place FROM read_parquet('{file}', file_row_number=true)"
    steps = f"SELECT record_number - lag(record_number) OVER (ORDER BY place) AS step FROM ({placed})"
    assert connection.execute(f"SELECT count(*) FROM ({steps}) WHERE step <= 0").fetchall() == [(0,)]
    return rows, hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("bad", [0, 1, 60], ids=["no bad row", "a bad row", "bad rows all over"])
def test_rows_keep_their_order_and_bytes_whatever_the_number_of_threads(tmp_path: Path, bad: int) -> None:
    every, file, found = ROWS // max(bad, 1), tmp_path / "diary.csv", []
    file.write_text("who,kg\n" + "".join(f"S{place % 977},{'x' if bad and place % every == 0 else place * 0.1}\n" for place in range(ROWS)))

    for threads in (1, 2, 2):
        connection, table = landed(file, threads)
        verdict = checks.evaluate(connection, table, CONTRACT)
        good = written(connection, quarantine.good_rows_sql(table, CONTRACT, verdict), tmp_path / "good.parquet")
        aside = written(connection, quarantine.bad_rows_sql(table, CONTRACT, verdict), tmp_path / "bad.parquet")
        found.append((good, aside))
        connection.close()

    assert (found[0][0][0], found[0][1][0]) == (ROWS - bad, bad)
    assert found[0] == found[1] == found[2]


def test_a_constant_is_read_again_as_text(tmp_path: Path) -> None:
    (tmp_path / "it's a diary.csv").write_text("who,kg\nA,1\n")
    connection, table = landed(tmp_path / "it's a diary.csv")

    duck.write_parquet(connection, f"SELECT source_file FROM {table}", tmp_path / "out.parquet")

    assert connection.execute(f"SELECT source_file, typeof(source_file) FROM '{tmp_path}/out.parquet'").fetchall() == [("it's a diary.csv", "VARCHAR")]
    connection.close()
