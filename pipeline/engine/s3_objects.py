"""The one module that knows obstore: reads and writes of objects in a bucket, its errors turned into ours.

Requests that find no answer, are refused as too many (503 SlowDown) or meet a fault of the server are sent again by obstore, each time
after a longer pause with jitter. Its own words hold the access key's id and the signature, so they are never shown, nor chained.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.engine.s3_account import CONNECT_SECONDS, Account
from pipeline.errors import LakeError
from pipeline.lake_address import S3Address
from pipeline.settings import mask

if TYPE_CHECKING:
    from obstore.store import S3Store

# Files beyond this, the least that S3 takes, are uploaded in parts of it, two at a time: within one request's time that needs 2.8 Mbit/s.
PART_BYTES = 5 * 1024 * 1024
_PARTS_AT_ONCE = 2
_MOST_PARTS = 9_000
_VERSION_KEY = re.compile(r"(?:quarantine/)?[a-z]+/\w+/[0-9a-f]{64}/[^/]+")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take, small or with a part of a file, and how long requests that fail are sent again."""

    small: timedelta = timedelta(seconds=8)
    bulk: timedelta = timedelta(seconds=30)
    retry: timedelta = timedelta(seconds=12)
    retries: int = 6


PATIENCE = Patience()


class ConflictError(Exception):
    """The object is not what it was expected to be: somebody else wrote it first."""


class StoppedError(Exception):
    """An upload was told to stop."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object: its content, and the tag that changes with it."""

    content: bytes
    etag: str


