"""A diagnosis for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.stack.doctor import Diagnosis
from pipeline.stack.doctor_preflight import Health
from pipeline.stack.doctor_verdict import Verdict


def diagnosis_text(found: Diagnosis) -> str:
    """Preflight and hops as tables, what mends what is broken, and a last line that says whether all is well."""
    preflight = _aligned([(finding.health.value, finding.name, finding.detail) for finding in found.preflight])
    hops = _aligned([("STATE", "HOP", "AFTER", "WHAT"), *(_hop_row(verdict) for verdict in found.verdicts)])
    mends = [(finding.name, finding.mend) for finding in found.preflight if finding.mend]
    mends += [(verdict.hop, verdict.mend) for verdict in found.verdicts if verdict.mend]
    parts = [["PREFLIGHT", *preflight], [f"CANARY {found.run_id}", *hops], ["WHAT MENDS IT", *_aligned(mends)] if mends else [], [_summary(found)]]
    return "\n\n".join("\n".join(part) for part in parts if part)


def diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    """The same with all that is known, for programs."""
    return {
        "ok": found.is_well,
        "run_id": found.run_id,
        "timeout_seconds": found.timeout,
        "preflight": [
            {"name": finding.name, "state": finding.health.value, "detail": finding.detail, "mend": finding.mend or None} for finding in found.preflight
        ],
        "hops": [_hop_json(verdict) for verdict in found.verdicts],
    }


def _hop_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "name": verdict.hop,
        "state": verdict.health.value,
        "looked_for": verdict.looked_for,
        "seconds": None if verdict.seconds is None else round(verdict.seconds, 3),
        "reason": verdict.reason or None,
        "because": verdict.because or None,
        "mend": verdict.mend or None,
    }


def _hop_row(verdict: Verdict) -> tuple[str, ...]:
    what = verdict.reason or verdict.looked_for
    what = f"waits for {verdict.because}" if verdict.health is Health.BLOCKED else what
    return (verdict.health.value, verdict.hop, "" if verdict.seconds is None else f"{verdict.seconds:.2f} s", what)


def _summary(found: Diagnosis) -> str:
    times = [verdict.seconds for verdict in found.verdicts if verdict.seconds is not None]
    if found.is_well:
        where = "everywhere" if all(verdict.health is not Health.WARN for verdict in found.verdicts) else "everywhere that could be asked"
        return f"All is well: the run was {where} after {max(times):.1f} s." if times else "All is well."
    blocked = [verdict.hop for verdict in found.verdicts if verdict.health is Health.BLOCKED]
    waiting = f"; {', '.join(blocked)} can't be judged before that is mended" if blocked else ""
    return f"Broken: {', '.join([verdict.hop for verdict in found.broken] or ['the preflight'])}{waiting}."


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
