"""The canary: a tiny pipeline, run by the very runner into the very runs folder, and what its bundle says has to be found.

It is marked by its environment `canary`, which dashboards and alerts leave out, and by its lineage namespace of the same name.
Its lake is a folder that goes with it, and MLflow is not told.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import time, timedelta
from pathlib import Path

from pipeline import names
from pipeline.errors import BackendError
from pipeline.records import Pipeline, Run, State, StepRun
from pipeline.settings import Settings, Switch
from pipeline.stack.doctor_probes import Wanted
from pipeline.telemetry import bundle

NAME = names.CANARY
# Bundles of canaries that stay, the newest included.
KEPT = 3
_HERE = Path(__file__).parent / NAME
_log = logging.getLogger(__name__)


def canary_pipeline() -> Pipeline:
    """Three readings from a file, typed, checked and added up: one step that ingests and one in SQL."""
    from pipeline.engine import Schedule, define, ingest, sql_step

    return define(
        name=NAME,
        description="A run that is only there to be found again in every server.",
        owner="goldtrace",
        contracts=_HERE / "contracts",
        # It runs when somebody asks; a day is the longest that an alert about it could wait.
        schedule=Schedule(every=timedelta(days=1), by=time(0)),
        steps=[
            ingest("read", source="input/canary", output="bronze/canary", description="Read the three readings."),
            sql_step("total", _HERE / "total.sql", inputs=["bronze/canary"], output="silver/canary", description="Add them up."),
        ],
        sample=_HERE / "input",
    )


def canary_settings(settings: Settings, lake: Path) -> Settings:
    """The user's settings where they say whom to tell, the canary's own where they say what is run."""
    own = {
        "environment": NAME,
        "input": None,
        "lake": str(lake),
        "lake_name": NAME,
        "log_level": "error",
        "openlineage_namespace": NAME,
        "openlineage_parent_id": None,
        "otel_sdk_disabled": None,
        "telemetry": Switch.ON,
        "threads": 1,
        "tracking": Switch.OFF,
        "traceparent": None,
    }
    return settings.model_copy(update=own)


def run_canary(settings: Settings, on_end: Callable[[Wanted], None], finish: Callable[[Run], None] | None = None) -> Run:
    """Run the canary once, and send its lineage, as every run does.

    Args:
        settings: the user's.
        on_end: is told as soon as the run has ended, while its bundle is still being completed: latency counts from there.
        finish: is told once the bundle is whole, to write the report.

    Raises:
        LakeError: the runs folder can't be written.
    """
    from pipeline.engine.runner import Order, execute
    from pipeline.telemetry.delivery import deliver_at_end

    _close_lost_runs(settings)
    with tempfile.TemporaryDirectory(prefix="goldtrace-canary-") as lake:
        own = canary_settings(settings, Path(lake))
        run = execute(canary_pipeline(), own, Order(hooks=[_EndHook(on_end)], finish=finish))
    deliver_at_end(run.bundle, own)
    return run


def _close_lost_runs(settings: Settings) -> None:
    """Close what died with the user's own settings: the canary's run would do it, and leave MLflow out."""
    from pipeline.engine.runner import reap

    try:
        reap(settings)
    except BackendError as error:
        _log.warning("%s", error.message)


@dataclass(slots=True)
class _EndHook:
    """Tells that the run has ended. The last hook to be entered is the first to be left: nothing of the run's end has been written yet."""

    on_end: Callable[[Wanted], None]
    signal: str = "doctor"

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """Tell it when the run is over."""
        try:
            yield
        finally:
            if run.ended_ns is not None and run.state is State.COMPLETED:
                self.on_end(Wanted.of(run, run.ended_ns))

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:  # noqa: ARG002 - the seam hands over both
        """Nothing."""
        yield


def remove_old(runs: Path) -> list[Path]:
    """Delete the bundles of all canaries but the newest ones, and return where they were. What can't be deleted stays."""
    canaries = [found for found in bundle.iter_bundles(runs) if is_canary(found) and found.is_finished]
    gone = []
    for found in canaries[KEPT:]:
        try:
            shutil.rmtree(found.path)
        except OSError as error:
            _log.warning("the old canary %s can't be deleted: %s", found.path, error.strerror)
        else:
            gone.append(found.path)
    return gone


def is_canary(found: bundle.Bundle) -> bool:
    """Whether a bundle is a canary's."""
    return found.pipeline == NAME and found.manifest["environment"] == NAME
