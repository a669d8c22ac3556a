"""The container engine: the only module that calls `docker` (or `podman`) and `docker compose`.

It knows how commands are written and what their answers mean, and nothing of what the services are for. Every call has a
time limit, as an engine that hangs is a usual kind of broken.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pipeline.errors import StackError

PROGRAMS = ("docker", "podman")
# The first with several --env-file (2.17) and what else is used here.
MIN_COMPOSE = (2, 20)
NO_STACK_NEEDED = "`make run` needs no container engine"
_UNITS = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_TAIL_LINES = 8
# What an image of our own was made from, as a sum.
SOURCES_LABEL = "goldtrace.sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A port of a service on this machine."""

    target: int
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What the compose files say of a service; `build` is the sum over what its image is to be made from, when that is our own.

    A task is a service that ends when its work is done.
    """

    name: str
    image: str
    build: str | None
    is_task: bool
    memory_bytes: int
    ports: tuple[Published, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A service's container; `health` is empty for one without a health check."""

    id: str
    service: str
    state: str
    exit_code: int
    health: str
    ports: tuple[Published, ...]

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self.state == "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the engine says of the machine that it runs on; `data` is a folder there, which need not be on this machine."""

    memory_bytes: int
    data: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A container's memory now, and its limit."""

    memory_bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine that answers, for the project in the folder `root`.

    Attributes:
        program: `docker` or `podman`.
        root: the project's folder; commands run there.
        files: the compose files, relative to it.
        variables: what the compose files take beside the environment.
    """

    program: str
    root: Path
    files: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    def call(self, *words: str, timeout: float = 60) -> str:
        """Run a command of the engine and return what it printed.

        Raises:
            StackError: it failed, or took too long.
        """
        done = _finished([self.program, *words], self.root, self._environment(), timeout)
        if done.returncode:
            raise failure([self.program, *words], done.returncode, done.stderr)
        return done.stdout

    def compose(self, *words: str, timeout: float = 60) -> str:
        """The same for a command of compose."""
        return self.call(*self.compose_words(), *words, timeout=timeout)

    def compose_words(self, files: Sequence[str] = ()) -> list[str]:
        """`compose` and its options; `.env` comes after our own file, so that it wins."""
        env_files = ["compose/.env", *([".env"] if (self.root / ".env").is_file() else [])]
        names = [word for name in env_files for word in ("--env-file", name)]
        return ["compose", *names, *(word for name in files or self.files for word in ("-f", name))]

    def show(self, *words: str) -> int:
        """Run a command of compose that speaks to the terminal itself, and return its exit code."""
        return subprocess.run([self.program, *self.compose_words(), *words], cwd=self.root, env=self._environment(), check=False).returncode  # noqa: S603 - fixed words

    def begin(self, *words: str, errors: IO[str]) -> subprocess.Popen[str]:
        """Start a command of compose; what it has to say goes to the file `errors`."""
        command = [self.program, *self.compose_words(), *words]
        return subprocess.Popen(  # noqa: S603 - fixed words
            command, cwd=self.root, env=self._environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, text=True
        )

    def specs(self, files: Sequence[str] = ()) -> list[Spec]:
        """The services as compose understands them, all unless only some files are asked for."""
        config = _json(self.call(*self.compose_words(files), "config", "--format", "json"))
        return [_spec(name, service) for name, service in config.get("services", {}).items()]

    def volumes(self) -> list[str]:
        """The engine's names of the volumes that hold the servers' data, as far as they exist."""
        return sorted(self._volumes().values())

    def has_volume(self, name: str) -> bool:
        """Whether a volume exists, by its name in the compose files."""
        return name in self._volumes()

    def _volumes(self) -> dict[str, str]:
        """The engine's name of each volume that exists, by its name in the compose files."""
        config = _json(self.compose("config", "--format", "json"))
        there = set(self.call("volume", "ls", "--format", "{{.Name}}").split())
        named = {name: each.get("name", name) for name, each in config.get("volumes", {}).items()}
        return {name: full for name, full in named.items() if full in there}

    def containers(self) -> list[Container]:
        """The project's containers, stopped ones too."""
        return [_container(each) for each in _records(self.compose("ps", "--all", "--format", "json"))]

    def port_holders(self) -> dict[int, str]:
        """Which container, of any project, holds which port of this machine."""
        held: dict[int, str] = {}
        for line in self.call("ps", "--format", "{{.Names}}\t{{.Ports}}").splitlines():
            name, _, ports = line.partition("\t")
            held |= {port: name for begin, end in re.findall(r":(\d+)(?:-(\d+))?->", ports) for port in range(int(begin), int(end or begin) + 1)}
        return held

    def host(self) -> Host:
        """The machine that the engine runs on: a virtual one with Docker Desktop and `podman machine`."""
        info = _json(self.call("info", "--format", "{{json .}}"))
        if "host" in info:  # podman
            return Host(memory_bytes=int(info["host"]["memTotal"]), data=Path(info["store"]["graphRoot"]))
        return Host(memory_bytes=int(info.get("MemTotal", 0)), data=Path(info.get("DockerRootDir", "/")))

    def images(self, names: Sequence[str], label: str) -> dict[str, str]:
        """Those of the images that are here, each with what it has as `label`."""
        words = [self.program, "image", "inspect", "--format", f'{{{{json .RepoTags}}}}\t{{{{index .Config.Labels "{label}"}}}}', *names]
        found: dict[str, str] = {}
        # It fails when one of them is missing, and prints the others.
        for line in _finished(words, self.root, self._environment(), 60).stdout.splitlines():
            tags, _, value = line.partition("\t")
            # Podman writes the registry before the name.
            here = {name for name in names for tag in json.loads(tags) or () if tag == name or tag.endswith(f"/{name}")}
            found |= dict.fromkeys(here, value.removeprefix("<no value>"))
        return found

    def pull(self, image: str) -> None:
        """Fetch an image; its progress goes to stderr, as stdout is for results."""
        done = subprocess.run([self.program, "pull", image], cwd=self.root, env=self._environment(), stdout=sys.stderr, check=False)  # noqa: S603 - fixed words
        if done.returncode:
            raise StackError(f"the image {image} can't be fetched (exit {done.returncode})", hint="its reason stands above; is there a way to the registry?")

    def usage(self, containers: Sequence[Container]) -> dict[str, Usage]:
        """Memory by service of the containers that run."""
        running = {each.id: each.service for each in containers if each.is_running}
        if not running:
            return {}
        lines = self.call("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}\t{{.MemUsage}}", *running).splitlines()
        found: dict[str, Usage] = {}
        for id_, _, text in (line.partition("\t") for line in lines):
            service = next((name for known, name in running.items() if id_.startswith(known) or known.startswith(id_)), None)
            used, _, limit = text.partition("/")
            if service is not None:
                found[service] = Usage(memory_bytes=_bytes(used), limit_bytes=_bytes(limit))
        return found

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables, "DOCKER_CLI_HINTS": "false"}


