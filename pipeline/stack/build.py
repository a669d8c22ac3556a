"""Writes what Python builds and the stack mounts: grafana/dashboards/*.json and prometheus/rules/*.yml. Building again changes nothing.

The files in the repository have the default addresses; `pipeline stack build` writes them with the settings in force.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipeline.settings import Settings
from pipeline.stack import dashboards_models, dashboards_overview, dashboards_quality, dashboards_run, dashboards_slo, dashboards_stack, rules
from pipeline.stack.dashboards import Dashboard
from pipeline.stack.links import Addresses

_MOUNTED: Final = ("grafana/dashboards", "prometheus/rules")
DASHBOARDS: Final[tuple[Callable[[Addresses], Dashboard], ...]] = (
    dashboards_overview.build,
    dashboards_run.build,
    dashboards_quality.build,
    dashboards_slo.build,
    dashboards_models.build,
    dashboards_stack.build,
)


def dashboards(settings: Settings) -> tuple[Dashboard, ...]:
    """All dashboards, with the addresses of these settings."""
    addresses = Addresses.of(settings)
    return tuple(build(addresses) for build in DASHBOARDS)


def files(settings: Settings) -> dict[str, str]:
    """What is built: the text of each file by its path in the project."""
    found = {f"grafana/dashboards/{each.name}.json": text(each) for each in dashboards(settings)}
    return found | {f"prometheus/rules/{name}": rule_text for name, rule_text in rules.rule_files(settings).items()}


def text(dashboard: Dashboard) -> str:
    """A dashboard's file."""
    return json.dumps(dashboard.json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def stale(root: Path, settings: Settings) -> list[str]:
    """Which files differ from what would be built."""
    return _differing(root, files(settings))


def write(root: Path, settings: Settings) -> list[str]:
    """Write the files that differ, and say which."""
    built = files(settings)
    changed = _differing(root, built)
    for name in changed:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(built[name], encoding="utf-8", newline="\n")
    return changed


def write_beside(root: Path, target: Path, settings: Settings) -> None:
    """Write what is built to another folder, with the files that a user has put beside it, for the servers' users to read whatever the umask."""
    built = files(settings)
    for folder in _MOUNTED:
        (target / folder).mkdir(parents=True, exist_ok=True)
        own = {path.name for path in (root / folder).glob("*") if path.is_file() and f"{folder}/{path.name}" not in built}
        for name in own:
            shutil.copyfile(root / folder / name, target / folder / name)
        for path in (target / folder).iterdir():
            if path.name not in own and f"{folder}/{path.name}" not in built:
                path.unlink()
    write(target, settings)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _differing(root: Path, built: dict[str, str]) -> list[str]:
    return [name for name, wanted in built.items() if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != wanted]
