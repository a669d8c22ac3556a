"""The pinned requirements, the package's data, and what may not stand in the project's files."""

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILES = ("run.txt", "aws.txt", "mlflow.txt", "dev.txt", "bootstrap.txt")
PYTHONS = ("3.11", "3.12", "3.13")
# Written in halves, so that this file doesn't hold them itself.
FORBIDDEN = ("/wo" "rk/", "/ro" "ot/", "pypi" ".org", "python" "hosted", "regi" "stry.npm", "issue" " #")  # fmt: skip
TEXT = {".py", ".sh", ".md", ".toml", ".txt", ".in", ".yaml", ".yml", ".json", ".sql", ".csv", ".j2", ".css", ".js", ".ipynb", ".cfg", ""}


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tracked(root: Path) -> list[Path]:
    """The files that belong to the project; those that git ignores don't."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not in a git work tree")
    return [path for name in set(listed.stdout.split("\0")) if name and (path := root / name).is_file()]


def pins(root: Path, file: str) -> dict[str, list[Requirement]]:
    """Each package of a requirements file, with its pins (several where Python versions differ)."""
    text = re.sub(r" \\\n\s*", " ", (root / "requirements" / file).read_text(encoding="utf-8"))
    found: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement = Requirement(line.split(" --hash")[0])
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def applies(marker: Marker | None, python: str) -> bool:
    machine = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    environment = {"python_version": python, "python_full_version": f"{python}.1", **machine}
    return marker is None or marker.evaluate(environment)


@pytest.mark.parametrize("file", FILES)
def test_every_package_is_pinned_exactly_and_hashed(root: Path, file: str) -> None:
    text = re.sub(r" \\\n\s*", " ", (root / "requirements" / file).read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[A-Za-z0-9._-]+==\S+( ; [^-]+?)?( --hash=sha256:[0-9a-f]{64})+$", line), line[:80]


@pytest.mark.parametrize("python", PYTHONS)
def test_what_the_project_asks_for_is_pinned_within_its_ranges(root: Path, project: dict[str, Any], python: str) -> None:
    for file, wanted in _wanted(project).items():
        pinned = pins(root, file)
        for requirement in map(Requirement, wanted):
            versions = [pin for pin in pinned.get(canonicalize_name(requirement.name), []) if applies(pin.marker, python)]
            assert len(versions) == 1, f"{file} has {len(versions)} pins of {requirement.name}: make requirements"
            assert requirement.specifier.contains(next(iter(versions[0].specifier)).version, prereleases=True), str(requirement)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("smaller", "larger"), [("run.txt", "aws.txt"), ("mlflow.txt", "aws.txt"), ("aws.txt", "dev.txt")])
def test_an_environment_has_what_a_smaller_one_has(root: Path, python: str, smaller: str, larger: str) -> None:
    pinned = pins(root, larger)
    for name, requirements in pins(root, smaller).items():
        wanted = {str(pin.specifier) for pin in requirements if applies(pin.marker, python)}
        assert wanted <= {str(pin.specifier) for pin in pinned[name] if applies(pin.marker, python)}, name


def test_every_data_file_of_the_package_is_shipped(root: Path, project: dict[str, Any], tracked: list[Path]) -> None:
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    files = [path for path in tracked if (root / "pipeline") in path.parents and path.suffix != ".py"]
    left_out = [str(path.relative_to(root)) for path in files if not any(fnmatch(path.name, pattern) for pattern in patterns)]
    assert not left_out


def test_no_file_names_a_place_of_its_authors_or_a_registry(root: Path, tracked: list[Path]) -> None:
    found = []
    for path in tracked:
        if path.suffix in TEXT:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{path.relative_to(root)}: {word}" for word in FORBIDDEN if word in text]
    assert not found


def _wanted(project: dict[str, Any]) -> dict[str, list[str]]:
    run = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    extras = project["project"]["optional-dependencies"]
    aws = [*run, *extras["aws"]]
    return {"run.txt": run, "aws.txt": aws, "dev.txt": [*aws, *extras["notebooks"], *project["dependency-groups"]["dev"]], "bootstrap.txt": ["uv"]}
