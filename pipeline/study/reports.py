"""The study's report: what was asked, what the models say, and what they don't, in Markdown.

It is a function of its two tables: no clock, no run id, no subject's id, no number about fewer than five people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from pipeline.records import Estimate
from pipeline.study.models import MODELS, OUTCOME, REGRESSORS

if TYPE_CHECKING:
    from pipeline.engine import Table
    from pipeline.study.observations import Sample

SIGNIFICANT = 0.05
MEANINGS: Final = {
    OUTCOME: ("weight change in the following week", "kg"),
    "fiber_g_week": ("fibre in the week", "g"),
    "calories_week": ("calories in the week", "kcal"),
    "beans_week": ("beans in the week's diary", "1 yes, 0 no"),
    "potato_week": ("potato in the week's diary", "1 yes, 0 no"),
}
ASSUMPTIONS: Final = {
    "ols_cluster": "Ordinary least squares over all rows. Errors are clustered by subject (CRV1); t has one degree of freedom less than there are subjects.",
    "fixed_effects": "Each subject is compared with itself only: whatever does not change within a subject is taken out. Errors are clustered as above.",
    "mixed_effects": "Each subject has a level of its own, drawn from one normal distribution (REML). It takes the rest as independent; statistics are z.",
}
CAVEATS: Final = (
    "**No causes.** Nobody was told what to eat. What makes people eat more fibre may move their weight in other ways.",
    "**Weighing errors.** A weight read too high is followed by a fall, whatever was eaten. This is noise in the outcome, and can't be told from change.",
    "**Weeks without records.** A week that has no daily totals or no diary counts as 0 in its columns, not as unknown.",
    "**Missing weights.** A row counts only if both weights are known. If people leave weights out for a reason that has to do with weight, estimates are off.",
    f"**Several looks at one question.** {len(MODELS)} models and {len(REGRESSORS)} regressors are shown, with no correction for their number; "
    f"{SIGNIFICANT} is a custom, not a border between true and false.",
)


def write_report(models: Table, modeling_dataset: Table) -> dict[str, bytes]:
    """`report.md` from the models' estimates, and the rows that they were fitted to."""
    from pipeline.study.observations import read_sample

    sample = read_sample(modeling_dataset, OUTCOME, REGRESSORS)
    estimates = _estimates(models)
    fits = {name: [row for row in estimates if row.model == name] for name in MODELS}
    sections = (
        _question(),
        _data(sample, modeling_dataset.rows),
        *(_model(name, fit) for name, fit in fits.items()),
        _clustering(sample, fits),
        ["## What this does not say", "", *(f"- {caveat}" for caveat in CAVEATS), ""],
    )
    return {"report.md": "\n".join(line for section in sections for line in section).encode()}


def _estimates(models: Table) -> list[Estimate]:
    """The rows of the models' table, with missing numbers as None."""
    return [
        Estimate(
            model=str(record["model"]),
            term=str(record["term"]),
            estimate=_known(record["estimate"]),
            std_error=_known(record["std_error"]),
            statistic=_known(record["statistic"]),
            p_value=_known(record["p_value"]),
            ci_low=_known(record["ci_low"]),
            ci_high=_known(record["ci_high"]),
            n_obs=int(record["n_obs"]),
            n_subjects=int(record["n_subjects"]),
            r_squared=_known(record["r_squared"]),
            converged=bool(record["converged"]),
            singular=bool(record["singular"]),
            note=str(record["note"]),
        )
        for record in models.df().to_dict("records")
    ]


def _known(value: float) -> float | None:
    return None if value != value else float(value)


def _question() -> list[str]:
    return [
        "# Weight change and what was eaten the week before",
        "",
        f"Do the fibre and the calories of a week, and beans or potato in it, go along with the weight change in the following week (`{OUTCOME}`)?",
        "",
    ]


def _data(sample: Sample, rows: int) -> list[str]:
    from pipeline.study.aggregates import SMALLEST_GROUP

    left_out = rows - sample.n_obs
    reason = f"; {left_out} more lack the outcome or a regressor and are left out" if left_out else ""
    lines = ["## Data", "", f"{sample.n_obs} rows (subject-weeks) of {sample.n_subjects} subjects{reason}.", ""]
    if sample.n_subjects < SMALLEST_GROUP:
        return [*lines, f"Means are not shown for fewer than {SMALLEST_GROUP} subjects.", ""]
    cells = []
    for name, mean, scale in zip(sample.names, sample.means, sample.scales, strict=True):
        deviation = 0.0 if name in sample.constant else float(scale) * (sample.n_obs / (sample.n_obs - 1)) ** 0.5
        cells.append((f"`{name}`", *MEANINGS[name], _number(float(mean)), _number(deviation)))
    return [*lines, *_table(("column", "meaning", "unit", "mean", "standard deviation"), cells, words=3), ""]


