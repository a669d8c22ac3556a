"""Whether MLflow's server takes runs, where they go to one.

The canary is entered in no store, so the server is asked a question that its store has to answer. A run never fails for MLflow, hence
nothing here is called broken.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from pipeline.errors import BackendError
from pipeline.settings import Settings, Switch, mask
from pipeline.stack.doctor_http import ask
from pipeline.stack.doctor_preflight import Finding, Health
from pipeline.stack.services import BY_NAME, is_here, started_by
from pipeline.tracking.waiting import records

# It wants to know who asks. MLflow's client has more ways to say so than the address.
_LOGIN: Final = frozenset({401, 403})


def check_mlflow(settings: Settings) -> list[Finding]:
    """A finding about the server of `MLFLOW_TRACKING_URI`; none where runs are entered in a file or a table, or nowhere."""
    server = (settings.mlflow_tracking_uri or "").rstrip("/")
    if settings.tracking is Switch.OFF or urlsplit(server).scheme not in ("http", "https"):
        return []
    waiting = len(records(settings.runs))
    wait = f"{waiting} run{'s wait' if waiting > 1 else ' waits'} in the bundles" if waiting else ""
    try:
        login = _ask(server)
    except BackendError as error:
        detail = f"{error.message}; {wait or 'runs wait in their bundles'} until it takes them"
        return [Finding(name="mlflow", health=Health.WARN, detail=detail, mend=f"{_start(settings, server)}, then pipeline replay")]
    detail = f"{mask(server)} {'wants a login' if login else 'answers, and its store does'}"
    if waiting:
        return [Finding(name="mlflow", health=Health.WARN, detail=f"{detail}; {wait}", mend="pipeline replay")]
    return [Finding(name="mlflow", health=Health.OK, detail=detail)]


def _ask(server: str) -> bool:
    """Ask for the experiments; whether it wants a login first.

    Raises:
        BackendError: it does not answer, or not as MLflow does.
    """
    answer = ask(f"{server}{BY_NAME['mlflow'].ready_path}")
    if answer.status in _LOGIN:
        return True
    if not isinstance(answer.expect_success().json(), dict):
        raise BackendError(f"no answer of MLflow's at {mask(server)}: does another program answer there?")
    return False


def _start(settings: Settings, server: str) -> str:
    """What starts it: ours, where it is the one of the stack."""
    return started_by("mlflow") if is_here(server, settings.mlflow_port) else "start the server that MLFLOW_TRACKING_URI names"
