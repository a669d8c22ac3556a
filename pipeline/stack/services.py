"""The stack's services as a person meets them: what each is for, its ports on this machine, and how it says that it is ready.

What compose starts stands in `compose/*.yaml`; this is what those files can't say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipeline.tracking.experiments import machine

# One engine project, so that all parts share a network: compose is always told of all files.
COMPOSE_FILES = ("obs.yaml", "lineage.yaml", "mlflow.yaml")
# A part of the stack, and the compose files whose services it is.
PARTS: Mapping[str, tuple[str, ...]] = {"obs": ("obs.yaml", "lineage.yaml"), "lineage": ("lineage.yaml",), "mlflow": ("mlflow.yaml",), "all": COMPOSE_FILES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One port of a service: the variable that moves it on this machine, and what it is in the container."""

    variable: str
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service.

    Attributes:
        name: its name in the compose files.
        title: its name in messages.
        use: what a person opens it for; nothing for one that is not opened.
        ports: the first is the one that is probed and shown.
        ready_path: what answers 200 once the service does its work; None for one that is not asked over HTTP.
        started_by: the target of the Makefile that starts it.
    """

    name: str
    title: str
    use: str = ""
    ports: tuple[Port, ...] = ()
    ready_path: str | None = None
    started_by: str = "obs.up"


SERVICES = (
    Service(name="grafana", title="Grafana", use="dashboards", ports=(Port(variable="GRAFANA_PORT", target=3000),), ready_path="/api/health"),
    Service(name="marquez-web", title="Marquez", use="lineage", ports=(Port(variable="MARQUEZ_WEB_PORT", target=3000),), ready_path="/healthcheck"),
    Service(name="jaeger", title="Jaeger", use="traces", ports=(Port(variable="JAEGER_PORT", target=16686),), ready_path="/"),
    Service(name="prometheus", title="Prometheus", use="metrics and rules", ports=(Port(variable="PROMETHEUS_PORT", target=9090),), ready_path="/-/ready"),
    Service(name="alertmanager", title="Alertmanager", use="alerts", ports=(Port(variable="ALERTMANAGER_PORT", target=9093),), ready_path="/-/ready"),
    Service(name="reports", title="Reports", use="run reports", ports=(Port(variable="REPORTS_PORT", target=8088),), ready_path="/healthz"),
    Service(name="loki", title="Loki", ports=(Port(variable="LOKI_PORT", target=3100),), ready_path="/ready"),
    Service(
        name="collector",
        title="Collector",
        ports=(
            Port(variable="COLLECTOR_HEALTH_PORT", target=13133),
            Port(variable="OTLP_GRPC_PORT", target=4317),
            Port(variable="OTLP_HTTP_PORT", target=4318),
        ),
        ready_path="/",
    ),
    # The admin port with /healthcheck stays inside; this one asks the database too.
    Service(name="marquez", title="Marquez API", ports=(Port(variable="MARQUEZ_PORT", target=5000),), ready_path="/api/v1/namespaces?limit=1"),
    Service(name="postgres", title="Postgres"),
    # /health says OK whatever the store does; this asks it.
    Service(
        name="mlflow",
        title="MLflow",
        use="experiments and models",
        ports=(Port(variable="MLFLOW_PORT", target=5000),),
        ready_path="/api/2.0/mlflow/experiments/search?max_results=1",
        started_by="mlflow.up",
    ),
    Service(name="s3", title="S3", ports=(Port(variable="S3_PORT", target=7070),), ready_path="/health", started_by="mlflow.up"),
    # It has no path that answers 200: its own health check asks it in its own language.
    Service(name="dynamodb", title="DynamoDB", ports=(Port(variable="DYNAMODB_PORT", target=8000),), started_by="mlflow.up"),
)
BY_NAME = {service.name: service for service in SERVICES}


def title(name: str) -> str:
    """A service's name in messages."""
    return BY_NAME[name].title if name in BY_NAME else name


def started_by(name: str) -> str:
    """The command that starts a service."""
    return f"make {BY_NAME[name].started_by if name in BY_NAME else 'obs.up'}"


def is_here(address: str, port: int) -> bool:
    """Whether an address is that of a port of this machine, by whichever of the machine's names."""
    return machine(urlsplit(address)) == f"127.0.0.1:{port}"


def port_variable(service: str, target: int) -> str | None:
    """The environment variable that moves a service's port, if we know it."""
    ports = BY_NAME[service].ports if service in BY_NAME else ()
    return next((port.variable for port in ports if port.target == target), None)
