"""Hashes that are taken while other things go on: they are right, they are of what was read, and nobody waits for them in vain."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from pipeline.engine import sources
from pipeline.engine.fingerprints import CHUNK, Fingerprints
from pipeline.errors import InputError
from pipeline.records import Column, Contract

CONTRACT = Contract(dataset="input/weight", description="x", owner="x", pattern="*.csv", columns=(Column(name="kg", type="number", description="x"),))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_it_is_the_files_size_and_sha256(tmp_path: Path, size: int) -> None:
    others, file = tmp_path / "first", tmp_path / "second"
    others.write_bytes(b"another")
    file.write_bytes(os.urandom(size))
    with Fingerprints([others, file]) as fingerprints:
        taken = fingerprints.of(file)
        assert (taken.bytes, taken.sha256) == (size, hashlib.sha256(file.read_bytes()).hexdigest())
        assert taken.still_fits(file)
        assert not taken.still_fits(others)


def test_a_file_that_can_not_be_read_is_told_of_where_it_is_asked_for_and_keeps_no_other_waiting(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    with Fingerprints([tmp_path / "gone", there]) as fingerprints:
        assert fingerprints.of(there).bytes == 0
        with pytest.raises(FileNotFoundError):
            fingerprints.of(tmp_path / "gone")


def test_who_leaves_does_not_wait_until_all_is_hashed(tmp_path: Path) -> None:
    file = tmp_path / "huge"
    with file.open("wb") as handle:
        handle.truncate(1 << 40)  # half an hour of zeros, without a byte on the disk
    with Fingerprints([file]) as fingerprints:
        pass
    fingerprints._thread.join(timeout=60)
    assert not fingerprints._thread.is_alive()


def append(file: Path) -> None:
    with file.open("a") as handle:
        handle.write("71\n")


def replace(file: Path) -> None:
    other = file.with_suffix(".new")
    other.write_bytes(file.read_bytes().replace(b"70", b"71"))
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)


@pytest.mark.parametrize(("meddle", "words"), [(append, "somebody wrote to the file"), (replace, "somebody wrote to the file"), (Path.unlink, "No such file")])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, meddle: Callable[[Path], None], words: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text("kg\n70\n")
    header = sources.inspect(tmp_path, [CONTRACT])["input/weight"]
    with duckdb.connect() as connection, Fingerprints([file]) as fingerprints:
        fingerprints.of(file)
        meddle(file)
        with pytest.raises(InputError, match=words) as caught:
            sources.land(connection, header, "false", tmp_path / "landing", fingerprints)
    assert caught.value.hint


def test_a_file_that_changes_after_its_last_row_was_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.csv"
    file.write_text("kg\n70\n")
    header = sources.inspect(tmp_path, [CONTRACT])["input/weight"]
    write = sources.landing.write
    monkeypatch.setattr(sources.landing, "write", lambda *words: (write(*words), append(file))[0])
    with duckdb.connect() as connection, Fingerprints([file]) as fingerprints, pytest.raises(InputError, match="somebody wrote to the file"):
        sources.land(connection, header, "false", tmp_path / "landing", fingerprints)
