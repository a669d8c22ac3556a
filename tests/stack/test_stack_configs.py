"""The servers' configurations: each server's own checker takes them, and what they promise holds where a test can see it."""

import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import names
from tests.stack.compose_support import PINS_RETENTION, ROOT, filled
from tests.stack.programs import program

COLLECTOR = ROOT / "compose/collector/collector.yaml"
RUN = "0192d3a4-5b6c-7d8e-9f00-112233445566"


def check(*command: str | Path, **environment: str) -> tuple[int, str]:
    told = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False, env={"PATH": os.environ["PATH"], **environment}
    )
    return told.returncode, told.stdout + told.stderr


def collector_command(folder: Path, *more: str) -> list[str]:
    """The collector with its offsets in `folder` instead of its volume."""
    moved = [f"yaml:extensions::file_storage::{key}: {folder}" for key in ("directory", "compaction::directory")]
    return [*(f"--config={word}" for word in (COLLECTOR, *moved)), *more]


# ---- Each server's own checker


def test_the_collector_takes_its_configuration(tmp_path: Path) -> None:
    assert check(program("otelcol-contrib"), "validate", *collector_command(tmp_path)) == (0, "")


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    code, told = check(program("promtool"), "check", "config", "--syntax-only", ROOT / "prometheus/prometheus.yml")
    assert code == 0, told


def test_alertmanager_takes_its_configuration() -> None:
    code, told = check(program("amtool"), "check-config", ROOT / "compose/alertmanager/alertmanager.yml")
    assert code == 0, told


def test_loki_takes_its_configuration() -> None:
    code, told = check(program("loki"), "-verify-config", "-config.expand-env=true", f"-config.file={ROOT / 'loki/loki.yaml'}", RETENTION=PINS_RETENTION)
    assert code == 0, told


def test_jaeger_takes_its_configuration() -> None:
    code, told = check(program("jaeger"), "validate", f"--config={ROOT / 'jaeger/jaeger.yaml'}", RETENTION=PINS_RETENTION)
    assert code == 0, told


@pytest.mark.parametrize(
    ("name", "file", "good", "bad"),
    [
        ("otelcol-contrib", "compose/collector/collector.yaml", "poll_interval: 1s", "poll_intervall: 1s"),
        ("promtool", "prometheus/prometheus.yml", "out_of_order_time_window: 30d", "out_of_order_window: 30d"),
        ("amtool", "compose/alertmanager/alertmanager.yml", "receivers:", "receiverss:"),
        ("loki", "loki/loki.yaml", "reject_old_samples:", "reject_older_samples:"),
        ("jaeger", "jaeger/jaeger.yaml", "ephemeral:", "ephemerall:"),
    ],
)
def test_each_checker_refuses_a_setting_that_it_does_not_know(name: str, file: str, good: str, bad: str, tmp_path: Path) -> None:
    text = (ROOT / file).read_text()
    assert good in text
    (tmp_path / "config.yml").write_text(text.replace(good, bad))
    arguments = {
        "otelcol-contrib": ["validate", f"--config={tmp_path / 'config.yml'}", *collector_command(tmp_path)[1:]],
        "promtool": ["check", "config", "--syntax-only", str(tmp_path / "config.yml")],
        "amtool": ["check-config", str(tmp_path / "config.yml")],
        "loki": ["-verify-config", "-config.expand-env=true", f"-config.file={tmp_path / 'config.yml'}"],
        "jaeger": ["validate", f"--config={tmp_path / 'config.yml'}"],
    }
    assert check(program(name), *arguments[name], RETENTION=PINS_RETENTION)[0] != 0


# ---- What a checker can't know


def loaded(file: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())
    return content


PIPELINES: dict[str, dict[str, list[str]]] = loaded("compose/collector/collector.yaml")["service"]["pipelines"]
FROM_FILES = [name for name in PIPELINES if name.endswith("/file")]
PUSHED = [name for name in PIPELINES if name.endswith("/push")]


