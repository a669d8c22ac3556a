"""What an MLflow server says of one pipeline run, read by MLflow's own client in a process of its own: its runs, files, and predictions."""

import json
import sys

import mlflow
import pandas as pd
from mlflow import MlflowClient

uri, run_id = sys.argv[1:]
mlflow.set_tracking_uri(uri)
client = MlflowClient(uri)
experiment = client.get_experiment_by_name("potato")
found = client.search_runs([experiment.experiment_id], f"tags.`goldtrace.run_id` = '{run_id}'")
said = {}
for run in found:
    name = run.data.tags.get("goldtrace.model", "")
    files = [file.path for file in client.list_artifacts(run.info.run_id, None if name else "figures")]
    said[name] = {"status": run.info.status, "params": run.data.params, "metrics": run.data.metrics, "tags": run.data.tags, "files": files}
    if name:
        model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/{name}")
        columns = model.metadata.get_input_schema().input_names()
        said[name]["predictions"] = list(model.predict(pd.DataFrame([dict.fromkeys(columns, 0.0), dict.fromkeys(columns, 1.0)])))
print(json.dumps({"experiment": experiment.experiment_id, "runs": said}))
