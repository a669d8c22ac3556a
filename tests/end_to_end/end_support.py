"""What the end-to-end tests share: the sample's files as rows that can be changed, and runs of the study in this process."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline import api
from pipeline.records import Run
from pipeline.study import PIPELINE

assert PIPELINE.sample is not None  # the study ships one
SAMPLE = PIPELINE.sample
FILES = {"weight": "Sample_tidy.csv", "nutrition": "Sample_nutrition_rows.csv", "fiber": "Sample_fiber_daily.csv"}
# The step that reads each source.
STEPS = {"weight": "weight", "nutrition": "food", "fiber": "fiber"}

Rows = list[list[str]]


def read(source: str, folder: Path = SAMPLE) -> Rows:
    """The header and the records of an input file."""
    with (folder / FILES[source]).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def write(folder: Path, source: str, rows: Sequence[Sequence[str]], **options: Any) -> Path:
    """An input file of these rows; `options` are those of `csv.writer`."""
    path = folder / FILES[source]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, **{"lineterminator": "\n", **options}).writerows(rows)
    return path


def inputs(folder: Path, **changed: Sequence[Sequence[str]]) -> Path:
    """A folder with the sample's files, those of the named sources with other rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in FILES.items():
        if source in changed:
            write(folder, source, changed[source])
        else:
            (folder / name).write_bytes((SAMPLE / name).read_bytes())
    return folder


def go(**options: Any) -> Run:
    """Run the study in the working folder, without MLflow."""
    return api.run(**{"tracking": "off", "log_level": "error", **options})


def lake_now() -> dict[str, tuple[str, int]]:
    """The sha256 and the time of the last change of every file of the lake; the lock is none of its data."""
    files = (path for path in sorted(Path("lake").rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def manifest(run: Run) -> dict[str, Any]:
    """The run's manifest as it is on disk."""
    loaded: dict[str, Any] = json.loads((run.bundle / "manifest.json").read_text("utf-8"))
    return loaded


def by_subject(keep: Callable[[str], bool], source: str) -> Rows:
    """The sample's rows of some subjects."""
    header, *records = read(source)
    return [header, *(row for row in records if keep(row[0]))]


def root_without_its_rights() -> tuple[str, ...] | None:
    """What to put before a command so that permissions hold for it: nothing, or, for root, a way to give up its rights; None when there is none."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if shutil.which("setpriv") else None
