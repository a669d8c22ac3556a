"""The stack's life: up, down, reset, status, logs. What happens is told through `say`, a line at a time."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from subprocess import Popen

from pipeline.errors import StackError, UsageError
from pipeline.settings import Settings
from pipeline.stack import build, preflight
from pipeline.stack.engine import SOURCES_LABEL, Container, Engine, Spec, connect, failure
from pipeline.stack.services import BY_NAME, COMPOSE_FILES, PARTS, SERVICES, started_by, title

Say = Callable[[str], None]
COMPOSE = Path("compose")
# What is long gone, or begins anew again and again, won't come up by waiting; one look may fall between two starts.
_STRIKES = 4
_DOWN_STATES = frozenset({"exited", "dead", "restarting"})
_POLL_SECONDS = 0.5
_LOG_LINES = 12
# MLflow's server is 300 MB to fetch.
_BUILD_SECONDS = 1800
# What our own images are made from, by the variable that their label takes: they are built again when that changed, and only then.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "REPORTS_SOURCES": ("compose/reports",),
    "MLFLOW_SOURCES": (".dockerignore", "compose/mlflow", "compose/reports", "pipeline", "pyproject.toml", "requirements/build.in", "requirements/mlflow.txt"),
}
# What a server reads only when it starts. Compose knows when a service's own lines changed and not when a mounted file did: as a
# label, the sum over these files tells it. Grafana finds new dashboards by itself.
_CONFIGURATION: Mapping[str, tuple[str, ...]] = {
    "alertmanager": ("compose/alertmanager",),
    "collector": ("compose/collector",),
    "grafana": ("grafana/grafana.ini", "grafana/provisioning"),
    "jaeger": ("jaeger",),
    "loki": ("loki",),
    "marquez": ("marquez",),
    "prometheus": ("prometheus",),
}
# What the collector remembers of what it has read.
COLLECTOR_VOLUME = "collector-data"
# Dashboards and rules with other addresses than the default ones; git ignores it.
_REBUILT = ".stack"
# A receiver's secret may be readable by Alertmanager's user alone.
_UNREAD = frozenset({"__pycache__", "secrets"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What `up` came to: whether anything was changed, where things are, and what one should know."""

    changed: bool
    seconds: float
    services: tuple[str, ...]
    addresses: tuple[tuple[str, str, str], ...]
    """title, URL, what for."""
    marquez: str | None
    """Marquez's API; None when it is not among the services."""
    marquez_is_empty: bool
    collector: str | None
    """The collector's OTLP over HTTP; None when it is not among the services."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One service now; `answers` is None for one that is not asked over HTTP."""

    service: str
    state: str
    health: str
    answers: bool | None
    ports: tuple[int, ...]
    memory_bytes: int | None
    memory_limit_bytes: int | None


def find_checkout(folder: Path) -> Path:
    """The project's folder, which has to be the working folder, as `runs`, `lake` and `.env` are looked for there too.

    Raises:
        StackError: it is not; says where it is when it is above.
    """
    if (folder / COMPOSE / COMPOSE_FILES[0]).is_file():
        return folder
    above = next((parent for parent in folder.parents if (parent / COMPOSE / COMPOSE_FILES[0]).is_file()), None)
    hint = f"cd {above}" if above else "the stack's files come with the project's checkout, not with the package: get it with git and run this in its folder"
    raise StackError(f"{folder} has no {COMPOSE / COMPOSE_FILES[0]}", hint=hint)


def open_engine(settings: Settings, folder: Path | None = None) -> Engine:
    """The engine that answers, for the checkout in the working folder.

    Raises:
        StackError: there is no checkout or no engine.
    """
    root = find_checkout(folder or Path.cwd())
    files = tuple(str(COMPOSE / name) for name in COMPOSE_FILES if (root / COMPOSE / name).is_file())
    rebuilt = _rebuilt(root, settings)
    variables = {
        "PIPELINE_RUNS": str((root / settings.runs).resolve()),
        **{variable: sources_of(*(root / name for name in names)) for variable, names in SOURCES.items()},
        **_config_sums(root, rebuilt.get("RULES")),
        **rebuilt,
    }
    return connect(root, files, variables)