def connect(root: Path, files: tuple[str, ...], variables: Mapping[str, str]) -> Engine:
    """The first of docker and podman that answers and has compose.

    Raises:
        StackError: there is none; says what is missing in which.
    """
    there = [program for program in PROGRAMS if shutil.which(program)]
    if not there:
        raise StackError("no container engine was found", hint=f"install Docker, or Podman with docker-compose; {NO_STACK_NEEDED}")
    problems = []
    for program in there:
        engine = Engine(program=program, root=root, files=files, variables=variables)
        problem = _problem(engine)
        if problem is None:
            return engine
        problems.append(problem)
    message, hint = problems[0]
    raise StackError(message, hint=f"{hint}; {NO_STACK_NEEDED}")


def failure(words: Sequence[str], code: int, stderr: str) -> StackError:
    """The error for a command that failed, with the end of what it said."""
    shown = " ".join(word for word in words if not word.startswith("-") and not word.endswith((".yaml", ".env")))
    said = [line for line in stderr.strip().splitlines() if line.strip()][-_TAIL_LINES:]
    return StackError("\n  ".join([f"`{shown}` failed (exit {code})", *said]), hint="its own words stand above")


def _problem(engine: Engine) -> tuple[str, str] | None:
    """Why an engine can't be used, and what mends it."""
    answer = _finished([engine.program, "info", "--format", "{{json .}}"], engine.root, os.environ, 30)
    reason = _no_answer(answer)
    if reason is not None:
        return f"{engine.program} is installed, but its engine does not answer: {reason}", _start_hint(engine.program, reason)
    version = _finished([engine.program, "compose", "version", "--short"], engine.root, os.environ, 30)
    found = re.search(r"(\d+)\.(\d+)", version.stdout) if version.returncode == 0 else None
    if found is None:
        return f"{engine.program} has no compose", "install compose v2 (https://docs.docker.com/compose/install/)"
    if (int(found[1]), int(found[2])) < MIN_COMPOSE:
        wanted = ".".join(map(str, MIN_COMPOSE))
        return f"{engine.program} compose is {version.stdout.strip()}, and {wanted} or newer is needed", "update it (https://docs.docker.com/compose/install/)"
    return None


