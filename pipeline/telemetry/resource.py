"""Who sends the telemetry: the OpenTelemetry resource of a run, the same on spans, metrics and log records."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from pipeline import names
from pipeline.records import Run

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

SERVICE = "goldtrace"


def attributes(run: Run, more: str = "") -> dict[str, str]:
    """The resource's attributes: the run's id first, since file readers tell files apart by their first bytes; then ours; then `more`.

    `more` is as in `OTEL_RESOURCE_ATTRIBUTES` (`key=value,key=value`, values percent-encoded). It adds, and replaces none of ours.
    """
    ours = {
        names.RUN_ID.name: str(run.id),
        names.SERVICE_NAME.name: SERVICE,
        names.SERVICE_NAMESPACE.name: run.pipeline.name,
        names.SERVICE_VERSION.name: run.code.version,
        names.ENVIRONMENT.name: run.environment,
    }
    pairs = (pair.partition("=") for pair in more.split(",") if "=" in pair)
    others = {key.strip(): unquote(value.strip()) for key, _, value in pairs if key.strip()}
    return ours | {key: value for key, value in others.items() if key not in ours}


def resource(run: Run, more: str = "") -> Resource:
    """The same as an OpenTelemetry resource. Made directly: `Resource.create` would put attributes of the SDK first."""
    from opentelemetry.sdk.resources import Resource

    return Resource(attributes(run, more))
