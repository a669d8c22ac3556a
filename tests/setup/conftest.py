"""A small project with the real Makefile and set-up scripts, and a uv that makes real environments but installs nothing."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

UV = """#!/bin/sh
echo "$1 $2" >> "{log}"
env > "{log}.environment"
case "$1 $2" in
"venv "*) exec "$5" -m venv --without-pip "$6" ;;
"pip sync") if [ -n "$SLOW_UV" ]; then touch "{log}.waits"; exec sleep 30; fi; [ -z "$BROKEN_UV" ] ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Project:
    """A folder in which `make setup.run` and `make setup.dev` can be tried."""

    folder: Path
    commands: Path

    @property
    def log(self) -> Path:
        return self.commands / "uv.log"

    def environment(self, **variables: str) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.commands}:/usr/bin:/bin", **variables}

    def make(self, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", target], cwd=self.folder, env=self.environment(**variables), capture_output=True, text=True, check=False)

    def fail(self, target: str) -> subprocess.CompletedProcess[str]:
        """Have a set-up fail: neither uv nor pip can install what is asked for."""
        (self.folder / "requirements" / "run.txt").write_text(f"nothing==1 --hash=sha256:{'0' * 64}\n")
        return self.make(target, BROKEN_UV="1", PIP_NO_INDEX="1", PIP_FIND_LINKS="")

    def uv_environment(self) -> str:
        """The environment that uv was called with, last."""
        return Path(f"{self.log}.environment").read_text()

    def uv_calls(self) -> list[str]:
        """What uv was asked for since the last time, without the questions for its version."""
        calls = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [call.strip() for call in calls if not call.startswith("--version")]

    def command(self, name: str, text: str) -> None:
        """Put a command on PATH, before all others."""
        path = self.commands / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)


@pytest.fixture
def project(tmp_path: Path, root: Path) -> Project:
    folder, commands = tmp_path / "a project", tmp_path / "bin"
    for place in (commands, folder / "requirements", folder / "pipeline"):
        place.mkdir(parents=True)
    shutil.copytree(root / "scripts", folder / "scripts")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(root / name, folder)
    for name in ("run.txt", "aws.txt", "dev.txt", "bootstrap.txt"):
        (folder / "requirements" / name).write_text(f"# {name}\n")
    made = Project(folder, commands)
    made.command("python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    made.command("uv", UV.format(log=made.log))
    return made
