"""`make bench`: measures speed and memory, prints tables for docs/performance.md, and can write the figures as JSON."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import bundles, experiments, sample, size
from bench.pages import page
from bench.timing import ROOT, interleaved, median, say, timed


class Part(StrEnum):
    """What can be measured alone."""

    SIZE = "size"
    SAMPLE = "sample"
    BUNDLES = "bundles"
    IMPORT = "import"
    EXPERIMENTS = "experiments"


_CACHE = Path(tempfile.gettempdir()) / "goldtrace-bench"
_SMOKE_ROWS = 2_000
_BUNDLES = (1_000, 2_000)
_SMOKE_BUNDLES = (3, 5)


def main(
    rows: Annotated[str, typer.Option(help="Lines of the food diary, separated by commas.")] = "1000000,10000000",
    rounds: Annotated[int, typer.Option(min=1, help="How often each command is timed; medians are shown.")] = 5,
    only: Annotated[list[Part] | None, typer.Option(help="Measure this part only; may be given more than once.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this file, as JSON.")] = None,
    cache: Annotated[Path, typer.Option(help="Where synthetic input is kept for the next time.")] = _CACHE,
    dynamodb: Annotated[str | None, typer.Option(help="The address of a DynamoDB Local that runs already (make mlflow.up starts one).")] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Tiny and once, to see that the measuring works.")] = False,
) -> None:
    """Measure Goldtrace on this machine. Progress goes to stderr, Markdown to stdout."""
    cache = cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    sizes = [_SMOKE_ROWS] if smoke else [int(text) for text in rows.split(",")]
    rounds, counts = (1, _SMOKE_BUNDLES) if smoke else (rounds, _BUNDLES)
    parts = only or list(Part)
    found: dict[str, Any] = {"machine": _machine(), "rounds": rounds}
    scratch = Path(tempfile.mkdtemp(prefix="goldtrace-bench-", dir=cache))
    try:
        if Part.IMPORT in parts:
            found["import"] = _import(scratch, 1 if smoke else 4 * rounds)
        if Part.SAMPLE in parts:
            say("the sample")
            found["sample"] = sample.measure(scratch, rounds, warm_up=not smoke)
        if Part.BUNDLES in parts:
            say("many bundles")
            found["bundles"] = bundles.measure(scratch, counts)
        if Part.EXPERIMENTS in parts:
            say("MLflow's stores")
            found["experiments"] = experiments.measure(scratch, endpoint=dynamodb, smoke=smoke)
        for count in sizes if Part.SIZE in parts else []:
            say(f"{count:,} diary lines")
            found.setdefault("size", {})[str(count)] = size.measure(scratch, cache, count, rounds, smoke=smoke)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    found["machine"]["load_after"] = os.getloadavg()[0]
    if out:
        out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(page(found))


def _import(scratch: Path, rounds: int) -> dict[str, float]:
    commands = {name: lambda code=code: timed([sys.executable, "-c", code], scratch) for name, code in (("pipeline", "import pipeline"), ("python", "pass"))}
    return {name: median(timings) for name, timings in interleaved(commands, rounds, warm_up=True).items()}


def _machine() -> dict[str, Any]:
    import duckdb

    revision = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "revision": revision.stdout.strip() or "unknown",
        "load_before": os.getloadavg()[0],
    }


def _processor() -> str:
    """The processor's name, as far as the system tells it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    typer.run(main)
