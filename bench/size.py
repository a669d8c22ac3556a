"""Large inputs: the floor, the transforms, and runs with and without telemetry, each in a fresh process, in turn."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.floor import MEMORY_LIMIT, THREADS
from bench.timing import PIPELINE, Timing, interleaved, median, ratio, say, timed

WEEKS = 52
_LINES_A_SUBJECT_WEEK = 8.305
_LIMITS = {"PIPELINE_THREADS": str(THREADS), "PIPELINE_MEMORY_LIMIT": MEMORY_LIMIT}
_NO_TRACKING = {"PIPELINE_TRACKING": "off"}
_PLAIN = {**_NO_TRACKING, "PIPELINE_TELEMETRY": "off"}


def measure(scratch: Path, cache: Path, rows: int, rounds: int, *, smoke: bool) -> dict[str, Any]:
    """All of it at one size. `rows` are lines of the food diary, about. `smoke` leaves out the warm-up and the complete run."""
    source = _input(scratch, cache, rows)
    commands = {
        "floor": lambda: _floor(scratch, source),
        "transforms": lambda: _floor(scratch, source, "silver"),
        "run without telemetry": lambda: _run(scratch, source, _PLAIN, "--until", "modeling"),
        "run": lambda: _run(scratch, source, _NO_TRACKING, "--until", "modeling"),
    }
    if not smoke:
        commands["complete run"] = lambda: _run(scratch, source, {})
    taken = interleaved(commands, rounds, warm_up=not smoke)
    manifest = _last_manifest(scratch)
    return {
        "rows": {file["source"]: file["rows"] for file in manifest["inputs"]},
        "bytes": sum(file["bytes"] for file in manifest["inputs"]),
        "timings": {name: {field: median(timings, field) for field in ("wall", "cpu", "peak")} for name, timings in taken.items()},
        "ratios": {name: ratio(timings, taken["floor"]) for name, timings in taken.items()},
        "telemetry": ratio(taken["run"], taken["run without telemetry"]),
        "telemetry_cpu": median(taken["run"], "cpu") / median(taken["run without telemetry"], "cpu"),
        "steps": {step["name"]: step["seconds"] for step in manifest["steps"]},
        "signals": manifest["telemetry"]["seconds"],
    }


def _input(scratch: Path, cache: Path, rows: int) -> Path:
    """Synthetic files of that size, made once."""
    subjects = max(round(rows / WEEKS / _LINES_A_SUBJECT_WEEK), 5)
    folder = cache / f"input-{subjects}x{WEEKS}"
    if not folder.exists():
        say(f"  making {folder}")
        half = folder.with_suffix(".half")
        shutil.rmtree(half, ignore_errors=True)
        timed([*PIPELINE, "synth", "--subjects", str(subjects), "--weeks", str(WEEKS), "--seed", "1", "--out", str(half)], scratch)
        half.rename(folder)
    return folder


def _floor(scratch: Path, source: Path, *more: str) -> Timing:
    shutil.rmtree(scratch / "floor", ignore_errors=True)
    return timed([sys.executable, "-m", "bench.floor", str(source), "floor", *more], scratch)


def _run(scratch: Path, source: Path, settings: Mapping[str, str], *more: str) -> Timing:
    """A run into a new lake, so that everything is written."""
    shutil.rmtree(scratch / "size-lake", ignore_errors=True)
    shutil.rmtree(scratch / "size-runs", ignore_errors=True)
    command = [*PIPELINE, "run", "--input", str(source), "--lake", "size-lake", *more]
    return timed(command, scratch, {**_LIMITS, "PIPELINE_RUNS": "size-runs", **settings})


def _last_manifest(scratch: Path) -> dict[str, Any]:
    path = next(path for path in (scratch / "size-runs").iterdir() if (path / "manifest.json").exists())
    manifest: dict[str, Any] = json.loads((path / "manifest.json").read_bytes())
    return manifest
