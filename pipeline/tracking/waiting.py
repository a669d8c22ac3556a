"""Runs that the store did not take in time. Their records wait in their bundles, for the worker of a later run or for `pipeline replay`."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import cast

from pipeline.tracking.record import RunRecord

RECORD = ".experiments.json"
FIGURES = ".experiments"


def keep(bundle: Path, record: RunRecord, lake: Path, *, copy: bool = False) -> None:
    """Write a record down, its figures as paths in the lake: what stands in a bundle names no folder of this machine.

    With `copy` they are copied into the bundle: of a lake on S3, `lake` is where its files are until the run ends.

    Raises:
        OSError: the bundle can't be written.
    """
    figures = [_copied(Path(figure), bundle) if copy else os.path.relpath(figure, lake) for figure in record["figures"]]
    temporary = bundle / f"{RECORD}.new"
    temporary.write_text(json.dumps({**record, "figures": figures}, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.chmod(0o644)
    temporary.replace(bundle / RECORD)


def _copied(figure: Path, bundle: Path) -> str:
    copy = bundle / FIGURES / figure.name
    if figure.resolve() != copy.resolve():
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(figure, copy)
    return f"{FIGURES}/{figure.name}"


def forget(bundle: Path) -> None:
    """Take the record away, if there is one: the store has it, or will never take it."""
    with suppress(OSError):
        (bundle / RECORD).unlink(missing_ok=True)
    shutil.rmtree(bundle / FIGURES, ignore_errors=True)


def records(runs: Path) -> list[Path]:
    """The files of all records that wait, oldest run first."""
    paths = [*runs.glob(f"*/{RECORD}"), *runs.glob(f"archive/*/{RECORD}")]
    return sorted(paths, key=lambda path: path.parent.name)


def waiting(runs: Path, lake: Path, most: int | None = None) -> list[tuple[Path, RunRecord]]:
    """The bundles with a record that waits, oldest run first. Figures that the lake does not have any more are left out."""
    found: list[tuple[Path, RunRecord]] = []
    for path in records(runs):
        if len(found) == most:
            break
        # Another run may have delivered it since; one that is no JSON was cut off by a crash.
        with suppress(OSError, ValueError, RecursionError):
            if (record := _record(json.loads(path.read_bytes()), (path.parent / FIGURES, lake))) is not None:
                found.append((path.parent, record))
    return found


def _record(told: object, places: tuple[Path, Path]) -> RunRecord | None:
    """A record with the bundle's or the lake's own figures; None for what is none. A bundle may be somebody else's: no other file of this machine is sent."""
    if not isinstance(told, dict) or not RunRecord.__required_keys__ <= told.keys() or not isinstance(told["figures"], list):
        return None
    figures = [_figure(str(figure), *(place.resolve() for place in places)) for figure in told["figures"]]
    return cast(RunRecord, {**told, "figures": [str(figure) for figure in figures if figure is not None]})


def _figure(name: str, copies: Path, lake: Path) -> Path | None:
    place = copies if name.startswith(f"{FIGURES}/") else lake
    figure = (place / name.removeprefix(f"{FIGURES}/")).resolve()
    return figure if figure.is_relative_to(place) and figure.is_file() else None
