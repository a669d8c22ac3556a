"""Prometheus' recording rules and alerts, as texts of the files in `prometheus/rules/`: `pipeline stack build` writes them.

What each query answers, and where its limits are, stands in `docs/metrics.md`; what to do about an alert in `docs/runbook.md`. Both
are tested to have a section for each. One sample is one run, so runs are asked for by `*_over_time` alone; the servers' own metrics
are scraped, and `increase` is right for them. The doctor's runs (environment `canary`) are in nothing but their own alert.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pipeline import names
from pipeline.settings import Settings
from pipeline.stack.spelling import ENVIRONMENT, NAMESPACE, metric, series
from pipeline.telemetry.schedule import FRESH_WITHIN

# How long a pipeline without a run is remembered: as long as data is kept by default, and as old as a replayed run may be.
WINDOW: Final = "30d"
# The objectives.
FRESH_SECONDS: Final = int(FRESH_WITHIN.total_seconds())
SUCCESS_SHARE: Final = 0.95
STEP_SECONDS: Final = 300
STEP_WINDOW: Final = "7d"
# The share of runs that may miss an objective: the error budget.
BUDGET: Final = 0.05
# A run that is being waited for an hour after its deadline will make data stale an hour later.
MISSED_SECONDS: Final = 3600
DISK_SHARE: Final = 0.1
QUEUE_SHARE: Final = 0.8

PIPELINE: Final = (NAMESPACE, ENVIRONMENT)

RUNBOOK: Final = "docs/runbook.md"
RECORDING_FILE: Final = "goldtrace.yml"
ALERTS_FILE: Final = "alerts.yml"
_HEAD: Final = """\
# Written by `pipeline stack build` from pipeline/stack/rules.py: change that. Tested by tests/stack/test_stack_rules.py.
# What each rule answers: docs/metrics.md; what to do about an alert: docs/runbook.md.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A recording rule: a series that several dashboards ask for."""

    record: str
    expr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert: fires for each series of `expr`. `dashboard` is the one to look at, `lasting` how long it has to hold."""

    alert: str
    expr: str
    severity: str
    summary: str
    dashboard: str
    of_pipeline: bool = True
    lasting: str = ""

    @property
    def section(self) -> str:
        """The anchor of its section in the runbook."""
        return self.alert.lower()


# ---------------------------------------------------------------------------------------------------- expressions


def of_runs(name: str, window: str = WINDOW, **labels: str) -> str:
    """All samples of a series in a window, without the doctor's."""
    wanted = "".join(f', {key}="{value}"' for key, value in labels.items())
    return f'{name}{{{ENVIRONMENT}!="{names.CANARY}"{wanted}}}[{window}]'


def by(aggregate: str, expression: str, *labels: str) -> str:
    """An expression aggregated to one value for a pipeline, or for each of its `labels`."""
    return f"{aggregate} by ({', '.join((*PIPELINE, *labels))}) ({expression})"


def last(instrument: names.Metric, *labels: str) -> str:
    """The value of the newest run that has one. Each run writes to the same series, so there is nothing for `max` to choose from."""
    return by("max", f"last_over_time({of_runs(metric(instrument))})", *labels)


def _due() -> str:
    """The furthest deadline: a run beside the schedule says none, and a replayed one an earlier one."""
    return by("max", f"max_over_time({of_runs(metric(names.RUN_DUE))})")


def _failures(window: str) -> str:
    success = of_runs(metric(names.LAST_RUN_SUCCESS), window)
    return by("sum", f"count_over_time({success}) - sum_over_time({success})")


def _budget(share_missed: str) -> str:
    """What is left of the budget: 1 is untouched, 0 spent, below 0 overspent. Rounded, as 1 − 0.95 is not quite 0.05."""
    return f"round(1 - ({share_missed}) / {BUDGET}, 0.0001)"


def _first_due() -> str:
    """The first deadline that counts: the one that the first run in the window left. Before it nobody was waiting."""
    return by("min", f"min_over_time({of_runs(metric(names.RUN_DUE))})")


def _deadlines() -> str:
    """How many deadlines there were since: up to the last run's own, and those that passed without a run since then."""
    every = last(names.RUN_EVERY)
    had_a_run = f"round(({_due()} - {_first_due()}) / {every})"
    passed = f"clamp_min(ceil((time() - {_due()} - {FRESH_SECONDS}) / {every}), 0)"
    return f"({had_a_run} + {passed})"


