"""The same sequences of calls on MLflow's SQL store and on ours give the same answers, errors and orders."""

import math
import time
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.tracking_dynamodb.differential import BOTH, compare, many

# MLflow's SQL store uses what SQLAlchemy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

# A few names, so that calls meet.
KEYS = st.sampled_from(["a", "a", "a", "a", "b", "b", "lr/x", "with space", "é", "mlflow.runName"])
BAD_KEYS = st.sampled_from(["", None, "../up", "no;good", "x" * 251])
TEXTS = st.sampled_from(["", "a", "A", "aB%", "ab\nc", "0.5", "ß", "É", "null", "'", "_"])
NUMBERS = st.sampled_from([0.0, 1.0, 1.0, -1.0, 1e-300, 5e-324, 1e300, math.inf, -math.inf, math.nan, math.nan, math.nan, 1 / 3, 2**53 + 1.0])
STEPS = st.integers(-2, 3)
TIMES = st.integers(0, 3)
EXPERIMENTS = st.sampled_from(["one", "two", "One", "ü", "Default", ""])
VIEWS = st.sampled_from([1, 2, 3])
NUMERIC = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
TEXTUAL = st.sampled_from(["=", "!=", "LIKE", "ILIKE", "like", "ilike"])
PATTERNS = st.sampled_from(["a", "A%", "%b%", "_", "%", "a_\\%", "É", "é", "RUNNING", "FINISHED", "one", "nan"])
ORDERS = st.sampled_from(
    [
        *("metrics.a", "metrics.b DESC", "params.a", "params.`lr/x` DESC", "tags.a ASC", "tags.b DESC", "attributes.start_time"),
        *("attributes.start_time DESC", "start_time DESC", "end_time", "end_time DESC", "status", "run_name DESC", "attributes.run_id DESC"),
        *("created DESC", "nonsense", "metrics.a"),
    ]
)
BAD_FILTERS = st.sampled_from(
    ["metrics.a = 'x'", "params.a = 1", "bad.a = 1", "metrics.a > 1 OR metrics.b > 1", "attributes.start_time > 'x'", "status IN ('a')"]
)
EXPERIMENT_FILTERS = st.sampled_from(
    [
        *(None, "name LIKE 'o%'", "name ILIKE 'O%'", "tags.a = 'a'", "tags.`b` != 'a'", "tags.a IS NULL", "tags.a IS NOT NULL", "name != 'one'"),
        *("experiment_id IN ('0', '1')", "experiment_id = 'x'", "creation_time > 1", "creation_time > 1.5", "name > 'a'", "tags.a > 'a'", "nonsense"),
    ]
)


def quoted(key: str) -> str:
    return f"`{key}`"


@st.composite
def clauses(draw: st.DrawFn) -> str:
    key = quoted(draw(KEYS))
    kind = draw(st.sampled_from(["metric", "text", "null", "attribute", "time", "dataset", "run_id"]))
    texts = draw(st.sampled_from(["params", "tags"]))
    if kind == "metric":
        return f"metrics.{key} {draw(NUMERIC)} {draw(st.sampled_from(['0', '1', '-1', '0.1', '1e300', '0.3333333333333333']))}"
    if kind == "text":
        return f"{texts}.{key} {draw(TEXTUAL)} '{draw(PATTERNS)}'"
    if kind == "null":
        return f"{texts}.{key} IS {draw(st.sampled_from(['NULL', 'NOT NULL']))}"
    if kind == "attribute":
        return f"attributes.{draw(st.sampled_from(['status', 'run_name', 'user_id', 'artifact_uri']))} {draw(TEXTUAL)} '{draw(PATTERNS)}'"
    if kind == "time":
        return f"{draw(st.sampled_from(['start_time', 'end_time']))} {draw(NUMERIC)} {draw(TIMES)}"
    if kind == "run_id":
        return f"run_id {draw(st.sampled_from(['IN', 'NOT IN']))} ('{'0' * 32}', 'x')"
    return f"dataset.{draw(st.sampled_from(['name', 'digest', 'context']))} {draw(TEXTUAL)} '{draw(PATTERNS)}'"


FILTERS = st.one_of(st.none(), st.lists(clauses(), min_size=1, max_size=3).map(" AND ".join), BAD_FILTERS)
PLACES = st.integers(0, 5)


@st.composite
def metrics(draw: st.DrawFn, *, most: int = 8) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(draw(KEYS), draw(NUMBERS), draw(TIMES), draw(STEPS)) for _ in range(draw(st.integers(0, most)))]


@st.composite
def tags(draw: st.DrawFn, kind: str = "RunTag") -> list[Any]:
    import mlflow.entities

    return [getattr(mlflow.entities, kind)(draw(KEYS), draw(TEXTS)) for _ in range(draw(st.integers(0, 3)))]


