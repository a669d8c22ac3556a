"""The part of the store that reads metrics' histories. Checks and messages are those of MLflow's SQL store."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow.entities.metric import MetricWithRunId
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.search_utils import SearchUtils

from pipeline.tracking.dynamodb import metrics
from pipeline.tracking.dynamodb.client import Table
from pipeline.tracking.dynamodb.items import Point


class MetricStore(AbstractStore):  # type: ignore[misc] # MLflow's classes have no types here
    """What MLflow asks of histories."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._table = table

    def sanitize_metric_value(self, metric_value: float) -> tuple[bool, float]:
        """Whether a value is none, and the value as it is kept."""
        kept = metrics.kept(metric_value)
        return kept.is_nan, kept.value

    def get_metric_history(self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None) -> PagedList:
        """All values of a metric, or a page of them."""
        points = metrics.history(self._table, run_id, metric_key)
        offset = SearchUtils.parse_start_offset_from_page_token(page_token)
        end = len(points) if max_results is None else offset + max_results
        token = SearchUtils.create_page_token(end) if end < len(points) else None
        return PagedList([point.metric(metric_key) for point in points[offset:end]], token)

    def get_metric_history_bulk(self, run_ids: Iterable[str], metric_key: str, max_results: int) -> list[MetricWithRunId]:
        """The values of a metric of several runs, by run."""
        found = [(run_id, point) for run_id in sorted(set(run_ids)) for point in metrics.history(self._table, run_id, metric_key)]
        return _with_runs(metric_key, found[:max_results])

    def get_max_step_for_metric(self, run_id: str, metric_key: str) -> int:
        """The largest step of a metric; 0 for none."""
        return max((point.step for point in metrics.history(self._table, run_id, metric_key)), default=0)

    def get_metric_history_bulk_interval_from_steps(self, run_id: str, metric_key: str, steps: Iterable[int], max_results: int) -> list[MetricWithRunId]:
        """The values of a metric at these steps."""
        wanted = set(steps)
        points = [point for point in metrics.history(self._table, run_id, metric_key) if point.step in wanted]
        return _with_runs(metric_key, [(run_id, point) for point in metrics.by_step(points)[:max_results]])

    def get_metric_history_bulk_interval(
        self, run_ids: Iterable[str], metric_key: str, max_results: int, start_step: int | None, end_step: int | None
    ) -> list[MetricWithRunId]:
        """At most so many values of a metric of each run, evenly sampled over a range of steps."""
        if (start_step is None) != (end_step is None):
            raise MlflowException.invalid_parameter_value("Both start_step and end_step must be specified together, or neither may be specified.")
        found: list[tuple[str, Point]] = []
        for run_id in run_ids:
            points = metrics.by_step(metrics.history(self._table, run_id, metric_key))
            if start_step is not None and end_step is not None:
                points = [point for point in points if start_step <= point.step <= end_step]
            found += [(run_id, point) for point in metrics.sample(points, max(1, max_results))]
        return _with_runs(metric_key, found)


def _with_runs(key: str, found: Iterable[tuple[str, Point]]) -> list[MetricWithRunId]:
    return [MetricWithRunId(run_id=run_id, metric=point.metric(key)) for run_id, point in found]
