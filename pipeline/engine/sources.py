"""Input files: finding them, refusing what can't be read as the contract says, and typing their cells.

Everything here happens before a byte of a dataset is written. Messages name file, line and column, never a cell.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine import landing
from pipeline.engine.duck import SQL_TYPES, literal, quoted
from pipeline.errors import InputError
from pipeline.records import Column, Contract, SourceFile
from pipeline.settings import without_folders

if TYPE_CHECKING:
    import duckdb

    from pipeline.engine.fingerprints import Fingerprint, Fingerprints
    from pipeline.engine.landing import Landing

CHUNK = 1 << 22
_HEADER_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A source's file, with the names of its columns in the file's order and those the contract doesn't know."""

    contract: Contract
    path: Path
    columns: tuple[str, ...]
    extra: tuple[str, ...]


def inspect(folder: Path, contracts: Sequence[Contract]) -> dict[str, Header]:
    """Find each source's file and read its header.

    Raises:
        InputError: a folder or file is missing or can't be read, two files fit one source, or a header lacks a column.
    """
    if not folder.is_dir():
        raise InputError(f"there is no input folder {_shown(folder)}", hint="name a folder with --input or PIPELINE_INPUT")
    return {contract.dataset: _header(_find(folder, contract), contract) for contract in contracts}


def _check_encoding(header: Header) -> None:
    """Raise if a byte of the file is not UTF-8, with its place."""
    decoder, size = codecs.getincrementaldecoder("utf-8")(), 0
    with header.path.open("rb") as handle:
        while True:
            chunk = handle.read(CHUNK)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                raise _encoding_error(header.path, header.contract, size - pending + error.start) from error
            if not chunk:
                return
            size += len(chunk)


def land(connection: duckdb.DuckDBPyConnection, header: Header, broken: str, folder: Path, fingerprints: Fingerprints) -> tuple[SourceFile, Landing]:
    """Type the file's cells into Parquet files below `folder`, every record in order; those for which the SQL `broken` holds apart.

    Raises:
        InputError: the file can't be read, is not UTF-8, has no records, a record has too few or too many fields, or somebody wrote
            to the file since the run began.
        OSError: `folder` can't be written.
    """
    fingerprint = _taken_of(header.path, fingerprints)
    _check_unchanged(header.path, fingerprint)
    file = SourceFile(source=header.contract.dataset, file=header.path.name, bytes=fingerprint.bytes, sha256=fingerprint.sha256, rows=0)
    if header.extra:  # DuckDB looks at the encoding too, but only of the columns that it is asked for
        _check_encoding(header)
    try:
        rows = connection.sql(f"SELECT *, {broken} AS {quoted(landing.BROKEN)} FROM ({typed(header)})")
        landed = landing.write(rows, folder, (file.file, file.load_id))
    except Exception as error:
        raise _translated(error, header) from error
    if landed.rows == 0:
        raise InputError(f"{header.path.name}: no records after the header in line 1", hint="is the export complete?", file=header.path.name)
    _check_unchanged(header.path, fingerprint)
    return replace(file, rows=landed.rows), landed


def _taken_of(path: Path, fingerprints: Fingerprints) -> Fingerprint:
    try:
        return fingerprints.of(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _check_unchanged(path: Path, fingerprint: Fingerprint) -> None:
    """Raise if what was read need not be what was hashed."""
    try:
        if fingerprint.still_fits(path):
            return
    except OSError as error:
        raise _unreadable(path, error) from error
    raise InputError(f"{path.name}: somebody wrote to the file after the run began", hint="run again when it is whole", file=path.name)


def _find(folder: Path, contract: Contract) -> Path:
    pattern = contract.pattern or ""
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not found:
        there = ", ".join(sorted(path.name for path in folder.glob("*.csv"))[:5]) or "no CSV file"
        raise InputError(f"{contract.dataset}: no file in {_shown(folder)} fits {pattern}", hint=f"the folder has {there}", source=contract.dataset)
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise InputError(f"{contract.dataset}: {len(found)} files in {_shown(folder)} fit {pattern}: {names}", hint="leave one", source=contract.dataset)
    _check_name(found[0])
    return found[0]


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # DuckDB takes none else
        shown = ascii(str(path) if path.name.isprintable() else path.name)
        raise InputError(f"the name {shown} is not UTF-8", hint="rename the file or folder", file=ascii(path.name)) from error


def _shown(folder: Path) -> str:
    return without_folders(str(folder))  # messages go into the bundle, and the way to a folder may name a person


def _header(path: Path, contract: Contract) -> Header:
    try:
        with path.open("rb") as handle:
            head = handle.read(_HEADER_LIMIT)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not head.removeprefix(codecs.BOM_UTF8).strip():
        raise InputError(f"{path.name}: the file is empty", hint="is the export complete?", file=path.name)
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _encoding_error(path, contract, error.start) from error
    try:
        names = next(csv.reader(io.StringIO(text, newline="")), [])
    except csv.Error as error:  # a cell of more than 128 KiB
        raise InputError(f"{path.name}, line 1: this is no header", hint="is it a CSV file, and a quote closed?", file=path.name, line=1) from error
    columns = tuple(name.strip() or f"column {place}" for place, name in enumerate(names, 1))
    _check_columns(path.name, columns, contract)
    known = {column.name for column in contract.columns}
    return Header(contract=contract, path=path, columns=columns, extra=tuple(name for name in columns if name not in known))


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path.name} can't be read: {error.strerror}", hint="may this user read it?", file=path.name)


