"""What all tests share: isolation from the machine's settings, and the folder with the specification and real data."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import hypothesis.configuration
import pytest

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = re.compile(r"^(PIPELINE|OTEL|OPENLINEAGE|MLFLOW|AWS)_|^(TRACEPARENT|TRACESTATE|NO_COLOR|FORCE_COLOR|COLUMNS|GITHUB_ACTIONS)$")
# Where the specification's schemas and the study's real input are; without it the tests that need them are skipped.
SHARED = os.environ.get("GOLDTRACE_SHARED")

# Before anything of ours is imported, and for subprocesses too: what this machine is set to must not decide a test.
for _name in [name for name in os.environ if SETTINGS.match(name)]:
    del os.environ[_name]

# On CI the examples are always the same, so that a red build is the change's; elsewhere they are new ones each time.
hypothesis.configuration.set_hypothesis_home_dir(ROOT / ".hypothesis")
hypothesis.settings.register_profile("local", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty folder as the working directory, and the environment as it was afterwards."""
    before, folder = dict(os.environ), Path.cwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(folder)
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the OpenLineage specification and the study's real input."""
    if not SHARED:
        pytest.skip("GOLDTRACE_SHARED names no folder with the specification and the real data")
    return Path(SHARED)


@pytest.fixture(scope="session")
def study_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the study has run on its sample, as a user runs it: `lake/`, `runs/` and what it printed, `stdout.txt`."""
    folder = tmp_path_factory.mktemp("study")
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "run"]
    # A busy machine may take its time: that the run is delivered to MLflow is not left to luck.
    environment = {**os.environ, "PIPELINE_TRACKING_TIMEOUT": "120"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=160, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how to get the same order again."""
    seed = getattr(config.option, "randomly_seed", None)
    if isinstance(seed, int):
        terminalreporter.write_line(f"the same order again: make test ARGS=--randomly-seed={seed}")
