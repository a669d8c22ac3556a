"""The stack for the tests of this folder: one for all of them, started from nothing and deleted at the end."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.telemetry import bundle
from tests.conftest import SHARED
from tests.stack_live.ledger import expect_all
from tests.stack_live.live_support import LiveStack

HERE = Path(__file__).parent
MEASURED = pytest.StashKey[list[str]]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests here in the order of their files: what disturbs the stack comes last. Each one leaves it well."""
    live = iter(sorted((item for item in items if HERE in item.path.parents), key=lambda item: (item.path.name, item.reportinfo()[1] or 0)))
    items[:] = [next(live) if HERE in item.path.parents else item for item in items]


@pytest.fixture(scope="session")
def tell(request: pytest.FixtureRequest) -> list[str]:
    """What was measured, for the end of the output."""
    return request.config.stash.setdefault(MEASURED, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured."""
    for line in config.stash.get(MEASURED, []):
        terminalreporter.write_line(f"measured: {line}")


@pytest.fixture(scope="session")
def stack(root: Path, tmp_path_factory: pytest.TempPathFactory, tell: list[str]) -> Iterator[LiveStack]:
    """The whole stack, up from nothing, with an archived run that is older."""
    if not SHARED or not (Path(SHARED) / "stack" / "images.sh").exists():
        pytest.skip("GOLDTRACE_SHARED names no folder with stack/images.sh, which makes the images")
    made = subprocess.run([Path(SHARED) / "stack" / "images.sh", "compose/.env"], cwd=root, capture_output=True, text=True, timeout=900, check=False)
    if made.returncode or not shutil.which("docker"):
        pytest.skip(f"there is no container engine with the images: {made.stderr.strip()[-300:]}")
    live = LiveStack(root=root, folder=tmp_path_factory.mktemp("live"))
    live.runs.mkdir()
    live.run_at((datetime.now(UTC) - timedelta(days=5)).isoformat())
    bundle.archive(live.runs, keep=0)
    live.compose("down", "--volumes", "--remove-orphans")
    try:
        began = time.monotonic()
        up = live.command("stack", "up")
        tell.append(f"obs.up from nothing: {time.monotonic() - began:.1f} s")
        assert up.returncode == 0, up.stdout + up.stderr + live.compose("ps", "--all")
        yield live
    finally:
        live.compose("down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="session")
def three_runs(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A run that completes, one whose gate is RED, and one dated three days ago; all of it has arrived."""
    wrong = tmp_path_factory.mktemp("wrong")
    for path in (stack.root / "pipeline" / "study" / "sample").glob("*.csv"):
        text = path.read_text()
        # Nobody weighs that: more rows than the contract lets through are set aside.
        (wrong / path.name).write_text(_too_heavy(text) if "tidy" in path.name else text)
    runs = {
        "completed": stack.run(),
        "red": stack.run("--input", str(wrong)),
        "dated": stack.run_at((datetime.now(UTC) - timedelta(days=3)).isoformat()),
    }
    expect_all(stack)
    return runs


def _too_heavy(text: str) -> str:
    head, *rows = text.splitlines()
    place = head.split(",").index("weight_kg")
    changed = []
    for row in rows:
        cells = row.split(",")
        cells[place] = "900"
        changed.append(",".join(cells))
    return "\n".join([head, *changed]) + "\n"
