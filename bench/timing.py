"""Times whole processes: wall, CPU and peak memory by the operating system's account, interleaved so that drift cancels."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PIPELINE: Final = (sys.executable, "-c", "from pipeline.cli import main; main()")
# What this shell is set to must not decide a measurement; byte code has to be kept, as an installed package has it.
_NOT_OURS: Final = ("PIPELINE_", "OTEL_", "OPENLINEAGE_", "MLFLOW_", "TRACEPARENT", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "COVERAGE_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One finished process. Seconds of wall and CPU time (CPU with its children's), peak resident memory in MiB, when it
    started and ended in seconds since the epoch, and what it wrote."""

    wall: float
    cpu: float
    peak: float
    started: float
    ended: float
    output: str
    errors: str


Command = Callable[[], Timing]


def timed(command: Sequence[str], cwd: Path, settings: Mapping[str, str] | None = None) -> Timing:
    """Run a command to its end.

    The peak is that of the largest among the process and the children that it waited for (`ru_maxrss`).

    Raises:
        RuntimeError: it failed; the message has the end of what it said.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}
    # Nothing of a benchmark belongs into the lineage of whoever runs it.
    environment = {**kept, "PYTHONPATH": str(ROOT), "OPENLINEAGE_DISABLED": "true", **(settings or {})}
    with (cwd / "stdout.txt").open("w+") as output, (cwd / "stderr.txt").open("w+") as errors:
        started, before = time.time(), time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall, ended = time.perf_counter() - before, time.time()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        said = output.read(), errors.read()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said[1][-2000:]}")
    mebibyte = 1024 if sys.platform == "linux" else 1024 * 1024
    cpu = usage.ru_utime + usage.ru_stime
    return Timing(wall=wall, cpu=cpu, peak=usage.ru_maxrss / mebibyte, started=started, ended=ended, output=said[0], errors=said[1])


def interleaved(commands: Mapping[str, Command], rounds: int, *, warm_up: bool) -> dict[str, list[Timing]]:
    """Run all commands in turn, `rounds` times. A warm-up, which fills the disk's cache and the byte code, is not counted."""
    taken: dict[str, list[Timing]] = {name: [] for name in commands}
    for turn in range(0 if warm_up else 1, rounds + 1):
        for name, command in commands.items():
            timing = command()
            say(f"  {turn or 'warm-up'}: {name} {timing.wall:.2f} s, CPU {timing.cpu:.2f} s, {timing.peak:.0f} MiB")
            if turn:
                taken[name].append(timing)
    return taken


def ratio(above: Sequence[Timing], below: Sequence[Timing]) -> float:
    """The median of the ratios of wall times, pair by pair."""
    return statistics.median(a.wall / b.wall for a, b in zip(above, below, strict=True))


def median(timings: Sequence[Timing], field: str = "wall") -> float:
    """The median of one figure."""
    return float(statistics.median(getattr(timing, field) for timing in timings))


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)
