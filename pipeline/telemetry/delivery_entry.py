"""What `delivery.json` says of a run's lineage; `delivery.schema.json` beside this file describes the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline import delivery_file
from pipeline.clock import MACHINE
from pipeline.telemetry import manifest

FILE = delivery_file.FILE
KEY = "lineage"
MAX_ASIDE = 100


class Delivery(StrEnum):
    """How far a run's lineage has come. `failed`: all of it was sent, and the server refused a part, or it can't be sent at all."""

    DELIVERED = "delivered"
    PENDING = "pending"
    FAILED = "failed"
    OFF = "off"


# A tuple, as what a damaged file has in its place may not be hashable.
_STATES = tuple(state.value for state in Delivery)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """An event that is left out for good: its place in the file, from 1 on, and why."""

    event: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A run's delivery: `events` of `total` were taken or put aside by `target`; `answer` is the last one, `detail` says the rest."""

    state: Delivery
    events: int = 0
    total: int | None = None
    target: str = ""
    answer: str = ""
    detail: str = ""
    aside: tuple[Aside, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The entry as it is written, with the time."""
        if self.state is Delivery.OFF:
            return {"state": self.state.value}
        return {
            "state": self.state.value,
            "target": self.target,
            "at": manifest.iso(MACHINE.now_ns()),
            "events": self.events,
            "total": self.total,
            "answer": self.answer,
            "detail": self.detail,
            "aside": [{"event": each.event, "reason": each.reason} for each in self.aside[:MAX_ASIDE]],
        }


def read(folder: Path) -> Entry | None:
    """The entry of a bundle, None when there is none that can be read: then nothing of the run was delivered."""
    known = delivery_file.read(folder).get(KEY)
    if not isinstance(known, Mapping) or known.get("state") not in _STATES:
        return None
    events, total, aside = known.get("events"), known.get("total"), known.get("aside")
    return Entry(
        state=Delivery(known["state"]),
        events=events if isinstance(events, int) else 0,
        total=total if isinstance(total, int) else None,
        **{name: str(known.get(name) or "") for name in ("target", "answer", "detail")},
        aside=tuple(
            Aside(event=each["event"], reason=str(each.get("reason")))
            for each in (aside if isinstance(aside, list) else [])
            if isinstance(each, dict) and isinstance(each.get("event"), int)
        ),
    )


def write(folder: Path, entry: Entry) -> None:
    """Replace our part of a bundle's `delivery.json` at once, and leave the others' as they are.

    Raises:
        OSError: it can't be written.
    """
    delivery_file.write(folder, KEY, entry.as_json())
