"""What the tests of the compose files share: the files as compose would merge them, and the images' names and ports in `.env`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

ROOT = Path(__file__).resolve().parents[2]
FILES = ("obs.yaml", "lineage.yaml", "mlflow.yaml")
# A variable with what stands in its place: `${NAME}`, `${NAME:-default}` (the default may hold one more), `${NAME:+word}`.
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-+])((?:[^${}]|\$\{[^{}]*\})*))?\}")

Service = dict[str, Any]


def services(folder: Path) -> dict[str, Service]:
    """All services of a compose folder by name, variables still in them."""
    return {name: service for file in FILES for name, service in yaml.safe_load((folder / file).read_text())["services"].items()}


def volumes(folder: Path) -> set[str]:
    """The named volumes."""
    return {name for file in FILES for name in yaml.safe_load((folder / file).read_text())["volumes"]}


def pins(folder: Path) -> dict[str, str]:
    """What `.env` sets."""
    return {key: value or "" for key, value in dotenv_values(folder / ".env").items()}


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with its variables put in, as compose does."""

    def value(match: re.Match[str]) -> str:
        name, kind, word = match.groups()
        known = values.get(name, "")
        return filled(word, values) if (kind == "-" and not known) or (kind == "+" and known) else ("" if kind == "+" else known)

    return _VARIABLE.sub(value, text)


def bytes_of(size: str) -> int:
    """A size as compose writes it (`512m`, `1g`), in bytes."""
    return int(size[:-1]) * {"k": 2**10, "m": 2**20, "g": 2**30}[size[-1]]


PINS_RETENTION = pins(ROOT / "compose")["RETENTION"]
