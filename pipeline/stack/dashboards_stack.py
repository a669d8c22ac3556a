"""Is the stack itself healthy: are the servers up, does telemetry arrive, is anything refused or lost, is there room.

These are the servers' own metrics, scraped all the time, so `rate` and `increase` are right here. Their names were read from
the servers of compose/.env; `SERVERS_METRICS` lists them with their source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pipeline import names
from pipeline.stack.dashboards import Dashboard, Line, choices
from pipeline.stack.dashboards_overview import NO_RUNS
from pipeline.stack.links import Addresses
from pipeline.stack.panels import GREEN, NONE_IS_GOOD, RED, YELLOW, Panel, Scale, Target, Words, flow, series, stat
from pipeline.stack.queries import PIPELINE_LEGEND, now, of_runs, over_time, sample
from pipeline.stack.rules import DISK_SHARE

SERVERS_METRICS: Final[Mapping[str, str]] = {
    "up": "Prometheus, of each scrape",
    "ALERTS": "Prometheus, of each alert",
    "otelcol_exporter_queue_size": "collector :8888/metrics",
    "otelcol_exporter_queue_capacity": "collector :8888/metrics",
    "otelcol_exporter_sent_spans": "collector :8888/metrics",
    "otelcol_exporter_sent_log_records": "collector :8888/metrics",
    "otelcol_exporter_sent_metric_points": "collector :8888/metrics",
    "otelcol_exporter_send_failed_spans": "collector :8888/metrics, from the first failure on",
    "otelcol_exporter_send_failed_log_records": "collector :8888/metrics, from the first failure on",
    "otelcol_exporter_send_failed_metric_points": "collector :8888/metrics, from the first failure on",
    "otelcol_exporter_enqueue_failed_spans": "collector :8888/metrics, from the first failure on",
    "otelcol_exporter_enqueue_failed_log_records": "collector :8888/metrics, from the first failure on",
    "otelcol_exporter_enqueue_failed_metric_points": "collector :8888/metrics, from the first failure on",
    "otelcol_receiver_refused_spans": "collector :8888/metrics",
    "otelcol_receiver_refused_log_records": "collector :8888/metrics",
    "otelcol_receiver_refused_metric_points": "collector :8888/metrics",
    "otelcol_process_memory_rss": "collector :8888/metrics",
    "otelcol_process_memory_rss_bytes": "Jaeger 2.13 :8888/metrics",
    "process_resident_memory_bytes": "Prometheus, Loki, Alertmanager, Grafana /metrics",
    "prometheus_tsdb_storage_blocks_bytes": "Prometheus /metrics",
    "prometheus_tsdb_wal_storage_size_bytes": "Prometheus /metrics",
    "prometheus_tsdb_head_chunks_storage_size_bytes": "Prometheus /metrics",
    "prometheus_tsdb_too_old_samples_total": "Prometheus /metrics",
    "jaeger_storage_badger_size_bytes_lsm": "Jaeger :8888/metrics",
    "jaeger_storage_badger_size_bytes_vlog": "Jaeger :8888/metrics",
    "loki_discarded_samples_total": "Loki /metrics, from the first discarded line on",
    "loki_ingester_wal_disk_usage_percent": "Loki /metrics; a share of 1, despite its name",
    "alertmanager_notifications_failed_total": "Alertmanager /metrics",
}
RECORDS: Final = ("spans", "log_records", "metric_points")
# For so long a server may have gone without being scraped, and its counters are still the same.
GAP: Final = "1h"
QUIET: Final = "The servers' metrics are not there: is Prometheus up? (make obs.status)"


def build(addresses: Addresses) -> Dashboard:
    """The dashboard."""
    del addresses  # the same call for all
    return Dashboard(
        name="stack",
        title="Goldtrace · Stack health",
        description="Are the servers up, does telemetry arrive, is anything refused or lost, is there room.",
        days=1,
        variables=choices(),
        parts=(
            Line(height=4, panels=((10, _up()), (5, _refused()), (5, _failed()), (4, _lost()))),
            Line(height=8, panels=((12, _queue()), (12, _sent()))),
            Line(height=8, panels=((12, _memory()), (12, _disk_used()))),
            Line(height=8, panels=((12, _disk_free()), (12, _cost()))),
        ),
    )


def _up() -> Panel:
    words = Words(
        title="Which servers are up?",
        description="Whether Prometheus' last scrape of each server worked. Marquez and its database are not scraped: `pipeline doctor` looks at them.",
        empty=QUIET,
    )
    scale = Scale(unit="none", steps=((None, RED), (1, GREEN)), words={"0": ("Down", RED), "1": ("Up", GREEN)})
    return stat(words, [now("min by (job) (up)", "{{job}}")], scale)


def _refused() -> Panel:
    counters = [*(f"otelcol_receiver_refused_{each}" for each in RECORDS), "loki_discarded_samples_total", "prometheus_tsdb_too_old_samples_total"]
    words = Words(
        title="Was anything refused?",
        description=(
            "Records that the collector refused, lines that Loki discarded, and samples that Prometheus found too old, in the range. Samples older than "
            "30 days are refused by design: dashboards leave such runs out, their bundles keep them."
        ),
        empty=QUIET,
    )
    return stat(words, [now(_grown(counters), "records")], Scale(unit="locale", steps=NONE_IS_GOOD, decimals=0))


def _failed() -> Panel:
    counters = [*(f"otelcol_exporter_{what}_failed_{each}" for what in ("send", "enqueue") for each in RECORDS), "alertmanager_notifications_failed_total"]
    words = Words(
        title="Did anything fail to be sent?",
        description="Records that the collector gave up on, or could not even queue, and notifications that Alertmanager could not deliver, in the range.",
        empty=QUIET,
    )
    return stat(words, [now(_grown(counters), "records")], Scale(unit="locale", steps=NONE_IS_GOOD, decimals=0))


def _grown(counters: Sequence[str]) -> str:
    """By how much counters grew in the range, all together, as a whole number; nothing while no server is up."""
    return f"round({' + '.join(map(_growth, counters))}) and on() max(up)"


def _growth(counter: str) -> str:
    """By how much a counter grew in the range.

    `increase` sees past a restart, and not what a counter began with: some come into being with their first failure. That counts
    for those that were not there in the hour before the range; it is the last value less the whole change, as PromQL has no first one.
    A counter that was seen once has no change. One that a restart brings back higher than it was has grown by the difference alone.
    """
    seen = f"last_over_time({counter}[$__range])"
    first = f"({seen} - delta({counter}[$__range]) or {seen}) unless last_over_time({counter}[{GAP}] offset $__range)"
    return f"(sum(increase({counter}[$__range])) or vector(0)) + (sum({first}) or vector(0))"


def _lost() -> Panel:
    words = Words(
        title="Did runs lose telemetry?",
        description="Calls of a run's own telemetry that failed, over the runs in the range: each is a gap in one signal of one run.",
        empty=NO_RUNS,
    )
    expr = f"sum(sum_over_time({sample(names.TELEMETRY_LOST)}[$__range]))"
    return stat(words, [now(expr, "records")], Scale(unit="locale", steps=NONE_IS_GOOD, decimals=0))


def _queue() -> Panel:
    words = Words(
        title="Does the collector keep up?",
        description="How full each queue on disk is. It fills while its server is away and drains when it is back: nothing is lost until it is full.",
        empty=QUIET,
    )
    expr = "max by (exporter, data_type) (otelcol_exporter_queue_size / otelcol_exporter_queue_capacity)"
    return flow(
        words, [over_time(expr, "{{data_type}} to {{exporter}}")], Scale(unit="percentunit", steps=((None, GREEN), (0.5, YELLOW), (0.9, RED)), low=0, high=1)
    )


def _sent() -> Panel:
    words = Words(
        title="Does telemetry arrive?",
        description="Records that the collector delivered, per second. Batch jobs are silent between runs: zero is normal then.",
        empty=QUIET,
    )
    rates = " or ".join(f'rate(otelcol_exporter_sent_{each}{{job="collector"}}[$__rate_interval])' for each in RECORDS)
    expr = f"sum by (exporter) ({rates})"
    return flow(words, [over_time(expr, "{{exporter}}")], Scale(unit="rps", low=0))


def _memory() -> Panel:
    words = Words(
        title="How much memory does each server take?",
        description="Resident memory. Each service's limit stands in compose/obs.yaml; near it the service is killed and started again.",
        empty=QUIET,
    )
    expr = "process_resident_memory_bytes or otelcol_process_memory_rss or otelcol_process_memory_rss_bytes"
    return flow(words, [over_time(f"max by (job) ({expr})", "{{job}}")], Scale(unit="bytes", low=0))


def _disk_used() -> Panel:
    words = Words(
        title="How much do the stores keep?",
        description="Bytes on disk of Prometheus and Jaeger. Jaeger sets its log aside ahead (2 GiB), Loki doesn't say. "
        "Data is deleted after RETENTION (30 days unless set).",
        empty=QUIET,
    )
    prometheus = "prometheus_tsdb_storage_blocks_bytes + prometheus_tsdb_wal_storage_size_bytes + prometheus_tsdb_head_chunks_storage_size_bytes"
    jaeger = "jaeger_storage_badger_size_bytes_lsm + jaeger_storage_badger_size_bytes_vlog"
    return flow(words, [_sum(prometheus, "Prometheus"), _sum(jaeger, "Jaeger")], Scale(unit="bytes", low=0))


def _sum(expr: str, legend: str) -> Target:
    return over_time(f"sum({expr})", legend)


def _disk_free() -> Panel:
    free, size = (of_runs(metric) for metric in (names.DISK_FREE, names.DISK_SIZE))
    words = Words(
        title="How full are the disks?",
        description="The disk of the stack's volumes, as Loki sees it all the time, and those of lake and runs, as each run saw them at its end. "
        "A run counts what a disk keeps for root as taken, Loki doesn't: the two can differ by a twentieth on one disk.",
        empty=QUIET,
    )
    own = over_time(f"1 - {free} / {size}", f"{{{{{names.PLACE.name}}}}} · {PIPELINE_LEGEND}")
    steps = ((None, GREEN), (1 - 2 * DISK_SHARE, YELLOW), (1 - DISK_SHARE, RED))
    return series(words, [over_time("max(loki_ingester_wal_disk_usage_percent)", "volumes"), own], Scale(unit="percentunit", steps=steps, low=0, high=1))


def _cost() -> Panel:
    words = Words(
        title="What does telemetry cost the runs?",
        description="Wall time that each signal took from a run. The promise is at most 2 s plus 2 % of the run, experiments apart.",
        empty=NO_RUNS,
    )
    return series(
        words, [over_time(f"max by ({names.SIGNAL.name}) ({of_runs(names.TELEMETRY_SECONDS)})", f"{{{{{names.SIGNAL.name}}}}}")], Scale(unit="s", low=0)
    )
