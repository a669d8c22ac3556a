"""The one module that asks boto3: reads and writes of one table.

All reads are consistent. There is no Scan. What may go better the next time is tried again here, with jitter and for a bounded
time, and not by botocore: it would neither try a transaction again that was throttled, nor end before a minute in a black hole.
"""

from __future__ import annotations

import random
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol, TypeVar

from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes

from pipeline.aws import session
from pipeline.tracking.dynamodb.address import Address
from pipeline.tracking.dynamodb.errors import ConflictError as ConflictError
from pipeline.tracking.dynamodb.errors import answered, tries, unanswered

# What DynamoDB calls an item: attribute name → {type: value}, as botocore takes it.
Item = dict[str, Any]
Key = tuple[str, str]
# One action of a transaction, as botocore takes it.
Write = dict[str, Any]

KEYS_A_READ = 100
_ATTEMPTS = 6
_CHANGES = 40
_CONNECT_SECONDS = 2
_READ_SECONDS = 8
# No request is sent once more after this; so that, with the last one's own time, nothing takes longer than 22 s.
_PATIENCE_SECONDS = 12.0
_CONNECTIONS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A condition or filter with the names and values that stand in it as `#…` and `:…`."""

    text: str
    names: dict[str, str] = field(default_factory=dict)
    values: Item = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which items of one partition a query asks for: a condition on the sort key, a filter, an index, how many it expects to need."""

    sort: Expression | None = None
    keep: Expression | None = None
    index: str | None = None
    expected: int | None = None
    attributes: tuple[str, ...] = ()


def is_version(version: int) -> Expression:
    """The condition that an item is still the one that was read."""
    return Expression(text="#version = :version", names={"#version": "version"}, values={":version": {"N": str(version)}})


class Table:
    """One table. `partition` and `sort` are the names of its key attributes, both texts."""

    def __init__(self, address: Address, *, partition: str, sort: str) -> None:
        self.address = address
        self.client = _client(address)
        self._partition = partition
        self._sort = sort

    def key(self, key: Key) -> Item:
        """The key as attributes."""
        return {self._partition: {"S": key[0]}, self._sort: {"S": key[1]}}

    def get(self, key: Key) -> Item | None:
        """The item under that key, if there is one."""
        found: Item | None = self._call("get_item", Key=self.key(key), ConsistentRead=True).get("Item")
        return found

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Item]:
        """The items that there are under these keys."""
        wanted = list(dict.fromkeys(keys))
        found: dict[Key, Item] = {}
        for start in range(0, len(wanted), KEYS_A_READ):
            for item in self._get_batch(wanted[start : start + KEYS_A_READ]):
                found[(item[self._partition]["S"], item[self._sort]["S"])] = item
        return found

    def _get_batch(self, keys: Sequence[Key]) -> Iterator[Item]:
        rest = {self.address.table: {"Keys": [self.key(key) for key in keys], "ConsistentRead": True}}
        for attempt in range(_ATTEMPTS):
            answer = self._request("batch_get_item", RequestItems=rest)
            yield from answer["Responses"].get(self.address.table, [])
            rest = answer.get("UnprocessedKeys") or {}
            if not rest:
                return
            wait(attempt)
        raise MlflowException(f"DynamoDB left {len(rest)} reads undone {_ATTEMPTS} times", codes.TEMPORARILY_UNAVAILABLE)

    def query(self, partition: str, where: Where | None = None) -> Iterator[Item]:
        """The items of a partition in the order of their sort key. Nothing more is read than what is taken, to a page's grain."""
        request = self._query_request(partition, where or Where())
        while True:
            answer = self._call("query", **request)
            yield from answer["Items"]
            if not (last := answer.get("LastEvaluatedKey")):
                return
            # The first page was as long as what was hoped for; a filter lets few through, so that the next ones are whole.
            request = {**request, "ExclusiveStartKey": last}
            request.pop("Limit", None)

    def _query_request(self, partition: str, where: Where) -> dict[str, Any]:
        names, values = {"#partition": self._partition}, {":partition": {"S": partition}}
        request: dict[str, Any] = {"KeyConditionExpression": "#partition = :partition", "ConsistentRead": True}
        if where.sort:
            request["KeyConditionExpression"] += f" AND {where.sort.text}"
        if where.keep:
            request["FilterExpression"] = where.keep.text
        for expression in filter(None, (where.sort, where.keep)):
            names.update(expression.names)
            values.update(expression.values)
        if where.attributes:
            shown = {f"#shown{place}": name for place, name in enumerate(where.attributes)}
            names.update(shown)
            request["ProjectionExpression"] = ", ".join(shown)
        if where.index:
            request["IndexName"] = where.index
        if where.expected:
            request["Limit"] = where.expected
        return {**request, "ExpressionAttributeNames": names, "ExpressionAttributeValues": values}

    def put(self, item: Item, condition: Expression | None = None) -> None:
        """Write an item, if the condition holds.

        Raises:
            ConflictError: it does not.
        """
        self._call("put_item", Item=item, **_condition(condition))

    def absent(self) -> Expression:
        """The condition that there is no such item yet."""
        return Expression(text="attribute_not_exists(#sort)", names={"#sort": self._sort})

    def create(self, items: Sequence[Item], what: str) -> None:
        """Put items that aren't there yet, all of them together. The first has its `writer`, whom nobody else has.

        Raises:
            MlflowException: `TEMPORARILY_UNAVAILABLE`, there were others at them all the time.
        """
        attempts, first = Attempts(what), items[0]
        while True:
            try:
                self.write_together([self.to_put(item, self.absent()) for item in items])
            except ConflictError:
                # A request whose answer got lost was sent again, and met its own write.
                found = self.get((first[self._partition]["S"], first[self._sort]["S"]))
                if found and found["writer"] == first["writer"]:
                    return
                attempts.again()
            else:
                return

    def update(self, key: Key, change: Expression, condition: Expression | None = None) -> Item:
        """Change an item in place, if the condition holds; it is returned as it is then.

        Raises:
            ConflictError: it does not hold.
        """
        changed: Item = self._call("update_item", Key=self.key(key), ReturnValues="ALL_NEW", **_change(change, condition))["Attributes"]
        return changed

    def delete(self, key: Key) -> None:
        """Delete an item; it may be gone already."""
        self._call("delete_item", Key=self.key(key))

    def to_put(self, item: Item, condition: Expression | None = None) -> Write:
        """A write for `write_together`."""
        return {"Put": {"TableName": self.address.table, "Item": item, **_condition(condition)}}

    def to_delete(self, key: Key, condition: Expression | None = None) -> Write:
        """A deletion for `write_together`."""
        return {"Delete": {"TableName": self.address.table, "Key": self.key(key), **_condition(condition)}}

    def to_update(self, key: Key, change: Expression, condition: Expression) -> Write:
        """A change in place for `write_together`."""
        return {"Update": {"TableName": self.address.table, "Key": self.key(key), **_change(change, condition)}}

    def write_together(self, writes: Sequence[Write]) -> None:
        """All of these (at most 100), or none.

        Raises:
            ConflictError: a condition does not hold, or another transaction was at the same items.
        """
        # By the token DynamoDB knows a transaction again whose answer got lost.
        self._request("transact_write_items", TransactItems=list(writes), ClientRequestToken=str(uuid.uuid4()))

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """Any operation on the table, for those who look after it.

        Raises:
            ConflictError: a condition does not hold.
            MlflowException: as for all operations.
        """
        return self._call(operation, **request)

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        return self._request(operation, TableName=self.address.table, **request)

    def _request(self, operation: str, **request: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        call: Callable[..., dict[str, Any]] = getattr(self.client, operation)
        name = self.client.meta.method_to_api_mapping[operation]
        until = time.monotonic() + _PATIENCE_SECONDS
        for attempt in count():
            try:
                return call(**request)
            except (ClientError, BotoCoreError) as error:
                if attempt + 1 < tries(error) and time.monotonic() < until:
                    wait(attempt)
                elif isinstance(error, ClientError):
                    answered(error, name, self.address)
                else:
                    unanswered(error, name, self.address)
        raise AssertionError("a request ends in an answer or an error")


def wait(attempt: int) -> None:
    """Sleep before the next attempt: up to 50 ms, doubling up to 2 s, all of it jitter, so that writers don't meet again."""
    time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))  # noqa: S311 - no secret


