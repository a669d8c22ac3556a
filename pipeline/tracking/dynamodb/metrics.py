"""Metrics: which value is a run's latest, batches packed into items, histories read back and sampled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from mlflow.entities import Metric
from mlflow.utils.validation import _validate_metric

from pipeline.tracking.dynamodb import values
from pipeline.tracking.dynamodb.client import Expression, Table, Where
from pipeline.tracking.dynamodb.items import Point, RunRecord
from pipeline.tracking.dynamodb.model_items import ModelMetric
from pipeline.tracking.dynamodb.schema import HISTORY, SORT, runs_partition

Row = tuple[str, Point]


def rows(metrics: Sequence[Metric]) -> list[Row]:
    """The values to log, each one once.

    Raises:
        MlflowException: `INVALID_PARAMETER_VALUE`, a name or a value is none that MLflow takes.
    """
    for place, metric in enumerate(metrics):
        path = "" if len(metrics) == 1 else f"metrics[{place}]"
        _validate_metric(metric.key, metric.value, metric.timestamp, metric.step, path=path)
    return list(dict.fromkeys((metric.key, kept(metric.value, metric.timestamp, metric.step)) for metric in metrics))


def kept(value: float, timestamp: int = 0, step: int = 0) -> Point:
    """A value as it is kept."""
    if math.isnan(value):
        return Point(0.0, timestamp, step, is_nan=True)
    return Point(math.copysign(values.LARGEST, value) if math.isinf(value) else float(value), timestamp, step, is_nan=False)


def about_models(metrics: Sequence[Metric], run_id: str) -> dict[str, list[ModelMetric]]:
    """The values that are about a model, by its id; each one once."""
    found: dict[str, list[ModelMetric]] = {}
    for metric in dict.fromkeys(metrics):
        if metric.model_id is not None:
            about = (metric.key, kept(metric.value).value, metric.timestamp, metric.step, metric.dataset_name, metric.dataset_digest, run_id)
            found.setdefault(metric.model_id, []).append(ModelMetric(*about))
    return found


def log(record: RunRecord, logged: Sequence[Row]) -> list[bytes]:
    """Let a run know its latest values, and pack all of them for its history. Latest is by step, then time, then value."""
    for key, point in logged:
        latest = record.metrics.get(key)
        if latest is None or (point.step, point.timestamp, point.value) > (latest.step, latest.timestamp, latest.value):
            record.metrics[key] = point
    return _pack(logged)


def _pack(logged: Sequence[Row]) -> list[bytes]:
    if not logged:
        return []
    packed = values.pack([[key for key, _ in logged], [list(point) for _, point in logged]])
    if len(packed) <= values.PART_BYTES or len(logged) == 1:
        return [packed]
    middle = len(logged) // 2
    return _pack(logged[:middle]) + _pack(logged[middle:])


def history(table: Table, run_id: str, key: str) -> list[Point]:
    """All values of a run's metric, each one once, by time, step and value."""
    return sorted(set(_read(table, run_id, key)), key=lambda point: (point.timestamp, point.step, point.value, point.is_nan))


def _read(table: Table, run_id: str, key: str) -> Iterator[Point]:
    if not run_id:
        return
    of_history = Expression(text="begins_with(#history, :history)", names={"#history": SORT}, values={":history": {"S": HISTORY}})
    for item in table.query(runs_partition(run_id), Where(sort=of_history)):
        keys, points = values.unpack(item["points"]["B"])
        for name, (value, timestamp, step, is_nan) in zip(keys, points, strict=True):
            if name == key:
                yield Point(value, timestamp, step, is_nan)


def by_step(points: Iterable[Point]) -> list[Point]:
    """In the order in which histories are sampled."""
    return sorted(points, key=lambda point: (point.step, point.timestamp, point.value, point.is_nan))


def sample(points: Sequence[Point], most: int) -> list[Point]:
    """At most so many of the points, which are in order: the first of each of `most` even buckets (SQL's NTILE), and the last."""
    size, larger = divmod(len(points), most)
    starts = [bucket * size + min(bucket, larger) for bucket in range(min(most, len(points)))]
    sampled = [points[start] for start in starts]
    if points and sampled[-1] != points[-1]:
        sampled[len(sampled) - (len(sampled) >= most) :] = [points[-1]]
    return sampled
