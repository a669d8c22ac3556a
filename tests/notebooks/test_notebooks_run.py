"""The notebooks are committed without output, and run from top to bottom on a lake that has just been made."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = ("01_study.ipynb", "02_runs.ipynb")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_without_output(root: Path, name: str) -> None:
    cells = json.loads((root / "notebooks" / name).read_text())["cells"]
    assert not [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_shows_no_subject(root: Path, study_run: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PIPELINE_LAKE", str(study_run / "lake"))
    monkeypatch.setenv("PIPELINE_RUNS", str(study_run / "runs"))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(root / "notebooks" / name, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(study_run)}}).execute()
    shown = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    assert "subject_id" not in shown
    assert '"image/png"' in shown
