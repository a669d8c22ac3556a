"""What a lake needs of the place that it lies in, be it a folder or a bucket."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pipeline.records import DatasetVersion

CURRENT = "current.json"
LOCK = ".lock"
# A version, and the staged folder with its files.
Staged = tuple[DatasetVersion, Path]
# What mends a `current.json` that is not what a run writes.
RESTORE = "restore it, or delete it and run again: the versions stay where they are"


class Store(Protocol):
    """One place. Paths are the lake's own: `silver/weekly_features/<version>`.

    `fsyncs` says whether files have to be on the disk before they are published: what is uploaded is gone from it anyway.
    `disk` is what errors call the place where a run makes its files.
    """

    fsyncs: bool
    disk: str

    def current(self) -> bytes | None:
        """What `current.json` holds; None when there is none."""
        ...

    def opened(self, path: str) -> AbstractContextManager[list[Path]]:
        """The files of a version, sorted, on this machine."""
        ...

    def lock(self, run_id: uuid.UUID, wait: float) -> AbstractContextManager[None]:
        """Hold the lake, waiting so many seconds for another run."""
        ...

    def staging(self, run_id: uuid.UUID) -> AbstractContextManager[Path]:
        """An empty folder to make files in; called with the lock."""
        ...

    def check(self) -> None:
        """See whether the lock is still held.

        Raises:
            LakeError: another run has taken it.
        """
        ...

    def missing(self, staged: Iterable[Staged]) -> set[str]:
        """The paths of those versions that are not there, or not whole."""
        ...

    def bring(self, versions: Mapping[str, Path]) -> None:
        """Bring these versions to where they are only one small step from being published; may be interrupted."""
        ...

    def replace_current(self, content: bytes, versions: Mapping[str, Path]) -> None:
        """Put the versions that were brought to their places and make `content` the current one, or neither."""
        ...

    def keep_files(self, versions: Mapping[str, Path]) -> None:
        """Keep published files on this machine until the lock is released, at `files_of`."""
        ...

    def files_of(self, run_id: uuid.UUID) -> Path:
        """The folder below which the published files of the run that holds the lock are on this machine."""
        ...
