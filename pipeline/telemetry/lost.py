"""The last words of a run that had none: what its log, trace and metrics lack when its bundle is closed for its dead process.

That is `run.finished` with state LOST, the spans that were open, and the run's one sample: all from the manifest, which says LOST
by then, and dated with the run's end. Each is said once, by the run or here; the same writers are used. OpenTelemetry's SDK is loaded
only when there is something to say: a run that closes another one needs it anyway a moment later.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from pipeline import names
from pipeline.records import Run
from pipeline.settings import Switch, says_true, variable
from pipeline.telemetry import bundle, facts, privacy
from pipeline.telemetry.manifest_reader import run_of

_log = logging.getLogger(__name__)

# What a manifest lacks that was not made by this version, or was changed: it must not keep a run from being closed.
_NOT_WHOLE = (ValueError, LookupError, TypeError, AttributeError)
# Writes what is missing to a stream, given what is there.
_Missing = Callable[[bytes, IO[str]], None]


def success_share_20(path: Path, record: Mapping[str, Any]) -> float | None:
    """The share that a lost run would have counted at its end; None when its manifest is not whole."""
    try:
        return bundle.success_share_20(run_of(record, path))
    except _NOT_WHOLE:
        return None


def tell(path: Path, record: Mapping[str, Any]) -> None:
    """Append what is missing to the files of the lost run that has that manifest; nothing when its telemetry was off.

    Raises:
        OSError: a file can't be read or written; what was said before that is found there the next time.
    """
    settings = record["settings"]
    if settings.get(variable("telemetry")) == Switch.OFF or says_true(settings.get(variable("otel_sdk_disabled"))):
        return
    try:
        run, more = run_of(record, path), settings.get(variable("resource_attributes"), "")
    except _NOT_WHOLE as error:
        _log.warning("run %s: its telemetry can't be closed: %s", path.name, privacy.message(error))
        return
    _append(path / bundle.LOGS, partial(_last_record, run, more))
    _append(path / bundle.TRACES, partial(_open_spans, run, more))
    _append(path / bundle.METRICS, partial(_sample, run, more))


def _append(file: Path, missing: _Missing) -> None:
    text = file.read_bytes() if file.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    added = io.StringIO()
    missing(whole, added)
    if added.getvalue():
        with bundle.open_for_append(file) as stream:
            # What was cut off in the middle of a line has not been read by anyone yet, and would spoil the next one.
            stream.truncate(len(whole))
            stream.write(added.getvalue())


def _last_record(run: Run, more: str, whole: bytes, added: IO[str]) -> None:
    if f'"{names.RUN_FINISHED.name}"'.encode() in whole[whole.rfind(b"\n", 0, -1) + 1 :]:
        return
    from pipeline.telemetry.otlp_logs import LogFile

    *_, last = facts.run_finished(run)
    log = LogFile(run, added, more)
    log.write(last, last.at_ns or run.started_ns, run.span_id)
    log.close()


def _open_spans(run: Run, more: str, whole: bytes, added: IO[str]) -> None:
    def is_written(span_id: int) -> bool:
        return re.search(rb'"spanId": ?"%016x"' % span_id, whole) is not None

    if not is_written(run.span_id):
        from pipeline.telemetry import tracing

        tracing.write_missing(run, added, more, is_written)


def _sample(run: Run, more: str, whole: bytes, added: IO[str]) -> None:
    if not whole:
        from pipeline.telemetry import metrics

        metrics.write(run, added, more)
