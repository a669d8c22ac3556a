"""Tests for pipeline/stack/dashboards*.py, panels.py, tables.py, links.py and build.py: what the dashboards' JSON says."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from pipeline import names
from pipeline.settings import Settings
from pipeline.stack import build, rules
from pipeline.stack.dashboard_queries import panels, queries, variables
from pipeline.stack.dashboards_overview import FACTS, NO_GATE
from pipeline.stack.dashboards_stack import SERVERS_METRICS
from tests.stack.dashboards_support import (
    FOLDER,
    FOREIGN,
    LINE_FIELDS,
    NAMES,
    ROOT,
    all_queries,
    known_labels,
    known_metrics,
    labels_in,
    load,
    logql,
    metrics_in,
    promql,
    titles,
)

# A laptop of 1366×768: what is left below Grafana's own bars holds 15 to 16 rows of 38 pixels.
ROWS_ON_A_LAPTOP = 16
UNITS = {"bytes", "dtdurations", "locale", "ms", "none", "percentunit", "rps", "s", "short"}


@pytest.fixture(params=NAMES)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load(request.param)


# ------------------------------------------------------------------------------------------------------------ files


def test_building_again_changes_nothing() -> None:
    assert build.stale(ROOT, Settings()) == []


def test_every_dashboard_in_the_folder_is_built() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(NAMES)


def test_building_writes_only_what_differs(tmp_path: Path) -> None:
    assert len(build.write(tmp_path, Settings())) == len(build.files(Settings()))
    (tmp_path / "grafana/dashboards/run.json").write_text("{}")

    assert build.write(tmp_path, Settings()) == ["grafana/dashboards/run.json"]
    assert build.write(tmp_path, Settings()) == []


def test_the_settings_addresses_stand_in_the_links() -> None:
    settings = Settings.model_validate(
        {"report_url": "https://reports.example/", "lineage_url": "https://lineage.example", "mlflow_url": "https://mlflow.example/"}
    )

    run = build.files(settings)["grafana/dashboards/run.json"]

    assert "https://reports.example/${run}/report.html" in run
    assert "https://lineage.example/lineage/dataset/${__data.fields.goldtrace_lineage_namespace:percentencode}/" in run
    assert "https://mlflow.example/#/experiments/" in run
    assert "127.0.0.1:8088" not in run
    assert "127.0.0.1:5081" not in run
    assert "127.0.0.1:3001" not in run


def test_the_json_is_sorted_and_has_none_of_grafanas_own_numbers(dashboard: dict[str, Any]) -> None:
    text = (FOLDER / f"{dashboard['uid'].removeprefix('goldtrace-')}.json").read_text(encoding="utf-8")

    assert text == json.dumps(dashboard, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert not {"id", "version"} & dashboard.keys()


def test_uids_are_those_that_links_from_elsewhere_name() -> None:
    assert [load(name)["uid"] for name in NAMES] == [f"goldtrace-{name}" for name in NAMES]


def test_every_datasource_is_provisioned(dashboard: dict[str, Any]) -> None:
    provisioned = yaml.safe_load((ROOT / "grafana/provisioning/datasources/goldtrace.yaml").read_text())["datasources"]

    named = {(found["uid"], found["type"]) for found in _values(dashboard, "datasource")}

    assert named <= {(each["uid"], each["type"]) for each in provisioned}
    assert named


# ----------------------------------------------------------------------------------------------------------- layout


def test_panels_neither_overlap_nor_leave_the_grid(dashboard: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]

    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in itertools.combinations(places, 2):
        assert a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"] or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]


def test_lines_are_filled_from_edge_to_edge(dashboard: dict[str, Any]) -> None:
    widths: dict[int, int] = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        widths[place["y"]] = widths.get(place["y"], 0) + (24 if panel.get("repeat") else place["w"])

    assert set(widths.values()) == {24}


def test_the_overview_fits_a_laptops_screen() -> None:
    places = [panel["gridPos"] for panel in load("overview")["panels"]]

    assert max(place["y"] + place["h"] for place in places) <= ROWS_ON_A_LAPTOP


def test_panels_have_numbers_of_their_own(dashboard: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in dashboard["panels"]]

    assert sorted(numbers) == list(range(1, len(numbers) + 1))


# ------------------------------------------------------------------------------------------------------------ words


def test_every_panel_says_what_it_answers_and_what_an_empty_one_means(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"].endswith("?"), panel["title"]
        assert len(panel["description"]) > 40, panel["title"]
        assert defaults["noValue"] not in ("", "No data"), panel["title"]
        assert defaults["unit"] in UNITS, panel["title"]


def test_what_a_gate_says_is_missing_when_no_run_had_one() -> None:
    said = {panel["title"]: panel["fieldConfig"]["defaults"]["noValue"] for panel in panels(load("quality"))}

    assert [said[title] for title in ("How many errors turned the gate RED?", "How many warnings turned it YELLOW?", "Did the data pass?")] == [NO_GATE] * 3


def test_a_panel_that_shows_no_words_of_ours_when_empty_has_them_in_its_description() -> None:
    (waterfall,) = [panel for panel in panels(load("run")) if panel["type"] == "traces"]

    assert "no run is chosen: click one in the table above" in waterfall["description"]


def test_a_log_that_is_cut_says_so() -> None:
    (log,) = [panel for panel in panels(load("run")) if panel["type"] == "logs"]

    assert f"the newest {log['targets'][0]['maxLines']} lines" in log["description"]


def test_the_verdict_says_that_the_demonstration_counts() -> None:
    """Alertmanager tells nobody about it, and the query can't know whether somebody chose it."""
    verdict = next(panel for panel in panels(load("overview")) if panel["title"] == "Is everything fine?")

    assert "demonstration's runs count" in verdict["description"]


