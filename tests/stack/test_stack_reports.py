"""The server of run reports, as a process of its own, asked over a socket."""

import base64
import hashlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.stack.compose_support import ROOT

SERVER = ROOT / "compose/reports/reports.py"
PROBE = ROOT / "compose/reports/probe.py"
VOLUMES = ROOT / "compose/reports/volumes.py"
RUN, OLDER, ARCHIVED, GOING_ON = (f"0192d3a4-5b6c-7d8e-9f00-11223344556{digit}" for digit in "7315")


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs that ended, one of them archived, one that goes on, and much that is no report."""
    folder = tmp_path_factory.mktemp("served") / "runs"
    for path, run_id in ((folder / RUN, RUN), (folder / OLDER, OLDER), (folder / "archive" / ARCHIVED, ARCHIVED)):
        bundle(path, run_id, ended_at="2026-11-20T06:01:00Z")
        (path / "report.html").write_text(f"<!doctype html><title>{run_id}</title>")
    bundle(folder / GOING_ON, GOING_ON, ended_at=None)
    (folder / "mlflow.db").write_text("not to be served")
    (folder / RUN / "traces.jsonl").write_text("not to be served")
    for name in ("secret.txt", "report.html"):
        (folder.parent / name).write_text("not to be served")
    (folder / OLDER / "checks.json").symlink_to(folder.parent / "secret.txt")
    (folder / "0192d3a4-5b6c-7d8e-9f00-1122334455ff").symlink_to(folder.parent)
    (folder / "not-a-run").mkdir()
    return folder


def bundle(folder: Path, run_id: str, ended_at: str | None) -> None:
    folder.mkdir(parents=True)
    state = "COMPLETED" if ended_at else "RUNNING"
    times = {"started_at": "2026-11-20T06:00:00.5Z", "ended_at": ended_at}
    manifest = {"run_id": run_id, "pipeline": {"name": "<b>potato"}, "environment": "demo", "state": state, "gate": "GREEN"} | times
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def port(runs: Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    command = [sys.executable, "-I", str(SERVER), "--runs", str(runs), "--host", "127.0.0.1", "--port", str(number)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", number)) == 0:
                    break
            time.sleep(0.05)
        yield number
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def ask(port: int, path: str, method: str = "GET") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=False)  # as written, without mending the path
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return Answer(status=answer.status, body=text, headers={key.lower(): value for key, value in answer.getheaders()})


@pytest.mark.parametrize("run_id", [RUN, OLDER, ARCHIVED])
def test_a_report_is_at_its_runs_id_archived_or_not(run_id: str, port: int) -> None:
    answer = ask(port, f"/{run_id}/report.html")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert run_id in answer.body


def test_a_runs_id_alone_leads_to_its_report(port: int) -> None:
    answer = ask(port, f"/{RUN}/")
    assert (answer.status, answer.headers["location"]) == (302, f"/{RUN}/report.html")


def test_a_report_may_run_its_own_style_and_script_and_load_nothing(port: int) -> None:
    policy = ask(port, f"/{RUN}/report.html").headers["content-security-policy"]
    wanted = {"default-src 'none'", "style-src 'unsafe-inline'", "script-src 'unsafe-inline'", "img-src data:", "frame-ancestors 'none'"}
    assert wanted <= set(policy.split("; "))
    assert "http" not in policy


@pytest.mark.parametrize("path", ["/", f"/{RUN}/report.html", f"/{RUN}/manifest.json", "/nowhere"])
def test_every_answer_names_its_type_and_its_policy(path: str, port: int) -> None:
    headers = ask(port, path).headers
    assert (headers["x-content-type-options"], headers["server"]) == ("nosniff", "reports")
    assert headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "path",
    [
        "/mlflow.db",
        f"/{RUN}/traces.jsonl",
        f"/{RUN}/../mlflow.db",
        f"/{RUN}/..%2f..%2fsecret.txt",
        f"/{RUN}/%2e%2e/%2e%2e/secret.txt",
        f"/{RUN}/report.html%00.json",
        f"/../{RUN}/report.html",
        "//etc/passwd",
        "/..%5c..%5csecret.txt",
        "/%252e%252e/secret.txt",
        f"/{OLDER}/checks.json",
        "/0192d3a4-5b6c-7d8e-9f00-1122334455ff/report.html",
        "/not-a-run/",
        f"/archive/{ARCHIVED}/report.html",
        f"/{GOING_ON}/report.html",
        f"/{RUN.upper()}/report.html",
        "/" + "a" * 5000,
    ],
)
def test_nothing_else_is_served(path: str, port: int) -> None:
    answer = ask(port, path)
    assert answer.status == 404
    assert "not to be served" not in answer.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(method: str, port: int) -> None:
    assert ask(port, f"/{RUN}/report.html", method).status == 501


def test_head_is_get_without_the_body(port: int) -> None:
    whole, head = ask(port, f"/{RUN}/report.html"), ask(port, f"/{RUN}/report.html", "HEAD")
    assert (head.body, head.headers["content-length"]) == ("", str(len(whole.body)))


def test_the_list_has_the_newest_run_first_and_links_only_reports_that_are_there(port: int) -> None:
    body = ask(port, "/").body
    assert re.findall(r"0192d3a4-[0-9a-f-]+(?=</a>|\n)", body) == [RUN, GOING_ON, OLDER, ARCHIVED]
    assert re.findall(r'href="/([^/]+)/report.html"', body) == [RUN, OLDER, ARCHIVED]


def test_a_line_of_the_list_says_when_what_where_and_how_it_went(port: int) -> None:
    first = re.search(r"<tbody>\n<tr><td>(.*?)<a ", ask(port, "/").body)
    assert first is not None
    assert first.group(1).split("<td>") == ["2026-11-20 06:00:00", "&lt;b&gt;potato", "demo", "COMPLETED", "GREEN", ""]


def test_the_list_never_says_of_a_run_that_it_goes_on(port: int) -> None:
    """Its process may be gone, which can't be seen from in here."""
    body = ask(port, "/").body
    assert "RUNNING" not in body
    assert "not ended, or killed" in body


