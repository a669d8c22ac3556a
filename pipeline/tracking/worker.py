"""The process that talks to MLflow, so that its imports, threads, settings and hangs stay out of the run's.

It gets ready while the run goes on, reads one order from its standard input (the records to deliver), answers with one
line of JSON, and is gone. When its input ends without an order, the run has no more use for it, or is dead: it leaves at once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pipeline.tracking.mlflow_store import Delivered, ExperimentStore
    from pipeline.tracking.record import RunRecord

MESSAGE_LENGTH = 300
# Of MLflow's error codes, those that speak of the store or of who asks it. A missing table is an invalid state.
_PASSING_CODES = {
    "CUSTOMER_UNAUTHORIZED",
    "DEADLINE_EXCEEDED",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "TEMPORARILY_UNAVAILABLE",
    "UNAUTHENTICATED",
}
_AWS_MODULES = ("boto3", "botocore", "s3transfer")
_AWS_FINAL = {"EntityTooLarge", "KeyTooLongError", "SerializationException", "ValidationException"}


class Order(TypedDict):
    """What the worker is told to deliver."""

    records: list[RunRecord]


class Refusal(TypedDict):
    """Why something was not delivered, and whether it may work later with nothing changed."""

    retry_is_safe: bool
    error: str
    message: str


class Answer(TypedDict):
    """What was delivered, in the order of the records, and why it ended there if it did."""

    delivered: list[Delivered]
    refusal: Refusal | None


def main() -> None:
    """Get ready, wait for the order, do it, answer. The process ends here, without waiting for threads of libraries.

    The argument is a folder for temporary files, which is ours alone.
    """
    # Not an argument, which everyone on the machine could read: it may hold a password.
    uri = os.environ["MLFLOW_TRACKING_URI"]
    scratch = tempfile.tempdir = sys.argv[1]
    answers = _take_standard_output()
    orders: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(orders, scratch), daemon=True).start()
    try:
        store = _open(uri)
    except Exception:  # noqa: BLE001 - it is tried once more when there is something to deliver, and told then
        store = None
    order: Order = json.loads(orders.get())
    os.write(answers, json.dumps(_deliver(uri, store, order["records"])).encode() + b"\n")
    os._exit(0)


def _take_standard_output() -> int:
    """A descriptor for the answer; what libraries print goes to standard error from here on."""
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _listen(orders: SimpleQueue[bytes], scratch: str) -> None:
    """Wait for the order beside the main thread, so that a hanging one does not outlive the run."""
    order = sys.stdin.buffer.read()
    if not order:
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(0)
    orders.put(order)


def _open(uri: str) -> ExperimentStore:
    from pipeline.tracking.mlflow_store import ExperimentStore

    store = ExperimentStore(uri)
    store.warm_up()
    return store


def _deliver(uri: str, store: ExperimentStore | None, records: list[RunRecord]) -> Answer:
    answer: Answer = {"delivered": [], "refusal": None}
    try:
        store = store or _open(uri)
        for record in records:
            answer["delivered"].append(store.deliver(record))
    except Exception as error:  # noqa: BLE001 - this is the top of a program, and what any library raises is its answer
        answer["refusal"] = _refusal(error)
    return answer


def _refusal(error: BaseException) -> Refusal:
    """The first line of a message only: what follows in a database's is the statement with its values."""
    lines = str(error).strip().splitlines()
    return {
        "retry_is_safe": _is_passing(error),
        "error": type(error).__name__,
        # A bundle names no folder of this machine.
        "message": re.sub(r"(?<!\S)/\S*/(?=\S)", "…/", lines[0] if lines else "")[:MESSAGE_LENGTH],
    }


def _is_passing(error: BaseException) -> bool:
    """Whether the cause is the world (a server that is away or full, a login, a disk, a lock) and not what was asked."""
    cause: BaseException | None = error
    while cause is not None:
        # The errors of `requests` are OSErrors too. AWS's are named by their modules, as nothing of it is imported here.
        if isinstance(cause, OSError) or "is locked" in str(cause) or getattr(cause, "error_code", "") in _PASSING_CODES:
            return True
        if type(cause).__module__.partition(".")[0] in _AWS_MODULES:
            return _aws_code(cause) not in _AWS_FINAL
        cause = cause.__cause__ or cause.__context__
    return False


def _aws_code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
