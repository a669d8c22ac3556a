"""What `pipeline replay` says: a line that moves while it sends, and a table at the end."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any, TextIO

from pipeline.report.progress import CLEAR
from pipeline.report.tables import aligned
from pipeline.telemetry.delivery import Replay, Sent
from pipeline.telemetry.delivery_entry import Delivery

_EVERY_SECONDS = 0.2


class ReplayProgress:
    """One line on a terminal: which run goes, and how far it is."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._runs: set[str] = set()
        self._shown = 0.0

    def __call__(self, sent: Sent, number: int) -> None:
        """Show how far a run is."""
        self._runs.add(sent.run_id)
        if time.monotonic() - self._shown >= _EVERY_SECONDS:
            self._shown = time.monotonic()
            self._write(f"  run {len(self._runs)}: {sent.run_id}, event {number} of {sent.entry.total}")

    def close(self) -> None:
        """Leave the line empty."""
        self._write("")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that is gone
            if self._stream.isatty():
                self._stream.write(CLEAR + text)
                self._stream.flush()


def replay_text(found: Replay) -> str:
    """The runs that were sent, one a line, and what it came to."""
    rows = [(each.run_id, f"{each.entry.events} of {each.entry.total or 0}", each.entry.state.value, each.entry.detail) for each in found.sent]
    table = [aligned([("RUN", "EVENTS", "LINEAGE", ""), *rows])] if rows else []
    mlflow = [f"MLflow took {found.entered} run{'' if found.entered == 1 else 's'} that waited"] if found.entered else []
    return "\n\n".join([*table, *mlflow, _sentence(found)])


def _sentence(found: Replay) -> str:
    delivered = sum(1 for each in found.sent if each.entry.state is Delivery.DELIVERED)
    if not found.sent and not found.waiting:
        return "no lineage waits"
    runs = "1 run" if delivered == 1 else f"{delivered} runs"
    more = f"; {found.waiting} more wait" if found.waiting else ""
    return f"the lineage of {runs} is at {found.target}{more}"


def replay_json(found: Replay) -> dict[str, Any]:
    """The same for other programs."""
    return {
        "target": found.target,
        "sent": [{"run_id": each.run_id, **each.entry.as_json()} for each in found.sent],
        "waiting": found.waiting,
        "entered_in_mlflow": found.entered,
        "problem": found.problem.message if found.problem else None,
    }
