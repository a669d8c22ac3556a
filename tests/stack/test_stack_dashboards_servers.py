"""The dashboards' queries before the real servers: Prometheus' own parser, Loki's, and Grafana's own types of a dashboard."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.stack.compose_support import pins
from tests.stack.dashboards_support import CHOICE, FOLDER, NAMES, ROOT, everything, expr_of, logql, problem, promql
from tests.stack.programs import program

TYPES = ROOT / "tests/stack/grafana_types"


@pytest.mark.parametrize("all_chosen", [False, True])
def test_prometheus_can_read_every_query(tmp_path: Path, all_chosen: bool) -> None:
    """As recording rules, since its checker reads files of rules."""
    places = promql(all_chosen=all_chosen)
    listed = [{"record": f"query:{number}", "expr": expr, "labels": {"place": place}} for number, (place, expr) in enumerate(places.items())]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": listed}]}))

    checked = subprocess.run([program("promtool"), "check", "rules", "--lint=none", tmp_path / "queries.yml"], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(listed)} rules found" in checked.stdout


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Loki with nothing in it."""
    folder = tmp_path_factory.mktemp("loki")
    port, grpc_port = _free_port(), _free_port()
    schema = {"from": "2024-01-01", "store": "tsdb", "object_store": "filesystem", "schema": "v13", "index": {"prefix": "i", "period": "24h"}}
    config = {
        "auth_enabled": False,
        "server": {"http_listen_address": "127.0.0.1", "http_listen_port": port, "grpc_listen_address": "127.0.0.1", "grpc_listen_port": grpc_port},
        "common": {"path_prefix": str(folder), "replication_factor": 1, "instance_addr": "127.0.0.1", "ring": {"kvstore": {"store": "inmemory"}}},
        "schema_config": {"configs": [schema]},
        "analytics": {"reporting_enabled": False},
    }
    (folder / "loki.yaml").write_text(yaml.safe_dump(config))
    with (folder / "log").open("w") as log, subprocess.Popen([program("loki"), f"-config.file={folder / 'loki.yaml'}"], stdout=log, stderr=log) as process:
        try:
            yield _listening(f"http://127.0.0.1:{port}", process)
        finally:
            process.kill()


@pytest.mark.parametrize("all_chosen", [False, True])
def test_loki_can_read_every_query(loki: str, all_chosen: bool) -> None:
    """Its formatter parses, and needs no data."""
    problems = {place: refusal for place, expr in logql(all_chosen=all_chosen).items() if (refusal := _refused(loki, expr))}

    assert problems == {}
    assert _refused(loki, '{a="b"} | unwrap') != ""  # it can refuse
    assert _refused(loki, '{a=~".*",b!="c"}') != ""  # and this, in which nothing has to be there


def _refused(loki: str, expr: str) -> str:
    try:
        with urllib.request.urlopen(f"{loki}/loki/api/v1/format_query?" + urllib.parse.urlencode({"query": expr}), timeout=10) as answer:
            return "" if json.load(answer)["status"] == "success" else "refused"
    except urllib.error.HTTPError as error:
        return error.read().decode()


