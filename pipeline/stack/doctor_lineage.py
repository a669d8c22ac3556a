"""Whether a run's lineage arrives: in the stack's own Marquez, or where `OPENLINEAGE_URL` leads.

The server is asked as it is sent to: at the same address, with the same key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pipeline.errors import BackendError
from pipeline.settings import Settings, Switch
from pipeline.stack.doctor_http import Answer, ask
from pipeline.stack.doctor_probes import NOT_THERE, Wanted
from pipeline.stack.services import is_here
from pipeline.telemetry import delivery, delivery_entry
from pipeline.telemetry.delivery_entry import Delivery
from pipeline.telemetry.lineage_server import Server

# What every Marquez answers.
_NAMESPACES: Final = "/api/v1/namespaces"
# There is no such question here, or not for this key: OpenLineage says how events are sent, and not how they are asked for.
_NOT_ASKED_FOR: Final = frozenset({401, 403, 404, 405})


def ask_server(settings: Settings, endpoint: str) -> Answer:
    """What the server of the lineage answers on one of Marquez's endpoints.

    Raises:
        BackendError: it does not answer.
    """
    server = Server.of(settings)
    return ask(server.url(endpoint), headers=server.headers())


def marquez(settings: Settings, wanted: Wanted) -> str:
    """The run is there by its id, and completed.

    Raises:
        BackendError: it does not answer as Marquez does. The fact `is_taken`: but it took the run's events.
    """
    answer = ask_server(settings, f"/api/v1/jobs/runs/{wanted.run_id}")
    if answer.status in _NOT_ASKED_FOR and _is_delivered(wanted.bundle) and ask_server(settings, _NAMESPACES).status in _NOT_ASKED_FOR:
        reason = f"{Server.of(settings).target} took the run's events, and can't be asked for them (HTTP {answer.status})"
        raise BackendError(reason, is_taken=True)
    if answer.status == 404:
        return _undelivered(wanted.bundle)
    state = str(answer.expect_success().json().get("state"))
    return "" if state == "COMPLETED" else f"its state is {state}"


def left_out(settings: Settings) -> dict[str, str]:
    """The hops that no run's lineage comes to, each with why. That telemetry is off doesn't count: the canary has it on."""
    if delivery.is_off(settings.model_copy(update={"telemetry": Switch.ON})):
        return {"marquez": "lineage is turned off (OPENLINEAGE_DISABLED)"}
    other = elsewhere(settings)
    if "marquez" not in other:
        return {}
    reason = f"lineage goes to {Server.of(settings).target} (OPENLINEAGE_URL)"
    return {name: reason for name in ("postgres", "marquez-web") if name not in other}


def elsewhere(settings: Settings) -> dict[str, str]:
    """Those of Marquez and its page that are not this stack's, each with what mends it."""
    mends = {
        "marquez": "see to OPENLINEAGE_URL, OPENLINEAGE_API_KEY and the server they lead to, then pipeline replay",
        "marquez-web": "see to PIPELINE_LINEAGE_URL and the server it leads to",
    }
    is_ours = {
        "marquez": is_here(settings.openlineage_url, settings.marquez_port),
        "marquez-web": is_here(settings.lineage_url, settings.marquez_web_port),
    }
    return {name: mend for name, mend in mends.items() if not is_ours[name]}


def _is_delivered(folder: Path) -> bool:
    entry = delivery_entry.read(folder)
    return entry is not None and entry.state is Delivery.DELIVERED


def _undelivered(folder: Path) -> str:
    """That the lineage isn't there, and what is known of its sending."""
    entry = delivery_entry.read(folder)
    if entry is None or entry.state is Delivery.DELIVERED:
        return NOT_THERE
    return f"its lineage is {entry.state.value}: {entry.detail or 'older runs are sent first'}"
