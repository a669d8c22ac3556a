"""The folder that a run leaves: making it, writing its JSON, knowing whether its run is alive, and finding it again.

A bundle is `runs/<run id>/`, old ones `runs/archive/<run id>/`; run ids are UUIDv7, so names sort by start. While a run is
alive it holds a lock on `run.lock` in its bundle, which the kernel lets go when the process dies, however it dies. So
`RUNNING` in a manifest without a lock means LOST: a killed run is never shown as running.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from pipeline import names
from pipeline.errors import LakeError, RunNotFoundError
from pipeline.records import Run, State
from pipeline.telemetry import identity, manifest, privacy

MANIFEST = "manifest.json"
CHECKS = "checks.json"
TRACES = "traces.jsonl"
METRICS = "metrics.jsonl"
LOGS = "logs.jsonl"
LOCK = "run.lock"
RESERVE = ".reserve"
# Twice what the manifest and the checks of the study take, as the old one stands until the new one is whole.
RESERVE_BYTES = 512 * 1024
ARCHIVE = "archive"
SHOWN = 5

_log = logging.getLogger(__name__)


# ---------------------------------------------------------------------------------------------- writing


def create(runs: Path, run_id: uuid.UUID) -> Path:
    """Make the folder of a run, readable by every user whatever the umask, since a collector runs under another one.

    Raises:
        LakeError: the folder can't be made.
    """
    path = runs / str(run_id)
    try:
        if not runs.is_dir():
            runs.mkdir(parents=True, exist_ok=True)
            runs.chmod(0o755)
        path.mkdir()
        path.chmod(0o755)
    except OSError as error:
        raise LakeError(f"a run's folder can't be made in {runs}: {error.strerror}", hint="set PIPELINE_RUNS to a folder that can be written") from error
    return path


def reserve(path: Path) -> None:
    """Take some room for the run's last words, which say how it ended, while the disk still has it; `release` gives it back."""
    # A disk that has no room now has none to take.
    with suppress(OSError), (path / RESERVE).open("wb") as file:
        file.write(bytes(RESERVE_BYTES))


def release(path: Path) -> None:
    """Give the room for the last words back, to write them."""
    with suppress(OSError):
        (path / RESERVE).unlink(missing_ok=True)


def open_for_append(path: Path) -> IO[str]:
    """A text file to append lines to, mode 0644 whatever the umask; what is no Unicode (a file's name may be none) becomes `?`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.fchmod(descriptor, 0o644)
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="replace", newline="\n")


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file at once: a reader sees the old one or the new one, also after a crash.

    Numbers that JSON does not have (NaN, infinities) become null.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=1, sort_keys=False) + "\n"
    # The name does not end in .json or .jsonl, so that nobody who looks for those reads half a file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{identity.new_span_id():016x}.tmp")
    try:
        with open_for_append(temporary) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def fsync_folder(folder: Path) -> None:
    """Make renames in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_manifest(run: Run) -> None:
    """Write `manifest.json` as the run stands."""
    write_json(run.bundle / MANIFEST, _manifest(run))


def _manifest(run: Run) -> dict[str, Any]:
    """The manifest; what failed is tidied once more on the way out."""
    record = manifest.manifest(run)
    for part in (record, *record["steps"]):
        if part["failure"]:
            part["failure"] = {key: privacy.tidy(text) if isinstance(text, str) else text for key, text in part["failure"].items()}
    return record


def write_checks(run: Run) -> None:
    """Write `checks.json` as the run stands."""
    write_json(run.bundle / CHECKS, manifest.checks(run))


# ---------------------------------------------------------------------------------------------- liveness


