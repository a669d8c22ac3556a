"""The hook that puts runs and their models into MLflow. Nothing of MLflow is imported here: a worker process does it.

What became of it stands in the bundle's `delivery.json` under `experiments`. MLflow's being away never fails a run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import BackendError, LakeError
from pipeline.records import Run, State, StepRun
from pipeline.settings import Settings, Switch, mask
from pipeline.tracking.process import Target, Worker, target
from pipeline.tracking.record import RunRecord, lost_record, run_record
from pipeline.tracking.worker import Answer, Refusal

DELIVERY = "delivery.json"


class LostRuns:
    """Collects runs whose process is gone, to mark them as killed in MLflow, all at once; `close` is a reaper's closer.

    They wait for the end of the next run, whose worker takes them along, or for `deliver`. It does no harm: MLflow never
    shows a run as going on, since a run is entered there when it has ended.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._records: list[tuple[Path, RunRecord]] = []

    def close(self, bundle: Path, ended_ns: int, message: str) -> None:
        """Note a lost run: its bundle, its last sign of life in nanoseconds since the epoch, and what to say of it."""
        if self._settings.tracking is Switch.ON:
            manifest = json.loads((bundle / "manifest.json").read_bytes())
            self._records.append((bundle, lost_record(manifest, ended_ns, message, self._settings)))

    def take(self) -> list[tuple[Path, RunRecord]]:
        """What is noted, and forget it."""
        taken, self._records = self._records, []
        return taken

    def deliver(self) -> None:
        """Enter the noted runs with a worker of our own.

        Raises:
            BackendError: the store did not take them; each bundle's `delivery.json` says so too.
            LakeError: a `delivery.json` can't be written.
        """
        if self._records:
            with Worker(target(self._settings)) as worker:
                _deliver(worker, self.take())


class ExperimentsHook:
    """Starts the worker with the run, so that MLflow is ready by the run's end, and hands it the finished record then.

    The worker takes the `lost` runs along, if there are any.
    """

    signal = "experiments"

    def __init__(self, settings: Settings, lake_root: Path, lost: LostRuns | None = None) -> None:
        self._settings = settings
        self._lake_root = lake_root.absolute()
        self._lost = lost or LostRuns(settings)

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """Deliver the run when it ends.

        Raises:
            BackendError: the store did not take it; `delivery.json` says so too.
            LakeError: `delivery.json` can't be written.
        """
        if self._settings.tracking is Switch.OFF:
            _write_delivery(run.bundle, {"state": "off"})
            yield
            return
        with Worker(target(self._settings)) as worker:
            try:
                yield
            finally:
                # A run that is still going on was torn down in a way that nobody foresaw; there is nothing true to say of it yet.
                if run.state is not State.RUNNING:
                    records = [(run.bundle, run_record(run, self._settings, self._lake_root)), *self._lost.take()]
                    # Whoever ended the run waits for it, and may not wait long before killing it.
                    _deliver(worker, records, briefly=run.state is State.ABORTED)

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:  # noqa: ARG002 - the seam hands over both
        """Nothing: models are logged when the run has published them."""
        yield


def _deliver(worker: Worker, records: list[tuple[Path, RunRecord]], *, briefly: bool = False) -> None:
    answer = worker.ask([record for _, record in records], briefly=briefly)
    for place, (bundle, _) in enumerate(records):
        _write_delivery(bundle, _entry(worker.target, answer, place))
    if answer["refusal"]:
        raise _error(worker.target, answer["refusal"])


def _entry(target: Target, answer: Answer, place: int) -> dict[str, Any]:
    """What `delivery.json` says: `delivered`, `pending` (it may work later with nothing changed) or `failed`."""
    entry: dict[str, Any] = {"target": target.masked, "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    if place < len(answer["delivered"]):
        delivered = answer["delivered"][place]
        return {"state": "delivered", **entry, "parent_run_id": delivered["parent_run_id"], "runs": delivered["runs"]}
    refusal = answer["refusal"]
    return {"state": "pending" if refusal is None or refusal["retry_is_safe"] else "failed", **entry, "detail": _detail(refusal) if refusal else ""}


def _detail(refusal: Refusal) -> str:
    return mask(": ".join(part for part in (refusal["error"], refusal["message"]) if part))


def _error(target: Target, refusal: Refusal) -> BackendError:
    missing = refusal["error"] == "ModuleNotFoundError"
    hint = "pip install mlflow, or set PIPELINE_TRACKING=off" if missing else "the run is whole without it; docs/mlflow.md says what to do"
    return BackendError(f"MLflow at {target.masked} did not take the run: {_detail(refusal)}", hint=hint, target=target.masked)


def _write_delivery(bundle: Path, entry: dict[str, Any]) -> None:
    """Replace our part of `delivery.json` at once, and leave the others' as they are."""
    path = bundle / DELIVERY
    temporary = bundle / f".{DELIVERY}.experiments"
    try:
        known = _read_delivery(path)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps({**known, "experiments": entry}, ensure_ascii=False, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise LakeError(f"{path} can't be written: {error.strerror}", hint="free some space, or see who may write there") from error


def _read_delivery(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
