"""A stack of its own for tests: started and stopped by the project's own commands, on ports and in folders of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.telemetry import bundle

PROJECT = "goldtrace-test"
# The default ports, and the test's: away from them and from what people move theirs to, below those that systems give out.
PORTS = {
    "GRAFANA_PORT": (3000, 23000),
    "MARQUEZ_WEB_PORT": (3001, 23001),
    "MARQUEZ_PORT": (5080, 25080),
    "JAEGER_PORT": (16686, 26686),
    "PROMETHEUS_PORT": (9090, 29090),
    "ALERTMANAGER_PORT": (9093, 29093),
    "LOKI_PORT": (3100, 23100),
    "OTLP_GRPC_PORT": (4317, 24317),
    "OTLP_HTTP_PORT": (4318, 24318),
    "COLLECTOR_HEALTH_PORT": (13133, 23133),
    "REPORTS_PORT": (8088, 28088),
    "MLFLOW_PORT": (5081, 25081),
    "S3_PORT": (7070, 27070),
    "DYNAMODB_PORT": (8000, 28000),
}
COMMAND = "import sys; sys.argv[0] = 'pipeline'; from pipeline.cli import main; main()"
# A run that waits for MLflow's server as long as it takes: what it has to say must not depend on how busy the machine is.
PATIENT = (
    "import sys; from pipeline.tracking import process; process.REMOTE_SECONDS = 60.0; process._SET['MLFLOW_HTTP_REQUEST_TIMEOUT'] = '60'; "
    "sys.argv[0] = 'pipeline'; from pipeline.cli import main; main()"
)
DATED = "import sys; from datetime import datetime; from pipeline import api; print(api.run(at=datetime.fromisoformat(sys.argv[1])).id)"
Done = subprocess.CompletedProcess


@dataclass
class LiveStack:
    """The running stack, and the runs that were made for it."""

    root: Path
    folder: Path

    @property
    def runs(self) -> Path:
        """The folder of bundles."""
        return self.folder / "runs"

    @property
    def environ(self) -> dict[str, str]:
        """What every command is told."""
        ports = {name: str(port) for name, (_, port) in PORTS.items()}
        own = {"PIPELINE_RUNS": str(self.runs), "PIPELINE_LAKE": str(self.folder / "lake"), "PIPELINE_TRACKING": "off", "PIPELINE_LOG_LEVEL": "error"}
        inherited = {name: value for name, value in os.environ.items() if name != "OPENLINEAGE_DISABLED"}  # the other tests' wish
        return {**inherited, **ports, **own, "COMPOSE_PROJECT_NAME": PROJECT}

    # ------------------------------------------------------------------------------------------ commands

    def command(self, *words: str, timeout: float = 300, code: str = COMMAND, **environ: str) -> Done[str]:
        """Run a command of ours in the project's folder."""
        return self._python(code, *words, timeout=timeout, environ=environ)

    def run(self, *words: str, code: str = COMMAND, **environ: str) -> str:
        """Run the study, and return the run's id."""
        before = self.ids()
        done = self._python(code, "run", *words, environ=environ)
        (made,) = self.ids() - before
        assert done.returncode in (0, 1, 3), done.stdout + done.stderr
        return made

    def run_at(self, moment: str) -> str:
        """Run the study dated, and return the run's id."""
        return self._python(DATED, moment).stdout.split()[-1]

    def begin_run(self) -> subprocess.Popen[bytes]:
        """Start a run and go on."""
        return subprocess.Popen([sys.executable, "-c", COMMAND, "run"], cwd=self.root, env=self.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ids(self) -> set[str]:
        """The ids of all runs but the canaries and the archived ones."""
        return {path.name for path in self.folders() if json.loads((path / "manifest.json").read_text())["environment"] != "canary"}

    def folders(self) -> list[Path]:
        """The bundles that are not archived."""
        return [path for path in self.runs.iterdir() if path.name != bundle.ARCHIVE]

    def doctor(self, timeout: float = 20, **environ: str) -> dict[str, Any]:
        """What the doctor says."""
        done = self.command("doctor", "--json", "--timeout", str(timeout), **environ)
        found: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) == found["ok"], done.stderr
        return found

    def compose(self, *words: str) -> str:
        """A command of docker compose."""
        files = ["--env-file", "compose/.env", "-f", "compose/obs.yaml", "-f", "compose/lineage.yaml", "-f", "compose/mlflow.yaml"]
        done = subprocess.run(["docker", "compose", *files, *words], cwd=self.root, env=self.environ, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _python(self, code: str, *words: str, timeout: float = 300, environ: dict[str, str] | None = None) -> Done[str]:
        command = [sys.executable, "-c", code, *words]
        environ = {**self.environ, **(environ or {})}
        return subprocess.run(command, cwd=self.root, env=environ, capture_output=True, text=True, timeout=timeout, check=False)

    # ------------------------------------------------------------------------------------------ servers

    def url(self, port: str, path: str = "") -> str:
        """An address of the stack."""
        return f"http://127.0.0.1:{PORTS[port][1]}{path}"

    def moved(self, url: str) -> str:
        """An address with a default port, at this stack's."""
        for default, port in PORTS.values():
            url = url.replace(f"127.0.0.1:{default}/", f"127.0.0.1:{port}/")
        return url

    def get(self, port: str, path: str, **query: str | float) -> Any:
        """The JSON that a server answers."""
        suffix = f"?{urllib.parse.urlencode(query)}" if query else ""
        with urllib.request.urlopen(self.url(port, path) + suffix, timeout=20) as answer:
            return json.load(answer)

    def status(self, url: str) -> int:
        """The status that an address answers with."""
        try:
            with urllib.request.urlopen(self.moved(url), timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def prometheus(self, query: str, at: float | None = None) -> list[dict[str, Any]]:
        """The result of an instant query."""
        when = {} if at is None else {"time": f"{at:.3f}"}
        found: list[dict[str, Any]] = self.get("PROMETHEUS_PORT", "/api/v1/query", query=query, **when)["data"]["result"]
        return found

    def loki(self, query: str, *, days: float = 30, limit: int = 5000) -> list[dict[str, Any]]:
        """The streams of a query over the last days."""
        span = {"start": f"{(time.time() - days * 86400 + 60) * 1e9:.0f}", "end": f"{time.time() * 1e9:.0f}"}
        found: list[dict[str, Any]] = self.get("LOKI_PORT", "/loki/api/v1/query_range", query=query, limit=limit, **span)["data"]["result"]
        return found


def wait_until(is_so: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until something is so, and return how long that took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - began
