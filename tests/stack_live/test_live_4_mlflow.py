"""MLflow's part of the stack: runs, files and models arrive, its page shows them with links, Grafana's records lead back, and nothing is lost."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack_live.live_support import COMMAND, PATIENT, PROJECT, LiveStack, wait_until

pytestmark = pytest.mark.stack
MODELS = {"ols_cluster", "fixed_effects", "mixed_effects"}
KEYS = {"aws_access_key_id": "goldtrace", "aws_secret_access_key": "goldtrace-local", "region_name": "us-east-1"}
SERVICES = {"mlflow", "s3", "dynamodb"}


@pytest.fixture(scope="module")
def mlflow(stack: LiveStack, tell: list[str]) -> LiveStack:
    """The stack with MLflow, up from nothing beside the others."""
    began = time.monotonic()
    up = stack.command("stack", "up", "--part", "mlflow", timeout=900)
    assert up.returncode == 0, up.stdout + up.stderr
    tell.append(f"mlflow.up from nothing, with its image built or taken from the cache: {time.monotonic() - began:.1f} s")
    assert stack.url("MLFLOW_PORT") in up.stdout
    return stack


def run_into_mlflow(stack: LiveStack, *words: str, code: str = COMMAND) -> tuple[str, dict[str, Any]]:
    """Run the study with MLflow's server as its store; the run's id, and what became of it there."""
    environ = {"PIPELINE_TRACKING": "on", "PIPELINE_TRACKING_TIMEOUT": "60", "MLFLOW_TRACKING_URI": stack.url("MLFLOW_PORT")}
    run = stack.run(*words, code=code, **environ)
    told: dict[str, Any] = json.loads((stack.runs / run / "delivery.json").read_text())["experiments"]
    return run, told


@pytest.fixture(scope="module")
def delivered(mlflow: LiveStack) -> tuple[str, dict[str, Any]]:
    """A run that is in MLflow."""
    run, told = run_into_mlflow(mlflow, code=PATIENT)
    assert told["state"] == "delivered", told
    return run, told


def said_of(stack: LiveStack, run: str) -> dict[str, Any]:
    """What MLflow's client reads of a run."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("read_models.py")), stack.url("MLFLOW_PORT"), run]
    environment = {**stack.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def expect_whole(stack: LiveStack, run: str) -> None:
    """MLflow has the run with its figures, and its models with files that can be loaded."""
    runs = said_of(stack, run)["runs"]
    assert set(runs) == {"", *MODELS}
    assert runs[""]["tags"]["goldtrace.delivered"] == "COMPLETED"
    assert len(runs[""]["files"]) >= 1
    for name in MODELS:
        model = runs[name]
        assert (model["status"], model["files"]) == ("FINISHED", ["estimates.csv"])
        first, second = model["predictions"]
        slopes = sum(value for key, value in model["metrics"].items() if key.startswith("estimate/") and "var_" not in key and key != "estimate/intercept")
        assert first == pytest.approx(model["metrics"].get("estimate/intercept", 0.0))
        assert second - first == pytest.approx(slopes)


def test_the_services_of_mlflow_run_and_answer(mlflow: LiveStack) -> None:
    listed = {each["service"]: each for each in json.loads(mlflow.command("stack", "status", "--json").stdout)}
    assert {name: listed[name]["state"] for name in SERVICES} == dict.fromkeys(SERVICES, "running")
    assert listed["mlflow"]["answers"] is listed["s3"]["answers"] is True
    assert listed["dynamodb"]["health"] == "healthy"
    assert listed["mlflow-volumes"]["state"] == "done"
    assert all(each["memory_bytes"] < each["memory_limit_bytes"] * 0.8 for each in listed.values() if each["service"] in SERVICES)


def test_a_second_up_changes_nothing(mlflow: LiveStack) -> None:
    again = mlflow.command("stack", "up", "--part", "mlflow")
    assert again.returncode == 0
    assert "nothing was changed" in again.stdout


def test_the_doctor_asks_its_store(mlflow: LiveStack) -> None:
    url = mlflow.url("MLFLOW_PORT")
    (found,) = [each for each in mlflow.doctor(PIPELINE_TRACKING="on", MLFLOW_TRACKING_URI=url)["preflight"] if each["name"] == "mlflow"]
    assert found["detail"].startswith(f"{url} answers, and its store does")


def test_the_server_is_nobody_with_nothing_to_write_to_but_its_volume(mlflow: LiveStack) -> None:
    for service in SERVICES:
        (container,) = json.loads(
            subprocess.run(["docker", "inspect", mlflow.compose("ps", "--quiet", service).strip()], capture_output=True, check=True).stdout
        )
        assert container["HostConfig"]["ReadonlyRootfs"]
        assert container["Config"]["User"] in ("1000:1000", "10001:10001")
        assert {binding["HostIp"] for ports in container["HostConfig"]["PortBindings"].values() for binding in ports} == {"127.0.0.1"}
    shown = mlflow.compose(
        "exec", "mlflow", "sh", "-c", "id -u; ls /src 2>&1; find / -name 'test_*' -path '*pandas*' 2>/dev/null | head -1; pip --version 2>/dev/null"
    )
    assert shown.splitlines()[0] == "10001"
    assert "No such file" in shown.splitlines()[1]


def test_a_request_under_a_name_that_the_server_does_not_know_is_refused(mlflow: LiveStack) -> None:
    """A page elsewhere could have its name lead to 127.0.0.1."""
    from http.client import HTTPConnection

    def status(path: str, **headers: str) -> int:
        connection = HTTPConnection("127.0.0.1", int(mlflow.url("MLFLOW_PORT").rpartition(":")[2]), timeout=20)
        try:
            connection.request("POST", path, body='{"max_results": 1}', headers={"Content-Type": "application/json", **headers})
            return connection.getresponse().status
        finally:
            connection.close()

    search = "/api/2.0/mlflow/experiments/search"
    assert status(search) == 200
    assert status(search, Host="attacker.example") == 403
    assert status(search, Origin=mlflow.url("MLFLOW_PORT")) == 200
    assert status(search, Origin="http://attacker.example") == 403


def test_a_run_with_its_models_can_be_read_and_loaded_through_the_server(mlflow: LiveStack, delivered: tuple[str, dict[str, Any]]) -> None:
    run, told = delivered
    expect_whole(mlflow, run)
    said = said_of(mlflow, run)
    assert said["experiment"] == told["experiment_id"]
    tags = said["runs"][""]["tags"]
    assert (tags["goldtrace.run_id"], tags["goldtrace.trace_id"]) == (run, run.replace("-", ""))
    assert said["runs"][""]["metrics"]["seconds"] > 0
    assert set(said["runs"][""]["params"]) == {"input/weight", "input/fiber", "input/nutrition"}


def test_a_run_is_in_mlflow_within_the_two_seconds_that_it_waits(mlflow: LiveStack, delivered: tuple[str, dict[str, Any]], tell: list[str]) -> None:
    states = [run_into_mlflow(mlflow)[1]["state"] for _ in range(3)]
    tell.append(f"three runs that waited 2 s for MLflow's server, with {os.getloadavg()[0]:.1f} programs at work: {', '.join(states)}")
    assert set(states) <= {"delivered", "pending"}
    if os.getloadavg()[0] > (os.cpu_count() or 1):
        pytest.skip("the machine is busy: how long something takes says nothing")
    assert "delivered" in states


def test_the_runs_item_is_in_dynamodb_and_the_files_are_in_s3(mlflow: LiveStack, delivered: tuple[str, dict[str, Any]]) -> None:
    import boto3

    run, told = delivered
    table = boto3.client("dynamodb", endpoint_url=mlflow.url("DYNAMODB_PORT"), **KEYS)
    key = {"experiment_id": {"S": told["experiment_id"]}, "run_uuid": {"S": told["parent_run_id"]}}
    item = table.get_item(TableName="cdp-dev-mlflow-backend", Key=key, ConsistentRead=True)["Item"]
    assert item["status"] == {"S": "FINISHED"}
    assert item["tags"]["M"]["goldtrace.run_id"] == {"S": run}
    files = boto3.client("s3", endpoint_url=mlflow.url("S3_PORT"), **KEYS).list_objects_v2(Bucket="goldtrace-mlflow")["Contents"]
    names = {file["Key"] for file in files}
    assert any(name.startswith(f"{told['experiment_id']}/{told['parent_run_id']}/artifacts/figures/") for name in names)
    assert sum(name.endswith("/coefficients.json") for name in names) >= len(MODELS)


# ---------------------------------------------------------------------------------------------- pages


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, where there is one."""
    api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium here")
    with api.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield found
        finally:
            found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that notes what a server answers with an error, and what of it goes to other machines."""
    found = browser.new_page(viewport={"width": 1500, "height": 1300})
    found.refused, found.elsewhere = [], []
    found.on("response", lambda answer: answer.status >= 400 and found.refused.append((answer.status, urllib.parse.urlsplit(answer.url).path)))
    found.on("request", lambda asked: urllib.parse.urlsplit(asked.url).hostname not in (None, "127.0.0.1") and found.elsewhere.append(asked.url))
    try:
        yield found
    finally:
        found.close()


# Without a login, MLflow's server has no users to tell of.
EXPECTED_REFUSALS = {(404, "/ajax-api/2.0/mlflow/users/current")}


def test_a_runs_page_shows_its_ids_and_leads_to_the_other_tools(mlflow: LiveStack, delivered: tuple[str, dict[str, Any]], page: Any) -> None:
    run, told = delivered
    page.goto(mlflow.url("MLFLOW_PORT", f"/#/experiments/{told['experiment_id']}/runs/{told['parent_run_id']}"))
    page.get_by_text("dashboard in Grafana").wait_for(timeout=60_000)
    # The models are asked for later than the run.
    page.get_by_text("mixed_effects").first.wait_for(timeout=60_000)
    text = page.inner_text("body")
    assert f"Run {run}, trace {run.replace('-', '')}" in text
    assert "Finished" in text
    assert all(name in text for name in MODELS)
    links = {link.inner_text(): link.get_attribute("href") for link in page.locator("a").all()}
    for words, port, path in (
        ("report", "REPORTS_PORT", f"/{run}/report.html"),
        ("trace in Jaeger", "JAEGER_PORT", f"/trace/{run.replace('-', '')}"),
        ("dashboard in Grafana", "GRAFANA_PORT", f"/d/goldtrace-run?var-run={run}&var-pipeline=potato&var-environment=local"),
        ("lineage in Marquez", "MARQUEZ_WEB_PORT", "/lineage/job/default/potato?tableLevelNode=job%3Adefault%3Apotato"),
    ):
        assert links[words] == mlflow.url(port, path)
    assert mlflow.status(links["report"]) == 200
    assert set(page.refused) <= EXPECTED_REFUSALS
    assert page.elsewhere == []


def test_a_models_page_shows_its_table_and_its_run(mlflow: LiveStack, delivered: tuple[str, dict[str, Any]], page: Any) -> None:
    run, told = delivered
    page.goto(mlflow.url("MLFLOW_PORT", f"/#/experiments/{told['experiment_id']}/runs/{told['runs']['ols_cluster']}"))
    page.get_by_text("dashboard in Grafana").wait_for(timeout=60_000)
    assert f"Run {run}" in page.inner_text("body")
    page.goto(mlflow.url("MLFLOW_PORT", f"/#/experiments/{told['experiment_id']}/runs/{told['runs']['ols_cluster']}/artifacts/estimates.csv"))
    page.get_by_text("fiber_g_week").first.wait_for(timeout=60_000)
    assert set(page.refused) <= EXPECTED_REFUSALS


def test_grafanas_tables_lead_to_the_runs_page_and_to_the_models(mlflow: LiveStack, delivered: tuple[str, dict[str, Any]], page: Any) -> None:
    """The columns' address, filled with what Loki has of the run, as Grafana does."""
    run, told = delivered
    wait_until(lambda: _records(mlflow, run, "run.finished"), 30, "the run's last record in Loki")
    (last,) = _records(mlflow, run, "run.finished")
    models = {record["goldtrace_model_name"]: record for record in _records(mlflow, run, "model.estimated")}
    assert {name: record["goldtrace_mlflow_run_id"] for name, record in models.items()} == told["runs"]
    for record, mlflow_run in ((last, told["parent_run_id"]), *((models[name], told["runs"][name]) for name in MODELS)):
        address = _address(mlflow, record)
        assert address == mlflow.url("MLFLOW_PORT", f"/#/experiments/{told['experiment_id']}/runs/{mlflow_run}")
    page.goto(_address(mlflow, last))
    page.get_by_text("dashboard in Grafana").wait_for(timeout=60_000)
    assert run in page.inner_text("body")


def test_a_run_that_went_elsewhere_leads_nowhere(mlflow: LiveStack) -> None:
    run = mlflow.run("--until", "weight", PIPELINE_TRACKING="on", MLFLOW_TRACKING_URI=f"sqlite:///{mlflow.folder}/beside.db", PIPELINE_TRACKING_TIMEOUT="60")
    assert json.loads((mlflow.runs / run / "delivery.json").read_text())["experiments"]["state"] == "delivered"
    wait_until(lambda: _records(mlflow, run, "run.finished"), 30, "the run's last record in Loki")
    (last,) = _records(mlflow, run, "run.finished")
    assert [key for key in last if "mlflow" in key] == []


def _records(stack: LiveStack, run: str, event: str) -> list[dict[str, str]]:
    query = f'{{service_name="goldtrace"}} | event_name="{event}" | goldtrace_run_id="{run}"'
    return [stream["stream"] for stream in stack.loki(query) for _ in stream["values"]]


def _address(stack: LiveStack, record: dict[str, str]) -> str:
    """The address of the column MLflow in the dashboards that this stack has mounted."""
    mounted = (stack.root / ".stack/grafana/dashboards/run.json").read_text()
    (form,) = set(re.findall(r'"(http[^"]*/#/experiments/[^"]*)"', mounted))
    return re.sub(r"\$\{__data\.fields\.(\w+):percentencode\}", lambda found: urllib.parse.quote(record[found[1]], safe=""), form)


# ---------------------------------------------------------------------------------------------- outages


def test_a_server_that_is_killed_costs_a_run_two_seconds_and_gets_it_later(mlflow: LiveStack, delivered: tuple[str, dict[str, Any]]) -> None:
    mlflow.compose("kill", "--signal", "KILL", "mlflow")
    run, told = run_into_mlflow(mlflow)
    assert told["state"] == "pending"
    up = mlflow.command("stack", "up", "--part", "mlflow")
    assert up.returncode == 0, up.stderr
    # A server that has just started is slow to answer.
    replayed = mlflow.command("replay", code=PATIENT, PIPELINE_TRACKING="on", MLFLOW_TRACKING_URI=mlflow.url("MLFLOW_PORT"))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "MLflow took" in replayed.stdout, replayed.stderr
    expect_whole(mlflow, run)
    expect_whole(mlflow, delivered[0])


@pytest.mark.parametrize("service", ["dynamodb", "s3"])
def test_what_stands_behind_the_server_may_restart(mlflow: LiveStack, delivered: tuple[str, dict[str, Any]], service: str) -> None:
    mlflow.compose("restart", service)
    wait_until(lambda: _health(mlflow, "mlflow") == _health(mlflow, service) == "healthy", 60, "all is well again")
    expect_whole(mlflow, delivered[0])


def test_a_server_without_its_store_is_not_healthy(mlflow: LiveStack) -> None:
    mlflow.compose("stop", "dynamodb")
    wait_until(lambda: _health(mlflow, "mlflow") == "unhealthy", 60, "the server's check fails")
    listed = {each["service"]: each for each in json.loads(mlflow.command("stack", "status", "--json").stdout)}
    assert (listed["mlflow"]["answers"], listed["s3"]["answers"]) == (False, True)
    up = mlflow.command("stack", "up", "--part", "mlflow")
    assert up.returncode == 0, up.stderr


def _health(stack: LiveStack, service: str) -> str:
    return stack.compose("ps", "--format", "{{.Health}}", service).strip()


def test_what_mlflow_has_outlives_down_and_up_while_the_rest_goes_on(mlflow: LiveStack, delivered: tuple[str, dict[str, Any]]) -> None:
    others = set(mlflow.compose("ps", "--services").split()) - SERVICES
    down = mlflow.command("stack", "down", "--part", "mlflow")
    assert down.returncode == 0, down.stderr
    assert set(mlflow.compose("ps", "--services").split()) == others
    up = mlflow.command("stack", "up", "--part", "mlflow")
    assert up.returncode == 0, up.stderr
    expect_whole(mlflow, delivered[0])


def test_reset_deletes_what_mlflow_has_and_the_next_server_begins_anew(mlflow: LiveStack, delivered: tuple[str, dict[str, Any]]) -> None:
    reset = mlflow.command("stack", "reset", "--yes")
    assert reset.returncode == 0, reset.stderr
    assert {f"{PROJECT}_{name}-data" for name in ("s3", "dynamodb", "registry")} <= set(reset.stdout.replace(",", " ").split())
    assert mlflow.compose("ps", "--all", "--quiet") == ""
    up = mlflow.command("stack", "up", "--part", "mlflow")
    assert up.returncode == 0, up.stderr
    experiments = mlflow.get("MLFLOW_PORT", "/api/2.0/mlflow/experiments/search", max_results=10)["experiments"]
    assert [each["name"] for each in experiments] == ["Default"]