def test_the_list_shows_a_name_as_text(port: int) -> None:
    body = ask(port, "/").body
    assert "<b>" not in body
    assert "&lt;b&gt;potato" in body


def test_the_lists_style_is_the_one_that_its_policy_names(port: int) -> None:
    answer = ask(port, "/")
    style = re.search(r"<style>(.*?)</style>", answer.body, re.S)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]


def test_a_list_of_nothing_says_how_to_begin(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pathlib, reports; print(reports.index(pathlib.Path('.')).body.decode())"
    told = subprocess.run([sys.executable, "-c", code, str(SERVER.parent)], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "make run" in told.stdout


def test_the_probe_holds_while_the_server_serves(port: int, runs: Path) -> None:
    assert probe(port).returncode == 0


def test_the_probe_fails_when_the_folder_is_gone(port: int, runs: Path) -> None:
    moved = runs.with_name("moved")
    runs.rename(moved)
    try:
        told = probe(port)
    finally:
        moved.rename(runs)
    assert (told.returncode, told.stderr.strip()) == (1, "error: the answer is [b'503']")


def test_the_probe_fails_when_nothing_answers() -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        told = probe(taken.getsockname()[1])
    assert (told.returncode, "nothing answers" in told.stderr) == (1, True)


def probe(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-S", str(PROBE), str(port)], capture_output=True, text=True, timeout=30, check=False)


def test_a_volume_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    told = subprocess.run([sys.executable, "-I", str(VOLUMES), str(good), str(bad)], capture_output=True, text=True, timeout=30, check=False)
    assert told.returncode == 1
    assert f"the volume at {bad} can't be written to" in told.stderr
    assert subprocess.run([sys.executable, "-I", str(VOLUMES), str(good)], timeout=30, check=False).returncode == 0
    assert list(good.iterdir()) == []
