"""The one module that knows boto3: reads and writes of one table, its errors turned into MLflow's.

All reads are consistent. There is no Scan. Throttling is retried by botocore (its `standard` mode: exponential, with jitter).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes

from pipeline.tracking.dynamodb.address import Address

# What DynamoDB calls an item: attribute name → {type: value}, as botocore takes it.
Item = dict[str, Any]
Key = tuple[str, str]

KEYS_A_READ = 100
_ATTEMPTS = 6
_CONNECT_SECONDS = 2
_READ_SECONDS = 20
_CONNECTIONS = 50
_CONFLICTS = {"ConditionalCheckFailed", "ConditionalCheckFailedException", "TransactionConflict", "TransactionConflictException"}
_BUSY = {"ProvisionedThroughputExceeded", "ProvisionedThroughputExceededException", "ThrottlingError", "ThrottlingException", "RequestLimitExceeded"}
_DENIED = {"AccessDeniedException", "UnrecognizedClientException"}
_EXPIRED = {"ExpiredTokenException", "ExpiredToken", "InvalidSignatureException", "MissingAuthenticationTokenException"}


class ConflictError(Exception):
    """Somebody else wrote first, or the condition does not hold. `failed` are the places of the actions whose condition failed."""

    def __init__(self, failed: Sequence[int] = (0,)) -> None:
        super().__init__(f"conditions {list(failed)} do not hold")
        self.failed = tuple(failed)


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

    def update(self, key: Key, change: Expression, condition: Expression | None = None) -> Item:
        """Change an item in place, if the condition holds; it is returned as it is then.

        Raises:
            ConflictError: it does not hold.
        """
        request = _condition(condition)
        request["ExpressionAttributeNames"] = {**request.get("ExpressionAttributeNames", {}), **change.names}
        request["ExpressionAttributeValues"] = {**request.get("ExpressionAttributeValues", {}), **change.values}
        request = {name: value for name, value in request.items() if value}
        changed: Item = self._call("update_item", Key=self.key(key), UpdateExpression=change.text, ReturnValues="ALL_NEW", **request)["Attributes"]
        return changed

    def delete(self, key: Key) -> None:
        """Delete an item; it may be gone already."""
        self._call("delete_item", Key=self.key(key))

    def to_put(self, item: Item, condition: Expression | None = None) -> dict[str, Any]:
        """A write for `write_together`."""
        return {"Put": {"TableName": self.address.table, "Item": item, **_condition(condition)}}

    def to_delete(self, key: Key, condition: Expression | None = None) -> dict[str, Any]:
        """A deletion for `write_together`."""
        return {"Delete": {"TableName": self.address.table, "Key": self.key(key), **_condition(condition)}}

    def write_together(self, writes: Sequence[dict[str, Any]]) -> None:
        """All of these (at most 100), or none.

        Raises:
            ConflictError: a condition does not hold, or another transaction was at the same items.
        """
        self._request("transact_write_items", TransactItems=list(writes))

    def _call(self, operation: str, **request: Any) -> dict[str, Any]:
        return self._request(operation, TableName=self.address.table, **request)

    def _request(self, operation: str, **request: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        call: Callable[..., dict[str, Any]] = getattr(self.client, operation)
        try:
            return call(**request)
        except ClientError as error:
            _translate(error.response, self.address, error)
        except BotoCoreError as error:
            raise MlflowException(f"DynamoDB can't be reached: {type(error).__name__}: {error}", codes.TEMPORARILY_UNAVAILABLE) from error


def wait(attempt: int) -> None:
    """Sleep before the next attempt: up to 50 ms, doubling up to 2 s, all of it jitter, so that writers don't meet again."""
    time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))  # noqa: S311 - no secret


def _condition(condition: Expression | None) -> dict[str, Any]:
    if condition is None:
        return {}
    request: dict[str, Any] = {"ConditionExpression": condition.text}
    if condition.names:
        request["ExpressionAttributeNames"] = condition.names
    if condition.values:
        request["ExpressionAttributeValues"] = condition.values
    return request


def _translate(response: dict[str, Any], address: Address, error: Exception) -> NoReturn:
    code, message = response["Error"].get("Code", ""), response["Error"].get("Message", "")
    reasons = [reason.get("Code", "None") for reason in response.get("CancellationReasons", [])]
    if code in _CONFLICTS or (reasons and set(reasons) <= _CONFLICTS | {"None"}):
        raise ConflictError([place for place, reason in enumerate(reasons) if reason == "ConditionalCheckFailed"] if reasons else (0,)) from error
    if code == "ResourceNotFoundException":
        raise MlflowException(f"There is no DynamoDB table '{address.table}' in that place: {message}", codes.INVALID_STATE) from error
    if code in _DENIED:
        raise MlflowException(f"DynamoDB denies access to '{address.table}': {message}", codes.PERMISSION_DENIED) from error
    if code in _EXPIRED:
        raise MlflowException(f"DynamoDB refuses the credentials: {message}", codes.UNAUTHENTICATED) from error
    if code in _BUSY or set(reasons) & _BUSY or response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
        raise MlflowException(f"DynamoDB is too busy: {code}: {message}", codes.TEMPORARILY_UNAVAILABLE) from error
    raise MlflowException(f"DynamoDB refused: {code}: {message} {reasons or ''}", codes.INTERNAL_ERROR) from error


def _client(address: Address) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise MlflowException("boto3 is not installed. hint: pip install 'goldtrace[aws]'", codes.INVALID_STATE) from error
    config = Config(
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=_CONNECTIONS,
        # The requests are ours and of one shape; checking a thousand numbers against the service's model costs more than sending them.
        parameter_validation=False,
    )
    # A session of our own: boto3's default one is shared, and not safe to use from a server's threads.
    return boto3.session.Session().client("dynamodb", region_name=address.region, endpoint_url=address.endpoint, config=config)