def _model(name: str, fit: Sequence[Estimate]) -> list[str]:
    """One model: what it takes for granted, how the fit went, its table and the headline in words."""
    cells = ((f"`{row.term}`", _number(row.estimate), _number(row.std_error), _interval(row), _number(row.statistic), _p_value(row.p_value)) for row in fit)
    return [
        f"## Model `{name}`",
        "",
        ASSUMPTIONS[name],
        "",
        f"Fit: {_fit_in_words(fit[0])}.",
        *([f"Note: {fit[0].note}."] if fit[0].note else []),
        "",
        *_table(("term", "estimate", "standard error", "95 % interval", "z" if name == "mixed_effects" else "t", "p"), cells),
        "",
        *_headline(fit),
    ]


def _fit_in_words(row: Estimate) -> str:
    facts = [f"{row.n_obs} rows, {row.n_subjects} subjects"]
    if row.r_squared is not None:
        facts.append(f"R² {_number(row.r_squared)}{' (within subjects)' if row.model == 'fixed_effects' else ''}")
    facts.append("converged" if row.converged else "**not converged**")
    return ", ".join([*facts, "singular"] if row.singular else facts)


def _headline(fit: Sequence[Estimate]) -> list[str]:
    """The coefficient of fibre as a sentence, if there is one with an interval."""
    for row in fit:
        if row.term == "fiber_g_week" and row.estimate is not None and row.ci_low is not None and row.ci_high is not None:
            per_10_g = replace(row, ci_low=10 * row.ci_low, ci_high=10 * row.ci_high)
            change = f"{_number(10 * row.estimate)} kg (95 % interval {_interval(per_10_g)}, p {_p_value(row.p_value)})"
            return [f"In words: with 10 g more fibre in a week goes a weight change in the following week that differs by {change}.", ""]
    return []


def _clustering(sample: Sample, fits: Mapping[str, Sequence[Estimate]]) -> list[str]:
    """How p values change when rows of one subject are no longer taken as independent."""
    from pipeline.study.inference import fit_least_squares
    from pipeline.study.observations import obstacle

    lines = ["## What clustering by subject does", ""]
    for name in ("ols_cluster", "fixed_effects"):
        within = name == "fixed_effects"
        if obstacle(sample, within=within):
            lines += [f"`{name}` could not be fitted, so there is nothing to compare.", ""]
            continue
        naive = fit_least_squares(sample, within=within, clustered=False)
        errors, p_values = (dict(zip(naive.terms, map(float, values), strict=True)) for values in (naive.std_errors, naive.p_values))
        pairs = [Pair(row.term, errors[row.term], p_values[row.term], row.std_error, row.p_value) for row in fits[name] if row.term in REGRESSORS]
        lines += _comparison(name, pairs)
    if fits["mixed_effects"][0].singular:
        lines += ["`mixed_effects` found no variance between subjects, so its p values, too, are those of independent rows.", ""]
    return lines


class Pair(NamedTuple):
    """A term's error and p value with rows taken as independent, and clustered by subject."""

    term: str
    error: float
    p_value: float
    clustered_error: float | None
    clustered_p_value: float | None


def _comparison(name: str, pairs: Sequence[Pair]) -> list[str]:
    cells = (
        (f"`{pair.term}`", _p_value(pair.p_value), _p_value(pair.clustered_p_value), _number(pair.clustered_error and pair.clustered_error / pair.error))
        for pair in pairs
    )
    alone = [pair.term for pair in pairs if pair.p_value < SIGNIFICANT]
    clustered = [pair.term for pair in pairs if pair.clustered_p_value is not None and pair.clustered_p_value < SIGNIFICANT]
    return [
        f"In `{name}`, if all rows were independent, {_below(alone)}. With errors clustered by subject, {_below(clustered)}. {_verdict(alone, clustered)}",
        "",
        *_table(("term", "p, rows independent", "p, clustered", "clustered error over independent"), cells),
        "",
    ]


def _below(terms: Sequence[str]) -> str:
    if not terms:
        return f"no coefficient has a p value under {SIGNIFICANT}"
    return f"{_names(terms)} {'has' if len(terms) == 1 else 'have'} a p value under {SIGNIFICANT}"


def _verdict(alone: Sequence[str], clustered: Sequence[str]) -> str:
    verdicts = []
    if lost := [term for term in alone if term not in clustered]:
        verdicts.append(f"what looks significant in {_names(lost)} rests on taking a subject's rows for independent")
    if gained := [term for term in clustered if term not in alone]:
        verdicts.append(f"{_names(gained)} {'is' if len(gained) == 1 else 'are'} significant only with clustered errors")
    return f"So {', and '.join(verdicts)}." if verdicts else "So clustering does not change which coefficients count as significant."


def _names(terms: Sequence[str]) -> str:
    from pipeline.study.observations import listed

    return listed([f"`{term}`" for term in terms])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> list[str]:
    """A Markdown table; all columns but the first `words` are numbers, aligned right."""
    marks = ["---" if place < words else "---:" for place in range(len(header))]
    return [f"| {' | '.join(cells)} |" for cells in (header, marks, *rows)]


def _number(value: float | None) -> str:
    """Four significant digits with a true minus; a dash when missing."""
    if value is None or value != value:
        return "–"
    if value == 0.0:
        return "0"
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}").replace("-", "−")


def _interval(row: Estimate) -> str:
    return "–" if row.ci_low is None else f"{_number(row.ci_low)} to {_number(row.ci_high)}"


def _p_value(value: float | None) -> str:
    if value is None or value != value:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
