"""Whether runs from before are still in the servers.

The collector reads a bundle once and remembers how far it came. A server whose data was deleted without those offsets never gets the
older bundles back, and nothing else tells of it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from pipeline.errors import BackendError
from pipeline.settings import Settings
from pipeline.stack import doctor_canary, doctor_probes
from pipeline.stack.doctor_preflight import Finding, Health
from pipeline.stack.doctor_probes import Probe, Wanted
from pipeline.telemetry import bundle, identity

# As long as any server keeps data at least (`RETENTION`), less what a look takes; and long enough ago to have arrived.
OLDEST: Final = timedelta(hours=23)
NEWEST: Final = timedelta(minutes=1)
_PROBES: Final[Mapping[str, Probe]] = {"jaeger": doctor_probes.jaeger, "loki": doctor_probes.loki, "prometheus": doctor_probes.sample}


def check_older(settings: Settings, there: Collection[str]) -> Finding:
    """Look for the oldest run of the last day in the servers that have the canary (`there`)."""
    wanted = _an_older_run(settings.runs)
    asked = [name for name in _PROBES if name in there]
    if wanted is None or not asked:
        return Finding(name="older", health=Health.SKIPPED, detail="no run of the last day to look for" if wanted is None else "no server to look in")
    missing = [name for name in asked if _is_missing(_PROBES[name], settings, wanted)]
    when = datetime.fromtimestamp(wanted.started_ns / 1e9, UTC)
    run = f"run {wanted.run_id} of {when:%H:%M} UTC"
    if missing:
        detail = f"{run} is not in {', '.join(missing)}, where the canary is: was data deleted, and the collector's offsets kept?"
        return Finding(name="older", health=Health.WARN, detail=detail, mend="make obs.reset, then make obs.up: all bundles are read again")
    return Finding(name="older", health=Health.OK, detail=f"{run} is in {', '.join(asked)} too")


def _is_missing(probe: Probe, settings: Settings, wanted: Wanted) -> bool:
    try:
        return bool(probe(settings, wanted))
    except BackendError:
        return False  # it had the canary a moment ago; that it fails now is no word about older runs


def _an_older_run(runs: Path) -> Wanted | None:
    """The oldest finished run of the last day that the collector sees and that is whole."""
    now = time.time_ns()
    for path in reversed(bundle.folders(runs)):
        id_ = identity.parse_id(path.name)
        age = timedelta(microseconds=(now - identity.started_ns(id_)) / 1000) if id_ else OLDEST
        if path.parent == runs and NEWEST < age < OLDEST and id_ is not None and (path / bundle.METRICS).exists():
            found = bundle.read(path)
            if found.is_finished and not doctor_canary.is_canary(found):
                place = {"pipeline": found.pipeline, "environment": str(found.manifest["environment"])}
                return Wanted(run_id=id_, bundle=path, started_ns=identity.started_ns(id_), ended_ns=path.stat().st_mtime_ns, **place)
    return None
