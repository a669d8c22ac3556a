"""The same sequences of calls about logged models on MLflow's SQL store and on ours give the same answers, errors and orders."""

import time
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.tracking_dynamodb.differential import BOTH, compare, many

# MLflow's SQL store uses what SQLAlchemy deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:New instance .* with identity key .* conflicts"),
    pytest.mark.filterwarnings("ignore:Object of type .* not in session"),
]

PLACES = st.integers(0, 4)
KEYS = st.sampled_from(["a", "a", "a", "b", "with space", "é.x", "B"])
TEXTS = st.sampled_from(["", "a", "A", "aB%", "0.5", "2", "É", "x'", None])
NAMES = st.sampled_from([None, "one", "One", "two", "ü", "a_b", "", "no/good", "no'good"])
KINDS = st.sampled_from([None, "forest", "Forest", ""])
NUMBERS = st.sampled_from([0.0, 1.0, 1.0, -1.0, 0.5, float("inf"), float("nan"), 1e-300])
DATASETS = st.sampled_from([(None, None), (None, None), ("d", "1"), ("d", "2"), ("e", "1")])
ATTRIBUTES = st.sampled_from(
    ["name", "model_type", "source_run_id", "status", "experiment_id", "lifecycle_stage", "artifact_location", "nonsense", "attributes.name"]
)
TEXTUAL = st.sampled_from(["=", "=", "!=", "LIKE", "ILIKE", "like"])
NUMERIC = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
LISTS = st.sampled_from(["('one')", "('one', 'two', '1')", "('a',)", "('2', 'A')"])
PATTERNS = st.sampled_from(["a", "A%", "%b%", "_", "o%", "ONE", "one", "forest", "2", "1", "%", "0", "active", "1.0"])
BAD_FILTERS = st.sampled_from(
    ["nonsense", "name > 'a'", "metrics.a LIKE '1'", "metrics.a = 'x'", "name = 'a' OR name = 'b'", "bad.a = '1'", "name IN 'a'", "name IN (1)"]
)
FIELDS = st.sampled_from(
    ["name", "creation_time", "creation_timestamp", "last_updated_timestamp", "model_id", "status", "model_type", "metrics.a", "metrics.a", "metrics.b"]
)
BAD_FIELDS = st.sampled_from(["nonsense", "params.a", "tags.a"])


@st.composite
def clauses(draw: st.DrawFn) -> str:
    key = f"`{draw(KEYS)}`"
    kind = draw(st.sampled_from(["metrics", "metrics", "text", "attribute", "time", "list"]))
    if kind == "metrics":
        return f"metrics.{key} {draw(NUMERIC)} {draw(st.sampled_from(['0', '1', '0.5', '-1', '1e-300']))}"
    if kind == "text":
        return f"{draw(st.sampled_from(['params', 'tags']))}.{key} {draw(TEXTUAL)} '{draw(PATTERNS)}'"
    if kind == "time":
        return f"{draw(st.sampled_from(['creation_time', 'creation_timestamp', 'last_updated_timestamp']))} {draw(NUMERIC)} 1000"
    if kind == "list":
        named = draw(st.sampled_from(["name", "status", "params.a", "tags.`b`"]))
        return f"{named} {draw(st.sampled_from(['IN', 'NOT IN']))} {draw(LISTS)}"
    return f"{draw(ATTRIBUTES)} {draw(TEXTUAL)} '{draw(PATTERNS)}'"


FILTERS = st.one_of(st.none(), st.lists(clauses(), min_size=1, max_size=3).map(" AND ".join), BAD_FILTERS)
DATASET_FILTERS = st.sampled_from(
    [
        *(None, None, [], [{"dataset_name": "d"}], [{"dataset_name": "d", "dataset_digest": "1"}], [{"dataset_name": "d", "dataset_digest": None}]),
        *([{"dataset_name": "e"}, {"dataset_name": "d", "dataset_digest": "2"}], [{"dataset_name": ""}]),
    ]
)
ON_DATASETS = st.sampled_from([{"dataset_name": "d"}, {"dataset_digest": "1"}, {"dataset_name": "d", "dataset_digest": "2"}, {"dataset_name": ""}])


@st.composite
def orders(draw: st.DrawFn) -> dict[str, Any]:
    order: dict[str, Any] = {"field_name": draw(st.one_of(FIELDS, FIELDS, FIELDS, BAD_FIELDS))}
    if draw(st.booleans()):
        order["ascending"] = draw(st.booleans())
    if draw(st.booleans()):
        order.update(draw(ON_DATASETS))
    return order


@st.composite
def entries(draw: st.DrawFn, kind: str) -> list[Any] | None:
    import mlflow.entities

    made = [getattr(mlflow.entities, kind)(draw(KEYS), draw(TEXTS)) for _ in range(draw(st.integers(0, 3)))]
    return made or draw(st.sampled_from([None, []]))


