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
        "filter_active_experiment_ids",
        "flush_async_logging",
        "log_batch_async",
        "log_metric_async",
        "log_param_async",
        "search_runs",
        "set_model_versions_tags",
        "set_tag_async",
        "shut_down_async_logging",
    }
)
# The SQL store has these beyond what MLflow asks of every store.
ONLY_SQL = (
    "delete_tag",
    "deprecated_end_trace_v2",
    "deprecated_start_trace_v2",
    "get_max_step_for_metric",
    "get_metric_history_bulk",
    "log_logged_model_params",
    "resolve_endpoint_in_scorer",
    "sanitize_metric_value",
    "search_entities_by_destination",
    "search_entities_by_source",
)
# What pages ask for; each with what an empty one is.
EMPTY_PAGES = (
    "list_budget_policies",
    "list_gateway_guardrails",
    "list_label_schemas",
    "list_review_queues",
    "query_trace_metrics",
    "search_datasets",
    "search_entities_by_destination",
    "search_entities_by_source",
    "search_issues",
    "search_mcp_access_endpoints",
    "search_mcp_server_versions",
    "search_mcp_servers",
)
EMPTY_LISTS = (
    "batch_get_trace_infos",
    "batch_get_traces",
    "find_completed_sessions",
    "get_active_online_scorers",
    "get_mcp_server_versions_for_trace",
    "get_online_scoring_configs",
    "list_endpoint_bindings",
    "list_endpoint_guardrail_configs",
    "list_gateway_endpoints",
    "list_gateway_model_definitions",
    "list_scorers",
    "list_scorers_across_experiments",
    "list_secret_infos",
)
NO_TRACES = "search_traces"
# What the server calls though its name is private.
_PRIVATE = ("_load_dataset_records",)


def refuse_the_rest(store: Store) -> Store:
    """Give a store's class an answer for every method of MLflow's that it doesn't have itself."""
    for name in (*asked(), *_PRIVATE):
        if name not in INHERITED and getattr(store, name, None) is getattr(AbstractStore, name, None):
            setattr(store, name, _answer(name))
    return store


def asked() -> list[str]:
    """The public methods that MLflow asks of a store, and those that its SQL store has beyond."""
    return sorted({*(name for name, _ in inspect.getmembers(AbstractStore, inspect.isfunction) if not name.startswith("_")), *ONLY_SQL})


def _answer(name: str) -> Callable[..., object]:
    if name == NO_TRACES:
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