def _deadlines_met() -> str:
    """How many of them all silver datasets met: different deadlines among those met, by the dataset that met the fewest."""
    met = of_runs(metric(names.DATASET_MET), layer="silver")
    first_counts = f"(min_over_time({met}) >= bool on ({', '.join(PIPELINE)}) group_left () {_first_due()})"
    none = f"0 * last_over_time({of_runs(metric(names.DATASET_DUE), layer='silver')})"
    return f"({by('min', f'changes({met}) + {first_counts} or {none}')} or 0 * {last(names.RUN_EVERY)})"


def _late_share() -> str:
    return f"clamp_min({_deadlines()} - {_deadlines_met()}, 0) / clamp_min({_deadlines()}, 1)"


def _slow_share() -> str:
    """The share of a step's runs that took longer than the objective, exact as it is the bound of a bucket."""
    bucket, _, count = series(names.STEP_DURATION)
    fast = of_runs(bucket, STEP_WINDOW, le=str(STEP_SECONDS))
    total = of_runs(count, STEP_WINDOW)
    return f"1 - {by('sum', f'sum_over_time({fast})', names.STEP.name)} / {by('sum', f'sum_over_time({total})', names.STEP.name)}"


def _step_p95() -> str:
    return by("max", f"quantile_over_time(0.95, {of_runs(metric(names.STEP_LAST_DURATION), STEP_WINDOW)})", names.STEP.name)


def _sign_changed() -> str:
    """The estimate, when the run before had one of the other sign: `idelta` is the difference of the two newest samples."""
    estimate = of_runs(metric(names.MODEL_ESTIMATE))
    now = f"last_over_time({estimate})"
    changed = f"{now} and sgn({now}) * sgn({now} - idelta({estimate})) < 0"
    return by("max", changed, names.MODEL.name, names.TERM.name)


def _overdue() -> str:
    """By how many seconds each dataset is overdue. One that a later run left out was taken out of the pipeline."""
    due = last(names.DATASET_DUE, *names.DATASET_DUE.labels)
    newest = by("max", f"last_over_time({of_runs(metric(names.DATASET_DUE))})")
    return f"time() - ({due} >= on ({', '.join(PIPELINE)}) group_left () {newest}) > {FRESH_SECONDS}"


def _grew(counters: Iterable[str], source: str, window: str = "1h") -> str:
    """Counters of the collector that grew. One that was not there before has grown too, though `increase` can't see it."""
    parts = (f"sum by ({source}) (increase({each}[{window}]) > 0 or ({each} > 0 unless {each} offset {window}))" for each in counters)
    return " or ".join(parts)


def _server(expression: str, source: str, pattern: str) -> str:
    """The same, with the label `server`: by it the consequence of a server that is down is told from other causes."""
    return f'label_replace({expression}, "server", "$1", "{source}", "{pattern}")'


# ----------------------------------------------------------------------------------------------------------- rules


def recordings() -> list[Recording]:
    """All recording rules."""
    dataset = names.DATASET_PUBLISHED.labels
    runs = of_runs(metric(names.RUNS), "7d")
    nothing = f"0 * {last(names.LAST_RUN_SUCCESS)}"
    rules = {
        "last_run_success:last": last(names.LAST_RUN_SUCCESS),
        "last_run_gate:last": last(names.LAST_RUN_GATE),
        "last_run_duration_seconds:last": last(names.LAST_RUN_DURATION),
        "success_share_20:last": last(names.LAST_RUN_SUCCESS_SHARE_20),
        "run_due_seconds:last": _due(),
        "dataset_published_seconds:last": last(names.DATASET_PUBLISHED, *dataset),
        "dataset_due_seconds:last": last(names.DATASET_DUE, *dataset),
        "runs:count7d": f"{by('sum', f'sum_over_time({runs})')} or {nothing}",
        "runs_failed:count7d": f"{_failures('7d')} or {nothing}",
        "step_duration_seconds:p95_7d": _step_p95(),
        "slo_success:budget_left": _budget(f"1 - {last(names.LAST_RUN_SUCCESS_SHARE_20)}"),
        "slo_freshness:budget_left": _budget(_late_share()),
        "slo_latency:budget_left": by("min", _budget(_slow_share())),
    }
    return [Recording(record=f"goldtrace:{name}", expr=expr) for name, expr in rules.items()]


_WHO: Final = f"{{{{ $labels.{NAMESPACE} }}}} ({{{{ $labels.{ENVIRONMENT} }}}})"
_AGO: Final = "{{ $value | humanizeDuration }}"
_PERCENT: Final = "{{ $value | humanizePercentage }}"


