"""MLflow finds the store by its scheme, whatever is imported first."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed (pip install 'goldtrace[aws]')")

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = "mlflow.tracking_store"


def the_one_that_the_project_names() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["entry-points"][PLUGINS]["dynamodb"])


@pytest.fixture(autouse=True)
def installed() -> None:
    """What is installed is what the project says."""
    found = [point.value for point in entry_points(group=PLUGINS) if point.name == "dynamodb"]
    if found != [the_one_that_the_project_names()]:
        pytest.skip(f"goldtrace is not installed with this plugin, but with {found} (make setup.dev)")


@pytest.mark.parametrize("new_table", ["either"], indirect=True)
def test_mlflow_opens_it_by_its_scheme(new_table: Callable[[], str]) -> None:
    from mlflow import MlflowClient

    from pipeline.tracking.dynamodb.store import DynamoDbStore

    client = MlflowClient(new_table())
    assert client.get_experiment("0").name == "Default"
    assert isinstance(client._tracking_client.store, DynamoDbStore)


def test_mlflow_is_not_imported_to_name_it() -> None:
    code = "import sys; import pipeline.tracking.dynamodb.plugin; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_scheme_is_known_when_the_store_comes_first() -> None:
    """MLflow imports its plugins while it is being imported: a module of ours that imports MLflow must not be asked for one yet."""
    code = """
import pipeline.tracking.dynamodb.store
from mlflow.tracking._tracking_service.utils import _tracking_store_registry
assert "dynamodb" in _tracking_store_registry._registry
"""
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
