"""Runs whose clock is set back: nothing of what they leave is of today, and their ids sort by their dates."""

import json
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import names
from pipeline.engine.lake import Lake
from pipeline.errors import UsageError
from pipeline.records import Run, State
from pipeline.telemetry import bundle, identity, reaper
from pipeline.testing import logs, spans
from tests.engine.engine_support import write_source

Go = Callable[..., Run]
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?")
NUMBER = re.compile(r"(?<![\w.-])\d{10,19}(?:\.\d+)?(?![\w.])")
UUID_7 = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}-?[0-9a-f]{4}-?7[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}(?![0-9a-f])")


@pytest.fixture
def go(go: Go) -> Go:
    """The same, and quiet."""
    return partial(go, log_level="error")


def moments(text: str) -> list[float]:
    """All that can be read as a moment in a text, in seconds since the epoch: ISO times, numbers of s, ms, µs or ns, and ids."""
    found = [datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() for each in ISO.findall(text)]
    numbers = [float(each) for each in NUMBER.findall(text)]
    found += [number / scale for number in numbers for scale in (1, 1e3, 1e6, 1e9)]
    return found + [identity.started_ns(uuid.UUID(each)) / 1e9 for each in UUID_7.findall(text)]


def of_today(folder: Path, since: float) -> dict[str, list[str]]:
    """The moments since then in any file of a bundle, by file. `delivery.json` is left out: it says when something was sent."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "delivery.json"]
    assert len(files) >= 7
    late = {path.name: [each for each in moments(path.read_text("utf-8")) if since - 2 <= each <= time.time() + 2] for path in files}
    return {name: [datetime.fromtimestamp(each, UTC).isoformat() for each in found] for name, found in late.items() if found}


def test_the_search_for_moments_finds_those_of_a_run_of_today(go: Go) -> None:
    since = time.time()
    run = go()
    assert {"manifest.json", "traces.jsonl", "metrics.jsonl", "logs.jsonl", "lineage.ndjson", "report.html"} <= of_today(run.bundle, since).keys()


@given(back=st.timedeltas(timedelta(hours=1), timedelta(days=4_000)))
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_in_the_bundle_of_a_dated_run_is_of_today(go: Go, back: timedelta) -> None:
    since, folder = time.time(), Path(tempfile.mkdtemp(dir="."))
    run = go(at=datetime.now(UTC) - back, runs=folder / "runs", lake=str(folder / "lake"))
    assert run.state is State.COMPLETED
    assert of_today(run.bundle, since) == {}
    published = datetime.fromisoformat(Lake(str(folder / "lake")).current()["published_at"])
    assert timedelta(0) <= published - (datetime.fromtimestamp(since, UTC) - back) < timedelta(seconds=60)


def test_a_dated_run_that_fails_is_of_its_day_too(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_RAISES", "1")
    since = time.time()
    run = go(at=datetime.now(UTC) - timedelta(days=3))
    assert run.failure is not None
    assert of_today(run.bundle, since) == {}


def test_what_a_step_s_code_logs_and_adds_to_its_span_is_of_the_run_s_day(go: Go, app: Path) -> None:
    code = (app / "small_app.py").read_text()
    lines = ["import logging", "from opentelemetry import trace", "trace.get_current_span().add_event('seen')", "logging.getLogger('app').warning('said')"]
    begin = "def total(features):\n"
    (app / "small_app.py").write_text(code.replace(begin, begin + "".join(f"    {line}\n" for line in lines)))
    since = time.time()
    run = go(at=datetime.now(UTC) - timedelta(days=3))
    (span,) = [span for span in spans(run.bundle) if span["name"] == "total"]
    (event,) = span["events"]
    assert int(span["startTimeUnixNano"]) <= int(event["timeUnixNano"]) <= int(span["endTimeUnixNano"])
    assert "app" in {entry["attributes"].get(names.LOGGER.name) for entry in logs(run.bundle)}
    assert of_today(run.bundle, since) == {}


def test_ids_sort_by_the_runs_dates_in_whichever_order_they_were_made(go: Go) -> None:
    now = datetime.now(UTC)
    runs = {back: go(at=now - timedelta(days=back)) for back in (2, 9, 5)}
    live = go()
    assert [found.id for found in bundle.list_bundles(Path("runs"))] == [str(run.id) for run in (live, runs[2], runs[5], runs[9])]


def test_a_dated_run_says_how_far_its_clock_was_set_back_and_another_does_not(go: Go) -> None:
    dated, live = (json.loads((run.bundle / "manifest.json").read_text()) for run in (go(at=datetime.now(UTC) - timedelta(days=3)), go()))
    assert dated["clock_offset_seconds"] == pytest.approx(-3 * 86_400, abs=60)
    assert live["clock_offset_seconds"] is None
    assert "set back by 72 h 0 min" in (Path("runs") / dated["run_id"] / "report.html").read_text()


def test_what_a_dated_run_took_is_what_it_took(go: Go) -> None:
    started = time.monotonic()
    run = go(at=datetime.now(UTC) - timedelta(days=3))
    assert 0 < ((run.ended_ns or 0) - run.started_ns) / 1e9 <= time.monotonic() - started


def test_the_share_of_successes_of_a_dated_run_counts_no_later_ones(go: Go, app: Path) -> None:
    now = datetime.now(UTC)
    go(at=now - timedelta(days=2))
    assert go(at=now - timedelta(days=9)).success_share_20 == 1
    write_source(app, "weight", "weight", [])  # has no column weight_kg
    assert go(at=now - timedelta(days=5)).success_share_20 == 0.5


def test_a_dated_run_that_was_killed_ended_on_its_day(go: Go) -> None:
    run = go(at=datetime.now(UTC) - timedelta(days=3))
    dead = dict(json.loads((run.bundle / "manifest.json").read_text()), state="RUNNING", ended_at=None)
    (run.bundle / "manifest.json").write_text(json.dumps(dead))
    (run.bundle / "run.lock").touch()
    (lost,) = reaper.reap(Path("runs"))
    assert lost.manifest["state"] == "LOST"
    assert 0 <= lost.manifest["seconds"] < 60
    shutil.rmtree(run.bundle)


@pytest.mark.parametrize("at", [datetime(2026, 1, 1), datetime(9000, 1, 1, tzinfo=UTC)])  # noqa: DTZ001 - that is the point
def test_a_run_at_no_moment_that_has_been_leaves_nothing(go: Go, at: datetime) -> None:
    with pytest.raises(UsageError):
        go(at=at)
    assert not Path("runs").exists()
