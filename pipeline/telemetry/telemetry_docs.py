"""Writes `docs/telemetry.md` from `names.py`, and the tables of `docs/bundle.md` from the JSON Schemas, so that they can't drift.

`python -m pipeline.telemetry.telemetry_docs` writes both; a test says that writing them again changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from pipeline import names

Schema = dict[str, Any]

_TELEMETRY = """\
# Telemetry

Every name that a run writes, generated from `pipeline/names.py`. Where the files are and how they are written is in
[bundle.md](bundle.md). OpenTelemetry's semantic conventions (1.44) are used where they exist; what is ours begins with
`goldtrace.`

One run is one trace: the run's id (a UUIDv7) is the trace id, its low 64 bits are the root span's id, and the low 64 bits of a
step's id are the id of the step's span. The same two ids are the OpenLineage run ids of the pipeline's and the step's job.

## Resource

On every span, metric and log record, in this order; attributes of `OTEL_RESOURCE_ATTRIBUTES` follow and replace none of these.
"""

_SPANS = """\
## Spans

| span | parent | name | id |
|---|---|---|---|
| run | none; an outer `TRACEPARENT` is a link | the pipeline's name | low 64 bits of the run's id |
| step | run | the step's name | low 64 bits of the step's id |
| phase | step, or run | `read`, `compute`, `write`, `check`, `publish`, … | random |

