"""The compose files: every service obeys every rule, and what one file names the others have.

Read as YAML, so no engine is needed; the last tests ask `docker compose` where there is one.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from pipeline.settings import Settings, variable
from pipeline.stack import lifecycle
from tests.stack.compose_support import FILES, ROOT, Service, bytes_of, filled, pins, services, volumes

COMPOSE = ROOT / "compose"
SERVICES = services(COMPOSE)
PINS = pins(COMPOSE)
# They end as soon as they have looked at two folders.
TASKS = {"volumes", "mlflow-volumes"}
IMAGES = {
    "OTELCOL_IMAGE": "otel/opentelemetry-collector-contrib:0.158.0",
    "PROMETHEUS_IMAGE": "prom/prometheus:v3.15.0",
    "ALERTMANAGER_IMAGE": "prom/alertmanager:v0.34.2",
    "LOKI_IMAGE": "grafana/loki:3.7.8",
    "JAEGER_IMAGE": "jaegertracing/jaeger:2.13.0",
    "GRAFANA_IMAGE": "grafana/grafana:13.2.0",
    "POSTGRES_IMAGE": "postgres:15",
    "MARQUEZ_IMAGE": "marquezproject/marquez:0.51.1",
    "MARQUEZ_WEB_IMAGE": "marquezproject/marquez-web:0.51.1",
    "S3_IMAGE": "versity/versitygw:v1.8.0",
    "DYNAMODB_IMAGE": "amazon/dynamodb-local:2.6.1",
    "PYTHON_IMAGE": "python:3.11-slim",
}

Rule = Callable[[str, Service], bool]


def _is_pinned(name: str, service: Service) -> bool:
    """The image is a variable of `.env` with a version in it, or our own, built here."""
    image = filled(service["image"], PINS)
    ours = image.startswith("goldtrace/") and "build" in service
    return ours or (service["image"] in {f"${{{key}}}" for key in IMAGES} and re.search(r":v?\d+(\.\d+)*(-\w+)?$", image) is not None)


def _has_a_memory_limit(name: str, service: Service) -> bool:
    return 32 * 2**20 <= bytes_of(service.get("mem_limit", "0m")) <= 2**30


def _collects_garbage_before_the_limit(name: str, service: Service) -> bool:
    """Go's own limit, where one is set, lies below the container's."""
    limit = (service.get("environment") or {}).get("GOMEMLIMIT")
    return limit is None or bytes_of(limit.removesuffix("iB").lower()) < 0.9 * bytes_of(service["mem_limit"])


def _rotates_its_log(name: str, service: Service) -> bool:
    logging = service.get("logging", {})
    return logging.get("driver") == "json-file" and logging["options"] == {"max-size": "10m", "max-file": "3"}


def _has_a_probe_that_can_fail(name: str, service: Service) -> bool:
    """A probe, at most 15 s until failures show. The collector's image has no shell, so it is asked from outside: its health port is published."""
    probe = service.get("healthcheck", {})
    if probe.get("disable"):
        return name in TASKS or any("COLLECTOR_HEALTH_PORT" in port for port in service.get("ports", []))
    asks = " ".join(probe["test"])
    checks_the_status = ("wget" in asks and "||" not in asks) or re.search(r"-health|pg_isready|probe\.py|= 200", asks) is not None
    return "curl" not in asks and checks_the_status and bytes_of(probe["interval"].replace("s", "k")) // 1024 * probe["retries"] <= 15


def _restarts(name: str, service: Service) -> bool:
    return service.get("restart") == ("no" if name in TASKS else "unless-stopped")


def _is_not_root(name: str, service: Service) -> bool:
    return re.fullmatch(r"[1-9]\d*:\d+", str(service.get("user", ""))) is not None and not service.get("privileged")


def _has_a_root_that_cannot_be_written(name: str, service: Service) -> bool:
    return service.get("read_only") is True


def _has_no_capabilities(name: str, service: Service) -> bool:
    return service.get("cap_drop") == ["ALL"] and "cap_add" not in service


def _gains_no_privileges(name: str, service: Service) -> bool:
    return "no-new-privileges:true" in service.get("security_opt", [])


def _publishes_on_loopback_by_variables(name: str, service: Service) -> bool:
    return all(re.fullmatch(r"127\.0\.0\.1:\$\{\w+_PORT:-\d+\}:\d+", port) for port in service.get("ports", []))


