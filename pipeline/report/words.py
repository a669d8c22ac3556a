"""What happened, in the words that the report, `pipeline run`, `pipeline runs` and `pipeline show` share.

Every sentence is made from the bundle's facts and claims no more than they hold: a lost run's last sign of life is not
its end, and an interval that includes zero has no sign.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.records import Check, Estimate, Gate, Outcome, Severity, State
from pipeline.report.facts import OUTCOME_RANK, Facts
from pipeline.report.numbers import count, counted, decimals, duration, moment, number, p_phrase, share, significant

# At most this many record numbers in a sentence; the table of checks shows all that the bundle has.
FEW_RECORDS: Final = 5
NOTHING_PUBLISHED: Final = "nothing was published, the lake is as it was"

SIGNALS: Final = {
    "SIGINT": "someone pressed Ctrl-C",
    "SIGTERM": "the system or a scheduler asked it to stop",
    "SIGHUP": "its terminal was closed",
}
STATES: Final = {
    State.RUNNING: "The run had not ended when this was written.",
    State.COMPLETED: "All steps ran, and what they made was published.",
    State.FAILED: "The run stopped with an error and published nothing.",
    State.ABORTED: "A signal stopped the run.",
    State.LOST: "The process went away without ending the run.",
}
GATES: Final = {
    Gate.GREEN: "All checks hold.",
    Gate.YELLOW: "A check warns, or rows were set aside.",
    Gate.RED: "A check of severity error failed, so nothing was published.",
}
Observed = Mapping[str, int | float | str | bool | None]
# What `_rows_seen` says.
_SAID: Final = frozenset({"rows", "considered_count", "unexpected_count", "unexpected_share", "quarantined_count"})
OUTCOMES: Final = {Outcome.FAILED: "failed", Outcome.QUARANTINED: "set aside", Outcome.PASSED: "holds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happened: a verdict, the clauses that go with it, and for a run that did not complete what to do."""

    verdict: str
    clauses: tuple[str, ...]
    hint: str = ""

    @property
    def rest(self) -> str:
        """The clauses as a sentence of their own."""
        text = "; ".join(clause.rstrip(".") for clause in self.clauses)
        return f"{upfirst(text)}." if text else ""

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        text = "; ".join(clause.rstrip(".") for clause in self.clauses)
        return f"{self.verdict}: {text}." if text else f"{self.verdict}."


def upfirst(text: str) -> str:
    """`text` with a capital at its beginning, unless it begins with a name such as `input/fiber` or `weight_kg`."""
    is_name = re.match(r"\w*[/_.]\w", text) is not None
    return text if is_name else text[:1].upper() + text[1:]


def story(facts: Facts) -> Story:
    """What happened in this run."""
    if facts.state is State.COMPLETED:
        return _completed(facts)
    if facts.state is State.RUNNING:
        return _running(facts)
    if facts.state is State.LOST:
        return _lost(facts)
    if facts.state is State.ABORTED:
        return _aborted(facts)
    return _stopped_by_gate(facts) if facts.gate is Gate.RED else _failed(facts)


def _completed(facts: Facts) -> Story:
    how = "Completed with warnings" if facts.gate is Gate.YELLOW else "Completed"
    until = f" up to step {facts.until}" if facts.until else ""
    return Story(verdict=f"{how}{until}{_in(facts)}", clauses=(*_rows(facts), checks_words(facts), _published(facts)))


def _stopped_by_gate(facts: Facts) -> Story:
    errors = facts.check_counts.get("errors", 0)
    what = f"{count(errors)} of {counted(facts.check_total, 'check')} failed with severity error, so nothing was published"
    return Story(verdict=f"Stopped by the gate{_after(facts)}", clauses=(what, *_rows(facts)), hint=_hint(facts))


def _failed(facts: Facts) -> Story:
    failure = facts.failure
    kind = failure.type if failure else ""
    if kind == "lake_busy":
        return Story(verdict="Not started", clauses=(problem(facts), _untouched(facts)), hint=_hint(facts))
    where = f" in step {failure.step}" if failure and failure.step else " on its input" if kind == "input" else ""
    return Story(verdict=f"Failed{where}{_after(facts)}", clauses=(problem(facts), _untouched(facts)), hint=_hint(facts))


def _aborted(facts: Facts) -> Story:
    why = problem(facts)
    signal = next((meaning for name, meaning in SIGNALS.items() if name in why), "")
    told = f"{why} ({signal})" if signal else why
    return Story(verdict=f"Aborted{_where(facts)}{_after(facts)}", clauses=(told, _untouched(facts)), hint=_hint(facts))


def _lost(facts: Facts) -> Story:
    pid, host = facts.process.get("pid", "?"), facts.process.get("host", "?")
    heard = f"its last sign of life came {duration(facts.known_seconds)} after its start"
    clauses = (f"process {pid} on {host} went away without ending the run", heard, _untouched(facts))
    after = " after publishing" if facts.published else _where(facts)
    return Story(verdict=f"Lost{after}", clauses=clauses, hint=_hint(facts))


