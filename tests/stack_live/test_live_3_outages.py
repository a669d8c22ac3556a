"""Nothing is lost and nothing is there twice, whatever stops in between; and the doctor names it meanwhile."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.stack_live.ledger import expect_all
from tests.stack_live.live_support import PROJECT, LiveStack, wait_until

pytestmark = pytest.mark.stack
# A short run: all signals, little work.
SHORT = ("--until", "weight")
# What a service keeps from being judged.
BLOCKED = {"collector": {"prometheus", "loki", "jaeger", "alertmanager"}, "prometheus": {"alertmanager"}}
# Hops that may be broken along: without its database Marquez is, though its stand-in has none.
SERVICES = ("loki", "jaeger", "prometheus", "collector", "marquez", "postgres", "alertmanager", "reports", "grafana", "marquez-web")


def test_a_restart_of_the_collector_loses_nothing_and_repeats_nothing(stack: LiveStack, three_runs: dict[str, str]) -> None:
    stack.compose("restart", "collector")
    stack.run(*SHORT)
    expect_all(stack)


def test_a_collector_that_is_killed_in_the_middle_of_a_run_loses_nothing(stack: LiveStack, three_runs: dict[str, str], tell: list[str]) -> None:
    before = stack.ids()
    running = stack.begin_run()
    wait_until(lambda: any((path / "traces.jsonl").exists() for path in _new(stack, before)), 60, "a span of the run")
    stack.compose("kill", "--signal", "KILL", "collector")
    was_running = running.poll() is None
    time.sleep(1)
    stack.compose("start", "collector")
    assert running.wait(timeout=120) == 0
    assert was_running, "the run was over before the collector was killed"
    tell.append(f"all there after the collector was killed in a run and the run's end: {expect_all(stack, 60):.1f} s")


def _new(stack: LiveStack, before: set[str]) -> list[Path]:
    return [path for path in stack.runs.iterdir() if path.name not in before and (path / "manifest.json").exists()]


def test_a_collector_that_is_killed_over_and_over_repeats_nothing(stack: LiveStack, three_runs: dict[str, str]) -> None:
    for _ in range(3):
        stack.compose("kill", "--signal", "KILL", "collector")
        stack.compose("start", "collector")
        stack.run(*SHORT)
    expect_all(stack, 60)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_stops_is_named_and_gets_everything_once_it_is_back(stack: LiveStack, three_runs: dict[str, str], tell: list[str], service: str) -> None:
    stack.compose("stop", "--timeout", "10", service)
    found = stack.doctor()
    hops = {hop["name"]: hop for hop in found["hops"]}
    assert {name for name, hop in hops.items() if hop["state"] == "broken"} == {service}, found["hops"]
    assert {name for name, hop in hops.items() if hop["state"] == "blocked"} == BLOCKED.get(service, set())
    assert {hop["because"] for hop in hops.values() if hop["state"] == "blocked"} <= {service}
    assert "exited" in hops[service]["reason"]
    part = "lineage" if service.startswith(("marquez", "postgres")) else "obs"
    assert hops[service]["mend"] == f"make {part}.up"
    run = stack.run(*SHORT)
    mended = stack.command("stack", "up", "--part", part)
    assert mended.returncode == 0, mended.stderr
    tell.append(f"all there after an outage of {service}: {expect_all(stack, 90):.1f} s after it was ready")
    if service == "marquez":
        wait_until(lambda: stack.get("MARQUEZ_PORT", f"/api/v1/jobs/runs/{run}")["state"] == "COMPLETED", 20, "the run's lineage")


def test_the_stack_is_well_again_and_has_the_older_runs(stack: LiveStack, three_runs: dict[str, str]) -> None:
    found = stack.doctor()
    assert found["ok"], found["hops"]
    assert {finding["name"]: finding["state"] for finding in found["preflight"]}["older"] == "ok"


def test_what_is_stored_outlives_down_and_up(stack: LiveStack, three_runs: dict[str, str]) -> None:
    volumes = _volumes()
    assert len(volumes) == 7
    down = stack.command("stack", "down")
    assert down.returncode == 0, down.stderr
    assert stack.compose("ps", "--all", "--quiet") == ""
    assert _volumes() == volumes
    up = stack.command("stack", "up")
    assert up.returncode == 0, up.stderr
    since = time.time()
    expect_all(stack)
    # The collector's offsets were kept as well: what is there was kept, and not read again. It is asked once Prometheus has scraped it anew.
    wait_until(lambda: stack.prometheus(f"timestamp(otelcol_process_uptime) > {since}"), 60, "the collector's own metrics")
    assert not stack.prometheus(f'otelcol_receiver_accepted_log_records{{transport="file"}} > 0 and timestamp(otelcol_receiver_accepted_log_records) > {since}')
    # Marquez's stand-in keeps nothing; `up` has told it all once more.
    assert {stack.get("MARQUEZ_PORT", f"/api/v1/jobs/runs/{run}")["id"] for run in three_runs.values()} == set(three_runs.values())


def _volumes() -> set[str]:
    """The volumes of the stack."""
    words = ["docker", "volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}"]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
