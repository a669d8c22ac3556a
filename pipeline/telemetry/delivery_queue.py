"""Which runs' lineage waits, in which order it goes, and what of it may be sent."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import RunNotFoundError
from pipeline.lake_address import dataset_place
from pipeline.records import State
from pipeline.settings import variable
from pipeline.telemetry import bundle, delivery_entry
from pipeline.telemetry.delivery_entry import Delivery, Entry
from pipeline.telemetry.lineage import FILE
from pipeline.telemetry.lineage_datasets import is_dataset_namespace
from pipeline.telemetry.lineage_events import TERMINAL, clean

AGAIN = "older runs came after it, so it is sent once more"
# How many of the newest runs are looked at however little time there is.
NEWEST = 20

_Job = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits, in the order in which it has to be sent, and the ids of the runs that don't."""

    folders: tuple[Path, ...]
    settled: frozenset[str]


def waiting(runs: Path, only: Collection[str] | None = None, settled: Collection[str] = (), until: float = math.inf) -> list[Path]:
    """The folders of the runs whose lineage waits, newest first.

    Runs that are going on, and dead ones that nobody has closed yet, are left out: their events are not all there. So are
    bundles in which this user can't note what was sent.

    Args:
        runs: the folder with the bundles.
        only: leave out runs with other ids.
        settled: ids of runs that are known not to wait, which spares looking.
        until: when to stop looking, by `time.monotonic()`: thousands of bundles take seconds.
    """
    return _sorted_out(runs, only, settled, until)[0]


def queue(runs: Path, only: Collection[str] | None = None, until: float = math.inf) -> Queue:
    """What waits, oldest first; of what is found until a moment of `time.monotonic()`, newest first.

    Where old runs go behind newer ones that were delivered before, a server would show the old ones as the current state. So the
    newest of those is noted down to be sent once more, and so are the newest in which the steps completed that it did not get to.
    """
    new, settled = _sorted_out(runs, only, (), until)
    again = [folder for folder in _once_more(new, settled) if _note_again(folder)]
    return Queue(tuple(sorted([*new, *again], key=lambda folder: folder.name)), frozenset(folder.name for folder in settled))


def _sorted_out(runs: Path, only: Collection[str] | None, known: Collection[str], until: float) -> tuple[list[Path], list[Path]]:
    """What waits, and what was sent, both newest first."""
    new, settled = [], []
    for place, folder in enumerate(bundle.folders(runs)):
        if place >= NEWEST and time.monotonic() > until:
            break
        if folder.name in known:
            continue
        entry = delivery_entry.read(folder)
        if entry is None or entry.state is Delivery.PENDING:
            if (only is None or folder.name in only) and _may_be_sent(folder):
                new.append(folder)
        elif entry.state is not Delivery.OFF:
            settled.append(folder)
    return new, settled


def _may_be_sent(folder: Path) -> bool:
    if not (folder / FILE).exists() or not os.access(folder, os.W_OK):
        return False
    found = _told(folder)
    return found is not None and found.is_finished


@dataclass(frozen=True, slots=True)
class _Told:
    """What a manifest says that decides what has to be sent: whose job it was, in which lake, and which steps completed."""

    job: _Job
    lake: str
    completed: frozenset[str]
    is_finished: bool


def _told(folder: Path) -> _Told | None:
    try:
        found = bundle.read(folder)
        record = found.manifest
        return _Told(
            job=(str(record["settings"].get(variable("openlineage_namespace"), "default")), found.pipeline),
            lake=" ".join(dataset_place(str(record["lake"]["address"]), str(record["lake"]["name"]), "")),
            completed=frozenset(str(step["name"]) for step in record["steps"] if step["state"] == State.COMPLETED.value),
            is_finished=found.is_finished,
        )
    except (RunNotFoundError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return None  # somebody's bundle, whatever is wrong with it, must not keep the others from going


def _note_again(folder: Path) -> bool:
    """Note it before anything older is sent: whoever is killed then leaves it to the next."""
    entry = delivery_entry.read(folder) or Entry(state=Delivery.PENDING)
    try:
        delivery_entry.write(folder, replace(entry, state=Delivery.PENDING, events=0, detail=AGAIN, aside=()))
    except OSError:
        return False
    return True


def _once_more(new: Sequence[Path], settled: Sequence[Path]) -> Iterator[Path]:
    """What has to be sent again; both lists are newest first."""
    if not new or not settled or settled[0].name < new[-1].name:
        return
    oldest = {found.job: folder.name for folder in new if (found := _told(folder))}
    settled_ones, completed = set(settled), dict[tuple[_Job, str], frozenset[str]]()
    for folder in sorted([*new, *settled], key=lambda folder: folder.name, reverse=True):
        if folder.name < min(oldest.values(), default="~"):
            return
        found = _told(folder)
        if found is None or folder.name < oldest.get(found.job, "~"):
            continue
        # In each lake: the datasets of another one are others.
        place = (found.job, found.lake)
        known = completed.get(place)
        if folder in settled_ones and (known is None or found.completed - known):
            yield folder
        completed[place] = found.completed | (known or frozenset())


# ---------------------------------------------------------------------------------------------- events


def whole_events(folder: Path) -> list[bytes]:
    """The lines of a run's lineage.

    Raises:
        ValueError: it does not end with the run's own end, so that the run would be shown as running for ever.
        OSError: it can't be read.
    """
    lines = (folder / FILE).read_bytes().split(b"\n")
    if lines.pop() or not lines or not _ends(lines[-1], folder.name):
        raise ValueError(f"{FILE} does not tell the run's end")
    return lines


def _ends(line: bytes, run_id: str) -> bool:
    try:
        event = json.loads(line)
        return bool(event["run"]["runId"] == run_id and event["eventType"] in TERMINAL)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def sendable(line: bytes) -> bytes:
    """An event as it may be sent: without NUL, NaN and infinities, over which Marquez fails each time that they come.

    Raises:
        ValueError: it is no event, or one that would do the server lasting harm; the message says why.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    tidy = clean(event)
    name = _at(tidy, "job", "name")
    if not isinstance(name, str) or not name:
        raise ValueError("its job has no name")
    for namespace in _dataset_namespaces(tidy):
        if not isinstance(namespace, str) or not is_dataset_namespace(namespace):
            raise ValueError("the namespace of a dataset has a sign that would break the server's lists for good")
    return line if tidy == event else json.dumps(tidy, ensure_ascii=False, allow_nan=False).encode()


def _dataset_namespaces(event: Any) -> list[Any]:
    lists = [_at(event, key) for key in ("inputs", "outputs")]
    return [_at(dataset, "namespace") for each in lists if isinstance(each, list) for dataset in each]


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
