"""What the doctor says of runs from before: whether the servers still have them, past all that is damaged."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline import api
from pipeline.records import Run
from pipeline.settings import load
from pipeline.stack import doctor_canary
from pipeline.stack.doctor_look import Containers
from pipeline.stack.doctor_older import check_older
from pipeline.stack.doctor_preflight import Finding, Health
from pipeline.telemetry import bundle
from tests.stack.doctor_support import NO_ENGINE, FakeStack, diagnose, fake_stack

SERVERS = ("jaeger", "loki", "prometheus")


def tear(folder: Path) -> None:
    """A line in the middle that was cut off."""
    path = folder / bundle.TRACES
    path.write_text('{"resourceSpans": [{"sco\n' + path.read_text())


def replace_line(folder: Path) -> None:
    """JSON that is no telemetry."""
    (folder / bundle.TRACES).write_text("[]\n")


def cut_manifest(folder: Path) -> None:
    path = folder / bundle.MANIFEST
    path.write_text(path.read_text()[:100])


def drop_root_span(folder: Path) -> None:
    """A gap, as the runner itself would leave one."""
    path = folder / bundle.TRACES
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if not _has_root(line)))


def _has_root(line: str) -> bool:
    groups = json.loads(line)["resourceSpans"]
    return any(not span.get("parentSpanId") for group in groups for scope in group["scopeSpans"] for span in scope["spans"])


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Run]:
    """A folder of runs, and the two in it: of two hours ago, and of one."""
    folder = tmp_path_factory.mktemp("older")
    environ = {"PIPELINE_RUNS": str(folder / "runs"), "PIPELINE_LAKE": str(folder / "lake"), "PIPELINE_TRACKING": "off", "OPENLINEAGE_DISABLED": "true"}
    settings, now = load(environ, dotenv=folder / "no.env"), datetime.now(UTC)
    older, newer = (api.run(doctor_canary.canary_pipeline(), at=now - timedelta(hours=hours), settings=settings) for hours in (2, 1))
    return folder / "runs", older, newer


@pytest.fixture
def runs(tmp_path: Path, two_runs: tuple[Path, Run, Run]) -> Path:
    """The folder for one test to damage."""
    return Path(shutil.copytree(two_runs[0], tmp_path / "runs"))


@pytest.fixture
def older(two_runs: tuple[Path, Run, Run]) -> Run:
    return two_runs[1]


@pytest.fixture
def newer(two_runs: tuple[Path, Run, Run]) -> Run:
    return two_runs[2]


def check(stack: FakeStack, containers: Containers = NO_ENGINE) -> Finding:
    return check_older(stack.settings, containers, SERVERS)


def test_an_older_run_that_every_server_has_is_well(runs: Path, older: Run) -> None:
    with fake_stack(runs) as stack:
        found = check(stack)
    began = datetime.fromtimestamp(older.started_ns / 1e9, UTC)
    assert (found.health, found.detail) == (Health.OK, f"run {older.id} of {began:%H:%M} UTC is in jaeger, loki, prometheus too")


def test_data_that_was_deleted_without_the_offsets_is_told_and_breaks_nothing(runs: Path, older: Run) -> None:
    with fake_stack(runs, loki="forgetful") as stack:
        found = diagnose(stack)
    finding = next(finding for finding in found.preflight if finding.name == "older")
    assert found.is_well
    assert finding.health is Health.WARN
    assert finding.detail.startswith(f"run {older.id} of ")
    assert " is not in loki, where the canary is" in finding.detail


def test_what_brings_old_runs_back_forgets_the_offsets_alone_and_says_what_a_reset_takes_along(runs: Path) -> None:
    podman = Containers(engine="podman 5", compose="podman compose -f compose/obs.yaml", volumes={"collector-data": "second_collector-data"})
    with fake_stack(runs, loki="forgetful") as stack:
        without, mend = check(stack).mend, check(stack, podman).mend
    milder, _, reset = mend.partition("make obs.reset")
    assert milder.startswith(
        "podman compose -f compose/obs.yaml rm --stop --force collector volumes, then podman volume rm second_collector-data, then make obs.up"
    )
    assert "MLflow's experiments and models too, which can't be had back" in reset
    assert "docker volume rm goldtrace_collector-data" in without


@pytest.mark.parametrize("damage", [tear, replace_line, cut_manifest])
def test_a_damaged_bundle_is_named_and_the_next_one_is_looked_for(runs: Path, older: Run, newer: Run, damage: Callable[[Path], None]) -> None:
    damage(runs / str(older.id))
    with fake_stack(runs) as stack:
        found = check(stack)
    assert found.health is Health.WARN
    assert found.detail.startswith(f"run {newer.id} of ")
    assert found.detail.endswith(f" is in jaeger, loki, prometheus too; the bundle of run {older.id} is damaged or can't be read")


def test_a_diagnosis_outlives_damage_though_no_other_run_is_left(runs: Path, older: Run, newer: Run) -> None:
    tear(runs / str(older.id))
    cut_manifest(runs / str(newer.id))
    with fake_stack(runs) as stack:
        found = diagnose(stack)
    finding = next(finding for finding in found.preflight if finding.name == "older")
    assert found.is_well
    assert (finding.health, finding.mend) == (Health.WARN, "")
    assert finding.detail == f"no run of the last day to look for; the bundle of run {older.id} (and 1 more) is damaged or can't be read"


def test_a_run_whose_bundle_has_gaps_is_passed_over_without_a_word(runs: Path, older: Run, newer: Run) -> None:
    drop_root_span(runs / str(older.id))
    with fake_stack(runs) as stack:
        found = check(stack)
    assert found.health is Health.OK
    assert found.detail.startswith(f"run {newer.id} of ")


def test_a_server_that_talks_nonsense_now_says_nothing_of_older_runs(runs: Path) -> None:
    with fake_stack(runs, prometheus="nonsense") as stack:
        assert check(stack).health is Health.OK
