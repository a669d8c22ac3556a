"""What each rule makes of the sparse samples of batch jobs: fires, does not fire, resolves."""

from __future__ import annotations

from tests.stack.rules_support import DAY, Recorded, Scenario, daily

WHO = "potato (local)"
# A run a day at midnight, for the deadline an hour later.
DEADLINE = 3600


def deadlines(*days: int | None) -> tuple[float | None, ...]:
    return tuple(None if day is None else day * 86_400 + DEADLINE for day in days)


def estimates(*values: float | None) -> dict[str, str]:
    return {'goldtrace_model_estimate{model="ols",term="fiber"}': daily(*values)}


ALERTS: dict[str, list[Scenario]] = {
    "GoldtraceRunFailed": [
        Scenario(
            name="fires and resolves: good, failed, good",
            series={"goldtrace_last_run_success": daily(1, 0, 1)},
            expected=[
                ("23h", []),
                ("24h", [({}, f"{WHO}: the last run did not complete (1 in 30 days)")]),
                ("47h", [({}, f"{WHO}: the last run did not complete (1 in 30 days)")]),
                ("48h", []),
            ],
        ),
        Scenario(
            name="fires and resolves: a run that was lost while the next one, two hours later, goes well",
            series={
                "goldtrace_last_run_success": f"1 _x{DAY - 1} 0 _x119 1 _x{DAY}",
                'goldtrace_runs_total{outcome="lost",gate="none"}': daily(None, 1, tail=DAY),
            },
            expected=[("23h", []), ("25h", [({}, f"{WHO}: the last run did not complete (1 in 30 days)")]), ("26h", [])],
        ),
        Scenario(
            name="does not fire: the doctor's runs, and another pipeline's good ones",
            series={
                'goldtrace_last_run_success{deployment_environment_name="canary"}': daily(0, 0),
                'goldtrace_last_run_success{service_namespace="other"}': daily(1, 1),
            },
            expected=[("12h", []), ("30h", [])],
        ),
    ],
    "GoldtraceRunMissed": [
        Scenario(
            name="fires and resolves: due at 25 h, the next run at 48 h",
            series={"goldtrace_run_due_seconds": daily(*deadlines(1), None, *deadlines(3))},
            expected=[
                ("26h", []),
                ("27h", [({}, f"{WHO}: a run was due 2h 0m 0s ago, and none has ended")]),
                ("48h", []),
                ("75h", [({}, f"{WHO}: a run was due 2h 0m 0s ago, and none has ended")]),
            ],
        ),
        Scenario(
            name="does not fire: a run every day, and one with an earlier deadline after it",
            series={"goldtrace_run_due_seconds": daily(*deadlines(1, 2, 1), tail=60)},
            expected=[("12h", []), ("36h", []), ("48h", []), ("49h", [])],
        ),
        Scenario(
            name="does not fire: a canary is not waited for",
            series={'goldtrace_run_due_seconds{deployment_environment_name="canary"}': daily(*deadlines(1))},
            expected=[("48h", [])],
        ),
    ],
    "GoldtraceDatasetStale": [
        Scenario(
            name="fires and resolves: not published on the second day",
            series={
                'goldtrace_dataset_due_seconds{dataset="silver/weekly_features",layer="silver"}': daily(*deadlines(1), None, *deadlines(3)),
                'goldtrace_dataset_due_seconds{dataset="gold/models",layer="gold"}': daily(*deadlines(1), None, *deadlines(3)),
            },
            expected=[
                ("27h", []),
                (
                    "28h",
                    [
                        ({"dataset": "silver/weekly_features", "layer": "silver"}, f"{WHO}: silver/weekly_features should have been published 3h 0m 0s ago"),
                        ({"dataset": "gold/models", "layer": "gold"}, f"{WHO}: gold/models should have been published 3h 0m 0s ago"),
                    ],
                ),
                ("48h", []),
            ],
        ),
        Scenario(
            name="does not fire: a dataset that was taken out of the pipeline",
            series={
                'goldtrace_dataset_due_seconds{dataset="silver/old",layer="silver"}': daily(*deadlines(1)),
                'goldtrace_dataset_due_seconds{dataset="silver/new",layer="silver"}': daily(*deadlines(1, 2, 3, 4)),
            },
            expected=[("30h", []), ("60h", []), ("90h", [])],
        ),
    ],
    "GoldtraceGateRed": [
        Scenario(
            name="fires and resolves: green, RED, yellow",
            series={"goldtrace_last_run_gate": daily(0, 2, 1)},
            expected=[("12h", []), ("36h", [({}, f"{WHO}: the gate is RED, so that run published nothing")]), ("60h", [])],
        ),
        Scenario(
            name="is about an environment whose name has to be encoded in links",
            series={'goldtrace_last_run_gate{deployment_environment_name="eu & us"}': daily(2)},
            expected=[("12h", [({"deployment_environment_name": "eu & us"}, "potato (eu & us): the gate is RED, so that run published nothing")])],
        ),
        Scenario(
            name="stays while later runs end before their checks",
            series={"goldtrace_last_run_gate": daily(2, None, 0)},
            expected=[("36h", [({}, f"{WHO}: the gate is RED, so that run published nothing")]), ("50h", [])],
        ),
        Scenario(name="does not fire: yellow", series={"goldtrace_last_run_gate": daily(1, 1)}, expected=[("36h", [])]),
    ],
    "GoldtraceSuccessShareLow": [
        Scenario(
            name="fires and resolves: one, two and one of 20 failed",
            series={"goldtrace_last_run_success_share_20": daily(0.95, 0.9, 0.95)},
            expected=[("12h", []), ("36h", [({}, f"{WHO}: 90% of the last 20 runs completed, wanted are 95%")]), ("60h", [])],
        ),
        Scenario(name="does not fire: all completed", series={"goldtrace_last_run_success_share_20": daily(1, 1)}, expected=[("36h", [])]),
    ],
    "GoldtraceStepSlow": [
        Scenario(
            name="fires and resolves: a slow run, and fast ones after it",
            series={'goldtrace_step_last_duration_seconds{step="models"}': daily(400, 10, 10, 10, 10, 10, 10, 10)},
            expected=[
                ("12h", [({"step": "models"}, f"{WHO}: step models takes 6m 40s (95th percentile of 7 days), wanted are 5m")]),
                ("36h", [({"step": "models"}, f"{WHO}: step models takes 6m 20s (95th percentile of 7 days), wanted are 5m")]),
                ("7d12h", []),
            ],
        ),
        Scenario(
            name="does not fire: fast enough",
            series={'goldtrace_step_last_duration_seconds{step="models"}': daily(290, 300, 299)},
            expected=[("12h", []), ("60h", [])],
        ),
    ],
    "GoldtraceEstimateNotConverged": [
        Scenario(
            name="fires and resolves: converged, not, converged",
            series={
                'goldtrace_model_converged{model="mixed",term="fiber"}': daily(1, 0, 1),
                'goldtrace_model_converged{model="mixed",term="beans"}': daily(1, 0, 1),
                'goldtrace_model_converged{model="ols",term="fiber"}': daily(1, 1, 1),
            },
            expected=[("12h", []), ("36h", [({"model": "mixed"}, f"{WHO}: model mixed did not converge")]), ("60h", [])],
        ),
        Scenario(name="does not fire: converged", series={'goldtrace_model_converged{model="ols",term="fiber"}': daily(1, 1)}, expected=[("36h", [])]),
    ],
    "GoldtraceEstimateSignChanged": [
        Scenario(
            name="fires and resolves: the run of the change alone",
            series=estimates(-0.002, -0.003, 0.25, 0.0001, -1e-9),
            expected=[
                ("12h", []),
                ("36h", []),
                ("60h", [({"model": "ols", "term": "fiber"}, f"{WHO}: fiber of ols is 0.25, the run before had the other sign")]),
                ("84h", []),
                ("108h", [({"model": "ols", "term": "fiber"}, f"{WHO}: fiber of ols is -1e-09, the run before had the other sign")]),
            ],
        ),
        Scenario(
            name="fires across days without a run, where a window of a day would see one sample alone",
            series=estimates(-0.5, None, None, 0.5),
            expected=[("60h", []), ("84h", [({"model": "ols", "term": "fiber"}, f"{WHO}: fiber of ols is 0.5, the run before had the other sign")])],
        ),
        Scenario(name="does not fire: one run, and none before it", series=estimates(-0.5), expected=[("12h", []), ("60h", [])]),
        Scenario(
            name="does not fire: unlike numbers of one sign, and the least of them before the greatest",
            series=estimates(1e-300, 1e300, 5e-324, 1, 1e-17, 1),
            expected=[("36h", []), ("60h", []), ("84h", []), ("108h", []), ("132h", [])],
        ),
    ],
    "GoldtraceTelemetryLost": [
        Scenario(
            name="fires and resolves: the run that lost some",
            series={'goldtrace_telemetry_lost_total{signal="lineage"}': daily(0, 3, 0), 'goldtrace_telemetry_lost_total{signal="logs"}': daily(0, 0, 0)},
            expected=[("12h", []), ("36h", [({"signal": "lineage"}, f"{WHO}: the last run lost 3 records of lineage")]), ("60h", [])],
        ),
        Scenario(name="does not fire: none lost", series={'goldtrace_telemetry_lost_total{signal="logs"}': daily(0, 0)}, expected=[("36h", [])]),
    ],
    "GoldtraceDiskFilling": [
        Scenario(
            name="fires and resolves: a twentieth left",
            series={
                'goldtrace_disk_free_bytes{place="lake"}': daily(20, 5, 50),
                'goldtrace_disk_size_bytes{place="lake"}': daily(100, 100, 100),
                'goldtrace_disk_free_bytes{place="runs"}': daily(20, 20, 20),
                'goldtrace_disk_size_bytes{place="runs"}': daily(100, 100, 100),
            },
            expected=[("12h", []), ("36h", [({"place": "lake"}, f"{WHO}: the disk of the lake has 5% left")]), ("60h", [])],
        ),
        Scenario(
            name="does not fire: a tenth left",
            series={'goldtrace_disk_free_bytes{place="lake"}': daily(10), 'goldtrace_disk_size_bytes{place="lake"}': daily(100)},
            expected=[("12h", [])],
        ),
    ],
    "GoldtraceCollectorSendFailed": [
        Scenario(
            name="fires and resolves: a counter that begins, and is left alone",
            of_pipeline=False,
            every="1m",
            series={'otelcol_exporter_send_failed_spans{exporter="otlp_http/jaeger"}': "_x10 5x200"},
            expected=[
                ("9m", []),
                ("12m", [({"exporter": "otlp_http/jaeger", "server": "jaeger"}, "The collector gave up about 5 records for jaeger")]),
                ("80m", []),
            ],
        ),
        Scenario(
            name="fires and resolves: one that was at 0, of another signal",
            of_pipeline=False,
            every="1m",
            series={'otelcol_exporter_enqueue_failed_log_records{exporter="otlp_http/loki"}': "0x90 6x200"},
            expected=[
                ("90m", []),
                ("95m", [({"exporter": "otlp_http/loki", "server": "loki"}, "The collector gave up about 6 records for loki")]),
                ("160m", []),
            ],
        ),
        Scenario(
            name="does not fire: nothing failed, and what failed long ago",
            of_pipeline=False,
            every="1m",
            series={
                'otelcol_exporter_send_failed_spans{exporter="otlp_http/jaeger"}': "0x200",
                'otelcol_exporter_send_failed_metric_points{exporter="otlp_http/prometheus"}': "7x200",
            },
            expected=[("120m", [])],
        ),
    ],
    "GoldtraceCollectorRefused": [
        Scenario(
            name="fires and resolves",
            of_pipeline=False,
            every="1m",
            series={'otelcol_receiver_refused_metric_points{receiver="otlp",transport="http"}': "0x90 12x200"},
            expected=[
                ("80m", []),
                ("95m", [({"receiver": "otlp"}, "Receiver otlp of the collector lost or turned away about 12 records")]),
                ("160m", []),
            ],
        ),
        Scenario(
            name="does not fire: nothing refused",
            of_pipeline=False,
            every="1m",
            series={'otelcol_receiver_refused_spans{receiver="otlp"}': "0x200"},
            expected=[("120m", [])],
        ),
    ],
    "GoldtraceCollectorQueueFilling": [
        Scenario(
            name="fires and resolves: nine tenths for five minutes",
            of_pipeline=False,
            every="1m",
            series={
                'otelcol_exporter_queue_size{exporter="otlp_http/loki",data_type="logs"}': "10x9 9000x20 10x20",
                'otelcol_exporter_queue_capacity{exporter="otlp_http/loki",data_type="logs"}': "10000x60",
            },
            expected=[
                ("13m", []),
                ("16m", [({"exporter": "otlp_http/loki", "server": "loki"}, "The collector's queue for loki is 90% full")]),
                ("35m", []),
            ],
        ),
        Scenario(
            name="does not fire: full for a moment",
            of_pipeline=False,
            every="1m",
            series={
                'otelcol_exporter_queue_size{exporter="otlp_http/loki"}': "10x9 9000x3 10x40",
                'otelcol_exporter_queue_capacity{exporter="otlp_http/loki"}': "10000x60",
            },
            expected=[("12m", []), ("16m", []), ("30m", [])],
        ),
    ],
    "GoldtraceStackDiskFilling": [
        Scenario(
            name="fires and resolves: over nine tenths for five minutes",
            of_pipeline=False,
            every="1m",
            series={'loki_ingester_wal_disk_usage_percent{job="loki",instance="loki:3100"}': "0.5x9 0.95x20 0.5x20"},
            expected=[("13m", []), ("16m", [({"job": "loki"}, "The disk of the servers' volumes is 95% full, says loki")]), ("35m", [])],
        ),
        Scenario(
            name="does not fire: nine tenths",
            of_pipeline=False,
            every="1m",
            series={'loki_ingester_wal_disk_usage_percent{job="loki"}': "0.9x60"},
            expected=[("30m", [])],
        ),
    ],
    "GoldtraceTargetDown": [
        Scenario(
            name="fires and resolves",
            of_pipeline=False,
            every="1m",
            series={'up{job="loki",instance="loki:3100"}': "1x5 0x10 1x10"},
            expected=[
                ("7m", []),
                ("10m", [({"job": "loki", "instance": "loki:3100", "server": "loki"}, "loki at loki:3100 does not answer")]),
                ("18m", []),
            ],
        ),
        Scenario(
            name="does not fire: down for a moment",
            of_pipeline=False,
            every="1m",
            series={'up{job="loki",instance="loki:3100"}': "1x5 0 1x10"},
            expected=[("6m", []), ("10m", [])],
        ),
    ],
    "GoldtraceCanary": [
        Scenario(
            name="fires for a minute and resolves, and says of which sample",
            every="5s",
            series={'goldtrace_last_run_success{deployment_environment_name="canary"}': "_x10 1 _x30"},
            expected=[
                ("9m", []),
                (
                    "10m30s",
                    [({"deployment_environment_name": "canary", "sample_time": "600"}, "potato (canary): a canary of pipeline doctor arrived")],
                ),
                ("11m5s", []),
            ],
        ),
        Scenario(name="does not fire: other runs", every="5s", series={"goldtrace_last_run_success": "_x10 1 _x30"}, expected=[("10m30s", [])]),
    ],
}

