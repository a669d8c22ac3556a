"""Bundles as DataFrames: they agree with the files, join by ids, and cope with what killed runs leave."""

import json
from pathlib import Path

from pipeline.report.frames import Runs

FRAMES = ("runs", "steps", "datasets", "estimates", "spans", "logs", "checks", "lineage")


def test_a_folder_without_runs_gives_empty_frames_with_their_columns(tmp_path: Path) -> None:
    for name in FRAMES:
        frame = getattr(Runs(tmp_path), name)
        assert len(frame) == 0
        assert "run_id" in frame.columns, name


def test_the_frames_of_a_run_agree_with_its_bundle_and_join(study_run: Path) -> None:
    runs = Runs(study_run / "runs")
    run_id = runs.runs["run_id"].iloc[-1]
    manifest = json.loads((study_run / "runs" / run_id / "manifest.json").read_text())
    assert list(runs.steps["step"]) == [step["name"] for step in manifest["steps"]]
    assert list(runs.datasets["version"]) == [output["version"] for output in manifest["outputs"]]
    assert list(runs.estimates["term"]) == [estimate["term"] for estimate in manifest["estimates"]]
    assert len(runs.checks) == sum(manifest["checks"][outcome] for outcome in ("passed", "failed", "quarantined"))
    assert set(runs.spans["trace_id"]) == {manifest["trace_id"]}
    assert set(runs.logs["trace_id"]) == {manifest["trace_id"]}
    assert {step["span_id"] for step in manifest["steps"]} <= set(runs.spans["span_id"])
    assert {step["id"] for step in manifest["steps"]} <= set(runs.lineage["job_run_id"])
    for name in FRAMES:
        assert set(getattr(runs, name)["run_id"]) == {run_id}, name


def test_half_a_line_of_a_killed_run_is_left_out(study_run: Path, tmp_path: Path) -> None:
    source = next(path for path in (study_run / "runs").iterdir() if (path / "manifest.json").exists())
    copy = tmp_path / source.name
    copy.mkdir()
    for path in source.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    whole = len(Runs(tmp_path).spans)
    with (copy / "traces.jsonl").open("a") as file:
        file.write('{"resourceSpans": [{"scopeSp')
    assert len(Runs(tmp_path).spans) == whole
