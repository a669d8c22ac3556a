"""Timing whole processes: wall, CPU and peak memory by the operating system's account, interleaved so that drift cancels."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One finished process: seconds of wall and CPU time, peak resident memory in MiB, and what it wrote to stdout."""

    wall: float
    cpu: float
    peak_mib: float
    started: float
    output: str


def timed(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Timing:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; the message has the end of its stderr.
    """
    started, before = time.time(), time.perf_counter()
    with subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        output, errors = child.stdout.read(), child.stderr.read()  # type: ignore[union-attr]
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}: {errors[-2000:]}")
    scale = 1024 if sys.platform == "linux" else 1024 * 1024
    return Timing(wall=time.perf_counter() - before, cpu=usage.ru_utime + usage.ru_stime, peak_mib=usage.ru_maxrss / scale, started=started, output=output)


def interleaved(commands: Mapping[str, Callable[[], Timing]], rounds: int) -> dict[str, list[Timing]]:
    """Run all commands in turn, `rounds` times, after one warm-up that is not counted."""
    taken: dict[str, list[Timing]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            timing = command()
            print(f"  {'warm-up' if turn == 0 else turn}: {name} {timing.wall:.2f} s, {timing.peak_mib:.0f} MiB", file=sys.stderr)
            if turn:
                taken[name].append(timing)
    return taken


def ratio(taken: Mapping[str, list[Timing]], above: str, below: str) -> float:
    """The median of the ratios pair by pair."""
    return statistics.median(a.wall / b.wall for a, b in zip(taken[above], taken[below], strict=True))


def median(timings: list[Timing], field: str = "wall") -> float:
    """The median of one figure."""
    return statistics.median(getattr(timing, field) for timing in timings)