def _check_columns(file: str, columns: tuple[str, ...], contract: Contract) -> None:
    wanted = [column.name for column in contract.columns]
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise InputError(
            f"{file}, line 1: column {missing[0]!r} is missing" + (f" (and {len(missing) - 1} more)" if missing[1:] else ""),
            hint=_missing_hint(columns, wanted, missing),
            file=file,
            line=1,
            column=missing[0],
        )
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{file}, line 1: column {twice!r} is there twice", hint="leave one of them", file=file, line=1, column=twice)


def _missing_hint(columns: tuple[str, ...], wanted: list[str], missing: list[str]) -> str:
    if len(columns) == 1:
        for delimiter, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if delimiter in columns[0]:
                return f"the file seems to be separated by {word}; commas are expected"
    others = [name for name in columns if name not in wanted]
    near = next((name for name in others if name.lower().strip(" _") == missing[0].lower()), None)
    if near is None and len(others) == len(missing) == 1:
        near = others[0]
    if near is not None:
        return f"was {missing[0]!r} renamed to {near!r}? the contract expects {', '.join(wanted)}"
    return f"the contract expects {', '.join(wanted)}"


def typed(header: Header) -> str:
    """The SELECT of the file's cells as the contract's types, missing where a cell is empty or no value, in the file's order.

    Beside the contract's columns it has `_bad_cells`: the names of the columns whose text is no finite value of the column's
    type, or NULL. From inside out: text, what DuckDB makes of it, what we take of that.
    """
    known = {column.name: column for column in header.contract.columns}
    # Names of our own for the file's columns, since those of the file may be anything; with a blank, which no contract's has.
    texts = {name: quoted(f"text {index}") for index, name in enumerate(header.columns)}
    others = {name: column for name, column in known.items() if column.type != "string"}
    tried = [f"TRY_CAST({texts[name]} AS {SQL_TYPES[column.type]}) AS {_tried(texts[name])}" for name, column in others.items()]
    taken = [f"{_taken(texts[name], column)} AS {quoted(name)}" for name, column in known.items()]
    return (
        f"SELECT {', '.join(map(quoted, known))}, {_bad_cells({name: texts[name] for name in others})} AS _bad_cells"
        f" FROM (SELECT {', '.join([*taken, *(texts[name] for name in others)])}"
        f" FROM (SELECT {', '.join([*(texts[name] for name in known), *tried])} FROM {_read(header, texts.values())}))"
    )


def _read(header: Header, texts: Iterable[str]) -> str:
    """All cells as text. An empty one is NULL, quoted or not."""
    columns = ", ".join(f"{text}: 'VARCHAR'" for text in texts)
    options = "auto_detect=false, header=true, delim=',', quote='\"', escape='\"', strict_mode=true, nullstr='', allow_quoted_nulls=true"
    return f"read_csv({literal(header.path)}, columns={{{columns}}}, {options})"


def _bad_cells(texts: Mapping[str, str]) -> str:
    """SQL of the names of the cells that have text but no value; NULL when there are none."""
    if not texts:
        return "CAST(NULL AS VARCHAR[])"
    is_bad = {name: f"({quoted(name)} IS NULL AND {text} IS NOT NULL)" for name, text in texts.items()}
    cases = ", ".join(f"CASE WHEN {condition} THEN {literal(name)} END" for name, condition in is_bad.items())
    return f"CASE WHEN {' OR '.join(is_bad.values())} THEN list_filter([{cases}], lambda name: name IS NOT NULL) END"


def _tried(text: str) -> str:
    return quoted(f"tried {text}")


