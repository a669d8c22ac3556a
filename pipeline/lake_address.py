"""What a lake's address says: a folder, or `s3://bucket/prefix`; and what its datasets are called in lineage.

Nothing is read here and no library imported: settings, telemetry, links and the engine all ask.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
# Bucket names as S3 has them (3 to 63 signs; dots stand in old ones), and prefixes of signs that nothing on the way has to escape.
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9_.=+-]+(?:/[A-Za-z0-9_.=+-]+)*")


@dataclass(frozen=True, slots=True)
class S3Address:
    """A place in a bucket; `prefix` has no slash at its ends, and is empty for the whole bucket."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, path: str) -> str:
        """The key of a path in the lake."""
        return f"{self.prefix}/{path}".lstrip("/")


def parse_s3(address: str) -> S3Address | None:
    """The place in a bucket that an address names; None for a folder.

    Raises:
        ValueError: it is another kind of address, or names no bucket or prefix that there can be.
    """
    scheme = _SCHEME.match(address)
    if scheme is None:
        return None
    if scheme[1] != "s3":
        raise ValueError("not a folder, and not s3://bucket/prefix")
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    prefix = prefix.removesuffix("/")
    if "@" in address:
        raise ValueError("an address without credentials is wanted; they come from where AWS tools have them (docs/aws.md)")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("no bucket's name has that form (3 to 63 signs: a-z, 0-9, - and dots); wanted is s3://bucket/prefix")
    if prefix and (not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/"))):
        raise ValueError("a prefix is made of letters, digits, _ . = + - and single slashes; wanted is s3://bucket/prefix")
    return S3Address(bucket, prefix)


def dataset_place(address: str, lake_name: str, dataset: str) -> tuple[str, str]:
    """A dataset's namespace and name in lineage: `file://<lake name>` and its own, on S3 `s3://<bucket>` and its key.

    Input files lie in no lake, so theirs is always the first.
    """
    found = None if dataset.startswith("input/") else parse_s3(address)
    if found is None:
        return f"file://{lake_name}", dataset
    return f"s3://{found.bucket}", found.key(dataset)
