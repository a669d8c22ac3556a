"""Which alerts Alertmanager holds back, which it tells together, and to whom: asked of the server itself, with alerts as the rules label them."""

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack.compose_support import ROOT, filled, pins, services
from tests.stack.programs import program
from tests.stack.rules_support import NAMES, Labels, rules

CONFIG = ROOT / "compose/alertmanager"
COMMAND = [filled(word, pins(ROOT / "compose")) for word in services(ROOT / "compose")["alertmanager"]["command"]]
RULES = rules()
EXPORTERS = [name for name in yaml.safe_load((ROOT / "compose/collector/collector.yaml").read_text())["exporters"] if name.startswith("otlp_http/")]
# The doctor's is told to nobody, wherever it comes from.
OF_PIPELINES = [name for name, rule in RULES.items() if "alert" in rule and "by (service_namespace, " in rule["expr"] and name != "GoldtraceCanary"]
# Prometheus' own, of a series that it scrapes.
SCRAPED = ["job", "instance"]


def alert(name: str, **labels: str) -> Labels:
    """An alert with all labels that its rule gives it, and no others."""
    rule = RULES[name]
    aggregated = re.search(r"\bby \(([^)]*)\)", rule["expr"])
    carried = aggregated[1].split(", ") if aggregated else SCRAPED
    found: Labels = {label: (NAMES | labels).get(label, f"some {label}") for label in carried} | _replaced(rule["expr"], labels)
    assert labels.items() <= found.items(), f"{name} has no such label"
    return {"alertname": name, **rule["labels"], **found}


def _replaced(expression: str, labels: Labels) -> Labels:
    """The label that a rule makes out of another one."""
    wanted = re.search(r', "(?P<label>\w+)", "\$1", "(?P<source>\w+)", "(?P<pattern>[^"]*)"\)$', expression)
    taken = wanted and re.fullmatch(wanted["pattern"], labels[wanted["source"]])
    return {wanted["label"]: taken[1]} if wanted and taken else {}


