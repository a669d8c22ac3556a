"""The command as people and scripts meet it: help, output, JSON, exit codes, errors."""

import gc
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import cli


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def pipeline(*arguments: str, cwd: Path, **environment: str) -> Done:
    """Run the command in this process, which is quicker than one of its own and the same as far as words and exit codes go."""
    out, err = (TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    collecting = gc.get_threshold()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr("sys.argv", ["pipeline", *arguments])
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            gc.set_threshold(*collecting)
    stdout, stderr = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    return Done(code, stdout, stderr)


def commands() -> list[list[str]]:
    top = [[command.name or command.callback.__name__] for command in cli.app.registered_commands]  # type: ignore[union-attr]
    contracts = [["contracts", command.name] for command in cli.contracts_app.registered_commands]
    return [*top, *contracts]  # type: ignore[list-item]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_the_help_of_every_command_has_an_example(command: list[str]) -> None:
    shown = CliRunner().invoke(cli.app, [*command, "--help"])
    assert shown.exit_code == 0
    assert f"pipeline {' '.join(command)}" in shown.output.split("Example")[1]


def test_a_run_prints_state_gate_rows_headline_and_report(study_run: Path) -> None:
    shown = (study_run / "stdout.txt").read_text()
    for words in ("COMPLETED, gate GREEN", "rows read", "fiber_g_week in fixed_effects", "95 % CI", "report.html"):
        assert words in shown


def test_show_tells_steps_rows_and_estimates(study_run: Path) -> None:
    shown = pipeline("show", "last", cwd=study_run).stdout
    for words in ("features", "rows in", "mixed_effects", "report.html"):
        assert words in shown


def test_runs_as_json_is_a_list_of_objects_with_the_documented_keys(study_run: Path) -> None:
    listed = json.loads(pipeline("runs", "--json", cwd=study_run).stdout)
    assert {"run_id", "state", "gate", "started_at", "ended_at"} <= set(listed[0])
    assert listed[0]["state"] == "COMPLETED"


def test_show_as_json_is_the_manifest(study_run: Path) -> None:
    shown = json.loads(pipeline("show", "last", "--json", cwd=study_run).stdout)
    assert shown == json.loads((study_run / "runs" / shown["run_id"] / "manifest.json").read_text())


def test_a_report_is_the_same_when_it_is_rebuilt_from_the_bundle(study_run: Path, tmp_path: Path) -> None:
    shutil.copytree(study_run / "runs", tmp_path / "runs")
    path = tmp_path / pipeline("report", "last", cwd=tmp_path).stdout.strip()
    before = path.read_bytes()
    path.unlink()
    pipeline("report", "last", cwd=tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["show", "nope"], {}, "no run is 'nope'"),
        (["run", "--until", "nowhere"], {}, "has no step 'nowhere'"),
        (["run"], {"PIPELINE_THREADS": "many"}, "PIPELINE_THREADS is 'many'"),
        (["run"], {"PIPELINE_INPTU": "x"}, "did you mean PIPELINE_INPUT?"),
        (["run"], {"PIPELINE_LAKE": "s4://bucket"}, "PIPELINE_LAKE is 's4://bucket'"),
        (["run"], {"PIPELINE_APP": "nowhere:PIPELINE"}, "there is no module nowhere"),
        (["run"], {"PIPELINE_APP": "json:loads"}, "that is a function"),
        (["run", "--as-of", "yesterday"], {}, "yesterday"),
        (["nonsense"], {}, "nonsense"),
    ],
)
def test_wrong_use_is_exit_code_2_and_says_what_is_wrong(tmp_path: Path, arguments: list[str], environment: dict[str, str], words: str) -> None:
    done = pipeline(*arguments, cwd=tmp_path, **environment)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_contracts_check_names_every_problem_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("dataset: silver/a\ndescription: x\nowner: us\ncolour: red\ncolumns:\n  - {name: b, type: strin, description: x}\n")
    done = pipeline("contracts", "check", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "a.yaml:4" in done.stdout
    assert "a.yaml:6" in done.stdout


def test_the_studys_contracts_are_right(tmp_path: Path) -> None:
    done = pipeline("contracts", "check", cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "12 contracts are right")


def test_synthetic_data_of_the_same_seed_is_the_same(tmp_path: Path) -> None:
    for out in ("a", "b"):
        assert pipeline("synth", "--subjects", "5", "--weeks", "3", "--seed", "7", "--out", out, cwd=tmp_path).returncode == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def to_shell(command: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line in which PIPELINE stands for the command, in processes of their own."""
    command = command.replace("PIPELINE", f"{sys.executable} -c 'from pipeline.cli import main; main()'")
    quiet = {"PATH": "/usr/bin:/bin", "OPENLINEAGE_DISABLED": "true", "PIPELINE_TRACKING": "off"}
    return subprocess.run(["bash", "-c", command], cwd=cwd, env={**quiet, **environment}, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("closed", ["| true", ">&-", ">/dev/full", ">&- 2>&- <&-"])
def test_who_does_not_listen_gets_no_traceback(study_run: Path, closed: str) -> None:
    done = to_shell(f"PIPELINE show last {closed}", study_run)
    assert "Traceback" not in done.stderr
    assert ("can't be written" in done.stderr) == ("full" in closed)


def test_a_run_that_nobody_listens_to_is_a_completed_run(tmp_path: Path) -> None:
    done = to_shell("set -o pipefail; PIPELINE run --until weight 2>&- | true", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(pipeline("runs", "--json", cwd=tmp_path).stdout)[0]["state"] == "COMPLETED"


def test_a_terminal_of_another_encoding_gets_what_it_can_show(study_run: Path) -> None:
    shown = to_shell("set -o pipefail; PIPELINE show last | iconv -f latin1", study_run, PYTHONIOENCODING="latin-1:strict")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert json.loads(to_shell("PIPELINE show last --json", study_run, PYTHONIOENCODING="ascii:strict").stdout)["state"] == "COMPLETED"


def test_a_run_takes_the_runs_folder_as_the_other_commands_do(tmp_path: Path) -> None:
    assert pipeline("run", "--until", "weight", "--runs", "elsewhere", cwd=tmp_path, PIPELINE_TRACKING="off").returncode == 0
    assert len(json.loads(pipeline("runs", "--runs", "elsewhere", "--json", cwd=tmp_path).stdout)) == 1


def test_a_runs_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    shown = pipeline("runs", "--runs", "typo", cwd=tmp_path)
    assert (shown.returncode, "no folder typo" in shown.stdout) == (0, True)
    assert json.loads(pipeline("runs", "--runs", "typo", "--json", cwd=tmp_path).stdout) == []
