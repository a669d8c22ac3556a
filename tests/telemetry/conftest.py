"""Isolation of what telemetry has in a process, and bundles to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.records import Run
from tests.telemetry.telemetry_support import stored


@pytest.fixture(autouse=True)
def _no_context_is_left_behind() -> Iterator[None]:
    from opentelemetry import context
    from structlog import contextvars

    before = context.get_current()
    yield
    contextvars.clear_contextvars()
    assert context.get_current() == before, "an OpenTelemetry context was left attached"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """An empty folder for bundles."""
    return tmp_path / "runs"


@pytest.fixture
def run(runs: Path) -> Run:
    """A completed run whose bundle has its manifest."""
    return stored(runs)