class Attempts:
    """Counts how often something was worked out anew, because others wrote in between."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._made = 0

    def again(self) -> None:
        """Wait before the next attempt.

        Raises:
            MlflowException: `TEMPORARILY_UNAVAILABLE`, there were enough of them.
        """
        self._made += 1
        if self._made >= _CHANGES:
            raise MlflowException(f"{self._what} was changed by others {_CHANGES} times in a row", codes.TEMPORARILY_UNAVAILABLE)
        wait(self._made - 1)


class Written(Protocol):
    """A record that says whose write it was."""

    writer: str


_Record = TypeVar("_Record", bound=Written)


def rewrite(what: str, read: Callable[[], _Record], write: Callable[[_Record], None]) -> _Record:
    """Read a record and write it otherwise, both anew whenever another write came in between; returned as written.

    Raises:
        MlflowException: whatever the two raise; `TEMPORARILY_UNAVAILABLE`, others wrote in between every time.
    """
    mine, attempts = secrets.token_hex(8), Attempts(what)
    while True:
        record = read()
        # A request whose answer got lost was sent again, and met its own write.
        if record.writer == mine:
            return record
        record.writer = mine
        try:
            write(record)
        except ConflictError:
            attempts.again()
        else:
            return record


def _change(change: Expression, condition: Expression | None) -> dict[str, Any]:
    request = _condition(condition)
    request["ExpressionAttributeNames"] = {**request.get("ExpressionAttributeNames", {}), **change.names}
    request["ExpressionAttributeValues"] = {**request.get("ExpressionAttributeValues", {}), **change.values}
    return {"UpdateExpression": change.text, **{name: value for name, value in request.items() if value}}


def _condition(condition: Expression | None) -> dict[str, Any]:
    if condition is None:
        return {}
    request: dict[str, Any] = {"ConditionExpression": condition.text}
    if condition.names:
        request["ExpressionAttributeNames"] = condition.names
    if condition.values:
        request["ExpressionAttributeValues"] = condition.values
    return request


def _client(address: Address) -> Any:
    try:
        import boto3  # noqa: F401 - who has only a part of it is told the same
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as error:
        raise MlflowException("boto3 is not installed. hint: pip install 'goldtrace[aws]'", codes.INVALID_STATE) from error
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=_CONNECTIONS,
        # The requests are ours and of one shape; checking a thousand numbers against the service's model costs more than sending them.
        parameter_validation=False,
    )
    try:
        return session().client("dynamodb", region_name=address.region, endpoint_url=address.endpoint, config=config)
    except BotoCoreError as error:
        unanswered(error, "anything", address)
    except ValueError as error:  # an endpoint that is no URL
        raise MlflowException.invalid_parameter_value(f"There is no DynamoDB {address}: its endpoint is no address. hint: http://127.0.0.1:8000") from error
