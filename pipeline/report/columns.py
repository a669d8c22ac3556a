"""Which columns each column is made from, as the run's lineage events say (`lineage.ndjson`, OpenLineage)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.report.facts import layer_rank

LINEAGE: Final = "lineage.ndjson"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One column that another is made from, and how (`DIRECT: IDENTITY`, `INDIRECT: FILTER`, …)."""

    dataset: str
    column: str
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFacts:
    """One column of a dataset with its meaning, where it comes from, and the expression that makes it, when one is told."""

    name: str
    type: str
    description: str
    origins: tuple[Origin, ...]
    expression: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetColumns:
    """The columns of a dataset; `rows_by` are those that decide which rows it has (filters, joins, sorts)."""

    dataset: str
    columns: tuple[ColumnFacts, ...]
    rows_by: tuple[Origin, ...]


def read_columns(bundle: Path) -> tuple[DatasetColumns, ...]:
    """The datasets that the run's events tell columns of, from input to gold; none when there are no events."""
    found: dict[str, DatasetColumns] = {}
    for event in _events(bundle / LINEAGE):
        for dataset in (*event.get("inputs", ()), *event.get("outputs", ())):
            told = _columns(dataset)
            # Later events know more: a terminal one has the column lineage that START lacks; a mere read has none again.
            if told is not None and (told.dataset not in found or _knows(told) >= _knows(found[told.dataset])):
                found[told.dataset] = told
    return tuple(sorted(found.values(), key=lambda dataset: (layer_rank(dataset.dataset), dataset.dataset)))


def _knows(dataset: DatasetColumns) -> int:
    return sum(len(column.origins) for column in dataset.columns)


def _events(path: Path) -> Iterator[Mapping[str, Any]]:
    """The events of a file; what was cut short or is not an event is passed over."""
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _columns(dataset: Mapping[str, Any]) -> DatasetColumns | None:
    facets = dataset.get("facets") or {}
    fields = (facets.get("schema") or {}).get("fields") or []
    lineage = facets.get("columnLineage") or {}
    made = lineage.get("fields") or {}
    if not fields:
        return None
    columns = tuple(
        ColumnFacts(
            name=field["name"],
            type=field.get("type") or "",
            description=field.get("description") or "",
            origins=_origins((made.get(field["name"]) or {}).get("inputFields") or []),
            expression=(made.get(field["name"]) or {}).get("transformationDescription") or "",
        )
        for field in fields
    )
    return DatasetColumns(dataset=dataset["name"], columns=columns, rows_by=_origins(lineage.get("dataset") or []))


def _origins(entries: list[Mapping[str, Any]]) -> tuple[Origin, ...]:
    return tuple(Origin(dataset=entry["name"], column=entry["field"], how=_how(entry.get("transformations") or [])) for entry in entries)


def _how(transformations: list[Mapping[str, Any]]) -> str:
    """`identity`, `aggregation`, `filter`: the subtype in lower case, or the type where there is none."""
    kinds = (entry.get("subtype") or entry.get("type") or "" for entry in transformations)
    return ", ".join(dict.fromkeys(kind.lower().replace("_", " ") for kind in kinds if kind))
