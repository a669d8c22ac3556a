"""What a step's function sees of a dataset, and `read` for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine.duck import literal, quoted

if TYPE_CHECKING:
    import duckdb
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One version of a table. Rows stay on disk until they are asked for.

    `name` is the dataset's short name (`modeling_dataset`), `rows` its number of rows.
    """

    name: str
    rows: int
    files: Sequence[Path]
    connection: duckdb.DuckDBPyConnection

    def query(self, sql: str) -> pd.DataFrame:
        """The answer to an SQL query in which this table is called by its short name."""
        paths = ", ".join(literal(path) for path in self.files)
        cursor = self.connection.cursor()
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(self.name)} AS SELECT * FROM read_parquet([{paths}])")
        return cursor.execute(sql).df()

    def df(self) -> pd.DataFrame:
        """All rows as a pandas DataFrame: missing numbers are NaN."""
        return self.query(f"SELECT * FROM {quoted(self.name)}")
