"""Addresses as DuckDB takes them, and that it fetches nothing."""

import socket
from pathlib import Path

import duckdb
import pytest

from pipeline.engine import duck
from pipeline.settings import load


@pytest.mark.parametrize("name", ["plain", "a b", "it's", 'a"b', "[x]", "a*b", "what?", "ü", "[[*]?]"])
def test_a_folder_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    with duckdb.connect(":memory:") as connection:
        duck.write_parquet(connection, "SELECT 1 AS x", tmp_path / name / "part-0000.parquet")
        assert connection.execute(f"SELECT x FROM {duck.parquet(tmp_path / name)}").fetchall() == [(1,)]


@pytest.mark.parametrize("query", ["FROM 's3://bucket/x.parquet'", "FROM read_parquet('https://127.0.0.1/x.parquet')", "FROM sqlite_scan('x.db', 'x')"])
def test_no_extension_is_fetched(tmp_path: Path, query: str) -> None:
    with socket.socket() as listening, duck.connect(load({}), tmp_path / "spill") as connection:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.3)
        connection.execute(f"SET autoinstall_extension_repository = 'http://127.0.0.1:{listening.getsockname()[1]}'")
        connection.execute(f"SET extension_directory = {duck.literal(tmp_path / 'extensions')}")
        with pytest.raises(duckdb.Error):
            connection.execute(query)
        with pytest.raises(TimeoutError):
            listening.accept()
    assert not (tmp_path / "extensions").exists()