def test_titles_are_told_apart_within_a_dashboard(dashboard: dict[str, Any]) -> None:
    found = [panel["title"] for panel in panels(dashboard)]

    assert len(found) == len(set(found))


def test_colours_come_from_limits_in_rising_order(dashboard: dict[str, Any]) -> None:
    for thresholds in _values(dashboard, "thresholds"):
        limits = [step["value"] for step in thresholds["steps"]]
        assert limits[0] is None
        assert limits[1:] == sorted(limits[1:])


@pytest.mark.parametrize("name", ["overview", "quality", "slo"])
def test_big_numbers_are_coloured_by_limits(name: str) -> None:
    plain = [panel["title"] for panel in panels(load(name)) if panel["type"] == "stat" and len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) < 2]

    assert plain == []


def test_columns_that_are_set_apart_are_there(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        apart = {each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]}
        if panel["type"] == "table":
            assert apart <= titles(panel), panel["title"]
            assert {each["displayName"] for each in panel["options"].get("sortBy", [])} <= titles(panel)


# ---------------------------------------------------------------------------------------------------------- queries


@pytest.mark.parametrize("expr", [pytest.param(expr, id=place) for place, expr in promql().items()])
def test_metrics_in_queries_are_known(expr: str) -> None:
    assert metrics_in(expr) <= known_metrics() | SERVERS_METRICS.keys()


@pytest.mark.parametrize("expr", [pytest.param(expr, id=place) for place, expr in promql().items()])
def test_labels_in_queries_are_known(expr: str) -> None:
    assert labels_in(expr) <= known_labels() | FOREIGN


@pytest.mark.parametrize("expr", [pytest.param(expr, id=place) for place, expr in logql().items()])
def test_fields_in_log_queries_are_known(expr: str) -> None:
    assert labels_in(expr) <= known_labels() | LINE_FIELDS


def test_every_query_names_something() -> None:
    """The tests above hold for an empty set too."""
    assert all(metrics_in(expr) for place, expr in promql().items() if "variable trace" not in place)
    assert all(len(labels_in(expr)) >= 3 for expr in logql().values())


def test_columns_of_log_records_are_facts_of_that_record(dashboard: dict[str, Any]) -> None:
    facts = {event.name: {_spelled(attribute) for attribute in event.attributes} for event in names.events()}
    resource = {_spelled(attribute) for attribute in (names.RUN_ID, names.SERVICE_NAMESPACE, names.ENVIRONMENT)}
    for panel in panels(dashboard):
        event = re.search(r'event_name="([^"]+)"', panel["targets"][0].get("expr", ""))
        organized = [each["options"] for each in panel.get("transformations", []) if each["id"] == "organize"]
        if event and organized:
            shown = set(organized[0]["includeByName"]) - {"Time", "timestamp"}
            assert shown <= facts[event[1]] | resource | LINE_FIELDS, panel["title"]


def test_events_in_log_queries_are_known() -> None:
    found = {event for expr in logql().values() for event in re.findall(r'event_name!?="([^"]+)"', expr)}

    assert found
    assert found <= {event.name for event in names.events()}


def test_labels_of_legends_are_known() -> None:
    found = {label for query in all_queries("prometheus", "loki") for label in re.findall(r"{{(\w+)}}", query.legend)}

    assert found <= known_labels() | FOREIGN


def test_what_is_said_of_each_dataset_or_step_is_said_of_each_pipelines() -> None:
    """Two pipelines of one environment may call them the same."""
    groups = [(place, set(re.findall(r"\w+", group))) for place, expr in promql().items() for group in re.findall(r"\bby \(([^)]*)\)", expr)]
    apart = [(place, group) for place, group in groups if group & {"dataset", "step", "deployment_environment_name"}]

    assert len(apart) >= 10
    assert [place for place, group in apart if not group >= {"service_namespace", "deployment_environment_name"}] == []


