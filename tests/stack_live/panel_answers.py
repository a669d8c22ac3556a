"""What each panel's query has to answer, worked out from the bundles alone: not PromQL again, but the question that the panel asks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.stack_live.ledger import Labels, Ledger, Samples, labels

DAY = 86400.0
KEPT = 30 * DAY
PLACE = ("service_namespace", "deployment_environment_name")
BY_DATASET = (*PLACE, "dataset")
Values = dict[Labels, float]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Moment:
    """What the bundles' samples say at a moment: `at` in seconds since the epoch; a step of a graph is `interval` long.

    `firing` are the alerts that Prometheus says it fires, which no bundle could say; `is_newest` whether this is a graph's last step.
    """

    samples: Samples
    at: float
    interval: float
    model: str
    term: str
    firing: Sequence[Mapping[str, str]] = ()
    is_newest: bool = True

    def points(self, name: str, window: float, **wanted: str) -> dict[Labels, Points]:
        """The samples of the last `window` seconds by series, oldest first; the window's first moment is not in it."""
        found = {}
        for (own, series), values in self.samples.items():
            inside = sorted((at / 1000, value) for at, value in values.items() if self.at - window < at / 1000 <= self.at)
            if own == name and inside and wanted.items() <= dict(series).items():
                found[series] = inside
        return found

    def last(self, name: str, window: float = KEPT, **wanted: str) -> Values:
        """The newest value of each series."""
        return {series: points[-1][1] for series, points in self.points(name, window, **wanted).items()}

    def last_in_step(self, name: str, **wanted: str) -> Values:
        """The same within a step."""
        return self.last(name, self.interval, **wanted)

    def total_in_step(self, name: str, **wanted: str) -> Values:
        """The sum of each series within a step."""
        return {series: sum(value for _, value in points) for series, points in self.points(name, self.interval, **wanted).items()}


def by(names: Sequence[str], values: Values, how: Callable[[list[float]], float]) -> Values:
    """Values put together that share these labels."""
    groups: dict[Labels, list[float]] = defaultdict(list)
    for series, value in values.items():
        groups[labels(**{name: text for name, text in series if name in names})].append(value)
    return {group: how(each) for group, each in groups.items()}


def _single(value: float | None) -> Values:
    return {} if value is None else {labels(): value}


def _without(values: Values, **unwanted: str) -> Values:
    return {series: value for series, value in values.items() if not unwanted.items() & dict(series).items()}