def _listening(url: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/loki/api/v1/status/buildinfo", timeout=2):
                return url
        except OSError:
            time.sleep(0.2)
    pytest.fail("Loki did not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ------------------------------------------------------------------------------------------------------- what they answer


def test_the_verdict_counts_a_pipeline_whose_last_run_is_older_than_the_range(tmp_path: Path) -> None:
    """Failed on the first day, looked at on the 21st, over a range of 14 days: Grafana offers no pipeline then, and asks for all."""
    series = {'goldtrace_last_run_success{service_namespace="potato",deployment_environment_name="local"}': "0"}
    expr = everything("overview").fill(expr_of("overview", "Is everything fine?"))

    assert problem(tmp_path, expr, series, "20d", {"{}": 1}) == ""


def test_a_term_that_is_no_plain_word_is_found(tmp_path: Path) -> None:
    """Grafana hands over a variable of which several values may be chosen as a regular expression in a string."""
    labels = 'service_namespace="potato",deployment_environment_name="local",model="fixed_effects",term="var(subject)"'
    estimate = f"goldtrace_model_estimate{{{labels}}}"
    term = replace(CHOICE, values={**CHOICE.values, "term": r"var\\(subject\\)"})
    # A step of a graph shows what comes after its beginning, which the tester has not read yet.
    expr = term.fill(expr_of("models", "How did $term move in $model?", "C").replace(" offset -$__interval", ""))

    assert problem(tmp_path, expr, {estimate: "2"}, "1m", {estimate: 2}) == ""


REFUSED, FAILED = "Was anything refused?", "Did anything fail to be sent?"


@pytest.mark.parametrize(
    ("title", "counter", "values", "grew"),
    [
        pytest.param(FAILED, "otelcol_exporter_send_failed_spans", "0x7200", 0, id="nothing happened"),
        pytest.param(REFUSED, "otelcol_receiver_refused_spans", "0x3000 5x2000 8x2200", 8, id="grows twice"),
        pytest.param(REFUSED, "otelcol_receiver_refused_spans", "3x1600 9x2100 0x1000 2x2500", 8, id="forgets by a restart"),
        pytest.param(FAILED, "otelcol_exporter_send_failed_spans", "_x4000 7x3200", 7, id="comes into being with its first failure"),
        pytest.param(FAILED, "otelcol_exporter_send_failed_spans", "_x7199 7", 7, id="came into being just now"),
        pytest.param(FAILED, "otelcol_exporter_send_failed_spans", "_x3000 100x1000 _x1000 40x2200", 140, id="comes into being twice"),
        pytest.param(FAILED, "otelcol_exporter_send_failed_spans", "_x3000 40x1000 _x1000 100x2200", 100, id="a restart that can't be told from a gap"),
        pytest.param(FAILED, "otelcol_exporter_send_failed_spans", "_x3000 100x1000 _x3200", 100, id="came into being, and is gone"),
        pytest.param(REFUSED, "otelcol_receiver_refused_spans", "9x1380 _x120 9x5700", 0, id="was not seen when the range began"),
    ],
)
def test_what_was_refused_or_failed_is_what_happened_in_the_range(tmp_path: Path, title: str, counter: str, values: str, grew: int) -> None:
    """Scraped every 15 s, looked at after 30 h, over the last 24."""
    expr = replace(CHOICE, start=0, end=86400).fill(expr_of("stack", title))

    assert problem(tmp_path, expr, {counter: values, "up": "1x7200"}, "30h", {"{}": grew}, every="15s") == ""


# ------------------------------------------------------------------------------------------------- Grafana's own types


def test_the_types_are_those_of_the_grafana_that_runs() -> None:
    version = json.loads((TYPES / "package.json").read_text())["dependencies"]["@grafana/schema"]

    assert pins(ROOT / "compose")["GRAFANA_IMAGE"].endswith(f":{version}")


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Grafana's types and TypeScript's compiler in it."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("npm and node are not on PATH")
    folder = tmp_path_factory.mktemp("types")
    for file in TYPES.glob("*.*"):
        shutil.copy(file, folder)
    command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150, check=False)
    if installed.returncode != 0:
        pytest.skip(f"npm can't install Grafana's types: {installed.stderr.strip().splitlines()[-1:]}")
    return folder


def _problems(compiler: Path, texts: dict[str, str]) -> list[str]:
    for name, text in texts.items():
        (compiler / f"{name}.ts").write_text(f"import type {{ Dashboard }} from './dashboard.js';\nexport const {name}: Dashboard =\n{text};\n")
    command = ["node", "node_modules/typescript/bin/tsc", "--project", "."]
    checked = subprocess.run(command, cwd=compiler, capture_output=True, text=True, timeout=150, check=False)
    for name in texts:
        (compiler / f"{name}.ts").unlink()
    return [line for line in checked.stdout.splitlines() if "error" in line]


@pytest.mark.slow
def test_every_dashboard_is_one_by_grafanas_own_types(compiler: Path) -> None:
    assert _problems(compiler, {name: (FOLDER / f"{name}.json").read_text() for name in NAMES}) == []


@pytest.mark.slow
def test_grafanas_types_refuse_what_is_wrong(compiler: Path) -> None:
    text = (FOLDER / "overview.json").read_text()
    changes = {
        "value": ('"colorMode": "background_solid"', '"colorMode": "loud"'),
        "kind": ('"schemaVersion": 42', '"schemaVersion": "42"'),
        "word": ('"mode": "absolute"', '"mode": "relative"'),
        "option": ('"mergeValues": false', '"mergeValue": false'),
        "custom": ('"fillOpacity": 85', '"fillOpacities": 85'),
    }
    assert all(right in text for right, _ in changes.values())

    problems = _problems(compiler, {name: text.replace(right, wrong, 1) for name, (right, wrong) in changes.items()})

    assert {problem.split(".ts")[0] for problem in problems} == set(changes)
