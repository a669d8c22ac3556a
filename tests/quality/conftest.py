"""A database in memory for each test."""

from collections.abc import Iterator

import duckdb
import pytest


@pytest.fixture
def db() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:", config={"threads": 2}) as connection:
        yield connection
