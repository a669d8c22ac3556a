"""All bundles of a runs folder as DataFrames, for notebooks: what the dashboards show, without a server.

Manifests are few and small, so they are read one by one (which also tells a lost run from a running one); spans, logs,
checks and lineage are read by DuckDB over all files at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.records import Estimate
from pipeline.telemetry import bundle

if TYPE_CHECKING:
    import pandas as pd

# Structures of JSON as `from_json` takes them: keys that they don't name are passed over, missing ones become NULL.
_ATTRIBUTES = [{"key": "VARCHAR", "value": "JSON"}]
_SPAN = {
    **dict.fromkeys(("traceId", "spanId", "parentSpanId", "name"), "VARCHAR"),
    **dict.fromkeys(("startTimeUnixNano", "endTimeUnixNano"), "BIGINT"),
    "status": {"code": "INTEGER"},
    "attributes": _ATTRIBUTES,
}
_RECORD = {
    "timeUnixNano": "BIGINT",
    **dict.fromkeys(("severityText", "eventName", "traceId", "spanId"), "VARCHAR"),
    "body": {"stringValue": "VARCHAR"},
    "attributes": _ATTRIBUTES,
}
_CHECK = {
    **dict.fromkeys(("step", "dataset", "expectation", "column", "severity", "outcome", "expected"), "VARCHAR"),
    "observed": "MAP(VARCHAR, JSON)",
    "quarantine": "BOOLEAN",
    "engine": "VARCHAR",
    "records": [{"file": "VARCHAR", "record": "BIGINT"}],
}
_DATASET = {"namespace": "VARCHAR", "name": "VARCHAR"}
_EVENT = {
    **dict.fromkeys(("eventTime", "eventType"), "VARCHAR"),
    "job": {"name": "VARCHAR"},
    "run": {"runId": "VARCHAR"},
    "inputs": [_DATASET],
    "outputs": [_DATASET],
}
# An attribute's value is {"stringValue": …}, {"intValue": "…"} and so on: its text, whatever its type.
_VALUE = "coalesce(value ->> '$.stringValue', value ->> '$.intValue', value ->> '$.doubleValue', value ->> '$.boolValue', CAST(value AS VARCHAR))"
_MAP = (
    "to_json(map_from_entries(list_transform(attributes, lambda a: {'key': a.key, 'value': "
    + _VALUE.replace("value ->>", "a.value ->>").replace("CAST(value", "CAST(a.value")
    + "})))"
)
_RUN_ID = "parse_filename(parse_dirpath(filename))"


@dataclass(frozen=True)
class Runs:
    """The bundles below `path`, archived ones too. Each property is read once, when it is first asked for.

    Times are UTC. `run_id` joins all frames; `step` joins those of steps.
    """

    path: Path
    _cache: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def _bundles(self) -> list[bundle.Bundle]:
        return bundle.list_bundles(self.path)

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run, oldest first.

        Columns: run_id, pipeline, environment, state, gate, started_at, ended_at, seconds, as_of, error_type, error, rows_in,
        rows_quarantined, checks_failed, commit, dirty.
        """
        return self._once("runs", lambda: _frame(map(_run_row, reversed(self._bundles)), _RUN_COLUMNS, "started_at", "ended_at"))

    @property
    def steps(self) -> pd.DataFrame:
        """One row a step: run_id, step, kind, state, started_at, seconds, rows_in, rows_out, rows_quarantined, error_type."""
        return self._once("steps", lambda: _frame((_step_row(b, s) for b, s in self._each("steps")), _STEP_COLUMNS, "started_at"))

    @property
    def datasets(self) -> pd.DataFrame:
        """One row a dataset that a run wrote: run_id, started_at, dataset, layer, step, version, rows, bytes, published, changed."""
        return self._once("datasets", lambda: _frame((_dataset_row(b, o) for b, o in self._each("outputs")), _DATASET_COLUMNS, "started_at"))

    @property
    def estimates(self) -> pd.DataFrame:
        """One row a coefficient: run_id, started_at, and the columns of `pipeline.records.Estimate`."""
        return self._once("estimates", lambda: _frame((_estimate_row(b, e) for b, e in self._each("estimates")), _ESTIMATE_COLUMNS, "started_at"))

    @property
    def spans(self) -> pd.DataFrame:
        """One row a span: run_id, trace_id, span_id, parent_span_id, name, started_at, seconds, error, attributes (a dict of texts)."""
        return self._once("spans", self._spans)

    @property
    def logs(self) -> pd.DataFrame:
        """One row a log record: run_id, at, severity, event, body, trace_id, span_id, attributes (a dict of texts)."""
        return self._once("logs", self._logs)

    @property
    def checks(self) -> pd.DataFrame:
        """One row a check: run_id, step, dataset, expectation, column, severity, outcome, expected, observed (a dict), quarantine, engine, records."""
        return self._once("checks", self._checks)

    @property
    def lineage(self) -> pd.DataFrame:
        """One row a dataset of an OpenLineage event; the pipeline's own events have none.

        Columns: run_id, event_time, event_type, job, job_run_id, direction (`input`, `output`), namespace, dataset.
        """
        return self._once("lineage", self._lineage)

    # ---------------------------------------------------------------------------------------------- from files

    def _spans(self) -> pd.DataFrame:
        source = self._source(bundle.TRACES, {"resourceSpans": [{"scopeSpans": [{"spans": [_SPAN]}]}]})
        return _query(
            f"""
            WITH resources AS (SELECT filename, unnest("resourceSpans") AS resource FROM {source}),
                 scopes AS (SELECT filename, unnest(resource."scopeSpans") AS scope FROM resources),
                 spans AS (SELECT filename, unnest(scope.spans, max_depth := 2) FROM scopes)
            SELECT {_RUN_ID} AS run_id, "traceId" AS trace_id, "spanId" AS span_id, nullif("parentSpanId", '') AS parent_span_id, name,
                   make_timestamp_ns("startTimeUnixNano") AS started_at, ("endTimeUnixNano" - "startTimeUnixNano") / 1e9 AS seconds,
                   coalesce(status.code = 2, false) AS error, {_MAP} AS attributes
            FROM spans ORDER BY run_id, "startTimeUnixNano", span_id""",
            "started_at",
            dicts=("attributes",),
        )

    def _logs(self) -> pd.DataFrame:
        source = self._source(bundle.LOGS, {"resourceLogs": [{"scopeLogs": [{"logRecords": [_RECORD]}]}]})
        return _query(
            f"""
            WITH resources AS (SELECT filename, unnest("resourceLogs") AS resource FROM {source}),
                 scopes AS (SELECT filename, unnest(resource."scopeLogs") AS scope FROM resources),
                 records AS (SELECT filename, unnest(scope."logRecords", max_depth := 2) FROM scopes)
            SELECT {_RUN_ID} AS run_id, make_timestamp_ns("timeUnixNano") AS at, "severityText" AS severity, "eventName" AS event,
                   body."stringValue" AS body, "traceId" AS trace_id, "spanId" AS span_id, {_MAP} AS attributes
            FROM records ORDER BY run_id, "timeUnixNano" """,
            "at",
            dicts=("attributes",),
        )

    def _checks(self) -> pd.DataFrame:
        source = self._source(bundle.CHECKS, {"checks": [_CHECK]}, lines=False)
        return _query(f"SELECT {_RUN_ID} AS run_id, unnest(checks, max_depth := 2) FROM {source} ORDER BY run_id")

    def _lineage(self) -> pd.DataFrame:
        source = self._source("lineage.ndjson", _EVENT)
        sides = " UNION ALL ".join(
            f"SELECT *, '{direction}' AS direction, unnest({column}) AS dataset FROM events"
            for direction, column in (("input", "inputs"), ("output", "outputs"))
        )
        own = "SELECT *, NULL AS direction, NULL AS dataset FROM events WHERE len(inputs) + len(outputs) = 0"
        return _query(
            f"""
            WITH events AS MATERIALIZED (SELECT * FROM {source})
            SELECT {_RUN_ID} AS run_id, CAST("eventTime" AS TIMESTAMPTZ) AT TIME ZONE 'UTC' AS event_time, "eventType" AS event_type,
                   job.name AS job, run."runId" AS job_run_id, direction, dataset.namespace AS namespace, dataset.name AS dataset
            FROM ({sides} UNION ALL {own}) ORDER BY run_id, event_time, job, direction, dataset""",
            "event_time",
        )

    def _source(self, name: str, structure: Mapping[str, Any], *, lines: bool = True) -> str:
        """SQL of a table over one file of every bundle, with the structure's keys as columns; an empty one when no bundle has it.

        The files are read as JSON and typed after that: `read_json` with types takes 17 ms more for each file.
        """
        files = [str(found.path / name) for found in reversed(self._bundles) if (found.path / name).is_file()]
        listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
        # A killed run may have left half a line.
        read = f"read_ndjson_objects([{listed}], ignore_errors=true" if lines else f"read_json_objects([{listed}]"
        objects = f"{read}, filename=true, maximum_object_size=67108864)" if files else "(SELECT CAST(NULL AS JSON) AS json, '' AS filename WHERE false)"
        return f"(SELECT filename, unnest(from_json(json, '{json.dumps(structure)}')) FROM {objects})"

    # ------------------------------------------------------------------------------------------ from manifests

    def _each(self, key: str) -> Iterable[tuple[bundle.Bundle, Mapping[str, Any]]]:
        return ((found, item) for found in reversed(self._bundles) for item in found.manifest[key])

    def _once(self, name: str, make: Any) -> pd.DataFrame:
        if name not in self._cache:
            self._cache[name] = make()
        frame: pd.DataFrame = self._cache[name]
        return frame