def test_each_signal_comes_from_files_and_by_push() -> None:
    assert {*FROM_FILES, *PUSHED} == set(PIPELINES) == {f"{signal}/{way}" for signal in ("traces", "metrics", "logs") for way in ("file", "push")}


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_file_pipeline_holds_and_refuses_nothing(name: str) -> None:
    assert not {"memory_limiter", "batch"} & set(PIPELINES[name]["processors"])


@pytest.mark.parametrize("name", PUSHED)
def test_a_push_pipeline_limits_its_memory_first(name: str) -> None:
    assert PIPELINES[name]["processors"][0] == "memory_limiter"


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_masks_what_may_name_a_person(name: str) -> None:
    assert "redaction" in PIPELINES[name]["processors"]


@pytest.mark.parametrize("name", [name for name in PIPELINES if name.startswith("metrics")])
def test_no_run_makes_series_of_its_own(name: str) -> None:
    assert "resource/metrics" in PIPELINES[name]["processors"]
    deleted = [each["key"] for each in loaded("compose/collector/collector.yaml")["processors"]["resource/metrics"]["attributes"]]
    assert names.RUN_ID.name in deleted
    assert names.RUN_ID.name not in loaded("prometheus/prometheus.yml")["otlp"]["promote_resource_attributes"]


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_a_file_receiver_keeps_whole_lines_and_its_place(signal: str) -> None:
    receiver = loaded("compose/collector/collector.yaml")["receivers"][f"otlp_json_file/{signal}"]
    assert receiver["include"] == [f"/runs/*/{signal}.jsonl"]
    kept = {key: receiver[key] for key in ("start_at", "storage", "force_flush_period", "max_log_size", "include_file_name", "poll_interval")}
    assert kept == {
        "start_at": "beginning",
        "storage": "file_storage",
        "force_flush_period": "0s",
        "max_log_size": "16MiB",
        "include_file_name": False,
        "poll_interval": "1s",
    }


@pytest.mark.parametrize("name", ["otlp_http/jaeger", "otlp_http/loki", "otlp_http/prometheus"])
def test_an_exporter_waits_for_ever_with_its_queue_on_disk(name: str) -> None:
    exporter = loaded("compose/collector/collector.yaml")["exporters"][name]
    assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s"
    assert {key: exporter["sending_queue"][key] for key in ("storage", "block_on_overflow")} == {"storage": "file_storage", "block_on_overflow": True}


def test_no_name_of_ours_is_taken_for_a_persons() -> None:
    patterns = loaded("compose/collector/collector.yaml")["processors"]["redaction"]["blocked_key_patterns"]
    ours = [attribute.name for attribute in names.attributes()]
    assert [name for name in ours for pattern in patterns if re.search(pattern, name)] == []


@pytest.mark.parametrize(
    "key", ["subject", "subject_id", "SubjectId", "study.subject.id", "participant", "patient-name", "user.email", "first_name", "date_of_birth"]
)
def test_what_names_a_person_is_known_by_its_key(key: str) -> None:
    patterns = loaded("compose/collector/collector.yaml")["processors"]["redaction"]["blocked_key_patterns"]
    assert any(re.search(pattern, key) for pattern in patterns)


@pytest.mark.parametrize("key", ["n_subjects_seen", "personal", "code.function.name", "emailed_reports", "goldtrace.dataset.name"])
def test_what_only_looks_like_it_is_left_alone(key: str) -> None:
    patterns = loaded("compose/collector/collector.yaml")["processors"]["redaction"]["blocked_key_patterns"]
    assert not any(re.search(pattern, key) for pattern in patterns)


def test_loki_shows_and_keeps_what_comes_late() -> None:
    config = loaded("loki/loki.yaml")
    limits = config["limits_config"]
    assert config["ingester"]["query_store_max_look_back_period"] == "-1ns"
    assert (limits["reject_old_samples"], limits["shard_streams"]["time_sharding_enabled"]) == (False, True)
    assert (config["compactor"]["retention_enabled"], limits["retention_period"]) == (True, "${RETENTION:-720h}")
    assert config["analytics"] == {"reporting_enabled": False}


