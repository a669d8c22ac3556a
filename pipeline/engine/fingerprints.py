"""Sizes and hashes of the input files, taken by a thread of their own while the run begins and other steps work.

A row is written with its file's hash beside it (`load_id`), so a source can't be read before it is known. At ten million lines
that takes as long as starting does, and hashing lets go of Python's lock.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a file was when it was hashed."""

    bytes: int
    sha256: str
    _identity: tuple[int, ...]

    def still_fits(self, path: Path) -> bool:
        """Whether the file is the same one, and nobody wrote to it since.

        Raises:
            OSError: it can't be looked at.
        """
        return _identity(path.stat()) == self._identity


class Fingerprints:
    """Hashes files in the order given, until it is left."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._found: dict[Path, Future[Fingerprint]] = {path: Future() for path in paths}
        self._left = threading.Event()
        # A daemon: a disk that does not answer must not hold up the end of the process.
        self._thread = threading.Thread(target=self._take_all, name="goldtrace-fingerprints", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def of(self, path: Path) -> Fingerprint:
        """Of one of the files; waits for it.

        Raises:
            OSError: it can't be read.
        """
        return self._found[path].result()

    def _take_all(self) -> None:
        for path, found in self._found.items():
            try:
                taken = self._take(path)
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                found.set_exception(error)
                continue
            if taken is None:
                return
            found.set_result(taken)

    def _take(self, path: Path) -> Fingerprint | None:
        """None when nobody needs it any more."""
        digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
        with path.open("rb", buffering=0) as handle:
            identity = _identity(os.fstat(handle.fileno()))
            while size := handle.readinto(buffer):
                if self._left.is_set():
                    return None
                digest.update(buffer[:size])
            return Fingerprint(handle.tell(), digest.hexdigest(), identity)


def _identity(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
