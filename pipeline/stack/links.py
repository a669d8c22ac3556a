"""Addresses that dashboards lead to, with Grafana's variables in the places of what is known only when someone clicks.

Each part of an address is percent-encoded by Grafana (`:percentencode`). The forms are those that the pages of Jaeger 2.13,
Marquez 0.51, MLflow 3.17 and the report server take; a run has no page in Marquez, so its job stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from pipeline import names
from pipeline.settings import Settings
from pipeline.stack import spelling, tables
from pipeline.stack.panels import Link
from pipeline.stack.queries import RUN_ID
from pipeline.stack.spelling import ENVIRONMENT, NAMESPACE
from pipeline.stack.tables import Column

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
    mlflow: str
    namespace: str

    @classmethod
    def of(cls, settings: Settings) -> Addresses:
        """Those in force."""
        return cls(
            report=settings.report_url.rstrip("/"),
            trace=settings.trace_url.rstrip("/"),
            lineage=settings.lineage_url.rstrip("/"),
            alertmanager=settings.alertmanager_url.rstrip("/"),
            mlflow=settings.mlflow_url.rstrip("/"),
            namespace=settings.openlineage_namespace,
        )

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

    def dataset_of(self, namespace: str, dataset: str) -> Link:
        """A dataset's page in Marquez: lineage up and down from it."""
        return Link(title="Dataset in Marquez", url=f"{self.lineage}/lineage/dataset/{namespace}/{dataset}?tableLevelNode=dataset%3A{namespace}%3A{dataset}")

    def mlflow_run(self, experiment: str, run: str) -> Link:
        """The page of a run in MLflow, or of a model's."""
        return Link(title="Run in MLflow", url=f"{self.mlflow}/#/experiments/{experiment}/runs/{run}")

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


def mlflow_columns(addresses: Addresses) -> list[Column]:
    """A column that leads to a row's run in MLflow. It is empty where the record doesn't say that there is a page of it."""
    experiment, run = (spelling.label(attribute.name) for attribute in (names.MLFLOW_EXPERIMENT, names.MLFLOW_RUN))
    link = addresses.mlflow_run(field(experiment), field(run))
    return [Column(name=run, title="MLflow", width=75, shown_as="open", links=(link,)), *tables.hidden(experiment)]


def dataset_column(addresses: Addresses, width: int | None = None) -> list[Column]:
    """A column that leads to the page of a record's dataset. Where that is the record says: each lake has a namespace of its own."""
    place = [spelling.label(attribute.name) for attribute in (names.LINEAGE_NAMESPACE, names.LINEAGE_NAME)]
    link = addresses.dataset_of(*map(field, place))
    return [Column(name=spelling.label(names.DATASET_NAME.name), title="Dataset", width=width, links=(link,)), *tables.hidden(*place)]