_RUN_COLUMNS = [
    "run_id",
    "pipeline",
    "environment",
    "state",
    "gate",
    "started_at",
    "ended_at",
    "seconds",
    "as_of",
    "error_type",
    "error",
    "rows_in",
    "rows_quarantined",
    "checks_failed",
    "commit",
    "dirty",
]
_STEP_COLUMNS = ["run_id", "step", "kind", "state", "started_at", "seconds", "rows_in", "rows_out", "rows_quarantined", "error_type"]
_DATASET_COLUMNS = ["run_id", "started_at", "dataset", "layer", "step", "version", "rows", "bytes", "published", "changed"]
_ESTIMATE_COLUMNS = ["run_id", "started_at", *(field.name for field in fields(Estimate))]


def _run_row(found: bundle.Bundle) -> list[Any]:
    record = found.manifest
    failure, steps = record["failure"] or {}, record["steps"]
    return [
        *(record["run_id"], found.pipeline, record["environment"], found.state.value, record["gate"], record["started_at"], record["ended_at"]),
        *(record["seconds"], record["as_of"], failure.get("type"), failure.get("message")),
        sum(source["rows"] for source in record["inputs"]),
        sum(sum(step["rows_quarantined"].values()) for step in steps),
        *(record["checks"]["failed"], record["code"]["commit"], record["code"]["dirty"]),
    ]


