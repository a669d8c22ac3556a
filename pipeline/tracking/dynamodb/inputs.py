"""What runs read: data sets, which the runs of an experiment share, and models.

The first to log a data set under a name and digest decides what is said of it, as on SQL. It is written before the run says
that it read it, and never changed: whoever finds the use finds the data set.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, RunInputs
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR

from pipeline.tracking.dynamodb import values
from pipeline.tracking.dynamodb.client import ConflictError, Item, Key, Table
from pipeline.tracking.dynamodb.items import DatasetUse, RunRecord
from pipeline.tracking.dynamodb.schema import PARTITION, SORT, dataset_id, datasets_partition


def distinct(inputs: Sequence[DatasetInput]) -> list[DatasetInput]:
    """The inputs with the first of each name and digest.

    Raises:
        MlflowException: `INTERNAL_ERROR`, as SQL has it, for one without a data set.
    """
    if any(entry.dataset is None for entry in inputs):
        raise MlflowException("Dataset input must have a dataset associated with it.", INTERNAL_ERROR)
    first = {(entry.dataset.name, entry.dataset.digest): entry for entry in reversed(inputs)}
    return [entry for entry in inputs if first[entry.dataset.name, entry.dataset.digest] is entry]


def put_datasets(table: Table, experiment_id: str, datasets: Iterable[Dataset]) -> None:
    """Put those data sets into the experiment that it doesn't have yet."""
    for dataset in datasets:
        said = [dataset.name, dataset.digest, dataset.source_type, dataset.source, dataset.schema, dataset.profile]
        first, *others = values.split(values.pack(said))
        token, identity = secrets.token_hex(8), dataset_id(dataset.name, dataset.digest)
        keys = [_piece_key(experiment_id, identity, token, place) for place in range(1, len(others) + 1)]
        for key, piece in zip(keys, others, strict=True):
            table.put(_piece(key, piece))
        head = _piece(_head_key(experiment_id, identity), first)
        try:
            table.put({**head, "token": {"S": token}, "others": {"N": str(len(others))}}, table.absent())
        except ConflictError:  # it is there already
            for key in keys:
                table.delete(key)


def use(record: RunRecord, inputs: Sequence[DatasetInput]) -> None:
    """Let a run know what it read; a data set that it knows keeps the tags it has.

    Raises:
        MlflowException: `BAD_REQUEST`, as SQL has it, for two tags of one name.
    """
    known = {used.dataset_id for used in record.datasets}
    for entry in inputs:
        identity = dataset_id(entry.dataset.name, entry.dataset.digest)
        if identity in known:
            continue
        tags = [(tag.key, tag.value) for tag in entry.tags]
        if len({key for key, _ in tags}) < len(tags):
            raise MlflowException(f"Two tags of the data set '{entry.dataset.name}' have one name", BAD_REQUEST)
        record.datasets.append(DatasetUse(identity, entry.dataset.name, entry.dataset.digest, tags))


def use_models(record: RunRecord, models: Sequence[LoggedModelInput]) -> None:
    """Let a run know which models it read, each one once."""
    record.model_inputs = list(dict.fromkeys([*record.model_inputs, *(model.model_id for model in models)]))


def made_models(record: RunRecord, models: Sequence[LoggedModelOutput]) -> None:
    """Let a run know which models it made.

    Raises:
        MlflowException: `BAD_REQUEST`, as SQL has it, for one that it knows.
    """
    record.model_outputs += [(model.model_id, model.step) for model in models]
    if len({model_id for model_id, _ in record.model_outputs}) < len(record.model_outputs):
        raise MlflowException(f"The run {record.run_id} has made one of the models already", BAD_REQUEST)


class Inputs:
    """Reads data sets; each of them once, however many runs read it."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._read: dict[Key, Dataset] = {}

    def of(self, records: Sequence[RunRecord], *, models: bool = False) -> list[RunInputs]:
        """What each of the runs read, as MLflow's entity; with its models, if wanted (SQL leaves them out of searches)."""
        self._load({_head_key(record.experiment_id, used.dataset_id) for record in records for used in record.datasets})
        return [self._inputs(record, models=models) for record in records]

    def _inputs(self, record: RunRecord, *, models: bool) -> RunInputs:
        datasets = [
            DatasetInput(self._read[_head_key(record.experiment_id, used.dataset_id)], [InputTag(key, value) for key, value in used.tags])
            for used in record.datasets
        ]
        if not models:
            return RunInputs(dataset_inputs=datasets)
        return RunInputs(dataset_inputs=datasets, model_inputs=[LoggedModelInput(model_id) for model_id in record.model_inputs])

    def _load(self, keys: set[Key]) -> None:
        heads = self._table.get_many(keys - set(self._read))
        others = {key: _others(key, head) for key, head in heads.items()}
        pieces = self._table.get_many(key for wanted in others.values() for key in wanted)
        for key, head in heads.items():
            packed = head["piece"]["B"] + b"".join(pieces[other]["piece"]["B"] for other in others[key])
            name, digest, source_type, source, schema, profile = values.unpack(packed)
            self._read[key] = Dataset(name=name, digest=digest, source_type=source_type, source=source, schema=schema, profile=profile)


def _others(key: Key, head: Item) -> list[Key]:
    """Where the rest of a data set is that is too large for one item."""
    experiment_id, identity = key[0].partition("#")[2], key[1].partition("#")[0]
    return [_piece_key(experiment_id, identity, head["token"]["S"], place + 1) for place in range(int(head["others"]["N"]))]


def _head_key(experiment_id: str, identity: str) -> Key:
    return (datasets_partition(experiment_id), f"{identity}#")


def _piece_key(experiment_id: str, identity: str, token: str, place: int) -> Key:
    return (datasets_partition(experiment_id), f"{identity}#{token}#{place:04d}")


def _piece(key: Key, piece: bytes) -> Item:
    return {PARTITION: {"S": key[0]}, SORT: {"S": key[1]}, "piece": {"B": piece}}