def _config_sums(root: Path, rules: str | None) -> dict[str, str]:
    """The sum over each server's configuration, by the variable that its label takes; `rules` are those mounted in place of the repository's."""
    moved = {"prometheus": (Path(rules),)} if rules else {}
    return {f"CONFIG_SUM_{service.upper()}": sources_of(*(root / name for name in names), *moved.get(service, ())) for service, names in _CONFIGURATION.items()}


def _rebuilt(root: Path, settings: Settings) -> dict[str, str]:
    """Where dashboards and rules are mounted from when these settings' addresses are not those of the files in the repository."""
    if not build.stale(root, settings):
        return {}
    build.write_beside(root, root / _REBUILT, settings)
    return {"DASHBOARDS": str((root / _REBUILT / "grafana/dashboards").resolve()), "RULES": str((root / _REBUILT / "prometheus/rules").resolve())}


def up(engine: Engine, settings: Settings, part: str, seconds: float, say: Say) -> Started:
    """Start a part of the stack and wait until each service does its work; what runs already is left alone.

    Raises:
        StackError: something stands in the way, or a service is not ready after `seconds`.
    """
    specs, before = part_of(engine, part), engine.containers()
    images = engine.images(sorted({spec.image for spec in specs}), SOURCES_LABEL)
    found = preflight.check(engine, settings, specs, before, fetches=any(spec.image not in images for spec in specs))
    preflight.refuse(found)
    for finding in found:
        say(f"note: {finding.problem}: {finding.mend}")
    _prepare_images(engine, specs, images, say)
    _begin_anew(engine, settings, specs)
    began = time.monotonic()
    _Waiting(engine=engine, specs=specs, seconds=seconds, say=say, running=frozenset(each.id for each in before if each.is_running)).start()
    names = tuple(spec.name for spec in specs if not spec.is_task)
    changed = _ids(before, names) != _ids(engine.containers(), names)
    marquez = next((_port(spec) for spec in specs if spec.name == "marquez"), None)
    collector = next((_port(spec, "OTLP_HTTP_PORT") for spec in specs if spec.name == "collector"), None)
    return Started(
        changed=changed,
        seconds=time.monotonic() - began,
        services=names,
        addresses=_addresses(specs),
        marquez=None if marquez is None else f"http://127.0.0.1:{marquez}",
        marquez_is_empty=marquez is not None and _has_no_jobs(marquez),
        collector=None if collector is None else f"http://127.0.0.1:{collector}",
    )


def _begin_anew(engine: Engine, settings: Settings, specs: Sequence[Spec]) -> None:
    """Let the archived bundles be handed over once more when the collector's storage is to be made, and with it the stores'."""
    from pipeline.telemetry import collector

    if any(spec.name == "collector" for spec in specs) and collector.archived(settings.runs) and not engine.has_volume(COLLECTOR_VOLUME):
        collector.forget(settings.runs)


def part_of(engine: Engine, part: str) -> list[Spec]:
    """The services of a part, as compose has them when it knows all files."""
    files = [str(COMPOSE / name) for name in PARTS[part] if str(COMPOSE / name) in engine.files]
    if len(files) == len(engine.files):
        return engine.specs()
    names = {spec.name for spec in engine.specs(files)} if files else set()
    return [spec for spec in engine.specs() if spec.name in names]


def down(engine: Engine, part: str) -> list[str]:
    """Stop a part, and return what was stopped; data is kept."""
    specs, there = {spec.name: spec for spec in part_of(engine, part)}, {container.service for container in engine.containers()}
    stopped = sorted(there & specs.keys())
    if there <= specs.keys():
        engine.compose("down", timeout=180)
    elif stopped:  # the rest of the project goes on
        engine.compose("rm", "--stop", "--force", *stopped, timeout=180)
    return [name for name in stopped if not specs[name].is_task]


def reset(engine: Engine) -> list[str]:
    """Delete everything that the stack has stored, and return what was deleted.

    The collector's offsets are among it: without them gone too, old bundles would never be read again.
    """
    volumes = engine.volumes()
    engine.compose("down", "--volumes", timeout=180)
    return volumes