@contextmanager
def alive(bundle: Path) -> Iterator[None]:
    """Hold the bundle's lock for as long as the run lives: from before its first manifest to after its last.

    The file is taken away at the end, unless the manifest still says RUNNING (its last one could not be written): then a reaper
    closes the run, as it does with a dead one.

    A child that the process forks closes its copy, else an orphan would keep a dead run alive.
    """
    descriptor = os.open(bundle / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.fchmod(descriptor, 0o644)  # whoever may read the bundle may ask whether its run is alive
    owner = os.getpid()
    _held.add(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if os.getpid() == owner:
            _held.discard(descriptor)
            # Best effort: closing it is what ends the hold, also in a folder that can't be written any more.
            with suppress(OSError):
                if not _says_running(bundle):
                    (bundle / LOCK).unlink()
            os.close(descriptor)


_held: set[int] = set()


def _says_running(bundle: Path) -> bool:
    try:
        return bool(_read_manifest(bundle)["state"] == State.RUNNING)
    except RunNotFoundError:
        return False


def _close_in_child() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_in_child)


def is_alive(bundle: Path) -> bool:
    """Whether a process holds the bundle's lock; asking disturbs neither the run nor others who ask."""
    try:
        descriptor = os.open(bundle / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        return True  # another user's, behind a closed door: nobody here may call it dead
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


# ---------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A run as its manifest tells it, and its state as it truly is."""

    path: Path
    manifest: Mapping[str, Any]
    state: State

    @property
    def id(self) -> str:
        """The run's id."""
        return self.path.name

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return str(self.manifest["pipeline"]["name"])

    @property
    def is_finished(self) -> bool:
        """Whether the manifest has its last word: not running, and not lost without having been reaped."""
        return str(self.manifest["state"]) != State.RUNNING.value

    @property
    def is_archived(self) -> bool:
        """Whether it was moved out of the collector's sight."""
        return self.path.parent.name == ARCHIVE


def of(run: Run) -> Bundle:
    """The bundle of a run of this process, by its record: also true when the disk refused the last manifest."""
    return Bundle(path=run.bundle, manifest=json.loads(json.dumps(_finite(_manifest(run)))), state=run.state)


def read(path: Path) -> Bundle:
    """The bundle in a folder.

    Raises:
        RunNotFoundError: the folder has no manifest, or one that can't be read.
    """
    record = _read_manifest(path)
    state = State(record["state"])
    if state is State.RUNNING and not is_alive(path):
        # It may have ended between the two looks; then the manifest says so now.
        record = _read_manifest(path)
        state = State(record["state"])
        state = State.LOST if state is State.RUNNING else state
    return Bundle(path=path, manifest=record, state=state)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        record = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RunNotFoundError(f"{path} has no manifest that can be read", hint="pipeline runs lists the runs there are", path=str(path)) from error
    if not isinstance(record, dict) or record.get("format") != manifest.FORMAT or not _is_whole(record):
        raise RunNotFoundError(f"{path / MANIFEST} is not a manifest of format {manifest.FORMAT}", hint="it may come from a newer Goldtrace", path=str(path))
    return record


def _is_whole(record: Mapping[str, Any]) -> bool:
    """Whether there is what every list of runs asks for: one bundle with something else there may not keep a run from ending."""
    pipeline = record.get("pipeline")
    return record.get("state") in tuple(State) and isinstance(record.get("environment"), str) and isinstance(pipeline, dict) and "name" in pipeline


def folders(runs: Path) -> list[Path]:
    """The folders of all runs, archived ones too, newest first. Folders that are not named by a run's id are not ours."""
    found: dict[str, Path] = {}
    for parent in (runs / ARCHIVE, runs):
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(parent) as entries:
            found |= {entry.name: Path(entry.path) for entry in entries if identity.parse_id(entry.name) and len(entry.name) == 36}
    return [found[name] for name in sorted(found, reverse=True)]


def iter_bundles(runs: Path) -> Iterator[Bundle]:
    """All bundles, newest first, each read when it is asked for.

    A run's folder without a manifest is a run that has not begun or that died before it could: it is left out, and a
    warning in the log names it unless its run is alive.
    """
    for path in folders(runs):
        try:
            # Read again where it went, if it was archived between the two looks.
            yield read(path if path.exists() else runs / ARCHIVE / path.name)
        except RunNotFoundError as error:
            if not is_alive(path):
                _log.warning("%s: left out", error.message)


def list_bundles(runs: Path, limit: int | None = None) -> list[Bundle]:
    """The newest bundles, all unless there is a limit, newest first."""
    return list(islice(iter_bundles(runs), limit))


def find(runs: Path, text: str) -> Bundle:
    """The bundle that `text` means: an id (with or without dashes, so a trace id too), a unique prefix, `last` or `last~1`.

    Raises:
        RunNotFoundError: there is none, or more than one.
    """
    if text == "last" or text.startswith("last~"):
        return _find_last(runs, text)
    wanted = text.lower().replace("-", "")
    matches = [path for path in folders(runs) if wanted and path.name.replace("-", "").startswith(wanted)]
    if len(matches) == 1:
        return read(matches[0])
    if not matches:
        raise RunNotFoundError(f"no run is {text!r}", hint=_hint(runs), text=text)
    raise RunNotFoundError(f"{len(matches)} runs begin with {text!r}", hint=f"give more of it: {_names(matches)}", text=text)


def _find_last(runs: Path, text: str) -> Bundle:
    back = text.removeprefix("last").removeprefix("~") or "0"
    if not back.isdecimal():
        raise RunNotFoundError(f"no run is {text!r}", hint="write last, last~1 (the one before), last~2 …", text=text)
    meant = (each for each in iter_bundles(runs) if each.manifest["environment"] != names.CANARY)
    found = next(islice(meant, int(back), None), None)
    if found is None:
        raise RunNotFoundError(f"there is no {text!r} in {runs}", hint=_hint(runs), text=text)
    return found


def _hint(runs: Path) -> str:
    known = folders(runs)
    return f"known are {_names(known)}" if known else f"there are no runs in {runs} yet: pipeline run makes one"


def _names(paths: list[Path]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(path.name for path in paths[:SHOWN]) + more


def success_share_20(run: Run) -> float:
    """The share of completed runs among the last 20 of the run's pipeline and environment that ended, this one included.

    This one counts by its record, the others by their bundles. Aborted and lost runs ended too.
    """
    # To a dated run, and to one that was lost some time ago, those that ended after it have not been yet.
    until = manifest.iso(run.ended_ns) if run.clock.offset_ns or run.state is State.LOST else None
    others = (
        bundle.state is State.COMPLETED
        for bundle in iter_bundles(run.bundle.parent)
        if bundle.state is not State.RUNNING
        and bundle.pipeline == run.pipeline.name
        and bundle.manifest["environment"] == run.environment
        and bundle.id != str(run.id)
        and (until is None or (bundle.manifest["ended_at"] or bundle.manifest["started_at"]) <= until)
    )
    ended = list(chain([run.state is State.COMPLETED], islice(others, 19)))
    return sum(ended) / len(ended)


def archive(runs: Path, keep: int = 300) -> list[Path]:
    """Move the oldest finished bundles to `runs/archive/` until `keep` are left, and return where they went.

    The collector polls every bundle it sees for ever, so there may not be too many. Running and not yet reaped ones stay.
    """
    present = [path for path in folders(runs) if path.parent != runs / ARCHIVE]
    moved = []
    for path in present[keep:]:
        # Another run may be moving the same one.
        with suppress(FileNotFoundError, RunNotFoundError):
            if read(path).is_finished and not is_alive(path):
                (runs / ARCHIVE).mkdir(exist_ok=True)
                moved.append(path.rename(runs / ARCHIVE / path.name))
    return moved
