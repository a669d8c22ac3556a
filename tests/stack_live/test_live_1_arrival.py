"""Runs arrive: live ones, a failed one, one of three days ago; each record once, within two seconds, and found by the doctor."""

import json
import os
import time
from collections.abc import Iterable
from itertools import pairwise

import pytest

from pipeline import names
from pipeline.testing import metrics, spans
from tests.stack_live.ledger import Ledger, differences, expect_all, held_lines, held_samples, held_spans
from tests.stack_live.live_support import LiveStack

pytestmark = pytest.mark.stack
# The target is 2 s; on a machine that does other things too, nothing more can be asked than this many times that.
BUSY = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
SERVICES = {"postgres", "collector", "prometheus", "loki", "jaeger", "alertmanager", "marquez", "marquez-web", "reports", "grafana"}


def test_every_service_is_up_from_nothing(stack: LiveStack) -> None:
    listed = json.loads(stack.command("stack", "status", "--json").stdout)
    running = {each["service"] for each in listed if each["state"] == "running"}
    assert running == SERVICES


def test_a_second_up_changes_nothing(stack: LiveStack) -> None:
    before = stack.compose("ps", "--format", "{{.ID}} {{.RunningFor}}").split()[::2]
    again = stack.command("stack", "up")
    assert again.returncode == 0
    assert "nothing was changed" in again.stdout
    assert "archived" not in again.stdout
    assert stack.compose("ps", "--format", "{{.ID}} {{.RunningFor}}").split()[::2] == before


def test_a_run_that_was_archived_before_the_first_start_is_in_every_server(stack: LiveStack) -> None:
    (folder,) = (stack.runs / "archive").iterdir()
    assert json.loads((folder / "delivery.json").read_text())["telemetry"]["state"] == "delivered"
    expect_all(stack)
    ledger, run = Ledger(stack.runs), folder.name
    assert held_spans(stack, run) == ledger.spans(run) != {}
    (finished,) = [record for record in ledger.records("run.finished") if record["run"] == run]
    assert (finished["time"], finished["body"]) in held_lines(stack, run)
    (success,) = metrics(folder)[names.LAST_RUN_SUCCESS.name]
    held = [at for series, values in held_samples(stack).items() for at in values if series[0] == "goldtrace_last_run_success"]
    assert int(success["timeUnixNano"]) // 1_000_000 in held


def test_the_servers_hold_what_three_runs_say_and_nothing_else(stack: LiveStack, three_runs: dict[str, str]) -> None:
    manifests = Ledger(stack.runs).bundles()
    states = {name: (manifests[run]["state"], manifests[run]["gate"]) for name, run in three_runs.items()}
    assert states == {"completed": ("COMPLETED", "GREEN"), "red": ("FAILED", "RED"), "dated": ("COMPLETED", "GREEN")}
    assert differences(stack) == []


def test_marquez_has_every_run_with_its_state(stack: LiveStack, three_runs: dict[str, str]) -> None:
    states = {name: stack.get("MARQUEZ_PORT", f"/api/v1/jobs/runs/{run}")["state"] for name, run in three_runs.items()}
    assert states == {"completed": "COMPLETED", "red": "FAILED", "dated": "COMPLETED"}
    assert stack.get("MARQUEZ_PORT", "/warnings")["totalCount"] == 0


def test_every_signal_is_searchable_within_two_seconds(stack: LiveStack, three_runs: dict[str, str], tell: list[str]) -> None:
    """From the end of a span, the time of a log record and of a sample, until a search from outside of the run finds it."""
    before, found, looks = stack.ids(), _nothing_found(), [time.monotonic()]
    running = stack.begin_run()
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (running.poll() is None or differences(stack)):
            for run in {path.name for path in stack.folders()} - before:
                _note(found["span"], held_spans(stack, run))
                _note(found["log record"], held_lines(stack, run))
            _note(found["sample"], (at for values in held_samples(stack).values() for at in values))
            looks.append(time.monotonic())
    finally:
        running.kill()
        running.wait()
    (run,) = stack.ids() - before
    ledger, ends = Ledger(stack.runs), {span["spanId"]: int(span["endTimeUnixNano"]) / 1e9 for span in spans(stack.runs / run)}
    began = min(int(span["startTimeUnixNano"]) for span in spans(stack.runs / run)) / 1e6
    slowest = {
        "span": max(found["span"][span] - ended for span, ended in ends.items()),
        "log record": max(found["log record"][line] - line[0] / 1e9 for line in ledger.lines(run)),
        "sample": max(seen - at / 1000 for at, seen in found["sample"].items() if at > began),
    }
    gap = max(later - earlier for earlier, later in pairwise(looks))  # what comes just after a look can't be found before the next
    tell.append("slowest from its own time to being found: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in slowest.items()))
    tell.append(f"longest time between two looks: {gap:.2f} s")
    assert all(0 < seconds < BUSY * 2 + gap for seconds in slowest.values()), (slowest, gap)


def _nothing_found() -> dict[str, dict[object, float]]:
    return {"span": {}, "log record": {}, "sample": {}}


def _note(known: dict[object, float], there: Iterable[object]) -> None:
    now = time.time()
    for each in there:
        known.setdefault(each, now)


def test_the_doctor_finds_its_run_everywhere(stack: LiveStack, three_runs: dict[str, str], tell: list[str]) -> None:
    found = stack.doctor()
    assert {hop["name"]: hop["state"] for hop in found["hops"]} == dict.fromkeys({"run", *SERVICES}, "ok"), found["hops"]
    health = {finding["name"]: finding["state"] for finding in found["preflight"]}
    # Grafana's stand-in says that it is one. A run is old enough to be looked for after a minute.
    assert {name: state for name, state in health.items() if state != "ok" and name != "older"} == {"versions": "warn"}, found["preflight"]
    assert health["older"] in ("ok", "skipped")
    tell.append("doctor, from the run's end: " + ", ".join(f"{hop['name']} {hop['seconds']:.2f} s" for hop in found["hops"] if hop["seconds"]))


def test_the_doctors_runs_are_in_no_dashboard_and_only_the_last_are_kept(stack: LiveStack, three_runs: dict[str, str]) -> None:
    for _ in range(3):
        assert stack.doctor()["ok"]
    kept = [path for path in stack.folders() if path.name not in stack.ids()]
    assert len(kept) == 3
    assert differences(stack) == []
    names = stack.get("PROMETHEUS_PORT", "/api/v1/label/service_namespace/values", **{"match[]": 'goldtrace_runs_total{deployment_environment_name!="canary"}'})
    assert names["data"] == ["potato"]
