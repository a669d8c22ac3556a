"""What the doctor says of lineage: it asks the server as runs send to it, and tells the stack's own Marquez from others."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.stack.doctor_canary import run_canary
from pipeline.stack.doctor_hops import BY_NAME
from pipeline.stack.doctor_lineage import marquez
from pipeline.stack.doctor_look import Containers
from pipeline.stack.doctor_preflight import Health
from pipeline.stack.doctor_probes import NOT_THERE, Wanted
from pipeline.stack.doctor_text import diagnosis_json, diagnosis_text
from pipeline.stack.doctor_verdict import Verdict
from pipeline.telemetry import delivery
from tests.stack.doctor_support import FakeStack, boxes, diagnose, fake_stack

QUICK = 0.5
# Ports that nobody has.
OTHER = {"marquez_port": 1, "marquez_web_port": 2}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether lineage arrives is not left to how busy the machine is."""
    monkeypatch.setattr(delivery, "SECONDS", 60.0)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def change(stack: FakeStack, **settings: object) -> None:
    stack.settings = stack.settings.model_copy(update=settings)


def verdicts(stack: FakeStack, containers: Containers | None = None, timeout: float = 15) -> dict[str, Verdict]:
    containers = containers or Containers(problem="no container engine was found")
    return {verdict.hop: verdict for verdict in diagnose(stack, containers, timeout).verdicts}


def test_a_server_that_wants_a_key_is_asked_with_the_key_that_runs_send(runs: Path) -> None:
    with fake_stack(runs) as stack:
        stack.key = "s3cret"
        change(stack, openlineage_api_key=SecretStr("s3cret"))
        assert verdicts(stack)["marquez"].health is Health.OK
        assert BY_NAME["marquez"].ask(stack.settings).status == 200


@pytest.mark.parametrize("path", ["/", "/api/v1/lineage", "/api/v1/lineage/"])
def test_an_address_with_the_path_that_events_go_to_is_asked_beside_it(runs: Path, path: str) -> None:
    with fake_stack(runs) as stack:
        change(stack, openlineage_url=stack.settings.openlineage_url + path)
        assert verdicts(stack)["marquez"].health is Health.OK
        assert BY_NAME["marquez"].ask(stack.settings).status == 200


def test_a_key_that_is_refused_is_broken_and_not_shown(runs: Path) -> None:
    with fake_stack(runs) as stack:
        stack.key = "s3cret"
        change(stack, openlineage_api_key=SecretStr("wrong-one"), **OTHER)
        found = diagnose(stack, timeout=QUICK)
    broken = next(verdict for verdict in found.broken if verdict.hop == "marquez")
    assert broken.reason.startswith("HTTP 401 at ")
    assert "OPENLINEAGE_API_KEY" in broken.mend
    assert "wrong-one" not in diagnosis_text(found)


def test_a_key_that_cant_be_sent_is_told_as_such(runs: Path) -> None:
    with fake_stack(runs) as stack:
        change(stack, openlineage_api_key=SecretStr("one\ntwo"))
        assert verdicts(stack, timeout=QUICK)["marquez"].reason.startswith("the key or the address can't be sent at http://")


@pytest.mark.parametrize(
    ("mode", "health", "mend"),
    [("well", Health.OK, ""), ("stopped", Health.BROKEN, "see to OPENLINEAGE_URL"), ("empty", Health.BROKEN, "see to OPENLINEAGE_URL")],
)
def test_lineage_that_goes_elsewhere_is_not_judged_by_the_containers_here(runs: Path, mode: str, health: Health, mend: str) -> None:
    here = Containers(engine="docker 28", boxes=boxes(postgres="exited ", marquez="exited "))
    with fake_stack(runs, marquez=mode) as stack:
        change(stack, **OTHER)
        found = verdicts(stack, here, QUICK if mode == "empty" else 15)["marquez"]
    assert (found.health, found.mend[: len(mend)]) == (health, mend)
    assert "restart" not in found.mend
    assert "container" not in found.reason


def test_what_belongs_to_the_marquez_here_is_left_out_when_lineage_goes_elsewhere(runs: Path) -> None:
    with fake_stack(runs, marquez_web="stopped") as stack:
        change(stack, marquez_port=1)
        found = verdicts(stack, Containers(engine="docker 28", boxes=boxes(postgres="exited ")))
    reason = f"lineage goes to {stack.settings.openlineage_url} (OPENLINEAGE_URL)"
    assert {found[name].reason for name in ("postgres", "marquez-web")} == {reason}
    assert {found[name].health for name in ("postgres", "marquez-web")} == {Health.SKIPPED}


def test_a_page_elsewhere_is_asked_and_mended_there(runs: Path) -> None:
    with fake_stack(runs, marquez_web="stopped") as stack:
        change(stack, **OTHER)
        page = verdicts(stack)["marquez-web"]
    assert (page.health, page.mend) == (Health.BROKEN, "see to PIPELINE_LINEAGE_URL and the server it leads to")


def test_a_server_that_takes_events_and_is_no_marquez_is_a_warning(runs: Path) -> None:
    with fake_stack(runs, marquez="other") as stack:
        found = diagnose(stack, timeout=600)  # which is not waited for
    taken = next(verdict for verdict in found.verdicts if verdict.hop == "marquez")
    assert found.is_well
    assert (taken.health, taken.seconds, taken.mend) == (Health.WARN, None, "")
    assert taken.reason == f"{stack.settings.openlineage_url} took the run's events, and can't be asked for them (HTTP 404)"
    assert "All is well: the run was everywhere that could be asked after" in diagnosis_text(found)
    assert next(hop["state"] for hop in diagnosis_json(found)["hops"] if hop["name"] == "marquez") == "warn"


def test_a_marquez_that_took_the_events_and_has_no_such_run_lacks_it(runs: Path) -> None:
    wanted: list[Wanted] = []
    with fake_stack(runs, marquez="empty") as stack:
        run_canary(stack.settings, wanted.append)
        assert marquez(stack.settings, wanted[0]) == NOT_THERE
