"""What the documents show is run as it stands there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app


def test_your_own_pipeline_runs_as_its_page_says(documents: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = documents["docs/your-own-pipeline.md"].blocks
    _write_files(blocks, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_TRACKING", "off")
    monkeypatch.setattr("sys.path", list(sys.path))  # the command adds the working folder
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    check, run, show = (shlex.split(line)[1:] for line in _only(blocks, "sh").splitlines())
    assert _command(check) == "4 contracts are right\n"
    assert re.search(r"COMPLETED.*YELLOW", _command(run), re.DOTALL | re.IGNORECASE)
    assert re.search(r"\bsummary\b", _command(show))
    printed = subprocess.run([sys.executable, "-c", _only(blocks, "python run")], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert printed == _only(blocks, "text output")


def test_your_own_pipeline_takes_thirty_lines_of_python(documents: Any) -> None:
    code = _only(documents["docs/your-own-pipeline.md"].blocks, "python file=shop/__init__.py")
    assert len([line for line in code.splitlines() if line.strip()]) <= 30


def test_the_commands_of_the_quickstart_work_in_their_order(documents: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_TRACKING", "off")
    shell = "\n".join(block.text for block in documents["docs/quickstart.md"].blocks if block.info == "sh")
    commands = [words[1:] for line in shell.splitlines() if (words := shlex.split(line, comments=True)) and words[0].endswith("pipeline")]
    assert [words[0] for words in commands] == ["run", "synth", "run", "runs", "show", "show", "report"]
    small = ["synth", "--subjects", "12", "--weeks", "8"]
    for words in ([*small, "--out", "my/folder"], *commands):
        _command([*small, *words[words.index("--seed") :]] if words[:2] == ["synth", "--subjects"] and "--seed" in words else words)
    for block in documents["docs/quickstart.md"].blocks:
        if block.info == "python" and "quarantine" not in block.text:
            exec(compile(block.text, "docs/quickstart.md", "exec"), {})


def _write_files(blocks: list[Any], folder: Path) -> None:
    for block in blocks:
        if match := re.search(r"file=(\S+)", block.info):
            path = folder / match[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")


def _only(blocks: list[Any], info: str) -> str:
    (text,) = (block.text for block in blocks if block.info == info)
    return str(text)


def _command(words: list[str]) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"pipeline {' '.join(words)}: {done.output} {done.exception}"
    return done.stdout