def _percentile(share: float, values: Sequence[float]) -> float:
    """Between the two nearest ranks."""
    ordered, place = sorted(values), share * (len(values) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _bucket_percentile(share: float, buckets: Values) -> Values:
    """From cumulative counts: as if values lay evenly in each bucket."""
    if not buckets:
        return {}
    counts = sorted((float(dict(series)["le"].replace("+Inf", "inf")), value) for series, value in by(("le",), buckets, sum).items())
    rank, below, count_below = share * counts[-1][1], 0.0, 0.0
    for bound, count in counts:
        if count >= rank:
            return _single(below if math.isinf(bound) else below + (bound - below) * (rank - count_below) / (count - count_below))
        below, count_below = bound, count
    return {}


# ---------------------------------------------------------------------------------------------- what is asked more than once


def _next_due(now: Moment) -> Values:
    due = {series: max(value for _, value in points) for series, points in now.points("goldtrace_run_due_seconds", KEPT).items()}
    return by(PLACE, due, max)


def _datasets_due(now: Moment) -> Values:
    """Deadlines of the datasets that the newest schedule still names."""
    due = now.last("goldtrace_dataset_due_seconds")
    newest = by(PLACE, due, max)
    return {series: value for series, value in due.items() if value >= newest[labels(**{name: dict(series)[name] for name in PLACE})]}


def _to_look_at(now: Moment) -> Values:
    success = now.last("goldtrace_last_run_success")
    failed = sum(value == 0 for value in success.values())
    missed = sum(value + 3600 < now.at for value in _next_due(now).values())
    stale = sum(value + 7200 < now.at for value in _datasets_due(now).values())
    others = [alert for alert in now.firing if alert["alertname"] not in _COUNTED_APART and alert["severity"] != "info"]
    return _single(failed + missed + stale + len(others)) if success else {}


_COUNTED_APART = {"GoldtraceRunFailed", "GoldtraceRunMissed", "GoldtraceDatasetStale", "GoldtraceGateRed"}


def _states(now: Moment) -> Values:
    """How the worst run of a step went; in the last step the state before lasts on until there is a run."""
    if now.is_newest:
        return _states_in_step(replace(now, at=now.at - now.interval)) | _states_in_step(now)
    return _states_in_step(now)


def _states_in_step(now: Moment) -> Values:
    codes = {("completed", "green"): 1, ("completed", "none"): 1, ("completed", "yellow"): 2, ("failed", "none"): 5, ("failed", "green"): 5}
    found = {}
    for series in now.last_in_step("goldtrace_runs_total"):
        own = dict(series)
        key = (own["outcome"], own["gate"])
        found[series] = float(6 if key == ("failed", "red") else {"aborted": 3, "lost": 4}.get(own["outcome"]) or codes[key])
    return by(PLACE, found, max)


def _sure_terms(now: Moment) -> Values:
    low, high = now.last("goldtrace_model_ci_low", model=now.model), now.last("goldtrace_model_ci_high", model=now.model)
    return _single(float(sum(low[series] > 0 or high[series] < 0 for series in low))) if low else {}


def _set_aside(now: Moment) -> Values:
    aside = by(BY_DATASET, now.total_in_step("goldtrace_dataset_rows", layer="bronze", flow="quarantined"), sum)
    read = by(BY_DATASET, now.total_in_step("goldtrace_dataset_rows", layer="bronze", flow="in"), sum)
    return {series: aside[series] / rows for series, rows in read.items() if rows > 0}


def _disk(now: Moment) -> Values:
    free, size = now.last_in_step("goldtrace_disk_free_bytes"), now.last_in_step("goldtrace_disk_size_bytes")
    return {series: 1 - free[series] / size[series] for series in size}


def _slowness_left(now: Moment) -> Values:
    quick = by(
        (*PLACE, "step"), {key: sum(v for _, v in each) for key, each in now.points("goldtrace_step_duration_seconds_bucket", 7 * DAY, le="300").items()}, sum
    )
    runs = by((*PLACE, "step"), {key: sum(v for _, v in each) for key, each in now.points("goldtrace_step_duration_seconds_count", 7 * DAY).items()}, sum)
    return by(PLACE, {series: round(1 - (1 - quick[series] / count) / 0.05, 4) for series, count in runs.items()}, min)


def _lateness_left(now: Moment) -> Values:
    """Deadlines from the first run's on that silver tables missed, of which 5 % may be."""
    found = {}
    for place, due in _next_due(now).items():
        own = dict(place)
        every = next(iter(now.last("goldtrace_run_every_seconds", **own).values()))
        first = min(value for points in now.points("goldtrace_run_due_seconds", KEPT, **own).values() for _, value in points)
        passed = round((due - first) / every) + max(math.ceil((now.at - due - 7200) / every), 0)
        met = _deadlines_met(now, first, own)
        found[place] = round(1 - max(passed - met, 0) / max(passed, 1) / 0.05, 4)
    return found


def _deadlines_met(now: Moment, first: float, own: Mapping[str, str]) -> int:
    """Of the silver table that met the fewest: different deadlines, without the one before anybody waited."""
    tables = {dict(series)["dataset"] for series in now.last("goldtrace_dataset_due_seconds", layer="silver", **own)}
    met = now.points("goldtrace_dataset_met_seconds", KEPT, layer="silver", **own)
    counts = dict.fromkeys(tables, 0)
    for series, points in met.items():
        counts[dict(series)["dataset"]] = len({value for _, value in points if value >= first})
    return min(counts.values(), default=0)


def _success_left(now: Moment) -> Values:
    return by(PLACE, {series: round(1 - (1 - value) / 0.05, 4) for series, value in now.last("goldtrace_last_run_success_share_20").items()}, min)


def _p95(now: Moment) -> Values:
    steps = now.points("goldtrace_step_last_duration_seconds", 7 * DAY)
    return by((*PLACE, "step"), {series: _percentile(0.95, [value for _, value in points]) for series, points in steps.items()}, max)


def _ages(now: Moment) -> Values:
    return by(BY_DATASET, {series: now.at - value for series, value in now.last("goldtrace_dataset_published_seconds").items()}, max)


# Panel and query → the answer. A query that is about our metrics and isn't here fails its test.
NUMBERS: Mapping[tuple[str, str], Callable[[Moment], Values]] = {
    ("Is everything fine?", "A"): _to_look_at,
    ("Did the last run complete?", "A"): lambda now: now.last("goldtrace_last_run_success"),
    ("Did the data pass?", "A"): lambda now: now.last("goldtrace_last_run_gate"),
    ("When is the next run due?", "A"): lambda now: {place: due - now.at for place, due in _next_due(now).items()},
    ("How many of the last 20 completed?", "A"): lambda now: now.last("goldtrace_last_run_success_share_20"),
    ("How did the last runs go?", "A"): _states,
    ("What is stale?", "A"): _ages,
    ("What is stale?", "B"): lambda now: by(BY_DATASET, {series: due - now.at for series, due in _datasets_due(now).items()}, max),
    ("Did every fit converge?", "A"): lambda now: by((*PLACE, "model"), now.last("goldtrace_model_converged"), min),
    ("For how many terms does the interval leave out zero?", "A"): _sure_terms,
    ("How did $term move in $model?", "A"): lambda now: now.last_in_step("goldtrace_model_ci_high", model=now.model, term=now.term),
    ("How did $term move in $model?", "B"): lambda now: now.last_in_step("goldtrace_model_ci_low", model=now.model, term=now.term),
    ("How did $term move in $model?", "C"): lambda now: now.last_in_step("goldtrace_model_estimate", model=now.model, term=now.term),
    ("In which runs did checks fail?", "A"): lambda now: by(
        (*BY_DATASET, "outcome"), _without(now.total_in_step("goldtrace_checks_total"), outcome="passed"), sum
    ),
    ("Which share of the rows read was set aside?", "A"): _set_aside,
    ("How many rows does each table have, run by run?", "A"): lambda now: by(BY_DATASET, now.last_in_step("goldtrace_dataset_rows", flow="out"), max),
    ("How many checks were evaluated?", "A"): lambda now: by(("outcome",), now.total_in_step("goldtrace_checks_total"), sum),
    ("How much success budget is left?", "A"): _success_left,
    ("How much freshness budget is left?", "A"): _lateness_left,
    ("How much latency budget is left?", "A"): _slowness_left,
    ("Which steps are slow?", "A"): _p95,
    ("How long did runs take?", "A"): lambda now: now.last_in_step("goldtrace_last_run_duration_seconds"),
    ("How long did runs take?", "B"): lambda now: _bucket_percentile(0.95, now.total_in_step("goldtrace_run_duration_seconds_bucket")),
    ("How long did each step take?", "A"): lambda now: now.last_in_step("goldtrace_step_last_duration_seconds"),
    ("How long did each step take?", "B"): lambda now: _bucket_percentile(0.95, now.total_in_step("goldtrace_step_duration_seconds_bucket")),
    ("How did the share of good runs move?", "A"): lambda now: now.last_in_step("goldtrace_last_run_success_share_20"),
    ("How many runs ended a day?", "A"): lambda now: by(("outcome",), now.total_in_step("goldtrace_runs_total"), sum),
    ("Did runs lose telemetry?", "A"): lambda now: _single(
        sum(value for points in now.points("goldtrace_telemetry_lost_total", 7 * DAY).values() for _, value in points)
    ),
    ("How full are the disks?", "B"): _disk,
    ("What does telemetry cost the runs?", "A"): lambda now: by(("signal",), now.last_in_step("goldtrace_telemetry_seconds"), max),
}

# Panel and query → whether a record is among the lines; `run` is the variable's, `model` too.
Wanted = Callable[[dict[str, Any], str, str], bool]


def _of_run(event: str) -> Wanted:
    return lambda record, run, _: record.get("event.name") == event and record["run"] == run


RECORDS: Mapping[tuple[str, str], Wanted] = {
    ("Which runs were last?", "A"): lambda record, *_: record.get("event.name") == "run.finished",
    ("Which run?", "A"): lambda record, *_: record.get("event.name") == "run.finished",
    ("What did this model say, newest run first?", "A"): lambda record, _, model: (
        record.get("event.name") == "model.estimated" and record["goldtrace.model.name"] == model
    ),
    ("Which checks did not pass, and in which run?", "A"): lambda record, *_: (
        record.get("event.name") == "check.evaluated" and record["goldtrace.check.outcome"] != "passed"
    ),
    ("How did it end?", "A"): _of_run("run.finished"),
    ("What did each step do?", "A"): _of_run("step.finished"),
    ("What did it publish?", "A"): _of_run("dataset.published"),
    ("Which checks did not pass?", "A"): lambda record, run, _: _of_run("check.evaluated")(record, run, "") and record["goldtrace.check.outcome"] != "passed",
    ("Which checks passed?", "A"): lambda record, run, _: _of_run("check.evaluated")(record, run, "") and record["goldtrace.check.outcome"] == "passed",
    ("What did the models estimate?", "A"): _of_run("model.estimated"),
    ("What did it say?", "A"): lambda record, run, _: (
        record["run"] == run and (record.get("event.name") != "check.evaluated" or record["goldtrace.check.outcome"] != "passed")
    ),
}

# Panel and query → the fact of which kind of record, newest for each pipeline.
FACTS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("How many errors turned the gate RED?", "A"): ("gate.decided", "goldtrace.gate.errors"),
    ("How many warnings turned it YELLOW?", "A"): ("gate.decided", "goldtrace.gate.warnings"),
    ("How many rows did the last run set aside?", "A"): ("run.finished", "goldtrace.run.rows_quarantined"),
}

MIB = 1024.0**2
# Of the servers' own metrics: the least and the most that is sane, and how many series there have to be at least.
SANE: Mapping[tuple[str, str], tuple[float, float, int]] = {
    ("Which servers are up?", "A"): (1, 1, 6),
    ("Was anything refused?", "A"): (0, 0, 1),
    ("Did anything fail to be sent?", "A"): (0, 0, 1),
    ("Does the collector keep up?", "A"): (0, 0.9, 3),
    ("Does telemetry arrive?", "A"): (0, 100_000, 3),
    ("How much memory does each server take?", "A"): (5 * MIB, 1024 * MIB, 4),
    ("How much do the stores keep?", "A"): (1, 10_000 * MIB, 1),
    # Badger looks at its files once a minute.
    ("How much do the stores keep?", "B"): (0, 10_000 * MIB, 1),
    ("How full are the disks?", "A"): (0.001, 0.999, 1),
}


def facts(ledger: Ledger, event: str, attribute: str) -> Values:
    """A fact of the newest record of its kind, for each pipeline."""
    newest = {}
    for record in sorted(ledger.records(event), key=lambda record: record["time"]):
        newest[labels(**{name: record[name] for name in PLACE})] = float(record[attribute])
    return newest
