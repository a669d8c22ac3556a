"""The run's side of the worker: starting it, asking it once within a deadline, and seeing that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline.settings import TELEMETRY_SECONDS, Settings, from_here, mask
from pipeline.tracking.record import RunRecord
from pipeline.tracking.worker import Answer, Order

REMOTE_SECONDS = TELEMETRY_SECONDS
# Finds this very package, and takes nothing from the working directory (-P).
_BOOT = "import sys; root = sys.argv.pop(); sys.path[:0] = [] if root in sys.path else [root]; from pipeline.tracking.worker import main; main()"
# MLflow traces by itself when it finds these, continues a run of the caller's, and turns warnings into errors.
_KEPT_OUT = ("OTEL_", "TRACEPARENT", "TRACESTATE", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_", "MLFLOW_REGISTRY_URI", "PYTHONWARNINGS")
_SET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "OTEL_SDK_DISABLED": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(int(REMOTE_SECONDS)),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where experiments go, and how many seconds a run waits for it at its end."""

    uri: str
    seconds: float

    @property
    def masked(self) -> str:
        """The address without user and password, and without the way to a local file."""
        return from_here(mask(self.uri))


def target(settings: Settings) -> Target:
    """The store of `MLFLOW_TRACKING_URI`, or else the SQLite file beside the runs."""
    uri = settings.mlflow_tracking_uri or f"sqlite:///{settings.runs.absolute() / 'mlflow.db'}"
    scheme = uri.partition("://")[0].partition("+")[0] if "://" in uri else "file"
    is_local = scheme in ("sqlite", "file")
    return Target(uri=uri, seconds=settings.tracking_timeout if is_local else min(REMOTE_SECONDS, settings.tracking_timeout))


class Worker:
    """A worker process for as long as the context lasts. It can be asked once.

    Neither entering nor leaving nor asking raises when something is wrong with it: the answer says so.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._unstarted = ""

    @property
    def pid(self) -> int | None:
        """The process's id, which is its group's too; None when it could not be started."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        try:
            # Made and taken away here, so that a killed worker leaves nothing behind; when we are killed, the worker does it.
            self._scratch = tempfile.TemporaryDirectory(prefix="goldtrace-", ignore_cleanup_errors=True)
            self._process = self._start(self._scratch.name)
        except OSError as error:
            self._unstarted = f"the worker could not be started: {error.strerror}"
        return self

    def _start(self, scratch: str) -> subprocess.Popen[bytes]:
        # Handed on, not read: settings are read in one place only.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_OUT)}
        return subprocess.Popen(  # noqa: S603 - this interpreter, with code of ours
            [sys.executable, "-P", "-W", "ignore", "-c", _BOOT, scratch, str(Path(__file__).parents[2])],
            env={**kept, **_SET, "MLFLOW_TRACKING_URI": self.target.uri},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A Ctrl-C on the terminal is for the run, which then says goodbye to the worker itself.
            start_new_session=True,
        )

    def ask(self, records: list[RunRecord], seconds: float | None = None) -> Answer:
        """Hand over the records and wait for the answer, at most as long as the target says unless it is said here."""
        seconds = self.target.seconds if seconds is None else seconds
        if self._process is None:
            return _silence(self._unstarted)
        order: Order = {"records": records}
        try:
            output, _ = self._process.communicate(json.dumps(order).encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            return _silence(f"no answer within {seconds:g} s")
        try:
            answer: Answer = json.loads(output)
        except ValueError:
            return _silence(f"the worker ended with code {self._process.returncode} and no answer")
        return answer

    def __exit__(self, *_: object) -> None:
        """Kill what is left of it, with all that it started, and wait for it, so that no zombie stays."""
        if self._process is not None:
            if self._process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            for pipe in (self._process.stdin, self._process.stdout):
                # Closing flushes what the worker did not read.
                with suppress(OSError):
                    if pipe:
                        pipe.close()
            self._process.wait()
        if self._scratch is not None:
            self._scratch.cleanup()


def _silence(message: str) -> Answer:
    return {"delivered": [], "refusal": {"retry_is_safe": True, "error": "", "message": message}}
