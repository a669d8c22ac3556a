"""Addresses that dashboards lead to, with Grafana's variables in the places of what is known only when someone clicks.

Each part of an address is percent-encoded by Grafana (`:percentencode`). The forms are those that the pages of Jaeger 2.13,
Marquez 0.51 and the report server take; a run has no page in Marquez, so its job stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from pipeline import names
from pipeline.settings import Settings
from pipeline.stack import spelling
from pipeline.stack.panels import Link
from pipeline.stack.queries import RUN_ID
from pipeline.stack.spelling import ENVIRONMENT, NAMESPACE

TRACE_ID: Final = "trace_id"
SPAN_ID: Final = "span_id"
TAG: Final = "goldtrace"


def field(name: str) -> str:
    """The value of another column of the same row, ready for an address."""
    return f"${{__data.fields.{name}:percentencode}}"


def series_label(name: str) -> str:
    """The value of a label of the series."""
    return f"${{__field.labels.{name}:percentencode}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the pages are, and the names that lineage has."""

    report: str
    trace: str
    lineage: str
    alertmanager: str
    namespace: str
    lake: str | None

    @classmethod
    def of(cls, settings: Settings) -> Addresses:
        """Those in force."""
        urls = (settings.report_url, settings.trace_url, settings.lineage_url, settings.alertmanager_url)
        report, trace, lineage, alertmanager = (url.rstrip("/") for url in urls)
        return cls(report=report, trace=trace, lineage=lineage, alertmanager=alertmanager, namespace=settings.openlineage_namespace, lake=settings.lake_name)

    def report_of(self, run: str) -> Link:
        """A run's report."""
        return Link(title="Report of this run", url=f"{self.report}/{run}/report.html")

    def trace_of(self, trace: str, span: str = "") -> Link:
        """A run's trace in Jaeger's own page, or one span in it."""
        return Link(title="Span in Jaeger" if span else "Trace in Jaeger", url=f"{self.trace}/trace/{trace}" + (f"?uiFind={span}" if span else ""))

    def job_of(self, pipeline: str, step: str = "") -> Link:
        """A job's page in Marquez with its drawer open."""
        namespace, job = quote(self.namespace, safe=""), pipeline + (f".{step}" if step else "")
        return Link(title="Job in Marquez", url=f"{self.lineage}/lineage/job/{namespace}/{job}?tableLevelNode=job%3A{namespace}%3A{job}")

    def dataset_of(self, pipeline: str, dataset: str) -> Link:
        """A dataset's page in Marquez: lineage up and down from it."""
        namespace = "file%3A%2F%2F" + (quote(self.lake, safe="") if self.lake else pipeline)
        return Link(title="Dataset in Marquez", url=f"{self.lineage}/lineage/dataset/{namespace}/{dataset}?tableLevelNode=dataset%3A{namespace}%3A{dataset}")

    def alerts(self) -> Link:
        """What is firing, with silences."""
        return Link(title="Alerts in Alertmanager", url=f"{self.alertmanager}/#/alerts")


def run_dashboard(run: str, pipeline: str = field(NAMESPACE), environment: str = field(ENVIRONMENT)) -> Link:
    """The dashboard of one run. Its own range is wide enough for every run that is kept."""
    url = f"/d/goldtrace-run?var-run={run}&var-pipeline={pipeline}&var-environment={environment}"
    return Link(title="Look into this run", url=url, outside=False)


def dashboard(uid: str, title: str, pipeline: str = series_label(NAMESPACE)) -> Link:
    """Another dashboard, for the same pipeline and range."""
    return Link(title=title, url=f"/d/{uid}?var-pipeline={pipeline}&${{environment:queryparam}}&${{__url_time_range}}", outside=False)


def run_links(addresses: Addresses) -> tuple[Link, ...]:
    """From a row of a table about runs: the run's dashboard, its report, its trace, its job."""
    return (
        run_dashboard(field(RUN_ID)),
        addresses.report_of(field(RUN_ID)),
        addresses.trace_of(field(TRACE_ID)),
        addresses.job_of(field(NAMESPACE)),
    )


def dataset_link(addresses: Addresses, name: str = spelling.label(names.DATASET.name)) -> Link:
    """From a row of a table about datasets: the dataset's page."""
    return addresses.dataset_of(field(NAMESPACE), field(name))
