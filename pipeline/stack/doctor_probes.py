"""How one run is found again in each server, by its id, and compared with what its bundle says.

A probe returns "" when all of it is there, else what is missing in a few words. It raises `BackendError` when the server does
not answer as it should: then waiting for it is another matter than waiting for the run.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pipeline import names
from pipeline.errors import BackendError
from pipeline.records import Run
from pipeline.settings import Settings
from pipeline.stack.doctor_http import ask
from pipeline.telemetry import bundle

DATASOURCES: Final = ("prometheus", "loki", "jaeger", "alertmanager")
DASHBOARDS: Final = ("goldtrace-overview", "goldtrace-run", "goldtrace-quality", "goldtrace-slo", "goldtrace-models", "goldtrace-stack")
ALERT: Final = "GoldtraceCanary"
NOT_THERE: Final = "not found"
# What reading something that is JSON, and not what it should be, comes to.
NONSENSE: Final = (AttributeError, LookupError, TypeError, ValueError)
# All records of a large run, and what Loki gives at most.
_LINES: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A run that has ended, to be looked for."""

    run_id: uuid.UUID
    pipeline: str
    environment: str
    bundle: Path
    started_ns: int
    ended_ns: int

    @classmethod
    def of(cls, run: Run, ended_ns: int) -> Wanted:
        """A run of this process."""
        place = {"pipeline": run.pipeline.name, "environment": run.environment}
        return cls(run_id=run.id, bundle=run.bundle, started_ns=run.started_ns, ended_ns=ended_ns, **place)

    @property
    def trace_id(self) -> str:
        """The run's id as Jaeger and exemplars have it."""
        return self.run_id.hex

    @property
    def labels(self) -> str:
        """The labels that its series and its log's stream have."""
        return f'service_namespace="{self.pipeline}",deployment_environment_name="{self.environment}"'


Probe = Callable[[Settings, Wanted], str]


def collector(settings: Settings, wanted: Wanted) -> str:  # noqa: ARG001 - it is asked for itself: what it delivers is seen behind it
    """Healthy, and OTLP is taken in."""
    ask(settings.collector_url).expect_success()
    host = settings.collector_url.rpartition(":")[0] if settings.collector_url.count(":") > 1 else settings.collector_url
    ask(f"{host}:{settings.otlp_http_port}/v1/traces", body=b'{"resourceSpans":[]}').expect_success()
    return ""


def jaeger(settings: Settings, wanted: Wanted) -> str:
    """Every span of the bundle is in the trace whose id is the run's."""
    answer = ask(f"{settings.trace_url}/api/traces/{wanted.trace_id}")
    if answer.status == 404:
        return NOT_THERE
    traces = answer.expect_success().json().get("data") or []
    return _missing({span["spanID"] for trace in traces for span in trace["spans"]}, _span_ids(wanted.bundle), "spans")


def loki(settings: Settings, wanted: Wanted) -> str:
    """Every log record of the bundle is there under the run's id."""
    query = f'{{service_name="{names.SCOPE}",{wanted.labels}}} | {_underscored(names.RUN_ID)}="{wanted.run_id}"'
    span = {"start": str(wanted.started_ns - 1_000_000_000), "end": str(time.time_ns() + 1_000_000_000)}
    answer = ask(f"{settings.loki_url}/loki/api/v1/query_range", {"query": query, "limit": str(_LINES), **span}).expect_success().json()
    found = sum(len(stream["values"]) for stream in answer["data"]["result"])
    written = min(_LINES, sum(1 for _ in _log_records(wanted.bundle)))
    if not found or not written:
        return NOT_THERE
    return "" if found == written else f"{found} of {written} log records"


def prometheus(settings: Settings, wanted: Wanted) -> str:
    """The run's sample is there at its time, and an exemplar leads from the run's duration to its trace."""
    missing = sample(settings, wanted)
    if missing:
        return missing
    span = {"start": f"{wanted.started_ns / 1e9 - 1:.3f}", "end": f"{time.time() + 1:.3f}"}
    query = {"query": f"goldtrace_run_duration_seconds_bucket{{{wanted.labels}}}", **span}
    answer = ask(f"{settings.prometheus_url}/api/v1/query_exemplars", query).expect_success().json()
    traces = {exemplar["labels"].get("trace_id") for series in answer["data"] for exemplar in series["exemplars"]}
    return "" if wanted.trace_id in traces else "the sample is there, but no exemplar that leads to the trace"


def sample(settings: Settings, wanted: Wanted) -> str:
    """The run's sample is there at its time."""
    at, hours = _sample_ms(wanted.bundle), (time.time_ns() - wanted.started_ns) // 3_600_000_000_000 + 1
    answer = ask(f"{settings.prometheus_url}/api/v1/query", {"query": f"goldtrace_runs_total{{{wanted.labels}}}[{hours}h]"}).expect_success().json()
    times = {round(float(when) * 1000) for series in answer["data"]["result"] for when, _ in series["values"]}
    return "" if at in times else NOT_THERE


