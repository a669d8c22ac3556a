"""The last word of a run that had none: `run.finished` with state LOST, appended to the log of a bundle that is closed for its dead process.

The record goes to the end of `logs.jsonl` with the resource, scope and trace of the run's own first record, so the collector
takes it as that run's. It knows only the file and the manifest: nothing of OpenTelemetry's SDK is needed to close a bundle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import names
from pipeline.records import State
from pipeline.telemetry import bundle

# OTLP's number and word for a warning, as for an aborted run.
_SEVERITY = {"severityNumber": 13, "severityText": "WARN"}


def append(path: Path, record: Mapping[str, Any], ended_ns: int, observed_ns: int) -> None:
    """Write `run.finished` for the lost run whose manifest will be `record`; nothing when the log is not there, or has that record.

    The file's time stays as it was, since it is a sign of the run's life.

    Raises:
        OSError: the file can't be written to.
        ValueError: its first line is no record.
    """
    file = path / bundle.LOGS
    if not file.is_file() or not (lines := file.read_bytes().split(b"\n")[:-1]) or f'"{names.RUN_FINISHED.name}"'.encode() in lines[-1]:
        return
    times = file.stat()
    with file.open("r+b") as log:
        # What was cut off in the middle of a line is not yet read by anyone, and would spoil the next one.
        log.truncate(sum(len(line) + 1 for line in lines))
        log.seek(0, os.SEEK_END)
        log.write(json.dumps(_like(json.loads(lines[0]), record, ended_ns, observed_ns), separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def _like(first: Mapping[str, Any], record: Mapping[str, Any], ended_ns: int, observed_ns: int) -> dict[str, Any]:
    """The OTLP line, with what the run's first one says of who sends it."""
    (resource,) = first["resourceLogs"]
    (scope,) = resource["scopeLogs"]
    begun = scope["logRecords"][0]
    message = record["failure"]["message"]
    last = {
        "timeUnixNano": str(ended_ns),
        "observedTimeUnixNano": str(observed_ns),
        **_SEVERITY,
        "body": {"stringValue": f"run {record['run_id']} lost after {record['seconds']:.2f} s: {message}"},
        "attributes": [{"key": name.name, "value": _value(value)} for name, value in _facts(record, message).items()],
        "flags": begun["flags"],
        "traceId": begun["traceId"],
        "spanId": begun["spanId"],
        "eventName": names.RUN_FINISHED.name,
    }
    return {"resourceLogs": [{**resource, "scopeLogs": [{**scope, "logRecords": [last]}]}]}


def _facts(record: Mapping[str, Any], message: str) -> dict[names.Attribute, str | int | float]:
    return {
        names.EVENT_NAME: names.RUN_FINISHED.name,
        names.RUN_STATE: State.LOST.value,
        names.RUN_SECONDS: record["seconds"],
        names.RUN_STEPS: len(record["steps"]),
        names.RUN_ROWS_IN: sum(source["rows"] for source in record["inputs"]),
        names.ERROR_TYPE: record["failure"]["type"],
        names.EXCEPTION_MESSAGE: message,
    }


def _value(value: str | float) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"doubleValue": value}
