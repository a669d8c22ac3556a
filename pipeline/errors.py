"""Every error that a user can meet, in one tree.

    GoldtraceError
    ├── UsageError            a command, a declaration or a setting is wrong (exit 2)
    │   ├── SettingsError     a PIPELINE_* value, or an unknown one
    │   ├── DeclarationError  a pipeline's graph or a contract is wrong
    │   └── RunNotFoundError  no run has that id or prefix
    ├── InputError            the data that came in can't be read as the contract says (exit 1)
    ├── StepError             a step's own code or SQL raised (exit 1)
    ├── GateError             a check of severity `error` failed: nothing was published (exit 3)
    ├── LakeBusyError         another run holds the lake's lock (exit 4)
    ├── LakeError             the lake or the runs folder can't be read or written (exit 1)
    ├── BackendError          a server that is asked is away or refuses (never fails a run)
    └── StackError            the observability stack can't be started, stopped or looked at (exit 1)

A message is the problem with the value in it; `hint` is what mends it; `slug` leads to `docs/errors.md#slug`.
"""

from typing import ClassVar


class GoldtraceError(Exception):
    """The base of all errors that carry a hint.

    Attributes:
        slug: the section of `docs/errors.md`, and the run's `error.type`.
        exit_code: what the command returns.
        retry_is_safe: whether the same command may work later with nothing changed.
        hint: what mends it, without a final period.
        facts: what the message says, as values (no data of a person, no secret).
    """

    slug: ClassVar[str] = "bug"
    exit_code: ClassVar[int] = 1
    retry_is_safe: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts


class UsageError(GoldtraceError):
    """A command, a declaration or a setting is wrong."""

    slug = "usage"
    exit_code = 2


class SettingsError(UsageError):
    """A setting has a value it can't have, or is unknown."""

    slug = "settings"


class DeclarationError(UsageError):
    """A pipeline's graph or a contract contradicts itself."""

    slug = "declaration"


class RunNotFoundError(UsageError):
    """No run, or more than one, answers to what was given."""

    slug = "run_not_found"


class InputError(GoldtraceError):
    """An input file is missing or can't be read as its contract says."""

    slug = "input"


class StepError(GoldtraceError):
    """A step's own function or SQL raised."""

    slug = "step"


class GateError(GoldtraceError):
    """A check of severity `error` failed, so the run published nothing."""

    slug = "gate"
    exit_code = 3


class LakeBusyError(GoldtraceError):
    """Another run holds the lake's lock."""

    slug = "lake_busy"
    exit_code = 4
    retry_is_safe = True


class LakeError(GoldtraceError):
    """The lake or the runs folder can't be read or written."""

    slug = "lake"
    retry_is_safe = True


class BackendError(GoldtraceError):
    """A server that was asked is away or refuses."""

    slug = "backend"
    retry_is_safe = True


class StackError(GoldtraceError):
    """The observability stack can't be started, stopped or looked at: no engine, a port that is taken, a service that does not come up."""

    slug = "stack"
    retry_is_safe = True
