"""The table: its keys, and its one index.

    experiment_id              run_uuid              what it is
    <experiment id>            <run id>              a run, with its latest metrics, params and tags
    run#<run id>               pointer               which experiment the run is in
    run#<run id>               history#<version>#<n> the metrics of one batch
    run#<run id>               part#<token>#<n>      what did not fit into the run's item
    experiments                <experiment id>       an experiment; 19 digits, so that they sort as numbers
    experiment-name#<name>     name                  which experiment has that name
    datasets#<experiment id>   <sum>#<n>             a data set that runs of the experiment read
    models#<experiment id>     <model id>            a logged model, with its params and tags
    models#<experiment id>     <model id>#metrics#…  the metrics of one batch of a run that are about the model
    models#<experiment id>     <model id>#part#…     what did not fit into the model's item
    model#<model id>           pointer               which experiment the model is in
    counter                    experiment            the last experiment id that was given

The key attributes' names are a run's, whose items people read; the other items share them. What MLflow finds by id is found by
key and read consistently. The index is a local one, since those can be read consistently: a global one lags behind on AWS.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pipeline.tracking.dynamodb.address import Address
from pipeline.tracking.dynamodb.client import Key, Table

PARTITION = "experiment_id"
SORT = "run_uuid"
# The index's sort key: a run's or a model's place in MLflow's default order, newest first, then by id.
START_ORDER = "start_order"
BY_START = "by_start"
EXPERIMENTS = "experiments"
POINTER = "pointer"
HISTORY = "history#"
PART = "part#"
COUNTER: Key = ("counter", "experiment")
_LATEST = 2**63 - 1
_NAME_BYTES = 1500


def open_table(address: Address) -> Table:
    """The table at that address; nothing is asked of it yet."""
    return Table(address, partition=PARTITION, sort=SORT)


def runs_partition(run_id: str) -> str:
    """The partition of what belongs to a run beside its own item."""
    return f"run#{run_id}"


def pointer_key(run_id: str) -> Key:
    """The key of the item that says which experiment a run is in."""
    return (runs_partition(run_id), POINTER)


def history_key(run_id: str, version: int, part: int) -> Key:
    """The key of one batch of metrics: the version of the run that brought it, which no two writers share."""
    return (runs_partition(run_id), f"{HISTORY}{version:012d}#{part:03d}")


def part_key(run_id: str, token: str, part: int) -> Key:
    """The key of one part of what did not fit into a run's item."""
    return (runs_partition(run_id), f"{PART}{token}#{part:04d}")


def experiment_key(experiment_id: str) -> Key:
    """An experiment's key."""
    return (EXPERIMENTS, f"{int(experiment_id):019d}")


def name_key(name: str) -> Key:
    """The key of the item that keeps an experiment's name from being given twice. A key has at most 2,048 bytes."""
    encoded = name.encode()
    return (f"experiment-name#{name if len(encoded) <= _NAME_BYTES else hashlib.sha256(encoded).hexdigest()}", "name")


def datasets_partition(experiment_id: str) -> str:
    """The partition of an experiment's data sets."""
    return f"datasets#{experiment_id}"


def dataset_id(name: str, digest: str) -> str:
    """What a data set is called by in its experiment: MLflow tells them apart by name and digest."""
    return hashlib.sha256(f"{len(name)}:{name}{digest}".encode()).hexdigest()[:32]


def models_partition(experiment_id: str) -> str:
    """The partition of an experiment's logged models."""
    return f"models#{experiment_id}"


def model_pointer_key(model_id: str) -> Key:
    """The key of the item that says which experiment a model is in."""
    return (f"model#{model_id}", POINTER)


def model_metrics(model_id: str, run_id: str = "") -> str:
    """How the sort keys begin of the metrics about a model, or of those that one run has logged."""
    return f"{model_id}#metrics#{run_id}"


def model_metrics_key(experiment_id: str, model_id: str, run_id: str, version: int) -> Key:
    """The key of the metrics about a model that came with one version of a run."""
    return (models_partition(experiment_id), f"{model_metrics(model_id, run_id)}#{version:012d}")


def model_part_key(experiment_id: str, model_id: str, token: str, part: int) -> Key:
    """The key of one part of what did not fit into a model's item."""
    return (models_partition(experiment_id), f"{model_id}#part#{token}#{part:04d}")


def start_order(start_time: int | None, run_id: str) -> str:
    """A text that sorts as MLflow sorts runs by default: by start time, newest first and missing ones last, then by id."""
    return f"{_LATEST - start_time:020d}#{run_id}" if start_time is not None else f"~#{run_id}"


def definition() -> dict[str, Any]:
    """What makes the table: on-demand billing, and the index, which has whole items: DynamoDB filters by what an index has only."""
    texts = [{"AttributeName": name, "AttributeType": "S"} for name in (PARTITION, SORT, START_ORDER)]
    return {
        "AttributeDefinitions": texts,
        "KeySchema": _keys(SORT),
        "LocalSecondaryIndexes": [{"IndexName": BY_START, "KeySchema": _keys(START_ORDER), "Projection": {"ProjectionType": "ALL"}}],
        "BillingMode": "PAY_PER_REQUEST",
    }


def _keys(sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": PARTITION, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]
