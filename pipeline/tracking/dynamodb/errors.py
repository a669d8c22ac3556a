"""DynamoDB's errors as MLflow's: each names the table, the place and what mends it, and none a credential; and which are worth another try."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes

from pipeline.tracking.dynamodb.address import Address

POLICY = "the policy that this store needs is in docs/mlflow.md"
_CONFLICTS = {"ConditionalCheckFailed", "ConditionalCheckFailedException", "TransactionConflict", "TransactionConflictException"}
_BUSY = {
    "InternalServerError",
    "LimitExceededException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingError",
    "ThrottlingException",
    "TransactionInProgressException",
}
# What AWS says with these may have the request in it that was signed, with the token: it is not repeated.
_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "RequestExpired",
    "UnrecognizedClientException",
}
_MISSING_TABLE = "ResourceNotFoundException"
# botocore's classes by name: one module imports it.
_UNREACHABLE = ("ConnectionError", "HTTPClientError")
_BUSY_TRIES, _CONNECTION_TRIES = 10, 4


class ConflictError(Exception):
    """Somebody else wrote first, or the condition does not hold. `failed` are the places of the actions whose condition failed."""

    def __init__(self, failed: Sequence[int] = (0,)) -> None:
        super().__init__(f"conditions {list(failed)} do not hold")
        self.failed = tuple(failed)


def tries(error: Exception) -> int:
    """How often a request is sent at most that ends in this error: once, unless it may go better the next time."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return _BUSY_TRIES if _is_busy(response) else 1
    return _CONNECTION_TRIES if _is_one_of(error, *_UNREACHABLE) and not _is_one_of(error, "SSLError", "ProxyConnectionError") else 1


def answered(error: Any, operation: str, address: Address) -> NoReturn:
    """Raise what DynamoDB's answer (a `ClientError`) means.

    Raises:
        ConflictError: a condition does not hold, or a transaction was at the same items.
        MlflowException: anything else.
    """
    response: Mapping[str, Any] = error.response
    code, message = response["Error"].get("Code", ""), response["Error"].get("Message", "")
    reasons = _reasons(response)
    if code in _CONFLICTS or (reasons and set(reasons) <= _CONFLICTS | {"None"}):
        raise ConflictError([place for place, reason in enumerate(reasons) if reason == "ConditionalCheckFailed"] if reasons else (0,)) from error
    if code == _MISSING_TABLE:
        raise MlflowException(f"There is no DynamoDB table {address}. hint: pipeline mlflow table create", codes.INVALID_STATE) from error
    if code.startswith("AccessDenied"):
        raise MlflowException(f"DynamoDB denies {_action(message, operation)} on {address}. hint: {POLICY}", codes.PERMISSION_DENIED) from error
    if code in _CREDENTIALS:
        raise MlflowException(f"DynamoDB refuses the credentials for {address}: {code}. hint: sign in to AWS anew", codes.UNAUTHENTICATED) from error
    if _is_busy(response):
        why = ", ".join(dict.fromkeys(reason for reason in reasons if reason in _BUSY)) or message
        raise MlflowException(f"DynamoDB is too busy for {address}: {code}: {why}", codes.TEMPORARILY_UNAVAILABLE) from error
    refused = f"DynamoDB refused {operation} on {address}: {code}: {message} {reasons or ''}".rstrip()
    # Such as an index that isn't there.
    hint = ". hint: pipeline mlflow table check" if code == "ValidationException" else ""
    raise MlflowException(f"{refused}{hint}", codes.INTERNAL_ERROR) from error


def unanswered(error: Exception, operation: str, address: Address) -> NoReturn:
    """Raise what it means that DynamoDB was not asked or did not answer (a `BotoCoreError`).

    Raises:
        MlflowException: always.
    """
    kind = type(error).__name__
    if kind in ("NoRegionError", "InvalidRegionError"):
        raise MlflowException(
            f"No region is named for {address}. hint: dynamodb://{address.table}?region=…, or AWS_DEFAULT_REGION", codes.INVALID_STATE
        ) from error
    if _is_one_of(error, *_UNREACHABLE):
        raise MlflowException(f"DynamoDB can't be reached for {operation} on {address}: {kind}", codes.TEMPORARILY_UNAVAILABLE) from error
    if re.search("Credential|Token|SSO|Login|Profile", kind):
        hint = "sign in to AWS, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise MlflowException(f"There are no AWS credentials for {address}: {kind}. hint: {hint}", codes.UNAUTHENTICATED) from error
    raise MlflowException(f"DynamoDB can't be asked for {operation} on {address}: {kind}: {error}", codes.INTERNAL_ERROR) from error


def _is_one_of(error: Exception, *kinds: str) -> bool:
    return any(parent.__name__ in kinds for parent in type(error).__mro__)


def _is_busy(response: Mapping[str, Any]) -> bool:
    status: int = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return response["Error"].get("Code", "") in _BUSY or bool(set(_reasons(response)) & _BUSY) or status >= 500 or status == 429


def _reasons(response: Mapping[str, Any]) -> list[str]:
    """Why each action of a transaction was not done."""
    return [reason.get("Code", "None") for reason in response.get("CancellationReasons", [])]


def _action(message: str, operation: str) -> str:
    """What was denied, and why. Who asked is left out: a role's session is often called by a person's name."""
    action = re.search(r"perform: (dynamodb:\w+)", message)
    why = re.search(r"because (no [\w-]+ policy allows|.* explicit deny)", message)
    return f"{action[1] if action else f'dynamodb:{operation}'}{f' ({why[1]} it)' if why else ''}"
