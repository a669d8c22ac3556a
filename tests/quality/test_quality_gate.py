"""The gate: RED beats YELLOW beats GREEN, and its words say why."""

import itertools

import pytest

from pipeline.quality.gate import counts, decide, gate_words
from pipeline.records import Check, Gate, Outcome, Severity


def made(outcome: Outcome, severity: Severity = Severity.ERROR, count: int = 3) -> Check:
    return Check(
        dataset="input/weight", expectation="e", column="x", severity=severity, outcome=outcome, expected="20 ≤ x", observed={"unexpected_count": count}
    )


@pytest.mark.parametrize(
    ("checks", "gate"),
    [
        ([], Gate.GREEN),
        ([made(Outcome.PASSED)], Gate.GREEN),
        ([made(Outcome.FAILED, Severity.WARN)], Gate.YELLOW),
        ([made(Outcome.QUARANTINED)], Gate.YELLOW),
        ([made(Outcome.QUARANTINED, Severity.WARN)], Gate.YELLOW),
        ([made(Outcome.FAILED)], Gate.RED),
        ([made(Outcome.PASSED), made(Outcome.QUARANTINED), made(Outcome.FAILED, Severity.WARN), made(Outcome.FAILED)], Gate.RED),
    ],
)
def test_the_worst_check_decides_in_any_order(checks: list[Check], gate: Gate) -> None:
    assert {decide(order) for order in itertools.permutations(checks)} == {gate}


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ([], "GREEN: no checks"),
        ([made(Outcome.PASSED)], "GREEN: 1 check holds"),
        ([made(Outcome.PASSED)] * 2, "GREEN: 2 checks hold"),
        ([made(Outcome.QUARANTINED, count=1)], "YELLOW: 1 check, 1 warning: input/weight: 20 ≤ x (1 row set aside)"),
        ([made(Outcome.FAILED), made(Outcome.QUARANTINED)], "RED: 2 checks, 1 error: input/weight: 20 ≤ x (3 rows not so)"),
        ([made(Outcome.FAILED)] * 5, "RED: 5 checks, 5 errors: " + "; ".join(["input/weight: 20 ≤ x (3 rows not so)"] * 3) + "; and 2 more"),
    ],
)
def test_the_gate_says_why(checks: list[Check], words: str) -> None:
    assert gate_words(checks) == words


def test_checks_are_counted_by_outcome() -> None:
    assert counts([made(Outcome.PASSED), made(Outcome.FAILED)]) == {Outcome.PASSED: 1, Outcome.FAILED: 1, Outcome.QUARANTINED: 0}
