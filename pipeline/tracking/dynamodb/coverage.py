"""What works: every method that MLflow asks of a tracking store, by what it is about. docs/mlflow.md shows it, and a test holds that."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from pipeline.tracking.dynamodb import refusals
from pipeline.tracking.dynamodb.store import DynamoDbStore

BEGIN, END = "<!-- what works: begin -->", "<!-- what works: end -->"
# A method is about the first of these of whose words its name has one; without any, it is about runs.
_AREAS = (
    ("MCP servers", ("mcp",)),
    ("Gateway", ("gateway", "guardrail", "budget", "secret", "endpoint", "attach_model", "detach_model")),
    ("Review queues, label schemas", ("review_queue", "label_schema", "user_queue")),
    ("Scorers", ("scor", "sessions")),
    ("Issues", ("issue",)),
    ("Assessments", ("assessment",)),
    ("Traces", ("trace", "span")),
    ("Evaluation data sets", ("dataset", "entities_by")),
    ("Logged models", ("logged_model", "log_outputs", "model_versions")),
    ("Metrics", ("metric",)),
    ("Experiments", ("experiment",)),
)
_RUNS = "Runs, params, tags, inputs"
_ORDER = ("Experiments", _RUNS, "Metrics", "Logged models")


class State(StrEnum):
    """How a method answers."""

    WORKS = "works"
    EMPTY = "empty"
    NOT_IMPLEMENTED = "not implemented"


class Row(NamedTuple):
    """The methods about one thing that answer alike."""

    area: str
    methods: tuple[str, ...]
    state: State


def rows() -> list[Row]:
    """All methods, each in one row: first what works."""
    found: dict[tuple[str, State], list[str]] = {}
    for name in refusals.asked():
        found.setdefault((_area(name), state(name)), []).append(name)
    listed = [Row(area, tuple(methods), answer) for (area, answer), methods in found.items()]
    return sorted(listed, key=lambda row: (_ORDER.index(row.area) if row.area in _ORDER else len(_ORDER), row.area, list(State).index(row.state)))


def state(name: str) -> State:
    """How the store answers to a method."""
    if getattr(DynamoDbStore, name).__module__ != refusals.__name__:
        return State.WORKS
    return State.EMPTY if name in (*refusals.EMPTY_LISTS, *refusals.EMPTY_PAGES, refusals.NO_TRACES) else State.NOT_IMPLEMENTED


def _area(name: str) -> str:
    return next((area for area, words in _AREAS if any(word in name for word in words)), _RUNS)


def table() -> str:
    """The rows as Markdown."""
    head = "| about | | methods |\n|---|---|---|\n"
    return head + "".join(f"| {row.area} | {row.state} | {', '.join(f'`{name}`' for name in row.methods)} |\n" for row in rows())


def shown(document: str) -> str:
    """A document with the table between its marks.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the document has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"