class Objects:
    """The objects of one lake, by their paths in it.

    `is_away` says that the last request found no answer in time, so that what is only good to have is better not asked for.
    """

    def __init__(self, address: S3Address) -> None:
        self.address = address
        self._account = Account(str(address))
        self._small = self._store(PATIENCE.small)
        self._bulk = self._store(PATIENCE.bulk)
        self.is_away = False

    def _store(self, timeout: timedelta) -> S3Store:
        from obstore.store import S3Store

        return S3Store(
            self.address.bucket,
            prefix=self.address.prefix or None,
            endpoint=self._account.endpoint,
            region=self._account.region,
            credential_provider=self._account.credentials,
            client_options={"allow_http": True, "connect_timeout": timedelta(seconds=CONNECT_SECONDS), "timeout": timeout},
            retry_config={
                "max_retries": PATIENCE.retries,
                "retry_timeout": PATIENCE.retry,
                "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
            },
        )

    # ------------------------------------------------------------------------------------------------- small ones

    def get(self, path: str) -> Found | None:
        """An object, or None when there is none of that path.

        Raises:
            LakeError: it can't be read; a bucket that is not there is no missing object.
        """
        import obstore

        try:
            with self._told("read"):
                got = obstore.get(self._small, path)
                return Found(bytes(got.bytes()), got.meta["e_tag"] or "")
        except _AbsentError:
            return None

    def put(self, path: str, content: bytes, *, replacing: str | None) -> str:
        """Write an object if the one there has the tag `replacing`, or if there is none; returns the new tag.

        When the answer was lost, or says that the object is another one (which is what a request that is sent again is told of its own
        success), the object is read: `content` has to be one that nobody else writes.

        Raises:
            ConflictError: there is another object, or none.
            LakeError: it can't be written.
        """
        import obstore

        mode: Any = "create" if replacing is None else {"e_tag": replacing}
        try:
            with self._told("write"):
                return obstore.put(self._small, path, content, mode=mode, use_multipart=False)["e_tag"] or ""
        except (ConflictError, LakeError):
            if (etag := self._etag_of(path, content)) is not None:
                return etag
            raise

    def _etag_of(self, path: str, content: bytes) -> str | None:
        try:
            found = self.get(path)
        except LakeError:
            return None
        return found.etag if found is not None and found.content == content else None

    def age_seconds(self, path: str, etag: str) -> float | None:
        """How long ago an object was written, by the server's clock; None when it is another one by now."""
        return self._account.age_seconds(self.address.bucket, self.address.key(path), etag)

    def sizes(self, path: str) -> dict[str, int]:
        """The names and sizes of the files below a path."""
        import obstore

        with self._told("read"):
            pages = obstore.list(self._small, prefix=path)
            return {each["path"].removeprefix(f"{path}/"): each["size"] for page in pages for each in page}

    # ------------------------------------------------------------------------------------------------- files

    def upload(self, path: str, file: Path, stop: threading.Event) -> None:
        """Write a file, in parts when it is large. `stop` ends that soon. Parts of an upload that breaks are thrown away (by obstore).

        Raises:
            StoppedError: it was stopped.
            LakeError: it can't be written.
        """
        import obstore

        size = file.stat().st_size
        part = max(PART_BYTES, -(-size // _MOST_PARTS))
        is_small = size <= part
        content = file.read_bytes() if is_small else _parts(file, part, stop)
        with self._told("write", stop):
            obstore.put(self._bulk, path, content, use_multipart=not is_small, chunk_size=part, max_concurrency=_PARTS_AT_ONCE)

    def download(self, path: str, size: int, target: Path) -> None:
        """Write an object of that size to a file, in parts: the time of a request is that of its whole answer."""
        import obstore

        with target.open("wb") as handle:
            for start in range(0, size, PART_BYTES):
                with self._told("read"):
                    part = obstore.get_range(self._bulk, path, start=start, end=min(start + PART_BYTES, size))
                handle.write(part)

    def abandon(self) -> int:
        """Throw away what killed runs left of uploads of versions; returns of how many. Call with the lock."""
        prefix = self.address.key("")
        # The bucket may be somebody else's too: only what is called like a version is ours.
        return self._account.abort_uploads(self.address.bucket, prefix, lambda key: _VERSION_KEY.fullmatch(key.removeprefix(prefix)) is not None)

    # ------------------------------------------------------------------------------------------------- errors

    @contextmanager
    def _told(self, verb: str, stop: threading.Event | None = None) -> Iterator[None]:
        from obstore import exceptions

        try:
            yield
            self.is_away = False
        except (exceptions.BaseError, FileNotFoundError) as error:
            if stop is not None and stop.is_set():
                raise StoppedError from None
            ours = _ours(error, self.address, verb, self._account.endpoint)
            self.is_away = isinstance(ours, LakeError) and ours.facts.get("code") == "timeout"
            raise ours from None


def _parts(file: Path, size: int, stop: threading.Event) -> Iterator[bytes]:
    with file.open("rb") as handle:
        while chunk := handle.read(size):
            if stop.is_set():
                raise StoppedError
            yield chunk


class _AbsentError(LakeError):
    """There is no such object."""


_NEWS = {
    "NoSuchBucket": ("there is no such bucket", "make it, or mend PIPELINE_LAKE (docs/aws.md)"),
    "ExpiredToken": ("the credentials have expired", "get new ones (aws sso login, or where they come from) and run it again"),
    "InvalidAccessKeyId": ("the credentials are refused", "mend AWS_PROFILE or the keys (docs/aws.md)"),
    "AccessDenied": ("access is denied", "these credentials lack a permission; docs/aws.md has the policy"),
    "PermanentRedirect": ("the bucket is in another region", "set AWS_REGION to the bucket's"),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set it and run it again"),
    "SlowDown": ("it is too busy", "nothing is wrong here: run it again later"),
    "NotImplemented": ("it can't write under a condition, which a lake needs", "take an S3 that can (docs/aws.md)"),
    "connect": ("there is no connection", "is the endpoint the right one (AWS_ENDPOINT_URL), and is the network up? run it again then"),
    "timeout": ("there is no answer in time", "is the endpoint the right one (AWS_ENDPOINT_URL), and is the network up? run it again then"),
}
_SAME = {
    "ExpiredTokenException": "ExpiredToken",
    "TokenRefreshRequired": "ExpiredToken",
    "RequestExpired": "ExpiredToken",
    "InvalidToken": "InvalidAccessKeyId",
    "SignatureDoesNotMatch": "InvalidAccessKeyId",
    "XAdminUserNotFound": "InvalidAccessKeyId",
    "AllAccessDisabled": "AccessDenied",
    "AuthorizationHeaderMalformed": "PermanentRedirect",
    "IllegalLocationConstraintException": "PermanentRedirect",
    "ServiceUnavailable": "SlowDown",
    "InternalError": "SlowDown",
    "MethodNotAllowed": "NotImplemented",
}
_BY_STATUS = {"301": "PermanentRedirect", "401": "InvalidAccessKeyId", "403": "AccessDenied", "429": "SlowDown", "501": "NotImplemented"}


def _ours(error: Exception, address: S3Address, verb: str, endpoint: str) -> Exception:
    from obstore import exceptions

    text = str(error)
    code = match[1] if (match := re.search(r"<Code>([A-Za-z0-9.]{1,60})</Code>", text)) else ""
    status = match[1] if (match := re.search(r"\b([1-5]\d\d) [A-Z][a-z]+", text)) else ""
    if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
        return ConflictError()
    if isinstance(error, FileNotFoundError) and code == "NoSuchKey":
        return _AbsentError(f"can't {verb} the lake {address}: an object is gone", hint="run it again")
    if "without LOCATION" in text:  # obstore's words for the one redirect that S3 has
        status = "301"
    transport = "" if code or status else "timeout" if re.search(r"kind: Timeout|TimedOut|timed out", text) else "connect"
    busy = "SlowDown" if status.startswith("5") and status != "501" else ""
    reason, hint = _NEWS.get(_SAME.get(code, code)) or _NEWS.get(transport or _BY_STATUS.get(status, "") or busy) or ("it refuses", "docs/aws.md")
    said = " ".join(part for part in (status, code) if part)
    at = "" if endpoint.endswith(".amazonaws.com") else f" at {mask(endpoint)}"
    return LakeError(f"can't {verb} the lake {address}{at}: {reason}{f' ({said})' if said else ''}", hint=hint, code=code or status or transport)
