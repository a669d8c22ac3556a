"""What became of the run at each hop, and the verdicts that follow: the cause is told from its consequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pipeline.stack.doctor_hops import COLLECTED, HOPS, LINEAGE, Hop
from pipeline.stack.doctor_look import Containers
from pipeline.stack.doctor_preflight import Health

_OTHER_FOLDER: Final = "make obs.up, with the PIPELINE_RUNS that runs have"


class Found(StrEnum):
    """What looking for the run in a server came to."""

    THERE = "there"
    MISSING = "missing"
    REFUSED = "refused"
    SILENT = "silent"
    TAKEN = "taken"
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of the run at a hop: the seconds from the run's end until all of it was there, or why it was not.

    `MISSING`: the server is well, but the run isn't there. `REFUSED`: it answers with an error. `SILENT`: it does not answer.
    `TAKEN`: it took what was sent, and can't be asked for it.
    """

    found: Found
    seconds: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A hop, judged. `because` names the hop that it waits for when it is blocked; `mend` is a command."""

    hop: str
    looked_for: str
    health: Health
    seconds: float | None = None
    reason: str = ""
    because: str = ""
    mend: str = ""


def judge(seen: Mapping[str, Seen], containers: Containers, elsewhere: Mapping[str, str] = {}) -> list[Verdict]:
    """A verdict for each hop, upstream ones first.

    A server that is silent or whose container isn't well is broken, whatever else is. One that is there without the run is broken only
    when all that it needs is well.

    Args:
        seen: what became of the run at each hop.
        containers: what the engine says.
        elsewhere: the hops that are not this stack's, each with what mends it: the containers have no say in them.
    """
    verdicts: dict[str, Verdict] = {}
    for hop in HOPS:
        verdicts[hop.name] = _judge(hop, seen, containers, verdicts, elsewhere)
    return list(verdicts.values())


def _judge(hop: Hop, seen: Mapping[str, Seen], containers: Containers, before: Mapping[str, Verdict], elsewhere: Mapping[str, str]) -> Verdict:
    own, trouble = seen[hop.name], "" if hop.name in elsewhere else containers.trouble(hop.name)
    if own.found is Found.NOT_ASKED and own.reason:
        return Verdict(hop=hop.name, looked_for=hop.looked_for, health=Health.SKIPPED, reason=own.reason)
    if hop.probe is None:
        return _unasked(hop, containers)
    if own.found is Found.TAKEN:
        return Verdict(hop=hop.name, looked_for=hop.looked_for, health=Health.WARN, reason=own.reason)
    if own.found is Found.THERE and not (hop.name == "collector" and _collects_nothing(seen)):
        return Verdict(hop=hop.name, looked_for=hop.looked_for, health=Health.OK, seconds=own.seconds if hop.is_timed else None)
    if own.found is Found.THERE:
        return _reads_nothing(hop, containers, has_report=seen["reports"].found is not Found.MISSING)
    cause = _cause(hop, before)
    if cause and own.found is not Found.SILENT and not trouble:
        reason = own.reason or "not looked for"
        return Verdict(hop=hop.name, looked_for=hop.looked_for, health=Health.BLOCKED, reason=reason, because=cause)
    reason = "; ".join(filter(None, (own.reason, trouble)))
    reads_other = hop.name == "reports" and own.found is Found.MISSING and _collects_nothing(seen)
    mend = elsewhere.get(hop.name) or (_OTHER_FOLDER if reads_other else _mend(hop, own, trouble, containers))
    return Verdict(hop=hop.name, looked_for=hop.looked_for, health=Health.BROKEN, reason=reason, mend=mend)


def _unasked(hop: Hop, containers: Containers) -> Verdict:
    """A hop that only its container tells of."""
    if not containers.engine:
        return Verdict(hop=hop.name, looked_for=hop.looked_for, health=Health.SKIPPED, reason="no container engine to ask")
    trouble = containers.trouble(hop.name)
    if not trouble:
        return Verdict(hop=hop.name, looked_for=hop.looked_for, health=Health.OK)
    return Verdict(hop=hop.name, looked_for=hop.looked_for, health=Health.BROKEN, reason=trouble, mend=_start(hop))


def _cause(hop: Hop, before: Mapping[str, Verdict]) -> str:
    """The hop furthest up that keeps the run from here, if one does."""
    for need in hop.needs:
        if before[need].health is Health.BROKEN:
            return need
        if before[need].health is Health.BLOCKED:
            return before[need].because
    return ""


def _collects_nothing(seen: Mapping[str, Seen]) -> bool:
    """Whether the run is in none of the servers that the collector fills, though at least two of them are well: so it is not theirs."""
    found = [seen[name].found for name in COLLECTED]
    return Found.THERE not in found and found.count(Found.MISSING) >= 2


def _reads_nothing(hop: Hop, containers: Containers, *, has_report: bool) -> Verdict:
    """The collector is healthy and hands nothing on. That the report is missing too tells of another folder."""
    reason = f"it is healthy, but nothing of the run came to {', '.join(COLLECTED)}"
    if has_report:
        mend = f"{containers.compose} restart {hop.name}"
        return Verdict(hop=hop.name, looked_for=hop.looked_for, health=Health.BROKEN, reason=reason, mend=mend)
    reason += ", and its report is not served either: the stack reads another folder of runs"
    return Verdict(hop=hop.name, looked_for=hop.looked_for, health=Health.BROKEN, reason=reason, mend=_OTHER_FOLDER)


def _mend(hop: Hop, own: Seen, trouble: str, containers: Containers) -> str:
    if trouble or (own.found is Found.SILENT and not containers.engine):
        return _start(hop)
    if hop.name == "marquez" and own.found is Found.MISSING:
        return "pipeline replay"  # the collector has no part in it
    return f"{containers.compose} restart {hop.name}"


def _start(hop: Hop) -> str:
    return "make lineage.up" if hop.name in LINEAGE else "make obs.up"
