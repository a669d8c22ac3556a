"""Folders of this machine in which files are made or read that belong to a lake elsewhere: one a run, for its user alone, gone with it.

A folder in use has a lock of the kernel's on it. What a killed run left has none, and the next one removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import LakeError

_GUARD = ".lock"


def base(staging: Path | None) -> Path:
    """The folder below which they are: in `PIPELINE_STAGING`, or in the folder for temporary files."""
    return (staging or Path(tempfile.gettempdir())).absolute() / f"goldtrace-{os.getuid()}"


@contextmanager
def workplace(below: Path, name: str) -> Iterator[Path]:
    """A new folder. Call within `translated`, as the disk may refuse it.

    Raises:
        LakeError: the folder around it belongs to somebody else, who could read what is written.
        OSError: it can't be made.
    """
    below.mkdir(parents=True, exist_ok=True, mode=0o700)
    if below.is_symlink() or below.stat().st_uid != os.getuid():
        raise LakeError(f"the staging folder {below.name} belongs to another user", hint="set PIPELINE_STAGING to a folder of your own")
    below.chmod(0o700)
    folder = below / name
    with (below / _GUARD).open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        _remove_left(below)
        folder.mkdir()
        held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _remove_left(below: Path) -> None:
    for left in below.iterdir():
        if not left.is_dir() or left.is_symlink():
            continue
        descriptor = os.open(left, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(descriptor)
