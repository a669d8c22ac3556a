"""What can be seen of the stack before anything is sent through it: each server's first answer, and what the engine says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.errors import BackendError, StackError
from pipeline.settings import Settings
from pipeline.stack.doctor_hops import HOPS, Hop
from pipeline.stack.doctor_http import Answer
from pipeline.stack.engine import Container, Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The first look at a server: why it did not answer, else how many seconds its clock is ahead of ours, and its version."""

    problem: str = ""
    skew: float | None = None
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """What the engine says of a service's container; `mounts` is from a folder in it to where that comes from."""

    container: Container
    image: str
    mounts: Mapping[str, str]

    @property
    def trouble(self) -> str:
        """What is wrong with it, in words."""
        if not self.container.is_running:
            return "its container has exited" if self.container.state == "exited" else f"its container is {self.container.state}"
        return "its container is unhealthy" if self.container.health == "unhealthy" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """The stack as its engine sees it, or (`engine` is "") why it can't be asked.

    Attributes:
        engine: the engine's version in words.
        problem: why nothing is known.
        boxes: the containers by service.
        volumes: the engine's names of the volumes that there are, by their names in the compose files.
        compose: the words that begin a command for the stack.
    """

    engine: str = ""
    problem: str = ""
    boxes: Mapping[str, Box] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)
    compose: str = "docker compose --env-file compose/.env -f compose/obs.yaml -f compose/lineage.yaml"

    def trouble(self, service: str) -> str:
        """What is wrong with a service's container; nothing when it runs or when that isn't known."""
        if not self.engine:
            return ""
        return self.boxes[service].trouble if service in self.boxes else "it has no container"


def first_look(settings: Settings, hops: Sequence[Hop] = HOPS) -> dict[str, Look]:
    """Ask every server side by side whether it is there."""
    asked = [hop for hop in hops if hop.address]
    with ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip((hop.name for hop in asked), pool.map(lambda hop: _look(hop, settings), asked), strict=True))


def _look(hop: Hop, settings: Settings) -> Look:
    try:
        answer = hop.ask(settings)
    except BackendError as error:
        return Look(problem=error.message)
    skew = (answer.date - datetime.now(UTC)).total_seconds() if answer.date and answer.date.tzinfo else None
    return Look(skew=skew, version=_version(hop, answer))


def _version(hop: Hop, answer: Answer) -> str:
    if hop.version is None or answer.status != 200:
        return ""
    try:
        return str(hop.version(answer.json()))
    except (BackendError, KeyError, TypeError):
        return ""  # the probe of this hop says what is wrong with its answers


def ask_engine(engine: Engine) -> Containers:
    """What the engine says. One that fails is no reason to stop: the servers can be asked without it."""
    try:
        return Containers(
            engine=_engine_words(engine),
            boxes=_boxes(engine),
            volumes=_volumes(engine),
            compose=" ".join([engine.program, *engine.compose_words()]),
        )
    except StackError as error:
        return Containers(problem=error.message)


def _engine_words(engine: Engine) -> str:
    wanted = "{{.Version}}" if engine.program == "podman" else "{{.Server.Version}}"
    version = engine.call("version", "--format", wanted).strip()
    return f"{engine.program} {version}, compose {engine.call('compose', 'version', '--short').strip()}"


def _boxes(engine: Engine) -> dict[str, Box]:
    containers = engine.containers()
    if not containers:
        return {}
    records = json.loads(engine.call("inspect", "--type", "container", *(container.id for container in containers)))
    return {container.service: _box(container, record) for container, record in zip(containers, records, strict=True)}


def _box(container: Container, record: Mapping[str, Any]) -> Box:
    mounts = {mount["Destination"]: mount.get("Source", "") for mount in record.get("Mounts", [])}
    return Box(container=container, image=record["Config"]["Image"], mounts=mounts)


def _volumes(engine: Engine) -> dict[str, str]:
    names = engine.volumes()
    records: list[dict[str, Any]] = json.loads(engine.call("volume", "inspect", *names)) if names else []
    return {_short(record): str(record["Name"]) for record in records}


def _short(record: Mapping[str, Any]) -> str:
    labels = record.get("Labels") or {}
    return str(labels.get("com.docker.compose.volume") or record["Name"].rpartition("_")[2])
