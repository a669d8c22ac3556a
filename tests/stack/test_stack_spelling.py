"""Names as a real Prometheus spells them, with the project's own settings for OTLP."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from pipeline import names
from pipeline.records import Run
from pipeline.stack import spelling
from pipeline.telemetry import bundle
from pipeline.telemetry.metrics import MetricsHook
from pipeline.testing import example_run
from tests.stack.programs import program
from tests.stack.rules_support import ROOT


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """The address of an empty Prometheus that takes OTLP as the stack's does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ours = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text("utf-8"))
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({key: ours[key] for key in ("storage", "otlp")}), "utf-8")
    command = [program("prometheus"), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address={address}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--web.enable-otlp-receiver"], stdout=log, stderr=log)
        try:
            wait(f"http://{address}/-/ready")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(20)


def wait(url: str) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"{url} does not answer")


def told(folder: Path) -> Run:
    """A run just now that has something to say with every instrument."""
    run = example_run(folder / "bundle")
    run.telemetry_seconds["traces"] = 0.01
    with MetricsHook().run(run):
        pass
    return run


def ask(address: str, path: str) -> list[str]:
    with urllib.request.urlopen(f"{address}{path}", timeout=5) as answer:
        found: list[str] = json.loads(answer.read())["data"]
    return found


def test_prometheus_spells_every_instrument_and_label_as_we_do(prometheus: str, tmp_path: Path):
    line = (told(tmp_path).bundle / bundle.METRICS).read_bytes()
    request = urllib.request.Request(f"{prometheus}/api/v1/otlp/v1/metrics", line, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=5).close()
    ours = quote('{__name__=~"goldtrace.+"}')
    assert set(ask(prometheus, f"/api/v1/label/__name__/values?match[]={ours}")) == {each for metric in names.metrics() for each in spelling.series(metric)}
    labels = {label for metric in names.metrics() for label in metric.labels}
    labels |= {names.SERVICE_NAME.name, names.SERVICE_NAMESPACE.name, names.ENVIRONMENT.name}
    assert set(ask(prometheus, f"/api/v1/labels?match[]={ours}")) - {"__name__", "job", "le"} == {spelling.label(label) for label in labels}
