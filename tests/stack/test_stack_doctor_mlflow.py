"""What the doctor says of MLflow's server: whether its store answers, and which runs wait for it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.settings import Settings, load
from pipeline.stack.doctor_mlflow import check_mlflow
from pipeline.stack.doctor_preflight import Health
from tests.telemetry.delivery_support import closed_port

WELL = (200, b'{"experiments": [{"experiment_id": "0"}]}')


@contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    """Answers the question after the experiments, and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            well = self.path == "/api/2.0/mlflow/experiments/search?max_results=1"
            self.send_response(status if well else 404)
            self.end_headers()
            self.wfile.write(body if well else b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()


def settings(tmp_path: Path, uri: str, **more: str) -> Settings:
    return load({"MLFLOW_TRACKING_URI": uri, "PIPELINE_RUNS": str(tmp_path), **more}, dotenv=Path("no.env"))


def waits(runs: Path, name: str) -> None:
    (runs / name).mkdir(parents=True)
    (runs / name / ".experiments.json").write_text(json.dumps({}))


@pytest.mark.parametrize("uri", ["", "sqlite:///mlflow.db", "dynamodb://table?region=eu-west-1"])
def test_where_no_server_is_asked_nothing_is_said(tmp_path: Path, uri: str) -> None:
    assert check_mlflow(settings(tmp_path, uri)) == []


def test_with_tracking_turned_off_nothing_is_asked(tmp_path: Path) -> None:
    assert check_mlflow(settings(tmp_path, f"http://127.0.0.1:{closed_port()}", PIPELINE_TRACKING="off")) == []


def test_a_server_whose_store_answers_is_well(tmp_path: Path) -> None:
    with server(*WELL) as uri:
        (found,) = check_mlflow(settings(tmp_path, f"{uri}/"))
    assert (found.health, found.detail, found.mend) == (Health.OK, f"{uri} answers, and its store does", "")


def test_a_server_that_wants_a_login_is_left_alone_and_no_password_is_shown(tmp_path: Path) -> None:
    with server(401, b"who are you?") as uri:
        (found,) = check_mlflow(settings(tmp_path, uri.replace("://", "://ann:s3cret@")))
    assert (found.health, found.detail) == (Health.OK, f"{uri.replace('://', '://**********@')} wants a login")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [(500, b'{"error_code": "INTERNAL_ERROR"}', "HTTP 500 at"), (200, b"<html>", "no JSON at"), (200, b"[]", "no answer of MLflow's at")],
)
def test_one_that_answers_otherwise_is_told_of_and_breaks_nothing(tmp_path: Path, status: int, body: bytes, words: str) -> None:
    with server(status, body) as uri:
        (found,) = check_mlflow(settings(tmp_path, uri))
    assert found.health is Health.WARN
    assert found.detail.startswith(words)
    assert found.detail.endswith("; runs wait in their bundles until it takes them")
    assert found.mend == "start the server that MLFLOW_TRACKING_URI names, then pipeline replay"


def test_ours_is_started_by_make(tmp_path: Path) -> None:
    port = str(closed_port())
    (found,) = check_mlflow(settings(tmp_path, f"http://localhost:{port}", MLFLOW_PORT=port))
    assert (found.health, found.mend) == (Health.WARN, "make mlflow.up, then pipeline replay")
    assert "connection refused" in found.detail


@pytest.mark.parametrize(("runs", "words"), [(1, "1 run waits in the bundles"), (3, "3 runs wait in the bundles")])
def test_runs_that_wait_are_counted_whether_it_is_well_or_not(tmp_path: Path, runs: int, words: str) -> None:
    for number in range(runs):
        waits(tmp_path / "archive" if number else tmp_path, f"run-{number}")
    with server(*WELL) as uri:
        (found,) = check_mlflow(settings(tmp_path, uri))
    assert (found.health, found.detail, found.mend) == (Health.WARN, f"{uri} answers, and its store does; {words}", "pipeline replay")
    (found,) = check_mlflow(settings(tmp_path, f"http://127.0.0.1:{closed_port()}"))
    assert found.detail.endswith(f"; {words} until it takes them")
