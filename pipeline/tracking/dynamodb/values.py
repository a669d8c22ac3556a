"""Values as DynamoDB takes them, and back: numbers that it can't hold, packed lists, how much room a thing takes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from pipeline.tracking.dynamodb.client import Item

# What SQL stores in place of the infinities, and MLflow shows.
LARGEST = 1.7976931348623157e308
# DynamoDB's numbers have 38 digits between these; a double beyond them is kept as text.
_SMALLEST_NUMBER, _LARGEST_NUMBER = 1e-129, 9e125
_NOT_A_NUMBER = "NaN"
_NO_KEY = "\0"
PART_BYTES = 350_000


def text(value: str | None) -> Item:
    """A text, or nothing."""
    return {"NULL": True} if value is None else {"S": str(value)}


def whole(value: int | None) -> Item:
    """A whole number, or nothing."""
    return {"NULL": True} if value is None else {"N": str(value)}


def double(value: float, *, is_nan: bool) -> Item:
    """A double: a number where DynamoDB can hold it, else a text."""
    if is_nan:
        return {"S": _NOT_A_NUMBER}
    return {"N": repr(value)} if value == 0 or _SMALLEST_NUMBER <= abs(value) <= _LARGEST_NUMBER else {"S": repr(value)}


def texts(values: Mapping[str, str | None]) -> Item:
    """A map of texts."""
    return {"M": {name(key): text(value) for key, value in values.items()}}


def name(key: str) -> str:
    """A key as an attribute's name, which is never empty."""
    return key or _NO_KEY


def read_text(value: Item | None) -> str | None:
    """What `text` wrote; nothing for an attribute that isn't there."""
    return value.get("S") if value else None


def read_whole(value: Item | None) -> int | None:
    """What `whole` wrote; nothing for an attribute that isn't there."""
    return int(value["N"]) if value and "N" in value else None


def read_double(value: Item) -> tuple[float, bool]:
    """What `double` wrote: the value, 0 where it is none, and whether it is none."""
    if value.get("S") == _NOT_A_NUMBER:
        return 0.0, True
    return float(value["N"] if "N" in value else value["S"]), False


def read_texts(value: Item | None) -> dict[str, str | None]:
    """What `texts` wrote; empty for an attribute that isn't there."""
    return {"" if key == _NO_KEY else key: entry.get("S") for key, entry in value["M"].items()} if value else {}


def pack(value: object) -> bytes:
    """Anything that JSON holds, in little room. Level 1: what is sent is small already, and time is dearer."""
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 1)


def unpack(packed: bytes) -> Any:
    """What `pack` made."""
    return json.loads(zlib.decompress(packed))


def split(packed: bytes) -> list[bytes]:
    """In pieces that each fit into an item."""
    return [packed[start : start + PART_BYTES] for start in range(0, len(packed), PART_BYTES)]


def room(value: Item) -> int:
    """An upper bound of the bytes that DynamoDB counts for a value."""
    ((kind, content),) = value.items()
    if kind == "M":
        return 3 + sum(1 + len(key.encode()) + room(entry) for key, entry in content.items())
    if kind == "S":
        return len(content.encode())
    return len(content) if kind == "B" else 21
