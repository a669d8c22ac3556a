"""Sequences of calls, drawn by hypothesis, that two stores are to answer alike."""

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

BOTH = pytest.mark.parametrize("new_table", ["DynamoDB Local", "moto"], indirect=True)
MANY = 200
STEPS = 40


def compare(machine: type[RuleBasedStateMachine], make: Callable[[], Any], sequences: int, *, steps: int = STEPS) -> None:
    """Run so many sequences. `GOLDTRACE_DIFF_SEED` brings those of an earlier time back, and makes one that fails shorter, which takes minutes."""
    given = os.environ.get("GOLDTRACE_DIFF_SEED")
    drawn, phases = int(given or random.randrange(10**9)), [Phase.generate, *([Phase.shrink] if given else [])]
    print(f"{sequences} sequences of {machine.__name__} with GOLDTRACE_DIFF_SEED={drawn}")
    made = seed(drawn)(type(machine.__name__, (machine,), {"make": staticmethod(make)}))
    checks = settings(max_examples=sequences, stateful_step_count=steps, phases=phases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(made, settings=checks)  # type: ignore[no-untyped-call]


def many(request: pytest.FixtureRequest) -> int:
    """How many sequences one of the two machines runs of those that are asked for (`GOLDTRACE_DIFF_SEQUENCES`); on moto, which is slow, a tenth."""
    asked = int(os.environ.get("GOLDTRACE_DIFF_SEQUENCES") or MANY)
    return asked // 20 if "moto" in request.node.name else asked // 2
