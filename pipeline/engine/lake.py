"""The lake: where datasets lie, how versions are named, the lock, and publishing. The one module that knows addresses.

    <lake>/<layer>/<dataset>/<version>/part-*.parquet      immutable
    <lake>/quarantine/<layer>/<dataset>/<version>/…        rows that were set aside
    <lake>/current.json                                    what is current; replaced atomically by a run's end
    <lake>/.lock                                           held by the run that writes
    <lake>/.staging/<run id>/                              what a run is writing; gone when it ends

A version is what `sha256sum * | sha256sum` prints in its folder: the hash over the sorted lines of hashes and names.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from pipeline.clock import MACHINE
from pipeline.errors import LakeBusyError, LakeError, UsageError
from pipeline.records import DatasetVersion
from pipeline.telemetry.bundle import fsync_folder
from pipeline.telemetry.manifest import iso

CURRENT = "current.json"
LOCK = ".lock"
STAGING = ".staging"
QUARANTINE = "quarantine"
_POLL_SECONDS = 0.1
_RESTORE = "restore it, or delete it and run again: the versions stay where they are"


class Lake:
    """One lake, by its address. A folder for now; other kinds of address are refused by the settings."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.root = Path(address).absolute()

    # ------------------------------------------------------------------------------------------------- reading

    def current(self) -> dict[str, Any]:
        """`current.json`, or an empty one when nothing was published yet.

        Raises:
            LakeError: it can't be read, or is not what a run writes.
        """
        try:
            text = (self.root / CURRENT).read_text(encoding="utf-8")
        except FileNotFoundError:
            return {"run_id": None, "published_at": None, "datasets": {}}
        except OSError as error:
            raise lake_error(error, self.address, "read") from error
        try:
            loaded: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError as error:
            raise LakeError(f"{self.address}/{CURRENT} is not JSON (line {error.lineno})", hint=_RESTORE) from error
        if not _is_current(loaded):
            raise LakeError(f"{self.address}/{CURRENT} does not say which version of each dataset is current", hint=_RESTORE)
        return loaded

    def files(self, dataset: str) -> list[Path]:
        """The files of a dataset's current version.

        Raises:
            UsageError: the lake has no such dataset.
            LakeError: it can't be read.
        """
        datasets = self.current()["datasets"]
        if dataset not in datasets:
            hint = f"it has {', '.join(sorted(datasets))}" if datasets else "it is empty: run the pipeline first (make run)"
            raise UsageError(f"the lake {self.address} has no dataset {dataset!r}", hint=hint)
        with translated(self.address, "read"):
            return sorted((self.root / datasets[dataset]["path"]).iterdir())

    # ------------------------------------------------------------------------------------------------- locking

    @contextmanager
    def lock(self, run_id: uuid.UUID, wait: float = 0.0) -> Iterator[None]:
        """Hold the lake. What a run leaves of an empty lake that it made is nothing.

        Raises:
            LakeBusyError: another run holds it, `wait` seconds long.
            LakeError: the folder can't be made or written.
        """
        with translated(self.address, "write"):
            made = not self.root.exists()
            handle = self._acquire(wait)
            handle.write(json.dumps({"run_id": str(run_id), "pid": os.getpid(), "since": iso(MACHINE.now_ns())}))
            handle.flush()
        try:
            yield
        finally:
            self._release(handle, remove=made and not (self.root / CURRENT).exists())

    def _acquire(self, wait: float) -> IO[str]:
        deadline = time.monotonic() + wait
        while True:
            handle = self._open_lock()
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(handle)
                handle.close()
                if time.monotonic() >= deadline:
                    raise LakeBusyError(f"another run writes to the lake {self.address}{holder}", hint="wait for it, or use --wait SECONDS") from None
                time.sleep(_POLL_SECONDS)
                continue
            if _is_at(handle, self.root / LOCK):
                handle.truncate(0)
                return handle
            handle.close()  # its last holder removed the file while we waited: lock the new one

    def _open_lock(self) -> IO[str]:
        while True:
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                return (self.root / LOCK).open("a+", encoding="utf-8")
            except FileNotFoundError:  # a run that failed removed the lake that it had made, just now
                continue

    def _release(self, handle: IO[str], *, remove: bool) -> None:
        # Best effort: the kernel frees the lock when the handle closes, whatever happens to the file's content.
        with suppress(OSError):
            handle.truncate(0)
            shutil.rmtree(self.root / STAGING, ignore_errors=True)
            if remove:
                (self.root / LOCK).unlink()
                self.root.rmdir()
        handle.close()

    # ------------------------------------------------------------------------------------------------- writing

    @contextmanager
    def staging(self, run_id: uuid.UUID) -> Iterator[Path]:
        """A folder to write in, on the lake's own file system. Leftovers of runs that died go first; call with the lock."""
        folder = self.root / STAGING / str(run_id)
        with translated(self.address, "write"):
            shutil.rmtree(self.root / STAGING, ignore_errors=True)
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(self.root / STAGING, ignore_errors=True)

    def seal(self, dataset: str, folder: Path, rows: int | None) -> DatasetVersion:
        """Fsync the files in a staged folder and name their version."""
        with translated(self.address, "write"):
            files = sorted(path for path in folder.iterdir() if path.is_file())
            digest, size = hashlib.sha256(), 0
            for path in files:
                digest.update(f"{_sha256_fsynced(path)}  {path.name}\n".encode())
                size += path.stat().st_size
            fsync_folder(folder)
        version = digest.hexdigest()
        return DatasetVersion(dataset=dataset, version=version, path=f"{dataset}/{version}", files=tuple(path.name for path in files), bytes=size, rows=rows)

    def publish(self, run_id: uuid.UUID, staged: Mapping[str, tuple[DatasetVersion, Path]], now_ns: int) -> dict[str, DatasetVersion]:
        """Make the staged versions current, all at once; datasets that are not named stay as they are.

        Equal versions replace nothing: when all are equal, not a byte of the lake changes.
        """
        before = self.current()
        entries = dict(before["datasets"])
        published: dict[str, DatasetVersion] = {}
        fresh: dict[Path, Path] = {}
        for dataset, (version, folder) in staged.items():
            changed = entries.get(dataset, {}).get("version") != version.version or not _has_files(self.root / version.path, version.files)
            published[dataset] = replace(version, changed=changed)
            if changed:
                fresh[self.root / version.path] = folder
                entries[dataset] = {"version": version.version, "path": version.path, "rows": version.rows, "bytes": version.bytes, "run_id": str(run_id)}
        for dataset in _emptied_quarantines(staged, entries):
            del entries[dataset]
        if entries != before["datasets"]:
            with translated(self.address, "write"):
                self._replace_current({"run_id": str(run_id), "published_at": iso(now_ns), "datasets": dict(sorted(entries.items()))}, fresh)
        return published

    def _replace_current(self, content: dict[str, Any], fresh: Mapping[Path, Path]) -> None:
        """Write the new `current.json` aside, move the new versions to their places, and only then make it the current one."""
        temporary = self.root / STAGING / CURRENT
        with temporary.open("w", encoding="utf-8") as handle:
            json.dump(content, handle, indent=2)
            handle.write("\n")
            handle.flush()
            os.fsync(handle.fileno())
        with _installed(fresh):
            temporary.replace(self.root / CURRENT)
        # Readers see it by now, so a disk that won't promise to keep it is no reason to say that nothing was published.
        with suppress(OSError):
            fsync_folder(self.root)


