"""`make` sets up `.venv` by itself: once, whole, and with a clear word when it can't."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SET_UP = ["venv --quiet", "pip sync", "pip install"]
OTHER_PYTHON = """#!/bin/sh
case "$*" in *--version*) echo "Python 3.9.6" ;; *) exit 1 ;; esac
"""


def test_the_first_call_builds_the_environment_and_the_second_runs_nothing(project: Any) -> None:
    first = project.make("setup.run")
    assert first.returncode == 0, first.stderr
    assert project.uv_calls() == SET_UP
    project.command("uv", "#!/bin/sh\nexit 9\n")
    project.command("python3", "#!/bin/sh\nexit 9\n")
    second = project.make("setup.run")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")


def test_results_own_stdout_while_the_set_up_speaks_on_stderr(project: Any) -> None:
    done = project.make("setup.run")
    assert done.stdout == ""
    assert "setting up .venv with Python 3." in done.stderr
    assert "ready after" in done.stderr


@pytest.mark.parametrize("file", ["requirements/run.txt", "pyproject.toml", "requirements/bootstrap.txt", "scripts/set_up.py"])
def test_a_change_of_what_it_is_made_from_brings_the_environment_up_to_date(project: Any, file: str) -> None:
    project.make("setup.run")
    project.uv_calls()
    with (project.folder / file).open("a") as changed:
        changed.write("# changed\n")
    assert project.make("setup.run").returncode == 0
    assert project.uv_calls() == ["pip sync", "pip install"]


def test_the_developers_environment_serves_a_run_too(project: Any) -> None:
    project.make("setup.dev")
    project.uv_calls()
    project.make("setup.run")
    assert project.uv_calls() == []


def test_a_run_never_takes_the_developers_tools_away(project: Any) -> None:
    project.make("setup.dev")
    (project.folder / "requirements" / "run.txt").write_text("# changed\n")
    project.make("setup.run")
    project.uv_calls()
    project.make("setup.dev")
    assert project.uv_calls() == []


def test_what_aws_needs_stays_until_the_tools_come(project: Any) -> None:
    project.make("setup.run")
    project.uv_calls()
    assert project.make("setup.aws").returncode == 0
    assert project.uv_calls() == ["pip sync", "pip install"]
    (project.folder / "requirements" / "run.txt").write_text("# changed\n")
    project.make("setup.run")
    assert project.uv_calls() == ["pip sync", "pip install"]
    project.make("setup.aws")
    assert project.uv_calls() == []
    project.make("setup.dev")
    assert project.uv_calls() == ["pip sync", "pip install"]


def test_a_failed_install_is_an_error_with_a_hint_and_the_next_call_starts_anew(project: Any) -> None:
    project.make("setup.run")
    before = (project.folder / "requirements" / "run.txt").read_text()
    failed = project.fail("setup.run")
    assert failed.returncode != 0
    assert "trying pip instead of uv" in failed.stderr
    assert "error: the packages of requirements/run.txt could not be installed" in failed.stderr
    assert "hint: " in failed.stderr
    assert "Traceback" not in failed.stderr
    # Going back to the old requirements is no way around it: some packages may be the new ones.
    (project.folder / "requirements" / "run.txt").write_text(before)
    project.uv_calls()
    assert project.make("setup.run").returncode == 0
    assert project.uv_calls() == SET_UP


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_install_leaves_nothing_that_looks_done(project: Any, kill: signal.Signals) -> None:
    process = subprocess.Popen(
        ["make", "setup.run"],
        cwd=project.folder,
        env=project.environment(SLOW_UV="1"),
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests that run in the background ignore it, and so would it
    )
    _wait_for(Path(f"{project.log}.waits"))
    os.killpg(process.pid, kill)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "Traceback" not in stderr
    project.uv_calls()
    assert project.make("setup.run").returncode == 0
    assert project.uv_calls() == SET_UP


def test_two_commands_at_once_set_up_once(project: Any) -> None:
    both = [subprocess.Popen(["make", "setup.run"], cwd=project.folder, env=project.environment(), stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert project.uv_calls() == SET_UP


def test_a_moved_project_gets_a_new_environment(project: Any) -> None:
    project.make("setup.run")
    project.uv_calls()
    moved = project.folder.rename(project.folder.with_name("elsewhere"))
    subprocess.run(["make", "setup.run"], cwd=moved, env=project.environment(), check=True, capture_output=True)
    assert project.uv_calls() == SET_UP


def test_an_environment_whose_python_is_gone_is_made_anew(project: Any) -> None:
    project.make("setup.run")
    project.uv_calls()
    python = project.folder / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    assert project.make("setup.run").returncode == 0
    assert project.uv_calls() == SET_UP


def test_an_environment_that_an_editor_made_is_used(project: Any) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project.folder / ".venv"], check=True)
    assert project.make("setup.run").returncode == 0
    assert project.uv_calls() == ["pip sync", "pip install"]


def test_another_active_environment_is_left_alone(project: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", other], check=True)
    before = sorted(other.rglob("*"))
    variables = {"VIRTUAL_ENV": str(other), "PATH": f"{other}/bin:{project.commands}:/usr/bin:/bin"}
    assert project.make("setup.run", PIP_TARGET=str(other), UV_CONSTRAINT="strange.txt", **variables).returncode == 0
    assert "strange" not in project.uv_environment()
    assert str(other) not in "".join(line for line in project.uv_environment().splitlines() if not line.startswith("PATH="))
    assert sorted(other.rglob("*")) == before
    home = (project.folder / ".venv" / "pyvenv.cfg").read_text().splitlines()[0]
    assert str(other) not in home


def test_an_unfinished_environment_is_made_anew_even_while_it_is_the_active_one(project: Any) -> None:
    project.make("setup.run")
    (project.folder / ".venv" / "goldtrace" / "building").touch()
    (project.folder / ".venv" / "goldtrace" / "run").unlink()
    project.uv_calls()
    active = {"VIRTUAL_ENV": str(project.folder / ".venv"), "PATH": f"{project.folder}/.venv/bin:{project.commands}:/usr/bin:/bin"}
    done = project.make("setup.run", **active)
    assert done.returncode == 0, done.stderr
    assert project.uv_calls() == SET_UP


def test_without_a_python_that_fits_the_message_says_which_are_needed(project: Any) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python"):
        project.command(name, OTHER_PYTHON)
    done = project.make("setup.run")
    assert done.returncode != 0
    assert "error: no Python 3.11, 3.12 or 3.13 was found (python3 is Python 3.9.6)" in done.stderr
    assert "hint: install one, or say where it is with PIPELINE_PYTHON=" in done.stderr


def test_the_first_python_that_fits_is_taken(project: Any) -> None:
    project.command("python3.12", (project.commands / "python3").read_text())
    project.command("python3", OTHER_PYTHON)
    project.command("python3.13", OTHER_PYTHON)
    assert project.make("setup.run").returncode == 0


@pytest.mark.parametrize(("text", "said"), [(OTHER_PYTHON, "which is Python 3.9.6"), ("#!/bin/sh\nexit 1\n", "which is not a Python that runs here")])
def test_a_pipeline_python_that_does_not_fit_is_named(project: Any, text: str, said: str) -> None:
    project.command("strange", text)
    done = project.make("setup.run", PIPELINE_PYTHON="strange")
    assert done.returncode != 0
    assert f"error: PIPELINE_PYTHON is 'strange', {said}" in done.stderr


def test_pipeline_python_is_read_from_the_dotenv_file(project: Any) -> None:
    (project.folder / ".env").write_text("OTHER=1\nPIPELINE_PYTHON='strange'\n")
    project.command("strange", OTHER_PYTHON)
    assert "PIPELINE_PYTHON is 'strange'" in project.make("setup.run").stderr


def test_pipeline_python_on_the_command_line_of_make_counts(project: Any) -> None:
    project.command("strange", OTHER_PYTHON)
    done = subprocess.run(
        ["make", "setup.run", "PIPELINE_PYTHON=strange"], cwd=project.folder, env=project.environment(), capture_output=True, text=True, check=False
    )
    assert "PIPELINE_PYTHON is 'strange'" in done.stderr


def test_naming_the_python_that_the_environment_is_made_from_changes_nothing(project: Any) -> None:
    project.make("setup.run")
    project.uv_calls()
    assert project.make("setup.run", PIPELINE_PYTHON="python3").returncode == 0
    assert project.uv_calls() == []


def test_a_uv_that_does_not_run_is_not_used(project: Any) -> None:
    project.command("uv", "#!/bin/sh\nexit 127\n")
    done = project.make("setup.run", PIP_NO_INDEX="1")
    assert (project.folder / ".venv" / "bin" / "pip").exists(), done.stderr
    assert "trying pip instead of uv" in done.stderr


def _wait_for(path: Path) -> None:
    for _ in range(400):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(path)