def _no_answer(answer: subprocess.CompletedProcess[str]) -> str | None:
    """Why the engine did not answer `info`; older clients end with 0 and say so in the answer."""
    errors = _json(answer.stdout).get("ServerErrors") or [] if answer.stdout.strip().startswith("{") else []
    if answer.returncode == 0 and not errors:
        return None
    said = [*errors, *answer.stderr.strip().splitlines()]
    return str(said[-1] if not errors else said[0]).strip().removeprefix("ERROR: ") if said else f"exit {answer.returncode}"


def _start_hint(program: str, reason: str) -> str:
    if "permission denied" in reason.lower():
        return "let this user use it (docs.docker.com/engine/install/linux-postinstall), or use Podman"
    if program == "podman":
        return "start it: `podman machine start` (Mac, Windows)"
    return "start Docker Desktop, or `sudo systemctl start docker`"


def _finished(words: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - fixed words
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        command = " ".join(words[:2])
        raise StackError(f"`{command}` did not answer within {timeout:g} s", hint=f"restart the container engine; {NO_STACK_NEEDED}") from error
    except OSError as error:
        raise StackError(f"{words[0]} can't be started: {error.strerror}", hint=f"mend its installation; {NO_STACK_NEEDED}") from error


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise StackError("the container engine's answer is no JSON", hint="is docker (or podman) a wrapper that prints something else?") from error
    return found if isinstance(found, dict) else {}


def _records(text: str) -> list[dict[str, Any]]:
    """Compose prints a list, or one object a line, as its version has it."""
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [_json(line) for line in text.splitlines() if line.strip()]


def _spec(name: str, service: dict[str, Any]) -> Spec:
    limit = service.get("mem_limit") or service.get("deploy", {}).get("resources", {}).get("limits", {}).get("memory") or 0
    ports = [(each["target"], each.get("published")) for each in service.get("ports", [])]
    build = service.get("build")
    return Spec(
        name=name,
        image=service.get("image", ""),
        build=build.get("labels", {}).get(SOURCES_LABEL, "") if build else None,
        is_task=service.get("restart") == "no",
        memory_bytes=int(limit),
        ports=tuple(Published(target=int(target), port=int(port)) for target, port in ports if port),
    )


def _container(record: dict[str, Any]) -> Container:
    ports = {(int(each["TargetPort"]), int(each["PublishedPort"])) for each in record.get("Publishers") or [] if each.get("PublishedPort")}
    return Container(
        id=record["ID"],
        service=record["Service"],
        state=record["State"],
        exit_code=int(record.get("ExitCode", 0)),
        health=record.get("Health", ""),
        ports=tuple(Published(target=target, port=port) for target, port in sorted(ports)),
    )


def _bytes(text: str) -> int:
    match = re.match(r"([\d.]+)\s*([A-Za-z]+)", text.strip())
    return int(float(match[1]) * _UNITS.get(match[2].lower(), 1)) if match else 0
