"""How runs end that are stopped from outside: signals in each step, kill -9, a full disk, a lake that can't be written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.api import load_app
from pipeline.engine.lake import Lake
from pipeline.engine.runner import Order, execute
from pipeline.records import Run, State, StepRun
from pipeline.settings import load
from pipeline.telemetry import bundle
from tests.engine.engine_support import Go, Start, tree

# A step that goes on as long as there is a file, and a minute at most, so that a test that fails leaves nobody waiting.
HELD = """def words(*_, **__):
    for _ in range(3000):
        if pathlib.Path("wait").exists():
            time.sleep(0.02)
    return {"a.md": b""}

def unused("""
SLOW = "SELECT count(*) FROM range(4000000000) t(i) WHERE hash(i) % 7 = 8"


def slow_down(app: Path, step: str) -> None:
    """Make a step of the small pipeline take so long that the test can meet it."""
    if step == "features":
        (app / "features.sql").write_text((app / "features.sql").read_text().replace("coalesce(f.calories, 0)", f"coalesce(f.calories, 0) - ({SLOW})"))
    else:
        code = (app / "small_app.py").read_text()
        (app / "small_app.py").write_text(code.replace(f"def {step}(", f"def {step}(*_, **__):\n    time.sleep(60)\n\ndef unused_{step}("))


def until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def wait_for_step(app: Path, step: str) -> Path:
    """Wait until the manifest of the newest run, which is running, says that a step has begun; returns the bundle."""
    for _ in range(400):
        for found in bundle.list_bundles(app / "runs", 1):
            if found.state is State.RUNNING and step in [begun["name"] for begun in found.manifest["steps"]]:
                return found.path
        time.sleep(0.05)
    raise AssertionError(f"{step} was not reached")


@pytest.mark.parametrize(
    ("step", "signum", "code"),
    [("features", signal.SIGINT, 130), ("total", signal.SIGTERM, 143), pytest.param("words", signal.SIGHUP, 129, marks=pytest.mark.slow)],
)
def test_a_signal_in_a_step_aborts_the_run_and_leaves_the_lake_as_it_was(app: Path, go: Go, start: Start, step: str, signum: int, code: int) -> None:
    go()
    before = tree(app / "lake")
    slow_down(app, step)
    with start("run") as running:
        path = wait_for_step(app, step)
        time.sleep(0.3)
        running.send_signal(signum)
        running.send_signal(signum)  # a second one must not break the orderly end
        out, err = running.communicate(timeout=20)
    assert running.returncode == code, err
    found = bundle.read(path)
    assert (found.state, found.manifest["failure"]["type"], found.manifest["steps"][-1]["state"]) == (State.ABORTED, "aborted", "ABORTED")
    assert tree(app / "lake") == before
    assert "ABORTED" in out


def test_a_killed_run_is_lost_at_once_and_closed_by_the_next(app: Path, start: Start) -> None:
    slow_down(app, "total")
    with start("run") as running:
        path = wait_for_step(app, "total")
        assert bundle.read(path).state is State.RUNNING
        running.kill()
    assert bundle.read(path).state is State.LOST
    out, _ = start("reap").communicate()
    assert path.name in out
    closed = json.loads((path / "manifest.json").read_text())
    assert (closed["state"], closed["steps"][-1]["state"]) == ("LOST", "LOST")
    assert closed["reaped_at"] >= closed["ended_at"] >= closed["started_at"]


@pytest.mark.slow
def test_two_runs_at_once_one_is_busy_and_one_that_waits_completes(app: Path, start: Start) -> None:
    (app / "small_app.py").write_text((app / "small_app.py").read_text().replace("def words(", HELD))
    (app / "wait").touch()
    with start("run") as first:
        wait_for_step(app, "words")
        with start("run") as second, start("run", "--wait", "60") as third:
            _, err = second.communicate(timeout=50)
            assert second.returncode == 4
            assert "another run writes to the lake" in err
            until(lambda: len(list((app / "runs").glob("*/manifest.json"))) == 3)
            (app / "wait").unlink()
            third.communicate(timeout=60)
            assert (first.wait(), third.returncode) == (0, 0)


def test_a_full_disk_in_the_middle_of_a_write_fails_clearly_and_leaves_the_lake_as_it_was(app: Path, go: Go, start: Start) -> None:
    """A limit on the size of files stands in for the disk: the kernel refuses the write in the same place."""
    go()
    before = tree(app / "lake")
    rows = "".join(f"P{i},1,{i % 100}.{i}\n" for i in range(60_000))
    (app / "input" / "weight.csv").write_text("subject_id,week,weight_kg\n" + rows)
    limit = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); os.execv(sys.argv[1], sys.argv[1:])"
    prefix = (sys.executable, "-c", limit)
    with start("run", prefix=prefix) as running:
        out, err = running.communicate(timeout=60)
    assert running.returncode == 1, err
    assert "FAILED" in out, err
    assert "can't write the lake lake: File too large" in out + err
    assert tree(app / "lake") == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own, which can be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


class Filling:
    """A hook that fills the disk when a run has published, before the others have ended."""

    signal = "test"

    def __init__(self, disk: Path) -> None:
        self._disk = disk

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        yield
        with suppress(OSError), (self._disk / "full").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:
        yield


def test_a_disk_that_is_full_at_the_end_does_not_keep_the_bundle_from_saying_how_the_run_ended(app: Path, go: Go, small_disk: Path) -> None:
    runs = small_disk / "runs"
    settings = load(runs=runs, tracking="off", log_level="error")
    done = execute(load_app("small_app:PIPELINE"), settings, Order(hooks=[Filling(small_disk)]))
    found = bundle.read(done.bundle)
    assert (done.state, found.state) == (State.COMPLETED, State.COMPLETED)
    assert {output["dataset"] for output in found.manifest["outputs"] if output["published"]} == set(Lake("lake").current()["datasets"])
    assert (done.bundle / bundle.CHECKS).exists()
    assert not (done.bundle / bundle.RESERVE).exists()
    assert done.telemetry_lost  # what the others had to say at the end


def test_a_read_only_lake_fails_clearly(app: Path, go: Go, start: Start) -> None:
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:  # root may write anywhere unless it gives up that right
        if shutil.which("setpriv") is None:
            pytest.skip("runs as root, and setpriv is not there to give up root's right to write anywhere")
        prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    go()
    (app / "lake").chmod(0o555)
    (app / "lake" / ".lock").chmod(0o444)
    before = tree(app / "lake")
    with start("run", prefix=prefix) as running:
        out, err = running.communicate(timeout=60)
    (app / "lake").chmod(0o755)
    assert running.returncode == 1, err
    assert "can't write the lake" in out + err
    assert "--lake" in out + err
    assert tree(app / "lake") == before
