"""Whether runs from before are still in the servers.

The collector reads a bundle once and remembers how far it came. A server whose data was deleted without those offsets never gets the
older bundles back, and nothing else tells of it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from pipeline.errors import BackendError, RunNotFoundError
from pipeline.settings import Settings
from pipeline.stack import doctor_canary, doctor_probes
from pipeline.stack.doctor_look import Containers
from pipeline.stack.doctor_preflight import Finding, Health
from pipeline.stack.doctor_probes import NONSENSE, Probe, Wanted
from pipeline.stack.lifecycle import COLLECTOR_VOLUME
from pipeline.telemetry import bundle, identity

# As long as any server keeps data at least (`RETENTION`), less what a look takes; and long enough ago to have arrived.
OLDEST: Final = timedelta(hours=23)
NEWEST: Final = timedelta(minutes=1)
_PROBES: Final[Mapping[str, Probe]] = {"jaeger": doctor_probes.jaeger, "loki": doctor_probes.loki, "prometheus": doctor_probes.sample}


def check_older(settings: Settings, containers: Containers, there: Collection[str]) -> Finding:
    """Look for the oldest whole run of the last day in the servers that have the canary (`there`)."""
    wanted, damaged = _an_older_run(settings.runs)
    asked = [name for name in _PROBES if name in there]
    if wanted is None or not asked:
        detail = "no run of the last day to look for" if wanted is None else "no server to look in"
        return Finding(name="older", health=Health.WARN if damaged else Health.SKIPPED, detail=detail + _passed_over(damaged))
    missing = [name for name in asked if _is_missing(_PROBES[name], settings, wanted)]
    when = datetime.fromtimestamp(wanted.started_ns / 1e9, UTC)
    run = f"run {wanted.run_id} of {when:%H:%M} UTC"
    if missing:
        detail = f"{run} is not in {', '.join(missing)}, where the canary is: was data deleted, and the collector's offsets kept?"
        return Finding(name="older", health=Health.WARN, detail=detail + _passed_over(damaged), mend=_read_again(containers))
    detail = f"{run} is in {', '.join(asked)} too{_passed_over(damaged)}"
    return Finding(name="older", health=Health.WARN if damaged else Health.OK, detail=detail)


def _passed_over(damaged: Sequence[str]) -> str:
    """That bundles could not be read, with the name of the first."""
    more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
    return f"; the bundle of run {damaged[0]}{more} is damaged or can't be read" if damaged else ""


def _read_again(containers: Containers) -> str:
    """What gives the servers the bundles once more, the milder way first."""
    engine, volume = containers.compose.split(" ", 1)[0], containers.volumes.get(COLLECTOR_VOLUME, f"goldtrace_{COLLECTOR_VOLUME}")
    # The task `volumes` has ended, and holds the volume all the same.
    milder = f"{containers.compose} rm --stop --force collector volumes, then {engine} volume rm {volume}, then make obs.up: all bundles are read again"
    return f"{milder}. make obs.reset in their place deletes all that is stored, MLflow's experiments and models too, which can't be had back"


def _is_missing(probe: Probe, settings: Settings, wanted: Wanted) -> bool:
    try:
        return bool(probe(settings, wanted))
    except (BackendError, *NONSENSE):
        return False  # it had the canary a moment ago; that it fails now is no word about older runs


def _an_older_run(runs: Path) -> tuple[Wanted | None, list[str]]:
    """The oldest finished run of the last day that the collector sees and that is whole, and what was passed over as it can't be read."""
    damaged: list[str] = []
    for id_, path in _of_the_last_day(runs):
        try:
            found = bundle.read(path) if (path / bundle.METRICS).exists() else None
            if found is not None and found.is_finished and not doctor_canary.is_canary(found) and doctor_probes.is_whole(path):
                place = {"pipeline": found.pipeline, "environment": str(found.manifest["environment"])}
                return Wanted(run_id=id_, bundle=path, started_ns=identity.started_ns(id_), ended_ns=path.stat().st_mtime_ns, **place), damaged
        except (RunNotFoundError, OSError, *NONSENSE):
            damaged.append(path.name)
    return None, damaged


def _of_the_last_day(runs: Path) -> Iterator[tuple[uuid.UUID, Path]]:
    """The bundles that the collector reads by itself, oldest first."""
    now = time.time_ns()
    for path in reversed(bundle.folders(runs)):
        id_ = identity.parse_id(path.name)
        age = timedelta(microseconds=(now - identity.started_ns(id_)) / 1000) if id_ else OLDEST
        if path.parent == runs and NEWEST < age < OLDEST and id_ is not None:
            yield id_, path
