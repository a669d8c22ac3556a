"""What is read as meant, what is refused with file, line and column, and what becomes a bad cell."""

from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine import sources
from pipeline.engine.fingerprints import Fingerprints
from pipeline.errors import InputError
from pipeline.records import Column, Contract

GOOD = "subject_id,date,week,weight_kg\nA,2026-01-05,1,70.5\nB,2026-01-06,2,\n"
ROWS = [("A", "2026-01-05", 1, 70.5, None), ("B", "2026-01-06", 2, None, None)]


def contract(**changes: object) -> Contract:
    types = {"subject_id": "string", "date": "date", "week": "integer", "weight_kg": "number"}
    columns = tuple(Column(name=name, type=kind, description="x") for name, kind in types.items())
    return Contract(**{"dataset": "input/weight", "description": "x", "owner": "x", "pattern": "*tidy*.csv", "columns": columns, **changes})


def landed(folder: Path, content: str | bytes) -> list[tuple]:
    (folder / "a_tidy.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    header = sources.inspect(folder, [contract()])["input/weight"]
    with duckdb.connect() as connection, Fingerprints([header.path]) as fingerprints:
        _, landing = sources.land(connection, header, "_bad_cells IS NOT NULL", folder / "landing", fingerprints)
        return connection.execute(f"SELECT subject_id, date::VARCHAR, week, weight_kg, _bad_cells FROM {landing.table} ORDER BY record_number").fetchall()


def refused(folder: Path, content: str | bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        landed(folder, content)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        "﻿" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.rstrip("\n"),
        '"subject_id","date","week","weight_kg"\n"A","2026-01-05","1","70.5"\n"B","2026-01-06","2",""\n',
        "weight_kg,week,subject_id,date\n70.5,1,A,2026-01-05\n,2,B,2026-01-06\n",
        "subject_id,date,week,weight_kg,comment\nA,2026-01-05,1,70.5,hello\nB,2026-01-06,2,,\n",
        "subject_id, date ,week,weight_kg\nA,2026-01-05,1,70.5\nB,2026-01-06,2,\n",
    ],
    ids=["plain", "bom", "crlf", "no last newline", "quoted", "reordered", "extra column", "spaces in header"],
)
def test_files_that_mean_the_same_are_read_the_same(tmp_path: Path, content: str) -> None:
    assert landed(tmp_path, content) == ROWS


def test_a_quoted_cell_keeps_commas_quotes_and_newlines(tmp_path: Path) -> None:
    rows = landed(tmp_path, 'subject_id,date,week,weight_kg\n"a, ""b""\nc",2026-01-05,1,70\n')
    assert rows == [('a, "b"\nc', "2026-01-05", 1, 70.0, None)]


@pytest.mark.parametrize(("header", "extra"), [("comment", ("comment",)), (",", ("column 5", "column 6")), ('""', ("column 5",))])
def test_extra_columns_are_named_and_those_without_a_name_by_their_place(tmp_path: Path, header: str, extra: tuple[str, ...]) -> None:
    (tmp_path / "a_tidy.csv").write_text(f"subject_id,date,week,weight_kg,{header}\n")
    assert sources.inspect(tmp_path, [contract()])["input/weight"].extra == extra


@pytest.mark.parametrize("text", ["abc", "nan", "NaN", "inf", "-Infinity", "1e999", "1_000", "1,5", "0x10", "12kg"])
def test_text_that_is_no_finite_number_is_a_bad_cell(tmp_path: Path, text: str) -> None:
    assert landed(tmp_path, f'subject_id,date,week,weight_kg\nA,2026-01-05,1,"{text}"\n') == [("A", "2026-01-05", 1, None, ["weight_kg"])]


@pytest.mark.parametrize("text", ["2026-1-5", "05/01/2026", "2026-02-30", "2026-01-05 10:00:00", "infinity", "epoch", "2026-01-05 (BC)", "0000-01-01"])
def test_text_that_is_no_iso_date_is_a_bad_cell(tmp_path: Path, text: str) -> None:
    assert landed(tmp_path, f"subject_id,date,week,weight_kg\nA,{text},1,70\n") == [("A", None, 1, 70.0, ["date"])]


@pytest.mark.parametrize("text", ["1.5", "0x10", "1_0", "one", "9223372036854775808"])
def test_text_that_is_no_integer_is_a_bad_cell(tmp_path: Path, text: str) -> None:
    assert landed(tmp_path, f"subject_id,date,week,weight_kg\nA,2026-01-05,{text},70\n") == [("A", "2026-01-05", None, 70.0, ["week"])]


def test_all_bad_cells_of_a_row_are_named(tmp_path: Path) -> None:
    assert landed(tmp_path, "subject_id,date,week,weight_kg\nA,x,y,z\n") == [("A", None, None, None, ["date", "week", "weight_kg"])]


