"""All bundles of a runs folder as DataFrames, for notebooks: what the dashboards show, without a server.

Manifests are few and small, so they are read one by one (which also tells a lost run from a running one); spans, logs,
checks and lineage are read by DuckDB over all files at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.records import Estimate
from pipeline.telemetry import bundle

if TYPE_CHECKING:
    import pandas as pd

_ATTRIBUTES = 'STRUCT("key" VARCHAR, "value" JSON)[]'
_SPAN = (
    'STRUCT("traceId" VARCHAR, "spanId" VARCHAR, "parentSpanId" VARCHAR, "name" VARCHAR, "startTimeUnixNano" BIGINT, "endTimeUnixNano" BIGINT,'
    f' "status" STRUCT("code" INTEGER), "attributes" {_ATTRIBUTES})'
)
_RECORD = (
    'STRUCT("timeUnixNano" BIGINT, "severityText" VARCHAR, "body" STRUCT("stringValue" VARCHAR), "eventName" VARCHAR, "traceId" VARCHAR, "spanId" VARCHAR,'
    f' "attributes" {_ATTRIBUTES})'
)
_CHECK = (
    'STRUCT("step" VARCHAR, "dataset" VARCHAR, "expectation" VARCHAR, "column" VARCHAR, "severity" VARCHAR, "outcome" VARCHAR, "expected" VARCHAR,'
    ' "observed" MAP(VARCHAR, JSON), "quarantine" BOOLEAN, "engine" VARCHAR, "records" STRUCT("file" VARCHAR, "record" BIGINT)[])'
)
_DATASET = 'STRUCT("namespace" VARCHAR, "name" VARCHAR)'
# An attribute's value is {"stringValue": …}, {"intValue": "…"} and so on: its text, whatever its type.
_VALUE = "coalesce(value ->> '$.stringValue', value ->> '$.intValue', value ->> '$.doubleValue', value ->> '$.boolValue', CAST(value AS VARCHAR))"
_MAP = (
    "map_from_entries(list_transform(attributes, lambda a: {'key': a.key, 'value': "
    + _VALUE.replace("value ->>", "a.value ->>").replace("CAST(value", "CAST(a.value")
    + "}))"
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
        source = self._source(bundle.TRACES, {"resourceSpans": f'STRUCT("scopeSpans" STRUCT("spans" {_SPAN}[])[])[]'})
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
        )

    def _logs(self) -> pd.DataFrame:
        source = self._source(bundle.LOGS, {"resourceLogs": f'STRUCT("scopeLogs" STRUCT("logRecords" {_RECORD}[])[])[]'})
        return _query(
            f"""
            WITH resources AS (SELECT filename, unnest("resourceLogs") AS resource FROM {source}),
                 scopes AS (SELECT filename, unnest(resource."scopeLogs") AS scope FROM resources),
                 records AS (SELECT filename, unnest(scope."logRecords", max_depth := 2) FROM scopes)
            SELECT {_RUN_ID} AS run_id, make_timestamp_ns("timeUnixNano") AS at, "severityText" AS severity, "eventName" AS event,
                   body."stringValue" AS body, "traceId" AS trace_id, "spanId" AS span_id, {_MAP} AS attributes
            FROM records ORDER BY run_id, "timeUnixNano" """,
            "at",
        )

    def _checks(self) -> pd.DataFrame:
        source = self._source(bundle.CHECKS, {"checks": f"{_CHECK}[]"}, lines=False)
        return _query(f"SELECT {_RUN_ID} AS run_id, unnest(checks, max_depth := 2) FROM {source} ORDER BY run_id")

    def _lineage(self) -> pd.DataFrame:
        columns = {
            "eventTime": "VARCHAR",
            "eventType": "VARCHAR",
            "job": 'STRUCT("name" VARCHAR)',
            "run": 'STRUCT("runId" VARCHAR)',
            "inputs": f"{_DATASET}[]",
            "outputs": f"{_DATASET}[]",
        }
        source = self._source("lineage.ndjson", columns)
        sides = " UNION ALL ".join(
            f"SELECT *, '{direction}' AS direction, unnest({column}) AS dataset FROM {source}"
            for direction, column in (("input", "inputs"), ("output", "outputs"))
        )
        own = f"SELECT *, NULL AS direction, NULL AS dataset FROM {source} WHERE len(inputs) + len(outputs) = 0"
        return _query(
            f"""
            SELECT {_RUN_ID} AS run_id, CAST("eventTime" AS TIMESTAMPTZ) AT TIME ZONE 'UTC' AS event_time, "eventType" AS event_type,
                   job.name AS job, run."runId" AS job_run_id, direction, dataset.namespace AS namespace, dataset.name AS dataset
            FROM ({sides} UNION ALL {own}) ORDER BY run_id, event_time, job, direction, dataset""",
            "event_time",
        )

    def _source(self, name: str, columns: Mapping[str, str], *, lines: bool = True) -> str:
        """SQL of a table over one file of every bundle; an empty one when no bundle has it."""
        files = [str(found.path / name) for found in reversed(self._bundles) if (found.path / name).is_file()]
        if not files:
            return "(SELECT " + ", ".join(f'CAST(NULL AS {kind}) AS "{column}"' for column, kind in columns.items()) + ", '' AS filename WHERE false)"
        listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
        typed = ", ".join(f"'{column}': '{kind}'" for column, kind in columns.items())
        # A killed run may have left half a line.
        options = "format='newline_delimited', ignore_errors=true" if lines else "format='auto'"
        return f"read_json([{listed}], columns={{{typed}}}, {options}, filename=true, maximum_object_size=67108864)"

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


def _query(sql: str, *times: str) -> pd.DataFrame:
    """The answer to a query; `times` are columns without a time zone that hold UTC."""
    import duckdb
    import pandas as pd

    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        frame: pd.DataFrame = connection.execute(sql).df()
    for column in times:
        frame[column] = pd.to_datetime(frame[column], utc=True)
    return frame
