"""What all tests share: isolation from the machine's settings, and the folder with the specification and real data."""

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import hypothesis.configuration
import pytest

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = re.compile(r"^(PIPELINE|OTEL|OPENLINEAGE|MLFLOW|AWS)_|^(TRACEPARENT|TRACESTATE|NO_COLOR|TERM|FORCE_COLOR|COLUMNS|GITHUB_ACTIONS)$")
# Where the specification's schemas and the study's real input are; without it the tests that need them are skipped.
SHARED = os.environ.get("GOLDTRACE_SHARED")

# Before anything of ours is imported, and for subprocesses too: what this machine is set to must not decide a test.
for _name in [name for name in os.environ if SETTINGS.match(name)]:
    del os.environ[_name]
# No test sends lineage to whatever listens on this machine unless it says so.
os.environ["OPENLINEAGE_DISABLED"] = "true"

# On CI the examples are always the same, so that a red build is the change's; elsewhere they are new ones each time, and fewer.
hypothesis.configuration.set_hypothesis_home_dir(ROOT / ".hypothesis")
hypothesis.settings.register_profile("local", deadline=None, print_blob=True, max_examples=50)
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
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Gives the folder of that name, which is made once for all of pytest's processes: who asks first fills it, the others wait.

    Nobody may change what is in it.
    """
    base = tmp_path_factory.getbasetemp()
    everyones = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        with (everyones / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (everyones / f"{name}.made").exists():
                (everyones / name).mkdir()
                fill(everyones / name)
                (everyones / f"{name}.made").touch()
        return everyones / name

    return make


@pytest.fixture(scope="session")
def study_run(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A folder in which the study has run on its sample, as a user runs it: `lake/`, `runs/` and what it printed, `stdout.txt`."""
    return made_once("study", _run_study)


def _run_study(folder: Path) -> None:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "run"]
    # A busy machine may take its time: that the run is delivered to MLflow is not left to luck.
    environment = {**os.environ, "PIPELINE_TRACKING_TIMEOUT": "120"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=160, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout.txt").write_text(done.stdout)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how to get the same order again."""
    seed = getattr(config.option, "randomly_seed", None)
    if isinstance(seed, int):
        terminalreporter.write_line(f"the same order again: make test ARGS=--randomly-seed={seed}")