@st.composite
def dataset_inputs(draw: st.DrawFn) -> list[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    def dataset() -> Any:
        name, digest = draw(st.sampled_from(["one", "two"])), draw(st.sampled_from(["a", "b"]))
        return Dataset(name, digest, "local", draw(st.sampled_from(["here", "there"])), schema=draw(st.sampled_from([None, "s"])), profile=None)

    contexts = st.sampled_from([[], [InputTag("mlflow.data.context", "a")], [InputTag("mlflow.data.context", "Ab"), InputTag("k", "v")]])
    return [DatasetInput(dataset(), draw(contexts)) for _ in range(draw(st.integers(0, 3)))]


class RunsAndExperiments(RuleBasedStateMachine):
    """Any of the calls in any order. Runs and experiments are told by their place in the order in which they were made."""

    make: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.stores = type(self).make()
        self.experiments, self.runs = ["0"], []

    def teardown(self) -> None:
        try:
            self.compare_all()
        finally:
            self.stores.sql._dispose_engine()

    def compare_all(self) -> None:
        """What the calls have left, whatever of it was looked at meanwhile."""
        for run_id in self.runs:
            self.stores.both("get_run", run_id)
            self.stores.both("get_metric_history", run_id, "a")
        for order in ("metrics.a DESC", "params.a", "tags.b DESC", "end_time", "run_name DESC"):
            self.stores.pages("search_runs", 50, experiment_ids=self.experiments, filter_string=None, run_view_type=3, order_by=[order])
        for wanted in ("metrics.a != 1", "metrics.a >= 0", "tags.a ILIKE 'A%'", "params.a != 'a'", "dataset.context LIKE 'a%'"):
            self.stores.pages("search_runs", 50, experiment_ids=self.experiments, filter_string=wanted, run_view_type=3, order_by=None)

    def experiment(self, place: int) -> str:
        return self.experiments[place % len(self.experiments)] if place < 5 else "77"

    def run_id(self, place: int) -> str:
        return self.runs[place % len(self.runs)] if place < 5 and self.runs else "f" * 32

    @initialize(name=EXPERIMENTS)
    def begin(self, name: str) -> None:
        self.create_experiment(name, [], None)
        self.create_run(0, 1, "a", [])

    @rule(name=EXPERIMENTS, tags=tags(kind="ExperimentTag"), location=st.sampled_from([None, "s3://bucket/x"]))
    def create_experiment(self, name: str, tags: list[Any], location: str | None) -> None:
        time.sleep(0.002)  # the default order is by time of creation
        created = self.stores.both("create_experiment", name, location, tags)
        if created:
            self.experiments.append(created)

    @rule(place=PLACES, name=EXPERIMENTS)
    def rename_experiment(self, place: int, name: str) -> None:
        self.stores.both("rename_experiment", self.experiment(place), name)

    @rule(place=PLACES, what=st.sampled_from(["delete_experiment", "restore_experiment", "get_experiment"]))
    def with_experiment(self, place: int, what: str) -> None:
        self.stores.both(what, self.experiment(place))

    @rule(place=PLACES, key=st.one_of(KEYS, BAD_KEYS), text=TEXTS)
    def set_experiment_tag(self, place: int, key: str, text: str) -> None:
        from mlflow.entities import ExperimentTag

        self.stores.both("set_experiment_tag", self.experiment(place), ExperimentTag(key, text))

    @rule(place=PLACES, key=KEYS)
    def delete_experiment_tag(self, place: int, key: str) -> None:
        self.stores.both("delete_experiment_tag", self.experiment(place), key)

    @rule(name=EXPERIMENTS)
    def get_experiment_by_name(self, name: str) -> None:
        self.stores.both("get_experiment_by_name", name)

    @rule(
        view=VIEWS,
        most=st.integers(1, 3),
        wanted=EXPERIMENT_FILTERS,
        order=st.sampled_from([None, ["name"], ["name DESC"], ["experiment_id"], ["experiment_id DESC", "name"], ["tags.a"], ["creation_time ASC"]]),
    )
    def search_experiments(self, view: int, most: int, wanted: str | None, order: list[str] | None) -> None:
        self.stores.pages("search_experiments", most, view_type=view, filter_string=wanted, order_by=order)

    @rule(place=PLACES, start=TIMES, name=st.sampled_from(["a", "B", "ab"]), tags=tags(), user=st.sampled_from(["user", "", None]))
    def create_run(self, place: int, start: int, name: str, tags: list[Any], user: str | None = "user") -> None:
        created = self.stores.both("create_run", self.experiment(place), user, start, tags, name)
        if created:
            self.runs.append(created.info.run_id)

    @rule(place=PLACES)
    def create_run_without_a_start(self, place: int) -> None:
        self.stores.both("create_run", self.experiment(place), "user", None, [], "a run")

    @rule(place=PLACES, status=st.sampled_from([None, 1, 3, 4, 99]), end=st.one_of(st.none(), TIMES), name=st.sampled_from([None, "", "new"]))
    def update_run_info(self, place: int, status: int | None, end: int | None, name: str | None) -> None:
        self.stores.both("update_run_info", self.run_id(place), status, end, name)

    @rule(place=PLACES, what=st.sampled_from(["delete_run", "restore_run", "get_run", "get_run"]))
    def with_run(self, place: int, what: str) -> None:
        self.stores.both(what, self.run_id(place))

    @rule(place=PLACES, key=st.one_of(KEYS, BAD_KEYS), text=TEXTS)
    def set_tag(self, place: int, key: str, text: str) -> None:
        from mlflow.entities import RunTag

        self.stores.both("set_tag", self.run_id(place), RunTag(key, text))

    @rule(place=PLACES, key=KEYS)
    def delete_tag(self, place: int, key: str) -> None:
        self.stores.both("delete_tag", self.run_id(place), key)

    @rule(place=PLACES, key=st.one_of(KEYS, BAD_KEYS), text=TEXTS)
    def log_param(self, place: int, key: str, text: str) -> None:
        from mlflow.entities import Param

        self.stores.both("log_param", self.run_id(place), Param(key, text))

    @rule(place=PLACES, key=st.one_of(KEYS, BAD_KEYS), value=st.one_of(NUMBERS, st.none()), at=TIMES, step=STEPS)
    def log_metric(self, place: int, key: str, value: float | None, at: int, step: int) -> None:
        from mlflow.entities import Metric

        self.stores.both("log_metric", self.run_id(place), Metric(key, value, at, step))

    @rule(place=PLACES, metrics=metrics(), params=tags(kind="Param"), tags=tags())
    def log_batch(self, place: int, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        self.stores.both("log_batch", self.run_id(place), metrics, params, tags)

    @rule(place=PLACES, read=dataset_inputs(), models=st.lists(st.sampled_from(["m-1", "m-2"]), max_size=2))
    def log_inputs(self, place: int, read: list[Any], models: list[str]) -> None:
        from mlflow.entities import LoggedModelInput

        self.stores.both("log_inputs", self.run_id(place), read, [LoggedModelInput(model) for model in models])

    @rule(place=PLACES, step=STEPS)
    def log_outputs(self, place: int, step: int) -> None:
        from mlflow.entities import LoggedModelOutput

        self.stores.both("log_outputs", self.run_id(place), [LoggedModelOutput("m-1", step)])

    @rule(place=PLACES, key=KEYS, most=st.one_of(st.none(), st.integers(0, 3)))
    def get_metric_history(self, place: int, key: str, most: int | None) -> None:
        self.stores.both("get_metric_history", self.run_id(place), key, max_results=most)
        self.stores.both("get_max_step_for_metric", self.run_id(place), key)

    @rule(key=KEYS, most=st.integers(1, 5), steps=st.lists(STEPS, max_size=3), limits=st.sampled_from([(None, None), (-1, 2), (0, None)]))
    def sample_metric_histories(self, key: str, most: int, steps: list[int], limits: tuple[int | None, int | None]) -> None:
        self.stores.both("get_metric_history_bulk", self.runs, key, most)
        self.stores.both("get_metric_history_bulk_interval", self.runs, key, most, *limits)
        self.stores.both("get_metric_history_bulk_interval_from_steps", self.run_id(0), key, steps, most)

    @precondition(lambda self: self.runs)
    @rule(view=VIEWS, most=st.integers(0, 4), wanted=FILTERS, order=st.lists(ORDERS, max_size=3), places=st.lists(PLACES, min_size=1, max_size=3))
    def search_runs(self, view: int, most: int, wanted: str | None, order: list[str], places: list[int]) -> None:
        experiments = [self.experiment(place) for place in places]
        wanted = wanted.replace("0" * 32, self.runs[0]) if wanted else wanted
        self.stores.pages("search_runs", most, experiment_ids=experiments, filter_string=wanted, run_view_type=view, order_by=order)

    @rule()
    def other_lists(self) -> None:
        self.stores.both("_get_deleted_runs", plain=sorted)
        self.stores.both("_search_datasets", self.experiments, plain=lambda found: sorted(str(entry.to_dict()) for entry in found))


@BOTH
def test_both_stores_answer_alike(make: Callable[[], Any]) -> None:
    compare(RunsAndExperiments, make, 2, steps=25)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@BOTH
def test_both_stores_answer_alike_in_many_sequences(make: Callable[[], Any], request: pytest.FixtureRequest) -> None:
    compare(RunsAndExperiments, make, many(request))