def status(engine: Engine) -> list[Status]:
    """Every service of the compose files, in the order in which a person asks for them."""
    containers = engine.containers()
    by_name, usage = {each.service: each for each in containers}, engine.usage(containers)
    order = {service.name: number for number, service in enumerate(SERVICES)}
    found = []
    for spec in sorted(engine.specs(), key=lambda spec: order.get(spec.name, len(order))):
        container, used = by_name.get(spec.name), usage.get(spec.name)
        # Where it is, which is not where these settings would put it when it was started with others.
        seen = replace(spec, ports=container.ports) if container is not None and container.ports else spec
        found.append(
            Status(
                service=spec.name,
                state=_state(spec, container),
                health=container.health if container else "",
                answers=_answers(seen),
                ports=tuple(port.port for port in seen.ports),
                memory_bytes=used.memory_bytes if used else None,
                memory_limit_bytes=used.limit_bytes if used else spec.memory_bytes or None,
            )
        )
    return found


def _state(spec: Spec, container: Container | None) -> str:
    if container is None:
        return "down"
    return "done" if spec.is_task and _is_ready(spec, container) else container.state


def show_logs(engine: Engine, service: str | None, *, tail: int, follow: bool) -> int:
    """Let compose print the services' logs, and return its exit code.

    Raises:
        UsageError: there is no such service.
    """
    known = [spec.name for spec in engine.specs()]
    if service is not None and service not in known:
        raise UsageError(f"the stack has no service {service!r}", hint=f"its services are {', '.join(known)}")
    return engine.show("logs", "--tail", str(tail), *(["--follow"] if follow else []), *([service] if service else []))


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """Services on their way up; `running` are the containers that ran before, `ready` those that do their work, by service."""

    engine: Engine
    specs: Sequence[Spec]
    seconds: float
    say: Say
    running: frozenset[str]
    strikes: Counter[str] = field(default_factory=Counter)
    ready: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        names = [spec.name for spec in self.specs]
        with tempfile.TemporaryFile("w+") as errors, self.engine.begin("up", "--detach", *names, errors=errors) as starting:
            try:
                self._wait(starting)
            except BaseException:
                starting.terminate()
                raise
            if starting.wait():
                errors.seek(0)
                raise self._refused(starting.returncode, errors.read())

    def _wait(self, starting: Popen[str]) -> None:
        """Until all are ready, or `up` itself failed."""
        while True:
            code = starting.poll()  # before the look: what it replaces at its end is then seen as new
            try:
                late = self._look()
            except StackError:
                if code is not None:
                    raise
                late = [spec.name for spec in self.specs]  # a container went while it was looked at, as `up` makes it anew
            if code or (code == 0 and not late):
                return
            passed = time.monotonic() - self.began
            if passed > self.seconds:
                raise self._late(late)
            time.sleep(min(_POLL_SECONDS, 0.05 + passed / 4))

    def _look(self) -> list[str]:
        """Which services are not ready."""
        containers = {each.service: each for each in self.engine.containers()}
        late = []
        for spec in self.specs:
            container = containers.get(spec.name)
            if container is not None and self.ready.get(spec.name) == container.id:
                continue
            if container is not None and _is_ready(spec, container):
                self._welcome(spec, container)
                continue
            late.append(spec.name)
            if container is not None and container.state in _DOWN_STATES:
                self._strike(spec.name)
        return late

    def _welcome(self, spec: Spec, container: Container) -> None:
        self.ready[spec.name] = container.id
        if not spec.is_task and container.id not in self.running:
            self.say(f"{title(spec.name)} is ready ({time.monotonic() - self.began:.1f} s)")

    def _strike(self, name: str) -> None:
        self.strikes[name] += 1
        if self.strikes[name] >= _STRIKES:
            raise self._broken(name, f"{title(name)} does not stay up")

    def _refused(self, code: int, said: str) -> StackError:
        """`up` itself gave up: over a service that others wait for, whose name is in that of its container, or over something else."""
        named = next((spec.name for spec in self.specs if f"-{spec.name}-" in said), None)
        return self._broken(named, said.strip().splitlines()[-1]) if named else failure([self.engine.program, "compose", "up"], code, said)

    def _late(self, names: list[str]) -> StackError:
        if not names:
            return StackError(f"`{self.engine.program} compose up` did not end within {self.seconds:g} s", hint="restart the container engine")
        verb = "is" if len(names) == 1 else "are"
        first = max(names, key=lambda name: self.strikes[name])
        return self._broken(first, f"{', '.join(map(title, names))} {verb} not ready after {self.seconds:g} s")

    def _broken(self, name: str, problem: str) -> StackError:
        lines = [f"  {line}" for line in self.engine.compose("logs", "--no-color", "--no-log-prefix", "--tail", str(_LOG_LINES), name).splitlines()]
        said = [f"the last that {title(name)} said:", *lines] if lines else [f"{title(name)} said nothing"]
        hint = f"make obs.logs ARGS={name} has all of it; once mended, {started_by(name)} goes on from here, and make obs.down stops what runs"
        return StackError("\n".join([problem, *said]), hint=hint, service=name)


