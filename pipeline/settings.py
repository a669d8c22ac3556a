"""The only reader of the environment: `PIPELINE_*`, `.env`, and the standard variables of the tools around.

The environment wins over `.env`. An unknown `PIPELINE_*` key is refused in `.env`; in the environment it is refused when
it is within two letters of a known one (a typo), and ignored otherwise, since CI systems export their own.
"""

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.errors import SettingsError
from pipeline.lake_address import parse_s3

PREFIX = "PIPELINE_"
# The Makefile's own, which it reads before Python starts.
MAKE_KEYS = frozenset({"PIPELINE_PYTHON"})
# What a setting with a pattern looks like, for the message when it doesn't.
_LIKE = {
    "environment": "prod (a-z, 0-9, _ and -)",
    "lake_name": "potato (letters, digits, _ and -)",
    "log_level": "debug, info, warning or error",
    "memory_limit": "700MB or 4GiB",
    "openlineage_namespace": "default (a-z, 0-9, _ and -)",
}


# What telemetry may hold a run up at its end, whatever happens: these seconds, and this share of its time.
TELEMETRY_SECONDS = 2.0
TELEMETRY_SHARE = 0.02
# Of these, what lineage may be sent in: the rest is for writing down how far it came.
DELIVERY_SECONDS = TELEMETRY_SECONDS - 0.1
# The port that an address has by default.
_PORT_OF = {
    "grafana_url": "grafana_port",
    "lineage_url": "marquez_web_port",
    "openlineage_url": "marquez_port",
    "trace_url": "jaeger_port",
    "prometheus_url": "prometheus_port",
    "alertmanager_url": "alertmanager_port",
    "loki_url": "loki_port",
    "collector_url": "collector_health_port",
    "report_url": "reports_port",
    "mlflow_url": "mlflow_port",
}


class QualityEngine(StrEnum):
    """Who evaluates the expectations that have an SQL form."""

    SQL = "sql"
    GX = "gx"


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


