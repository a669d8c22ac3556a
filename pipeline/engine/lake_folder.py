"""A lake in a folder of this machine (or one that looks so).

    <lake>/.lock                    held by the run that writes, by the kernel's lock on it
    <lake>/.staging/<run id>/       what a run is writing, on the same file system; gone when it ends

Publishing is a rename: of the versions to their places, and then of `current.json`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.clock import MACHINE
from pipeline.engine.lake_store import CURRENT, LOCK, Staged
from pipeline.errors import LakeBusyError, LakeError
from pipeline.telemetry.bundle import fsync_folder
from pipeline.telemetry.manifest import iso

_STAGING = ".staging"
_POLL_SECONDS = 0.1


class Folder:
    """A store; `lake_store.Store` says what each method is for."""

    fsyncs = True

    def __init__(self, address: str) -> None:
        self.address = address
        self.disk = f"lake {address}"
        self.root = Path(address).absolute()

    def current(self) -> bytes | None:
        """What `current.json` holds."""
        try:
            return (self.root / CURRENT).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise lake_error(error, self.disk, "read") from error

    @contextmanager
    def opened(self, path: str) -> Iterator[list[Path]]:
        """The files of a version where they are."""
        with translated(self.disk, "read"):
            files = sorted((self.root / path).iterdir())
        yield files

    # ------------------------------------------------------------------------------------------------- locking

    @contextmanager
    def lock(self, run_id: uuid.UUID, wait: float) -> Iterator[None]:
        """Hold the lake. What a run leaves of an empty lake that it made is nothing."""
        with translated(self.disk, "write"):
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
            shutil.rmtree(self.root / _STAGING, ignore_errors=True)
            if remove:
                (self.root / LOCK).unlink()
                self.root.rmdir()
        handle.close()

    def check(self) -> None:
        """The kernel takes no lock away."""

    # ------------------------------------------------------------------------------------------------- writing

    @contextmanager
    def staging(self, run_id: uuid.UUID) -> Iterator[Path]:
        """A folder on the lake's own file system. Leftovers of runs that died go first."""
        folder = self.root / _STAGING / str(run_id)
        with translated(self.disk, "write"):
            shutil.rmtree(self.root / _STAGING, ignore_errors=True)
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(self.root / _STAGING, ignore_errors=True)

    def missing(self, staged: Iterable[Staged]) -> set[str]:
        """Versions of which a file is not there."""
        return {version.path for version, _ in staged if not all((self.root / version.path / name).is_file() for name in version.files)}

    def bring(self, versions: Mapping[str, Path]) -> None:
        """They are on the lake's file system already."""

    def replace_current(self, content: bytes, versions: Mapping[str, Path]) -> None:
        """Write the new `current.json` aside, move the new versions to their places, and only then make it the current one."""
        temporary = self.root / _STAGING / CURRENT
        with translated(self.disk, "write"):
            with temporary.open("wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            with self._installed(versions):
                temporary.replace(self.root / CURRENT)
        # Readers see it by now, so a disk that won't promise to keep it is no reason to say that nothing was published.
        with suppress(OSError):
            fsync_folder(self.root)

    @contextmanager
    def _installed(self, versions: Mapping[str, Path]) -> Iterator[None]:
        """Versions at their places; if they, or what the block does, can't be made, they are put back."""
        made: list[tuple[Path, Path]] = []
        try:
            for path, folder in versions.items():
                target = self.root / path
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

    def keep_files(self, versions: Mapping[str, Path]) -> None:
        """They are kept in the lake."""

    def files_of(self, run_id: uuid.UUID) -> Path:  # noqa: ARG002 - the same for all runs
        """The lake itself."""
        return self.root


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
def translated(place: str, verb: str) -> Iterator[None]:
    """Turn the operating system's errors about a place (`lake data/lake`) into ours."""
    try:
        yield
    except OSError as error:
        raise lake_error(error, place, verb) from error


def lake_error(error: OSError, place: str, verb: str) -> LakeError:
    """What to say when the operating system refused to `verb` (read, write) a place on this machine."""
    another = "choose another with --lake" if place.startswith("lake ") else "choose another with PIPELINE_STAGING"
    hints = {
        errno.ENOSPC: "free space on that disk and run again; nothing was published",
        errno.EDQUOT: "the disk quota is used up; free space and run again; nothing was published",
        errno.EFBIG: "this user's limit on the size of a file (ulimit -f) is too low; nothing was published",
        errno.EROFS: f"the file system is read-only; {another}",
        errno.EACCES: f"this user may not {verb} there; {another}",
    }
    reason = os.strerror(error.errno) if error.errno else error.strerror or type(error).__name__  # libraries have words of their own
    return LakeError(f"can't {verb} the {place}: {reason}", hint=hints.get(error.errno or 0, f"check the folder, or {another}"), errno=error.errno)