def test_loki_tells_a_repeated_line_within_a_chunk() -> None:
    """Loki drops a line that it has in the same block, and between chunks; a chunk of several blocks would show it twice."""
    ingester = loaded("loki/loki.yaml")["ingester"]
    assert ingester["chunk_block_size"] > ingester["chunk_target_size"]


def test_prometheus_takes_runs_as_old_as_it_keeps_them() -> None:
    config = loaded("prometheus/prometheus.yml")
    assert config["storage"]["tsdb"]["out_of_order_time_window"] == "30d"
    assert config["otlp"]["translation_strategy"] == "UnderscoreEscapingWithSuffixes"


def test_prometheus_scrapes_six_servers() -> None:
    """Marquez with its database and page, the reports and MLflow are not among them: GoldtraceTargetDown is silent about those."""
    assert [job["job_name"] for job in loaded("prometheus/prometheus.yml")["scrape_configs"]] == [
        "prometheus",
        "collector",
        "alertmanager",
        "loki",
        "jaeger",
        "grafana",
    ]


def test_every_label_is_one_that_names_py_has() -> None:
    promoted = set(loaded("prometheus/prometheus.yml")["otlp"]["promote_resource_attributes"])
    (index,) = loaded("loki/loki.yaml")["limits_config"]["otlp_config"]["resource_attributes"]["attributes_config"]
    assert promoted == set(index["attributes"]) == {names.SERVICE_NAME.name, names.SERVICE_NAMESPACE.name, names.ENVIRONMENT.name}


# ---- Grafana


def datasources() -> dict[str, dict[str, Any]]:
    return {source["uid"]: source for source in loaded("grafana/provisioning/datasources/goldtrace.yaml")["datasources"]}


def test_datasources_have_the_uids_that_dashboards_name() -> None:
    """For ever: changing one stops Grafana's reading of the whole file."""
    assert {uid: source["url"] for uid, source in datasources().items()} == {
        "prometheus": "http://prometheus:9090",
        "loki": "http://loki:3100",
        "jaeger": "http://jaeger:16686",
        "alertmanager": "http://alertmanager:9093",
    }


def test_every_jump_leads_to_a_datasource_that_is_there() -> None:
    text = (ROOT / "grafana/provisioning/datasources/goldtrace.yaml").read_text()
    assert set(re.findall(r"datasourceUid: (\w+)", text)) == {"jaeger", "loki", "prometheus"} <= set(datasources())


def test_dollars_of_grafanas_own_variables_are_doubled() -> None:
    """A single one is the container's environment, which has to be set in obs.yaml."""
    text = "\n".join(
        line.split(" # ")[0] for line in (ROOT / "grafana/provisioning/datasources/goldtrace.yaml").read_text().splitlines() if not line.startswith("#")
    )
    single = set(re.findall(r"(?<!\$)\$\{?(\w+)", text))
    links = set(loaded("compose/obs.yaml")["x-links"])
    assert single <= links
    assert {"TRACE_URL", "REPORT_URL", "LINEAGE_URL"} <= single


