"""What could keep the stack from starting, found before anything is started and told all at once, each with what mends it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from pipeline.errors import StackError
from pipeline.settings import Settings
from pipeline.stack import ports
from pipeline.stack.engine import NO_STACK_NEEDED, Container, Engine, Host, Spec
from pipeline.stack.services import port_variable, started_by, title

# What the servers write before anything is deleted; images that are not here yet come on top.
_FREE_BYTES = 2 * 1024**3
_IMAGES_BYTES = 3 * 1024**3
_MIB = 1024**2
_DAY_HOURS = 24
# How far back dashboards and alerts look. Prometheus takes no older samples either: prometheus.yml's out_of_order_time_window.
WINDOW_DAYS = 30
# What the servers read is mounted from these; they run as users of their own.
MOUNTED = ("compose", "grafana", "prometheus", "loki", "jaeger", "marquez")
SECRETS = "compose/alertmanager/secrets"
# Read by compose and by nobody else.
DEFAULTS = "compose/.env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that keeps the stack from starting, or (not fatal) that one should know."""

    problem: str
    mend: str
    is_fatal: bool = True


def check(engine: Engine, settings: Settings, specs: Sequence[Spec], containers: Sequence[Container], *, fetches: bool) -> list[Finding]:
    """All that is found, worst first; `containers` are the project's own, whose ports are theirs to keep. `fetches`: images will be."""
    held = {port.port for container in containers if container.is_running for port in container.ports}
    host = engine.host()
    found = [
        *check_ports(specs, held, engine.port_holders()),
        *check_settings(specs, settings),
        *check_retention(engine.root, settings),
        *check_memory(specs, host),
        *check_disk(host, _FREE_BYTES + (_IMAGES_BYTES if fetches else 0)),
        *check_runs(engine.root / settings.runs),
        *check_readable(engine.root),
    ]
    return sorted(found, key=lambda finding: not finding.is_fatal)


def refuse(found: Sequence[Finding]) -> None:
    """Raise one error that lists what is fatal.

    Raises:
        StackError: something is.
    """
    fatal = [finding for finding in found if finding.is_fatal]
    if fatal:
        count = "1 problem" if len(fatal) == 1 else f"{len(fatal)} problems"
        lines = [f"  {number}. {finding.problem}\n     {finding.mend}" for number, finding in enumerate(fatal, 1)]
        raise StackError("\n".join([f"the stack can't start: {count}", *lines]), hint=f"mend what is listed and run it again; {NO_STACK_NEEDED}")


def check_ports(specs: Sequence[Spec], own: set[int], holders: dict[int, str]) -> Iterator[Finding]:
    """Ports that somebody else has, or that two of our services want."""
    wanted: dict[int, str] = {}
    numbers = {port.port for spec in specs for port in spec.ports}
    for spec in specs:
        for port in spec.ports:
            variable = port_variable(spec.name, port.target)
            other = wanted.setdefault(port.port, spec.name)
            if other != spec.name:
                problem = f"port {port.port} is wanted by {title(other)} and by {title(spec.name)}"
                yield Finding(problem=problem, mend=_move(spec.name, variable, port.port, numbers, stop=""))
            elif port.port not in own and ports.is_taken(port.port):
                who = f"the container {holders[port.port]}" if port.port in holders else ports.process_on(port.port)
                holder = who or f"a process of another user (sudo lsof -nP -iTCP:{port.port} -sTCP:LISTEN names it)"
                yield Finding(
                    problem=f"port {port.port}, wanted by {title(spec.name)}, is held by {holder}", mend=_move(spec.name, variable, port.port, numbers)
                )


def check_settings(specs: Sequence[Spec], settings: Settings) -> Iterator[Finding]:
    """Ports that compose knows of and the settings don't, so that links would lead elsewhere."""
    for spec in specs:
        for port in spec.ports:
            variable = port_variable(spec.name, port.target)
            ours = getattr(settings, variable.lower()) if variable else port.port
            if ours != port.port:
                mend = f"move that line from compose/.env to .env ({variable}={port.port})"
                yield Finding(problem=f"links to {title(spec.name)} lead to port {ours}, and it is on {port.port}", mend=mend, is_fatal=False)


