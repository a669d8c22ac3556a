"""The doctor against small real HTTP servers that know the bundles: every hop that is broken is named, and nothing else."""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import BackendError, LakeError
from pipeline.stack import doctor_canary, doctor_preflight
from pipeline.stack.doctor import Diagnosis, examine
from pipeline.stack.doctor_hops import HOPS, pins
from pipeline.stack.doctor_http import ask
from pipeline.stack.doctor_look import Box, Containers, Look
from pipeline.stack.doctor_preflight import Health
from pipeline.stack.doctor_probes import Wanted
from pipeline.stack.doctor_text import diagnosis_json, diagnosis_text
from pipeline.stack.doctor_verdict import Found, Seen, judge
from pipeline.telemetry import bundle, delivery
from pipeline.testing import logs, metrics, spans
from tests.stack.doctor_support import NO_ENGINE, FakeStack, boxes, diagnose, fake_stack

ASKED = [hop.name for hop in HOPS if hop.probe is not None]
# Long enough on a busy machine for all that is there, and waited for in full by what is not.
SHORT = 6.0
# For what is judged alike however little of the run has arrived.
QUICK = 0.5
# What can't be judged while another hop is broken.
BLOCKED = {"collector": {"prometheus", "loki", "jaeger", "alertmanager"}, "prometheus": {"alertmanager"}}


