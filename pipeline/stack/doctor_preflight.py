"""What is judged before the canary flies: versions, clocks, disk, volumes, and whether collector and runs folder belong together.

A finding that is `broken` explains a broken hop; a `warn` is worth knowing and breaks nothing; `skipped` could not be looked at.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from pipeline.engine.lake_workplace import base
from pipeline.lake_address import parse_s3
from pipeline.settings import Settings
from pipeline.stack.doctor_look import Box, Containers, Look

# The seconds that a server's clock may be off. An HTTP date has whole ones, cut off: half a second below is none.
MAX_SKEW: Final = 2.5
MIN_FREE: Final = 1024**3
NO_FREE: Final = 100 * 1024**2
VOLUMES: Final = ("alertmanager-data", "collector-data", "grafana-data", "jaeger-data", "loki-data", "postgres-data", "prometheus-data")
_RUNS_IN_CONTAINER: Final = "/runs"


class Health(StrEnum):
    """What one thing that was looked at came to. `blocked`: it may be well, but what it waits for is not."""

    OK = "ok"
    WARN = "warn"
    BROKEN = "broken"
    BLOCKED = "blocked"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing of the preflight."""

    name: str
    health: Health
    detail: str
    mend: str = ""


def findings(settings: Settings, containers: Containers, looks: Mapping[str, Look], pinned: Mapping[str, str]) -> list[Finding]:
    """All findings, in the order in which they are shown."""
    engine = Finding(name="engine", health=Health.OK, detail=containers.engine)
    if not containers.engine:
        engine = Finding(name="engine", health=Health.SKIPPED, detail=f"{containers.problem}; containers and volumes are not looked at")
    stored = [Path(settings.lake) if parse_s3(settings.lake) is None else base(settings.staging), settings.runs]
    found = [engine, check_versions(looks, containers.boxes, pinned), check_clocks(looks), check_disk(stored), check_runs(settings.runs, containers.boxes)]
    return found + ([check_volumes(containers.volumes)] if containers.boxes else [])


def check_versions(looks: Mapping[str, Look], boxes: Mapping[str, Box], pinned: Mapping[str, str]) -> Finding:
    """Whether what runs is what `compose/.env` pins, by the containers' images and by the servers' own words."""
    said = {name: look.version for name, look in looks.items() if look.version and name in pinned}
    if not pinned or not (said or boxes):
        return Finding(name="versions", health=Health.SKIPPED, detail="there is nothing to compare" if pinned else "there is no compose/.env here")
    wrong = [f"{name} runs {box.image}, pinned is {pinned[name]}" for name, box in boxes.items() if name in pinned and box.image != pinned[name]]
    wrong += [f"{name} says that it is {version}, pinned is {pinned[name]}" for name, version in said.items() if not _is_version(version, pinned[name])]
    if wrong:
        return Finding(name="versions", health=Health.WARN, detail="; ".join(wrong), mend="make obs.up: it starts what is pinned")
    return Finding(name="versions", health=Health.OK, detail=f"as pinned in compose/.env: {', '.join(f'{name} {version}' for name, version in said.items())}")


def _is_version(said: str, image: str) -> bool:
    return said.removeprefix("v") == image.rpartition(":")[2].removeprefix("v")


def check_clocks(looks: Mapping[str, Look]) -> Finding:
    """Whether the servers' clocks agree with this one: what is written ahead of a server's time is refused or not shown."""
    skews = {name: look.skew + 0.5 for name, look in looks.items() if look.skew is not None}
    if not skews:
        return Finding(name="clock", health=Health.SKIPPED, detail="no server told its time")
    off = [f"{name} is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}" for name, skew in skews.items() if abs(skew) > MAX_SKEW]
    if off:
        mend = "set the clock; after a sleep of the machine, restart the container engine"
        return Finding(name="clock", health=Health.WARN, detail="; ".join(off), mend=mend)
    return Finding(name="clock", health=Health.OK, detail=f"{len(skews)} servers agree with this machine within {MAX_SKEW:.0f} s")


def check_disk(places: Iterable[Path]) -> Finding:
    """Free space where lake and bundles go."""
    there = [next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists()) for place in places]
    free, place = min((shutil.disk_usage(folder).free, folder) for folder in there)
    detail = f"{free / 1024**3:.1f} GiB free at {place}"
    if free >= MIN_FREE:
        return Finding(name="disk", health=Health.OK, detail=detail)
    return Finding(name="disk", health=Health.BROKEN if free < NO_FREE else Health.WARN, detail=detail, mend=f"free some space at {place}")


def check_runs(runs: Path, boxes: Mapping[str, Box]) -> Finding:
    """Whether collector and reports see the folder that runs are written to."""
    ours = runs.resolve()
    mounts = {name: boxes[name].mounts[_RUNS_IN_CONTAINER] for name in ("collector", "reports") if name in boxes and _RUNS_IN_CONTAINER in boxes[name].mounts}
    if not mounts:
        return Finding(name="runs", health=Health.SKIPPED, detail=f"runs are written to {ours}; no container tells what it reads")
    # Docker Desktop names the same folder with its own in front.
    other = [f"{name} reads {path}" for name, path in mounts.items() if Path(path).resolve() != ours and not path.endswith(str(ours))]
    if other:
        mend = f"PIPELINE_RUNS={ours} make obs.up"
        return Finding(name="runs", health=Health.BROKEN, detail=f"{' and '.join(other)}, but runs are written to {ours}", mend=mend)
    return Finding(name="runs", health=Health.OK, detail=f"{' and '.join(mounts)} read {ours}")


def check_volumes(there: Collection[str]) -> Finding:
    """Whether each of the volumes that keep data is there."""
    absent = [name for name in VOLUMES if name not in there]
    if absent:
        return Finding(name="volumes", health=Health.WARN, detail=f"there is no {', '.join(absent)}", mend="make obs.up")
    return Finding(name="volumes", health=Health.OK, detail=f"all {len(VOLUMES)} are there")
