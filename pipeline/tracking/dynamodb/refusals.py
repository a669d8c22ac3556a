"""What this store does not do: it says so, and the lists that MLflow's own pages ask for are empty."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import NOT_IMPLEMENTED
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore

Store = TypeVar("Store", bound=type)

# Written by MLflow upon the methods that a store has.
INHERITED = frozenset(
    {
        "end_async_logging",
        "flush_async_logging",
        "log_batch_async",
        "log_metric_async",
        "log_param_async",
        "search_runs",
        "set_tag_async",
        "shut_down_async_logging",
        "supports_trace_archival",
        "supports_workspaces",
    }
)
# Asked for whenever an experiment is looked at; each with what an empty one is.
EMPTY_PAGES = ("search_logged_models", "search_datasets", "search_issues", "list_label_schemas", "list_review_queues", "query_trace_metrics")
EMPTY_LISTS = (
    "list_scorers",
    "list_scorers_across_experiments",
    "get_online_scoring_configs",
    "get_active_online_scorers",
    "find_completed_sessions",
    "list_gateway_endpoints",
    "list_gateway_model_definitions",
    "list_endpoint_bindings",
    "list_secret_infos",
)


def refuse_the_rest(store: Store) -> Store:
    """Give a store's class an answer for every method of MLflow's that it doesn't have itself."""
    for name, _ in inspect.getmembers(AbstractStore, inspect.isfunction):
        if name.startswith("_") or name in INHERITED or name in vars(store) or _has_by_parent(store, name):
            continue
        setattr(store, name, _answer(name))
    return store


def _has_by_parent(store: type, name: str) -> bool:
    return getattr(store, name) is not getattr(AbstractStore, name)


def _answer(name: str) -> Callable[..., object]:
    if name == "search_traces":
        return _no_traces
    if name in EMPTY_PAGES:
        return _no_page
    return _no_list if name in EMPTY_LISTS else _refusal(name)


def _no_traces(self: object, *args: object, **kwargs: object) -> tuple[Sequence[object], None]:  # noqa: ARG001 - MLflow's signature
    return [], None


def _no_page(self: object, *args: object, **kwargs: object) -> Sequence[object]:  # noqa: ARG001 - MLflow's signature
    page: Sequence[object] = PagedList([], None)
    return page


def _no_list(self: object, *args: object, **kwargs: object) -> Sequence[object]:  # noqa: ARG001 - MLflow's signature
    return []


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(self: object, *args: object, **kwargs: object) -> NoReturn:  # noqa: ARG001 - MLflow's signature
        raise MlflowException(f"The DynamoDB store has no {name}; docs/mlflow.md has the table of what works", NOT_IMPLEMENTED)

    refuse.__name__ = name
    return refuse