def _running(facts: Facts) -> Story:
    done = sum(step.state is State.COMPLETED for step in facts.steps)
    now = next((step.name for step in facts.steps if step.state is State.RUNNING), None)
    at = f"step {now} was at work and " if now else ""
    ended = f"when this was written, {at}{count(done)} of {counted(len(facts.steps), 'step')} had ended"
    return Story(verdict=f"Running since {moment(facts.started_at)}", clauses=(ended,))


def _in(facts: Facts) -> str:
    return f" in {duration(facts.seconds)}" if facts.seconds is not None else ""


def _after(facts: Facts) -> str:
    return f" after {duration(facts.seconds)}" if facts.seconds is not None else ""


def _where(facts: Facts) -> str:
    step = facts.last_step
    return f" in step {step.name}" if step and step.state is not State.COMPLETED else ""


def _hint(facts: Facts) -> str:
    return facts.failure.hint if facts.failure else ""


def _rows(facts: Facts) -> tuple[str, ...]:
    if not facts.inputs:
        return ()
    aside = count(facts.rows_quarantined) if facts.rows_quarantined else "none"
    return (f"{counted(facts.rows_read, 'row')} read, {aside} set aside",)


def _published(facts: Facts) -> str:
    total = len(facts.published)
    if not total:
        return "nothing was published"
    if facts.unchanged == total:
        return f"{counted(total, 'dataset')} published, all unchanged" if total > 1 else "1 dataset published, unchanged"
    return f"{counted(total, 'dataset')} published" + (f", {count(facts.unchanged)} unchanged" if facts.unchanged else "")


def _untouched(facts: Facts) -> str:
    # A process can die between publishing and saying so; the lake's current.json knows.
    if facts.state is State.LOST and not facts.published:
        return "no publishing is on record"
    return _published(facts) if facts.published else NOTHING_PUBLISHED


def problem(facts: Facts) -> str:
    """Why a run did not complete, without what the verdict says: the step's name, or the gate's count of checks."""
    if facts.failure is None:
        return "the process that ran it is gone, after it had published" if facts.state is State.LOST and facts.published else "the reason is not on record"
    message = facts.failure.message.strip() or facts.failure.type
    if facts.gate is Gate.RED:
        return re.sub(r"^(?:RED: )?\d+ checks?, \d+ errors?: ", "", message)
    return message.removeprefix(f"step {facts.failure.step}: ") if facts.failure.step else message


def checks_words(facts: Facts) -> str:
    """`all 61 checks hold`, or how many hold, warn, failed and set rows aside."""
    total, counts = facts.check_total, facts.check_counts
    passed, aside, errors = (counts.get(key, 0) for key in ("passed", "quarantined", "errors"))
    warn = counts.get("failed", 0) - errors
    if not total:
        return "no check was made"
    if passed == total:
        return {1: "its one check holds", 2: "both checks hold"}.get(total, f"all {count(total)} checks hold")
    parts = [f"{count(passed)} of {counted(total, 'check')} hold"]
    parts += [f"{count(errors)} failed"] if errors else []
    parts += [f"{count(warn)} {'warns' if warn == 1 else 'warn'}"] if warn else []
    parts += [f"{count(aside)} set rows aside"] if aside else []
    return ", ".join(parts)


def findings(facts: Facts) -> list[Check]:
    """The checks that did not simply pass, what needs a person first."""
    found = [check for check in facts.checks if check.outcome is not Outcome.PASSED]
    return sorted(found, key=lambda check: (OUTCOME_RANK[check.outcome], check.severity is not Severity.ERROR))


def finding_words(check: Check) -> str:
    """One rule that did not hold, with how many rows broke it and where they are."""
    effect = ", set aside" if check.outcome is Outcome.QUARANTINED else ""
    places = records_words(check.records, _broken(check))
    return f"{check.dataset}: {check.expected} — {observed_words(check)}{': ' + places if places else ''}{effect}"


def _broken(check: Check) -> int | None:
    found = check.observed.get("unexpected_count")
    return int(found) if isinstance(found, int | float) else None


def observed_words(check: Check) -> str:
    """What a check saw: `1 of 10 rows breaks it (10 %)`, `missing: week`, `observed 38.3 over 541 rows`, and the like."""
    seen = check.observed
    if seen.get("not_evaluated"):
        return f"could not be evaluated: {seen['not_evaluated']}"
    if "rows" not in seen and "unexpected_count" in seen:
        return _names_seen(seen)
    if "value" in seen:
        return f"observed {_value(seen['value'])} over {counted(_whole(seen.get('rows')), 'row')}"
    if isinstance(seen.get("unexpected"), bool):
        return f"{'not ' if seen['unexpected'] else ''}as expected over {counted(_whole(seen.get('rows')), 'row')}"
    rows = _rows_seen(seen)
    rest = [f"{key.replace('_', ' ')} {_value(value)}" for key, value in seen.items() if key not in _SAID and value is not None]
    return ", ".join([*rows, *rest]) or "nothing observed"


