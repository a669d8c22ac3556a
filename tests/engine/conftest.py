"""A small pipeline in a folder of its own: two sources, one SQL step, one Python step. And S3 servers for its lake."""

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import api
from pipeline.records import Run
from tests.engine.engine_support import Go, Start, write_source
from tests.engine.s3_support import BUCKET, KEY_ID, REGION, SECRET, Proxy, credentials, moto_server, proxied
from tests.stack.programs import program

APP = """
import os, pathlib, time
from datetime import time as at, timedelta
from pipeline import Schedule, define, ingest, python_step, sql_step

HERE = pathlib.Path(__file__).parent

def total(features):
    if os.environ.get("APP_RAISES"):
        raise ValueError("could not convert 'SECRET-PERSON'")
    return features.query("SELECT week, sum(delta::DECIMAL(18,6))::DOUBLE AS total FROM features GROUP BY week ORDER BY week")

def words(total):
    return {"report.md": f"{total.rows} weeks".encode()}

PIPELINE = define(
    name="small", description="A small one.", owner="us", contracts=HERE / "contracts", schedule=Schedule(every=timedelta(days=1), by=at(6)),
    sample=HERE / "input",
    steps=[
        ingest("weight", source="input/weight", output="bronze/weight", description="Weights."),
        ingest("food", source="input/food", output="bronze/food", description="Food."),
        sql_step("features", HERE / "features.sql", inputs=["bronze/weight", "bronze/food"], output="silver/features", description="Features."),
        python_step("total", total, inputs=["silver/features"], outputs=["gold/total"], description="Totals."),
        python_step("words", words, inputs=["gold/total"], outputs=["gold/words"], description="Words."),
    ],
)
"""
SQL = """SELECT w.subject_id, w.week, w.weight_kg - coalesce(f.calories, 0) AS delta
FROM bronze.weight AS w LEFT JOIN bronze.food AS f ON f.subject_id = w.subject_id AND f.week = w.week
ORDER BY w.subject_id, w.week
"""
SOURCE = """
dataset: input/{name}
description: A file.
owner: us
pattern: "{name}*.csv"
key: [subject_id, week]
max_quarantined_share: 0.3
columns:
  - {{name: subject_id, type: string, nullable: false, privacy: identifier, description: Who.}}
  - {{name: week, type: integer, nullable: false, description: When.}}
  - {{name: {value}, type: number, privacy: personal, description: How much.}}
expectations:
  - {{expect: expect_column_values_to_be_between, kwargs: {{column: {value}, min_value: 0, max_value: 500}}, severity: error, quarantine: true}}
"""
BRONZE = """
dataset: bronze/{name}
description: As ingested.
owner: us
columns:
  - {{name: subject_id, type: string, privacy: identifier, description: Who.}}
  - {{name: week, type: integer, description: When.}}
  - {{name: {value}, type: number, privacy: personal, description: How much.}}
  - {{name: source_file, type: string, description: File.}}
  - {{name: record_number, type: integer, description: Record.}}
  - {{name: load_id, type: string, description: Load.}}
"""
FEATURES = """
dataset: silver/features
description: Features.
owner: us
key: [subject_id, week]
columns:
  - {name: subject_id, type: string, nullable: false, privacy: identifier, description: Who.}
  - {name: week, type: integer, nullable: false, description: When.}
  - {name: delta, type: number, privacy: personal, description: Difference.}
"""
TOTAL = """
dataset: gold/total
description: Totals.
owner: us
columns:
  - {name: week, type: integer, description: When.}
  - {name: total, type: number, description: Sum.}
"""
WORDS = """
dataset: gold/words
description: Words.
owner: us
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder with `small_app.py`, its contracts, and `input/` with ten weights and ten foods; ten of each are right."""
    contracts = tmp_path / "contracts"
    contracts.mkdir()
    for name, value in (("weight", "weight_kg"), ("food", "calories")):
        (contracts / f"input_{name}.yaml").write_text(SOURCE.format(name=name, value=value))
        (contracts / f"bronze_{name}.yaml").write_text(BRONZE.format(name=name, value=value))
        write_source(tmp_path, name, value, [(f"P{i}", i % 2 + 1, 70 + i) for i in range(10)])
    for name, text in (("features", FEATURES), ("total", TOTAL), ("words", WORDS)):
        (contracts / f"{name}.yaml").write_text(text)
    (tmp_path / "features.sql").write_text(SQL)
    (tmp_path / "small_app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def go(app: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    """Run the small pipeline in this process, without MLflow."""
    monkeypatch.chdir(app)
    monkeypatch.syspath_prepend(str(app))
    sys.modules.pop("small_app", None)  # that of another test's folder

    def goer(**options: Any) -> Run:
        return api.run(app="small_app:PIPELINE", tracking="off", **options)

    return goer


@pytest.fixture
def start(app: Path) -> Start:
    """Start `pipeline <arguments>` for the small pipeline in a process of its own, without MLflow."""

    def starter(*arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> "subprocess.Popen[str]":
        settings = {"PIPELINE_APP": "small_app:PIPELINE", "PIPELINE_TRACKING": "off", "PATH": "/usr/bin:/bin", **environment}
        command = [*prefix, sys.executable, "-c", "from pipeline.cli import main; main()", *arguments]
        return subprocess.Popen(command, cwd=app, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return starter


# ---------------------------------------------------------------------------------------------- S3


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of moto's S3, in this process. It looks at no credentials, and two conditional writes at once may both succeed."""
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a versitygw that keeps objects as files in a folder."""
    binary = program("versitygw")
    folder = tmp_path_factory.mktemp("versitygw")
    (folder / BUCKET).mkdir()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    command = [binary, "--quiet", "--port", f"127.0.0.1:{port}", "--access", KEY_ID, "--secret", SECRET, "--region", REGION, "posix", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        _until_open(port)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "versitygw does not answer"
            time.sleep(0.05)
        else:
            return


@pytest.fixture(params=["moto", pytest.param("versitygw", marks=pytest.mark.slow)])
def s3_server(request: pytest.FixtureRequest) -> str:
    """The address of each server in turn."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """A proxy before each server in turn, for which the environment has credentials."""
    yield from _proxied(s3_server, monkeypatch, tmp_path)


@pytest.fixture
def moto_s3(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """The same before moto only: for what depends on the proxy alone."""
    yield from _proxied(moto, monkeypatch, tmp_path)


def _proxied(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    with proxied(server) as proxy:
        for name, value in credentials(proxy.endpoint, PIPELINE_STAGING=str(tmp_path / "staging")).items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def prefix() -> str:
    """A place in the bucket that no other test has."""
    return f"lakes/{uuid.uuid4().hex[:12]}"
