"""Recording rules and alerts: each in every case that matters to sparse samples, with Prometheus' own tester where it is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pipeline import names
from pipeline.settings import Settings
from pipeline.stack import spelling
from pipeline.stack.rules import alerts, recordings, rule_files
from tests.stack.programs import program
from tests.stack.rules_scenarios import ALERTS, RECORDINGS
from tests.stack.rules_support import ROOT, alert_test, promtool, recorded_test, rules, run

RUNBOOK = ROOT / "docs/runbook.md"
METRICS = ROOT / "docs/metrics.md"
ALERTMANAGER = ROOT / "compose/alertmanager/alertmanager.yml"
NAMES = [alert.alert for alert in alerts()]


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as they are made from their words."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


# ------------------------------------------------------------------------------------------------ the files


def test_the_rules_in_the_tree_are_those_that_the_code_writes():
    for name, text in rule_files().items():
        assert (ROOT / "prometheus/rules" / name).read_text("utf-8") == text, "pipeline stack build writes them"


def test_writing_them_again_changes_nothing_and_links_follow_the_address_of_grafana():
    assert rule_files() == rule_files()
    moved = rule_files(Settings(grafana_url="http://127.0.0.1:3333/"))
    assert {name: text.replace("http://127.0.0.1:3333/", "http://127.0.0.1:3000/") for name, text in moved.items()} == rule_files()
    assert moved != rule_files()


def test_prometheus_takes_the_rules():
    result = run(program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *sorted((ROOT / "prometheus/rules").glob("*.yml")))
    assert result.returncode == 0, result.stdout + result.stderr


# ---------------------------------------------------------------------------------------------- what they say


@pytest.mark.parametrize("alert", NAMES)
def test_an_alert_has_a_severity_a_summary_and_links_that_lead_somewhere(alert: str):
    rule = rules()[alert]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"].keys() >= {"summary", "runbook_url", "dashboard_url", "run_url"}
    assert "{{ $labels." in rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor in anchors(ROOT / page)
    assert re.search(r"/d/goldtrace-(overview|quality|slo|models|stack)(\?|$)", rule["annotations"]["dashboard_url"])


@pytest.mark.parametrize("alert", NAMES)
def test_a_section_of_the_runbook_says_what_it_means_where_to_look_and_what_to_do(alert: str):
    _, _, rest = RUNBOOK.read_text("utf-8").partition(f"## {alert}\n")
    section = rest.partition("\n## ")[0]
    for part in ("**What it means.**", "**Look here.**", "**Do this.**"):
        assert part in section


def test_the_runbook_has_no_section_about_an_alert_that_is_gone():
    assert set(re.findall(r"^## (Goldtrace\w+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)) == set(NAMES)


def test_every_recording_rule_is_explained():
    text = METRICS.read_text("utf-8")
    assert [rule.record for rule in recordings() if f"`{rule.record}`" not in text] == []


# The servers' own, as they were found on Loki 3.7 and on the collector 0.158 with the reader of compose/collector/collector.yaml.
_OF_THE_SERVERS = {"up"} | {
    f"otelcol_{what}_{records}"
    for what in ("exporter_send_failed", "exporter_enqueue_failed", "receiver_refused", "receiver_failed")
    for records in ("spans", "metric_points", "log_records")
}
_OF_THE_SERVERS |= {"otelcol_exporter_queue_size", "otelcol_exporter_queue_capacity", "loki_ingester_wal_disk_usage_percent"}
_WORDS = r"\b(?:(?:goldtrace|otelcol|loki)_\w+|up)\b"


@pytest.mark.parametrize("name", list(rules()))
def test_a_rule_asks_only_for_metrics_and_labels_that_there_are(name: str):
    rule = rules()[name]
    known = {each: metric for metric in names.metrics() for each in spelling.series(metric)}
    expr = re.sub(r'"[^"]*"', '""', rule["expr"])
    found = set(re.findall(_WORDS, expr))
    assert found
    assert found - known.keys() <= _OF_THE_SERVERS
    labels = {spelling.label(each) for metric in found & known.keys() for each in known[metric].labels}
    labels |= {"service_namespace", "deployment_environment_name", "exporter", "receiver", "job", "le"}
    for group in re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", expr):
        assert {part.strip() for part in group.split(",") if part.strip()} <= labels
    assert {each for inner in re.findall(r"{([^}]*)}", expr) for each in re.findall(r"(\w+)!?=", inner)} <= labels


@pytest.mark.parametrize("name", list(rules()))
def test_runs_are_never_asked_for_by_rate_and_the_doctors_are_left_out(name: str):
    expr = rules()[name]["expr"]
    assert not re.search(r"\brate\(|\birate\(|\b(?:increase|delta|deriv)\(goldtrace_", expr)
    for selector in re.findall(r"goldtrace_\w+{([^}]*)}", expr):
        assert (f'deployment_environment_name!="{names.CANARY}"' in selector) == (name != "GoldtraceCanary")
    assert not re.search(r"\bgoldtrace_\w+(?![\w{])", expr), "every series is asked for with a selector"


# --------------------------------------------------------------------------------------------- what they do


@pytest.mark.parametrize("alert", NAMES)
def test_there_is_a_scenario_in_which_it_fires_one_in_which_it_does_not_and_one_in_which_it_resolves(alert: str):
    firing = [[bool(found) for _, found in scenario.expected] for scenario in ALERTS[alert]]
    assert any(True in each for each in firing)
    assert any(True in each and False in each[each.index(True) :] for each in firing), "resolves"
    assert any(True not in each for each in firing), "does not fire"


@pytest.mark.parametrize("alert", NAMES)
def test_an_alert_fires_and_resolves_as_its_scenarios_say(alert: str, tmp_path: Path):
    scenarios = ALERTS[alert]
    against = promtool(tmp_path, alert, [alert_test(alert, each) for each in scenarios], scenarios[0].every)
    if against:
        pytest.fail(against)


@pytest.mark.parametrize("record", [rule.record for rule in recordings()])
def test_a_recording_rule_says_what_its_scenarios_say(record: str, tmp_path: Path):
    wanted = [recorded_test(each) for each in RECORDINGS if each.record == record]
    assert wanted
    against = promtool(tmp_path, record, wanted)
    if against:
        pytest.fail(against)


def test_the_tester_sees_a_rule_that_is_wrong(tmp_path: Path):
    scenario = ALERTS["GoldtraceRunFailed"][0]
    wrong = alert_test("GoldtraceRunFailed", scenario) | {"input_series": []}
    assert "GoldtraceRunFailed" in promtool(tmp_path, "GoldtraceRunFailed", [wrong])


# ------------------------------------------------------------------------------------------------ spelling


@pytest.mark.parametrize(
    ("name", "kind", "unit", "spelled"),
    [
        ("goldtrace.runs", "counter", "{run}", "goldtrace_runs_total"),
        ("goldtrace.run.due", "gauge", "s", "goldtrace_run_due_seconds"),
        ("goldtrace.telemetry.seconds", "gauge", "s", "goldtrace_telemetry_seconds"),
        ("goldtrace.dataset.bytes", "gauge", "By", "goldtrace_dataset_bytes"),
        ("goldtrace.disk.free", "gauge", "By", "goldtrace_disk_free_bytes"),
        ("goldtrace.last_run.success_share_20", "gauge", "", "goldtrace_last_run_success_share_20"),
    ],
)
def test_a_name_is_spelled_as_prometheus_spells_it(name: str, kind: str, unit: str, spelled: str):
    assert spelling.series(names.Metric(name, kind, unit, (), "")) == (spelled,)


def test_a_histogram_makes_three_series_and_no_two_instruments_share_one():
    assert spelling.series(names.RUN_DURATION)[0] == "goldtrace_run_duration_seconds_bucket"
    everything = [each for metric in names.metrics() for each in spelling.series(metric)]
    assert len(everything) == len(set(everything))


# -------------------------------------------------------------------------------------------- who is told


def with_receivers(text: str) -> str:
    """The file as the runbook has a user turn it on."""
    text = re.sub(r"receiver: nobody # <- mail.*", "receiver: mail", text)
    return re.sub(r"receiver: nobody # <- pagerduty.*", "receiver: pagerduty", text)


@pytest.mark.parametrize("change", [str, with_receivers], ids=["as shipped", "turned on"])
def test_alertmanager_takes_its_configuration(change: type, tmp_path: Path):
    (tmp_path / "alertmanager.yml").write_text(change(ALERTMANAGER.read_text("utf-8")), "utf-8")
    result = run(program("amtool"), "check-config", tmp_path / "alertmanager.yml")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("alert", NAMES)
def test_nobody_is_told_until_somebody_turns_it_on(alert: str):
    assert receiver(ALERTMANAGER, alert) == "nobody"


@pytest.mark.parametrize(
    ("alert", "more", "told"),
    [
        ("GoldtraceRunFailed", {}, "pagerduty"),
        ("GoldtraceDatasetStale", {"layer": "silver"}, "pagerduty"),
        ("GoldtraceStepSlow", {}, "mail"),
        ("GoldtraceCollectorSendFailed", {}, "mail"),
        ("GoldtraceRunFailed", {"deployment_environment_name": "demo"}, "nobody"),
        ("GoldtraceCanary", {}, "nobody"),
    ],
)
def test_what_is_critical_pages_and_the_rest_is_mailed(alert: str, more: dict[str, str], told: str, tmp_path: Path):
    (tmp_path / "on.yml").write_text(with_receivers(ALERTMANAGER.read_text("utf-8")), "utf-8")
    assert receiver(tmp_path / "on.yml", alert, **more) == told


def receiver(config: Path, alert: str, **more: str) -> str:
    labels = {"alertname": alert, "service_namespace": "potato", "deployment_environment_name": "local", **rules()[alert]["labels"], **more}
    result = run(program("amtool"), "config", "routes", "test", f"--config.file={config}", *(f"{key}={value}" for key, value in labels.items()))
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_secrets_are_in_files_that_git_leaves_out():
    config = yaml.safe_load(ALERTMANAGER.read_text("utf-8"))
    settings = [one for each in config["receivers"] for kind in each.values() if isinstance(kind, list) for one in kind]
    files = [value for one in settings for key, value in one.items() if key.endswith("_file")]
    assert len(files) == 2
    assert all(file.startswith("/etc/alertmanager/secrets/") for file in files)
    assert "/compose/alertmanager/secrets/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


def test_alerts_are_grouped_by_pipeline_and_every_alert_that_is_named_is_one():
    text = ALERTMANAGER.read_text("utf-8")
    assert yaml.safe_load(text)["route"]["group_by"] == ["service_namespace", "deployment_environment_name"]
    named = {name for name in re.findall(r"Goldtrace\w+", text.split("\nroute:")[1]) if name != "GoldtraceCollector"}
    assert named <= set(NAMES)