def _keeps_data_in_named_volumes(name: str, service: Service) -> bool:
    """What is mounted to be written to is a named volume; what comes from this folder or the project is read only."""
    for written in service.get("volumes", []):
        mount = written if isinstance(written, dict) else filled(written, {})
        if isinstance(mount, dict):
            if not mount["read_only"] or mount["bind"] != {"create_host_path": False}:
                return False
        elif (not mount.startswith(".") and mount.split(":")[0] not in volumes(COMPOSE)) or (mount.startswith(".") and not mount.endswith(":ro,z")):
            return False
    return True


def _has_no_name_of_its_own(name: str, service: Service) -> bool:
    """So that a second set-up beside this one can be started under another project's name."""
    return "container_name" not in service


def _is_begun_anew_when_what_it_mounts_changed(name: str, service: Service) -> bool:
    """Its label is the sum over its own files, for the engine doesn't look into them."""
    mounts_files = any(isinstance(mount, str) and filled(mount, {}).startswith(".") for mount in service.get("volumes", []))
    return not mounts_files or service.get("labels") == {"goldtrace.config": f"${{CONFIG_SUM_{name.upper()}:-}}"}


RULES: tuple[Rule, ...] = (
    _is_begun_anew_when_what_it_mounts_changed,
    _is_pinned,
    _has_a_memory_limit,
    _collects_garbage_before_the_limit,
    _rotates_its_log,
    _has_a_probe_that_can_fail,
    _restarts,
    _is_not_root,
    _has_a_root_that_cannot_be_written,
    _has_no_capabilities,
    _gains_no_privileges,
    _publishes_on_loopback_by_variables,
    _keeps_data_in_named_volumes,
    _has_no_name_of_its_own,
)


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__.strip("_") for rule in RULES])
def test_every_service(rule: Rule, name: str) -> None:
    assert rule(name, SERVICES[name]), f"{name}: {rule.__doc__ or rule.__name__}"


BROKEN: tuple[tuple[Rule, Service], ...] = (
    (_is_begun_anew_when_what_it_mounts_changed, {"labels": {"goldtrace.config": "${CONFIG_SUM_LOKI:-}"}}),
    (_is_pinned, {"image": "prom/prometheus:latest"}),
    (_has_a_memory_limit, {"mem_limit": "0m"}),
    (_collects_garbage_before_the_limit, {"environment": {"GOMEMLIMIT": "1000MiB"}}),
    (_rotates_its_log, {"logging": {"driver": "json-file", "options": {}}}),
    (_has_a_probe_that_can_fail, {"healthcheck": {"disable": True}}),
    (_has_a_probe_that_can_fail, {"healthcheck": {"test": ["CMD", "curl", "-s", "http://127.0.0.1"], "interval": "5s", "retries": 3}}),
    (_has_a_probe_that_can_fail, {"healthcheck": {"test": ["CMD-SHELL", "wget http://127.0.0.1 || true"], "interval": "5s", "retries": 3}}),
    (_has_a_probe_that_can_fail, {"healthcheck": {"test": ["CMD", "wget", "http://127.0.0.1"], "interval": "60s", "retries": 3}}),
    (_has_a_probe_that_can_fail, {"healthcheck": {"test": ["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/80"], "interval": "5s", "retries": 3}}),
    (_restarts, {"restart": "no"}),
    (_is_not_root, {"user": "0:0"}),
    (_is_not_root, {"user": ""}),
    (_has_a_root_that_cannot_be_written, {"read_only": False}),
    (_has_no_capabilities, {"cap_drop": ["NET_RAW"]}),
    (_has_no_capabilities, {"cap_add": ["CHOWN"]}),
    (_gains_no_privileges, {"security_opt": []}),
    (_publishes_on_loopback_by_variables, {"ports": ["9090:9090"]}),
    (_publishes_on_loopback_by_variables, {"ports": ["127.0.0.1:9090:9090"]}),
    (_keeps_data_in_named_volumes, {"volumes": ["../data:/prometheus"]}),
    (_keeps_data_in_named_volumes, {"volumes": ["unknown-data:/prometheus"]}),
    (_has_no_name_of_its_own, {"container_name": "prometheus"}),
)