def alertmanager(settings: Settings, wanted: Wanted) -> str:
    """The canary's alert is firing, on this run's sample or a later one."""
    answer = ask(f"{settings.alertmanager_url}/api/v2/alerts", {"filter": f'alertname="{ALERT}"'}).expect_success().json()
    if not answer:
        return f"no alert {ALERT}"
    return "" if any(_alert_seconds(alert) >= wanted.ended_ns // 1_000_000_000 for alert in answer) else f"{ALERT} is about an earlier run"


def marquez_web(settings: Settings, wanted: Wanted) -> str:  # noqa: ARG001 - a page in the browser, which no run can be asked of
    """The page's server says that it is healthy."""
    ask(f"{settings.lineage_url}/healthcheck").expect_success()
    return ""


def reports(settings: Settings, wanted: Wanted) -> str:
    """The run's report is served."""
    answer = ask(f"{settings.report_url}/{quote(str(wanted.run_id))}/report.html")
    if answer.status == 404:
        return NOT_THERE
    return "" if str(wanted.run_id).encode() in answer.expect_success().body else "the page is not the run's report"


def grafana(settings: Settings, wanted: Wanted) -> str:  # noqa: ARG001 - it holds no runs: it asks the others
    """Its database is well, and datasources and dashboards are provisioned under the uids that links use."""
    if ask(f"{settings.grafana_url}/api/health").expect_success().json().get("database") != "ok":
        return "its database is not well"
    sources = _datasources(settings.grafana_url)
    absent = [uid for uid in DATASOURCES if uid not in sources]
    if absent:
        return f"no datasource {', '.join(absent)}"
    found = {each.get("uid") for each in ask(f"{settings.grafana_url}/api/search", {"type": "dash-db"}).expect_success().json()}
    absent = [uid for uid in DASHBOARDS if uid not in found]
    return f"no dashboard {', '.join(absent)}" if absent else ""


def _datasources(url: str) -> set[str]:
    """The uids of the datasources. Somebody who is not signed in may see them in the page's settings only."""
    answer = ask(f"{url}/api/datasources")
    if answer.status in (401, 403):
        listed = ask(f"{url}/api/frontend/settings").expect_success().json().get("datasources", {}).values()
    else:
        listed = answer.expect_success().json()
    return {str(each.get("uid")) for each in listed}


def _alert_seconds(alert: Mapping[str, Any]) -> float:
    """The time of the sample that an alert is about, which its rule writes down."""
    text = {**alert["annotations"], **alert["labels"]}.get("sample_time", "")
    try:
        return float(text)
    except ValueError as error:
        raise BackendError(f"the alert {ALERT} has no sample_time but {text!r}") from error


def _missing(found: set[str], written: set[str], noun: str) -> str:
    if not found or not written:
        return NOT_THERE
    return "" if written <= found else f"{len(written & found)} of {len(written)} {noun}"


# ---------------------------------------------------------------------------------------------- what the bundle says


def is_whole(folder: Path) -> bool:
    """Whether a bundle has what the probes of its telemetry look for, to the run's end.

    Raises:
        OSError, or one of `NONSENSE`: it is damaged.
    """
    return bool(_span_ids(folder)) and any(True for _ in _log_records(folder)) and _sample_ms(folder) is not None


def _span_ids(folder: Path) -> set[str]:
    """All spans of a bundle; none until its root span is written, which is the last."""
    spans = [span for scope in _scopes(folder / bundle.TRACES, "resourceSpans", "scopeSpans") for span in scope["spans"]]
    return {span["spanId"] for span in spans} if any(not span.get("parentSpanId") for span in spans) else set()


def _log_records(folder: Path) -> Iterator[Mapping[str, Any]]:
    """All log records of a bundle; none until `run.finished` is written, which is the last."""
    records = [record for scope in _scopes(folder / bundle.LOGS, "resourceLogs", "scopeLogs") for record in scope["logRecords"]]
    return iter(records if any(record.get("eventName") == names.RUN_FINISHED.name for record in records) else [])


def _sample_ms(folder: Path) -> int | None:
    """When the run's metrics were collected, in milliseconds as Prometheus keeps it; None until they are."""
    for scope in _scopes(folder / bundle.METRICS, "resourceMetrics", "scopeMetrics"):
        for metric in scope["metrics"]:
            if metric["name"] == names.RUNS.name:
                return int(metric["sum"]["dataPoints"][0]["timeUnixNano"]) // 1_000_000
    return None


def _scopes(path: Path, groups: str, scopes: str) -> Iterator[Mapping[str, Any]]:
    """The scopes of all whole lines of an OTLP JSON file."""
    if path.exists():
        for line in path.read_text("utf-8").split("\n")[:-1]:
            for group in json.loads(line)[groups]:
                yield from group[scopes]


def _underscored(attribute: names.Attribute) -> str:
    """An attribute's name as Loki keeps it."""
    return attribute.name.replace(".", "_")
