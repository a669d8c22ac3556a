"""How runs end that are stopped from outside: signals in each step, kill -9, a full disk, a lake that can't be written."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from pipeline.records import State
from pipeline.telemetry import bundle
from tests.engine.engine_support import Start, tree

SLOW = "SELECT count(*) FROM range(4000000000) t(i) WHERE hash(i) % 7 = 8"


def slow_down(app: Path, step: str) -> None:
    """Make a step of the small pipeline take so long that the test can meet it."""
    if step == "features":
        (app / "features.sql").write_text((app / "features.sql").read_text().replace("coalesce(f.calories, 0)", f"coalesce(f.calories, 0) - ({SLOW})"))
    else:
        code = (app / "small_app.py").read_text()
        (app / "small_app.py").write_text(code.replace(f"def {step}(", f"def {step}(*_, **__):\n    time.sleep(60)\n\ndef unused_{step}("))


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
def test_a_signal_in_a_step_aborts_the_run_and_leaves_the_lake_as_it_was(app: Path, start: Start, step: str, signum: int, code: int) -> None:
    start("run").communicate()
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
    code = (app / "small_app.py").read_text()
    (app / "small_app.py").write_text(code.replace("def words(", "def words(*_, **__):\n    time.sleep(3)\n    return {'a.md': b''}\n\ndef unused("))
    with start("run") as first:
        wait_for_step(app, "words")
        with start("run") as second, start("run", "--wait", "30") as third:
            _, err = second.communicate(timeout=30)
            assert second.returncode == 4
            assert "another run writes to the lake" in err
            third.communicate(timeout=60)
            assert (first.wait(), third.returncode) == (0, 0)


def test_a_full_disk_in_the_middle_of_a_write_fails_clearly_and_leaves_the_lake_as_it_was(app: Path, start: Start) -> None:
    """A limit on the size of files stands in for the disk: the kernel refuses the write in the same place."""
    start("run").communicate()
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


def test_a_read_only_lake_fails_clearly(app: Path, start: Start) -> None:
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:  # root may write anywhere unless it gives up that right
        if shutil.which("setpriv") is None:
            pytest.skip("runs as root, and setpriv is not there to give up root's right to write anywhere")
        prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    start("run").communicate()
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