@pytest.mark.parametrize(("rule", "change"), BROKEN, ids=[f"{rule.__name__.strip('_')}-{number}" for number, (rule, _) in enumerate(BROKEN)])
def test_a_rule_notices_what_breaks_it(rule: Rule, change: Service) -> None:
    """Prometheus obeys every rule; with one thing changed it doesn't."""
    assert rule("prometheus", SERVICES["prometheus"])
    assert not rule("prometheus", SERVICES["prometheus"] | change)


def test_each_rule_is_seen_to_fail() -> None:
    assert {rule for rule, _ in BROKEN} == set(RULES)


def test_the_services_are_those_that_the_documents_name() -> None:
    obs = {"volumes", "collector", "prometheus", "alertmanager", "loki", "jaeger", "grafana", "reports"}
    assert set(SERVICES) == obs | {"postgres", "marquez", "marquez-web"} | {"mlflow-volumes", "s3", "dynamodb", "mlflow"}


def test_images_are_pinned_once_under_upstreams_names() -> None:
    assert {key: value for key, value in PINS.items() if key.endswith("_IMAGE")} == IMAGES


def test_images_have_the_versions_that_the_stack_was_tried_with(shared: Path) -> None:
    tried = pins_of(shared / "stack" / "versions.env")
    pairs = {"OTELCOL_IMAGE": "OTELCOL_CONTRIB", "S3_IMAGE": "VERSITYGW", "DYNAMODB_IMAGE": "DYNAMODB_LOCAL"} | {
        f"{name}_IMAGE": name for name in ("PROMETHEUS", "ALERTMANAGER", "LOKI", "JAEGER")
    }
    assert {key: PINS[key].rpartition(":")[2].lstrip("v") for key in pairs} == {key: tried[version] for key, version in pairs.items()}


