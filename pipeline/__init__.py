"""Goldtrace: a bronze–silver–gold pipeline whose every run explains itself.

The names below are the public interface. They are looked up when first used, so that `import pipeline` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline._version import __version__ as __version__

if TYPE_CHECKING:
    from pipeline.api import open_runs, read, run
    from pipeline.engine import Pipeline, Schedule, define, ingest, python_step, sql_step
    from pipeline.telemetry.logs import get_logger

_HOMES = {
    "Pipeline": "pipeline.engine",
    "Schedule": "pipeline.engine",
    "define": "pipeline.engine",
    "get_logger": "pipeline.telemetry.logs",
    "ingest": "pipeline.engine",
    "open_runs": "pipeline.api",
    "python_step": "pipeline.engine",
    "read": "pipeline.api",
    "run": "pipeline.api",
    "sql_step": "pipeline.engine",
}

__all__ = ["Pipeline", "Schedule", "define", "get_logger", "ingest", "open_runs", "python_step", "read", "run", "sql_step"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
