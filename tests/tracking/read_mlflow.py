"""Prints everything that an MLflow store says about a pipeline's runs, as JSON: run as a program, since it imports MLflow.

Arguments: the store's address, the experiment's name, and a CSV file that each loadable model predicts from.
"""

import json
import sys
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient


def main(uri: str, name: str, table: str) -> None:
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    data = pd.read_csv(table)
    runs = [_run(client, run, data) for run in client.search_runs([experiment.experiment_id])]
    json.dump({"artifact_location": experiment.artifact_location, "runs": runs}, sys.stdout)


def _run(client: MlflowClient, run: mlflow.entities.Run, data: pd.DataFrame) -> dict:
    run_id = run.info.run_id
    outputs = run.outputs.model_outputs if run.outputs else []
    return {
        "id": run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "start_time": run.info.start_time,
        "end_time": run.info.end_time,
        "tags": run.data.tags,
        "params": run.data.params,
        "metrics": run.data.metrics,
        "artifacts": sorted(_artifacts(client, run_id)),
        "estimates": _text(client, run_id, "estimates.csv"),
        "models": [_model(client, run, output.model_id, data) for output in outputs],
    }


def _artifacts(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    found = []
    for item in client.list_artifacts(run_id, folder):
        found += _artifacts(client, run_id, item.path) if item.is_dir else [item.path]
    return found


def _text(client: MlflowClient, run_id: str, name: str) -> str | None:
    names = [item.path for item in client.list_artifacts(run_id)]
    return Path(client.download_artifacts(run_id, name)).read_text() if name in names else None


def _model(client: MlflowClient, run: mlflow.entities.Run, model_id: str, data: pd.DataFrame) -> dict:
    entity = client.get_logged_model(model_id)
    by_run = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/{entity.name}")
    by_id = mlflow.pyfunc.load_model(f"models:/{model_id}")
    columns = by_id.metadata.get_input_schema().input_names()
    rows = data[columns].astype(float)
    folder = Path(entity.artifact_location.removeprefix("file://"))
    return {
        "name": entity.name,
        "status": str(entity.status),
        "metrics": {metric.key: metric.value for metric in entity.metrics or []},
        "inputs": by_id.metadata.get_input_schema().to_dict(),
        "metadata": by_id.metadata.metadata,
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        "requirements": (folder / "requirements.txt").read_text().split(),
        "by_run": by_run.predict(rows).tolist(),
        "by_id": by_id.predict(rows).tolist(),
    }


main(*sys.argv[1:])