def pins_of(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", file.read_text(), re.M))


def test_ports_are_the_settings_ports_by_default() -> None:
    """`.env`, the default written in the compose files, and settings.py say the same of each port."""
    fields = {variable(name): field.default for name, field in Settings.model_fields.items() if name.endswith("_port")}
    published = {key: int(port) for service in SERVICES.values() for text in service.get("ports", []) for key, port in re.findall(r"\{(\w+):-(\d+)\}", text)}
    assert published == {key: int(value) for key, value in PINS.items() if key.endswith("_PORT")}
    assert published == fields


def test_addresses_in_links_follow_the_ports_and_the_settings() -> None:
    links = yaml.safe_load((COMPOSE / "obs.yaml").read_text())["x-links"]
    moved = {"GRAFANA_PORT": "3100", "REPORTS_PORT": "9", "PIPELINE_LINEAGE_URL": "https://lineage.example"}
    assert filled(links["GRAFANA_URL"], PINS) == "http://127.0.0.1:3000"
    assert [filled(links[key], moved) for key in ("GRAFANA_URL", "REPORT_URL", "LINEAGE_URL")] == [
        "http://127.0.0.1:3100",
        "http://127.0.0.1:9",
        "https://lineage.example",
    ]


def test_retention_is_one_variable_with_one_default() -> None:
    said = [line for file in FILES for line in (COMPOSE / file).read_text().splitlines() if "RETENTION" in line]
    assert len(said) == 4
    assert all("${RETENTION:-720h}" in line for line in said)
    assert PINS["RETENTION"] == "720h"


@pytest.mark.parametrize(("password", "expected"), [("", ["", "", ""]), ("secret", ["false", "false", "true"])])
def test_grafana_has_an_account_only_with_a_password_of_ones_own(password: str, expected: list[str]) -> None:
    environment = SERVICES["grafana"]["environment"]
    keys = ("GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "GF_AUTH_DISABLE_LOGIN_FORM", "GF_AUTH_BASIC_ENABLED")
    assert [filled(environment[key], {"GRAFANA_ADMIN_PASSWORD": password}) for key in keys] == expected


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_from_the_project_is_there(name: str) -> None:
    mounted = [mount.split(":")[0] for mount in SERVICES[name].get("volumes", []) if isinstance(mount, str) and mount.startswith(".")]
    assert [path for path in mounted if not (COMPOSE / path).exists()] == []


def test_the_files_open_with_their_usage() -> None:
    for file, target in zip(FILES, ("make obs.up", "make lineage.up", "make mlflow.up"), strict=True):
        head = (COMPOSE / file).read_text().split("\nname:")[0]
        assert target in head
        assert "docker compose" in head
        assert "podman" in head


ODD = ("init: true", "shm_size", "stop_grace_period", "healthcheck: {disable: true}", "label=disable", "tmpfs:", "--cluster.", "network_mode", "entrypoint")


@pytest.mark.parametrize("file", FILES)
def test_odd_settings_have_their_reason_beside_them(file: str) -> None:
    lines = (COMPOSE / file).read_text().split("services:\n")[1].splitlines()
    found = {line.strip(): lines[number - 1].strip() for number, line in enumerate(lines) if any(word in line for word in ODD)}
    assert [line for line, before in found.items() if not before.startswith("#")] == []


# ---- MLflow's part

MLFLOW = SERVICES["mlflow"]


def test_mlflow_keeps_runs_in_dynamodb_files_in_s3_and_registered_models_in_sqlite() -> None:
    told = {key: filled(MLFLOW["environment"][key], PINS) for key in MLFLOW["environment"] if key.startswith("MLFLOW_")}
    assert told["MLFLOW_BACKEND_STORE_URI"] == "dynamodb://cdp-dev-mlflow-backend?region=us-east-1&endpoint=http://dynamodb:8000"
    assert told["MLFLOW_REGISTRY_STORE_URI"].startswith("sqlite:////volumes/registry/")
    assert (told["MLFLOW_ARTIFACTS_DESTINATION"], told["MLFLOW_S3_ENDPOINT_URL"]) == ("proxied-s3://goldtrace-mlflow", "http://s3:7070")
    assert "registry-data:/volumes/registry" in MLFLOW["volumes"]


def test_dynamodb_local_keeps_its_data_on_a_volume_as_the_user_that_owns_it() -> None:
    service, maker = SERVICES["dynamodb"], SERVICES["mlflow-volumes"]
    command = service["command"]
    assert command[command.index("-dbPath") + 1] == "/data"
    assert {"-sharedDb", "-disableTelemetry"} <= set(command)
    assert "dynamodb-data:/data" in service["volumes"]
    assert service["user"] == maker["user"] == SERVICES["s3"]["user"]
    assert service["depends_on"] == {"mlflow-volumes": {"condition": "service_completed_successfully"}}
    dockerfile = (COMPOSE / "mlflow/Dockerfile").read_text()
    for mount in maker["volumes"]:
        folder = mount.partition(":")[2]
        assert folder in maker["command"]
        assert re.search(rf"chown {maker['user']}[^&]* {folder}\b", dockerfile)


def test_mlflow_sends_nothing_to_anyone_and_answers_only_to_its_own_names() -> None:
    environment = MLFLOW["environment"]
    assert (environment["MLFLOW_DISABLE_TELEMETRY"], environment["DO_NOT_TRACK"]) == ("true", "true")
    hosts = filled(environment["MLFLOW_SERVER_ALLOWED_HOSTS"], PINS).split(",")
    assert {"localhost", "localhost:*", "127.0.0.1:*"} <= set(hosts)
    assert "*" not in hosts
    moved = filled(environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"], {"MLFLOW_PORT": "5099"}).split(",")
    assert moved == ["http://127.0.0.1:5099", "http://localhost:5099"]


def test_the_keys_of_s3_are_those_that_mlflow_has_and_can_be_others() -> None:
    keys = [(SERVICES["s3"]["environment"]["ROOT_ACCESS_KEY"], MLFLOW["environment"]["AWS_ACCESS_KEY_ID"])]
    keys += [(SERVICES["s3"]["environment"]["ROOT_SECRET_KEY"], MLFLOW["environment"]["AWS_SECRET_ACCESS_KEY"])]
    assert [ours == theirs for ours, theirs in keys] == [True, True]
    assert [re.match(r"\$\{(\w+)", ours)[1] for ours, _ in keys] == ["S3_ACCESS_KEY", "S3_SECRET_KEY"]  # type: ignore[index]


def test_keys_that_everyone_can_read_stand_where_local_servers_are_described_and_nowhere_else() -> None:
    """Neither the package nor the image has them: elsewhere one has to bring keys of one's own."""
    texts = [path for folder in ("pipeline", "compose") for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    found = {path.relative_to(ROOT).as_posix() for path in texts if PINS["S3_SECRET_KEY"].encode() in path.read_bytes()}
    assert found == {"compose/.env"}


def test_the_image_of_mlflow_is_made_in_stages_from_hashed_requirements_without_root() -> None:
    dockerfile = (COMPOSE / "mlflow/Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", dockerfile, re.M) == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    assert all("--no-cache-dir" in line and ("--require-hashes" in line or "--no-deps" in line) for line in re.findall(r"pip install .*", dockerfile))
    assert re.findall(r"^USER (\S+)", dockerfile, re.M) == [MLFLOW["user"]]
    assert not re.search(r"^ADD|# syntax=|curl|wget", dockerfile, re.M)


@pytest.mark.slow
def test_the_image_of_mlflow_has_what_its_store_imports(root: Path) -> None:
    """The packages that our modules behind the store name, also inside of functions, are in the server's requirements."""
    code = "import sys, pipeline.tracking.dynamodb.store; print(*(m.__file__ for n, m in sys.modules.items() if n.partition('.')[0] == 'pipeline'))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root)}
    files = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, timeout=120).stdout.split()
    files.append(str(COMPOSE / "mlflow/serve.py"))
    named = {name.partition(".")[0] for file in files for name in _imports(Path(file))} - set(sys.stdlib_module_names) - {"pipeline"}
    needed = {canonicalize_name(name) for module in named for name in packages_distributions()[module]}
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (root / "requirements/mlflow.txt").read_text(), re.M))
    assert {"boto3", "mlflow"} <= needed & pinned
    assert needed - pinned == set()


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_the_image_of_mlflow_is_built_from_what_its_sum_is_over(root: Path) -> None:
    """What the Dockerfile takes, the context lets through, and a change of it makes the image anew (but for the licence and the README)."""
    taken = {word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", (COMPOSE / "mlflow/Dockerfile").read_text(), re.M) for word in line.split()}
    let_through = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert taken <= let_through
    summed = lifecycle.SOURCES["MLFLOW_SOURCES"]
    assert [name for name in taken - {"LICENSE", "README.md"} if not name.startswith(summed)] == []
    assert all((root / name).exists() for name in summed)


# ---- With an engine


@pytest.fixture(scope="session")
def docker_compose() -> list[str]:
    """The command, with its files; skips the test where there is none."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("there is no docker compose here")
    return [docker, "compose", "--env-file", str(COMPOSE / ".env"), *(word for file in FILES for word in ("-f", str(COMPOSE / file)))]


def _config(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return subprocess.run([*command, "config"], capture_output=True, text=True, env=kept | environment, timeout=60, check=False)


def test_compose_takes_the_files_without_a_warning(docker_compose: list[str]) -> None:
    told = _config(docker_compose)
    assert (told.returncode, told.stderr) == (0, "")
    assert set(yaml.safe_load(told.stdout)["services"]) == set(SERVICES)


def test_compose_fills_in_what_these_tests_think(docker_compose: list[str]) -> None:
    told = yaml.safe_load(_config(docker_compose, GRAFANA_PORT="4000", PIPELINE_RUNS="/tmp/r", GRAFANA_ADMIN_PASSWORD="x", RETENTION="48h").stdout)["services"]
    (port,) = told["grafana"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "4000", 3000)
    assert told["jaeger"]["environment"]["GRAFANA_URL"] == "http://127.0.0.1:4000"
    assert told["grafana"]["environment"]["GF_AUTH_DISABLE_LOGIN_FORM"] == "false"
    assert "--storage.tsdb.retention.time=48h" in told["prometheus"]["command"]
    assert {mount["source"] for mount in told["collector"]["volumes"] if mount["target"] == "/runs"} == {"/tmp/r"}


@pytest.mark.parametrize("part", ["lineage.yaml", "mlflow.yaml"])
def test_a_part_can_be_described_alone(docker_compose: list[str], part: str) -> None:
    alone = [word for word in docker_compose if word != "-f" and not word.endswith(".yaml")]
    told = _config([*alone, "-f", str(COMPOSE / part)])
    assert (told.returncode, told.stderr) == (0, "")
