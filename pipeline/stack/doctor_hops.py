"""The hops that a run's telemetry takes, upstream ones first: how each is asked, and what it depends on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.settings import Settings
from pipeline.stack import doctor_lineage
from pipeline.stack import doctor_probes as probes
from pipeline.stack.doctor_http import Answer, ask

# A server's version in its own words, from its answer.
Version = Callable[[Any], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One server on the way.

    Attributes:
        name: its service in the compose files.
        looked_for: what is looked for there.
        address: the field of the settings that says where it is; None for one that only its container tells of, which is not asked.
        path: what it answers, whatever it holds.
        version: where its version stands in that answer, when it says one.
        probe: finds the run.
        needs: what has to work before the run can get here.
        is_timed: whether the run arrives here, so that it can be told how long it took.
    """

    name: str
    looked_for: str
    address: str | None = None
    path: str = "/"
    version: Version | None = None
    probe: probes.Probe | None = None
    needs: tuple[str, ...] = ()
    is_timed: bool = True

    def ask(self, settings: Settings) -> Answer:
        """What it answers on its path.

        Raises:
            BackendError: it does not answer.
        """
        if self.address == "openlineage_url":  # this one may have a path of its own, and a key
            return doctor_lineage.ask_server(settings, self.path)
        return ask(str(getattr(settings, self.address or "")).rstrip("/") + self.path)


# How the collector gets the run, and what it hands on.
COLLECTED: Final = ("jaeger", "loki", "prometheus")

HOPS: Final = (
    Hop(name="postgres", looked_for="its container is healthy", is_timed=False),
    Hop(name="collector", looked_for="healthy, takes OTLP, reads the bundle", address="collector_url", probe=probes.collector, is_timed=False),
    Hop(
        name="prometheus",
        looked_for="the run's sample, and the exemplar to its trace",
        address="prometheus_url",
        path="/api/v1/status/buildinfo",
        version=lambda answer: answer["data"]["version"],
        probe=probes.prometheus,
        needs=("collector",),
    ),
    Hop(
        name="loki",
        looked_for="all log records, by the run's id",
        address="loki_url",
        path="/loki/api/v1/status/buildinfo",
        version=lambda answer: answer["version"],
        probe=probes.loki,
        needs=("collector",),
    ),
    Hop(name="jaeger", looked_for="all spans, by the trace's id", address="trace_url", path="/api/services", probe=probes.jaeger, needs=("collector",)),
    Hop(
        name="alertmanager",
        looked_for=f"the alert {probes.ALERT} about the run",
        address="alertmanager_url",
        path="/api/v2/status",
        version=lambda answer: answer["versionInfo"]["version"],
        probe=probes.alertmanager,
        needs=("prometheus",),
    ),
    Hop(
        name="marquez",
        looked_for="the run COMPLETED, by its id",
        address="openlineage_url",
        path="/api/v1/namespaces",
        probe=doctor_lineage.marquez,
        needs=("postgres",),
    ),
    Hop(name="marquez-web", looked_for="healthy", address="lineage_url", path="/healthcheck", probe=probes.marquez_web, is_timed=False),
    Hop(name="reports", looked_for="the run's report", address="report_url", probe=probes.reports),
    Hop(
        name="grafana",
        looked_for="healthy, datasources and dashboards",
        address="grafana_url",
        path="/api/health",
        version=lambda answer: answer["version"],
        probe=probes.grafana,
        is_timed=False,
    ),
)
BY_NAME: Final[Mapping[str, Hop]] = {hop.name: hop for hop in HOPS}
LINEAGE: Final = frozenset({"postgres", "marquez", "marquez-web"})

# The variable of compose/.env that pins a service's image, where it isn't the service's name.
_IMAGE_OF: Final = {"collector": "OTELCOL"}


def pins(root: Path) -> dict[str, str]:
    """The image of each service as `compose/.env` pins it; nothing when there is no such file."""
    path = root / "compose" / ".env"
    text = path.read_text("utf-8") if path.is_file() else ""
    known = dict(re.findall(r"^([A-Z_]+)_IMAGE=(\S+)", text, re.MULTILINE))
    named = {hop.name: _IMAGE_OF.get(hop.name, hop.name.upper().replace("-", "_")) for hop in HOPS}
    return {name: known[variable] for name, variable in named.items() if variable in known}
