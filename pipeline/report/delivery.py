"""What was handed to servers, as the bundle's `delivery.json` says: one entry a signal, written by the adapter that sent it.

Lineage and what an archived run's telemetry came to are left out: they are sent when the report is written, and may go to other servers later.
The report would soon be wrong.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DELIVERY: Final = "delivery.json"
_SENT_LATER: Final = frozenset({"lineage", "telemetry"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One signal's delivery; `state` is `delivered`, `pending`, `failed` or `off`."""

    signal: str
    state: str
    target: str
    detail: str


def read_deliveries(bundle: Path) -> tuple[Delivery, ...]:
    """The deliveries by signal that were made while the run went on; none when nothing was handed over."""
    try:
        found = json.loads((bundle / DELIVERY).read_bytes())
    except (FileNotFoundError, ValueError):
        return ()
    entries = found.items() if isinstance(found, dict) else ()
    return tuple(_delivery(signal, entry) for signal, entry in sorted(entries) if isinstance(entry, dict) and signal not in _SENT_LATER)


def _delivery(signal: str, entry: Mapping[str, object]) -> Delivery:
    state, target, detail = (str(entry.get(key) or "") for key in ("state", "target", "detail"))
    return Delivery(signal=signal, state=state, target=target, detail=detail)
