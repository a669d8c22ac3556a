"""Addresses as DuckDB takes them."""

from pathlib import Path

import duckdb
import pytest

from pipeline.engine import duck


@pytest.mark.parametrize("name", ["plain", "a b", "it's", 'a"b', "[x]", "a*b", "what?", "ü", "[[*]?]"])
def test_a_folder_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    with duckdb.connect(":memory:") as connection:
        duck.write_parquet(connection, "SELECT 1 AS x", tmp_path / name / "part-0000.parquet")
        assert connection.execute(f"SELECT x FROM {duck.parquet(tmp_path / name)}").fetchall() == [(1,)]