def test_legends_name_the_pipeline_with_the_environment() -> None:
    found = {(query.panel, query.legend): set(re.findall(r"{{(\w+)}}", query.legend)) for query in all_queries("prometheus", "loki")}
    about = {key: named for key, named in found.items() if named & {"dataset", "step", "place", "deployment_environment_name"}}

    assert len(about) >= 10
    assert [key for key, named in about.items() if not named >= {"service_namespace", "deployment_environment_name"}] == []


def test_own_metrics_are_never_asked_for_rates() -> None:
    for place, expr in promql().items():
        for inner in re.findall(r"\b(?:rate|irate|increase|delta)\((\w+)", expr):
            assert inner in SERVERS_METRICS, place


def test_a_samples_window_is_never_left_to_the_lookback() -> None:
    """A bare selector sees a sample for five minutes only."""
    own = {series for series in known_metrics() if ":" not in series}
    for place, expr in promql().items():
        if "variable" in place:
            continue  # label_values looks at series, not at samples
        for name, after in re.findall(r"\b(goldtrace_\w+)\{[^}]*\}(.?)", expr):
            assert name in own
            assert after == "[", place


def test_every_query_about_runs_leaves_the_canary_out() -> None:
    asked = [
        (place, selector) for place, expr in {**promql(), **logql()}.items() for selector in re.findall(r"(?:goldtrace[_:][\w:]+|ALERTS|^)(\{[^}]+\})", expr)
    ]

    assert len(asked) > 50
    assert [place for place, selector in asked if 'deployment_environment_name!="canary"' not in selector] == []


def test_variables_offer_no_canary(dashboard: dict[str, Any]) -> None:
    asked = variables(dashboard)

    assert 'deployment_environment_name!="canary"' in asked["environment"]
    assert 'deployment_environment_name!="canary"' in asked["pipeline"]


def test_all_means_everything_and_not_what_the_range_offers(dashboard: dict[str, Any]) -> None:
    with_all = [each for each in dashboard["templating"]["list"] if each.get("includeAll")]

    assert with_all
    assert {each["name"]: each.get("allValue") for each in with_all} == {each["name"]: ".*" for each in with_all}


def test_a_variable_of_several_values_is_asked_for_as_the_regular_expression_that_it_is(dashboard: dict[str, Any]) -> None:
    several = [each["name"] for each in dashboard["templating"]["list"] if each.get("multi")]
    texts = [query.expr for query in queries(dashboard)] + list(variables(dashboard).values())
    asked = [(operator, name) for text in texts for operator, name in re.findall(r'(=~|!~|!=|=)"\$\{?(\w+)', text) if name in several]

    assert {name for _, name in asked} == set(several)
    assert {operator for operator, _ in asked} == {"=~"}


def test_the_terms_on_offer_are_those_of_the_model() -> None:
    asked = variables(load("models"))

    assert 'model="$model"' in asked["term"]
    assert "$term" not in asked["model"]


def test_models_open_on_the_environment_that_runs_have_by_default() -> None:
    environment = next(each for each in load("models")["templating"]["list"] if each["name"] == "environment")

    assert environment["current"] == {"text": Settings().environment, "value": Settings().environment}


def test_only_dashboards_that_know_all_are_handed_it(dashboard: dict[str, Any]) -> None:
    """Links to the others carry what is chosen, which is all at first."""
    tags = {tag: link["includeVars"] for link in dashboard["links"] if link["type"] == "dashboards" for tag in link["tags"]}
    has_all = all(each["includeAll"] for each in dashboard["templating"]["list"] if each["name"] in ("environment", "pipeline"))

    assert len(tags) == 2
    assert tags[dashboard["tags"][0]] == has_all


def test_every_variable_in_a_query_is_one_of_the_dashboards(dashboard: dict[str, Any]) -> None:
    known = set(variables(dashboard)) | {"__interval", "__interval_ms", "__rate_interval", "__range", "__to"}
    used = {name for query in queries(dashboard) for name in re.findall(r"\$\{?([A-Za-z_]\w*)", query.expr)}

    assert used <= known


def test_servers_metrics_are_listed_only_when_asked() -> None:
    asked = {metric for expr in promql().values() for metric in metrics_in(expr)}

    assert SERVERS_METRICS.keys() <= asked


def test_recording_rules_carry_what_has_a_definition_of_its_own() -> None:
    asked = {metric for expr in promql().values() for metric in metrics_in(expr)}

    assert {rule.record for rule in rules.recordings() if "slo" in rule.record or "p95" in rule.record} <= asked