def test_the_dashboards_folder_is_the_one_that_is_mounted() -> None:
    (provider,) = loaded("grafana/provisioning/dashboards/goldtrace.yaml")["providers"]
    mounted = [filled(mount, {}).split(":")[1] for mount in loaded("compose/obs.yaml")["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted
    assert (provider["folder"], provider["allowUiUpdates"]) == ("Goldtrace", False)


def test_grafana_reports_to_no_one() -> None:
    text = (ROOT / "grafana/grafana.ini").read_text()
    off = ("reporting_enabled", "check_for_updates", "check_for_plugin_updates", "feedback_links_enabled", "news_feed_enabled", "external_enabled")
    assert [key for key in off if f"\n{key} = false\n" not in text] == []
    assert [key for key in ("disable_gravatar", "preinstall_disabled", "disable_initial_admin_creation") if f"\n{key} = true\n" not in text] == []


# ---- Jaeger's links


def patterns() -> dict[tuple[str, str], str]:
    return {(pattern["key"], pattern["text"]): pattern["url"] for pattern in json.loads((ROOT / "jaeger/ui.json").read_text())["linkPatterns"]}


def filled_link(key: str, text: str, folder: Path, **environment: str) -> str:
    """A pattern's address after start.sh has put the addresses in, with the values of a span put in as Jaeger's page does."""
    script = (
        (ROOT / "jaeger/start.sh").read_text().replace("/etc/jaeger/ui.json", str(ROOT / "jaeger/ui.json")).replace("/tmp/ui.json", str(folder / "ui.json"))
    )
    script = script.replace("exec /cmd/jaeger/jaeger-linux", "exec true")
    addresses = {"GRAFANA_URL": "http://g:1", "REPORT_URL": "http://r:2", "LINEAGE_URL": "http://m:3", "LINEAGE_NAMESPACE": "default"}
    assert check("sh", "-c", script, **(addresses | environment)) == (0, "")
    found = {(each["key"], each["text"]): each["url"] for each in json.loads((folder / "ui.json").read_text())["linkPatterns"]}
    values = {
        "goldtrace.run.id": RUN,
        "cicd.pipeline.run.id": RUN,
        "service.namespace": "potato",
        "goldtrace.step.name": "weight",
        "goldtrace.dataset.name": "bronze%2Fweight",
        "goldtrace.lineage.namespace": "s3%3A%2F%2Fbucket",
        "goldtrace.lineage.name": "lakes%2Fbronze%2Fweight",
    }
    return re.sub(r"#\{([^}]*)\}", lambda match: values[match.group(1)], found[(key, text)])


@pytest.mark.parametrize(
    ("key", "text", "url"),
    [
        ("goldtrace.run.id", "This run in Grafana", f"http://g:1/d/goldtrace-run?var-run={RUN}"),
        ("goldtrace.run.id", "This run's report", f"http://r:2/{RUN}/report.html"),
        ("cicd.pipeline.run.id", "This run in Grafana", f"http://g:1/d/goldtrace-run?var-run={RUN}"),
        ("cicd.pipeline.run.id", "This run's report", f"http://r:2/{RUN}/report.html"),
        ("goldtrace.run.id", "This run's pipeline in Marquez", "http://m:3/lineage/job/default/potato?tableLevelNode=job%3Adefault%3Apotato"),
        ("cicd.pipeline.run.id", "This run's pipeline in Marquez", "http://m:3/lineage/job/default/potato?tableLevelNode=job%3Adefault%3Apotato"),
        ("goldtrace.dataset.name", "This pipeline's data quality in Grafana", "http://g:1/d/goldtrace-quality?var-pipeline=potato"),
        ("goldtrace.dataset.name", "The report of the run that wrote it", f"http://r:2/{RUN}/report.html"),
        ("goldtrace.step.name", "This step's job in Marquez", "http://m:3/lineage/job/default/potato.weight?tableLevelNode=job%3Adefault%3Apotato.weight"),
        (
            "goldtrace.dataset.name",
            "This dataset in Marquez",
            "http://m:3/lineage/dataset/s3%3A%2F%2Fbucket/lakes%2Fbronze%2Fweight?tableLevelNode=dataset%3As3%3A%2F%2Fbucket%3Alakes%2Fbronze%2Fweight",
        ),
    ],
)
def test_jaeger_links_an_attribute_to(key: str, text: str, url: str, tmp_path: Path) -> None:
    assert filled_link(key, text, tmp_path) == url


def test_jaeger_links_only_attributes_that_names_py_has() -> None:
    used = {key for key, _ in patterns()} | {name for url in patterns().values() for name in re.findall(r"#\{([^}]*)\}", url)}
    assert used <= {attribute.name for attribute in names.attributes()}


# ---- The second wall, in a real collector


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the collector passes on of telemetry that is full of people, by signal."""
    folder = tmp_path_factory.mktemp("collector")
    with running_collector(folder) as port:
        for signal in ("traces", "metrics", "logs"):
            push(port, signal)
        return {signal: wait_for_text(folder / f"{signal}.jsonl") for signal in ("traces", "metrics", "logs")}


@contextmanager
def running_collector(folder: Path) -> Iterator[int]:
    """A collector with our pipelines, whose exporters write files; gives the port for OTLP over HTTP."""
    port, grpc, health = free_ports(3)
    pipelines = {f"{signal}/{way}": {"exporters": [f"file/{signal}"]} for signal in ("traces", "metrics", "logs") for way in ("file", "push")}
    changes = {
        "extensions": {"health_check": {"endpoint": f"127.0.0.1:{health}"}},
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{grpc}"}, "http": {"endpoint": f"127.0.0.1:{port}"}}}}
        | {f"otlp_json_file/{signal}": {"include": [f"{folder}/runs/*/{signal}.jsonl"]} for signal in ("traces", "metrics", "logs")},
        "exporters": {f"file/{signal}": {"path": f"{folder}/{signal}.jsonl", "flush_interval": "100ms"} for signal in ("traces", "metrics", "logs")},
        "service": {"telemetry": {"metrics": {"level": "none", "readers": []}}, "pipelines": pipelines},
    }
    (folder / "changes.yaml").write_text(yaml.safe_dump(changes))
    command = [program("otelcol-contrib"), *collector_command(folder, f"--config={folder / 'changes.yaml'}")]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log.txt").open("w"))
        process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
        stack.callback(process.terminate)
        wait_for_port(port, folder / "log.txt")
        yield port


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for_port(port: int, log: Path) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"the collector did not start: {log.read_text()[-2000:]}")


def wait_for_text(file: Path) -> str:
    for _ in range(600):
        if file.exists() and (text := file.read_text()):
            return text
        time.sleep(0.1)
    pytest.fail(f"{file.name} did not come")


def push(port: int, signal: str) -> None:
    def text(key: str, value: str) -> dict[str, Any]:
        return {"key": key, "value": {"stringValue": value}}

    people = [text("subject_id", "S07"), text("note", "ask jane@example.org"), {"key": "study.participant.id", "value": {"intValue": "4711"}}]
    plain = [text("goldtrace.step.name", "weight"), {"key": "goldtrace.step.inputs", "value": {"arrayValue": {"values": [{"stringValue": "input/weight"}]}}}]
    resource = {"attributes": [text("goldtrace.run.id", RUN), text("service.instance.id", "i-1"), *people]}
    span = {"traceId": "1" * 32, "spanId": "1" * 16, "name": "of jane@example.org", "kind": 1, "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    event = {"timeUnixNano": "1", "name": "exception", "attributes": people}
    records = {
        "traces": {"scopeSpans": [{"spans": [span | {"attributes": people + plain, "events": [event], "status": {"message": "no jane@example.org"}}]}]},
        "logs": {"scopeLogs": [{"logRecords": [{"timeUnixNano": "1", "body": {"stringValue": "to jane@example.org"}, "attributes": people + plain}]}]},
        "metrics": {"scopeMetrics": [{"metrics": [{"name": "g", "gauge": {"dataPoints": [{"timeUnixNano": "1", "asInt": "1", "attributes": people}]}}]}]},
    }
    key = {"traces": "resourceSpans", "metrics": "resourceMetrics", "logs": "resourceLogs"}[signal]
    body = json.dumps({key: [{"resource": resource} | records[signal]]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/{signal}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
@pytest.mark.parametrize("who", ["S07", "jane@example.org", "4711"])
def test_nobody_gets_past_the_collector(signal: str, who: str, masked: dict[str, str]) -> None:
    assert who not in masked[signal]
    assert "****" in masked[signal]


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_everything_else_gets_past_it_as_it_was(signal: str, masked: dict[str, str]) -> None:
    assert RUN in masked[signal]
    assert '{"key":"goldtrace.step.inputs","value":{"arrayValue":{"values":[{"stringValue":"input/weight"}]}}}' in masked[signal]


def test_metrics_lose_what_tells_one_run_from_another(masked: dict[str, str]) -> None:
    assert RUN not in masked["metrics"]
    assert "service.instance.id" not in masked["metrics"]
