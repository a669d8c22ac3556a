"""Looking after the table: made as `schema.definition` says, and looked at. Nothing here is needed by the store itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes

from pipeline.tracking.dynamodb.address import Address
from pipeline.tracking.dynamodb.client import ConflictError, Expression, Table, Where
from pipeline.tracking.dynamodb.errors import POLICY
from pipeline.tracking.dynamodb.schema import BY_START, PARTITION, SORT, START_ORDER, definition, open_table

# No item has this key. The condition of the writes that are tried on it never holds, all the same.
_PROBE = ("goldtrace-check", "nothing")
_WAIT_SECONDS = 120.0
_POLL_SECONDS = 0.5


class Word(StrEnum):
    """What was seen of one point. `UNKNOWN`: it can't be told, here or by whoever asks."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One point that was looked at; `hint` is what mends it."""

    about: str
    word: Word
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What may be chosen for a new table."""

    protected: bool = True
    tags: Mapping[str, str]


_UNTRIED = Finding(about="permissions", word=Word.UNKNOWN, detail="not tried on a table of another form")


def create(address: Address, wanted: Wanted) -> bool:
    """Make the table, wait until it is there, and turn point-in-time recovery on; whether it was made, and was not there before.

    Of a table that is there only recovery is turned on, where it is off: a first attempt may have been cut short.

    Raises:
        MlflowException: DynamoDB can't be asked, or said no.
    """
    table = open_table(address)
    made = _describe(table) is None
    if made:
        tags = [{"Key": key, "Value": value} for key, value in wanted.tags.items()]
        _make(table, {**definition(), "DeletionProtectionEnabled": wanted.protected, **({"Tags": tags} if tags else {})})
    _wait(table)
    if _recovery(table).word is Word.BAD:
        table.ask("update_continuous_backups", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True})
    return made


def ensure(address: Address, wanted: Wanted) -> bool:
    """As `create`, for a program that cannot go on with a table of another form.

    Raises:
        MlflowException: as `create`; `INVALID_STATE`, something about the table is off.
    """
    made = create(address, wanted)
    if off := [f"{each.about}: {each.detail}" for each in look(address) if each.word is Word.BAD]:
        raise MlflowException(f"The table {address} is not as this store needs it: {'; '.join(off)}", codes.INVALID_STATE)
    return made


def _make(table: Table, request: Mapping[str, Any]) -> None:
    try:
        table.ask("create_table", **request)
    except MlflowException as error:
        # Somebody else made it meanwhile, or our own request did whose answer got lost.
        if "ResourceInUseException" not in error.message:
            raise


def _wait(table: Table) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while (found := _describe(table)) is None or found["TableStatus"] == "CREATING":
        if time.monotonic() > until:
            raise MlflowException(f"The table {table.address} is not ready after {_WAIT_SECONDS:.0f} s", codes.TEMPORARILY_UNAVAILABLE)
        time.sleep(_POLL_SECONDS)


def look(address: Address, *, permissions: bool = True) -> list[Finding]:
    """What can be told of the table, and of what one may do with it unless `permissions` is false: who makes a table need not use it.

    Raises:
        MlflowException: DynamoDB can't be asked, or refuses the credentials.
    """
    table = open_table(address)
    try:
        found = _describe(table)
    except MlflowException as error:
        if error.error_code != codes.ErrorCode.Name(codes.PERMISSION_DENIED):
            raise
        return [_denied("the table", "dynamodb:DescribeTable"), *(_permissions(table) if permissions else [])]
    if found is None:
        return [Finding(about="the table", word=Word.BAD, detail=f"there is no {address}", hint="pipeline mlflow table create")]
    shape = [_status(found), _keys(found), _index(found)]
    seen = [*shape, _billing(found), _recovery(table), _protection(found)]
    if not permissions:
        return seen
    return [*seen, *(_permissions(table) if all(each.word is Word.GOOD for each in shape) else [_UNTRIED])]


def _describe(table: Table) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = table.ask("describe_table")["Table"]
    except MlflowException as error:
        if error.error_code != codes.ErrorCode.Name(codes.INVALID_STATE):
            raise
        return None
    return found


def _denied(about: str, action: str) -> Finding:
    return Finding(about=about, word=Word.UNKNOWN, detail=f"{action} is denied, which the store does not need")


def _status(found: Mapping[str, Any]) -> Finding:
    word = Word.GOOD if found["TableStatus"] in ("ACTIVE", "UPDATING") else Word.BAD
    return Finding(about="the table", word=word, detail=found["TableStatus"], hint="" if word is Word.GOOD else "wait until it is ACTIVE")


def _keys(found: Mapping[str, Any]) -> Finding:
    wanted = definition()
    types = {each["AttributeName"]: each["AttributeType"] for each in found["AttributeDefinitions"]}
    if found["KeySchema"] == wanted["KeySchema"] and types.get(PARTITION) == types.get(SORT) == "S":
        return Finding(about="keys", word=Word.GOOD, detail=f"{PARTITION}, {SORT}")
    seen = ", ".join(f"{key['AttributeName']} ({types.get(key['AttributeName'], '?')})" for key in found["KeySchema"])
    detail = f"{seen}; wanted are {PARTITION} (S) and {SORT} (S)"
    return Finding(about="keys", word=Word.BAD, detail=detail, hint="a table's keys can't be changed: take another name, and make it anew")


def _index(found: Mapping[str, Any]) -> Finding:
    (wanted,) = definition()["LocalSecondaryIndexes"]
    seen = {index["IndexName"]: index for index in found.get("LocalSecondaryIndexes") or []}
    index = seen.get(BY_START)
    if index and all(index[name] == wanted[name] for name in ("KeySchema", "Projection")):
        return Finding(about="index", word=Word.GOOD, detail=f"{BY_START} on {START_ORDER}, with whole items")
    detail = f"{', '.join(seen) or 'none'}; wanted is the local index {BY_START} on {START_ORDER}, with whole items (ALL)"
    return Finding(about="index", word=Word.BAD, detail=detail, hint="a local index is made with its table only: take another name, and make it anew")


def _billing(found: Mapping[str, Any]) -> Finding:
    mode = found.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    if mode == "PAY_PER_REQUEST":
        return Finding(about="billing", word=Word.GOOD, detail="on demand")
    hint = f"aws dynamodb update-table --table-name {found['TableName']} --billing-mode PAY_PER_REQUEST"
    return Finding(about="billing", word=Word.BAD, detail="provisioned: it throttles beyond what is paid for", hint=hint)


def _protection(found: Mapping[str, Any]) -> Finding:
    is_on = bool(found.get("DeletionProtectionEnabled"))
    hint = "" if is_on else f"aws dynamodb update-table --table-name {found['TableName']} --deletion-protection-enabled"
    return Finding(about="deletion protection", word=Word.GOOD if is_on else Word.NOTE, detail="on" if is_on else "off", hint=hint)


def _recovery(table: Table) -> Finding:
    about = "point-in-time recovery"
    try:
        found = table.ask("describe_continuous_backups")["ContinuousBackupsDescription"]
    except MlflowException as error:
        if error.error_code == codes.ErrorCode.Name(codes.PERMISSION_DENIED):
            return _denied(about, "dynamodb:DescribeContinuousBackups")
        if "UnknownOperationException" in error.message:
            return Finding(about=about, word=Word.UNKNOWN, detail="this DynamoDB has none (DynamoDB Local doesn't)")
        raise
    is_on = found.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") == "ENABLED"
    return Finding(about=about, word=Word.GOOD if is_on else Word.BAD, detail="on" if is_on else "off", hint="" if is_on else "pipeline mlflow table create")


def _permissions(table: Table) -> list[Finding]:
    """Whether each action that the store needs is allowed, by trying it where it reads and changes nothing."""
    tried = [_try(action, attempt) for action, attempt in _attempts(table).items()]
    denied = [finding for finding in tried if finding is not None]
    return denied or [Finding(about="permissions", word=Word.GOOD, detail=f"all {len(tried)} actions of the store are allowed")]


def _attempts(table: Table) -> dict[str, Callable[[], object]]:
    never = Expression(text=f"attribute_exists({PARTITION}) AND attribute_not_exists({PARTITION})")
    nothing = {":nothing": {"S": ""}}
    key = table.key(_PROBE)
    return {
        "dynamodb:GetItem": lambda: table.get(_PROBE),
        "dynamodb:BatchGetItem": lambda: table.get_many([_PROBE]),
        "dynamodb:Query": lambda: list(table.query(_PROBE[0], Where(expected=1))),
        f"dynamodb:Query on index/{BY_START}": lambda: list(table.query(_PROBE[0], Where(expected=1, index=BY_START))),
        "dynamodb:PutItem": lambda: table.put(key, never),
        "dynamodb:UpdateItem": lambda: table.update(_PROBE, Expression(text="SET nothing = :nothing", values=nothing), never),
        "dynamodb:DeleteItem": lambda: table.ask("delete_item", Key=key, ConditionExpression=never.text),
    }


def _try(action: str, attempt: Callable[[], object]) -> Finding | None:
    try:
        attempt()
    except ConflictError:
        return None
    except MlflowException as error:
        if error.error_code != codes.ErrorCode.Name(codes.PERMISSION_DENIED):
            raise
        return Finding(about="permissions", word=Word.BAD, detail=f"{action} is denied", hint=POLICY)
    return None
