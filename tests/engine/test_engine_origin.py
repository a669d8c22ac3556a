"""What is known of a run before it starts: code, process, caller."""

import subprocess
from pathlib import Path

import pytest

from pipeline.engine import origin
from pipeline.settings import load


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def work_tree(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a.py").write_text("x = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "One")
    return tmp_path


def test_a_work_tree_tells_commit_branch_and_whether_it_is_dirty(work_tree: Path) -> None:
    clean = origin.code(work_tree)
    (work_tree / "a.py").write_text("x = 2\n")
    dirty = origin.code(work_tree)
    assert (clean.branch, clean.dirty, dirty.dirty) == ("main", False, True)
    assert (clean.root, clean.commit) == (work_tree, dirty.commit)
    assert len(str(clean.commit)) == 40


def test_a_lake_in_the_work_tree_does_not_make_it_dirty(work_tree: Path) -> None:
    (work_tree / "lake").mkdir()
    (work_tree / "lake" / "current.json").write_text("{}")
    assert origin.code(work_tree).dirty is False


def test_code_that_only_lies_below_a_repository_has_no_commit(work_tree: Path) -> None:
    (work_tree / ".gitignore").write_text("venv\n")
    installed = work_tree / "venv" / "pipeline"
    installed.mkdir(parents=True)
    (installed / "b.py").write_text("")
    assert origin.code(installed).commit is None


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("git@example.org:team/study.git", "https://example.org/team/study"),
        ("ssh://git@example.org/team/study", "https://example.org/team/study"),
        ("https://user:secret@example.org/team/study.git", "https://example.org/team/study"),
        ("/srv/study.git", None),
    ],
)
def test_a_remote_is_shown_as_a_browser_opens_it_without_its_secret(work_tree: Path, remote: str, shown: str | None) -> None:
    git(work_tree, "remote", "add", "origin", remote)
    assert origin.code(work_tree).repository == shown


def test_the_command_is_shown_without_folders_and_passwords() -> None:
    shown = origin.process(["/home/ann/study/.venv/bin/pipeline", "run", "--input", "/home/ann/study/data", "--lake", "s3://me:secret@bucket/x"]).command
    assert shown == "pipeline run --input …/data --lake s3://**********@bucket/x"


def test_a_lineage_parent_is_taken_apart_from_the_right() -> None:
    caller = origin.caller(load({"OPENLINEAGE_PARENT_ID": "my/name/space/daily.load/0190-x"}))
    assert caller.openlineage_parent == ("my/name/space", "daily.load", "0190-x")
    assert origin.caller(load({"OPENLINEAGE_PARENT_ID": "nonsense"})).openlineage_parent is None


def test_a_git_hook_that_starts_the_run_does_not_lend_its_repository(
    work_tree: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("GIT_DIR", str(work_tree / ".git"))
    assert origin.code(elsewhere).commit is None
