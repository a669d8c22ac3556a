"""Every query of every panel answers what the bundles say, and every link leads somewhere."""

import json
import math
import re
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.stack_live import panel_answers
from tests.stack_live.ledger import SAME_FOR_ALL, Ledger, held_spans, labels
from tests.stack_live.live_support import LiveStack
from tests.stack_live.panel_answers import DAY, FACTS, NUMBERS, RECORDS, SANE, Moment, Values

pytestmark = pytest.mark.stack
MODEL, TERM = "fixed_effects", "fiber_g_week"
VARIABLES = {"pipeline": "potato", "environment": "local", "model": MODEL, "term": TERM, "__rate_interval": "1m"}
# Steps of a day, as Grafana lays them: three days ago and today are in different ones.
STEP, STEPS = DAY, 5
# Recording rules and alerts are evaluated every 15 s.
RULES_SECONDS = 40


def targets() -> Iterator[Any]:
    """Every query of every dashboard, with the panel's title."""
    for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield pytest.param(panel["title"], target, id=f"{path.stem}: {panel['title']} {target['refId']}")


def filled(text: str, **more: str) -> str:
    """A query as Grafana sends it."""
    interval = {"__interval": f"{STEP:.0f}s", "__interval_ms": f"{STEP * 1000:.0f}"}
    values = {**VARIABLES, **interval, "__range": "7d", "__to": f"{time.time() * 1000:.0f}", **more}
    return re.sub(r"\$\{?(\w+)(?::\w+)?\}?", lambda match: values[match[1]], text)


def moment(stack: LiveStack, at: float) -> Moment:
    return Moment(samples=Ledger(stack.runs).samples(), at=at, interval=STEP, model=MODEL, term=TERM, firing=firing(stack))


def firing(stack: LiveStack) -> list[dict[str, str]]:
    """The labels of what Prometheus says that it fires, without the doctor's."""
    alerts = stack.get("PROMETHEUS_PORT", "/api/v1/alerts")["data"]["alerts"]
    return [each["labels"] for each in alerts if each["state"] == "firing" and each["labels"].get("deployment_environment_name") != "canary"]


def named(series: dict[str, str]) -> Any:
    return labels(**{name: value for name, value in series.items() if name not in SAME_FOR_ALL})


def same(found: Values, wanted: Values) -> bool:
    return found.keys() == wanted.keys() and all(math.isclose(found[key], wanted[key], rel_tol=1e-9, abs_tol=1e-6) for key in found)


@pytest.mark.parametrize(("title", "target"), list(targets()))
def test_a_panel_answers_what_the_bundles_say(stack: LiveStack, three_runs: dict[str, str], title: str, target: dict[str, Any]) -> None:
    key, source = (title, target["refId"]), target["datasource"]["uid"]
    if source == "jaeger":
        _expect_trace(stack, three_runs["completed"], target)
    elif key in RECORDS:
        for run in three_runs.values():
            _expect_records(stack, key, target, run)
    elif key in FACTS:
        _expect_facts(stack, key, target)
    elif key in SANE:
        _expect_sane(stack, key, target)
    elif title == "What is firing?":
        _expect_alerts(stack, target)
    else:
        _expect_numbers(stack, key, target)


