"""Folders for files of a lake that is elsewhere: for their user alone, and gone with the run, or with the next one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engine.lake_workplace import base, workplace
from pipeline.errors import LakeError


def test_a_workplace_is_for_its_user_alone_and_goes_with_the_block(tmp_path: Path) -> None:
    below = base(tmp_path / "staging")
    with workplace(below, "run") as folder:
        (folder / "x").write_bytes(b"x")
        assert (below.stat().st_mode & 0o777, below.name) == (0o700, f"goldtrace-{os.getuid()}")
    assert not folder.exists()


def test_one_in_use_stays_and_one_of_a_killed_process_goes(tmp_path: Path) -> None:
    script = f"""
import os, pathlib
from pipeline.engine.lake_workplace import workplace
with workplace(pathlib.Path({str(tmp_path / "w")!r}), "killed") as folder:
    (folder / "x").write_bytes(b"x")
    os.kill(os.getpid(), {signal.SIGKILL})
"""
    with workplace(tmp_path / "w", "living") as living:
        subprocess.run([sys.executable, "-c", script], check=False)
        assert (tmp_path / "w" / "killed" / "x").exists()
        with workplace(tmp_path / "w", "next"):
            assert not (tmp_path / "w" / "killed").exists()
            assert living.exists()


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "w").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LakeError, match="belongs to another user"), workplace(tmp_path / "w", "run"):
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_without_a_setting_it_is_where_temporary_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "from pipeline.engine.lake_workplace import base; print(base(None).parent)"
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path)
