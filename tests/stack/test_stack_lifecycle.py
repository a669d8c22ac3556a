"""The stack's life against an engine that is a script on PATH (`fake_docker.py`); ports are held and answered by real sockets."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from threading import Thread
from typing import Any

import pytest

from pipeline import cli
from pipeline.errors import StackError, UsageError
from pipeline.settings import Settings, load
from pipeline.stack import build, lifecycle, ports, preflight
from pipeline.stack.engine import Host, Published, Spec
from pipeline.stack.services import COMPOSE_FILES, SERVICES
from tests.telemetry.delivery_support import Listener

WITH_ALL_FILES = [word for name in ("obs", "lineage", "mlflow") for word in ("-f", f"compose/{name}.yaml")]


def free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(port: int, answers: dict[str, bytes]) -> Iterator[None]:
    """A server that answers 200 to the paths that begin so, and 503 to others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = next((body for path, body in answers.items() if self.path.startswith(path)), None)
            self.send_response(503 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def sum_of(checkout: Path, variable: str) -> str:
    return lifecycle.sources_of(*(checkout / name for name in lifecycle.SOURCES[variable]))


class Docker:
    """The engine that the fake on PATH is, and the checkout that it works for."""

    def __init__(self, home: Path, checkout: Path) -> None:
        self.home, self.checkout = home, checkout
        self.ports = {name: free_port() for name in ("grafana", "marquez", "mlflow", "dynamodb")}
        self.state: dict[str, Any] = {
            "config": {"services": self._services(), "volumes": {"grafana-data": {"name": "goldtrace_grafana-data"}}},
            "containers": {},
            "images": {"grafana:1": "", "marquez:1": "", "postgres:1": "", "dynamodb:1": "", "ours:1": sum_of(checkout, "REPORTS_SOURCES")},
            "volumes": [],
            "info": {"MemTotal": 8 * 1024**3, "DockerRootDir": str(home)},
            "compose": "5.1.0",
            "holders": [],
            "up": {},
            "fails": {},
        }
        self.save()

    def _services(self) -> dict[str, Any]:
        def service(image: str, **more: Any) -> dict[str, Any]:
            return {"image": image, "restart": "unless-stopped", "mem_limit": str(256 * 1024**2), **more}

        def port(name: str, target: int) -> dict[str, Any]:
            return {"ports": [{"target": target, "published": str(self.ports[name]), "host_ip": "127.0.0.1"}]}

        return {
            "grafana": service("grafana:1", **port("grafana", 3000)),
            "postgres": service("postgres:1"),
            "marquez": service("marquez:1", **port("marquez", 5000)),
            "volumes": service("ours:1", build={"sum": "REPORTS_SOURCES"}) | {"restart": "no"},
            "dynamodb": service("dynamodb:1", **port("dynamodb", 8000)),
            "mlflow": service("mlflow:1", build={"sum": "MLFLOW_SOURCES"}, **port("mlflow", 5000)),
        }

    def save(self) -> None:
        (self.home / "state.json").write_text(json.dumps(self.state))

    def change(self, **values: Any) -> None:
        self.state = json.loads((self.home / "state.json").read_text()) | values
        self.save()

    @property
    def calls(self) -> list[str]:
        """The commands that the engine got, without compose's files."""
        notes = self.home / "calls.ndjson"
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [re.sub(r"(-f|--env-file) \S+ ", "", " ".join(json.loads(line))) for line in lines]

    def started(self) -> list[str]:
        return [call for call in self.calls if call.startswith("compose up")]


@pytest.fixture
def docker(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """A checkout as the working folder, and nothing on PATH but the fake."""
    bin_folder, home, checkout = tmp_path / "bin", tmp_path / "docker", tmp_path / "checkout"
    for folder in (bin_folder, home, checkout / "compose/reports"):
        folder.mkdir(parents=True)
    for name in ("obs.yaml", "lineage.yaml", "mlflow.yaml", ".env", "reports/Dockerfile"):
        (checkout / "compose" / name).touch()
    program = bin_folder / "docker"
    program.write_text(f"#!{sys.executable} -IS\n" + (root / "tests/stack/fake_docker.py").read_text())
    program.chmod(0o755)
    monkeypatch.chdir(checkout)
    for name in list(os.environ):
        if name.startswith(("DOCKER_", "COMPOSE_")) or name.endswith("_PORT"):
            monkeypatch.delenv(name)
    fake = Docker(home, checkout)
    monkeypatch.setenv("PATH", str(bin_folder))
    monkeypatch.setenv("FAKE_DOCKER", str(home))
    for name, port in fake.ports.items():
        monkeypatch.setenv(f"{name.upper()}_PORT", str(port))
    return fake


@contextmanager
def answering(docker: Docker, *names: str, jobs: int = 1) -> Iterator[None]:
    """The services' own servers, as far as named; they come up beside the containers."""
    known = {
        "grafana": {"/api/health": b"{}"},
        "marquez": {"/api/v1/namespaces": b"{}", "/api/v1/jobs": json.dumps({"totalCount": jobs}).encode()},
        # Its /health says OK whatever the store does.
        "mlflow": {"/health": b"OK", "/api/2.0/mlflow/experiments/search": b"{}"},
    }
    with ExitStack() as servers:
        for name in names:
            servers.enter_context(serving(docker.ports[name], known[name]))
        yield


def stack(*words: str) -> int:
    """`pipeline stack …` in this process; its errors are raised."""
    return int(cli.app(["stack", *words], standalone_mode=False) or 0)


def up_beside_servers(docker: Docker, *names: str) -> None:
    """Start everything. The servers that stand for the containers hold the ports before, so they are the project's own."""
    docker.change(containers={name: {"ID": f"old-{name}", "State": "running", "Health": "healthy"} for name in names})
    stack("up")


# ---------------------------------------------------------------------------------------------- up


def up_from_nothing(docker: Docker) -> tuple[lifecycle.Started, list[str]]:
    """Start everything where nothing runs; the servers appear once `up` was called."""
    said: list[str] = []
    settings = load()
    with ExitStack() as servers:

        def appear() -> None:
            until = time.monotonic() + 60
            while not docker.started() and time.monotonic() < until:
                time.sleep(0.01)
            servers.enter_context(answering(docker, "grafana", "marquez", jobs=0))

        thread = Thread(target=appear)
        thread.start()
        try:
            return lifecycle.up(lifecycle.open_engine(settings), settings, "obs", 60, said.append), said
        finally:
            thread.join()


def test_up_waits_until_each_service_answers_and_tells_of_each(docker: Docker) -> None:
    started, said = up_from_nothing(docker)
    assert started.changed
    assert started.services == ("grafana", "postgres", "marquez")
    assert started.addresses == (("Grafana", f"http://127.0.0.1:{docker.ports['grafana']}", "dashboards"),)
    assert {line.split(" (")[0] for line in said} == {"Grafana is ready", "Postgres is ready", "Marquez API is ready"}


def test_up_makes_the_folder_of_runs_before_the_engine_can_make_it_as_root(docker: Docker) -> None:
    up_from_nothing(docker)
    assert (docker.checkout / "runs").stat().st_mode & 0o777 == 0o755


def test_up_twice_changes_nothing_and_says_so(docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(docker, "grafana", "marquez"):
        up_beside_servers(docker, "grafana", "marquez", "postgres")
        before = json.loads((docker.home / "state.json").read_text())["containers"]
        capsys.readouterr()
        stack("up")
    assert json.loads((docker.home / "state.json").read_text())["containers"] == before
    out, err = capsys.readouterr()
    assert "3 services were running already; nothing was changed" in out
    assert "is ready" not in err


def test_up_prints_where_things_are_and_what_to_do_next(docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(docker, "grafana", "marquez"):
        up_beside_servers(docker, "grafana", "marquez")
    out = capsys.readouterr().out
    assert f"Grafana  http://127.0.0.1:{docker.ports['grafana']}  dashboards" in out
    assert "next: make run" in out


def test_a_service_that_never_answers_is_named_with_the_end_of_its_log(docker: Docker) -> None:
    docker.change(containers={"marquez": {"ID": "a", "State": "running"}})
    with answering(docker, "marquez"), pytest.raises(StackError, match=r"Grafana.* not ready after 1 s") as caught:
        stack("up", "--wait", "1")
    assert "last line" in caught.value.message
    assert "make obs.logs ARGS=grafana" in caught.value.hint


def test_an_answer_other_than_200_is_not_ready(docker: Docker) -> None:
    docker.change(containers={name: {"ID": name, "State": "running"} for name in ("grafana", "marquez")})
    with answering(docker, "marquez"), serving(docker.ports["grafana"], {}), pytest.raises(StackError, match=r"Grafana.* not ready"):
        stack("up", "--wait", "1")


def test_dashboards_and_rules_are_mounted_with_the_addresses_in_force(docker: Docker, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in build.files(load({})):
        (docker.checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, docker.checkout / name)
    for name in docker.ports:
        monkeypatch.delenv(f"{name.upper()}_PORT")
    lifecycle.open_engine(load({}))
    assert not (docker.checkout / ".stack").exists()
    engine = lifecycle.open_engine(load({"REPORTS_PORT": "8099"}))
    assert "127.0.0.1:8099" in (Path(engine.variables["DASHBOARDS"]) / "overview.json").read_text()
    assert "127.0.0.1:8088" in (docker.checkout / "grafana/dashboards/overview.json").read_text()
    assert (Path(engine.variables["RULES"]) / "alerts.yml").is_file()


def test_a_changed_file_makes_the_server_anew_that_reads_it_at_its_start_and_no_other_one(docker: Docker) -> None:
    def told(*paths: str) -> dict[str, str]:
        for path in paths:
            (docker.checkout / path).parent.mkdir(parents=True, exist_ok=True)
            (docker.checkout / path).write_text("something new")
        with answering(docker, "grafana", "marquez"):
            up_beside_servers(docker, "grafana", "marquez")
        docker.change()
        return dict(docker.state["config_sums"])

    def changed(*paths: str) -> set[str]:
        before, after = told(), told(*paths)
        return {name for name in before if before[name] != after[name]}

    assert changed("grafana/dashboards/overview.json", "compose/alertmanager/secrets/smtp_password") == set()
    assert changed("prometheus/rules/alerts.yml") == {"CONFIG_SUM_PROMETHEUS"}
    assert changed("grafana/grafana.ini") == {"CONFIG_SUM_GRAFANA"}
    assert changed("compose/collector/collector.yaml") == {"CONFIG_SUM_COLLECTOR"}


def test_what_is_built_anew_is_there_for_the_servers_users_with_a_users_own_files(docker: Docker) -> None:
    own = docker.checkout / "prometheus/rules/mine.yml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("groups: []")
    before = os.umask(0o077)
    try:
        rules = Path(lifecycle.open_engine(load({"PIPELINE_GRAFANA_URL": "http://a"})).variables["RULES"])
        assert {path.stat().st_mode & 0o005 for path in (rules, *rules.parents[:2])} == {0o005}
        assert {path.stat().st_mode & 0o004 for path in rules.iterdir()} == {0o004}
    finally:
        os.umask(before)
    assert (rules / "mine.yml").read_text() == "groups: []"
    own.unlink()
    lifecycle.open_engine(load({"PIPELINE_GRAFANA_URL": "http://a"}))
    assert "mine.yml" not in {path.name for path in rules.iterdir()}


def test_an_address_that_moves_again_makes_prometheus_read_its_rules_again(docker: Docker) -> None:
    sums = [lifecycle.open_engine(load({"PIPELINE_GRAFANA_URL": url})).variables["CONFIG_SUM_PROMETHEUS"] for url in ("http://a", "http://b", "http://b")]
    assert (len(set(sums[:2])), sums[1]) == (2, sums[2])


def test_a_service_that_restarts_again_and_again_is_not_waited_for(docker: Docker) -> None:
    docker.change(up={"grafana": {"State": "restarting", "Health": ""}})
    began = time.monotonic()
    with pytest.raises(StackError, match="Grafana does not stay up"):
        stack("up", "--wait", "15")
    assert time.monotonic() - began < 14


def test_a_task_that_fails_is_told(docker: Docker) -> None:
    docker.change(up={"volumes": {"State": "exited", "ExitCode": 3}})
    with pytest.raises(StackError, match="volumes does not stay up"):
        stack("up", "--wait", "15")


@pytest.mark.slow
def test_a_service_without_http_is_ready_when_its_own_check_says_so(docker: Docker) -> None:
    docker.change(up={"postgres": {"Health": "starting"}}, containers={})
    docker.change(containers={name: {"ID": name, "State": "running"} for name in ("grafana", "marquez")})
    with answering(docker, "grafana", "marquez"), pytest.raises(StackError, match=r"Postgres.* not ready"):
        stack("up", "--wait", "1")


def test_what_compose_itself_refuses_is_shown_with_its_words(docker: Docker) -> None:
    docker.change(fails={"compose up": "yaml: line 3\nports are not a list\n"})
    with pytest.raises(StackError, match="ports are not a list"):
        stack("up")


def test_a_dependency_that_fails_is_shown_with_the_end_of_its_log(docker: Docker) -> None:
    docker.change(fails={"compose up": "dependency failed to start: container goldtrace-postgres-1 is unhealthy\n"})
    with pytest.raises(StackError, match=r"(?s)is unhealthy.*Postgres said.*last line"):
        stack("up")


def test_images_that_are_missing_are_fetched_before_the_clock_runs(docker: Docker) -> None:
    docker.change(images={name: label for name, label in docker.state["images"].items() if name != "marquez:1"})
    _, said = up_from_nothing(docker)
    assert said[0] == "fetching marquez:1 (1 of 1)"
    assert "pull marquez:1" in docker.calls


def test_our_image_is_built_when_its_files_changed_and_only_then(docker: Docker) -> None:
    with answering(docker, "grafana", "marquez"):
        up_beside_servers(docker, "grafana", "marquez")
        assert not [call for call in docker.calls if call.startswith("compose build")]
        (docker.checkout / "compose/reports/Dockerfile").write_text("FROM python:3.11\n")
        stack("up")
        stack("up")
    assert [call for call in docker.calls if call.startswith("compose build")] == ["compose build --quiet volumes"]


def test_the_engine_is_told_the_whole_path_of_the_runs(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_RUNS", "elsewhere/runs")
    assert lifecycle.open_engine(load()).variables["PIPELINE_RUNS"] == str(docker.checkout / "elsewhere/runs")


def test_the_projects_dotenv_comes_after_our_own_so_that_it_wins(docker: Docker) -> None:
    (docker.checkout / ".env").write_text("RETENTION=48h\n")
    words = lifecycle.open_engine(load()).compose_words()
    assert words == ["compose", "--env-file", "compose/.env", "--env-file", ".env", *WITH_ALL_FILES]


def test_a_marquez_without_jobs_is_called_empty(docker: Docker) -> None:
    started, _ = up_from_nothing(docker)
    assert started.marquez == f"http://127.0.0.1:{docker.ports['marquez']}"
    assert started.marquez_is_empty


def test_lineage_that_goes_elsewhere_is_not_sent_to_this_marquez(docker: Docker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "https://me:secret@lineage.example")
    with answering(docker, "grafana", "marquez"):
        up_beside_servers(docker, "grafana", "marquez")
    err = capsys.readouterr().err
    assert "lineage goes to https://**********@lineage.example" in err
    assert "secret" not in err


def test_this_machine_has_more_than_one_name(docker: Docker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", f"http://localhost:{docker.ports['marquez']}/")
    (docker.checkout / "runs").mkdir(exist_ok=True)
    with answering(docker, "grafana", "marquez"):
        up_beside_servers(docker, "grafana", "marquez")
    assert "not to this Marquez" not in capsys.readouterr().err


def test_runs_too_old_for_prometheus_are_counted(docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
    docker.state["config"]["services"]["prometheus"] = {"image": "grafana:1"}
    docker.save()
    for name in ("01900000-0000-7000-8000-000000000000", f"{int(time.time() * 1000):012x}"[:8] + "-0000-7000-8000-000000000000"):
        (docker.checkout / "runs" / name).mkdir(parents=True)
    with answering(docker, "grafana", "marquez"):
        up_beside_servers(docker, "grafana", "marquez")
    assert "1 of 2 runs began over 30 days ago" in capsys.readouterr().out


def test_up_that_is_interrupted_leaves_no_process_behind(docker: Docker) -> None:
    (docker.checkout / "runs").mkdir()
    # Who started the tests in the background may have had the signal ignored.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from pipeline.cli import main; main()"
    with subprocess.Popen([sys.executable, "-c", code, "stack", "up"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            until = time.monotonic() + 60
            while not docker.started():
                assert time.monotonic() < until
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode != 0
    assert "Traceback" not in said


# ---------------------------------------------------------------------------------------------- archived runs


@pytest.fixture
def taker(docker: Docker) -> Iterator[Listener]:
    """A collector that notes what it is posted, beside the other services, and an archived run of two lines."""
    with Listener(lambda event, count: (200, b"{}")) as listener:
        port = {"target": 4318, "published": listener.url.rpartition(":")[2], "host_ip": "127.0.0.1"}
        docker.state["config"]["services"]["collector"] = {"image": "grafana:1", "restart": "unless-stopped", "ports": [port]}
        docker.state["config"]["volumes"]["collector-data"] = {"name": "goldtrace_collector-data"}
        docker.save()
        folder = docker.checkout / "runs/archive/01900000-0000-7000-8000-000000000000"
        folder.mkdir(parents=True)
        (folder / "traces.jsonl").write_text('{"resourceSpans": [1]}\n{"resourceSpans": [2]}\n')
        yield listener


def up_with_collector(docker: Docker, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """What `up` prints about archived runs, and all that it says on the side."""
    capsys.readouterr()
    with answering(docker, "grafana", "marquez"):
        up_beside_servers(docker, "grafana", "marquez", "collector")
    out, err = capsys.readouterr()
    return [line for line in out.splitlines() if "archived" in line], err


def test_archived_runs_are_handed_to_the_collector_and_only_once(docker: Docker, taker: Listener, capsys: pytest.CaptureFixture[str]) -> None:
    assert up_with_collector(docker, capsys)[0] == ["telemetry of 1 archived run was handed to the collector"]
    assert up_with_collector(docker, capsys)[0] == []
    assert taker.taken == [{"resourceSpans": [1, 2]}]


def test_a_collector_whose_storage_is_new_is_given_all_archived_runs_once_more(docker: Docker, taker: Listener, capsys: pytest.CaptureFixture[str]) -> None:
    up_with_collector(docker, capsys)
    stack("reset", "--yes")
    assert up_with_collector(docker, capsys)[0] == ["telemetry of 1 archived run was handed to the collector"]
    assert len(taker.taken) == 2


def test_a_first_start_that_fails_leaves_the_archived_runs_to_the_next(docker: Docker, taker: Listener, capsys: pytest.CaptureFixture[str]) -> None:
    up_with_collector(docker, capsys)
    volumes = docker.state["config"]["volumes"].values()
    docker.change(volumes=[], fails={"compose up": "no space left\n"})
    with pytest.raises(StackError, match="no space left"):
        up_with_collector(docker, capsys)
    docker.change(volumes=[volume["name"] for volume in volumes], fails={})
    assert up_with_collector(docker, capsys)[0] == ["telemetry of 1 archived run was handed to the collector"]
    assert len(taker.taken) == 2


def test_a_collector_that_takes_nothing_is_told_in_one_line_and_the_stack_is_up(docker: Docker, taker: Listener, capsys: pytest.CaptureFixture[str]) -> None:
    taker.answer = lambda event, count: (404, b"")
    printed, said = up_with_collector(docker, capsys)
    assert printed == []
    (line,) = [line for line in said.splitlines() if "archived" in line]
    assert line.startswith(f"note: telemetry of 1 archived run still waits: the collector at {taker.url} can't be reached: it answers 404 (make obs.logs")


def test_a_line_that_is_left_out_is_told(docker: Docker, taker: Listener, capsys: pytest.CaptureFixture[str]) -> None:
    (traces,) = docker.checkout.glob("runs/archive/*/traces.jsonl")
    traces.write_text("broken\n" + traces.read_text())
    printed, said = up_with_collector(docker, capsys)
    assert printed == ["telemetry of 1 archived run was handed to the collector"]
    assert f"note: of the telemetry of run {traces.parent.name}, 1 line is broken or refused, and left out\n" in said


def test_without_archived_runs_nothing_is_said_and_no_volume_asked_for(docker: Docker, taker: Listener, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(docker.checkout / "runs/archive")
    printed, said = up_with_collector(docker, capsys)
    assert (printed, "archived" in said, taker.asked) == ([], False, [])
    assert not [call for call in docker.calls if call.startswith("volume")]


def test_marquez_alone_is_given_no_telemetry(docker: Docker, taker: Listener) -> None:
    docker.change(containers={"marquez": {"ID": "old", "State": "running"}})
    with answering(docker, "marquez"):
        stack("up", "--part", "lineage")
    assert taker.asked == []


def test_the_collectors_storage_is_the_volume_that_is_looked_for(root: Path) -> None:
    import yaml

    collector = yaml.safe_load((root / "compose/obs.yaml").read_text())["services"]["collector"]
    storage = yaml.safe_load((root / "compose/collector/collector.yaml").read_text())["extensions"]["file_storage"]["directory"]
    assert f"{lifecycle.COLLECTOR_VOLUME}:{storage}" in collector["volumes"]


# ---------------------------------------------------------------------------------------------- parts


def test_marquez_alone_is_started_by_its_services_names(docker: Docker) -> None:
    docker.change(containers={"marquez": {"ID": "old", "State": "running"}})
    with answering(docker, "marquez"):
        stack("up", "--part", "lineage")
    assert docker.started() == ["compose up --detach postgres marquez"]


def test_marquez_alone_is_stopped_while_the_rest_goes_on(docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
    docker.change(containers={name: {"ID": name, "State": "running"} for name in ("grafana", "marquez", "postgres")})
    stack("down", "--part", "lineage")
    assert set(json.loads((docker.home / "state.json").read_text())["containers"]) == {"grafana"}
    assert capsys.readouterr().out.startswith("stopped marquez, postgres; the data is kept")


def test_mlflow_alone_is_started_and_its_image_built_first(docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
    docker.change(containers={"mlflow": {"ID": "old", "State": "running"}})
    with answering(docker, "mlflow"):
        stack("up", "--part", "mlflow")
        stack("up", "--part", "mlflow")
    assert docker.started() == ["compose up --detach dynamodb mlflow"] * 2
    assert [call for call in docker.calls if call.startswith("compose build")] == ["compose build --quiet mlflow"]
    url = f"http://127.0.0.1:{docker.ports['mlflow']}"
    out = capsys.readouterr().out
    assert f"MLflow  {url}  experiments and models" in out
    assert f"runs are sent to MLflow with MLFLOW_TRACKING_URI={url}" in out


def test_mlflow_is_built_anew_when_our_code_changed(docker: Docker) -> None:
    docker.change(containers={"mlflow": {"ID": "old", "State": "running"}}, images={"dynamodb:1": "", "mlflow:1": sum_of(docker.checkout, "MLFLOW_SOURCES")})
    with answering(docker, "mlflow"):
        stack("up", "--part", "mlflow")
        assert not [call for call in docker.calls if call.startswith("compose build")]
        (docker.checkout / "pipeline/tracking").mkdir(parents=True)
        (docker.checkout / "pipeline/tracking/store.py").touch()
        stack("up", "--part", "mlflow")
    assert [call for call in docker.calls if call.startswith("compose build")] == ["compose build --quiet mlflow"]


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_no_mlflow_that_is_ready(docker: Docker) -> None:
    docker.change(containers={"mlflow": {"ID": "old", "State": "running"}})
    with serving(docker.ports["mlflow"], {"/health": b"OK"}), pytest.raises(StackError, match=r"MLflow.* not ready"):
        stack("up", "--part", "mlflow", "--wait", "1")


def test_everything_but_mlflow_is_started_unless_it_is_asked_for(docker: Docker) -> None:
    with answering(docker, "grafana", "marquez", "mlflow"):
        up_beside_servers(docker, "grafana", "marquez", "mlflow")
        stack("up", "--part", "all")
    started = [set(call.split()[3:]) for call in docker.started()]
    assert started == [{"grafana", "marquez", "postgres", "volumes"}, {"grafana", "marquez", "postgres", "volumes", "mlflow", "dynamodb"}]


def test_down_stops_mlflow_too_and_its_part_can_be_stopped_alone(docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
    everything = {name: {"ID": name, "State": "running"} for name in ("grafana", "marquez", "postgres", "mlflow", "dynamodb")}
    docker.change(containers=everything)
    stack("down", "--part", "mlflow")
    assert set(json.loads((docker.home / "state.json").read_text())["containers"]) == {"grafana", "marquez", "postgres"}
    docker.change(containers=everything)
    stack("down")
    assert json.loads((docker.home / "state.json").read_text())["containers"] == {}
    assert "stopped dynamodb, grafana, marquez, mlflow, postgres" in capsys.readouterr().out


def test_a_port_of_mlflows_that_is_taken_stands_in_the_way_of_its_part_only(docker: Docker) -> None:
    with serving(docker.ports["dynamodb"], {}), answering(docker, "grafana", "marquez"):
        with pytest.raises(StackError, match=f"port {docker.ports['dynamodb']}, wanted by DynamoDB, is held by") as caught:
            stack("up", "--part", "mlflow")
        up_beside_servers(docker, "grafana", "marquez")
    assert re.search(r"DYNAMODB_PORT=\d+ make mlflow\.up", caught.value.message)


@pytest.mark.parametrize("words", [["up", "--part", "nothing"], ["down", "--part", "nothing"]])
def test_an_unknown_part_is_refused(docker: Docker, words: list[str]) -> None:
    with pytest.raises(Exception, match="'nothing' is none of obs, lineage, mlflow, all"):
        stack(*words)


# ---------------------------------------------------------------------------------------------- down, reset, status, logs


def test_down_keeps_the_volumes(docker: Docker) -> None:
    docker.change(containers={"grafana": {"ID": "a", "State": "running"}}, volumes=["goldtrace_grafana-data"])
    stack("down")
    after = json.loads((docker.home / "state.json").read_text())
    assert (after["containers"], after["volumes"]) == ({}, ["goldtrace_grafana-data"])


def test_reset_refuses_without_a_terminal(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(UsageError, match="no terminal to ask on"):
            stack("reset")
    assert not [call for call in docker.calls if "down" in call]


def test_reset_deletes_all_volumes_at_once_and_names_them(docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
    docker.change(containers={"grafana": {"ID": "a", "State": "running"}}, volumes=["goldtrace_grafana-data", "somebody-elses"])
    stack("reset", "--yes")
    assert json.loads((docker.home / "state.json").read_text())["volumes"] == []
    assert capsys.readouterr().out == "deleted goldtrace_grafana-data\n"


@pytest.mark.parametrize(("answer", "is_deleted"), [("\n", False), ("y\n", True)])
def test_reset_asks_on_a_terminal(docker: Docker, answer: str, is_deleted: bool) -> None:
    docker.change(volumes=["goldtrace_grafana-data"])
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "stack", "reset"]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.write(ours, answer.encode())
    _, asked = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert "goldtrace_grafana-data" in asked
    assert (json.loads((docker.home / "state.json").read_text())["volumes"] == []) is is_deleted


def test_status_has_every_service_with_health_ports_and_memory(docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
    docker.change(containers={"grafana": {"ID": "a", "State": "running", "Health": "healthy"}, "volumes": {"ID": "b", "State": "exited", "ExitCode": 0}})
    with answering(docker, "grafana"):
        stack("status", "--json")
    found = {each.pop("service"): each for each in json.loads(capsys.readouterr().out)}
    running = {"state": "running", "health": "healthy", "answers": True, "ports": [docker.ports["grafana"]]}
    assert found["grafana"] == {**running, "memory_bytes": int(12.5 * 1024**2), "memory_limit_bytes": 256 * 1024**2}
    assert (found["marquez"]["state"], found["marquez"]["answers"], found["volumes"]["state"]) == ("down", False, "done")


def test_status_is_about_the_ports_that_a_service_was_started_with(docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(docker, "grafana"):
        stood = docker.ports["grafana"]
        docker.change(containers={"grafana": {"ID": "a", "State": "running", "Publishers": [{"TargetPort": 3000, "PublishedPort": stood}]}})
        docker.state["config"]["services"]["grafana"]["ports"][0]["published"] = str(free_port())
        docker.save()
        stack("status", "--json")
    found = {each.pop("service"): each for each in json.loads(capsys.readouterr().out)}
    assert (found["grafana"]["ports"], found["grafana"]["answers"]) == ([stood], True)


def test_status_for_people_is_a_table(docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
    stack("status")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["service", "grafana", "marquez", "postgres", "mlflow", "dynamodb", "volumes"]


def test_logs_of_an_unknown_service_name_the_known_ones(docker: Docker) -> None:
    with pytest.raises(UsageError, match="no service 'grafanna'") as caught:
        stack("logs", "grafanna")
    assert "grafana, postgres, marquez, volumes, dynamodb, mlflow" in caught.value.hint


def test_logs_are_those_of_compose(docker: Docker, capfd: pytest.CaptureFixture[str]) -> None:
    stack("logs", "grafana", "--tail", "5")
    assert capfd.readouterr().out == "first line\nlast line\n"
    assert docker.calls[-1] == "compose logs --tail 5 grafana"


# ---------------------------------------------------------------------------------------------- what stands in the way


def test_without_an_engine_one_sentence_says_so_and_that_a_run_needs_none(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(docker.home))
    with pytest.raises(StackError, match=r"^no container engine was found$") as caught:
        stack("up")
    assert "`make run` needs no container engine" in caught.value.hint


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "start Docker Desktop"),
        ("permission denied while trying to connect to the Docker daemon socket", "let this user use it"),
    ],
)
def test_an_engine_that_does_not_answer_is_told_with_its_reason(docker: Docker, reason: str, hint: str) -> None:
    docker.change(fails={"info": f"ERROR: {reason}\n"})
    with pytest.raises(StackError, match=re.escape(f"its engine does not answer: {reason}")) as caught:
        stack("status")
    assert hint in caught.value.hint


def test_an_older_client_that_ends_well_without_an_engine_is_seen_through(docker: Docker) -> None:
    docker.change(info={"ServerErrors": ["Cannot connect to the Docker daemon"]})
    with pytest.raises(StackError, match="does not answer: Cannot connect"):
        stack("status")


@pytest.mark.parametrize(("version", "words"), [("2.17.2", "compose is 2.17.2, and 2.20 or newer"), ("none of that", "has no compose")])
def test_a_compose_that_is_missing_or_too_old_is_told(docker: Docker, version: str, words: str) -> None:
    docker.change(compose=version)
    with pytest.raises(StackError, match=words):
        stack("up")


def test_podman_is_taken_where_docker_does_not_answer(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    program = docker.home.parent / "bin/docker"
    program.rename(program.with_name("podman"))
    assert lifecycle.open_engine(load()).program == "podman"


def test_all_that_stands_in_the_way_is_told_at_once(docker: Docker) -> None:
    docker.change(info={"MemTotal": 100 * 1024**2, "DockerRootDir": str(docker.home)})
    with socket() as server:
        server.bind(("127.0.0.1", docker.ports["grafana"]))
        server.listen()
        with pytest.raises(StackError, match="3 problems") as caught:
            (docker.checkout / "runs").mkdir(mode=0o700)
            stack("up")
    for words in (f"port {docker.ports['grafana']}, wanted by Grafana, is held by", "100 MiB of memory", "may not read"):
        assert words in caught.value.message
    assert not docker.started()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc: elsewhere lsof is asked")
def test_who_holds_a_port_is_named_with_a_free_port_to_use_instead(docker: Docker) -> None:
    with serving(docker.ports["grafana"], {}), pytest.raises(StackError) as caught:
        stack("up")
    assert f"(process {os.getpid()})" in caught.value.message
    port = re.search(r"GRAFANA_PORT=(\d+) make obs.up", caught.value.message)
    assert port is not None
    assert not ports.is_taken(int(port[1]))


def test_a_port_that_a_strange_container_holds_is_told_by_its_name(docker: Docker) -> None:
    docker.change(holders=[f"shop-web-1\t127.0.0.1:{docker.ports['grafana']}->80/tcp, :::9->9/tcp"])
    with serving(docker.ports["grafana"], {}), pytest.raises(StackError, match="is held by the container shop-web-1"):
        stack("up")


def test_a_port_that_our_own_container_holds_is_fine(docker: Docker) -> None:
    docker.change(containers={name: {"ID": name, "State": "running"} for name in ("grafana", "marquez")})
    with answering(docker, "grafana", "marquez"):
        assert stack("up") == 0


def spec(name: str, port: int, target: int = 3000, memory: int = 0) -> Spec:
    return Spec(name=name, image="x", build=None, is_task=False, memory_bytes=memory, ports=(Published(target=target, port=port),))


def test_two_services_on_one_port_are_told(docker: Docker) -> None:
    port = free_port()
    (finding,) = preflight.check_ports([spec("grafana", port), spec("marquez-web", port)], set(), {})
    assert finding.problem == f"port {port} is wanted by Grafana and by Marquez"
    assert finding.mend.startswith("move ours: MARQUEZ_WEB_PORT=")


def test_no_two_services_are_offered_the_same_free_port(docker: Docker) -> None:
    port = free_port()
    found = preflight.check_ports([spec("grafana", port), spec("marquez-web", port), spec("reports", port, target=8088)], set(), {})
    offered = [match[1] for finding in found if (match := re.search(r"_PORT=(\d+)", finding.mend))]
    assert len(set(offered)) == len(offered) == 2


@pytest.mark.parametrize(("text", "fits"), [(None, True), ("720h", True), ("24h", True), ("23h", False), ("30d", False), ("a month", False)])
def test_how_long_data_is_kept_has_to_be_something_that_every_store_can_read(tmp_path: Path, text: str | None, fits: bool) -> None:
    found = [*preflight.check_retention(tmp_path, load({"RETENTION": text} if text else {}))]
    assert [(finding.is_fatal, repr(text) in finding.problem) for finding in found if finding.is_fatal] == ([] if fits else [(True, True)])


def test_the_time_in_composes_own_file_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "compose").mkdir()
    (tmp_path / "compose/.env").write_text("RETENTION=7d\n")
    (found,) = preflight.check_retention(tmp_path, load({}))
    assert (found.is_fatal, "'7d'" in found.problem) == (True, True)
    assert not [*preflight.check_retention(tmp_path, load({"RETENTION": "720h"}))]


def test_a_time_that_alerts_look_further_back_than_is_told(tmp_path: Path) -> None:
    (found,) = preflight.check_retention(tmp_path, load({"RETENTION": "719h"}))
    assert (found.is_fatal, "719h" in found.problem, "720h" in found.mend) == (False, True, True)


@pytest.mark.parametrize(("have", "expected"), [(4096, []), (3000, [False]), (1500, [True])])
def test_memory_is_fatal_only_when_it_is_less_than_half_of_the_limits(have: int, expected: list[bool]) -> None:
    host = Host(memory_bytes=have * 1024**2, data=Path("/"))
    assert [finding.is_fatal for finding in preflight.check_memory([spec("grafana", 1, memory=4096 * 1024**2)], host)] == expected


def test_a_full_disk_is_told_and_one_that_is_not_here_is_not(tmp_path: Path) -> None:
    assert [*preflight.check_disk(Host(memory_bytes=0, data=tmp_path), 2**62)]
    assert not [*preflight.check_disk(Host(memory_bytes=0, data=tmp_path / "in a virtual machine"), 2**62)]


def test_a_folder_of_runs_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = preflight.check_runs(tmp_path / "file" / "runs")
    assert "PIPELINE_RUNS" in finding.mend


def test_configuration_that_the_servers_may_not_read_is_told_and_secrets_are_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "compose/alertmanager/secrets").mkdir(parents=True)
    (tmp_path / "compose/alertmanager/secrets/smtp_password").touch(mode=0o600)
    assert not [*preflight.check_readable(tmp_path)]
    (tmp_path / "compose/.env").touch(mode=0o600)
    assert not [*preflight.check_readable(tmp_path)]
    (tmp_path / "compose/obs.yaml").touch(mode=0o600)
    (finding,) = preflight.check_readable(tmp_path)
    assert (finding.problem[-16:], finding.mend) == ("compose/obs.yaml", "chmod -R o+rX compose")


def test_a_port_that_only_compose_knows_of_is_noted(docker: Docker) -> None:
    (finding,) = preflight.check_settings([spec("grafana", 3999)], Settings())
    assert "GRAFANA_PORT=3999" in finding.mend
    assert not finding.is_fatal


# ---------------------------------------------------------------------------------------------- where it works


def test_outside_of_the_checkout_the_error_names_its_folder(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(docker.checkout / "compose")
    with pytest.raises(StackError, match=r"has no compose/obs\.yaml") as caught:
        stack("up")
    assert caught.value.hint == f"cd {docker.checkout}"


def test_an_installed_package_without_a_checkout_says_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(StackError) as caught:
        lifecycle.find_checkout(tmp_path)
    assert "come with the project's checkout" in caught.value.hint


def test_every_service_of_the_compose_files_is_known_and_no_other(root: Path) -> None:
    import yaml

    files = {name: yaml.safe_load((root / "compose" / name).read_text()) for name in COMPOSE_FILES}
    services = {name for file in files.values() for name in file["services"]}
    assert services - {service.name for service in SERVICES} == {"volumes", "mlflow-volumes"}
    for service in SERVICES:
        lines = next(file["services"][service.name] for file in files.values() if service.name in file["services"]).get("ports", [])
        # 127.0.0.1:${GRAFANA_PORT:-3000}:3000
        found = {(match[1], int(match[2])) for line in lines if (match := re.fullmatch(r"127\.0\.0\.1:\$\{([A-Z0-9_]+):-\d+\}:(\d+)", line))}
        assert found == {(port.variable, port.target) for port in service.ports}


def test_the_window_of_old_samples_is_that_of_prometheus(root: Path) -> None:
    import yaml

    from pipeline.stack.preflight import WINDOW_DAYS

    window = yaml.safe_load((root / "prometheus/prometheus.yml").read_text())["storage"]["tsdb"]["out_of_order_time_window"]
    assert window in (f"{WINDOW_DAYS}d", f"{WINDOW_DAYS * 24}h")


@pytest.mark.parametrize("command", ["up", "down", "reset", "status", "logs"])
def test_the_help_of_each_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    stack(command, "--help")
    assert f"pipeline stack {command}" in capsys.readouterr().out.split("Example")[1]
