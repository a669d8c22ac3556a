"""Where the wall time of a run on the shipped sample goes, and how soon its first step starts."""

import json
import re
import statistics
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.timing import PIPELINE, Timing, interleaved, median, timed

_IMPORT = re.compile(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", re.MULTILINE)
_SHOWN = 12


def measure(scratch: Path, rounds: int, *, warm_up: bool) -> dict[str, Any]:
    """The parts of the run, each the median over the rounds; imports by library come from a run of their own."""
    taken = interleaved({"run on the sample": lambda: _run(scratch)}, rounds, warm_up=warm_up)["run on the sample"]
    runs = sorted((path for path in (scratch / "sample-runs").iterdir() if (path / "manifest.json").exists()), key=lambda path: path.name)[-rounds:]
    parts = [_parts(timing, run) for timing, run in zip(taken, runs, strict=True)]
    return {
        "wall": median(taken),
        "cpu": median(taken, "cpu"),
        "peak": median(taken, "peak"),
        "parts": {name: statistics.median(part[name] for part in parts) for name in parts[0]},
        "imports": _imports(scratch),
    }


def _run(scratch: Path, *flags: str, tracking: str = "on") -> Timing:
    command = (PIPELINE[0], *flags, *PIPELINE[1:], "run", "--lake", "sample-lake")
    return timed(command, scratch, {"PIPELINE_RUNS": "sample-runs", "PIPELINE_TRACKING": tracking})


def _parts(timing: Timing, bundle: Path) -> dict[str, float]:
    """Seconds from the command's start to its end, by what the manifest and the files' times say."""
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    steps = manifest["steps"]
    first, last = (_epoch(steps[place]["started_at"]) for place in (0, -1))
    ended, closed, reported = last + steps[-1]["seconds"], (bundle / "manifest.json").stat().st_mtime, (bundle / "report.html").stat().st_mtime
    phases = [phase for step in steps for phase in step["phases"]]
    by_phase: Counter[str] = Counter()
    for phase in phases:
        by_phase[f"in steps: {phase['name']}"] += phase["seconds"]
    return {
        "start, to the first step": first - timing.started,
        **{f"step {step['name']}": step["seconds"] for step in steps},
        "between the steps": ended - first - sum(step["seconds"] for step in steps),
        "end: publishing, telemetry, MLflow": closed - ended,
        "report": reported - closed,
        "leaving": timing.ended - reported,
        **dict(sorted(by_phase.items())),
        **{f"in telemetry: {signal}": seconds for signal, seconds in manifest["telemetry"]["seconds"].items()},
    }


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _imports(scratch: Path) -> dict[str, float]:
    """Seconds by library, the largest first, in a run without MLflow's process; Python's measuring (`-X importtime`) makes them somewhat long."""
    found: Counter[str] = Counter()
    for micros, module in _IMPORT.findall(_run(scratch, "-X", "importtime", tracking="off").errors):
        found[module.split(".")[0]] += int(micros)
    shown = {name: micros / 1e6 for name, micros in found.most_common(_SHOWN)}
    return {**shown, "all others": (found.total() / 1e6) - sum(shown.values()), "total": found.total() / 1e6}
