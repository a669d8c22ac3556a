"""The hook that puts runs and their models into MLflow. Nothing of MLflow is imported here: a worker process does it.

What became of it stands in the bundle's `delivery.json` under `experiments`. MLflow's being away never fails a run.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pipeline import delivery_file
from pipeline.errors import BackendError, LakeError
from pipeline.lake_address import parse_s3
from pipeline.records import ExperimentRun, Run, State, StepRun
from pipeline.settings import TELEMETRY_SHARE, Settings, Switch, mask
from pipeline.tracking.process import REMOTE_SECONDS, Target, Worker, target
from pipeline.tracking.record import RunRecord, lost_record, run_record
from pipeline.tracking.waiting import forget, keep
from pipeline.tracking.waiting import waiting as find_waiting
from pipeline.tracking.worker import Answer, Refusal

# Of a run of hours telemetry's share is more than anybody waits for a store that is away.
MOST_SECONDS = 30.0
# How many runs that wait a run takes along: it may not take long, and the first of all is its own.
TAKEN_ALONG = 2
# How long somebody waits who asks for nothing else, and how much longer for each run.
PATIENT_SECONDS = 120.0
PATIENT_SECONDS_A_RUN = 10.0


class LostRuns:
    """The runs that MLflow does not have yet: those whose process is gone (`close` is a reaper's closer), and those that wait.

    They are entered at the end of the next run, whose worker takes some along, or all of them by `deliver`. That they come late
    does no harm: MLflow never shows a run as going on, since a run is entered there when it has ended.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lake = Path(settings.lake).absolute()
        self._records: list[tuple[Path, RunRecord]] = []
        # How many `deliver` has brought in.
        self.entered = 0

    def close(self, bundle: Path, ended_ns: int, message: str) -> None:
        """Note a lost run: its bundle, its last sign of life in nanoseconds since the epoch, and what to say of it."""
        if self._settings.tracking is Switch.ON:
            manifest = json.loads((bundle / "manifest.json").read_bytes())
            self._records.append((bundle, lost_record(manifest, ended_ns, message, self._settings)))

    def take(self, waiting: int | None = TAKEN_ALONG) -> list[tuple[Path, RunRecord]]:
        """What is noted, which is forgotten then, and the oldest of those that wait."""
        taken, self._records = self._records, []
        return [*taken, *find_waiting(self._settings.runs, self._lake, waiting)] if self._settings.tracking is Switch.ON else []

    def deliver(self) -> None:
        """Enter them all with a worker of our own, however long it takes.

        Raises:
            BackendError: the store did not take them; each bundle's `delivery.json` says so too.
            LakeError: a `delivery.json` can't be written.
        """
        if records := self.take(waiting=None):
            with Worker(target(self._settings)) as worker:
                answer = worker.ask([record for _, record in records], PATIENT_SECONDS + PATIENT_SECONDS_A_RUN * len(records))
            self.entered += len(answer["delivered"])
            _note(self._settings, worker.target, records, answer, self._lake)


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
        started = time.monotonic()
        with Worker(target(self._settings)) as worker:
            try:
                yield
            finally:
                # A run that is still going on was torn down in a way that nobody foresaw; there is nothing true to say of it yet.
                if run.state is not State.RUNNING:
                    records = [(run.bundle, run_record(run, self._settings, self._lake_root)), *self._lost.take()]
                    answer = worker.ask([record for _, record in records], _allowance(run, worker.target, time.monotonic() - started))
                    run.experiment = _place_of(answer, self._settings)
                    _note(self._settings, worker.target, records, answer, self._lake_root)

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:  # noqa: ARG002 - the seam hands over both
        """Nothing: models are logged when the run has published them."""
        yield


def _allowance(run: Run, store: Target, took: float) -> float:
    """How many seconds a run that took so many may wait for the store. Whoever aborted it waits too, and may not wait long before killing it."""
    return min(store.seconds, REMOTE_SECONDS) if run.state is State.ABORTED else store.seconds + min(TELEMETRY_SHARE * took, MOST_SECONDS)


def _place_of(answer: Answer, settings: Settings) -> ExperimentRun | None:
    """Where the first of the records is on MLflow's pages; None when it was not delivered, or nobody knows of a page."""
    if not answer["delivered"] or not _has_page(settings):
        return None
    delivered = answer["delivered"][0]
    return ExperimentRun(experiment_id=delivered["experiment_id"], run_id=delivered["parent_run_id"], models=delivered["runs"])


def _has_page(settings: Settings) -> bool:
    """Whether `mlflow_url`, where links lead, shows what is in the store: it is the store's own address, or somebody named it."""
    store, page = urlsplit(settings.mlflow_tracking_uri or ""), urlsplit(settings.mlflow_url)
    if store.scheme.partition("+")[0] in ("", "file", "sqlite"):
        return False
    return machine(store) == machine(page) or settings.mlflow_url != f"http://127.0.0.1:{settings.mlflow_port}"


def machine(address: SplitResult) -> str:
    """Host and port, this machine's names being one."""
    return re.sub(r"^(localhost|\[::1\])(?=:|$)", "127.0.0.1", address.netloc.rpartition("@")[2])


def _note(settings: Settings, target: Target, records: list[tuple[Path, RunRecord]], answer: Answer, lake: Path) -> None:
    for place, (bundle, record) in enumerate(records):
        entry = _entry(target, answer, place)
        _write_delivery(bundle, entry)
        if entry["state"] == "pending":
            keep(bundle, record, lake, copy=parse_s3(settings.lake) is not None)
        else:
            forget(bundle)
    if answer["refusal"]:
        raise _error(target, answer["refusal"])


def _entry(target: Target, answer: Answer, place: int) -> dict[str, Any]:
    """What `delivery.json` says: `delivered`, `pending` (it may work later with nothing changed) or `failed`."""
    entry: dict[str, Any] = {"target": target.masked, "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    if place < len(answer["delivered"]):
        delivered = answer["delivered"][place]
        ids = {"experiment_id": delivered["experiment_id"], "parent_run_id": delivered["parent_run_id"], "runs": delivered["runs"]}
        return {"state": "delivered", **entry, **ids}
    refusal = answer["refusal"]
    was_tried = place == len(answer["delivered"])
    return {"state": "failed" if was_tried and refusal and not refusal["retry_is_safe"] else "pending", **entry, "detail": _detail(refusal) if refusal else ""}


def _detail(refusal: Refusal) -> str:
    return mask(": ".join(part for part in (refusal["error"], refusal["message"]) if part))


def _error(target: Target, refusal: Refusal) -> BackendError:
    missing = refusal["error"] == "ModuleNotFoundError"
    later = "the next run enters it, or pipeline replay does" if refusal["retry_is_safe"] else "the run is whole without it; docs/mlflow.md says what to do"
    hint = "pip install mlflow, or set PIPELINE_TRACKING=off" if missing else later
    return BackendError(f"MLflow at {target.masked} did not take the run: {_detail(refusal)}", hint=hint, target=target.masked)


def _write_delivery(bundle: Path, entry: dict[str, Any]) -> None:
    try:
        delivery_file.write(bundle, "experiments", entry)
    except OSError as error:
        raise LakeError(f"{bundle / delivery_file.FILE} can't be written: {error.strerror}", hint="free some space, or see who may write there") from error
