"""Many bundles: one run's copied under new ids, and how long it takes to open them as DataFrames and to list them.

python -m bench.bundles RUNS            (in a process of its own: prints seconds and rows of each frame as JSON)
"""

import json
import shutil
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from bench.timing import PIPELINE, Timing, say, timed
from pipeline.telemetry import bundle, identity

FRAMES = ("runs", "steps", "datasets", "estimates", "spans", "logs", "checks", "lineage")
# The runner keeps this many in sight and moves older ones to the archive.
_KEPT = 300


def measure(scratch: Path, counts: tuple[int, int]) -> dict[str, Any]:
    """Open `counts[0]` bundles, list `counts[1]`."""
    runs = scratch / "sample-runs"  # as bench.sample leaves it
    if not runs.exists():
        timed([*PIPELINE, "run", "--lake", "sample-lake"], scratch, {"PIPELINE_RUNS": runs.name, "PIPELINE_TRACKING": "off"})
    original = next(path for path in runs.iterdir() if (path / bundle.MANIFEST).exists())
    opened, listed = scratch / "opened", scratch / "listed"
    for folder, count in ((opened, counts[0]), (listed, counts[1])):
        say(f"  copying {count} bundles")
        copy_many(original, folder, count)
    timing = timed([sys.executable, "-m", "bench.bundles", str(opened)], scratch)
    timed([*PIPELINE, "runs", "--runs", str(listed)], scratch)
    listing = timed([*PIPELINE, "runs", "--runs", str(listed)], scratch)
    return {"opened": counts[0], "frames": json.loads(timing.output), "process": _figures(timing), "listed": counts[1], "list": _figures(listing)}


def copy_many(original: Path, runs: Path, count: int) -> None:
    """Make `count` bundles below `runs` that differ from `original` in the run's id, wherever a file names it."""
    old = uuid.UUID(original.name)
    texts = {path.name: path.read_bytes() for path in original.iterdir() if path.is_file() and path.name != "report.html"}
    for place in range(count):
        new = identity.new_id()
        folder = (runs if place >= count - _KEPT else runs / bundle.ARCHIVE) / str(new)
        folder.mkdir(parents=True)
        for name, text in texts.items():
            (folder / name).write_bytes(_renamed(text, old, new))
        shutil.copystat(original, folder)


def _renamed(text: bytes, old: uuid.UUID, new: uuid.UUID) -> bytes:
    """The run's id in its three forms: with hyphens, as a trace id, and its low half as the root span's id."""
    for before, after in ((str(old), str(new)), (old.hex, new.hex), (old.hex[16:], new.hex[16:])):
        text = text.replace(before.encode(), after.encode())
    return text


def _figures(timing: Timing) -> dict[str, float]:
    return {"wall": timing.wall, "cpu": timing.cpu, "peak": timing.peak}


def main() -> None:
    """Open each frame once, in one session as a notebook does."""
    from pipeline import open_runs

    runs, found = open_runs(Path(sys.argv[1])), {}
    for name in FRAMES:
        before = time.perf_counter()
        rows = len(getattr(runs, name))
        found[name] = {"seconds": time.perf_counter() - before, "rows": rows}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