def pipeline_alerts() -> list[Alert]:
    """What can be wrong with a pipeline's runs and data."""
    return [
        Alert(
            alert="GoldtraceRunFailed",
            expr=f"{_failures(WINDOW)} and {last(names.LAST_RUN_SUCCESS)} == 0",
            severity="critical",
            summary=f"{_WHO}: the last run did not complete ({{{{ $value }}}} in 30 days)",
            dashboard="overview",
        ),
        Alert(
            alert="GoldtraceRunMissed",
            expr=f"time() - {_due()} > {MISSED_SECONDS}",
            severity="critical",
            summary=f"{_WHO}: a run was due {_AGO} ago, and none has ended",
            dashboard="overview",
        ),
        Alert(
            alert="GoldtraceDatasetStale",
            expr=_overdue(),
            severity="critical",
            summary=f"{_WHO}: {{{{ $labels.dataset }}}} should have been published {_AGO} ago",
            dashboard="slo",
        ),
        Alert(
            alert="GoldtraceGateRed",
            expr=f"{last(names.LAST_RUN_GATE)} == 2",
            severity="critical",
            summary=f"{_WHO}: the gate is RED, so that run published nothing",
            dashboard="quality",
        ),
        Alert(
            alert="GoldtraceSuccessShareLow",
            expr=f"{last(names.LAST_RUN_SUCCESS_SHARE_20)} < {SUCCESS_SHARE}",
            severity="warning",
            summary=f"{_WHO}: {_PERCENT} of the last 20 runs completed, wanted are 95%",
            dashboard="slo",
        ),
        Alert(
            alert="GoldtraceStepSlow",
            expr=f"{_step_p95()} > {STEP_SECONDS}",
            severity="warning",
            summary=f"{_WHO}: step {{{{ $labels.step }}}} takes {_AGO} (95th percentile of 7 days), wanted are 5m",
            dashboard="slo",
        ),
        *_model_alerts(),
        Alert(
            alert="GoldtraceTelemetryLost",
            expr=f"{last(names.TELEMETRY_LOST, names.SIGNAL.name)} > 0",
            severity="warning",
            summary=f"{_WHO}: the last run lost {{{{ $value }}}} records of {{{{ $labels.signal }}}}",
            dashboard="stack",
        ),
        Alert(
            alert="GoldtraceDiskFilling",
            expr=f"{last(names.DISK_FREE, names.PLACE.name)} / {last(names.DISK_SIZE, names.PLACE.name)} < {DISK_SHARE}",
            severity="warning",
            summary=f"{_WHO}: the disk of the {{{{ $labels.place }}}} has {_PERCENT} left",
            dashboard="stack",
        ),
    ]


def _model_alerts() -> list[Alert]:
    converged = by("min", f"last_over_time({of_runs(metric(names.MODEL_CONVERGED))})", names.MODEL.name)
    return [
        Alert(
            alert="GoldtraceEstimateNotConverged",
            expr=f"{converged} == 0",
            severity="warning",
            summary=f"{_WHO}: model {{{{ $labels.model }}}} did not converge",
            dashboard="models",
        ),
        Alert(
            alert="GoldtraceEstimateSignChanged",
            expr=_sign_changed(),
            severity="info",
            summary=f"{_WHO}: {{{{ $labels.term }}}} of {{{{ $labels.model }}}} is {{{{ $value }}}}, the run before had the other sign",
            dashboard="models",
        ),
    ]


# Without `_total`: the collector's own reader leaves it out, as collector.yaml sets it up.
_RECORDS: Final = ("spans", "metric_points", "log_records")
_SENT: Final = tuple(f"otelcol_exporter_{what}_failed_{records}" for what in ("send", "enqueue") for records in _RECORDS)
_RECEIVED: Final = tuple(f"otelcol_receiver_{what}_{records}" for what in ("refused", "failed") for records in _RECORDS)


