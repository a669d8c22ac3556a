"""The sentences, as a file. `GOLDTRACE_ACCEPT=1 pytest <this file>` accepts what changed and prints it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.records import Check, Failure, Gate, Outcome, Run, Severity, State
from pipeline.report import words
from pipeline.report.facts import Facts, read_facts
from tests.report.report_support import estimates, same_as_golden, write_bundle

MakeRun = Callable[..., Run]


def facts_of(run: Run) -> Facts:
    return read_facts(write_bundle(run))


def told(run: Run) -> str:
    facts = facts_of(run)
    story = words.story(facts)
    lines = [story.sentence, *(f"  - {words.finding_words(check)}" for check in words.findings(facts))]
    estimate = facts.headline_estimate
    lines += [f"  hint: {story.hint}"] if story.hint else []
    lines += [f"  = {words.estimate_words(estimate)}. {words.interval_words(estimate)}"] if estimate else []
    return "\n".join(lines)


ENDS: dict[str, tuple[State, Gate | None]] = {
    "green": (State.COMPLETED, Gate.GREEN),
    "yellow": (State.COMPLETED, Gate.YELLOW),
    "red": (State.COMPLETED, Gate.RED),
    "failed": (State.FAILED, None),
    "aborted": (State.ABORTED, None),
    "lost": (State.LOST, None),
}


def test_each_end_of_a_run_is_told_as_in_the_golden_file(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [(name, make_run(state, gate, number)) for number, (name, (state, gate)) in enumerate(ENDS.items(), 1)]
    same_as_golden("words.txt", "\n\n".join(f"{name}: {told(run)}" for name, run in runs) + "\n", capsys)


def test_a_run_whose_process_is_alive_is_told_as_running(make_run: MakeRun) -> None:
    from pipeline.telemetry import bundle

    run = make_run(State.RUNNING, None)
    write_bundle(run)
    with bundle.alive(run.bundle):
        sentence = words.story(read_facts(run.bundle)).sentence
    assert sentence == "Running since 3 Nov 2026, 06:00:00 UTC: when this was written, step models was at work and 6 of 9 steps had ended."


def test_a_run_that_says_running_without_a_process_is_lost(make_run: MakeRun) -> None:
    facts = facts_of(make_run(State.RUNNING, None))
    assert words.story(facts).verdict == "Lost in step models"
    assert facts.steps[6].state is State.LOST


def test_a_second_run_on_the_same_input_says_that_nothing_changed(make_run: MakeRun) -> None:
    run = make_run(gate=Gate.GREEN)
    run.published = {name: replace(version, changed=False) for name, version in run.published.items()}
    assert words.story(facts_of(run)).sentence.endswith("9 datasets published, all unchanged.")


def test_a_busy_lake_means_that_the_run_did_not_start(make_run: MakeRun) -> None:
    run = make_run(State.FAILED, None)
    run.steps, run.failure = [], Failure(type="lake_busy", message="lake is held by run 01a1", hint="wait with --wait")
    story = words.story(facts_of(run))
    assert story.sentence == "Not started: lake is held by run 01a1; nothing was published, the lake is as it was."
    assert story.hint == "wait with --wait"


def test_a_partial_run_names_its_last_step(make_run: MakeRun) -> None:
    run = make_run(gate=Gate.GREEN)
    run.until = "features"
    assert words.story(facts_of(run)).verdict == "Completed up to step features in 4.2 s"


@pytest.mark.parametrize(
    ("observed", "sentence"),
    [
        ({"rows": 10, "considered_count": 10, "unexpected_count": 1, "unexpected_share": 0.1}, "1 of 10 rows breaks it (10 %)"),
        ({"rows": 10, "considered_count": 8, "unexpected_count": 2, "unexpected_share": 0.25}, "2 of the 8 rows it applies to break it (25 %)"),
        ({"rows": 10, "unexpected_count": 0}, "none of 10 rows breaks it"),
        ({"rows": 0, "considered_count": 0, "unexpected_count": 0}, "no row to look at"),
        ({"rows": 10, "value": 38.27161}, "observed 38.27 over 10 rows"),
        ({"rows": 10, "value": "2026-01-01"}, "observed 2026-01-01 over 10 rows"),
        ({"rows": 10, "unexpected": True}, "not as expected over 10 rows"),
        ({"rows": 10, "not_evaluated": "there is no column week"}, "could not be evaluated: there is no column week"),
        ({"missing_count": 1, "unexpected_count": 2, "missing": "week", "unexpected": "wk, x"}, "missing: week; unexpected: wk, x"),
        ({"missing_count": 0, "unexpected_count": 0}, "none missing, none unexpected"),
        ({"rows": 10, "unexpected_count": 1, "unexpected_share": 0.1, "quarantined_count": 3}, "1 of 10 rows (10 %), 3 set aside in all"),
        ({"rows": 10, "unexpected_count": 1, "unexpected_share": 0.1, "quarantined_count": 1}, "1 of 10 rows (10 %)"),
        ({"rows": 10}, "10 rows"),
        ({}, "nothing observed"),
    ],
)
def test_what_a_check_observed_is_said_in_its_own_terms(observed: dict[str, float | str], sentence: str) -> None:
    check = Check(
        dataset="silver/x", expectation="e", column=None, severity=Severity.WARN, outcome=Outcome.FAILED, expected="the rule holds", observed=observed
    )
    assert words.observed_words(check) == sentence


def test_broken_rows_are_named_by_file_and_number_with_what_is_left_out() -> None:
    places = [("a.csv", 7), ("a.csv", 12), ("a.csv", 13), ("a.csv", 14), ("b.csv", 2101), ("b.csv", 2102)]
    assert words.records_words(places, 30) == "a.csv records 7, 12–14, b.csv record 2101 and 25 more"
    assert words.records_words(places[:1], 1) == "a.csv record 7"
    assert words.records_words([], 3) == ""


def test_a_sentence_begins_with_a_capital_unless_it_begins_with_a_name() -> None:
    assert words.upfirst("nothing was published") == "Nothing was published"
    assert [words.upfirst(text) for text in ("input/fiber: no file", "weight_kg is odd", "")] == ["input/fiber: no file", "weight_kg is odd", ""]


@pytest.mark.parametrize("prefix", ["", "RED: "])
def test_the_gates_own_count_is_not_told_twice(prefix: str, make_run: MakeRun) -> None:
    run = make_run(gate=Gate.RED)
    run.failure = Failure(type="gate", message=f"{prefix}52 checks, 1 error: silver/x: no two rows share week (14 rows not so)")
    assert words.problem(facts_of(run)) == "silver/x: no two rows share week (14 rows not so)"


def test_an_interval_is_read_without_claiming_more() -> None:
    fit = next(estimate for estimate in estimates() if estimate.term == "calories_week")
    assert words.interval_words(fit) == "The interval lies below zero."
    assert words.interval_words(replace(fit, converged=False)) == "The fit did not converge: don't use this number."
    assert words.interval_words(replace(fit, ci_high=0.0)) == "The interval includes zero: these data don't tell its sign."
    assert words.interval_words(replace(fit, ci_low=None)) == "It has no interval."
