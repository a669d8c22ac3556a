"""The log of a run, read from `logs.jsonl` (OTLP JSON lines), cut to what a page can carry.

A long log is cut in its middle: its beginning, its end and every warning and error between say most. Lines are parsed
only when they are shown, so that a log of a million lines costs a second and not a minute.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pipeline import names

LOGS: Final = "logs.jsonl"
HEAD: Final = 400
TAIL: Final = 400
URGENT: Final = 400
WARN: Final = 13
_SEVERITY: Final = re.compile(rb'"severityNumber"\s*:\s*"?(\d+)')
_LEVELS: Final = ((17, "error"), (WARN, "warning"), (9, "info"), (0, "debug"))
# What the columns of the table say already.
_SHOWN: Final = frozenset({names.EVENT_NAME.name, names.STEP_NAME.name, names.EXCEPTION_STACKTRACE.name})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One log record; `facts` are its attributes under their last words, in the order in which they were written."""

    at: datetime
    level: str
    step: str
    event: str
    message: str
    facts: tuple[tuple[str, str], ...]
    stacktrace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The entries shown, how many records the file has, and how many of its lines could not be read (a killed run's last)."""

    entries: tuple[Entry, ...]
    total: int
    unreadable: int

    @property
    def left_out(self) -> int:
        """Records that are in the bundle and not here."""
        return self.total - len(self.entries)

    @property
    def levels(self) -> list[str]:
        """The levels that occur, the gravest first."""
        found = {entry.level for entry in self.entries}
        return [level for _, level in _LEVELS if level in found]

    @property
    def steps(self) -> list[str]:
        """The steps that occur, in their order."""
        return list(dict.fromkeys(entry.step for entry in self.entries if entry.step))


def read_log(bundle: Path, head: int = HEAD, tail: int = TAIL, urgent: int = URGENT) -> Log | None:
    """The log of a bundle: at most `head + urgent + tail` records. None when the run wrote no log."""
    path = bundle / LOGS
    if not path.exists():
        return None
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    weights = [_SEVERITY.findall(line) for line in lines]
    total = sum(map(len, weights))
    entries, unreadable = [], 0
    for index in _chosen(weights, head, tail, urgent):
        try:
            entries += _entries(json.loads(lines[index]))
        except (ValueError, KeyError, TypeError):
            unreadable += 1
            total -= len(weights[index])
    return Log(entries=tuple(entries), total=max(total, len(entries)), unreadable=unreadable)


def _chosen(weights: list[list[bytes]], head: int, tail: int, urgent: int) -> Iterable[int]:
    """The lines to show: the first, the last, and the first warnings and errors between."""
    if len(weights) <= head + tail:
        return range(len(weights))
    between = range(head, len(weights) - tail)
    grave = [index for index in between if any(int(number) >= WARN for number in weights[index])]
    return (*range(head), *grave[:urgent], *range(len(weights) - tail, len(weights)))


def _entries(line: Mapping[str, Any]) -> list[Entry]:
    return [_entry(record) for group in line["resourceLogs"] for scope in group["scopeLogs"] for record in scope["logRecords"]]


def _entry(record: Mapping[str, Any]) -> Entry:
    attributes = {item["key"]: _text(item["value"]) for item in record.get("attributes", [])}
    nanoseconds = int(record.get("timeUnixNano") or record.get("observedTimeUnixNano") or 0)
    severity = int(record.get("severityNumber") or 0)
    return Entry(
        at=datetime.fromtimestamp(nanoseconds // 1000 / 1e6, UTC),
        level=next(level for least, level in _LEVELS if severity >= least),
        step=attributes.get(names.STEP_NAME.name) or attributes.get("step", ""),
        event=record.get("eventName") or attributes.get(names.EVENT_NAME.name, ""),
        message=_text(record.get("body") or {}),
        facts=tuple((_short(key), value) for key, value in attributes.items() if key not in _SHOWN and key != "step" and value != ""),
        stacktrace=attributes.get(names.EXCEPTION_STACKTRACE.name, ""),
    )


def _short(key: str) -> str:
    return key.removeprefix(names.SCOPE + ".")


def _text(value: Mapping[str, Any]) -> str:
    """An OTLP `AnyValue` as text."""
    kind: str = next(iter(value), "stringValue")
    inner: Any = value.get(kind, "")
    if kind == "arrayValue":
        return ", ".join(_text(item) for item in inner.get("values", []))
    if kind == "kvlistValue":
        return ", ".join(f"{item['key']}={_text(item['value'])}" for item in inner.get("values", []))
    if kind == "boolValue":
        return "yes" if inner else "no"
    return f"{inner:.6g}" if kind == "doubleValue" and isinstance(inner, float) else str(inner)