def _taken(text: str, column: Column) -> str:
    """SQL of the cell's value if its text is a finite one of the type, else NULL. DuckDB reads more than we take."""
    value = _tried(text)
    conditions = {
        "number": f"isfinite({value}) AND NOT contains({text}, '_')",  # it reads nan, inf and 1_000
        "integer": f"{value} = TRY_CAST({text} AS DOUBLE) AND NOT contains({text}, '_')",  # it rounds 1.5 and reads 0x10 and 1_000
        # It reads 2023-1-5, epoch, infinity, and cuts off a time of day.
        "date": f"isfinite({value}) AND strlen({text}) = 10 AND CAST({value} AS VARCHAR) = {text}",
        "timestamp": f"isfinite({value})",
    }
    if column.type == "string":
        return text
    return f"CASE WHEN {conditions[column.type]} THEN {value} END" if column.type in conditions else value


def _encoding_error(path: Path, contract: Contract, offset: int) -> InputError:
    """What to say of the byte at `offset`, which is not UTF-8."""
    with path.open("rb") as handle:
        handle.seek(offset)
        byte = handle.read(1)[0]
    line, column = _place_of_byte(path, contract, offset)
    return InputError(
        f"{path.name}, line {line}{column}: byte 0x{byte:02x} is not UTF-8",
        hint="save the file as UTF-8 (iconv -f latin1 -t utf-8, if it is Latin-1)",
        file=path.name,
        line=line,
    )


def _place_of_byte(path: Path, contract: Contract, offset: int) -> tuple[int, str]:
    """The line of a byte, and its column in words: by name where the header has the contract's, by number elsewhere."""
    lines = _lines_up_to(path, offset)
    reader = csv.reader(lines)
    try:
        names = next(reader)
        (record,) = deque(chain([names], reader), maxlen=1)
    except csv.Error:  # no cell is that long: a quote is not closed
        return reader.line_num + sum(1 for _ in lines), ""
    known = {column.name for column in contract.columns}
    name = names[len(record) - 1].strip() if len(record) <= len(names) else ""
    return reader.line_num, f", column {name!r}" if name in known else f", column {len(record)}"


def _lines_up_to(path: Path, offset: int) -> Iterator[str]:
    """The lines up to and with the byte at `offset`, as Latin-1, which has a character for every byte."""
    left = offset + 1
    with path.open("rb") as handle:
        if handle.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            left -= len(codecs.BOM_UTF8)
        else:
            handle.seek(0)
        for line in handle:
            yield line[:left].decode("latin-1")
            left -= len(line)
            if left <= 0:
                return


def _translated(error: Exception, header: Header) -> Exception:
    """DuckDB's error in our words: its own text quotes the record."""
    text, file = str(error), header.path.name
    if "CSV Parser state machine" in text:
        return _line_end_error(header.path)
    line = re.search(r"on Line: (\d+)", text)
    if line is None:
        return error
    try:
        _check_encoding(header)
    except InputError as encoding_error:
        return encoding_error
    number = _line_of_record(header.path, int(line.group(1)))
    fields = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text)
    if fields:
        message = f"{file}, line {number}: {fields.group(2)} fields where the header has {len(header.columns)}"
        return InputError(message, hint="is there a comma or a quote in a cell that is not quoted?", file=file, line=number)
    told = text.partition("Possible")[0].lower()  # what follows is advice, and the options
    reason = "a quote is not closed" if "quote" in told else "the record is too long" if "maximum line size" in told else "the record can't be read as CSV"
    return InputError(f"{file}, line {number}: {reason}", hint="look at the quotes in and before that line", file=file, line=number)


def _line_end_error(path: Path) -> InputError:
    """What to say of a file in which lines end in several ways; ends in quoted cells don't count."""
    first, is_quoted = "", False
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            is_quoted ^= line.count(b'"') % 2 == 1
            end = "" if is_quoted or not line.endswith(b"\n") else "CRLF" if line.endswith(b"\r\n") else "LF"
            first = first or end
            if end and (end != first or b"\r" in line[:-2]):
                text = f"{path.name}, line {number}: the lines don't all end in {first}"
                return InputError(text, hint="give them the same end (dos2unix, or save the file again)", file=path.name, line=number)
    return InputError(f"{path.name}: the file can't be read as CSV", hint="look at its line ends and quotes", file=path.name)


def _line_of_record(path: Path, record: int) -> int:
    """The line on which a record begins, both from 1 and with the header as record 1: a quoted cell may span lines."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle)
        try:
            deque(islice(reader, record - 1), maxlen=0)
        except csv.Error:  # a cell that is too long for this reader: then as if no cell had more than one line
            return record
        return reader.line_num + 1