def _expect_numbers(stack: LiveStack, key: tuple[str, str], target: dict[str, Any]) -> None:
    """At each step of a graph, or now: the same series with the same values."""
    deadline = time.monotonic() + (RULES_SECONDS if re.search("goldtrace:|ALERTS", target["expr"]) else 0)
    while True:
        at = round(time.time(), 3)
        times = [at] if target.get("instant") else [at // STEP * STEP - STEP * back for back in range(STEPS)]
        answers = [_answer(stack, target, when) for when in times]
        # A step of a graph is drawn where it begins, so the runs in it are those of the time after.
        ahead = STEP if "offset -$__interval" in target["expr"] else 0
        wanted = [NUMBERS[key](replace(moment(stack, when + ahead), is_newest=when == times[0])) for when in times]
        if all(map(same, answers, wanted)) or time.monotonic() > deadline:
            break
        time.sleep(2)
    assert any(wanted), "the bundles say nothing that this panel could show"
    for found, said in zip(answers, wanted, strict=True):
        assert same(found, said), (found, said)


def _answer(stack: LiveStack, target: dict[str, Any], at: float) -> Values:
    """A step of a range query is the same as an instant query at its end."""
    return {named(series["metric"]): float(series["value"][1]) for series in stack.prometheus(filled(target["expr"]), at)}


def _expect_records(stack: LiveStack, key: tuple[str, str], target: dict[str, Any], run: str) -> None:
    wanted = [record for record in Ledger(stack.runs).records() if RECORDS[key](record, run, MODEL)]
    limit = int(target["maxLines"])
    newest = sorted(wanted, key=lambda record: record["time"])[-limit:]
    streams = stack.loki(filled(target["expr"], run=run), limit=limit)
    found = Counter((int(at), line) for stream in streams for at, line, *_ in stream["values"])
    assert found == Counter((record["time"], record["body"]) for record in newest)
    shown = {(int(at), line): stream["stream"] for stream in streams for at, line, *_ in stream["values"]}
    for record in newest:
        metadata = shown[record["time"], record["body"]]
        said = {name.replace(".", "_"): value for name, value in record.items() if "." in name and not isinstance(value, list)}
        assert {name: _text(metadata.get(name, "")) for name in said} == {name: _text(value) for name, value in said.items()}


def _text(value: object) -> object:
    """Loki keeps text: numbers are compared as such."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return float(str(value))
    except ValueError:
        return value


def _expect_facts(stack: LiveStack, key: tuple[str, str], target: dict[str, Any]) -> None:
    wanted = panel_answers.facts(Ledger(stack.runs), *FACTS[key])
    answer = stack.get("LOKI_PORT", "/loki/api/v1/query", query=filled(target["expr"]))["data"]["result"]
    assert wanted
    assert {named(series["metric"]): float(series["value"][1]) for series in answer} == wanted


def _expect_sane(stack: LiveStack, key: tuple[str, str], target: dict[str, Any]) -> None:
    least, most, count = SANE[key]
    answer = stack.prometheus(filled(target["expr"]))
    values = [float(series["value"][1]) for series in answer]
    assert len(values) >= count, answer
    assert all(least <= value <= most for value in values), answer


def _expect_alerts(stack: LiveStack, target: dict[str, Any]) -> None:
    """What Prometheus says that it fires, and for the last run what follows from it."""
    now = moment(stack, time.time())
    follows = {
        "GoldtraceRunFailed": 0 in now.last("goldtrace_last_run_success").values(),
        "GoldtraceGateRed": 2 in now.last("goldtrace_last_run_gate").values(),
        "GoldtraceSuccessShareLow": any(share < 0.95 for share in now.last("goldtrace_last_run_success_share_20").values()),
    }
    deadline = time.monotonic() + RULES_SECONDS
    while True:
        fires = {each["alertname"] for each in firing(stack)}
        shown = {series["metric"]["alertname"] for series in stack.prometheus(filled(target["expr"]))}
        if (shown == fires and follows == {name: name in fires for name in follows}) or time.monotonic() > deadline:
            break
        time.sleep(2)
    assert shown == fires
    assert follows == {name: name in fires for name in follows}


def _expect_trace(stack: LiveStack, run: str, target: dict[str, Any]) -> None:
    """The variable `trace` is the run's id without hyphens, and Jaeger has that trace."""
    dashboard = json.loads((ROOT / "grafana" / "dashboards" / "run.json").read_text())
    (variable,) = [each for each in dashboard["templating"]["list"] if each["name"] == "trace"]
    query = re.fullmatch(r"query_result\((.*)\)", variable["query"]["query"])
    assert query is not None
    (answer,) = stack.prometheus(query[1].replace("$run", run))
    assert answer["metric"]["trace"] == run.replace("-", "")
    assert target["query"] == "${trace}"
    assert held_spans(stack, answer["metric"]["trace"]) == Ledger(stack.runs).spans(run)


def test_every_variable_offers_what_the_bundles_have(stack: LiveStack, three_runs: dict[str, str]) -> None:
    dashboard = json.loads((ROOT / "grafana" / "dashboards" / "models.json").read_text())
    offered = {}
    for variable in dashboard["templating"]["list"]:
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert match is not None
        offered[variable["name"]] = stack.get("PROMETHEUS_PORT", f"/api/v1/label/{match[2]}/values", **{"match[]": filled(match[1])})["data"]
    estimates = Ledger(stack.runs).records("model.estimated")
    models = sorted({record["goldtrace.model.name"] for record in estimates})
    terms = sorted({record["goldtrace.model.term"] for record in estimates if record["goldtrace.model.name"] == MODEL})
    assert offered == {"environment": ["local"], "pipeline": ["potato"], "model": models, "term": terms}


# ---------------------------------------------------------------------------------------------- jumps


def _sources(stack: LiveStack) -> dict[str, Any]:
    return {uid: stack.get("GRAFANA_PORT", f"/api/datasources/uid/{uid}")["jsonData"] for uid in ("prometheus", "loki", "jaeger")}


def test_a_durations_exemplar_leads_to_the_trace(stack: LiveStack, three_runs: dict[str, str]) -> None:
    (first, *_) = _sources(stack)["prometheus"]["exemplarTraceIdDestinations"]
    assert first["datasourceUid"] == "jaeger"
    span = {"start": f"{time.time() - 5 * DAY:.0f}", "end": f"{time.time():.0f}"}
    found = stack.get("PROMETHEUS_PORT", "/api/v1/query_exemplars", query='goldtrace_run_duration_seconds_bucket{service_namespace="potato"}', **span)["data"]
    traces = {exemplar["labels"][first["name"]] for series in found for exemplar in series["exemplars"]}
    for run in three_runs.values():
        assert run.replace("-", "") in traces
        assert held_spans(stack, run)


def test_a_trace_leads_to_the_log_of_its_run(stack: LiveStack, three_runs: dict[str, str]) -> None:
    jump = _sources(stack)["jaeger"]["tracesToLogsV2"]
    assert jump["datasourceUid"] == "loki"
    for run in three_runs.values():
        query = jump["query"].replace("${__trace.traceId}", run.replace("-", ""))
        found = Counter((int(at), line) for stream in stack.loki(query) for at, line, *_ in stream["values"])
        assert found == Ledger(stack.runs).lines(run)


def test_a_steps_span_leads_to_its_durations(stack: LiveStack, three_runs: dict[str, str]) -> None:
    jump = _sources(stack)["jaeger"]["tracesToMetrics"]
    assert jump["datasourceUid"] == "prometheus"
    trace = stack.get("JAEGER_PORT", f"/api/traces/{three_runs['completed'].replace('-', '')}")["data"][0]
    step = next(span for span in trace["spans"] if any(tag["key"] == "goldtrace.step.name" for tag in span["tags"]))
    process = trace["processes"][step["processID"]]["tags"]
    known = {tag["key"]: tag["value"] for tag in [*step["tags"], *process]}
    tags = ", ".join(f'{each["value"]}="{known[each["key"]]}"' for each in jump["tags"])
    assert stack.prometheus(jump["queries"][0]["query"].replace("$__tags", tags))


def test_a_log_line_leads_to_trace_run_report_and_job(stack: LiveStack, three_runs: dict[str, str]) -> None:
    (stream, *_) = stack.loki(f'{{service_name="goldtrace"}} | goldtrace_run_id="{three_runs["completed"]}" | event_name="step.finished"')
    metadata, fields = stream["stream"], {each["name"]: each for each in _sources(stack)["loki"]["derivedFields"]}
    values = {}
    for name, jump in fields.items():
        (label,) = [label for label in metadata if re.search(jump["matcherRegex"], label)]
        values[name] = jump["url"].replace("${__value.raw}", metadata[label]).replace("${__data.fields.service_namespace}", metadata["service_namespace"])
    assert (fields["Trace"]["datasourceUid"], held_spans(stack, values["Trace"])) == ("jaeger", Ledger(stack.runs).spans(three_runs["completed"]))
    for url in (values["Run"], values["Report"], values["Pipeline"], values["Trace in Jaeger"]):
        expect_target(stack, url)


def _links() -> Iterator[str]:
    """The addresses of all links in dashboards."""
    for path in (ROOT / "grafana" / "dashboards").glob("*.json"):
        waiting: list[Any] = [json.loads(path.read_text())]
        while waiting:
            each = waiting.pop()
            waiting += each.values() if isinstance(each, dict) else each if isinstance(each, list) else []
            if isinstance(each, dict) and isinstance(each.get("url"), str) and each["url"]:
                yield each["url"]


def test_every_link_of_every_dashboard_leads_to_a_page_that_is_there(stack: LiveStack, three_runs: dict[str, str]) -> None:
    run = three_runs["completed"]
    (published, *_) = [record for record in Ledger(stack.runs).records("dataset.published") if record["run"] == run]
    fields = {
        "goldtrace_run_id": run,
        "trace_id": run.replace("-", ""),
        "span_id": next(iter(Ledger(stack.runs).spans(run))),
        "service_namespace": "potato",
        "deployment_environment_name": "local",
        "goldtrace_step_name": "features",
        **{name.replace(".", "_"): value for name, value in published.items() if name.startswith(("goldtrace.dataset.name", "goldtrace.lineage."))},
        "dataset": "silver/weekly_features",
    }
    links = {link for link in _links() if "goldtrace_mlflow" not in link}  # those are followed where MLflow is up: test_live_4_mlflow.py
    assert len(links) >= 8
    for link in links:
        url = re.sub(r"\$\{__(?:data\.fields|field\.labels)\.(\w+):percentencode\}", lambda match: urllib.parse.quote(fields[match[1]], safe=""), link)
        url = re.sub(
            r"\$\{(run|trace)(?::percentencode)?\}", lambda match: urllib.parse.quote({"run": run, "trace": run.replace("-", "")}[match[1]], safe=""), url
        )
        url = re.sub(r"\$\{environment:queryparam\}", "var-environment=local", url).replace("${__url_time_range}", "from=now-7d&to=now")
        assert "$" not in url, link
        expect_target(stack, url)


def expect_target(stack: LiveStack, url: str) -> None:
    """What the page behind an address is made from is there: by the servers' API, as the stand-ins have no pages."""
    parts = urllib.parse.urlsplit(stack.moved(url))
    path = urllib.parse.unquote(parts.path)
    if path.startswith("/d/"):
        assert stack.get("GRAFANA_PORT", f"/api/dashboards/uid/{path.split('/')[2]}")["dashboard"]["title"]
    elif path.startswith("/trace/"):
        assert stack.status(url) == 200
        assert held_spans(stack, path.removeprefix("/trace/"))
    elif path.startswith("/lineage/job/"):
        namespace, job = path.removeprefix("/lineage/job/").split("/", 1)
        assert urllib.parse.parse_qs(parts.query)["tableLevelNode"] == [f"job:{namespace}:{job}"]
        assert stack.get("MARQUEZ_PORT", f"/api/v1/namespaces/{namespace}/jobs/{job}")["name"] == job
    elif path.startswith("/lineage/dataset/"):
        namespace, name = re.fullmatch(r"/lineage/dataset/(\w+://\w+)/(.+)", path).groups()  # type: ignore[union-attr]
        assert urllib.parse.parse_qs(parts.query)["tableLevelNode"] == [f"dataset:{namespace}:{name}"]
        quoted = [urllib.parse.quote(part, safe="") for part in (namespace, name)]
        assert stack.get("MARQUEZ_PORT", f"/api/v1/namespaces/{quoted[0]}/datasets/{quoted[1]}")["name"] == name
    elif path.endswith("/report.html"):
        assert stack.status(url) == 200
    else:
        # Alertmanager has no page here; the API that it is made from answers.
        assert parts.fragment == "/alerts", url
        assert stack.get("ALERTMANAGER_PORT", "/api/v2/status")["versionInfo"]
