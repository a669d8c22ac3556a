"""DynamoDB Local as a plain process, tables in it, and MLflow's SQL store beside it."""

import logging
import shlex
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

ARTIFACTS = "/artifacts"
EITHER = "either"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def answers(endpoint: str) -> bool:
    try:
        urlopen(endpoint, timeout=5)
    except HTTPError:  # it says 400 to a plain GET
        return True
    except URLError:
        return False
    return True


@pytest.fixture(scope="session")
def endpoint(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a DynamoDB Local that keeps everything in memory."""
    pytest.importorskip("boto3", reason="boto3 is not installed (pip install 'goldtrace[aws]')")
    if not shutil.which("java"):
        pytest.skip("java is not installed")
    got = subprocess.run([shared / "stack" / "dynamodb-local" / "get.sh"], capture_output=True, text=True, check=False)
    if got.returncode:
        pytest.skip(f"DynamoDB Local can't be had: {got.stderr.strip()}")
    port = free_port()
    command = [str(port) if word == "8000" else word for word in shlex.split(got.stdout.strip().splitlines()[-1])]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path_factory.mktemp("dynamodb"))
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120  # on a machine that has much else to do
        while not answers(address):
            assert server.poll() is None, "DynamoDB Local ended"
            assert time.monotonic() < deadline, "DynamoDB Local does not answer"
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """The address of a DynamoDB of moto's."""
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer(port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    try:
        yield f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    finally:
        server.stop()


@pytest.fixture(params=[EITHER, pytest.param("moto", marks=pytest.mark.slow)])
def new_table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Makes a table and gives the address of a store in it. `EITHER` is DynamoDB Local where it can be had, else moto."""
    try:
        endpoint = request.getfixturevalue("moto_endpoint" if request.param == "moto" else "endpoint")
    except pytest.skip.Exception:
        if request.param != EITHER:
            raise
        endpoint = request.getfixturevalue("moto_endpoint")
    from pipeline.tracking.dynamodb.address import parse_address
    from pipeline.tracking.dynamodb.table import Wanted, create

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")

    def make() -> str:
        uri = f"dynamodb://goldtrace-{uuid.uuid4().hex}?region=us-east-1&endpoint={endpoint}"
        create(parse_address(uri), Wanted(protected=False, tags={}))
        return uri

    return make


@pytest.fixture
def store(new_table: Callable[[], str]) -> Any:
    """A store with nothing in it but the default experiment."""
    from pipeline.tracking.dynamodb.store import DynamoDbStore

    return DynamoDbStore(new_table(), ARTIFACTS)


@pytest.fixture
def experiment(store: Any) -> str:
    return str(store.create_experiment("an experiment"))


@pytest.fixture
def run_id(store: Any, experiment: str) -> str:
    return str(store.create_run(experiment, "user", 1, [], "a run").info.run_id)


@pytest.fixture(scope="session")
def empty_database(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A SQLite file as MLflow makes it, to be copied: making one takes seconds."""

    def fill(folder: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        SqlAlchemyStore(f"sqlite:///{folder / 'empty.db'}", ARTIFACTS)._dispose_engine()

    return made_once("an empty MLflow database", fill) / "empty.db"


@pytest.fixture
def new_sql_store(empty_database: Path, tmp_path: Path) -> Callable[[], Any]:
    """Makes an MLflow SQL store with nothing in it but the default experiment."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    def make() -> Any:
        path = tmp_path / f"{uuid.uuid4().hex}.db"
        shutil.copy(empty_database, path)
        return SqlAlchemyStore(f"sqlite:///{path}", ARTIFACTS)

    return make


@pytest.fixture
def make(new_table: Callable[[], str], new_sql_store: Callable[[], Any]) -> Callable[[], Any]:
    """Makes both stores, with nothing in them but the default experiment."""
    from tests.tracking_dynamodb.two_stores import SameIds, TwoStores

    return lambda: TwoStores(new_sql_store(), SameIds(new_table(), ARTIFACTS))
