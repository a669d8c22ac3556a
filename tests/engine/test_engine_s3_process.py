"""Runs with a lake on S3 in processes of their own: who waits, who is killed, and what the next one finds."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.records import State
from pipeline.telemetry import bundle
from tests.engine.engine_support import Start
from tests.engine.s3_support import BUCKET, Answer, Proxy, credentials, objects, uploads

pytestmark = pytest.mark.slow
SLOWLY = """
def total(features):
    import pathlib, time
    pathlib.Path("begun").touch()
    while pathlib.Path("wait").exists():
        time.sleep(0.02)
"""


@pytest.fixture
def run(start: Start, app: Path, moto_s3: Proxy, prefix: str, tmp_path: Path) -> Start:
    """Start `pipeline <arguments>` with its lake on S3."""
    code = (app / "small_app.py").read_text().replace("def total(features):\n", SLOWLY)
    (app / "small_app.py").write_text(code)
    found = credentials(moto_s3.endpoint, PIPELINE_LAKE=f"s3://{BUCKET}/{prefix}", PIPELINE_STAGING=str(tmp_path / "staging"), OPENLINEAGE_DISABLED="true")
    return lambda *arguments, **more: start(*arguments, **found, **more)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_run_is_told_that_the_lake_is_busy_and_one_that_waits_gets_it(run: Start, app: Path) -> None:
    (app / "wait").touch()
    with run("run") as first:
        until((app / "begun").exists)
        with run("run") as second:
            output, errors = second.communicate(timeout=60)
            assert second.returncode == 4, output + errors
        busy = bundle.find(app / "runs", "last").manifest
        assert (busy["state"], busy["failure"]["type"]) == ("FAILED", "lake_busy")
        assert bundle.find(app / "runs", "last~1").id in busy["failure"]["message"]
        with run("run", "--wait", "60") as third:
            until(lambda: len(list((app / "runs").glob("*/manifest.json"))) == 3)
            (app / "wait").unlink()
            assert (first.wait(60), third.wait(60)) == (0, 0)


def test_a_killed_run_is_lost_and_the_next_one_takes_its_lock_and_its_room(run: Start, app: Path, tmp_path: Path, moto_s3: Proxy, prefix: str) -> None:
    (app / "wait").touch()
    with run("run") as killed:
        until((app / "begun").exists)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    (app / "wait").unlink()
    [left] = [path.name for path in (tmp_path / "staging").glob("*/*") if path.is_dir()]
    assert json.loads(objects(moto_s3.server, prefix)[".lock"])["run_id"] == left
    with run("reap") as reaper:
        assert reaper.communicate(timeout=60)[0] == f"{left} LOST\n"
    with run("run") as following:
        output, errors = following.communicate(timeout=60)
        assert following.returncode == 0, output + errors
    assert bundle.find(app / "runs", left).state is State.LOST
    assert not [path for path in (tmp_path / "staging").glob("*/*") if path.is_dir()]
    assert objects(moto_s3.server, prefix)[".lock"] == b""


def test_a_signal_ends_uploads_and_nothing_is_published(run: Start, app: Path, moto_s3: Proxy, prefix: str) -> None:
    moto_s3.rule = lambda asked: Answer(503, "SlowDown") if asked.method == "PUT" and "/silver/" in asked.key else None
    with run("run") as stopped:
        until(lambda: any("/silver/" in asked.key and asked.method == "PUT" for asked in moto_s3.seen))
        stopped.send_signal(signal.SIGTERM)
        output, errors = stopped.communicate(timeout=60)
        assert stopped.returncode == 143, output + errors
    found = bundle.find(app / "runs", "last")
    assert (found.state, found.manifest["failure"]["type"]) == (State.ABORTED, "aborted")
    left = objects(moto_s3.server, prefix)
    assert "current.json" not in left
    assert left[".lock"] == b""
    assert uploads(moto_s3.server, prefix) == []


def test_show_runs_and_report_look_at_the_bundle_alone(run: Start, app: Path, moto_s3: Proxy) -> None:
    with run("run", HOME=str(app)) as first:
        assert first.wait(60) == 0
    assert not (app / ".duckdb").exists()  # where DuckDB keeps what it fetched
    moto_s3.rule = lambda _: Answer(None)
    for command in ("show", "runs", "report"):
        with run(command) as looked:
            output, errors = looked.communicate(timeout=60)
            assert looked.returncode == 0, output + errors


def test_quality_validates_the_tables_of_a_lake_on_s3(run: Start, app: Path) -> None:
    with run("run") as first:
        assert first.wait(60) == 0
    with run("quality", "--json") as looked:
        output, errors = looked.communicate(timeout=120)
        assert looked.returncode == 0, output + errors
    assert json.loads(output)["gate"] == "GREEN"
    assert json.loads(output)["checks"] == 3


def test_a_lake_in_a_folder_imports_nothing_of_aws_and_fetches_nothing(start: Start, app: Path) -> None:
    script = app / "look.py"
    script.write_text(
        "import sys\nfrom pipeline import api\napi.run(app='small_app:PIPELINE', tracking='off')\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('boto3', 'botocore', 'obstore') or name.startswith('pipeline.engine.s3_')])\n"
    )
    (app / "home").mkdir()
    found = {"OPENLINEAGE_DISABLED": "true", "PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(app / "home")}
    done = subprocess.run([sys.executable, str(script)], cwd=app, env=found, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
    assert not (app / "home" / ".duckdb").exists()
