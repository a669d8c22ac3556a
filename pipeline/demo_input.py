"""The input of the demo's runs: generated once, cut at each run's day, and on some days spoilt.

It knows a pipeline by its sources' contracts only, so it serves any pipeline that generates input with dates in it.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.records import Contract, Pipeline, StepKind

SUBJECTS = 40
SEED = 7
# What the input holds on the first day, and how long it can go on growing before it is made anew.
HISTORY = timedelta(weeks=10)
FUTURE = timedelta(weeks=10)
# What stands in a cell that has to be a number, and in how many rows: as a share of what the contract allows.
_NO_NUMBER = "n/a"
_SOME, _TOO_MANY = 0.4, 3.0
_ALLOWED_AT_LEAST = 0.02


class Trouble(StrEnum):
    """What is wrong with a day's input, and what becomes of the run."""

    NONE = "nothing"
    SOME_BAD_ROWS = "some bad rows"
    MISSING_COLUMN = "a column is missing"
    TOO_MANY_BAD_ROWS = "too many bad rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One source's file: its contract, its name, and its cells as text."""

    contract: Contract
    name: str
    header: list[str]
    rows: list[list[str]]

    @property
    def date_place(self) -> int:
        """Where in a row the date stands by which it is cut."""
        return self.header.index(self.contract.as_of_column or "")

    def dates(self) -> list[str]:
        """The rows' dates; none for a source that has none."""
        return [row[self.date_place] for row in self.rows] if self.contract.as_of_column else []


def collect(pipeline: Pipeline, data: Path, first: date, last: date) -> None:
    """Generate what the exports of all days from `first` to `last` are cut from; input that is there and reaches far enough stays.

    Raises:
        UsageError: the pipeline generates no input, or none of its sources has dates.
    """
    if data.is_dir() and date.fromisoformat(max(_dates(pipeline, data))) >= last:
        return
    if pipeline.generate is None:
        raise UsageError(f"pipeline {pipeline.name} makes no input files", hint="give pipeline.define(…) a function as `generate`")
    # Beside its place until it is whole: who is stopped in between leaves no input with dates of two kinds.
    unfinished = data.with_name(f"{data.name}.new")
    for old in (data, unfinished):
        shutil.rmtree(old, ignore_errors=True)
    pipeline.generate(unfinished, subjects=SUBJECTS, weeks=(last - first + HISTORY + FUTURE) // timedelta(weeks=1), seed=SEED)
    later = first - HISTORY - date.fromisoformat(min(_dates(pipeline, unfinished)))
    for source in _read(pipeline, unfinished):
        for row in source.rows if source.contract.as_of_column else ():
            row[source.date_place] = (date.fromisoformat(row[source.date_place]) + later).isoformat()
        _write(unfinished, source)
    unfinished.rename(data)


def export(pipeline: Pipeline, data: Path, out: Path, day: date, trouble: Trouble) -> None:
    """Write the input files of a day to `out`, which is made anew: what had been entered by then, and what is wrong with it."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    sources = _read(pipeline, data)
    # The first source has what a run gets over, the last what it does not.
    spoilt = sources[0 if trouble is Trouble.SOME_BAD_ROWS else -1]
    for source in sources:
        if source.contract.as_of_column:
            source.rows[:] = [row for row in source.rows if row[source.date_place] <= day.isoformat()]
        if source is spoilt:
            _spoil(source, trouble)
        _write(out, source)


def _spoil(source: _Source, trouble: Trouble) -> None:
    place = next(source.header.index(column.name) for column in reversed(source.contract.columns) if column.type == "number")
    if trouble is Trouble.MISSING_COLUMN:
        for row in (source.header, *source.rows):
            del row[place]
    elif trouble is not Trouble.NONE:
        share = max(source.contract.max_quarantined_share, _ALLOWED_AT_LEAST) * (_SOME if trouble is Trouble.SOME_BAD_ROWS else _TOO_MANY)
        for row in source.rows[:: max(1, round(1 / share))]:
            row[place] = _NO_NUMBER


def _dates(pipeline: Pipeline, folder: Path) -> list[str]:
    dates = [text for source in _read(pipeline, folder) for text in source.dates()]
    if not dates:
        raise UsageError(f"no source of pipeline {pipeline.name} has dates to cut it by", hint="name the `as_of_column` in a source's contract")
    return dates


def _read(pipeline: Pipeline, folder: Path) -> list[_Source]:
    contracts = [pipeline.contracts[step.inputs[0]] for step in pipeline.steps if step.kind is StepKind.INGEST]
    return [_read_one(next(folder.glob(contract.pattern or "")), contract) for contract in contracts]


def _read_one(path: Path, contract: Contract) -> _Source:
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return _Source(contract=contract, name=path.name, header=header, rows=rows)


def _write(folder: Path, source: _Source) -> None:
    with (folder / source.name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([source.header, *source.rows])
