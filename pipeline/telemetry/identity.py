"""Ids that join everything: UUIDv7 for runs and steps, and what W3C Trace Context says about a caller's.

Only the standard library, since an id is needed before anything heavy is imported. Random bits come from the operating
system, so that `random.seed()` in a user's code cannot give two runs one trace.
"""

from __future__ import annotations

import re
import secrets
import uuid
from dataclasses import dataclass

from pipeline.clock import MACHINE, Clock

LOW_64: int = 0xFFFF_FFFF_FFFF_FFFF
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def new_id(clock: Clock = MACHINE) -> uuid.UUID:
    """A UUIDv7 (RFC 9562, section 5.7) of the clock's time: later ones of a clock sort later; the low 62 bits are random.

    The low 64 bits, which become a span id, are never zero, since two of them are the variant.
    """
    tick = clock.tick()
    return uuid.UUID(int=tick >> 12 << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | secrets.randbits(62))


def new_span_id() -> int:
    """64 random bits that are not all zero, for a span that has no id of its own."""
    return secrets.randbits(64) or 1


def span_id(id_: uuid.UUID) -> int:
    """The id of the span that belongs to a run or a step: the low 64 bits of its UUID."""
    return id_.int & LOW_64


def started_ns(id_: uuid.UUID) -> int:
    """When a UUIDv7 was made, in nanoseconds since the epoch, to the millisecond."""
    return (id_.int >> 80) * 1_000_000


def parse_id(text: str) -> uuid.UUID | None:
    """A run's id from its text, with or without dashes; None when it is no UUIDv7."""
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}", text):
        return None
    id_ = uuid.UUID(text)
    return id_ if id_.version == 7 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceParent:
    """A caller's span."""

    trace_id: int
    span_id: int
    sampled: bool


def parse_traceparent(text: str) -> TraceParent | str:
    """The caller's span from a `traceparent` (W3C Trace Context, level 2, section 3.2), or why the text is not one.

    Strict as the recommendation asks: lower case, version `ff` refused, version 00 without anything after the flags, no id of
    zeros. A bad one is ignored by whoever asks, since a caller's mistake must not fail a run.
    """
    match = _TRACEPARENT.fullmatch(text.strip())
    if match is None:
        return "it is not version-traceid-spanid-flags in lower-case hex digits"
    version, trace, span, flags, rest = match.groups()
    if version == "ff":
        return "version ff is not allowed"
    if version == "00" and rest is not None:
        return "version 00 has nothing after the flags"
    if int(trace, 16) == 0 or int(span, 16) == 0:
        return "an id of zeros is none"
    return TraceParent(trace_id=int(trace, 16), span_id=int(span, 16), sampled=bool(int(flags, 16) & 1))
