"""Addresses of one run in other tools. They answer only while those tools run; the report works without them."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from pipeline.report.facts import Facts

TRACE_URL: Final = "PIPELINE_TRACE_URL"
LINEAGE_URL: Final = "PIPELINE_LINEAGE_URL"
REPORT_URL: Final = "PIPELINE_REPORT_URL"
NAMESPACE: Final = "OPENLINEAGE_NAMESPACE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One address with what is behind it."""

    title: str
    url: str


def run_links(facts: Facts) -> tuple[Link, ...]:
    """The run's trace, its lineage, and this report as the stack serves it."""
    step = facts.last_step
    found = (
        Link(title="Trace in Jaeger", url=_trace(facts)),
        Link(title="Lineage in Marquez", url=_job(facts, step.name)) if step else None,
        Link(title="This report, served", url=_under(facts, REPORT_URL, f"/{quote(facts.run_id)}/report.html")),
    )
    return tuple(link for link in found if link and link.url)


def step_links(facts: Facts, step: str, span_id: str) -> tuple[Link, ...]:
    """The step's span in the trace, and its job's page."""
    trace = _trace(facts)
    found = (Link(title="Span in Jaeger", url=trace and f"{trace}?uiFind={quote(span_id)}"), Link(title="Job in Marquez", url=_job(facts, step)))
    return tuple(link for link in found if link.url)


def is_web_address(text: str) -> bool:
    """Whether it may stand in a link: a setting could hold `javascript:` as well."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _trace(facts: Facts) -> str:
    return _under(facts, TRACE_URL, f"/trace/{quote(facts.trace_id)}")


def _job(facts: Facts, step: str) -> str:
    """The job's page with its drawer open. A run has no address in Marquez."""
    namespace, job = quote(facts.settings.get(NAMESPACE, "default"), safe=""), quote(f"{facts.pipeline}.{step}", safe="")
    return _under(facts, LINEAGE_URL, f"/lineage/job/{namespace}/{job}?tableLevelNode=job%3A{namespace}%3A{job}")


def _under(facts: Facts, setting: str, path: str) -> str:
    base = facts.settings.get(setting, "")
    return base.rstrip("/") + path if is_web_address(base) else ""