A span of a run or step that failed, was aborted or is lost has status ERROR and `error.type`; so has the run's when the gate is
RED. The spans that a killed run had open end at its last sign of life; they are written when it is closed, and lack what only the
process knew (its code's place, its phases). The exception is an event on the span of the step that raised it. A step's span is the
current OpenTelemetry context while the step works, so spans that a step's own instrumentation makes (with a provider of its own)
become its children.
"""

_METRICS = """\
## Metrics

Collected once, when the run ends: one sample is one run. Counters and histograms are cumulative and each run begins at zero, so
ask `sum_over_time`, `count_over_time` or `last_over_time`, never `rate` or `increase`. The two durations carry exemplars that
lead to the trace and span. A killed run's are written when it is closed, from its manifest, and dated with its last sign of life:
without checks, disks, and the duration of the step that it died in. What is not known (a gate that was not reached, an estimate
that could not be made) is absent.
"""

_LABELS = """\
### Labels
"""

_LOGS = """\
## Log records

Each has the trace id, the span id, `event.name` (also as the record's `eventName`) when it is one of the events below, and `step`
when it was written in a step. The body is a sentence to read. Lines of level `info` and above are in the bundle; of lines that
steps write themselves the first 10,000 of a run, and how many more there were.
"""

_PRIVACY = """\
## What never leaves the lake

Values of rows, subject ids, diary texts. For messages and stack traces of errors and for log lines of steps the rule is the safe
way round: a word stays when it is known not to be data, and all else becomes `…`. Known are

- about 1,600 common words of error messages (`pipeline/telemetry/words.py`);
- names that the pipeline declares (datasets, columns, steps, models, terms), names of input files, and the words of its SQL files;
- string literals and identifiers of the code that raised or logged, also the fixed parts of an f-string;
- numbers that say a place, a count, a duration or a size: `line 12`, `record 7`, `436 rows`, `3.2 s`.

What is in quotation marks stays only when all of it is one such name. Stack traces are file (relative to its package), line and
function. E-mail addresses and home folders are taken out everywhere.

Fields of a line, `get_logger().info("rows read", rows=436)`, are written under their own names:

| value | what is kept |
|---|---|
| number, boolean | as it is, nothing for NaN and infinities; `…` when the field is called like a column that is not `public` (`weight` like `weight_kg`) |
| text, path (its last part) | after the rule above |
| list of names that the pipeline declares, 20 at most | as it is |
| anything else | its type, `<DataFrame>` |

A field whose name is not known (a name made from data) is left out, and so is one with a name of ours (`step`, `goldtrace.…`).
Nothing is hashed: subject ids are few enough to be guessed back.

## What the standard variables do

| variable | here |
|---|---|
| `OTEL_RESOURCE_ATTRIBUTES` | adds to the resource |
| `OTEL_SDK_DISABLED=true` | no traces, metrics and log records, and one line that says so; lineage stays |
| `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`, `OTEL_*_COUNT_LIMIT`, … | limits of spans and log records; without them a value has at most 16,384 characters |
| `OTEL_TRACES_SAMPLER` | nothing: a run is one trace, and the bundle has to be whole |
| `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`, `OTEL_METRICS_EXEMPLAR_FILTER`, `OTEL_METRIC_EXPORT_INTERVAL` | nothing: a sample is a run |
| `TRACEPARENT` | a link from the root span, since the trace id is the run's |
"""


def markdown() -> str:
    """The text of `docs/telemetry.md`."""
    labels = {label for metric in names.metrics() for label in metric.labels}
    resource = (names.RUN_ID, names.SERVICE_NAME, names.SERVICE_NAMESPACE, names.SERVICE_VERSION, names.ENVIRONMENT)
    others = [attribute for attribute in names.attributes() if attribute.name not in labels and attribute not in resource]
    parts = [
        _TELEMETRY + "\n" + _attributes(resource),
        _SPANS,
        _METRICS + "\n" + _table(("instrument", "kind", "unit", "labels", "meaning"), map(_metric, names.metrics())),
        _LABELS + "\n" + _attributes(attribute for attribute in names.attributes() if attribute.name in labels),
        _LOGS + "\n" + _table(("event", "meaning", "attributes"), map(_event, names.events())),
        "## Attributes of spans and log records\n\n" + _attributes(others),
        _PRIVACY,
    ]
    return "\n".join(parts)


def _attributes(attributes: Iterable[names.Attribute]) -> str:
    return _table(("attribute", "type", "meaning"), ((f"`{attribute.name}`", attribute.type, attribute.meaning) for attribute in attributes))


def _metric(metric: names.Metric) -> tuple[str, ...]:
    return f"`{metric.name}`", metric.kind, f"`{metric.unit}`" if metric.unit else "", ", ".join(f"`{label}`" for label in metric.labels), metric.meaning


def _event(event: names.Event) -> tuple[str, ...]:
    return f"`{event.name}`", event.meaning, ", ".join(f"`{attribute.name}`" for attribute in event.attributes)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


# ---------------------------------------------------------------------------------------------- docs/bundle.md

_BUNDLE = """\
# The bundle

A run leaves a folder, `runs/<run id>/`, that is enough to rebuild everything else: the report, the dashboards' numbers, lineage.
Beyond 300 bundles the oldest finished ones are moved to `runs/archive/<run id>/`; all commands read both. Folders have mode
0755 and files 0644 whatever the umask, since a collector reads them as another user.

| file | what it holds | written |
|---|---|---|
| `manifest.json` | what the run is, what became of it, what it read and wrote | first of all (`RUNNING`), then only replaced whole |
| `checks.json` | every check that was evaluated | at the end |
| `traces.jsonl` | spans | each as it ends |
| `metrics.jsonl` | metrics | one line at the end |
| `logs.jsonl` | log records | each as it comes |
| `lineage.ndjson` | OpenLineage events | each as it happens |
| `delivery.json` | what was handed to which server, and what waits | at the end and after it, by whoever sends |
| `report.html` | the report | at the end; `pipeline report RUN` makes it anew |
| `run.lock` | nothing: while the run lives, it holds a lock on it | taken away at the end |
| `.reserve` | nothing: room on the disk for the manifest's last words, should the disk be full by then | taken away at the end |
| `.experiments.json`, `.experiments/` | what MLflow has still to get (`docs/mlflow.md`); its figures, if the lake is on S3 | at the end; taken away later |

**Is it running?** A manifest that says `RUNNING` is believed only while somebody holds the lock (`flock`) on `run.lock`. The kernel
lets go of it when the process dies, however it dies; then the run is LOST, in every list and report. The next run, or
`pipeline reap`, closes it: state `LOST`, `reaped_at`, the last sign of life as its end. Then it appends what the run did
not come to write: in the log a last `run.finished`, in the trace the spans that were open, and its metrics. The lock works on local
file systems; a bundle that was copied elsewhere while its run was going on is shown as LOST there.

**JSON files** are replaced atomically (written beside, flushed to the disk, renamed): a reader sees the old or the new one. Numbers
that JSON does not have become null. `manifest.schema.json`, `checks.schema.json` and `delivery.schema.json` in `pipeline/telemetry/` are their JSON
Schemas (draft 2020-12), and the tables below are made from them. All times are UTC, `2026-11-21T14:11:02.123456Z`; seconds have
six digits after the point; names of datasets are `layer/name`.

**JSON lines** are the official OTLP JSON encoding (ids in hex digits, 64-bit integers as text), one Export request a line, appended in
place. A run that was killed keeps what was finished; a last line without a newline was being written when it died, and is to be
skipped until the run is closed. Names and meanings of everything in them are in [telemetry.md](telemetry.md).
"""

_LINES = """\
## traces.jsonl, metrics.jsonl, logs.jsonl

Each line is one object with one key, `resourceSpans`, `resourceMetrics` or `resourceLogs`, a list of one:

| field | what it is |
|---|---|
| `resource.attributes` | the resource, `goldtrace.run.id` first: readers tell files apart by their first bytes |
| `scopeSpans`, `scopeMetrics`, `scopeLogs` | a list of one, with `scope.name` = `goldtrace`, `scope.version` and the records |

A span (`spans[]`, one a line):

| field | what it is |
|---|---|
| `traceId`, `spanId` | 32 and 16 hex digits: the run's id; the low half of the run's or step's id, or random for a phase |
| `parentSpanId` | the step's or run's span; absent on the run's own |
| `name`, `kind` | the name of the pipeline, step or phase; 1 (internal) |
| `startTimeUnixNano`, `endTimeUnixNano` | nanoseconds since the epoch, as text |
| `attributes` | see [telemetry.md](telemetry.md) |
| `events` | `exception`, with `exception.type`, `exception.message`, `exception.stacktrace`, on a span that failed by one |
| `links` | the caller's span (`TRACEPARENT`) |
| `status` | `code` 2 and `message` when it failed, was aborted or is lost |
| `flags`, `droppedAttributesCount`, … | as OTLP says |

A metric (`metrics[]`, all of them in one line) has `name`, `unit`, `description` and one of `sum`, `gauge` and `histogram`, with
`dataPoints`, `aggregationTemporality` 2 (cumulative) and `isMonotonic`. A data point:

| field | what it is |
|---|---|
| `attributes` | the labels |
| `startTimeUnixNano`, `timeUnixNano` | nanoseconds since the epoch, as text; the second is the end of the run |
| `asInt`, `asDouble` | the value of a counter or gauge |
| `count`, `sum`, `min`, `max`, `bucketCounts`, `explicitBounds` | a histogram's, in seconds |
| `exemplars` | of the durations: `traceId`, `spanId`, `timeUnixNano`, `asDouble` |

A log record (`logRecords[]`, one a line):

| field | what it is |
|---|---|
| `timeUnixNano`, `observedTimeUnixNano` | when it happened (no two records of a run have the same), and when it was written |
| `severityNumber`, `severityText` | 9 `INFO`, 13 `WARN`, 17 `ERROR` |
| `body.stringValue` | a sentence |
| `eventName` | the kind of a fact; absent on free lines |
| `attributes` | `event.name`, `step`, and the event's own; on free lines `goldtrace.logger`, `exception.*` and the line's fields |
| `traceId`, `spanId`, `flags` | the span that it belongs to |

The exporter of log records is in a private module of `opentelemetry-exporter-otlp-json-file`, as logs are not declared stable in
OpenTelemetry Python; its version is pinned for that reason.

## lineage.ndjson

One OpenLineage event a line (spec 2-0-2), validated against the specification and the facets' schemas in the tests.

| field | what it is |
|---|---|
| `eventType` | `START`, then `COMPLETE`, `FAIL` or `ABORT` |
| `eventTime` | when it happened |
| `run.runId` | the run's id, or the step's |
| `job.namespace`, `job.name` | `OPENLINEAGE_NAMESPACE`; `<pipeline>` or `<pipeline>.<step>` |
| `inputs`, `outputs` | the step's datasets, `file://<lake name>` (on S3 `s3://<bucket>`) and `<layer>/<dataset>`; the pipeline's own events have none |
| `run.facets`, `job.facets`, `inputs[].facets`, `outputs[].facets` | what else is known |
| `producer`, `schemaURL` | who wrote it, and by which schema |

## report.html

One self-contained page, made from the files above and from nothing else.
"""


def bundle_markdown() -> str:
    """The text of `docs/bundle.md`."""
    parts = [_BUNDLE]
    for name in ("manifest", "checks", "delivery"):
        schema = json.loads(files("pipeline.telemetry").joinpath(f"{name}.schema.json").read_text("utf-8"))
        rows = list(_fields(schema, schema.get("$defs", {}), ""))
        parts.append(f"## {name}.json\n\n{schema['description']}\n\n" + _table(("field", "type", "meaning"), rows))
    return "\n".join([*parts, _LINES])


def _fields(schema: Schema, definitions: Schema, prefix: str) -> Iterator[tuple[str, str, str]]:
    """A row for each field of an object, those of inner objects after it: `steps[].name`."""
    for name, field in schema.get("properties", {}).items():
        yield f"`{prefix}{name}`", _type(field, definitions), field["description"]
        inner = _resolved(field, definitions)
        if inner.get("type") == "array":
            yield from _fields(_resolved(inner["items"], definitions), definitions, f"{prefix}{name}[].")
        elif isinstance(inner.get("additionalProperties"), dict):
            yield from _fields(_resolved(inner["additionalProperties"], definitions), definitions, f"{prefix}{name}.*.")
        else:
            yield from _fields(inner, definitions, f"{prefix}{name}.")


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """The schema that is meant: what a reference leads to, or what may be instead of null."""
    meant = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return next((option for option in meant["oneOf"] if option.get("type") != "null"), meant) if "oneOf" in meant else meant


def _type(field: Schema, definitions: Schema) -> str:
    found = definitions[field["$ref"].rpartition("/")[2]] if "$ref" in field else field
    if "const" in found:
        return f"`{found['const']}`"
    if "enum" in found:
        return ", ".join("null" if value is None else f"`{value}`" for value in found["enum"])
    kinds = [option.get("type", "object") for option in found["oneOf"]] if "oneOf" in found else found["type"]
    return " or ".join(sorted(kinds, key="null".__eq__)) if isinstance(kinds, list) else str(kinds)


def write(folder: Path) -> None:
    """Write both pages to the folder of the documentation."""
    (folder / "telemetry.md").write_text(markdown(), "utf-8")
    (folder / "bundle.md").write_text(bundle_markdown(), "utf-8")


if __name__ == "__main__":
    write(Path(__file__).resolve().parents[2] / "docs")