class LoggedModels(RuleBasedStateMachine):
    """Any of the calls in any order. Models are told by their place in the order in which they were made."""

    make: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.stores = type(self).make()
        self.models: list[str] = []
        self.step = 0

    def teardown(self) -> None:
        try:
            for model_id in self.models:
                self.stores.both("get_logged_model", model_id, allow_deleted=True)
            for order in ("metrics.a", "metrics.b", "last_updated_timestamp"):
                self.search(None, None, [{"field_name": order}], 2)
            for run_id in self.runs:
                self.stores.both("get_run", run_id)
        finally:
            self.stores.sql._dispose_engine()

    def search(self, wanted: str | None, datasets: Any, order: Any, most: int | None) -> None:
        self.stores.pages("search_logged_models", most, experiment_ids=self.experiments, filter_string=wanted, datasets=datasets, order_by=order)

    def model(self, place: int) -> str:
        return self.models[place % len(self.models)] if place < 4 and self.models else "m-" + "f" * 32

    @initialize()
    def begin(self) -> None:
        self.experiments = ["0", self.stores.both("create_experiment", "one")]
        self.runs = [self.stores.both("create_run", experiment, "user", 1, [], "a run").info.run_id for experiment in self.experiments]
        self.create_logged_model(0, "one", None, None, None, run=None)

    @rule(
        place=st.integers(0, 1), name=NAMES, kind=KINDS, tags=entries("LoggedModelTag"), params=entries("LoggedModelParameter"), run=st.sampled_from([None, 0])
    )
    def create_logged_model(self, place: int, name: str | None, kind: str | None, tags: Any, params: Any, run: int | None) -> None:
        time.sleep(0.002)  # the default order is by time of creation
        created = self.stores.both(
            "create_logged_model",
            self.experiments[place],
            name=name,
            source_run_id=None if run is None else self.runs[run],
            tags=tags,
            params=params,
            model_type=kind,
        )
        if created:
            self.models.append(created.model_id)

    @rule(place=PLACES, deleted=st.booleans())
    def get_logged_model(self, place: int, deleted: bool) -> None:
        self.stores.both("get_logged_model", self.model(place), allow_deleted=deleted)

    @rule(place=PLACES, params=entries("LoggedModelParameter"))
    def log_params(self, place: int, params: Any) -> None:
        self.stores.both("log_logged_model_params", self.model(place), params or [])

    @rule(place=PLACES, tags=entries("LoggedModelTag"))
    def set_tags(self, place: int, tags: Any) -> None:
        self.stores.both("set_logged_model_tags", self.model(place), tags or [])

    @rule(place=PLACES, key=KEYS)
    def delete_tag(self, place: int, key: str) -> None:
        self.stores.both("delete_logged_model_tag", self.model(place), key)

    @rule(place=PLACES, status=st.sampled_from(["READY", "FAILED", "PENDING", "UNSPECIFIED", None]))
    def finalize(self, place: int, status: str | None) -> None:
        from mlflow.entities import LoggedModelStatus

        time.sleep(0.002)
        self.stores.both("finalize_logged_model", self.model(place), LoggedModelStatus(status) if status else status)

    @rule(place=PLACES)
    def delete(self, place: int) -> None:
        time.sleep(0.002)
        self.stores.both("delete_logged_model", self.model(place))
        self.stores.both("_get_deleted_logged_models", plain=sorted)

    @rule(run=st.integers(0, 1), place=PLACES, key=KEYS, number=NUMBERS, times=st.tuples(st.integers(0, 2), st.integers(-1, 2)), dataset=DATASETS)
    def log_metric(self, run: int, place: int, key: str, number: float, times: tuple[int, int], dataset: tuple[str | None, str | None]) -> None:
        self.stores.both("log_metric", self.runs[run], self.metric(place, key, number, times, dataset))

    @rule(
        run=st.integers(0, 1),
        drawn=st.lists(st.tuples(st.integers(0, 3), KEYS, NUMBERS, DATASETS, st.integers(0, 1)), max_size=5, unique_by=lambda one: one[:2]),
    )
    def log_batch(self, run: int, drawn: list[Any]) -> None:
        """With steps that are new: where SQL refuses a batch, it has logged a part of it."""
        if not self.models:
            return
        self.step += 1
        metrics = [self.metric(place, key, number, (time, 10 * self.step + place), dataset) for place, key, number, dataset, time in drawn]
        self.stores.both("log_batch", self.runs[run], metrics, [], [])
        self.stores.both("log_batch", self.runs[run], metrics, [], [])

    def metric(self, place: int, key: str, number: float, times: tuple[int, int], dataset: tuple[str | None, str | None]) -> Any:
        from mlflow.entities import Metric

        return Metric(key, number, *times, model_id=self.model(place), dataset_name=dataset[0], dataset_digest=dataset[1])

    @rule(run=st.integers(0, 1), place=PLACES, what=st.sampled_from(["delete_run", "restore_run"]))
    def change_a_run(self, run: int, place: int, what: str) -> None:
        self.stores.both(what, self.runs[run])

    @rule(run=st.integers(0, 1), place=PLACES, step=st.integers(0, 2))
    def log_outputs_and_inputs(self, run: int, place: int, step: int) -> None:
        from mlflow.entities import LoggedModelInput, LoggedModelOutput

        self.stores.both("log_outputs", self.runs[run], [LoggedModelOutput(self.model(place), step)])
        self.stores.both("log_inputs", self.runs[run], models=[LoggedModelInput(self.model(place))])

    @rule(wanted=FILTERS, datasets=DATASET_FILTERS, order=st.one_of(st.none(), st.lists(orders(), max_size=3)), most=st.sampled_from([None, 1, 2, 3, 0]))
    def search_logged_models(self, wanted: str | None, datasets: Any, order: Any, most: int | None) -> None:
        self.search(wanted, datasets, order, most)

    @rule(what=st.sampled_from(["delete_experiment", "restore_experiment"]))
    def change_the_experiment(self, what: str) -> None:
        self.stores.both(what, self.experiments[1])


@BOTH
def test_both_stores_answer_alike_about_models(make: Callable[[], Any]) -> None:
    compare(LoggedModels, make, 2, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@BOTH
def test_both_stores_answer_alike_about_models_in_many_sequences(make: Callable[[], Any], request: pytest.FixtureRequest) -> None:
    compare(LoggedModels, make, many(request))
