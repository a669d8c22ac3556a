"""Where the servers' own programs are, for tests that ask them."""

import shutil
from pathlib import Path

import pytest


def program(name: str) -> str:
    """Where a server's own program is; skips the test when it is nowhere."""
    found = shutil.which(name) or shutil.which(name, path=str(Path.home() / ".cache/obs-stack/bin"))
    if found is None:
        pytest.skip(f"{name} is not on PATH")
    return found
