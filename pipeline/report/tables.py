"""Runs as plain text for a terminal: the list of `pipeline runs`, one run of `pipeline show`, the end of `pipeline run`.

Text that may be piped: aligned columns, no box drawing, no colour.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any, Final

from pipeline.records import State
from pipeline.report import words
from pipeline.report.facts import REPORT, Facts, StepFacts, facts_of
from pipeline.report.numbers import count, counted, duration, moment, p_phrase
from pipeline.telemetry.bundle import Bundle

NO_RUNS: Final = "There are no runs yet: `pipeline run` makes one."
# What a line of the list may add at its end without wrapping in a wide terminal.
LONGEST_END: Final = 60
SHOWN_FINDINGS: Final = 8
_SIGNS: Final = {State.COMPLETED: "✓", State.FAILED: "✗", State.ABORTED: "■", State.LOST: "■", State.RUNNING: "…"}


def runs_table(bundles: Iterable[Bundle]) -> str:
    """The runs, one a line: short id, state, gate, start (UTC), time, rows read, headline estimate or problem."""
    rows = [_run_row(facts_of(bundle, with_checks=False)) for bundle in bundles]
    if not rows:
        return NO_RUNS
    return aligned([("RUN", "STATE", "GATE", "STARTED (UTC)", "TOOK", "ROWS", "HEADLINE"), *rows], right={4, 5})


def _run_row(facts: Facts) -> tuple[str, ...]:
    estimate = facts.headline_estimate
    stopped = facts.state in (State.FAILED, State.ABORTED, State.LOST)
    end = words.problem(facts) if stopped else words.estimate_short(estimate) if estimate else ""
    return (
        facts.short_id,
        facts.state.value,
        facts.gate.value if facts.gate else "–",
        f"{facts.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        duration(facts.seconds) if facts.seconds is not None else "–",
        count(facts.rows_read) if facts.inputs else "–",
        _cut(end),
    )


def run_text(bundle: Bundle) -> str:
    """One run: what happened, its steps, what is to be looked at, its estimates, and where its report is."""
    facts = facts_of(bundle)
    head = aligned(
        [
            ("run", facts.run_id),
            ("pipeline", facts.pipeline),
            ("started", moment(facts.started_at)),
            *_outcome(facts),
            ("code", words.code_words(facts)),
        ]
    )
    parts = [words.story(facts).sentence, head, _titled("steps", _steps(facts)), _titled("to look at", _findings(facts))]
    parts += [_titled("estimates", _estimates(facts)), _where(bundle.path)]
    return "\n\n".join(part for part in parts if part)


def runs_json(bundles: Iterable[Bundle]) -> list[dict[str, Any]]:
    """The runs for other programs: the same facts as the list's, unrounded."""
    return [_run_object(bundle) for bundle in bundles]


def _run_object(bundle: Bundle) -> dict[str, Any]:
    facts, record = facts_of(bundle, with_checks=False), bundle.manifest
    estimate = facts.headline_estimate
    return {
        **{key: record.get(key) for key in ("run_id", "trace_id")},
        "pipeline": facts.pipeline,
        "state": facts.state.value,
        **{key: record.get(key) for key in ("gate", "started_at", "ended_at", "seconds", "as_of", "until", "environment")},
        "rows_in": facts.rows_read,
        "rows_quarantined": facts.rows_quarantined,
        "checks": dict(facts.check_counts),
        "error_type": facts.failure.type if facts.failure else None,
        "error": facts.failure.message if facts.failure else None,
        "headline": {key: getattr(estimate, key) for key in ("model", "term", "estimate", "ci_low", "ci_high", "p_value")} if estimate else None,
        "bundle": str(bundle.path),
    }


def summary(bundle: Bundle) -> str:
    """The end of `pipeline run`: what happened, the outcome, rows, headline estimate, and where the report is."""
    facts = facts_of(bundle)
    estimate = facts.headline_estimate
    lines = [("run", facts.run_id), *_outcome(facts)]
    lines += [("rows", _rows(facts))] if facts.inputs else []
    if facts.published and facts.unchanged == len(facts.published):
        lines.append(("lake", "unchanged: every dataset is byte for byte what it was"))
    lines += [("estimate", words.estimate_words(estimate)), ("", words.interval_words(estimate))] if estimate else []
    parts = [words.story(facts).sentence, aligned(lines), _titled("to look at", _findings(facts)), _where(bundle.path)]
    return "\n\n".join(part for part in parts if part)


def _outcome(facts: Facts) -> list[tuple[str, str]]:
    """State and gate; for a run that did not complete the problem and what mends it."""
    gate = f", gate {facts.gate.value}" if facts.gate else ""
    lines = [("state", facts.state.value + gate)]
    if facts.failure is not None:
        lines.append(("problem", words.problem(facts)))
        lines += [("hint", facts.failure.hint)] if facts.failure.hint else []
    return lines


def _rows(facts: Facts) -> str:
    kept = sum(rows for step in facts.steps for rows in step.rows_out.values() if step.kind == "ingest")
    return f"{count(facts.rows_read)} in, {count(kept)} out, {count(facts.rows_quarantined)} set aside"


def _steps(facts: Facts) -> str:
    return aligned([_step_row(step) for step in facts.steps], right={3, 4, 5})


def _step_row(step: StepFacts) -> tuple[str, ...]:
    rows_in = [rows for rows in step.rows_in.values() if rows is not None]
    state = step.state
    return (
        _SIGNS[state] if state else "–",
        step.name,
        step.kind.value,
        duration(step.seconds) if step.seconds is not None else "not reached" if state is None else "no end",
        f"{counted(sum(rows_in), 'row')} in" if rows_in else "",
        f"{count(sum(step.rows_out.values()))} out" if step.rows_out else "",
        f"{count(step.quarantined)} set aside" if step.quarantined else "",
    )


def _findings(facts: Facts) -> str:
    found = words.findings(facts)
    lines = [words.finding_words(check) for check in found[:SHOWN_FINDINGS]]
    return "\n".join([*lines, f"and {len(found) - SHOWN_FINDINGS} more, in the report"] if len(found) > SHOWN_FINDINGS else lines)


def _estimates(facts: Facts) -> str:
    rows = []
    for estimate in facts.estimates:
        value, _, interval = words.estimate_short(estimate).removeprefix(f"{estimate.term} ").partition(" (")
        p = p_phrase(estimate.p_value) if estimate.p_value is not None else ""
        rows.append((estimate.model, estimate.term, value, f"({interval}" if interval else "", p, "" if estimate.converged else "did not converge"))
    return aligned(rows, right={2})


def _where(bundle: Path) -> str:
    report = bundle / REPORT
    return f"report  {report}" if report.exists() else f"bundle  {bundle}"


def _titled(title: str, text: str) -> str:
    return "\n".join([title, *("  " + line for line in text.splitlines())]) if text else ""


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_END else line[: LONGEST_END - 1] + "…"


def aligned(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """The rows as columns two spaces apart; those numbered in `right` end at one edge. Empty columns take no room."""
    rows = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    to_right = set(right)
    lines = ("  ".join(_padded(cell, width, right=n in to_right) for n, (cell, width) in enumerate(zip(row, widths, strict=True)) if width) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _padded(text: str, width: int, *, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