_DATASET = '{dataset="silver/weekly_features",layer="silver"}'
_DATASET_LABELS = {"dataset": "silver/weekly_features", "layer": "silver"}


def fresh(due: tuple[float | None, ...], met: tuple[float | None, ...], expected: list[tuple[str, float]], **more: str) -> Recorded:
    """The freshness budget of a pipeline whose runs left these deadlines and met those."""
    return Recorded(
        record="goldtrace:slo_freshness:budget_left",
        series={
            "goldtrace_run_due_seconds": daily(*due),
            "goldtrace_run_every_seconds": daily(*(None if each is None else 86_400 for each in due)),
            f"goldtrace_dataset_due_seconds{_DATASET}": daily(*(None if each is None else each + 86_400 for each in met)),
            f"goldtrace_dataset_met_seconds{_DATASET}": daily(*met),
            **more,
        },
        expected=[(when, [({}, value)]) for when, value in expected],
    )


RECORDINGS: list[Recorded] = [
    Recorded(
        record="goldtrace:last_run_success:last",
        series={"goldtrace_last_run_success": daily(1, 0, 1), 'goldtrace_last_run_success{deployment_environment_name="canary"}': daily(0, 0)},
        expected=[("12h", [({}, 1)]), ("36h", [({}, 0)]), ("60h", [({}, 1)])],
    ),
    Recorded(
        record="goldtrace:last_run_gate:last", series={"goldtrace_last_run_gate": daily(0, 2, None, 1)}, expected=[("60h", [({}, 2)]), ("84h", [({}, 1)])]
    ),
    Recorded(
        record="goldtrace:last_run_duration_seconds:last",
        series={"goldtrace_last_run_duration_seconds": daily(10.5, 12.25)},
        expected=[("12h", [({}, 10.5)]), ("60h", [({}, 12.25)])],
    ),
    Recorded(
        record="goldtrace:success_share_20:last",
        series={"goldtrace_last_run_success_share_20": daily(1, 0.95)},
        expected=[("12h", [({}, 1)]), ("60h", [({}, 0.95)])],
    ),
    Recorded(
        record="goldtrace:run_due_seconds:last",
        series={"goldtrace_run_due_seconds": daily(*deadlines(1, 3, 2))},
        expected=[("12h", [({}, 86_400 + DEADLINE)]), ("60h", [({}, 3 * 86_400 + DEADLINE)])],
    ),
    Recorded(
        record="goldtrace:dataset_published_seconds:last",
        series={f"goldtrace_dataset_published_seconds{_DATASET}": daily(30, None, 172_830)},
        expected=[("36h", [(_DATASET_LABELS, 30)]), ("60h", [(_DATASET_LABELS, 172_830)])],
    ),
    Recorded(
        record="goldtrace:dataset_due_seconds:last",
        series={f"goldtrace_dataset_due_seconds{_DATASET}": daily(*deadlines(1), None, *deadlines(3))},
        expected=[("36h", [(_DATASET_LABELS, 86_400 + DEADLINE)]), ("60h", [(_DATASET_LABELS, 3 * 86_400 + DEADLINE)])],
    ),
    Recorded(
        record="goldtrace:runs:count7d",
        series={
            'goldtrace_runs_total{outcome="completed",gate="green"}': daily(1, None, 1, tail=10 * DAY),
            'goldtrace_runs_total{outcome="failed",gate="none"}': daily(None, 1, tail=10 * DAY),
            'goldtrace_runs_total{outcome="lost",gate="none"}': daily(None, None, None, 1, tail=10 * DAY),
            "goldtrace_last_run_success": daily(1, 0, 1, 0, tail=10 * DAY),
        },
        expected=[("12h", [({}, 1)]), ("60h", [({}, 3)]), ("84h", [({}, 4)]), ("11d", [({}, 0)])],
    ),
    Recorded(
        record="goldtrace:runs_failed:count7d",
        series={"goldtrace_last_run_success": daily(1, 0, 1, 0, tail=10 * DAY)},
        expected=[("12h", [({}, 0)]), ("36h", [({}, 1)]), ("84h", [({}, 2)]), ("12d", [({}, 0)])],
    ),
    Recorded(
        record="goldtrace:step_duration_seconds:p95_7d",
        series={'goldtrace_step_last_duration_seconds{step="models"}': daily(400, 10)},
        expected=[("12h", [({"step": "models"}, 400)]), ("36h", [({"step": "models"}, 380.5)])],
    ),
    Recorded(
        record="goldtrace:slo_success:budget_left",
        series={"goldtrace_last_run_success_share_20": daily(1, 0.95, 0.9)},
        expected=[("12h", [({}, 1)]), ("36h", [({}, 0)]), ("60h", [({}, -1)])],
    ),
    # All met, and then nobody runs it: of five deadlines since the first run's two passed unmet.
    fresh(deadlines(1, 2, 3, 4), deadlines(0, 1, 2, 3), [("12h", 1), ("84h", 1), ("99h", 1), ("132h", -7)]),
    # The first run of all comes at any hour.
    fresh(deadlines(1, 2), (None, *deadlines(1)), [("12h", 1), ("36h", 1)]),
    # On the third day the run failed: one of three.
    fresh(deadlines(1, 2, 3, 4), (*deadlines(0, 1), None, *deadlines(3)), [("84h", -5.6667)]),
    # On the third day nothing ran: as bad.
    fresh((*deadlines(1, 2), None, *deadlines(4)), (*deadlines(0, 1), None, *deadlines(3)), [("84h", -5.6667)]),
    # Of two silver tables one was late once.
    fresh(
        deadlines(1, 2, 3),
        deadlines(0, 1, 2),
        [("60h", -9)],
        **{
            'goldtrace_dataset_met_seconds{dataset="silver/other",layer="silver"}': daily(*deadlines(0), None, *deadlines(2)),
            'goldtrace_dataset_due_seconds{dataset="silver/other",layer="silver"}': daily(*deadlines(1, 2, 3)),
        },
    ),
    # None was ever published.
    fresh(deadlines(1, 2, 3), (None, None, None), [("12h", 1), ("60h", -19)]),
    Recorded(
        record="goldtrace:slo_latency:budget_left",
        series={
            'goldtrace_step_duration_seconds_bucket{step="models",outcome="completed",le="300"}': daily(*[1] * 6, 0),
            'goldtrace_step_duration_seconds_count{step="models",outcome="completed"}': daily(*[1] * 6, 1),
            'goldtrace_step_duration_seconds_bucket{step="models",outcome="failed",le="300"}': daily(None, None, 1),
            'goldtrace_step_duration_seconds_count{step="models",outcome="failed"}': daily(None, None, 1),
            'goldtrace_step_duration_seconds_bucket{step="weight",outcome="completed",le="300"}': daily(*[1] * 7),
            'goldtrace_step_duration_seconds_count{step="weight",outcome="completed"}': daily(*[1] * 7),
        },
        # One of eight.
        expected=[("60h", [({}, 1)]), ("6d12h", [({}, -1.5)])],
    ),
]
