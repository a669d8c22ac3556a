"""Which runs' lineage waits, in which order it goes, and what of it may be sent."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import RunNotFoundError
from pipeline.records import State
from pipeline.settings import variable
from pipeline.telemetry import bundle, delivery_entry
from pipeline.telemetry.bundle import Bundle
from pipeline.telemetry.delivery_entry import Delivery, Entry
from pipeline.telemetry.lineage import FILE
from pipeline.telemetry.lineage_datasets import is_dataset_namespace
from pipeline.telemetry.lineage_events import TERMINAL, clean

AGAIN = "older runs came after it, so it is sent once more"

_Job = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits, in the order in which it has to be sent, and the ids of the runs that don't."""

    folders: tuple[Path, ...]
    settled: frozenset[str]


def waiting(runs: Path, only: Collection[str] | None = None, settled: Collection[str] = ()) -> list[Path]:
    """The folders of the runs whose lineage waits, newest first.

    Runs that are going on, and dead ones that nobody has closed yet, are left out: their events are not all there. So are
    bundles in which this user can't note what was sent.

    Args:
        runs: the folder with the bundles.
        only: leave out runs with other ids.
        settled: ids of runs that are known not to wait, which spares looking.
    """
    return _sorted_out(runs, only, settled)[0]


def queue(runs: Path, only: Collection[str] | None = None) -> Queue:
    """What waits, oldest first.

    Where old runs go behind newer ones that were delivered before, a server would show the old ones as the current state. So the
    newest of those is noted down to be sent once more, and so are the newest in which the steps completed that it did not get to.
    """
    new, settled = _sorted_out(runs, only)
    again = [folder for folder in _once_more(new, settled) if _note_again(folder)]
    return Queue(tuple(sorted([*new, *again], key=lambda folder: folder.name)), frozenset(folder.name for folder in settled))


def _sorted_out(runs: Path, only: Collection[str] | None, known: Collection[str] = ()) -> tuple[list[Path], list[Path]]:
    """What waits, and what was sent, both newest first."""
    new, settled = [], []
    for folder in bundle.folders(runs):
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
    found = _read(folder)
    return found is not None and found.is_finished


def _read(folder: Path) -> Bundle | None:
    try:
        return bundle.read(folder)
    except RunNotFoundError:
        return None


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
    oldest = {job(found): folder.name for folder in new if (found := _read(folder))}
    settled_ones, completed = set(settled), dict[_Job, set[str]]()
    for folder in sorted([*new, *settled], key=lambda folder: folder.name, reverse=True):
        if folder.name < min(oldest.values()):
            return
        found = _read(folder)
        if found is None or folder.name < oldest.get(job(found), "~"):
            continue
        steps, known = _completed(found), completed.get(job(found))
        if folder in settled_ones and (known is None or steps - known):
            yield folder
        completed[job(found)] = steps | (known or set())


def job(found: Bundle) -> _Job:
    """The namespace and name of the pipeline's job."""
    return str(found.manifest.get("settings", {}).get(variable("openlineage_namespace"), "default")), found.pipeline


def _completed(found: Bundle) -> set[str]:
    return {str(step["name"]) for step in found.manifest.get("steps", ()) if step.get("state") == State.COMPLETED.value}


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