class Settings(BaseSettings):
    """What a run is told from outside. `repr` and the manifest show secrets as `**********`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True)

    app: str = "pipeline.study:PIPELINE"
    """The pipeline to run, as `package.module:NAME`."""

    input: Path | None = None
    """The folder with the input files; the shipped sample unless set."""

    lake: str = "lake"
    """Where datasets are kept: a folder, or `s3://bucket/prefix` (`docs/aws.md`)."""

    lake_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,40}$")
    """The lake's name in lineage (`file://<name>`); the pipeline's name unless set. A lake on S3 is called by its bucket there."""

    staging: Path | None = None
    """Where a run with a lake on S3 makes its files before they are uploaded; the folder for temporary files unless set. A folder needs none."""

    runs: Path = Path("runs")
    """Where bundles are kept."""

    environment: str = Field(default="local", pattern=r"^[a-z0-9_-]{1,40}$")
    """The deployment's name on all telemetry (`local`, `ci`, `prod`, …)."""

    telemetry: Switch = Switch.ON
    """`off` leaves out traces, metrics, logs and lineage."""

    tracking: Switch = Switch.ON
    """`off` leaves out MLflow."""

    tracking_timeout: float = Field(default=TELEMETRY_SECONDS, gt=0, le=600)
    """Seconds, beside 2 % of its time, that a run may wait for the local MLflow store at its end (a remote one, and an aborted run: 2 at most)."""

    quality_engine: QualityEngine = QualityEngine.SQL
    """`gx` evaluates every expectation with Great Expectations instead of SQL."""

    threads: int | None = Field(default=None, ge=1)
    """DuckDB's threads; all cores unless set."""

    memory_limit: str = Field(default="800MB", pattern=r"^\d+(\.\d+)?\s*(KB|MB|GB|KiB|MiB|GiB)$")
    """DuckDB's memory before it spills to disk."""

    log_level: str = Field(default="info", pattern=r"^(debug|info|warning|error)$")
    """What the terminal shows; the bundle keeps `info` and above."""

    report_url: str = "http://127.0.0.1:8088"
    """Where run reports are served, for links from other tools."""

    trace_url: str = "http://127.0.0.1:16686"
    """Where Jaeger's page is, for links from other tools."""

    lineage_url: str = "http://127.0.0.1:3001"
    """Where Marquez's pages are, for links from the report and the dashboards."""

    grafana_url: str = "http://127.0.0.1:3000"
    """Where Grafana is, for links from alerts."""

    prometheus_url: str = "http://127.0.0.1:9090"
    """Where Prometheus answers, for `pipeline doctor`."""

    alertmanager_url: str = "http://127.0.0.1:9093"
    """Where Alertmanager answers, for `pipeline doctor`."""

    loki_url: str = "http://127.0.0.1:3100"
    """Where Loki answers, for `pipeline doctor`."""

    collector_url: str = "http://127.0.0.1:13133"
    """Where the collector says that it is healthy."""

    mlflow_url: str = "http://127.0.0.1:5081"
    """Where MLflow's pages are, for links from the dashboards to runs that were sent to it."""

    openlineage_url: str = Field(default="http://127.0.0.1:5080", validation_alias="OPENLINEAGE_URL")
    """Where lineage events go."""

    openlineage_disabled: str | None = Field(default=None, validation_alias="OPENLINEAGE_DISABLED")
    """`true` sends no lineage, as with every client of OpenLineage; runs keep it in their bundles."""

    openlineage_api_key: SecretStr | None = Field(default=None, validation_alias="OPENLINEAGE_API_KEY")
    """The key for it."""

    openlineage_namespace: str = Field(default="default", validation_alias="OPENLINEAGE_NAMESPACE", pattern=r"^[a-z0-9_-]+$")
    """The namespace of the jobs."""

    openlineage_parent_id: str | None = Field(default=None, validation_alias="OPENLINEAGE_PARENT_ID")
    """The caller's job, as `namespace/name/run-id`."""

    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    """Where experiments go; a SQLite file beside the runs unless set."""

    resource_attributes: str = Field(default="", validation_alias="OTEL_RESOURCE_ATTRIBUTES")
    """More attributes of the telemetry's resource, as `key=value,key=value`."""

    traceparent: str | None = Field(default=None, validation_alias="TRACEPARENT")
    """The caller's span; it becomes a link, since the run's id is the trace id."""

    otel_sdk_disabled: str | None = Field(default=None, validation_alias="OTEL_SDK_DISABLED")
    """`true` leaves out traces, metrics and log records, as everywhere in OpenTelemetry."""

    no_color: str | None = Field(default=None, validation_alias="NO_COLOR")
    """Anything but nothing: no colours on the terminal."""

    term: str | None = Field(default=None, validation_alias="TERM")
    """The terminal's kind; `dumb` gets plain lines, without colours and progress."""

    retention: str | None = Field(default=None, validation_alias="RETENTION")
    """How long the stack keeps metrics, logs and traces, in hours (`720h`, of which there are at least 24); `compose/.env` has it unless set."""

    grafana_port: int = Field(default=3000, validation_alias="GRAFANA_PORT", ge=1, le=65535)
    """The stack's ports on this machine, read by compose too. Moving one moves the default of its address above."""

    marquez_web_port: int = Field(default=3001, validation_alias="MARQUEZ_WEB_PORT", ge=1, le=65535)
    """Marquez's pages."""

    marquez_port: int = Field(default=5080, validation_alias="MARQUEZ_PORT", ge=1, le=65535)
    """Marquez's API."""

    jaeger_port: int = Field(default=16686, validation_alias="JAEGER_PORT", ge=1, le=65535)
    """Jaeger's pages and API."""

    prometheus_port: int = Field(default=9090, validation_alias="PROMETHEUS_PORT", ge=1, le=65535)
    """Prometheus."""

    alertmanager_port: int = Field(default=9093, validation_alias="ALERTMANAGER_PORT", ge=1, le=65535)
    """Alertmanager."""

    loki_port: int = Field(default=3100, validation_alias="LOKI_PORT", ge=1, le=65535)
    """Loki."""

    otlp_grpc_port: int = Field(default=4317, validation_alias="OTLP_GRPC_PORT", ge=1, le=65535)
    """The collector's OTLP over gRPC."""

    otlp_http_port: int = Field(default=4318, validation_alias="OTLP_HTTP_PORT", ge=1, le=65535)
    """The collector's OTLP over HTTP."""

    collector_health_port: int = Field(default=13133, validation_alias="COLLECTOR_HEALTH_PORT", ge=1, le=65535)
    """The collector's health."""

    reports_port: int = Field(default=8088, validation_alias="REPORTS_PORT", ge=1, le=65535)
    """The run reports."""

    mlflow_port: int = Field(default=5081, validation_alias="MLFLOW_PORT", ge=1, le=65535)
    """MLflow's pages and API."""

    s3_port: int = Field(default=7070, validation_alias="S3_PORT", ge=1, le=65535)
    """The S3 that MLflow's server keeps files in."""

    dynamodb_port: int = Field(default=8000, validation_alias="DYNAMODB_PORT", ge=1, le=65535)
    """The DynamoDB Local that MLflow's server keeps runs in."""

    @model_validator(mode="before")
    @classmethod
    def _addresses_follow_the_ports(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Give each local service's address the port that was named for it, unless the address itself is named."""
        keys = {url: cls.model_fields[url].validation_alias or url for url in _PORT_OF}
        moved = {str(keys[url]): f"http://127.0.0.1:{values[variable(port)]}" for url, port in _PORT_OF.items() if variable(port) in values}
        return {**moved, **values}

    @field_validator("openlineage_url")
    @classmethod
    def _lineage_goes_to_a_web_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # a port that is none raises by itself
            raise ValueError("not an address such as http://127.0.0.1:5080")
        if parts.query or parts.fragment:  # it would not be sent, and a key in it would be written down
            raise ValueError("an address without ? and # is wanted; a key goes into OPENLINEAGE_API_KEY")
        return value

    @field_validator("lake")
    @classmethod
    def _lake_has_an_address(cls, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("not UTF-8, as a lake's name has to be") from None
        found = parse_s3(value)
        return str(found) if found else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` hands over: it has merged `.env` and the environment itself."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings  # the framework's signature
        return (init_settings,)

    @property
    def is_plain_terminal(self) -> bool:
        """Whether the terminal shows control sequences as they are."""
        return self.term == "dumb"

    def masked(self) -> dict[str, str]:
        """All settings as text under their variables' names, secrets and credentials in addresses masked, and the ways to folders cut off.

        Ports are left out: the addresses have them.
        """
        names = [name for name in type(self).model_fields if getattr(self, name) is not None and not name.endswith("_port")]
        shown = {variable(name): mask(str(getattr(self, name))) for name in names}
        folders = {variable(name): from_here(shown[variable(name)]) for name in ("lake", "runs", "staging", "mlflow_tracking_uri") if variable(name) in shown}
        return {**shown, **folders, **({} if self.input is None else {variable("input"): without_folders(str(self.input))})}


def says_true(text: str | None) -> bool:
    """Whether a standard variable that is on or off is on: `true` in any case, as OpenTelemetry's and OpenLineage's are."""
    return (text or "").strip().lower() == "true"


def mask(text: str) -> str:
    """`text` with the user and password of an address replaced, and what its query says after a secret's name."""
    text = re.sub(r"\bs3://\S+@", "s3://**********@", text)  # an AWS secret may have slashes in it
    text = re.sub(r"://[^/@\s]+@", "://**********@", text)
    return re.sub(r"(?i)([?&][\w.-]*(?:key|token|secret|password|signature|credential)[\w.-]*=)[^&\s'\"]+", r"\1**********", text)


def without_folders(word: str) -> str:
    """A path, or an option's value that is one, without the folders before its last part: they may name a person."""
    option, sign, value = word.partition("=") if word.startswith("--") else ("", "", word)
    path = value.rstrip("/")
    return word if "/" not in path or "://" in path else f"{option}{sign}…/{path.rpartition('/')[2]}"


def from_here(address: str) -> str:
    """The address of a folder or a file: as it is below the working folder or on a server, elsewhere without what is before its last part."""
    scheme, sign, path = address.rpartition("://")
    is_local = not sign or scheme.partition("+")[0] in ("file", "sqlite")
    is_elsewhere = path.startswith(("/", "~", "..")) and not (scheme.startswith("sqlite") and not path.startswith("//"))
    return f"{scheme}{sign}…/{path.rstrip('/').rpartition('/')[2]}" if is_local and is_elsewhere else address


def variable(field: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def load(environ: Mapping[str, str] | None = None, dotenv: Path = Path(".env"), **overrides: Any) -> Settings:
    """Read the settings: `overrides` (from the command line) win over the environment, which wins over `.env`.

    Raises:
        SettingsError: a value can't be what it is, or a `PIPELINE_*` key is unknown.
    """
    environ = os.environ if environ is None else environ
    in_file = _read_dotenv(dotenv) if dotenv.is_file() else {}
    known = {variable(name): name for name in Settings.model_fields}
    _refuse_unknown(in_file, environ, known, dotenv)
    merged = {key: value for key, value in {**in_file, **environ}.items() if key in known and value != ""}
    merged |= {variable(name): value for name, value in overrides.items() if value not in (None, "")}
    # A field with an alias is read by the alias, one without by its name.
    values = {key if Settings.model_fields[known[key]].validation_alias else known[key]: value for key, value in merged.items()}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise _settings_error(error) from error


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}", hint="may this user read it?") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 (byte {error.start + 1})", hint="save it as UTF-8") from error
    broken = next((each.original for each in parse_stream(StringIO(text)) if each.error), None)
    if broken is not None:  # it would be left out, and with it what it sets
        raise SettingsError(f"{path}, line {broken.line}: can't be read", hint="a line is KEY=value; is a quote not closed?")
    return {key: value for key, value in dotenv_values(stream=StringIO(text)).items() if value is not None}


def _settings_error(error: ValidationError) -> SettingsError:
    first = error.errors()[0]
    place = str(first["loc"][0])
    key = variable(place) if place in Settings.model_fields else place
    shown = "**********" if "KEY" in key else mask(repr(str(first["input"])))
    reason = first["msg"].removeprefix("Value error, ")
    like = {variable(name): example for name, example in _LIKE.items()}
    if first["type"] == "string_pattern_mismatch" and key in like:
        reason = f"wanted is {like[key]}"
    return SettingsError(f"{key} is {shown}: {reason[0].lower()}{reason[1:]}", hint="settings are described in docs/settings.md", setting=key)


def _refuse_unknown(in_file: Mapping[str, str], environ: Mapping[str, str], known: Mapping[str, str], dotenv: Path) -> None:
    ours = sorted(key for key in known if key.startswith(PREFIX))
    for key in in_file:
        if key.startswith(PREFIX) and key not in known and key not in MAKE_KEYS:
            near = [name for name in ours if _within_two(key, name)]
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(ours)}"
            raise SettingsError(f"{key} in {dotenv} is not a setting", hint=hint, setting=key)
    for key in environ:
        if key.startswith(PREFIX) and key not in known and key not in MAKE_KEYS:
            near = [name for name in ours if _within_two(key, name)]
            if near:
                raise SettingsError(f"{key} is not a setting", hint=f"did you mean {near[0]}?", setting=key)


def _within_two(a: str, b: str) -> bool:
    """Whether two letters' changes at most lead from `a` to `b` (Levenshtein distance)."""
    if abs(len(a) - len(b)) > 2:
        return False
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
    return row[-1] <= 2
