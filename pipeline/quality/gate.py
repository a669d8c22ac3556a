"""The gate: one verdict over all checks of a run."""

from collections import Counter
from collections.abc import Iterable

from pipeline.records import Check, Gate, Outcome, Severity


def decide(checks: Iterable[Check]) -> Gate:
    """RED when a check of severity `error` failed; YELLOW when a `warn` failed or rows were set aside; else GREEN."""
    gate = Gate.GREEN
    for check in checks:
        if check.outcome is Outcome.FAILED and check.severity is Severity.ERROR:
            return Gate.RED
        if check.outcome is not Outcome.PASSED:
            gate = Gate.YELLOW
    return gate


def gate_words(checks: Iterable[Check]) -> str:
    """The gate and its reasons in one line: `YELLOW: 2 of 40 checks did not hold: input/weight (weight_kg between …)`."""
    every = list(checks)
    gate = decide(every)
    broken = [check for check in every if check.outcome is not Outcome.PASSED]
    if not broken:
        return f"{gate}: {_checks(len(every))} {'holds' if len(every) == 1 else 'hold'}" if every else f"{gate}: no checks"
    if gate is Gate.RED:
        broken = [check for check in broken if check.outcome is Outcome.FAILED and check.severity is Severity.ERROR]
    shown = "; ".join(f"{check.dataset}: {check.expected}{_rows(check)}" for check in broken[:3])
    more = f"; and {len(broken) - 3} more" if len(broken) > 3 else ""
    kind = "errors" if gate is Gate.RED else "warnings"
    return f"{gate}: {_checks(len(every))}, {len(broken)} {kind if len(broken) > 1 else kind[:-1]}: {shown}{more}"


def counts(checks: Iterable[Check]) -> dict[Outcome, int]:
    """How many checks came to each outcome."""
    found = Counter(check.outcome for check in checks)
    return {outcome: found[outcome] for outcome in Outcome}


def _checks(number: int) -> str:
    return f"{number} check" if number == 1 else f"{number} checks"


def _rows(check: Check) -> str:
    number = check.observed.get("unexpected_count")
    if not isinstance(number, int) or isinstance(number, bool):
        return ""
    done = "set aside" if check.outcome is Outcome.QUARANTINED else "not so"
    return f" ({number} {'row' if number == 1 else 'rows'} {done})"