def healths(found: Diagnosis) -> dict[Health, set[str]]:
    return {health: {verdict.hop for verdict in found.verdicts if verdict.health is health} for health in Health}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether lineage arrives is not left to how busy the machine is."""
    monkeypatch.setattr(delivery, "SECONDS", 60.0)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


# ---------------------------------------------------------------------------------------------- hops


def test_a_stack_that_has_the_run_everywhere_is_well_with_a_latency_for_each_hop_that_a_run_arrives_at(runs: Path) -> None:
    with fake_stack(runs, loki="delayed") as stack:
        found = diagnose(stack)
    found.expect_well()
    assert found.is_well
    assert healths(found)[Health.OK] == {"run", *ASKED}
    seconds = {verdict.hop: verdict.seconds for verdict in found.verdicts if verdict.seconds is not None}
    assert set(seconds) == {"prometheus", "loki", "jaeger", "alertmanager", "marquez", "reports"}
    assert 0.4 <= seconds["loki"] < 10
    assert all(0 < each < 10 for each in seconds.values())


@pytest.mark.parametrize("service", ASKED)
def test_a_server_that_does_not_answer_is_named_with_the_reason_and_what_starts_it(runs: Path, service: str) -> None:
    with fake_stack(runs, **{service: "stopped"}) as stack:
        found = diagnose(stack)
    (broken,) = found.broken
    assert broken.hop == service
    assert broken.reason.startswith("connection refused at http://127.0.0.1:")
    assert broken.mend == ("make lineage.up" if service.startswith("marquez") else "make obs.up")
    assert healths(found)[Health.BLOCKED] == BLOCKED.get(service, set())
    with pytest.raises(BackendError, match=f"broken at {service}$") as raised:
        found.expect_well()
    assert raised.value.hint == broken.mend


@pytest.mark.slow
def test_a_run_that_is_there_in_part_is_not_there(runs: Path) -> None:
    modes = {**dict.fromkeys(("loki", "alertmanager", "marquez", "reports"), "partial"), "jaeger": "partial", "grafana": "empty"}
    with fake_stack(runs, **modes) as stack:
        reasons = {verdict.hop: verdict.reason for verdict in diagnose(stack, timeout=SHORT).broken}
    (newest,) = bundle.list_bundles(runs)
    records, parts = len(logs(newest.path)), len(spans(newest.path))
    assert reasons == {
        "loki": f"{records - 1} of {records} log records after {SHORT:g} s",
        "jaeger": f"{parts - 1} of {parts} spans after {SHORT:g} s",
        "alertmanager": f"GoldtraceCanary is about an earlier run after {SHORT:g} s",
        "marquez": f"its state is RUNNING after {SHORT:g} s",
        "reports": f"the page is not the run's report after {SHORT:g} s",
        "grafana": f"no datasource prometheus, loki, jaeger, alertmanager after {SHORT:g} s",
    }


def test_a_server_that_fails_one_that_lacks_the_run_and_one_that_talks_nonsense_are_told_apart(runs: Path) -> None:
    with fake_stack(runs, jaeger="500", grafana="nonsense", reports="empty") as stack:
        reasons = {verdict.hop: verdict.reason for verdict in diagnose(stack, timeout=QUICK).verdicts}
    assert reasons["jaeger"].startswith("HTTP 500 at http://127.0.0.1:")
    assert reasons["grafana"] == f"its database is not well after {QUICK:g} s"
    assert reasons["reports"] == f"not found after {QUICK:g} s"


def test_a_run_that_is_there_in_part_is_told_by_what_is_missing(runs: Path) -> None:
    wanted: list[Wanted] = []
    with fake_stack(runs, **dict.fromkeys(("loki", "jaeger", "prometheus", "alertmanager"), "partial"), marquez="closed", grafana="empty") as stack:
        doctor_canary.run_canary(stack.settings, wanted.append)
        said = {hop.name: hop.probe(stack.settings, wanted[0]) for hop in HOPS if hop.probe is not None}
    records, parts = len(logs(wanted[0].bundle)), len(spans(wanted[0].bundle))
    assert said.pop("marquez").startswith("its lineage is pending: it answers 503")
    assert said == {
        "collector": "",
        "prometheus": "the sample is there, but no exemplar that leads to the trace",
        "loki": f"{records - 1} of {records} log records",
        "jaeger": f"{parts - 1} of {parts} spans",
        "alertmanager": "GoldtraceCanary is about an earlier run",
        "marquez-web": "",
        "reports": "not found",
        "grafana": "no datasource prometheus, loki, jaeger, alertmanager",
    }


@pytest.mark.slow
def test_a_server_that_answers_wrongly_is_named_with_what_it_does(runs: Path) -> None:
    with fake_stack(runs, jaeger="500", prometheus="partial", alertmanager="empty", marquez="closed", grafana="nonsense") as stack:
        verdicts = {verdict.hop: verdict for verdict in diagnose(stack, timeout=SHORT).verdicts}
    assert verdicts["jaeger"].reason.startswith("HTTP 500 at http://127.0.0.1:")
    assert verdicts["prometheus"].reason == f"the sample is there, but no exemplar that leads to the trace after {SHORT:g} s"
    assert (verdicts["alertmanager"].health, verdicts["alertmanager"].because) == (Health.BLOCKED, "prometheus")
    assert verdicts["marquez"].reason.startswith("its lineage is pending: it answers 503")
    assert verdicts["marquez"].mend == "pipeline replay"
    assert verdicts["grafana"].reason == f"its database is not well after {SHORT:g} s"
    assert verdicts["loki"].health is verdicts["reports"].health is Health.OK


@pytest.mark.slow
def test_a_server_that_takes_the_question_and_says_nothing_is_silent(runs: Path) -> None:
    with fake_stack(runs, jaeger="silent") as stack:
        (broken,) = diagnose(stack).broken
    assert (broken.hop, broken.reason.partition(" at ")[0]) == ("jaeger", "no answer within 2 s")


def test_a_visitor_of_grafana_who_may_not_list_datasources_sees_them_in_the_pages_settings(runs: Path) -> None:
    with fake_stack(runs, grafana="partial") as stack:
        diagnose(stack).expect_well()


@pytest.mark.slow
def test_a_collector_that_reads_another_folder_is_the_cause(runs: Path) -> None:
    with fake_stack(runs, reports="empty", **dict.fromkeys(BLOCKED["collector"], "empty")) as stack:
        found = diagnose(stack, timeout=SHORT)
    assert [verdict.hop for verdict in found.broken] == ["collector", "reports"]
    assert "another folder of runs" in found.broken[0].reason
    assert {verdict.mend for verdict in found.broken} == {"make obs.up, with the PIPELINE_RUNS that runs have"}
    assert {verdict.reason for verdict in found.verdicts if verdict.hop in ("prometheus", "loki", "jaeger")} == {f"not found after {SHORT:g} s"}
    assert healths(found)[Health.BLOCKED] == BLOCKED["collector"]
    assert {verdict.because for verdict in found.verdicts if verdict.health is Health.BLOCKED} == {"collector"}


def test_with_nothing_running_the_doctor_is_quick_and_names_the_causes_first(runs: Path) -> None:
    with fake_stack(runs, **dict.fromkeys(ASKED, "stopped")) as stack:
        began = time.monotonic()
        found = diagnose(stack, timeout=600)
        assert time.monotonic() - began < 20
    assert [verdict.hop for verdict in found.broken] == ASKED
    assert not healths(found)[Health.BLOCKED]
    with pytest.raises(BackendError) as raised:
        found.expect_well()
    assert raised.value.hint == "make obs.up; make lineage.up"


def test_a_server_that_stops_while_its_cause_is_away_is_broken_too(runs: Path) -> None:
    with fake_stack(runs, collector="stopped", loki="stopped") as stack:
        found = diagnose(stack)
    assert {verdict.hop for verdict in found.broken} == {"collector", "loki"}
    assert "loki" in stack.modes
    assert not {"jaeger", "prometheus"} & healths(found)[Health.BROKEN]


def test_a_canary_that_fails_is_the_first_cause(runs: Path) -> None:
    with fake_stack(runs) as stack:
        settings = stack.settings.model_copy(update={"memory_limit": "1KB"})
        found = examine(settings, NO_ENGINE, root=runs, timeout=SHORT)
    assert [verdict.hop for verdict in found.broken] == ["run"]
    assert found.broken[0].reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_runs_folder_that_cant_be_written_is_an_error_of_its_own(runs: Path) -> None:
    with fake_stack(runs) as stack:
        runs.chmod(0o555)
        with pytest.raises(LakeError):
            diagnose(stack)


# ---------------------------------------------------------------------------------------------- judging


def seen(**other: Seen) -> dict[str, Seen]:
    return {hop.name: Seen(found=Found.THERE, seconds=0.1) for hop in HOPS} | {name.replace("_", "-"): each for name, each in other.items()}


def test_a_database_that_stopped_is_why_marquez_refuses() -> None:
    containers = Containers(engine="docker 28", boxes=boxes(postgres="exited "))
    refuses = Seen(found=Found.REFUSED, reason="HTTP 500 at http://127.0.0.1:5080")
    verdicts = {verdict.hop: verdict for verdict in judge(seen(marquez=refuses), containers)}
    assert (verdicts["postgres"].health, verdicts["postgres"].reason) == (Health.BROKEN, "its container has exited")
    assert (verdicts["marquez"].health, verdicts["marquez"].because) == (Health.BLOCKED, "postgres")


def test_a_container_that_stopped_is_started_and_one_that_runs_is_restarted() -> None:
    silent = Seen(found=Found.SILENT, reason="connection refused")
    stopped = judge(seen(loki=silent), Containers(engine="docker 28", boxes=boxes(loki="exited ")))
    runs = judge(seen(loki=silent), Containers(engine="docker 28", boxes=boxes(), compose="podman compose"))
    mends = [next(verdict for verdict in verdicts if verdict.hop == "loki") for verdicts in (stopped, runs)]
    assert [each.mend for each in mends] == ["make obs.up", "podman compose restart loki"]
    assert mends[0].reason == "connection refused; its container has exited"


def test_a_stranger_on_the_port_of_a_service_without_container_does_not_hide_it() -> None:
    silent, unasked = Seen(found=Found.SILENT, reason="connection refused"), Seen(found=Found.NOT_ASKED)
    containers = Containers(engine="docker 28", boxes={name: box for name, box in boxes().items() if name not in ("collector", "loki")})
    verdicts = {verdict.hop: verdict for verdict in judge(seen(collector=silent, loki=unasked, jaeger=unasked), containers)}
    assert (verdicts["loki"].health, verdicts["loki"].reason, verdicts["loki"].mend) == (Health.BROKEN, "it has no container", "make obs.up")
    assert (verdicts["jaeger"].health, verdicts["jaeger"].because) == (Health.BLOCKED, "collector")


@pytest.mark.parametrize("service", [name for name in ASKED if name != "collector"])
def test_a_server_without_the_run_is_named_and_told_to_restart(service: str) -> None:
    missing = {service: Seen(found=Found.MISSING, reason="not found after 15 s")} | (
        {"alertmanager": Seen(found=Found.MISSING, reason="no alert")} if service == "prometheus" else {}
    )
    verdicts = judge(seen(**missing), NO_ENGINE)
    (broken,) = [verdict for verdict in verdicts if verdict.health is Health.BROKEN]
    assert (broken.hop, broken.reason) == (service, missing[service].reason)
    assert broken.mend == ("pipeline replay" if service == "marquez" else f"{NO_ENGINE.compose} restart {service}")
    assert {verdict.hop for verdict in verdicts if verdict.health is Health.BLOCKED} == BLOCKED.get(service, set())


def test_a_healthy_collector_that_hands_nothing_on_is_the_cause() -> None:
    missing = Seen(found=Found.MISSING, reason="not found")
    verdicts = judge(seen(**dict.fromkeys(BLOCKED["collector"], missing)), NO_ENGINE)
    (broken,) = [verdict for verdict in verdicts if verdict.health is Health.BROKEN]
    assert (broken.hop, broken.mend) == ("collector", f"{NO_ENGINE.compose} restart collector")
    assert {verdict.hop for verdict in verdicts if verdict.health is Health.BLOCKED} == BLOCKED["collector"]


def test_one_server_without_the_run_is_no_proof_against_the_collector() -> None:
    missing, silent = Seen(found=Found.MISSING, reason="not found"), Seen(found=Found.SILENT, reason="connection refused")
    verdicts = judge(seen(jaeger=missing, loki=silent, prometheus=silent), NO_ENGINE)
    assert {verdict.hop for verdict in verdicts if verdict.health is Health.BROKEN} == {"jaeger", "loki", "prometheus"}


# ---------------------------------------------------------------------------------------------- the canary


def test_the_canary_is_marked_and_leaves_nothing_but_its_bundle(runs: Path) -> None:
    with fake_stack(runs) as stack:
        found = diagnose(stack)
    canary = bundle.read(runs / found.run_id)
    assert (canary.pipeline, canary.manifest["environment"], canary.state) == ("canary", "canary", "COMPLETED")
    assert not Path(canary.manifest["settings"]["PIPELINE_LAKE"]).exists()
    assert {path.name for path in Path.cwd().iterdir()} <= {"runs"}
    events = [json.loads(line) for line in (canary.path / "lineage.ndjson").read_text().splitlines()]
    assert {event["job"]["namespace"] for event in events} == {"canary"}
    assert {each["namespace"] for event in events for each in event.get("inputs", []) + event.get("outputs", [])} == {"file://canary"}
    assert len(metrics(canary.path)["goldtrace.runs"]) == 1


def test_the_canary_takes_no_notice_of_what_turns_telemetry_off(runs: Path) -> None:
    with fake_stack(runs) as stack:
        stack.settings = stack.settings.model_copy(update={"otel_sdk_disabled": "true", "telemetry": "off", "input": Path("/nowhere"), "traceparent": "x"})
        diagnose(stack).expect_well()


def test_lineage_that_is_turned_off_is_not_looked_for(runs: Path) -> None:
    with fake_stack(runs, marquez="empty") as stack:
        stack.settings = stack.settings.model_copy(update={"openlineage_disabled": "true"})
        found = diagnose(stack)
    found.expect_well()
    assert healths(found)[Health.SKIPPED] == {"postgres", "marquez"}


def test_only_the_newest_canaries_are_kept_and_other_runs_are_left_alone(runs: Path) -> None:
    with fake_stack(runs, **dict.fromkeys(ASKED, "stopped")) as stack:
        other = doctor_canary.run_canary(stack.settings, lambda _: None)
        manifest = json.loads((other.bundle / bundle.MANIFEST).read_text())
        (other.bundle / bundle.MANIFEST).write_text(json.dumps({**manifest, "environment": "local"}))
        ids = [diagnose(stack).run_id for _ in range(doctor_canary.KEPT + 1)]
    assert {path.name for path in runs.iterdir()} == {str(other.id), *ids[1:]}


# ---------------------------------------------------------------------------------------------- preflight


def test_a_version_that_is_not_the_pinned_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "compose").mkdir()
    (tmp_path / "compose" / ".env").write_text(
        "# images\nPROMETHEUS_IMAGE=prom/prometheus:v3.15.0\nMARQUEZ_WEB_IMAGE=m/web:1\nOTELCOL_IMAGE=otel:2\nREPORTS_TAG=1\n"
    )
    pinned = pins(tmp_path)
    assert pinned == {"prometheus": "prom/prometheus:v3.15.0", "marquez-web": "m/web:1", "collector": "otel:2"}
    assert doctor_preflight.check_versions({"prometheus": Look(version="3.15.0")}, {}, pinned).health is Health.OK
    other = doctor_preflight.check_versions({"prometheus": Look(version="3.14.0")}, {}, pinned)
    assert (other.health, other.detail) == (Health.WARN, "prometheus says that it is 3.14.0, pinned is prom/prometheus:v3.15.0")
    image = doctor_preflight.check_versions({}, {"collector": boxes()["collector"]}, pinned)
    assert (image.health, image.detail) == (Health.WARN, "collector runs collector:1, pinned is otel:2")
    assert doctor_preflight.check_versions({}, {}, pinned).health is Health.SKIPPED


@pytest.mark.parametrize(("ahead", "health"), [(0, Health.OK), (30, Health.WARN), (-3600, Health.WARN)])
def test_a_clock_that_goes_wrong_is_told(runs: Path, ahead: int, health: Health) -> None:
    with fake_stack(runs) as stack:
        stack.ahead = ahead
        found = next(finding for finding in diagnose(stack).preflight if finding.name == "clock")
    assert found.health is health
    assert ("ahead" in found.detail, "behind" in found.detail) == (ahead > 0, ahead < 0)


def test_a_collector_that_reads_another_folder_is_told(tmp_path: Path) -> None:
    wrong = doctor_preflight.check_runs(tmp_path, boxes())
    assert wrong.health is Health.BROKEN
    assert wrong.detail == f"collector reads /somewhere/runs and reports reads /somewhere/runs, but runs are written to {tmp_path}"
    assert wrong.mend == f"PIPELINE_RUNS={tmp_path} make obs.up"
    for path in (tmp_path, f"/host_mnt{tmp_path}"):
        box = Box(container=boxes()["collector"].container, image="", mounts={"/runs": str(path)})
        assert doctor_preflight.check_runs(tmp_path, {"collector": box}).health is Health.OK


def test_a_volume_that_is_missing_is_told() -> None:
    assert doctor_preflight.check_volumes(doctor_preflight.VOLUMES).health is Health.OK
    assert doctor_preflight.check_volumes(set(doctor_preflight.VOLUMES) - {"grafana-data"}).detail == "there is no grafana-data"


def test_a_broken_preflight_is_enough_to_be_unwell(runs: Path) -> None:
    with fake_stack(runs) as stack:
        found = diagnose(stack, Containers(engine="docker 28, compose 5", boxes=boxes()))
    assert not found.broken
    with pytest.raises(BackendError, match="broken at runs"):
        found.expect_well()


def test_free_space_is_measured_where_bundles_go_though_there_is_no_folder_yet(tmp_path: Path) -> None:
    found = doctor_preflight.check_disk([tmp_path / "not" / "there"])
    assert found.detail.endswith(f"free at {tmp_path}")


# ---------------------------------------------------------------------------------------------- words


def test_the_table_names_what_is_broken_what_waits_and_what_mends_it(runs: Path) -> None:
    with fake_stack(runs, collector="stopped") as stack:
        found = diagnose(stack)
    text = diagnosis_text(found)
    assert f"CANARY {found.run_id}" in text
    assert re.search(r"^blocked +jaeger +waits for collector$", text, re.MULTILINE)
    assert "WHAT MENDS IT\ncollector  make obs.up\n" in text
    assert text.endswith("Broken: collector; prometheus, loki, jaeger, alertmanager can't be judged before that is mended.")


def test_the_json_has_every_hop_with_state_and_seconds(runs: Path) -> None:
    with fake_stack(runs) as stack:
        found = diagnosis_json(diagnose(stack))
    assert json.loads(json.dumps(found)) == found
    assert found["ok"] is True
    assert [hop["name"] for hop in found["hops"]] == ["run", *(hop.name for hop in HOPS)]
    assert {hop["state"] for hop in found["hops"]} == {"ok", "skipped"}
    assert {finding["name"] for finding in found["preflight"]} == {"engine", "versions", "clock", "disk", "runs", "older"}


# ---------------------------------------------------------------------------------------------- asking


@pytest.fixture
def quiet(runs: Path) -> Iterator[FakeStack]:
    with fake_stack(runs, jaeger="silent") as stack:
        yield stack


def test_a_server_that_says_nothing_is_left_after_the_timeout(quiet: FakeStack) -> None:
    began = time.monotonic()
    with pytest.raises(BackendError, match=r"^no answer within 0\.2 s at "):
        ask(quiet.settings.trace_url, timeout=0.2)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("url", "reason"), [("http://", "no web address"), ("http://nowhere.invalid", "unknown host"), ("http://a:b@127.0.0.1:1", "connection refused")]
)
def test_an_address_that_leads_nowhere_is_told_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(BackendError) as raised:
        ask(url)
    assert raised.value.message.startswith(reason)
    assert "a:b@" not in raised.value.message


def test_a_page_where_json_is_wanted_is_told(runs: Path) -> None:
    with fake_stack(runs) as stack:
        diagnose(stack)
        newest = bundle.list_bundles(runs)[0]
        answer = ask(f"{stack.settings.report_url}/{newest.id}/report.html")
        with pytest.raises(BackendError, match="does another program answer"):
            answer.json()