def test_the_verdict_counts_nothing_twice() -> None:
    assert set(FACTS) <= {alert.alert for alert in rules.alerts()}


def test_durations_have_exemplars_of_a_histogram() -> None:
    asked = [query for query in all_queries("prometheus") if query.exemplars]

    assert {query.panel for query in asked} == {"How long did runs take?", "How long did each step take?"}
    assert all("_bucket{" in query.expr and not query.instant for query in asked)  # Prometheus keeps exemplars of these series only


# ------------------------------------------------------------------------------------------------------------ links


def test_links_lead_to_places_that_exist(dashboard: dict[str, Any]) -> None:
    routes = [
        r"http://127\.0\.0\.1:16686/trace/[^/?]+(\?uiFind=[^&]+)?",
        r"http://127\.0\.0\.1:8088/[^/?]+/report\.html",
        r"http://127\.0\.0\.1:3001/lineage/(job|dataset)/[^/?]+/[^/?]+\?tableLevelNode=(job|dataset)%3A[^&]+",
        r"http://127\.0\.0\.1:9093/#/alerts",
        r"http://127\.0\.0\.1:5081/#/experiments/[^/?]+/runs/[^/?]+",
        r"/d/goldtrace-(overview|run|quality|slo|models|stack)\?.+",
    ]
    for url in _urls(dashboard):
        assert any(re.fullmatch(route, url) for route in routes), url


def test_values_in_addresses_are_percent_encoded(dashboard: dict[str, Any]) -> None:
    for url in _urls(dashboard):
        for inner in re.findall(r"\$\{(__(?:data|field)[^}]*)\}", url):
            assert inner.endswith(":percentencode"), url


def test_a_rows_link_uses_columns_of_its_table(dashboard: dict[str, Any]) -> None:
    for panel in panels(dashboard):
        shown = {name for each in panel.get("transformations", []) if each["id"] == "organize" for name in each["options"]["includeByName"]}
        for url in _urls(panel):
            assert set(re.findall(r"__data\.fields\.(\w+)", url)) <= shown, (panel["title"], url)


def test_a_row_about_a_run_leads_to_dashboard_report_trace_and_job() -> None:
    table = next(panel for panel in panels(load("overview")) if panel["title"] == "Which runs were last?")

    found = [urlsplit(url) for url in _urls(table)]

    assert {url.port for url in found} >= {None, 8088, 16686, 3001}
    assert all("goldtrace_run_id" in url.query for url in found if url.path == "/d/goldtrace-run")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("overview", "Which runs were last?"),
        ("run", "Which run?"),
        ("run", "What did the models estimate?"),
        ("models", "What did this model say, newest run first?"),
    ],
)
def test_a_run_and_a_model_lead_to_their_runs_in_mlflow_by_a_column_that_only_runs_with_a_page_fill(name: str, title: str) -> None:
    table = next(panel for panel in panels(load(name)) if panel["title"] == title)
    experiment, run = (_spelled(attribute) for attribute in (names.MLFLOW_EXPERIMENT, names.MLFLOW_RUN))
    page = f"http://127.0.0.1:5081/#/experiments/${{__data.fields.{experiment}:percentencode}}/runs/${{__data.fields.{run}:percentencode}}"
    (column,) = [each for each in table["fieldConfig"]["overrides"] if page in _urls(each)]
    organized = next(each["options"] for each in table["transformations"] if each["id"] == "organize")
    assert organized["renameByName"][run] == column["matcher"]["options"] == "MLflow"
    assert organized["includeByName"][experiment]


def test_the_trace_of_a_run_is_its_id_without_hyphens() -> None:
    variable = next(each for each in load("run")["templating"]["list"] if each["name"] == "trace")
    groups = re.search(r'"run", "([^"]+)"\)\)$', variable["query"]["query"])
    assert groups

    for run in ("01a1ff2f-0d85-7155-a920-f03ce764bd85", "01a1ff2f0d857155a920f03ce764bd85"):
        found = re.fullmatch(groups[1], run)
        assert found
        assert "".join(found.groups()) == "01a1ff2f0d857155a920f03ce764bd85"


# -------------------------------------------------------------------------------------------------------------------


def _spelled(attribute: names.Attribute) -> str:
    return attribute.name.replace(".", "_")


def _values(part: Any, key: str) -> list[Any]:
    """Everything under a key, anywhere."""
    if isinstance(part, list):
        return [found for each in part for found in _values(each, key)]
    if not isinstance(part, dict):
        return []
    here = [part[key]] if key in part else []
    return here + [found for each in part.values() for found in _values(each, key)] + ([part["value"]] if part.get("id") == key and "value" in part else [])


def _urls(part: Any) -> list[str]:
    return [url for url in _values(part, "url") if url]
