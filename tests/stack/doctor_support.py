"""A stack of small HTTP servers that answer about the bundles of a runs folder, as the real ones do; each can be broken."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pipeline import api
from pipeline.settings import Settings, load
from pipeline.stack import doctor_probes
from pipeline.stack.doctor import Diagnosis, examine
from pipeline.stack.doctor_hops import HOPS
from pipeline.stack.doctor_look import Box, Containers
from pipeline.stack.engine import Container
from pipeline.testing import logs, metrics, spans

NO_ENGINE = Containers(problem="no container engine was found")
NOT_FOUND = (404, {"error": "not found"})
ADDRESSES = {
    "collector": "PIPELINE_COLLECTOR_URL",
    "prometheus": "PIPELINE_PROMETHEUS_URL",
    "loki": "PIPELINE_LOKI_URL",
    "jaeger": "PIPELINE_TRACE_URL",
    "alertmanager": "PIPELINE_ALERTMANAGER_URL",
    "marquez": "OPENLINEAGE_URL",
    "marquez-web": "PIPELINE_LINEAGE_URL",
    "reports": "PIPELINE_REPORT_URL",
    "grafana": "PIPELINE_GRAFANA_URL",
}
# What says that the server on that port is the stack's own.
PORTS = {"collector": "OTLP_HTTP_PORT", "marquez": "MARQUEZ_PORT", "marquez-web": "MARQUEZ_WEB_PORT"}
Reply = tuple[int, Any]


@dataclass
class FakeStack:
    """Servers on free ports.

    `modes` says how each is: `well`, `stopped` (its port is closed), `silent` (takes the question and says nothing), `500`, `empty`
    (well, but without the run), `nonsense` (answers what is no answer), `partial` (has a part of the run), `delayed` (has the run late), `closed` (takes
    no events), `forgetful` (has only the canary), `other` (takes OpenLineage's events, and is no Marquez). With a `key`, Marquez answers nobody else.
    """

    runs: Path
    modes: dict[str, str] = field(default_factory=dict)
    settings: Settings = field(init=False)
    asked: list[str] = field(default_factory=list)
    version: str = "3.15.0"
    ahead: float = 0.0
    key: str = ""
    ended: Event = field(default_factory=Event)

    def canary(self) -> Path | None:
        """The newest bundle whose run has ended."""
        ended = [path for path in sorted(self.runs.iterdir(), reverse=True) if logs(path) and logs(path)[-1].get("eventName") == "run.finished"]
        return ended[0] if ended else None

    def bundle(self, id_: str) -> Path | None:
        """The bundle of a run, by its id or its trace's."""
        return next((path for path in self.runs.iterdir() if path.name.replace("-", "") == id_.replace("-", "")), None)

    def reply(self, service: str, path: str, query: dict[str, str]) -> Reply:
        """What a service answers."""
        self.asked.append(service)
        mode = self.modes.get(service, "well")
        if mode == "500":
            return 500, {"message": "on purpose"}
        if mode == "nonsense":
            return 200, {"hello": ["world"]}
        bundle = self.canary()
        if mode == "empty" or (mode == "delayed" and bundle and time.time() < (bundle / "logs.jsonl").stat().st_mtime + 0.4):
            bundle = None
        return _ANSWERS[service](self, bundle, path, query, mode == "partial")


def _collector(stack: FakeStack, bundle: Path | None, path: str, query: dict[str, str], partial: bool) -> Reply:
    return 200, {"status": "Server available"}


def _jaeger(stack: FakeStack, bundle: Path | None, path: str, query: dict[str, str], partial: bool) -> Reply:
    if path == "/api/services":
        return 200, {"data": ["jaeger"]}
    bundle = bundle and stack.bundle(path.removeprefix("/api/traces/"))
    if bundle is None:
        return NOT_FOUND
    found = [{"spanID": span["spanId"]} for span in spans(bundle)]
    return 200, {"data": [{"spans": found[1:] if partial else found}]}


def _loki(stack: FakeStack, bundle: Path | None, path: str, query: dict[str, str], partial: bool) -> Reply:
    if path == "/loki/api/v1/status/buildinfo":
        return 200, {"version": stack.version}
    selector = re.fullmatch(r'\{.*deployment_environment_name="(\w+)"\} \| goldtrace_run_id="([0-9a-f-]+)"', query["query"])
    bundle = bundle and selector and stack.bundle(selector[2])
    forgot = stack.modes.get("loki") == "forgetful" and selector is not None and selector[1] != "canary"
    lines = [["1", record["body"]] for record in logs(bundle)] if bundle and not forgot else []
    streams = [{"values": lines[1:] if partial else lines[:3]}, {"values": [] if partial else lines[3:]}]
    return 200, {"data": {"result": [stream for stream in streams if stream["values"]]}}


def _prometheus(stack: FakeStack, bundle: Path | None, path: str, query: dict[str, str], partial: bool) -> Reply:
    if path == "/api/v1/status/buildinfo":
        return 200, {"data": {"version": stack.version}}
    series = [{"values": [[1700000000, "1"]]}]
    points = [point for each in stack.runs.iterdir() for point in metrics(each).get("goldtrace.runs", [])] if bundle else []
    if path == "/api/v1/query_exemplars":
        trace = bundle.name.replace("-", "") if bundle and not partial else "0" * 32
        return 200, {"data": [{"exemplars": [{"labels": {"trace_id": trace}}]}]}
    series += [{"values": [[int(point["timeUnixNano"]) // 1_000_000 / 1000, "1"]]} for point in points]
    return 200, {"data": {"result": series}}


def _alertmanager(stack: FakeStack, bundle: Path | None, path: str, query: dict[str, str], partial: bool) -> Reply:
    if path == "/api/v2/status":
        return 200, {"versionInfo": {"version": stack.version}}
    if bundle is None or query["filter"] != 'alertname="GoldtraceCanary"':
        return 200, []
    at = int(metrics(bundle)["goldtrace.runs"][0]["timeUnixNano"]) / 1e9 - (3600 if partial else 0)
    return 200, [{"labels": {"alertname": "GoldtraceCanary"}, "annotations": {"sample_time": f"{at:.3f}"}}]


def _marquez(stack: FakeStack, bundle: Path | None, path: str, query: dict[str, str], partial: bool) -> Reply:
    is_other = stack.modes.get("marquez") == "other"
    if path == "/api/v1/namespaces" and not is_other:
        return 200, {"namespaces": []}
    if path == "/api/v1/lineage":
        return (503, {"message": "try later"}) if stack.modes.get("marquez") == "closed" else (201, None)
    if is_other or stack.modes.get("marquez") == "closed":
        return NOT_FOUND
    if bundle is None or path != f"/api/v1/jobs/runs/{bundle.name}":
        return NOT_FOUND
    return 200, {"id": bundle.name, "state": "RUNNING" if partial else "COMPLETED"}


def _marquez_web(stack: FakeStack, bundle: Path | None, path: str, query: dict[str, str], partial: bool) -> Reply:
    return (200, {}) if path == "/healthcheck" else NOT_FOUND


def _reports(stack: FakeStack, bundle: Path | None, path: str, query: dict[str, str], partial: bool) -> Reply:
    page = bundle / "report.html" if bundle else None
    if bundle is None or page is None or path != f"/{bundle.name}/report.html" or not page.exists():
        return NOT_FOUND
    return 200, "another page" if partial else page.read_text()


def _grafana(stack: FakeStack, bundle: Path | None, path: str, query: dict[str, str], partial: bool) -> Reply:
    empty = stack.modes.get("grafana") == "empty"
    if path == "/api/health":
        return 200, {"database": "ok", "version": "13.2.0"}
    if path == "/api/datasources":
        return (403, {"message": "not signed in"}) if partial else (200, [] if empty else [{"uid": uid} for uid in doctor_probes.DATASOURCES])
    if path == "/api/frontend/settings":
        return 200, {"datasources": {uid: {"uid": uid} for uid in doctor_probes.DATASOURCES}}
    return 200, [{"uid": uid} for uid in doctor_probes.DASHBOARDS]


_ANSWERS = {
    "collector": _collector,
    "jaeger": _jaeger,
    "loki": _loki,
    "prometheus": _prometheus,
    "alertmanager": _alertmanager,
    "marquez": _marquez,
    "marquez-web": _marquez_web,
    "reports": _reports,
    "grafana": _grafana,
}


def _handler(stack: FakeStack, service: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if stack.modes.get(service) == "silent":
                stack.ended.wait(30)
                self.close_connection = True
                return
            url = urlsplit(self.path)
            if service == "marquez" and stack.key and self.headers.get("Authorization") != f"Bearer {stack.key}":
                self.send_error(401)
                return
            status, body = stack.reply(service, url.path, {name: values[0] for name, values in parse_qs(url.query).items()})
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + stack.ahead)

        def log_message(self, *args: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):  # the doctor has given up
                super().handle()

    return Handler


@contextmanager
def fake_stack(runs: Path, **modes: str) -> Iterator[FakeStack]:
    """A running stack; those that are `stopped` have a port that nobody listens on."""
    runs.mkdir(exist_ok=True)
    stack = FakeStack(runs=runs, modes={name.replace("_", "-"): mode for name, mode in modes.items()})
    with ExitStack() as cleanup:
        cleanup.callback(stack.ended.set)
        environ = {"PIPELINE_RUNS": str(runs)}
        for service, variable in ADDRESSES.items():
            server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stack, service))
            server.daemon_threads = True
            server.block_on_close = False
            cleanup.callback(server.server_close)
            environ[variable] = f"http://127.0.0.1:{server.server_port}"
            if service in PORTS:
                environ[PORTS[service]] = str(server.server_port)
            if stack.modes.get(service) == "stopped":
                server.server_close()
                continue
            Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            cleanup.callback(server.shutdown)
        stack.settings = load(environ=environ, dotenv=runs / "no.env")
        yield stack


def diagnose(stack: FakeStack, containers: Containers = NO_ENGINE, timeout: float = 15) -> Diagnosis:
    """What the doctor says of the stack."""
    return examine(stack.settings, containers, root=stack.runs, timeout=timeout, finish=api.report_on)


def boxes(**states: str) -> dict[str, Box]:
    """A container for each service: `running healthy`, or in the state and health that are named."""
    found = {}
    for hop in HOPS:
        state, _, health = states.get(hop.name.replace("-", "_"), "running healthy").partition(" ")
        container = Container(id=hop.name, service=hop.name, state=state, health=health, exit_code=0, ports=())
        found[hop.name] = Box(container=container, image=f"{hop.name}:1", mounts={"/runs": "/somewhere/runs"})
    return found
