"""Search over runs: by the index as far as the page goes where its order is wanted, else over the experiments' partitions."""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from mlflow.utils.search_utils import SearchUtils

from pipeline.tracking.dynamodb import filters, orders
from pipeline.tracking.dynamodb.client import Expression, Item, Table, Where
from pipeline.tracking.dynamodb.items import RunRecord
from pipeline.tracking.dynamodb.runs import Runs
from pipeline.tracking.dynamodb.schema import BY_START, START_ORDER, start_order


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A search, parsed. `most` is the page's size; all for none."""

    experiment_ids: Sequence[str]
    clauses: Sequence[filters.Clause]
    view: int
    terms: Sequence[orders.Term]
    most: int | None
    page_token: str | bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a page begins: how many runs came before it, and in the index's order after which one (none: count them)."""

    offset: int
    after: str | None


def find(table: Table, runs: Runs, question: Question) -> tuple[list[RunRecord], bytes | None]:
    """One page of the runs that are asked for, and the token of the next one, if there is one.

    Raises:
        MlflowException: `INVALID_PARAMETER_VALUE`, the token is none.
    """
    offset = SearchUtils.parse_start_offset_from_page_token(question.page_token)
    if orders.is_default(question.terms):
        place = _Place(offset=offset, after=_after(question.page_token))
        matching = _by_index(table, runs, question, place)
        skipped = 0 if place.after else offset
    else:
        matching, skipped = _sorted(table, runs, question), offset
    end = None if question.most is None else skipped + question.most + 1
    found = list(islice(matching, skipped, end))
    if question.most is None or len(found) <= question.most:
        return found, None
    page = found[: question.most]
    return page, _token(offset + question.most, page[-1] if orders.is_default(question.terms) else None)


def _by_index(table: Table, runs: Runs, question: Question, place: _Place) -> Iterator[RunRecord]:
    wanted = filters.rule(question.clauses, question.view)
    where = Where(
        index=BY_START,
        sort=Expression(text="#order > :after", names={"#order": START_ORDER}, values={":after": {"S": place.after}}) if place.after else None,
        keep=filters.pushed(question.clauses, question.view),
        expected=None if question.most is None else question.most + 1 + (0 if place.after else place.offset),
    )
    partitions = [table.query(experiment_id, where) for experiment_id in dict.fromkeys(question.experiment_ids)]
    for item in heapq.merge(*partitions, key=_index_key):
        (record,) = runs.complete([item])
        if wanted(record):
            yield record


def _sorted(table: Table, runs: Runs, question: Question) -> Iterator[RunRecord]:
    wanted = filters.rule(question.clauses, question.view)
    where = Where(keep=filters.pushed(question.clauses, question.view))
    partitions = (table.query(experiment_id, where) for experiment_id in dict.fromkeys(question.experiment_ids))
    found = [record for items in partitions for record in runs.complete(items) if wanted(record)]
    orders.sort(found, question.terms)
    return iter(found)


def _index_key(item: Item) -> str:
    key: str = item[START_ORDER]["S"]
    return key


def _token(offset: int, last: RunRecord | None) -> bytes:
    """MLflow's own token, from which its parser reads the offset; and where the index goes on, so that no page is read twice."""
    if last is None:
        token: bytes = SearchUtils.create_page_token(offset)
        return token
    return base64.b64encode(json.dumps({"offset": offset, "after": start_order(last.start_time, last.run_id)}).encode())


def _after(page_token: str | bytes | None) -> str | None:
    after = json.loads(base64.b64decode(page_token)).get("after") if page_token else None
    return after if isinstance(after, str) else None
