"""What the bundles say that the servers must hold, and what they hold: compared record by record, so that nothing is missing or there twice."""

from __future__ import annotations

import json
import time
import urllib.error
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import names
from pipeline.telemetry import bundle
from pipeline.testing import logs, read_lines, spans
from tests.stack_live.live_support import LiveStack

Labels = frozenset[tuple[str, str]]
# A series: its name and its labels, without those that all have.
Series = tuple[str, Labels]
Samples = dict[Series, dict[int, float]]
UNITS = {"s": "_seconds", "By": "_bytes"}
SAME_FOR_ALL = {"__name__", "job", "service_name"}


def labels(**values: str) -> Labels:
    """Labels by name."""
    return frozenset(values.items())


@dataclass(frozen=True)
class Ledger:
    """The runs in a folder of bundles, archived ones too, without the doctor's."""

    runs: Path

    def bundles(self) -> dict[str, dict[str, Any]]:
        """The manifests by run id, oldest run first."""
        folders = [path for path in reversed(bundle.folders(self.runs)) if (path / "manifest.json").exists()]
        found = {path.name: json.loads((path / "manifest.json").read_text()) for path in folders}
        return {run: manifest for run, manifest in found.items() if manifest["environment"] != "canary"}

    def folder(self, run: str) -> Path:
        """Where a run's bundle is."""
        return next(path for path in (self.runs / run, self.runs / bundle.ARCHIVE / run) if path.exists())

    def spans(self, run: str) -> Counter[str]:
        """The span ids of a run, once each."""
        return Counter(span["spanId"] for span in spans(self.folder(run)))

    def lines(self, run: str) -> Counter[tuple[int, str]]:
        """Time and text of a run's log records, once each."""
        return Counter({(int(record["timeUnixNano"]), record["body"]["stringValue"]): 1 for record in logs(self.folder(run))})

    def records(self, event: str | None = None) -> list[dict[str, Any]]:
        """All log records, of one kind if that is named: attributes, and those of the resource."""
        found = [
            {**record["attributes"], "run": run, "time": int(record["timeUnixNano"]), "body": record["body"]["stringValue"], **_place(manifest)}
            for run, manifest in self.bundles().items()
            for record in logs(self.folder(run))
        ]
        return [record for record in found if event is None or record.get("event.name") == event]

    def samples(self) -> Samples:
        """Every sample that Prometheus has to have, with its time in milliseconds."""
        found: Samples = {}
        for run, manifest in self.bundles().items():
            for name, extra, at, value in _points(self.folder(run)):
                found.setdefault((name, labels(**extra, **_place(manifest))), {})[at] = value
        return found


def _place(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {"service_namespace": manifest["pipeline"]["name"], "deployment_environment_name": manifest["environment"]}


def _points(folder: Path) -> Iterable[tuple[str, dict[str, str], int, float]]:
    """The points of a bundle's metrics under Prometheus's names."""
    for line in read_lines(folder / "metrics.jsonl"):
        for metric in (metric for group in line["resourceMetrics"] for scope in group["scopeMetrics"] for metric in scope["metrics"]):
            name, unit = metric["name"].replace(".", "_"), UNITS.get(metric.get("unit", ""), "")
            name += "" if name.endswith(unit) else unit
            kind = next(kind for kind in ("sum", "gauge", "histogram") if kind in metric)
            for point in metric[kind]["dataPoints"]:
                attributes = {each["key"]: each["value"]["stringValue"] for each in point.get("attributes", [])}
                at = int(point["timeUnixNano"]) // 1_000_000
                if kind == "histogram":
                    yield from _histogram(name, attributes, at, point)
                else:
                    yield name + ("_total" if kind == "sum" else ""), attributes, at, float(point.get("asDouble", point.get("asInt")))


def _histogram(name: str, attributes: dict[str, str], at: int, point: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, str], int, float]]:
    yield f"{name}_count", attributes, at, float(point["count"])
    yield f"{name}_sum", attributes, at, float(point["sum"])
    total = 0
    for bound, count in zip([*point["explicitBounds"], None], point["bucketCounts"], strict=True):
        total += int(count)
        yield f"{name}_bucket", {**attributes, "le": "+Inf" if bound is None else f"{float(bound):g}"}, at, float(total)


# ---------------------------------------------------------------------------------------------- what the servers hold


def held_spans(stack: LiveStack, run: str) -> Counter[str]:
    """The span ids of a run in Jaeger, as often as they are there."""
    try:
        found = stack.get("JAEGER_PORT", f"/api/traces/{run.replace('-', '')}")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return Counter()
        raise
    return Counter(span["spanID"] for trace in found["data"] for span in trace["spans"])


def held_lines(stack: LiveStack, run: str) -> Counter[tuple[int, str]]:
    """Time and text of a run's log records in Loki, as often as they are there."""
    query = f'{{service_name="{names.SCOPE}"}} | goldtrace_run_id="{run}"'
    return Counter((int(at), line) for stream in stack.loki(query) for at, line, *_ in stream["values"])


def held_samples(stack: LiveStack) -> Samples:
    """Every sample of ours in Prometheus but the doctor's."""
    found: Samples = {}
    for series in stack.prometheus('{__name__=~"goldtrace_.+",deployment_environment_name!="canary"}[30d]'):
        own = {name: value for name, value in series["metric"].items() if name not in SAME_FOR_ALL}
        values = {round(float(at) * 1000): float(value) for at, value in series["values"]}
        found[(series["metric"]["__name__"], labels(**own))] = values
    return found


def differences(stack: LiveStack) -> list[str]:
    """What differs between bundles and servers, in words."""
    ledger, found = Ledger(stack.runs), []
    for run in ledger.bundles():
        for what, said, held in (
            ("spans", ledger.spans(run), held_spans(stack, run)),
            ("log records", ledger.lines(run), held_lines(stack, run)),
        ):
            if said != held:
                found.append(f"{run}: {sum((said - held).values())} {what} are missing, {sum((held - said).values())} too many")
    said_samples, held = ledger.samples(), held_samples(stack)
    other = [series for series in said_samples.keys() | held.keys() if said_samples.get(series) != held.get(series)]
    return found + [f"{name}{dict(own)}: {said_samples.get((name, own))} said, {held.get((name, own))} held" for name, own in other]


def expect_all(stack: LiveStack, seconds: float = 30) -> float:
    """Wait until the servers hold what the bundles say and nothing else, and return how long that took."""
    began = time.monotonic()
    while left := differences(stack):
        assert time.monotonic() - began < seconds, f"after {seconds:g} s, {len(left)} differences:\n" + "\n".join(left[:10])
        time.sleep(0.3)
    return time.monotonic() - began