def stack_alerts() -> list[Alert]:
    """What can be wrong with the servers. Prometheus itself can't say that it is down: `pipeline doctor` can."""
    return [
        Alert(
            alert="GoldtraceCollectorSendFailed",
            expr=_server(_grew(_SENT, "exporter"), "exporter", ".*/(.*)"),
            severity="warning",
            summary='The collector gave up about {{ printf "%.0f" $value }} records for {{ $labels.server }}',
            dashboard="stack",
            of_pipeline=False,
        ),
        Alert(
            alert="GoldtraceCollectorRefused",
            expr=_grew(_RECEIVED, "receiver"),
            severity="warning",
            summary='Receiver {{ $labels.receiver }} of the collector lost or turned away about {{ printf "%.0f" $value }} records',
            dashboard="stack",
            of_pipeline=False,
        ),
        Alert(
            alert="GoldtraceCollectorQueueFilling",
            expr=_server(f"max by (exporter) (otelcol_exporter_queue_size / otelcol_exporter_queue_capacity) > {QUEUE_SHARE}", "exporter", ".*/(.*)"),
            severity="warning",
            summary=f"The collector's queue for {{{{ $labels.server }}}} is {_PERCENT} full",
            dashboard="stack",
            of_pipeline=False,
            lasting="5m",
        ),
        Alert(
            alert="GoldtraceStackDiskFilling",
            # A share of 1, though it is called a percentage: of the disk that Loki's volume is on, and so most likely all volumes.
            expr=f"max by (job) (loki_ingester_wal_disk_usage_percent) > {1 - DISK_SHARE}",
            severity="warning",
            summary=f"The disk of the servers' volumes is {_PERCENT} full, says {{{{ $labels.job }}}}",
            dashboard="stack",
            of_pipeline=False,
            lasting="5m",
        ),
        Alert(
            alert="GoldtraceTargetDown",
            expr=_server("up == 0", "job", "(.*)"),
            severity="warning",
            summary="{{ $labels.job }} at {{ $labels.instance }} does not answer",
            dashboard="stack",
            of_pipeline=False,
            lasting="2m",
        ),
    ]


def canary_alerts() -> list[Alert]:
    """The doctor's: it fires for a minute after a canary's sample, and nobody is told."""
    success = f'{metric(names.LAST_RUN_SUCCESS)}{{{ENVIRONMENT}="{names.CANARY}"}}'
    return [
        Alert(
            alert="GoldtraceCanary",
            # The sample's time is a label: a firing alert whose annotations change is sent again a minute later only.
            expr=f'count_values by ({", ".join(PIPELINE)}) ("sample_time", timestamp({success}) > time() - 60)',
            severity="info",
            summary=f"{_WHO}: a canary of pipeline doctor arrived",
            dashboard="stack",
        )
    ]


def alerts() -> list[Alert]:
    """All alerts."""
    return pipeline_alerts() + stack_alerts() + canary_alerts()


# ----------------------------------------------------------------------------------------------------------- files


def rule_files(settings: Settings | None = None) -> dict[str, str]:
    """The files of `prometheus/rules/`, name → text: the same text for the same settings, of which Grafana's address is used."""
    grafana = (settings or Settings()).grafana_url.rstrip("/")
    recording = [{"record": rule.record, "expr": rule.expr} for rule in recordings()]
    groups = {"pipelines": pipeline_alerts(), "stack": stack_alerts(), "canary": canary_alerts()}
    alerting: list[dict[str, Any]] = [{"name": name, "rules": [_alert(alert, grafana) for alert in found]} for name, found in groups.items()]
    alerting[-1]["interval"] = "5s"  # the doctor waits for it
    return {RECORDING_FILE: _yaml([{"name": "goldtrace", "rules": recording}]), ALERTS_FILE: _yaml(alerting)}


def _alert(alert: Alert, grafana: str) -> dict[str, Any]:
    # An environment is called as its users like: `urlquery` is Go's own function for parts of an address.
    chosen = f"?var-pipeline={{{{ $labels.{NAMESPACE} | urlquery }}}}&var-environment={{{{ $labels.{ENVIRONMENT} | urlquery }}}}" if alert.of_pipeline else ""
    annotations = {
        "summary": alert.summary,
        "runbook_url": f"{RUNBOOK}#{alert.section}",
        "dashboard_url": f"{grafana}/d/goldtrace-{alert.dashboard}{chosen}",
        "run_url": f"{grafana}/d/goldtrace-run{chosen}",
    }
    lasting = {"for": alert.lasting} if alert.lasting else {}
    rule = {"alert": alert.alert, "expr": alert.expr, **lasting, "labels": {"severity": alert.severity}}
    return {**rule, "annotations": annotations}


def _yaml(groups: list[dict[str, Any]]) -> str:
    import yaml

    return _HEAD + yaml.safe_dump({"groups": groups}, sort_keys=False, allow_unicode=True, width=100_000)
