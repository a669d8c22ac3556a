"""MLflow's store in DynamoDB against MLflow's own in SQLite: the same calls on both, in turn, in one process.

python -m bench.experiments FOLDER ENDPOINT RUNS      (prints seconds of each call and store as JSON)

DynamoDB Local keeps everything in memory and SQLite writes to the disk, as each does where it is used for trying things; neither
says what AWS takes. What is compared is the work that a store makes of a call.
"""

import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from bench.timing import say, timed

RUNS, SMOKE_RUNS = 10_000, 30
_PAGE = 1_000
_READY_SECONDS = 30
_KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONWARNINGS": "ignore"}


def measure(scratch: Path, *, endpoint: str | None, smoke: bool) -> dict[str, Any]:
    """Seconds by call and store, with their ratio; or `skipped`, and why. `endpoint` is a DynamoDB Local that runs already."""
    folder = scratch / "experiments"
    folder.mkdir()
    try:
        with _dynamodb(folder, endpoint) as address:
            runs = SMOKE_RUNS if smoke else RUNS
            done = timed([sys.executable, "-m", "bench.experiments", str(folder), address, str(runs)], folder, _KEYS)
    except NoDynamoDbError as error:
        say(f"  left out: {error}")
        return {"skipped": str(error)}
    found: dict[str, Any] = json.loads(done.output)
    return {**found, "peak": done.peak}


class NoDynamoDbError(Exception):
    """DynamoDB Local can't be had here; the message says why."""


