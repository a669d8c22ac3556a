"""What ingestion leaves to DuckDB for the sake of speed, and has to hold: encoding, the order of rows, the same bytes."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine import duck, sources
from pipeline.engine.fingerprints import Fingerprints
from pipeline.engine.landing import Landing
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


def landed(file: Path, threads: int | None = None, contract: Contract = CONTRACT) -> tuple[duckdb.DuckDBPyConnection, Landing]:
    """A connection, and the rows on their way."""
    connection = duck.connect(load(threads=threads), file.parent / "spill")
    header = sources.inspect(file.parent, [contract])[contract.dataset]
    broken = checks.broken_alone(connection, f"({sources.typed(header)})", contract, None)
    shutil.rmtree(file.parent / "landing", ignore_errors=True)
    with Fingerprints([file]) as fingerprints:
        return connection, sources.land(connection, header, broken, file.parent / "landing", fingerprints)[1]


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


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def written(connection: duckdb.DuckDBPyConnection, select: str | None, file: Path) -> tuple[int, str]:
    """Rows and hash of a SELECT's file, in which each row's number is above the one before."""
    if select is None:
        return 0, ""
    rows = duck.write_parquet(connection, select, file)
    placed = f"SELECT record_number, file_row_number AS place FROM read_parquet('{file}', file_row_number=true)"
    steps = f"SELECT record_number - lag(record_number) OVER (ORDER BY place) AS step FROM ({placed})"
    assert connection.execute(f"SELECT count(*) FROM ({steps}) WHERE step <= 0").fetchall() == [(0,)]
    return rows, sha256(file)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [0, 1, 60], ids=["no bad row", "a bad row", "bad rows all over"])
def test_rows_keep_their_order_and_bytes_whatever_the_number_of_threads(tmp_path: Path, bad: int) -> None:
    every, file, found = ROWS // max(bad, 1), tmp_path / "diary.csv", []
    file.write_text("who,kg\n" + "".join(f"S{place % 977},{'x' if bad and place % every == 0 else place * 0.1}\n" for place in range(ROWS)))

    for threads in (1, 2, 2):
        connection, landing = landed(file, threads)
        verdict = checks.evaluate(connection, landing.table, CONTRACT)
        good = written(connection, quarantine.good_rows_sql(landing.table, CONTRACT, verdict), tmp_path / "good.parquet")
        aside = written(connection, quarantine.bad_rows_sql(landing.table, CONTRACT, verdict), tmp_path / "bad.parquet")
        found.append((good, aside, sha256(landing.good / duck.PART), sha256(landing.aside / duck.PART)))
        assert (landing.rows, landing.rows_aside) == (ROWS, bad)
        assert difference(connection, str(landing.good / duck.PART), str(tmp_path / "good.parquet")) == 0
        connection.close()

    assert (found[0][0][0], found[0][1][0]) == (ROWS - bad, bad)
    assert found[0] == found[1] == found[2]


def difference(connection: duckdb.DuckDBPyConnection, one: str, other: str) -> int:
    """How many rows only one of two files has, with their place."""
    both = [f"(SELECT *, file_row_number FROM read_parquet('{file}', file_row_number=true))" for file in (one, other)]
    [(rows,)] = connection.execute(f"SELECT count(*) FROM ({both[0]} EXCEPT ALL {both[1]} UNION ALL ({both[1]} EXCEPT ALL {both[0]}))").fetchall()
    return int(rows)


def test_a_file_without_a_good_row_leaves_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "diary.csv").write_text("who,kg\nA,x\nB,y\n")
    connection, landing = landed(tmp_path / "diary.csv")
    columns = ["who", "kg", "source_file", "record_number", "load_id"]
    assert [row[0] for row in connection.execute(f"DESCRIBE FROM '{landing.good}/*.parquet'").fetchall()] == columns
    assert connection.execute(f"FROM '{landing.good}/*.parquet'").fetchall() == []
    assert connection.execute(f"SELECT record_number, _bad_cells FROM {landing.table}").fetchall() == [(1, ["kg"]), (2, ["kg"])]
    connection.close()


def test_what_breaks_a_rule_alone_is_apart_and_what_shares_a_key_is_not(tmp_path: Path) -> None:
    columns = (Column(name="who", type="string", description="x", nullable=False), *CONTRACT.columns[1:])
    (tmp_path / "diary.csv").write_text("who,kg\nA,1\n,2\nB,x\nA,3\n")
    connection, landing = landed(tmp_path / "diary.csv", contract=replace(CONTRACT, columns=columns, key=("who",)))
    assert connection.execute(f"SELECT record_number FROM '{landing.good}/*.parquet'").fetchall() == [(1,), (4,)]
    assert connection.execute(f"SELECT record_number FROM '{landing.aside}/*.parquet'").fetchall() == [(2,), (3,)]
    connection.close()


def test_readers_see_plain_types_whoever_reads(tmp_path: Path) -> None:
    (tmp_path / "it's a diary.csv").write_text("who,kg\nA,1\n")
    connection, landing = landed(tmp_path / "it's a diary.csv")
    assert connection.execute(f"SELECT source_file, typeof(source_file), typeof(load_id) FROM {landing.table}").fetchall() == [
        ("it's a diary.csv", "VARCHAR", "VARCHAR")
    ]
    assert [str(field.type) for field in pq.read_schema(landing.good / duck.PART)] == ["string", "double", "string", "int64", "string"]
    connection.close()


def test_tables_are_made_without_pandas(tmp_path: Path) -> None:
    code = "import sys; from pipeline import api; run = api.run(until='modeling', tracking='off'); print(run.state.value, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "COMPLETED False\n"
