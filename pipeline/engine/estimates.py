"""The rows of the dataset that holds model estimates, as records that telemetry and the report understand."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pipeline.engine import duck
from pipeline.errors import DeclarationError
from pipeline.records import Estimate, Pipeline

if TYPE_CHECKING:
    from pipeline.engine.work import Workshop

COLUMNS = tuple(field.name for field in fields(Estimate))


def read(pipeline: Pipeline, shop: Workshop) -> list[Estimate]:
    """All estimates that this run staged, in the dataset's order; none when the run stopped before them.

    Raises:
        DeclarationError: the dataset has not the columns of `Estimate`.
    """
    if pipeline.estimates is None or pipeline.estimates not in shop.staged:
        return []
    folder = shop.staged[pipeline.estimates][1]
    columns = {column.name for column in pipeline.contracts[pipeline.estimates].columns}
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise DeclarationError(f"{pipeline.estimates} holds estimates but has no column {missing[0]!r}", hint=f"it needs {', '.join(COLUMNS)}")
    rows = shop.connection.execute(f"SELECT {', '.join(map(duck.quoted, COLUMNS))} FROM {duck.parquet(folder)}").fetchall()
    return [Estimate(**dict(zip(COLUMNS, map(_finite, row), strict=True))) for row in rows]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
