"""The benchmark still measures what it says, tiny and once: its figures are not looked at, but there they have to be."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.bundles import FRAMES
from pipeline.study import PIPELINE

pytestmark = pytest.mark.slow

PROGRAMS = {"floor", "transforms", "run without telemetry", "run"}


@pytest.fixture(scope="module")
def measured(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The figures and the page of a small benchmark."""
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "bench", "--smoke", "--cache", str(folder), "--out", str(folder / "found.json")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.name for path in folder.iterdir() if path.name.startswith("goldtrace-bench-")] == [], "the scratch folder is left behind"
    return json.loads((folder / "found.json").read_text()), done.stdout


def test_each_program_is_timed_against_the_floor(measured: tuple[dict[str, Any], str]) -> None:
    (size,) = measured[0]["size"].values()

    assert set(size["timings"]) == set(size["ratios"]) == PROGRAMS
    assert all(timing["wall"] > 0 and timing["cpu"] > 0 and timing["peak"] > 10 for timing in size["timings"].values())
    assert size["ratios"]["floor"] == 1
    assert size["telemetry"] > 0
    assert set(size["rows"]) == {contract.dataset for contract in PIPELINE.contracts.values() if contract.pattern}


def test_the_parts_of_the_sample_run_add_up_to_its_wall_time(measured: tuple[dict[str, Any], str]) -> None:
    sample = measured[0]["sample"]
    whole = {name: seconds for name, seconds in sample["parts"].items() if not name.startswith("in ")}

    assert {f"step {step.name}" for step in PIPELINE.steps} <= set(whole)
    assert sum(whole.values()) == pytest.approx(sample["wall"], abs=0.1)
    assert min(whole.values()) >= 0
    assert sample["imports"]["total"] > sample["imports"]["pandas"] > 0


def test_every_frame_has_rows_of_all_copied_bundles(measured: tuple[dict[str, Any], str]) -> None:
    bundles = measured[0]["bundles"]

    assert set(bundles["frames"]) == set(FRAMES)
    assert bundles["frames"]["runs"]["rows"] == bundles["opened"] == 3
    assert bundles["frames"]["steps"]["rows"] == 3 * len(PIPELINE.steps)
    assert all(frame["rows"] for frame in bundles["frames"].values())


def test_mlflows_stores_are_compared_or_it_is_said_why_not(measured: tuple[dict[str, Any], str]) -> None:
    found = measured[0]["experiments"]

    if "skipped" in found:
        assert f"Not measured: {found['skipped']}" in measured[1]
        pytest.skip(found["skipped"])
    assert {"create_run", "log_batch of 1,000 metrics", "search by a metric", "search by a tag"} <= set(found["calls"])
    assert all(taken["sqlite"] > 0 and taken["dynamodb"] > 0 for taken in found["calls"].values())


def test_the_page_has_a_section_for_each_part_with_its_targets(measured: tuple[dict[str, Any], str]) -> None:
    page = measured[1]

    assert all(
        heading in page for heading in ("diary lines", "### The sample", "### Many bundles", "### `import pipeline`", "### MLflow's store in DynamoDB Local")
    )
    assert "≤ 2.0" in page
    assert "≤ 3.0" in page
    assert "revision" in page.splitlines()[0]