def check_retention(root: Path, settings: Settings) -> Iterator[Finding]:
    """A time that not every store can read (Jaeger knows no days, and Loki keeps at least one), or one that alerts look further back than."""
    wanted = settings.retention or dotenv_values(root / DEFAULTS).get("RETENTION")
    hours = re.fullmatch(r"(\d+)h", wanted) if wanted else None
    if wanted and (hours is None or int(hours[1]) < _DAY_HOURS):
        yield Finding(problem=f"RETENTION is {wanted!r}", mend="write it in hours, at least 24h: RETENTION=720h")
    elif hours and int(hours[1]) < WINDOW_DAYS * _DAY_HOURS:
        problem = f"RETENTION is {wanted}, and dashboards and alerts look {WINDOW_DAYS} days back: an alert about a pipeline ends when its last run is deleted"
        yield Finding(problem=problem, mend=f"keep {WINDOW_DAYS * _DAY_HOURS}h, or don't rely on alerts about what has not run for longer", is_fatal=False)


def check_memory(specs: Sequence[Spec], host: Host) -> Iterator[Finding]:
    """The engine's memory against the services' limits, which they reach only when much is asked of them."""
    limits = sum(spec.memory_bytes for spec in specs)
    if host.memory_bytes and host.memory_bytes < limits:
        yield Finding(
            problem=f"the engine has {host.memory_bytes // _MIB} MiB of memory, the services may take {limits // _MIB} MiB",
            mend="give it more (Docker Desktop: Settings, Resources; Podman: podman machine set --memory)",
            is_fatal=host.memory_bytes < limits / 2,
        )


def check_disk(host: Host, needed: int) -> Iterator[Finding]:
    """Space where the engine keeps its data, as far as that is on this machine."""
    try:
        free = shutil.disk_usage(host.data).free
    except OSError:
        return  # inside a virtual machine, or not ours to look at
    if free < needed:
        yield Finding(
            problem=f"{free // _MIB} MiB are free in {host.data}, and {needed // _MIB} MiB are needed",
            mend="free space there; `docker system df` says what takes it",
        )


def check_runs(runs: Path) -> Iterator[Finding]:
    """The folder of bundles: made here, as the engine would make one that only root may write to."""
    try:
        runs.mkdir(mode=0o755, parents=True, exist_ok=True)
        mode = runs.stat().st_mode
    except OSError as error:
        yield Finding(problem=f"the folder of runs {runs} can't be made: {error.strerror}", mend="name another with PIPELINE_RUNS")
        return
    if mode & 0o005 != 0o005:
        yield Finding(problem=f"the collector, which is another user, may not read {runs}", mend=f"chmod o+rx {runs}")


def check_readable(root: Path) -> Iterator[Finding]:
    """The configuration that is mounted: a checkout made with umask 077 can't be read by the servers' users."""
    closed = next((path for name in MOUNTED for path in _tree(root / name) if path.stat().st_mode & 0o004 == 0), None)
    if closed is not None:
        folders = " ".join(name for name in MOUNTED if (root / name).is_dir())
        yield Finding(problem=f"the servers, which are other users, may not read {closed.relative_to(root)}", mend=f"chmod -R o+rX {folders}")


def _tree(folder: Path) -> Iterator[Path]:
    return (path for path in sorted([folder, *folder.rglob("*")]) if path.exists() and not any(name in path.as_posix() for name in (SECRETS, DEFAULTS)))


def _move(service: str, variable: str | None, port: int, wanted: set[int], stop: str = "stop it, or ") -> str:
    """What mends a port that can't be had; the free one that it names is noted down in `wanted`, so that nobody else is offered it."""
    free = ports.free_near(port, wanted)
    wanted.update({free} if free is not None else ())
    return "stop it" if variable is None or free is None else f"{stop}move ours: {variable}={free} {started_by(service)} (or that line in .env)"
