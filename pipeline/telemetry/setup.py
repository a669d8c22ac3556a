"""Which hooks a run gets. The outside libraries are imported here, when a run begins, and not before."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipeline.settings import Settings, Switch, says_true

if TYPE_CHECKING:
    from pipeline.records import Hook

_log = logging.getLogger(__name__)


def hooks_for(settings: Settings) -> list[Hook]:
    """The hooks of telemetry, in the order in which they are entered; they are left in the opposite order.

    Logs are first, so that the others' trouble is told and `run.finished` is the last line; lineage is last. With
    `PIPELINE_TELEMETRY=off` only the terminal's log is left. `OTEL_SDK_DISABLED=true` keeps its standard meaning: no traces,
    metrics and log records, and a line that says so; lineage is not OpenTelemetry's and stays.
    """
    from pipeline.telemetry.logs import LogsHook, Style

    is_on = settings.telemetry is Switch.ON
    has_otel = is_on and not says_true(settings.otel_sdk_disabled)
    style = Style.PLAIN if settings.is_plain_terminal else Style.MONOCHROME if settings.no_color else Style.COLOURED
    logs = LogsHook(terminal_level=settings.log_level, to_bundle=has_otel, style=style, resource_attributes=settings.resource_attributes)
    if is_on and not has_otel:
        _log.warning("OTEL_SDK_DISABLED is true: no traces, metrics and log records are written")
    return [logs, *(_otel(settings) if has_otel else []), *(_lineage(settings) if is_on else [])]


def _otel(settings: Settings) -> list[Hook]:
    from pipeline.telemetry.metrics import MetricsHook
    from pipeline.telemetry.tracing import TracesHook

    return [TracesHook(settings.resource_attributes), MetricsHook(settings.resource_attributes)]


def _lineage(settings: Settings) -> list[Hook]:
    from pipeline.telemetry.lineage import LineageHook

    return [LineageHook(settings)]