def _names_seen(seen: Observed) -> str:
    """Of a check of columns: those that are missing, and those that should not be there."""
    parts = [f"{label}: {seen[key]}" for key, label in (("missing", "missing"), ("unexpected", "unexpected")) if seen.get(key)]
    return "; ".join(parts) or "none missing, none unexpected"


def _rows_seen(seen: Observed) -> list[str]:
    """How many rows broke the rule, of those that it applies to, and what share that is."""
    if "unexpected_count" not in seen:
        return [counted(_whole(seen["rows"]), "row")] if "rows" in seen else []
    broken, rows = _whole(seen["unexpected_count"]), _whole(seen["rows"])
    asked = _whole(seen.get("considered_count", rows))
    of = f"the {counted(asked, 'row')} it applies to" if asked != rows else counted(asked, "row")
    if "quarantined_count" in seen:
        aside = _whole(seen["quarantined_count"])
        return [f"{count(broken)} of {of}{_share(seen)}" + (f", {count(aside)} set aside in all" if aside != broken else "")]
    if not asked:
        return ["no row to look at"]
    if not broken:
        return [f"none of {of} breaks it"]
    return [f"{count(broken)} of {of} {'breaks' if broken == 1 else 'break'} it{_share(seen)}"]


def _share(seen: Observed) -> str:
    part = seen.get("unexpected_share")
    return f" ({share(float(part))})" if isinstance(part, int | float) and part else ""


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _value(value: int | float | str | bool | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    return significant(value, 4) if isinstance(value, float) else str(value)


def records_words(records: Sequence[tuple[str, int]], broken: int | None = None, few: int = FEW_RECORDS) -> str:
    """Where broken rows are: `weight.csv records 7, 12–14 and 9 more`. `broken` is how many there are in all."""
    by_file: dict[str, list[int]] = {}
    for file, record in records[:few]:
        by_file.setdefault(file, []).append(record)
    if not by_file:
        return ""
    told = ", ".join(f"{file} {'record' if len(numbers) == 1 else 'records'} {ranges(numbers)}" for file, numbers in by_file.items())
    more = max(len(records), broken or 0) - min(len(records), few)
    return f"{told} and {count(more)} more" if more else told


def ranges(numbers: Sequence[int]) -> str:
    """Ascending whole numbers with runs of three or more drawn together: `7, 12–14`."""
    groups: list[list[int]] = []
    for value in sorted(set(numbers)):
        if groups and value == groups[-1][-1] + 1:
            groups[-1].append(value)
        else:
            groups.append([value])
    return ", ".join(f"{group[0]}–{group[-1]}" if len(group) > 2 else ", ".join(map(str, group)) for group in groups)


def estimate_places(estimate: Estimate) -> int:
    """Decimals that show an estimate's uncertainty with two digits."""
    low, high = estimate.ci_low, estimate.ci_high
    half = (high - low) / 2 if low is not None and high is not None else None
    if estimate.estimate == 0 and not estimate.std_error and not half:
        return 0
    return decimals(estimate.std_error, half, abs(estimate.estimate) / 10 if estimate.estimate else None)


def estimate_short(estimate: Estimate) -> str:
    """`week −0.25 (−0.53 to 0.03)`."""
    return f"{estimate.term} {_value_and_interval(estimate, '')}"


def estimate_words(estimate: Estimate) -> str:
    """`week in ols: −0.25 (95 % CI −0.53 to 0.03), p = 0.07; 6 rows of 3 subjects`."""
    p = f", {p_phrase(estimate.p_value)}" if estimate.p_value is not None else ""
    size = f"{counted(estimate.n_obs, 'row')} of {counted(estimate.n_subjects, 'subject')}"
    return f"{estimate.term} in {estimate.model}: {_value_and_interval(estimate, '95 % CI ')}{p}; {size}"


def _value_and_interval(estimate: Estimate, label: str) -> str:
    places = estimate_places(estimate)
    value = number(estimate.estimate, places)
    if estimate.ci_low is None or estimate.ci_high is None:
        return value
    return f"{value} ({label}{number(estimate.ci_low, places)} to {number(estimate.ci_high, places)})"


def interval_words(estimate: Estimate) -> str:
    """What the interval says about the sign, and whether the fit can be relied on."""
    if not estimate.converged:
        return "The fit did not converge: don't use this number."
    if estimate.ci_low is None or estimate.ci_high is None:
        return "It has no interval."
    if estimate.ci_low <= 0 <= estimate.ci_high:
        return "The interval includes zero: these data don't tell its sign."
    return f"The interval lies {'above' if estimate.ci_low > 0 else 'below'} zero."


def code_words(facts: Facts) -> str:
    """The version that ran, with its commit, and whether the tree had changes."""
    commit = facts.code.get("commit", "")
    dirty = " with uncommitted changes" if facts.code.get("dirty") == "True" else ""
    return facts.code.get("version", "?") + (f" at {commit[:10]}{dirty}" if re.fullmatch(r"[0-9a-f]{7,64}", commit) else "")