def test_messages_do_not_say_the_way_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "ann" / "data").mkdir(parents=True)
    for name in ("data", "gone"):
        with pytest.raises(InputError, match=f" …/{name}"):
            sources.inspect(tmp_path / "ann" / name, [contract()])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "a_tidy.csv: the file is empty"),
        (b"subject_id,date,week,weight_kg\n", "no records after the header in line 1"),
        (b"subject_id,date,week\nA,2026-01-05,1\n", "line 1: column 'weight_kg' is missing"),
        (b"subject_id,date,week,weight_kg,week\n", "line 1: column 'week' is there twice"),
        (b"subject_id,date,week,weight_kg\nA,2026-01-05,1,70\nB\xe9,2026-01-05,1,70\n", "line 3, column 'subject_id': byte 0xe9 is not UTF-8"),
        (b'subject_id,date,week,weight_kg\n"A\nB",2026-01-05,1,\xff\n', "line 3, column 'weight_kg': byte 0xff is not UTF-8"),
        (b"\xef\xbb\xbfsubject_id,date,week,weight_kg\n\xe9,2026-01-05,1,70\n", "line 2, column 'subject_id': byte 0xe9 is not UTF-8"),
        (b'subject_id,date,week,weight_kg\n"' + b"A" * 200_000 + b"\n\xff", "line 3: byte 0xff is not UTF-8"),
        (b"subj\xe9ct_id,date,week,weight_kg\n", "line 1, column 1: byte 0xe9 is not UTF-8"),
        (b'subject_id,date,week,weight_kg\n"A\nB",2026-01-05,1,70\nC,2026-01-05\n', "line 4: 2 fields where the header has 4"),
        (b"subject_id,date,week,weight_kg\nC,2026-01-05,1,70,71\n", "line 2: 5 fields where the header has 4"),
        (b'subject_id,date,week,weight_kg\nC,2026-01-05,1,"70\n', "line 2: a quote is not closed"),
        (b"subject_id,date,week,weight_kg\nC,2026-01-05,1,70\r\n", "line 2: the lines don't all end in LF"),
        (b'subject_id,date,week,weight_kg\r\n"C\n",2026-01-05,1,70\r\nD,2026-01-05,1,70\n', "line 4: the lines don't all end in CRLF"),
        (b"subject_id,date,week,weight_kg\nC,2026-01-05,1,70\rD,2026-01-05,1,70\n", "line 2: the lines don't all end in LF"),
        (b"subject_id,date,week,weight_kg\n" + b"C" * 3_000_000 + b",2026-01-05,1,70\n", "line 2: the record is too long"),
        (b"\xef\xbb\xbf\r\n", "a_tidy.csv: the file is empty"),
        (b'"' + b"x" * 200_000 + b"\n", "line 1: this is no header"),
        (b"subject_id,date,week,weight_kg\n" + b"C" * 200_000 + b",2026-01-05,1,70\nD,2026-01-05\n", "line 3: 2 fields where the header has 4"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    error = refused(tmp_path, content)
    assert words in error.message
    assert error.message.startswith("a_tidy.csv")


def test_a_message_does_not_quote_the_record(tmp_path: Path) -> None:
    error = refused(tmp_path, "subject_id,date,week,weight_kg\nSECRET-PERSON,2026-01-05\n")
    assert "SECRET" not in error.message + error.hint


def test_semicolons_are_recognised(tmp_path: Path) -> None:
    assert "semicolons" in refused(tmp_path, GOOD.replace(",", ";")).hint


def test_a_renamed_column_is_guessed(tmp_path: Path) -> None:
    assert "'weight_kg' renamed to 'Weight_KG'" in refused(tmp_path, GOOD.replace("weight_kg", "Weight_KG")).hint


def test_a_missing_folder_no_file_and_two_files_are_refused(tmp_path: Path) -> None:
    for prepare, words in [
        (lambda: None, "no file in"),
        (lambda: [(tmp_path / f"{n}_tidy.csv").write_text(GOOD) for n in "ab"], "2 files in"),
    ]:
        prepare()
        with pytest.raises(InputError, match=words):
            sources.inspect(tmp_path, [contract()])
    with pytest.raises(InputError, match="there is no input folder"):
        sources.inspect(tmp_path / "nowhere", [contract()])


def test_the_position_of_a_bad_byte_holds_over_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK", 7)
    body = "subject_id,date,week,weight_kg\n" + "ä,2026-01-05,1,70\n" * 20
    assert "line 22, column 'subject_id': byte 0xff" in refused(tmp_path, body.encode() + b"\xff").message


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_any_text_survives_reading(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    cell = text.replace('"', '""')
    rows = landed(folder, f'subject_id,date,week,weight_kg\n"{cell}",2026-01-05,1,70\n')
    assert rows == [(text or None, "2026-01-05", 1, 70.0, None)]


def test_a_name_that_is_no_unicode_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not UTF-8") as raised:
        sources._check_name(tmp_path / "caf\udce9" / "a.csv")
    assert "rename" in raised.value.hint
    str(raised.value).encode()
