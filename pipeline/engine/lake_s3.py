"""A lake in a bucket: files are made on this machine, uploaded under their versions' names, and published by one conditional put.

    s3://<bucket>/<prefix>/current.json      replaced if it is what it was when the run took the lock
    s3://<bucket>/<prefix>/.lock             who writes (`lake_lease`); empty when nobody does

DuckDB never sees the bucket: what it would need for that is an extension, which would have to be downloaded.
"""

from __future__ import annotations

import importlib.util
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine.lake_folder import translated
from pipeline.engine.lake_store import CURRENT, RESTORE, Staged
from pipeline.engine.lake_workplace import base, workplace
from pipeline.errors import LakeError, UsageError
from pipeline.lake_address import S3Address
from pipeline.settings import from_here

if TYPE_CHECKING:
    from pipeline.engine.lake_lease import Lease
    from pipeline.engine.s3_objects import Objects

_NEEDED = ("boto3", "obstore")
_AT_ONCE = 4
# Files beyond this are uploaded one after another, so that a slow line is not shared by many requests whose time runs.
_LARGE_BYTES = 1024 * 1024
_STAGING = "staging"
_PUBLISHED = "published"


class Bucket:
    """A store; `lake_store.Store` says what each method is for.

    Raises:
        UsageError: boto3 or obstore is not installed.
    """

    fsyncs = False

    def __init__(self, address: S3Address, staging: Path | None) -> None:
        if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
            text = f"the lake {address} is on S3, and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
            raise UsageError(text, hint="make setup.aws, or pip install 'goldtrace[aws]'")
        self.address = address
        self._base = base(staging)
        self.disk = f"staging folder {from_here(str(self._base))}"
        self._lease: Lease | None = None
        self._before: str | None = None
        self._work = self._base

    @cached_property
    def _objects(self) -> Objects:
        from pipeline.engine.s3_objects import Objects

        return Objects(self.address)

    # ------------------------------------------------------------------------------------------------- reading

    def current(self) -> bytes | None:
        """What `current.json` holds."""
        found = self._objects.get(CURRENT)
        return None if found is None else found.content

    @contextmanager
    def opened(self, path: str) -> Iterator[list[Path]]:
        """The files of a version, downloaded; they go when the block ends."""
        sizes = self._objects.sizes(path)
        if not sizes:
            raise LakeError(f"can't read the lake {self.address}: {path} is not there", hint=RESTORE)
        with ExitStack() as stack:
            with translated(self.disk, "write"):
                folder = stack.enter_context(workplace(self._base, f"read-{uuid.uuid4().hex}"))
                with ThreadPoolExecutor(_AT_ONCE) as pool:
                    list(pool.map(lambda name: self._objects.download(f"{path}/{name}", sizes[name], folder / name), sizes))
            yield sorted(folder / name for name in sizes)

    # ------------------------------------------------------------------------------------------------- locking

    @contextmanager
    def lock(self, run_id: uuid.UUID, wait: float) -> Iterator[None]:
        """Hold the lake, and a folder of this machine to work in."""
        from pipeline.engine.lake_lease import Lease

        lease = Lease(self._objects, run_id)
        with ExitStack() as stack:
            stack.callback(lease.release)
            lease.acquire(wait)
            found = self._objects.get(CURRENT)
            self._lease, self._before = lease, None if found is None else found.etag
            with translated(self.disk, "write"):
                self._work = stack.enter_context(workplace(self._base, str(run_id)))
            yield

    def check(self) -> None:
        """See whether another run took the lock."""
        if self._lease is not None:
            self._lease.check()

    # ------------------------------------------------------------------------------------------------- writing

    @contextmanager
    def staging(self, run_id: uuid.UUID) -> Iterator[Path]:  # noqa: ARG002 - it has the lock, and its name
        """A folder in the run's own."""
        folder = self._work / _STAGING
        with translated(self.disk, "write"):
            folder.mkdir()
        yield folder

    def missing(self, staged: Iterable[Staged]) -> set[str]:
        """Versions of which an object is not there, or has another size: a killed run uploads none of it twice."""
        with translated(self.disk, "read"):
            wanted = {version.path: {name: (folder / name).stat().st_size for name in version.files} for version, folder in staged}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            there = dict(zip(wanted, pool.map(self._objects.sizes, wanted), strict=True))
        return {path for path, sizes in wanted.items() if not sizes.items() <= there[path].items()}

    def bring(self, versions: Mapping[str, Path]) -> None:
        """Upload them. Nobody reads them before `current.json` names them."""
        if not versions:
            return
        self._objects.abandon()  # of runs that were killed
        files = [(f"{path}/{file.name}", file) for path, folder in versions.items() for file in sorted(folder.iterdir())]
        stop = threading.Event()
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            _run_all([pool.submit(self._objects.upload, path, file, stop) for path, file in files if not _is_large(file)])
            for path, file in files:
                if _is_large(file):
                    pool.submit(self._objects.upload, path, file, stop).result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()

    def replace_current(self, content: bytes, versions: Mapping[str, Path]) -> None:  # noqa: ARG002 - they are at their places
        """Make `content` the current one, if no other run has published since this one took the lock."""
        from pipeline.engine.s3_objects import ConflictError

        assert self._lease is not None  # only who holds the lock publishes
        self._lease.confirm()
        try:
            self._objects.put(CURRENT, content, replacing=self._before)
        except ConflictError:
            text = f"the lake {self.address} is another one than when this run began: its {CURRENT} was replaced meanwhile"
            raise LakeError(text, hint="nothing was published; run it again") from None

    def keep_files(self, versions: Mapping[str, Path]) -> None:
        """Keep them in the run's folder, where those who come after the steps find them (MLflow's hook the figures)."""
        for path, folder in versions.items():
            target = self._work / _PUBLISHED / path
            with suppress(OSError):  # the run has published, and nothing may change that any more
                target.parent.mkdir(parents=True, exist_ok=True)
                folder.rename(target)

    def files_of(self, run_id: uuid.UUID) -> Path:
        """The run's own folder."""
        return self._base / str(run_id) / _PUBLISHED


def _is_large(file: Path) -> bool:
    return file.stat().st_size > _LARGE_BYTES


def _run_all(futures: list[Future[None]]) -> None:
    """Wait for all, or for the first error, which is raised."""
    done, _ = wait(futures, return_when="FIRST_EXCEPTION")
    for future in done:
        future.result()