@contextmanager
def _dynamodb(folder: Path, endpoint: str | None) -> Iterator[str]:
    if endpoint:
        if not _answers(endpoint):
            raise NoDynamoDbError(f"nothing answers at {endpoint}")
        yield endpoint
        return
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    server = subprocess.Popen(_command(port), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + _READY_SECONDS
        while not _answers(address):
            if server.poll() is not None or time.monotonic() > until:
                raise NoDynamoDbError("DynamoDB Local does not start")
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


def _command(port: int) -> list[str]:
    """The folder that has DynamoDB Local also has a script that prints the command which serves it."""
    shared = os.environ.get("GOLDTRACE_SHARED")
    if not shared:
        raise NoDynamoDbError("there is no DynamoDB Local: name one that runs with --dynamodb (make mlflow.up starts one)")
    if not shutil.which("java"):
        raise NoDynamoDbError("java is not installed, which DynamoDB Local needs")
    got = subprocess.run([Path(shared) / "stack" / "dynamodb-local" / "get.sh"], capture_output=True, text=True, check=False)
    if got.returncode:
        raise NoDynamoDbError(f"DynamoDB Local can't be had: {got.stderr.strip()}")
    return [str(port) if word == "8000" else word for word in shlex.split(got.stdout.strip().splitlines()[-1])]


def _answers(address: str) -> bool:
    try:
        urlopen(address, timeout=5)
    except HTTPError:  # 400 to a plain GET
        return True
    except (URLError, OSError):
        return False
    return True


# ---------------------------------------------------------------------------------------------- in a process of its own

Stores = dict[str, Any]


def _stores(folder: Path, endpoint: str) -> Stores:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from pipeline.tracking.dynamodb.address import parse_address
    from pipeline.tracking.dynamodb.store import DynamoDbStore
    from pipeline.tracking.dynamodb.table import Wanted, create

    uri = f"dynamodb://bench-{uuid.uuid4().hex}?region=us-east-1&endpoint={endpoint}"
    create(parse_address(uri), Wanted(protected=False, tags={}))
    return {"sqlite": SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", str(folder)), "dynamodb": DynamoDbStore(uri, str(folder))}


def _new_run(store: Any, experiment: str, place: int = 0) -> str:
    from mlflow.entities import RunTag

    tags = [RunTag("group", str(place % 100)), RunTag("goldtrace.run_id", str(place))]
    return str(store.create_run(experiment, "bench", place, tags, f"run-{place}").info.run_id)


def _log(store: Any, run_id: str, count: int) -> None:
    from mlflow.entities import Metric

    store.log_batch(run_id, [Metric(f"metric/{place}", place * 1.5, 1, 0) for place in range(count)], [], [])


def _hundred_runs(store: Any, experiment: str, runs: int) -> None:
    for place in range(runs):
        _log(store, _new_run(store, experiment, place), 100)


def _fill(store: Any, experiment: str, runs: int) -> None:
    """Runs with a metric each, its value the run's place."""
    from mlflow.entities import Metric

    for place in range(runs):
        store.log_batch(_new_run(store, experiment, place), [Metric("loss", place, 1, 0)], [], [])


def _search(store: Any, experiment: str, question: str) -> int:
    from mlflow.entities import ViewType

    return len(store.search_runs([experiment], question, ViewType.ACTIVE_ONLY, max_results=_PAGE))


def _page_through(store: Any, experiment: str) -> int:
    from mlflow.entities import ViewType

    seen, token = 0, None
    while seen == 0 or token:
        page = store.search_runs([experiment], "", ViewType.ACTIVE_ONLY, max_results=_PAGE, page_token=token)
        seen, token = seen + len(page), page.token
    return seen


def _in_turn(stores: Stores, rounds: int, call: Callable[[Any, str], object]) -> dict[str, list[float]]:
    """Seconds of a call on each store by the store's name, the stores taking turns. Each call gets what `call` is given for its store."""
    taken: dict[str, list[float]] = {name: [] for name in stores}
    for _ in range(rounds):
        for name, store in stores.items():
            before = time.perf_counter()
            call(store, name)
            taken[name].append(time.perf_counter() - before)
    return taken


def _main(folder: Path, endpoint: str, runs: int) -> dict[str, Any]:
    stores = _stores(folder, endpoint)
    experiments = {name: store.create_experiment("small") for name, store in stores.items()}
    crowded = {name: store.create_experiment("crowded") for name, store in stores.items()}
    rounds, hundred = (20, 100) if runs >= 1_000 else (3, 5)
    ids = {name: [_new_run(store, experiments[name]) for _ in range(rounds + 1)] for name, store in stores.items()}
    for name, store in stores.items():  # what is imported, connected and prepared at the first call is not counted
        _log(store, ids[name].pop(), 1)
    calls: dict[str, dict[str, list[float]]] = {
        "create_run": _in_turn(stores, rounds, lambda store, name: _new_run(store, experiments[name])),
        "log_batch of 1,000 metrics": _in_turn(stores, rounds, lambda store, name: _log(store, ids[name].pop(), 1_000)),
        f"{hundred} runs × 100 metrics": _in_turn(stores, 1, lambda store, name: _hundred_runs(store, experiments[name], hundred)),
        f"making {runs:,} runs": _in_turn(stores, 1, lambda store, name: _fill(store, crowded[name], runs)),
    }
    searches = max(rounds // 4, 1)
    calls |= {
        "search by a metric": _in_turn(stores, searches, lambda store, name: _search(store, crowded[name], f"metrics.loss >= {runs - 10}")),
        "search by a tag": _in_turn(stores, searches, lambda store, name: _search(store, crowded[name], "tags.group = '7'")),
        "the first page, newest first": _in_turn(stores, searches, lambda store, name: _search(store, crowded[name], "")),
        f"paging through {runs:,}": _in_turn(stores, searches, lambda store, name: _page_through(store, crowded[name])),
    }
    assert _search(stores["dynamodb"], crowded["dynamodb"], f"metrics.loss >= {runs - 10}") == 10
    assert _page_through(stores["dynamodb"], crowded["dynamodb"]) == runs
    return {"runs": runs, "calls": {call: _figures(taken) for call, taken in calls.items()}}


def _figures(taken: dict[str, list[float]]) -> dict[str, float]:
    ratios = [ours / sql for ours, sql in zip(taken["dynamodb"], taken["sqlite"], strict=True)]
    return {"sqlite": statistics.median(taken["sqlite"]), "dynamodb": statistics.median(taken["dynamodb"]), "ratio": statistics.median(ratios)}


if __name__ == "__main__":
    print(json.dumps(_main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
