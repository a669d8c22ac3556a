"""DuckDB, as this project uses it: bounded memory, spills beside the lake, nothing downloaded, the same bytes each time."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

    from pipeline.settings import Settings

# Extensions are never fetched: what is not built in is not used.
NOTHING_FETCHED = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
# Types of contracts as DuckDB's.
SQL_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "date": "DATE", "timestamp": "TIMESTAMP"}

# The one file of a table's folder.
PART = "part-0000.parquet"

# The level is the one of what is ingested: 2 % larger than DuckDB's own, and quicker. Few measures have their use of a dictionary of
# more than 8,000 values; looking for one of three times as many takes a tenth of the time of writing, and saves 2 % of the file.
_PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, DICTIONARY_SIZE_LIMIT 8000"

# DuckDB says in words what the operating system said in numbers; the last is a spill that found no room.
_DISK_ERRORS = {
    "No space left": errno.ENOSPC,
    "File too large": errno.EFBIG,
    "quota exceeded": errno.EDQUOT,
    "Input/output error": errno.EIO,
    "failed to offload data block": errno.ENOSPC,
}


def connect(settings: Settings, spill: Path) -> duckdb.DuckDBPyConnection:
    """A database in memory that spills to `spill`."""
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": settings.memory_limit,
        "temp_directory": str(spill),
        **NOTHING_FETCHED,
        "preserve_insertion_order": True,
    }
    if settings.threads is not None:
        config["threads"] = settings.threads
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET TimeZone = 'UTC'")  # the only one that is the same on every machine
    connection.execute("SET enable_progress_bar = false")  # the terminal is the log's
    # How far reading may be ahead of who takes the rows: all threads go on while a batch is written.
    connection.execute("SET streaming_buffer_size = '64MB'")
    return connection


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """`text` as an SQL string."""
    return "'" + str(text).replace("'", "''") + "'"


def parquet(folder: Path) -> str:
    """SQL that reads the Parquet files of a folder."""
    # The folder is the user's, and may have a glob's characters in its name.
    escaped = re.sub(r"([*?[])", r"[\1]", str(folder))
    return f"read_parquet({literal(f'{escaped}/*.parquet')})"


def write_parquet(connection: duckdb.DuckDBPyConnection, select: str, target: Path) -> int:
    """Write a SELECT's rows, in its order, and return how many."""
    target.parent.mkdir(parents=True, exist_ok=True)
    row = connection.execute(f"COPY ({select}) TO {literal(target)} ({_PARQUET})").fetchone()
    assert row is not None  # COPY always answers with its count
    return int(row[0])


def disk_error(error: Exception) -> OSError | None:
    """The operating system's error behind one of DuckDB, when a disk refused a write; None when it is about anything else."""
    import duckdb

    if not isinstance(error, duckdb.IOException | duckdb.OutOfMemoryException):
        return None
    number = next((number for words, number in _DISK_ERRORS.items() if words.lower() in str(error).lower()), None)
    return OSError(number, os.strerror(number)) if number else None


def is_memory_error(error: Exception) -> bool:
    """Whether DuckDB's limit of memory was too low."""
    import duckdb

    return isinstance(error, duckdb.OutOfMemoryException)