def _step_row(found: bundle.Bundle, step: Mapping[str, Any]) -> list[Any]:
    counts = [sum(rows or 0 for rows in step[key].values()) for key in ("rows_in", "rows_out", "rows_quarantined")]
    state = found.state.value if step["state"] == "RUNNING" else step["state"]
    return [found.id, step["name"], step["kind"], state, step["started_at"], step["seconds"], *counts, (step["failure"] or {}).get("type")]


def _dataset_row(found: bundle.Bundle, output: Mapping[str, Any]) -> list[Any]:
    return [found.id, found.manifest["started_at"], *(output[key] for key in _DATASET_COLUMNS[2:])]


def _estimate_row(found: bundle.Bundle, estimate: Mapping[str, Any]) -> list[Any]:
    return [found.id, found.manifest["started_at"], *(estimate[key] for key in _ESTIMATE_COLUMNS[2:])]


def _frame(rows: Iterable[list[Any]], columns: list[str], *times: str) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=columns)
    for column in times:
        frame[column] = pd.to_datetime(frame[column], utc=True)
    return frame


def _query(sql: str, *times: str, dicts: Sequence[str] = ()) -> pd.DataFrame:
    """The answer to a query; `times` are columns without a time zone that hold UTC, `dicts` hold JSON (which is read faster than a MAP)."""
    import duckdb
    import pandas as pd

    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        frame: pd.DataFrame = connection.execute(sql).df()
    for column in times:
        frame[column] = pd.to_datetime(frame[column], utc=True)
    for column in dicts:
        frame[column] = pd.Series([json.loads(text) if isinstance(text, str) else None for text in frame[column]], dtype=object)
    return frame