def _has_files(version: Path, names: Iterable[str]) -> bool:
    return all((version / name).is_file() for name in names)


@contextmanager
def _installed(fresh: Mapping[Path, Path]) -> Iterator[None]:
    """Versions (target → where it was staged) at their places; if they, or what the block does, can't be made, they are put back."""
    made: list[tuple[Path, Path]] = []
    try:
        for target, folder in fresh.items():
            if _has_files(target, [path.name for path in folder.iterdir()]):  # an earlier run wrote the same bytes
                continue
            shutil.rmtree(target, ignore_errors=True)  # somebody took files out of it
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
            made.append((target, folder))
            for parent in (target.parent, target.parent.parent, target.parent.parent.parent):
                fsync_folder(parent)
        yield
    except BaseException:
        # Each at once: a half-removed version would be taken for a whole one by the next run that makes the same bytes.
        for target, folder in made:
            with suppress(OSError):
                target.rename(folder)
        raise


def _is_current(loaded: object) -> bool:
    datasets = loaded.get("datasets") if isinstance(loaded, dict) else None
    return isinstance(datasets, dict) and all(isinstance(entry, dict) and {"version", "path"} <= entry.keys() for entry in datasets.values())


def quarantine_name(dataset: str) -> str:
    """Where the rows that were set aside from `dataset` are kept."""
    return f"{QUARANTINE}/{dataset}"


def _emptied_quarantines(staged: Mapping[str, object], entries: Mapping[str, object]) -> list[str]:
    """Quarantines of datasets that were written this time with no row set aside: theirs is not current any more."""
    return [name for name in entries if name.startswith(f"{QUARANTINE}/") and name not in staged and name.removeprefix(f"{QUARANTINE}/") in staged]


def _sha256_fsynced(path: Path) -> str:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        os.fsync(handle.fileno())
    return digest


def _holder(handle: IO[str]) -> str:
    handle.seek(0)
    try:
        holder = json.loads(handle.read())
        return f" (run {holder['run_id']}, process {holder['pid']}, since {holder['since']})"
    except (ValueError, LookupError, TypeError):  # it is just being written, or by something else
        return ""


def _is_at(handle: IO[str], path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(handle.fileno())
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


@contextmanager
def translated(address: str, verb: str) -> Iterator[None]:
    """Turn the operating system's errors about the lake into ours."""
    try:
        yield
    except OSError as error:
        raise lake_error(error, address, verb) from error


def lake_error(error: OSError, address: str, verb: str) -> LakeError:
    """What to say when the operating system refused to `verb` (read, write) the lake."""
    hints = {
        errno.ENOSPC: "free space on that disk and run again; nothing was published",
        errno.EDQUOT: "the disk quota is used up; free space and run again; nothing was published",
        errno.EFBIG: "this user's limit on the size of a file (ulimit -f) is too low; nothing was published",
        errno.EROFS: "the file system is read-only; choose another with --lake",
        errno.EACCES: f"this user may not {verb} there; choose another with --lake",
    }
    reason = error.strerror or type(error).__name__
    return LakeError(
        f"can't {verb} the lake {address}: {reason}", hint=hints.get(error.errno or 0, "check the folder, or choose another with --lake"), errno=error.errno
    )
