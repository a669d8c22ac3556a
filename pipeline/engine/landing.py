"""A source's rows on their way into the lake: numbered while they stream, and written once.

DuckDB reads and types on all its threads, and hands over batches in the file's order; so a record's number is a count here, and
needs no second pass. A row that breaks a rule about one row alone goes to a file of its own, which leaves the other file as
bronze wants it. Batches have a fixed number of records, hence the bytes don't depend on the number of threads.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.duck import PART, parquet

if TYPE_CHECKING:
    import duckdb

BROKEN: Final = "is broken"
_BAD_CELLS: Final = "_bad_cells"
# As many as DuckDB itself writes to a row group.
_BATCH: Final = 122_880


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """Where a source's rows are until they are checked as a whole.

    Attributes:
        good: folder with a Parquet file of the rows that break no rule of their own: the contract's columns, `source_file`, `record_number`, `load_id`.
        aside: folder with one of the others, with `_bad_cells` too.
        rows: records of the source.
        rows_aside: how many of them are in `aside`.
    """

    good: Path
    aside: Path
    rows: int
    rows_aside: int

    @property
    def table(self) -> str:
        """SQL of all rows, with `_bad_cells`; what stands behind FROM."""
        good = f"SELECT *, CAST(NULL AS VARCHAR[]) AS {_BAD_CELLS} FROM {parquet(self.good)}"
        return f"({good})" if not self.rows_aside else f"({good} UNION ALL BY NAME SELECT * FROM {parquet(self.aside)})"

    @property
    def aside_table(self) -> str:
        """SQL of the rows that were set aside."""
        return parquet(self.aside)


def write(rows: duckdb.DuckDBPyRelation, folder: Path, origin: tuple[str, str]) -> Landing:
    """Write the rows to two folders below `folder`, by the column `is broken`.

    `origin` is the source's file name and its load id. Each row gets them as `source_file` and `load_id`, and between
    them its `record_number`, counted from 1.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    good, aside, done, rows_aside = folder / "good", folder / "aside", 0, 0
    reader = rows.to_arrow_reader(_BATCH)
    schema = _schema(reader.schema)
    with _writer(good, schema.remove(schema.get_field_index(_BAD_CELLS))) as to_good, _writer(aside, schema) as to_aside:
        for batch in reader:
            numbered, broken = _numbered(batch, schema, done, origin), batch.column(BROKEN)
            done += batch.num_rows
            if broken.true_count:
                rows_aside += broken.true_count
                to_aside.write_batch(numbered.filter(broken), _BATCH)
                numbered = numbered.filter(pc.invert(broken))
            to_good.write_batch(numbered.drop_columns([_BAD_CELLS]), _BATCH)
    pa.default_memory_pool().release_unused()  # what comes next is DuckDB's, which has a pool of its own
    return Landing(good=good, aside=aside, rows=done, rows_aside=rows_aside)


def _schema(read: Any) -> Any:
    """Of what is read, without the flag, and with where a row comes from."""
    import pyarrow as pa

    kept = [field for field in read if field.name != BROKEN]
    return pa.schema([*kept, ("source_file", _word()), ("record_number", pa.int64()), ("load_id", _word())])


def _word() -> Any:
    """The type of a column that has one value: readers of the file see plain text."""
    import pyarrow as pa

    return pa.dictionary(pa.int8(), pa.string())


def _numbered(batch: Any, schema: Any, done: int, origin: tuple[str, str]) -> Any:
    import pyarrow as pa

    rows = batch.num_rows
    file, load = (_repeated(text, rows) for text in origin)
    kept = batch.drop_columns([BROKEN])
    return pa.RecordBatch.from_arrays([*kept.columns, file, pa.arange(done + 1, done + rows + 1), load], schema=schema)


def _repeated(text: str, rows: int) -> Any:
    """A column of one value, made of its bytes: `pa.array` would import pandas, .1 s and 40 MiB that ingestion has no use for."""
    import pyarrow as pa

    content = text.encode()
    value = pa.StringArray.from_buffers(1, pa.py_buffer(struct.pack("=2i", 0, len(content))), pa.py_buffer(content))
    return pa.DictionaryArray.from_arrays(pa.Array.from_buffers(pa.int8(), rows, [None, pa.py_buffer(bytes(rows))]), value)


def _writer(folder: Path, schema: Any) -> Any:
    """Opens a file in a new folder for batches. Numbers that count up are written as differences; the Arrow schema stays out, which would say ENUM."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    others = [field.name for field in schema if field.name != "record_number"]
    encodings = {"record_number": "DELTA_BINARY_PACKED"}
    return pq.ParquetWriter(folder / PART, schema, compression="zstd", use_dictionary=others, column_encoding=encodings, store_schema=False)