def _prepare_images(engine: Engine, specs: Sequence[Spec], images: Mapping[str, str], say: Say) -> None:
    """Fetch and build what is not here, before the clock runs: that depends on the network and not on the services."""
    missing = sorted({spec.image for spec in specs if spec.build is None and spec.image not in images})
    for number, image in enumerate(missing, 1):
        say(f"fetching {image} ({number} of {len(missing)})")
        engine.pull(image)
    for spec in specs:
        if spec.build is not None and images.get(spec.image) != spec.build:
            say(f"building {spec.image}")
            engine.compose("build", "--quiet", spec.name, timeout=_BUILD_SECONDS)


def sources_of(*places: Path) -> str:
    """The first 12 hex digits of the sha256 over files and folders: what a service or an image was made from, as its label."""
    digest = hashlib.sha256()
    for place in places:
        for path in sorted(path for path in (place, *place.rglob("*")) if path.is_file() and not _UNREAD.intersection(path.parts)):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(place.parent).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def _is_ready(spec: Spec, container: Container) -> bool:
    """What a service answers counts; its own health check where it is not asked over HTTP; a task has to end well."""
    if spec.is_task:
        return container.state == "exited" and container.exit_code == 0
    answers = _answers(spec)
    return container.is_running and (container.health in ("", "healthy") if answers is None else answers)


def _answers(spec: Spec) -> bool | None:
    """Whether a service answers 200 from outside. None for one that is not asked over HTTP."""
    service, port = BY_NAME.get(spec.name), _port(spec)
    if service is None or service.ready_path is None or port is None:
        return None
    return _get(port, service.ready_path)[0] == 200


def _has_no_jobs(port: int) -> bool:
    """Whether nobody has told this Marquez anything: it is new, or has lost what it had."""
    status, body = _get(port, "/api/v1/jobs?limit=1")
    try:
        return status == 200 and json.loads(body)["totalCount"] == 0
    except (ValueError, KeyError, TypeError):
        return False


def _get(port: int, path: str) -> tuple[int, bytes]:
    """What a server on this machine answers, with no proxy in between; 0 when it does not."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()


def _port(spec: Spec, variable: str | None = None) -> int | None:
    """The port of a service on this machine: the one that a variable moves, or the one that is probed and shown."""
    known = BY_NAME[spec.name].ports if spec.name in BY_NAME else ()
    wanted = next((port.target for port in known if variable in (None, port.variable)), None)
    return next((port.port for port in spec.ports if port.target == wanted), None)


def _addresses(specs: Sequence[Spec]) -> tuple[tuple[str, str, str], ...]:
    ports = {spec.name: _port(spec) for spec in specs}
    opened = [(service, ports.get(service.name)) for service in SERVICES if service.use]
    return tuple((service.title, f"http://127.0.0.1:{port}", service.use) for service, port in opened if port is not None)


def _ids(containers: Sequence[Container], names: Sequence[str]) -> set[str]:
    return {each.id for each in containers if each.is_running and each.service in names}