class Server:
    """An Alertmanager that has heard of nothing yet."""

    def __init__(self, url: str) -> None:
        self._url = url

    def hear(self, alerts: Sequence[Labels]) -> None:
        """Post alerts as Prometheus does."""
        body = json.dumps([{"labels": labels} for labels in alerts]).encode()
        request = urllib.request.Request(f"{self._url}/api/v2/alerts", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()

    def ask(self, path: str) -> list[dict[str, Any]]:
        """The answer of its API."""
        with urllib.request.urlopen(f"{self._url}/api/v2/{path}", timeout=10) as answer:
            told: list[dict[str, Any]] = json.load(answer)
            return told

    def held_back(self, cause: Labels, others: Sequence[Labels]) -> list[Labels]:
        """Which of the others are held back while the cause fires."""
        self.hear([*others, cause])
        # Once one is held, the cause is known, and the next answer has them all.
        deadline = time.monotonic() + 3
        while not self._held() and time.monotonic() < deadline:
            time.sleep(0.02)
        held = self._held()
        return [each for each in others if each in held]

    def _held(self) -> list[Labels]:
        return [each["labels"] for each in self.ask("alerts") if each["status"]["inhibitedBy"]]

    def groups(self, alerts: Sequence[Labels]) -> list[list[str]]:
        """Which of the alerts are told in one message, by name."""
        self.hear(alerts)
        deadline = time.monotonic() + 10
        while sum(len(group["alerts"]) for group in self.ask("alerts/groups")) < len(alerts) and time.monotonic() < deadline:
            time.sleep(0.02)
        return sorted(sorted(each["labels"]["alertname"] for each in group["alerts"]) for group in self.ask("alerts/groups"))


@contextmanager
def started(config: Path, folder: Path) -> Iterator[Server]:
    """The server with the command of its container, on a port that it chooses itself."""
    moved = [word.replace("=/etc/alertmanager/", f"={config}/").replace("=/alertmanager", f"={folder / 'data'}") for word in COMMAND]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([program("alertmanager"), *moved, "--web.listen-address=127.0.0.1:0"], stdout=log, stderr=log) as process,
    ):
        try:
            yield Server(f"http://{_address(folder / 'log', process)}")
        finally:
            process.kill()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r'msg="Listening on" address=(\S+)', log.read_text()):
            return found[1]
        time.sleep(0.02)
    pytest.fail(f"Alertmanager did not start: {log.read_text()}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """With the configuration as shipped."""
    with started(CONFIG, tmp_path) as running:
        yield running


@pytest.fixture
def telling_server(tmp_path: Path) -> Iterator[Server]:
    """With its receivers turned on, as the runbook has a user do it. It tells after 30 s, which no test waits for."""
    shutil.copytree(CONFIG, tmp_path / "config", ignore=shutil.ignore_patterns("secrets"))
    file = tmp_path / "config/alertmanager.yml"
    file.write_text(re.sub(r"receiver: nobody # <- (mail|pagerduty).*", r"receiver: \1", file.read_text()))
    with started(tmp_path / "config", tmp_path) as running:
        yield running


# ---- What is held back


def stale(layer: str, **more: str) -> Labels:
    return alert("GoldtraceDatasetStale", layer=layer, **more)


BRONZE, SILVER, GOLD = (stale(layer) for layer in ("bronze", "silver", "gold"))
ELSEWHERE = [stale("gold", service_namespace="shop"), stale("gold", deployment_environment_name="prod")]


@pytest.mark.parametrize("cause", ["GoldtraceRunFailed", "GoldtraceRunMissed"])
@pytest.mark.parametrize("layer", ["bronze", "silver", "gold"])
def test_a_run_without_data_holds_a_stale_dataset_of_its_pipeline_and_environment(server: Server, layer: str, cause: str) -> None:
    assert server.held_back(alert(cause), [stale(layer), *ELSEWHERE, alert("GoldtraceGateRed")]) == [stale(layer)]


@pytest.mark.parametrize(
    ("cause", "consequence"), [(BRONZE, SILVER), (BRONZE, GOLD), (SILVER, GOLD)], ids=["silver by bronze", "gold by bronze", "gold by silver"]
)
def test_a_stale_layer_holds_the_next_of_its_pipeline_and_environment(server: Server, cause: Labels, consequence: Labels) -> None:
    assert server.held_back(cause, [consequence, *ELSEWHERE]) == [consequence]


def test_without_the_collector_no_pipeline_is_said_to_be_late(server: Server) -> None:
    late = [BRONZE, *ELSEWHERE, alert("GoldtraceRunMissed"), alert("GoldtraceRunMissed", service_namespace="shop")]
    known = [alert("GoldtraceRunFailed", service_namespace="other"), alert("GoldtraceGateRed")]
    assert server.held_back(alert("GoldtraceTargetDown", job="collector"), [*late, *known]) == late


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("consequence", ["GoldtraceCollectorQueueFilling", "GoldtraceCollectorSendFailed"])
def test_a_server_that_is_down_holds_what_the_collector_says_of_it_alone(server: Server, consequence: str, exporter: str) -> None:
    down = alert("GoldtraceTargetDown", job=exporter.partition("/")[2])
    of_servers = [alert(consequence, exporter=each) for each in EXPORTERS]
    assert server.held_back(down, [*of_servers, GOLD]) == [alert(consequence, exporter=exporter)]


# ---- What is told together


@pytest.mark.parametrize("names", [["GoldtraceRunFailed", "GoldtraceGateRed"], ["GoldtraceSuccessShareLow", "GoldtraceStepSlow"]], ids=["critical", "warning"])
def test_a_pipelines_alerts_of_one_urgency_are_one_group_and_anothers_are_another(server: Server, names: list[str]) -> None:
    of_others = [alert(names[0], service_namespace="shop"), alert(names[0], deployment_environment_name="prod")]
    assert server.groups([*map(alert, names), *of_others]) == sorted([sorted(names), names[:1], names[:1]])


def test_stale_datasets_are_a_group_for_each_layer_apart_from_their_cause(server: Server) -> None:
    """Else the message that the cause is over would name those that nobody was told of."""
    others = [stale("gold", dataset="gold/another"), alert("GoldtraceRunFailed")]
    one = "GoldtraceDatasetStale"
    assert server.groups([BRONZE, SILVER, GOLD, *others]) == [[one], [one], [one, one], ["GoldtraceRunFailed"]]


def test_what_the_collector_says_is_a_group_for_each_server_apart_from_their_cause(server: Server) -> None:
    filling = [alert("GoldtraceCollectorQueueFilling", exporter=exporter) for exporter in EXPORTERS]
    down = [alert("GoldtraceTargetDown", job=exporter.partition("/")[2]) for exporter in EXPORTERS]
    assert server.groups([*filling, *down]) == [*[["GoldtraceCollectorQueueFilling"]] * len(filling), ["GoldtraceTargetDown"] * len(down)]


# ---- Who is told


def test_nobody_is_told_of_the_demos_alerts_and_somebody_of_any_others(telling_server: Server) -> None:
    telling_server.hear([alert(name, deployment_environment_name=each) for name in OF_PIPELINES for each in ("local", "demo")])
    told = {(each["labels"]["deployment_environment_name"], one["name"]) for each in telling_server.ask("alerts") for one in each["receivers"]}
    assert told == {("demo", "nobody"), ("local", "mail"), ("local", "pagerduty")}
