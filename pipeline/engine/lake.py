"""The lake: where datasets lie, how versions are named, and publishing. A store does what depends on the kind of address.

    <lake>/<layer>/<dataset>/<version>/part-*.parquet      immutable
    <lake>/quarantine/<layer>/<dataset>/<version>/…        rows that were set aside
    <lake>/current.json                                    what is current; replaced atomically by a run's end
    <lake>/.lock                                           held by the run that writes

A version is what `sha256sum * | sha256sum` prints in its folder: the hash over the sorted lines of hashes and names. A lake in a
folder and one on S3 have the same files, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.engine.lake_folder import Folder, translated
from pipeline.engine.lake_store import CURRENT, RESTORE, Staged, Store
from pipeline.errors import LakeError, UsageError
from pipeline.lake_address import parse_s3
from pipeline.records import DatasetVersion
from pipeline.telemetry.bundle import fsync_folder
from pipeline.telemetry.manifest import iso

QUARANTINE = "quarantine"


class Lake:
    """One lake, by its address: a folder, or `s3://bucket/prefix` with a folder of this machine to make files in.

    Raises:
        UsageError: it is on S3, and what is needed for that is not installed.
    """

    def __init__(self, address: str, staging: Path | None = None) -> None:
        self.address = address
        self._store = _store(address, staging)
        self._fresh: set[str] | None = None

    @property
    def disk(self) -> str:
        """What errors call the place where a run makes its files."""
        return self._store.disk

    # ------------------------------------------------------------------------------------------------- reading

    def current(self) -> dict[str, Any]:
        """`current.json`, or an empty one when nothing was published yet.

        Raises:
            LakeError: it can't be read, or is not what a run writes.
        """
        content = self._store.current()
        if content is None:
            return {"run_id": None, "published_at": None, "datasets": {}}
        try:
            loaded: dict[str, Any] = json.loads(content)
        except json.JSONDecodeError as error:
            raise LakeError(f"{self.address}/{CURRENT} is not JSON (line {error.lineno})", hint=RESTORE) from error
        except UnicodeDecodeError as error:
            raise LakeError(f"{self.address}/{CURRENT} is not UTF-8 (byte {error.start + 1})", hint=RESTORE) from error
        if not _is_current(loaded):
            raise LakeError(f"{self.address}/{CURRENT} does not say which version of each dataset is current", hint=RESTORE)
        return loaded

    @contextmanager
    def opened(self, dataset: str) -> Iterator[list[Path]]:
        """The files of a dataset's current version, on this machine as long as the block goes on.

        Raises:
            UsageError: the lake has no such dataset.
            LakeError: it can't be read.
        """
        datasets = self.current()["datasets"]
        if dataset not in datasets:
            hint = f"it has {', '.join(sorted(datasets))}" if datasets else "it is empty: run the pipeline first (make run)"
            raise UsageError(f"the lake {self.address} has no dataset {dataset!r}", hint=hint)
        with self._store.opened(datasets[dataset]["path"]) as files:
            yield files

    def place(self, dataset: str) -> str:
        """Where the files of a dataset's current version are, for people."""
        return f"{self.address}/{self.current()['datasets'][dataset]['path']}"

    # ------------------------------------------------------------------------------------------------- a run's

    def lock(self, run_id: uuid.UUID, wait: float = 0.0) -> AbstractContextManager[None]:
        """Hold the lake.

        Raises:
            LakeBusyError: another run holds it, `wait` seconds long.
            LakeError: it can't be reached or written.
        """
        self._fresh = None
        return self._store.lock(run_id, wait)

    def check(self) -> None:
        """See whether the lock is still held, without asking anybody.

        Raises:
            LakeError: another run has taken it.
        """
        self._store.check()

    def staging(self, run_id: uuid.UUID) -> AbstractContextManager[Path]:
        """A folder to write in. Leftovers of runs that died go first; call with the lock."""
        return self._store.staging(run_id)

    def files_of(self, run_id: uuid.UUID) -> Path:
        """The folder below which a run's published files are found by their versions' paths, until it releases the lock."""
        return self._store.files_of(run_id)

    def seal(self, dataset: str, folder: Path, rows: int | None) -> DatasetVersion:
        """Name the version of the files in a staged folder, which are on the disk then if the lake is."""
        with translated(self.disk, "write"):
            files = sorted(path for path in folder.iterdir() if path.is_file())
            digest, size = hashlib.sha256(), 0
            for path in files:
                digest.update(f"{_sha256(path, fsync=self._store.fsyncs)}  {path.name}\n".encode())
                size += path.stat().st_size
            if self._store.fsyncs:
                fsync_folder(folder)
        version = digest.hexdigest()
        return DatasetVersion(dataset=dataset, version=version, path=f"{dataset}/{version}", files=tuple(path.name for path in files), bytes=size, rows=rows)

    def bring(self, staged: Mapping[str, Staged]) -> None:
        """Do what takes time before publishing: on S3, the uploads. May be interrupted, and leaves what is current as it is."""
        fresh = self._store.missing(staged.values())
        self._store.bring({version.path: folder for version, folder in staged.values() if version.path in fresh})
        self._fresh = fresh

    def publish(self, run_id: uuid.UUID, staged: Mapping[str, Staged], now_ns: int) -> dict[str, DatasetVersion]:
        """Make the staged versions current, all at once; datasets that are not named stay as they are.

        Equal versions replace nothing: when all are equal, not a byte of the lake changes.
        """
        if self._fresh is None:
            self.bring(staged)
        fresh, self._fresh = self._fresh or set(), None
        before = self.current()
        entries = dict(before["datasets"])
        published: dict[str, DatasetVersion] = {}
        for dataset, (version, _) in staged.items():
            changed = entries.get(dataset, {}).get("version") != version.version or version.path in fresh
            published[dataset] = replace(version, changed=changed)
            if changed:
                entries[dataset] = {"version": version.version, "path": version.path, "rows": version.rows, "bytes": version.bytes, "run_id": str(run_id)}
        for dataset in _emptied_quarantines(staged, entries):
            del entries[dataset]
        if entries != before["datasets"]:
            content = {"run_id": str(run_id), "published_at": iso(now_ns), "datasets": dict(sorted(entries.items()))}
            folders = {version.path: folder for version, folder in staged.values() if version.path in fresh}
            self._store.replace_current(f"{json.dumps(content, indent=2)}\n".encode(), folders)
        self._store.keep_files({version.path: folder for version, folder in staged.values()})
        return published


def _store(address: str, staging: Path | None) -> Store:
    found = parse_s3(address)
    if found is None:
        return Folder(address)
    from pipeline.engine.lake_s3 import Bucket

    return Bucket(found, staging)


def _is_current(loaded: object) -> bool:
    datasets = loaded.get("datasets") if isinstance(loaded, dict) else None
    return isinstance(datasets, dict) and all(isinstance(entry, dict) and {"version", "path"} <= entry.keys() for entry in datasets.values())


def quarantine_name(dataset: str) -> str:
    """Where the rows that were set aside from `dataset` are kept."""
    return f"{QUARANTINE}/{dataset}"


def _emptied_quarantines(staged: Mapping[str, object], entries: Mapping[str, object]) -> list[str]:
    """Quarantines of datasets that were written this time with no row set aside: theirs is not current any more."""
    return [name for name in entries if name.startswith(f"{QUARANTINE}/") and name not in staged and name.removeprefix(f"{QUARANTINE}/") in staged]


def _sha256(path: Path, *, fsync: bool) -> str:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        if fsync:
            os.fsync(handle.fileno())
    return digest
