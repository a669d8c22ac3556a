"""The findings as Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TARGETS = {"transforms": 2.0, "run": 3.0}
TELEMETRY, MEMORY, FIRST_STEP, SAMPLE, IMPORT = 1.02, 1024, 1.0, 6.0, 0.15


def page(found: Mapping[str, Any]) -> str:
    """All of it, with the machine and the date."""
    machine = found["machine"]
    parts = [
        f"{machine['date']}, {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, {machine['system']}, "
        f"Python {machine['python']}, DuckDB {machine['duckdb']}, revision {machine['revision']}; "
        f"load average {machine['load_before']:.1f} before and {machine['load_after']:.1f} after; {found['rounds']} rounds.",
        *(_size(rows, part) for rows, part in found.get("size", {}).items()),
        *([_sample(found["sample"])] if "sample" in found else []),
        *([_bundles(found["bundles"])] if "bundles" in found else []),
        *([_package(found["import"])] if "import" in found else []),
        *([_experiments(found["experiments"])] if "experiments" in found else []),
    ]
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    ruler = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *rows))


def _size(rows: str, part: Mapping[str, Any]) -> str:
    lines = part["rows"]["input/nutrition"]
    body = [
        (
            name,
            f"{timing['wall']:.2f}",
            f"{timing['cpu']:.2f}",
            f"{part['ratios'][name]:.2f}",
            f"≤ {TARGETS[name]:.1f}" if name in TARGETS else "",
            f"{timing['peak']:,.0f}",
        )
        for name, timing in part["timings"].items()
    ]
    telemetry = f"Telemetry on against off: {part['telemetry']:.3f} of the wall time, {part['telemetry_cpu']:.3f} of the CPU time (target: {TELEMETRY})."
    head = ("what", "wall, s", "CPU, s", "× floor", "target", "peak, MiB")
    title = f"### {int(rows):,} diary lines\n\n{lines:,} lines of the diary, {sum(part['rows'].values()):,} records in all, {part['bytes'] / 1e6:,.0f} MB."
    return f"{title}\n\n{_table(head, body)}\n\n{telemetry} Peak memory: target {MEMORY:,} MiB."


def _sample(part: Mapping[str, Any]) -> str:
    parts = [(name, f"{seconds:.2f}") for name, seconds in part["parts"].items()]
    imports = [(name, f"{seconds:.2f}") for name, seconds in part["imports"].items()]
    first = part["parts"]["start, to the first step"]
    return (
        f"### The sample\n\nWhole command: {part['wall']:.2f} s (target: {SAMPLE:.0f}), CPU {part['cpu']:.2f} s with MLflow's process, "
        f"peak {part['peak']:,.0f} MiB; first step started after {first:.2f} s (target: {FIRST_STEP:.0f}).\n\n"
        f"{_table(('part', 's'), parts)}\n\n{_table(('import', 's'), imports)}"
    )


def _bundles(part: Mapping[str, Any]) -> str:
    frames = [(name, f"{frame['rows']:,}", f"{frame['seconds']:.2f}") for name, frame in part["frames"].items()]
    total = sum(frame["seconds"] for frame in part["frames"].values())
    return (
        f"### Many bundles\n\n`open_runs()` on {part['opened']:,} bundles: {total:.2f} s for all frames, {part['process']['peak']:,.0f} MiB. "
        f"`pipeline runs` on {part['listed']:,}: {part['list']['wall']:.2f} s.\n\n{_table(('frame', 'rows', 's'), frames)}"
    )


def _package(part: Mapping[str, float]) -> str:
    return f"### `import pipeline`\n\n{part['pipeline']:.3f} s, of which {part['python']:.3f} s are Python itself (target: {IMPORT})."


def _experiments(part: Mapping[str, Any]) -> str:
    title = "### MLflow's store in DynamoDB Local against SQLite"
    if "skipped" in part:
        return f"{title}\n\nNot measured: {part['skipped']}."
    rows = [(call, f"{1e3 * taken['sqlite']:,.1f}", f"{1e3 * taken['dynamodb']:,.1f}", f"{taken['ratio']:.2f}") for call, taken in part["calls"].items()]
    searched = f"Searches are over {part['runs']:,} runs of one experiment, 1,000 a page; the ratio is the median of the pairs'."
    return f"{title}\n\n{searched}\n\n{_table(('call', 'SQLite, ms', 'DynamoDB Local, ms', 'ratio'), rows)}"
