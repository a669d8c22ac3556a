"""Everything that the report's templates show, put together from a bundle: facts, words, drawings, tables."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.records import Check, Estimate, Gate, Outcome, Severity, State, StepKind
from pipeline.report import links, words
from pipeline.report.columns import DatasetColumns, read_columns
from pipeline.report.delivery import Delivery, read_deliveries
from pipeline.report.facts import Facts, StepFacts, layer, layer_rank, read_facts
from pipeline.report.forest import Panel, panels
from pipeline.report.graph import Graph, draw
from pipeline.report.links import Link
from pipeline.report.logs import Log, read_log
from pipeline.report.numbers import count, counted
from pipeline.report.waterfall import Waterfall, waterfall

# The look of a state, gate or outcome: a colour and a sign, since colour alone says nothing to many.
TONES = {
    State.COMPLETED: "good",
    State.FAILED: "bad",
    State.ABORTED: "halted",
    State.LOST: "halted",
    State.RUNNING: "busy",
    Gate.GREEN: "good",
    Gate.YELLOW: "warn",
    Gate.RED: "bad",
    Outcome.PASSED: "good",
    Outcome.QUARANTINED: "warn",
    Outcome.FAILED: "bad",
}
FEW_CLUSTERS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLine:
    """One dataset in the table of rows. `balance` is the equation of a step that sets rows aside, `balanced` whether it holds."""

    dataset: str
    step: StepFacts
    rows_in: Mapping[str, int | None]
    rows_out: int | None
    quarantined: int
    balance: str
    balanced: bool
    bytes: int | None
    files: int
    version: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckGroup:
    """The checks of one outcome, by dataset in the order of the layers."""

    outcome: Outcome
    datasets: tuple[tuple[str, tuple[Check, ...]], ...]

    @property
    def size(self) -> int:
        """How many checks there are."""
        return sum(len(checks) for _, checks in self.datasets)

    @property
    def tone(self) -> str:
        """The gravest tone in it."""
        tones = [check_tone(check) for _, checks in self.datasets for check in checks]
        return "bad" if "bad" in tones else tones[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model's estimates. `cautions` are the facts of the fit that limit what its numbers say."""

    name: str
    estimates: tuple[Estimate, ...]
    cautions: tuple[str, ...]

    @property
    def fit(self) -> Estimate:
        """Any row: all carry the fit."""
        return self.estimates[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One report."""

    facts: Facts
    story: words.Story
    tone: str
    findings: tuple[Check, ...]
    waterfall: Waterfall
    graph: Graph
    columns: tuple[DatasetColumns, ...]
    rows: tuple[RowLine, ...]
    said: Mapping[str, str]
    statuses: Mapping[str, str]
    checks: tuple[CheckGroup, ...]
    panels: tuple[Panel, ...]
    models: tuple[Model, ...]
    log: Log | None
    deliveries: tuple[Delivery, ...]
    links: tuple[Link, ...]
    step_links: Mapping[str, tuple[Link, ...]]


def read_page(bundle: Path) -> Page:
    """The report's content from the bundle alone.

    Raises:
        RunNotFoundError: the folder has no manifest that can be read.
    """
    facts = read_facts(bundle)
    rows = row_lines(facts)
    return Page(
        facts=facts,
        story=words.story(facts),
        tone=run_tone(facts),
        findings=tuple(words.findings(facts)),
        waterfall=waterfall(facts),
        graph=draw(facts),
        columns=read_columns(bundle),
        rows=rows,
        statuses={line.dataset: line.status for line in rows},
        said={source.source: counted(source.rows, "row") for source in facts.inputs} | {line.dataset: _said(line) for line in rows},
        checks=check_groups(facts.checks),
        panels=panels(facts.estimates, facts.headline[1] if facts.headline else None),
        models=models(facts.estimates),
        log=read_log(bundle),
        deliveries=read_deliveries(bundle),
        links=links.run_links(facts),
        step_links={step.name: links.step_links(facts, step.name, step.span_id) for step in facts.steps_run},
    )


def run_tone(facts: Facts) -> str:
    """The page's tone: the state's, and for a completed run its gate's."""
    return TONES[facts.gate] if facts.state is State.COMPLETED and facts.gate else TONES[facts.state]


def check_tone(check: Check) -> str:
    """The tone of what a check came to; one that only warns is no error."""
    return "warn" if check.outcome is Outcome.FAILED and check.severity is Severity.WARN else TONES[check.outcome]


def row_lines(facts: Facts) -> tuple[RowLine, ...]:
    """A line for each dataset that a step writes, from input to gold, those that were not reached included."""
    lines = [_row_line(facts, step, dataset) for step in facts.steps for dataset in step.outputs]
    return tuple(sorted(lines, key=lambda line: layer_rank(line.dataset)))


def _row_line(facts: Facts, step: StepFacts, dataset: str) -> RowLine:
    written = next((output for output in facts.outputs if output.version.dataset == dataset), None)
    rows_out = step.rows_out.get(dataset)
    balance, balanced = _balance(step, rows_out)
    return RowLine(
        dataset=dataset,
        step=step,
        rows_in=step.rows_in,
        rows_out=rows_out,
        quarantined=step.quarantined,
        balance=balance,
        balanced=balanced,
        bytes=written.version.bytes if written else None,
        files=len(written.version.files) if written else 0,
        version=written.version.version if written else "",
        status=_status(step, written.published if written else None, written.version.changed if written else None),
    )


def _balance(step: StepFacts, rows_out: int | None) -> tuple[str, bool]:
    """Rows in = rows out + rows set aside, where the step is one that may neither add nor drop a row."""
    rows_in = sum(rows or 0 for rows in step.rows_in.values())
    if rows_out is None or (step.kind is not StepKind.INGEST and not step.quarantined):
        return "", True
    holds = rows_in == rows_out + step.quarantined
    return f"{count(rows_in)} {'=' if holds else '≠'} {count(rows_out)} + {count(step.quarantined)}", holds


def _status(step: StepFacts, published: bool | None, changed: bool | None) -> str:
    if published is None:
        return "not reached" if step.state is None else "not written"
    if not published:
        return "not published"
    return "unchanged" if changed is False else "new version"


def _said(line: RowLine) -> str:
    """How much of a dataset there is, for the graph."""
    if line.rows_out is None and not line.files:
        return line.status
    return counted(line.rows_out, "row") if line.rows_out is not None else counted(line.files, "file")


def check_groups(checks: Sequence[Check]) -> tuple[CheckGroup, ...]:
    """Failed, then quarantined, then passed; within each by dataset, errors before warnings."""
    return tuple(CheckGroup(outcome=outcome, datasets=found) for outcome in words.OUTCOMES if (found := _by_dataset(checks, outcome)))


def _by_dataset(checks: Sequence[Check], outcome: Outcome) -> tuple[tuple[str, tuple[Check, ...]], ...]:
    found: dict[str, list[Check]] = {}
    for check in checks:
        if check.outcome is outcome:
            found.setdefault(check.dataset, []).append(check)
    order = sorted(found, key=layer_rank)
    return tuple((name, tuple(sorted(found[name], key=lambda check: check.severity is not Severity.ERROR))) for name in order)


def models(estimates: Sequence[Estimate]) -> tuple[Model, ...]:
    """The estimates by model, in their order."""
    found: dict[str, list[Estimate]] = {}
    for estimate in estimates:
        found.setdefault(estimate.model, []).append(estimate)
    return tuple(Model(name=name, estimates=tuple(rows), cautions=tuple(_cautions(rows[0]))) for name, rows in found.items())


def _cautions(fit: Estimate) -> Iterable[str]:
    if not fit.converged:
        yield "not converged"
    if fit.singular:
        yield "singular fit"
    if fit.n_subjects < FEW_CLUSTERS:
        yield f"{fit.n_subjects} subjects, under {FEW_CLUSTERS}"


def slug(text: str) -> str:
    """`text` as an id in the page."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)


def short_name(dataset: str) -> str:
    """A dataset's name without its layer."""
    return dataset.split("/", 1)[-1]


def fitted(text: str, pixels: float, size: float = 12) -> str:
    """`text` cut to about that many pixels: SVG text has no ellipsis of its own."""
    most = int(pixels / (size * 0.53))
    return text if len(text) <= most else text[: max(most - 1, 1)] + "…"


__all__ = ["Page", "fitted", "layer", "read_page", "short_name", "slug"]
