"""What is logged about a run and its models, as plain JSON: names, numbers and hashes, never a row or a subject's id.

Built in the run's process, where nothing of MLflow may be imported, and handed to the worker, which logs it as it is.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import urlencode

from pipeline.records import Code, Estimate, ModelCard, Run, State
from pipeline.settings import mask
from pipeline.tracking.linear_model import FORMAT

if TYPE_CHECKING:
    from pipeline.settings import Settings

INTERCEPT = "intercept"
NO_GATE = "none"
NUMBERS = ("estimate", "std_error", "statistic", "p_value", "ci_low", "ci_high")
# MLflow's own words for how a run ended.
STATUS = {State.COMPLETED: "FINISHED", State.FAILED: "FAILED", State.ABORTED: "KILLED", State.LOST: "KILLED"}
_COLUMN = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NOT_IN_KEYS = re.compile(r"[^\w./ -]+")


class Tag(StrEnum):
    """The tags on MLflow runs that are ours."""

    RUN_ID = "goldtrace.run_id"
    TRACE_ID = "goldtrace.trace_id"
    STATE = "goldtrace.state"
    GATE = "goldtrace.gate"
    ENVIRONMENT = "goldtrace.environment"
    VERSION = "goldtrace.version"
    DIRTY = "goldtrace.code_dirty"
    REPORT = "goldtrace.report"
    TRACE = "goldtrace.trace"
    LINEAGE = "goldtrace.lineage"
    DASHBOARD = "goldtrace.dashboard"
    MODEL = "goldtrace.model"
    DELIVERED = "goldtrace.delivered"


# Where a run is in other tools, and what it is called in a link.
_PAGES = {Tag.REPORT: "report", Tag.DASHBOARD: "dashboard in Grafana", Tag.TRACE: "trace in Jaeger", Tag.LINEAGE: "lineage in Marquez"}


class Coefficients(TypedDict):
    """The table that a loadable model is made of."""

    format: int
    model: str
    intercept: float
    coefficients: dict[str, float]


class ModelRecord(TypedDict):
    """One model: an MLflow run below the pipeline run's, with a loadable model when there are coefficients."""

    name: str
    is_fitted: bool
    description: str
    params: dict[str, str]
    metrics: dict[str, float]
    estimates: str
    coefficients: Coefficients | None


class RunRecord(TypedDict):
    """One pipeline run: `started_ms` and `ended_ms` since the epoch, `figures` as absolute paths, `estimates` as CSV."""

    run_id: str
    experiment: str
    name: str
    state: str
    status: str
    started_ms: int
    ended_ms: int
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    figures: list[str]
    models: list[ModelRecord]


def run_record(run: Run, settings: Settings, lake_root: Path) -> RunRecord:
    """What is logged about a run that has ended; models and figures only when they were published."""
    ended_ns = run.ended_ns or run.clock.now_ns()
    published = run.pipeline.estimates in run.published
    return {
        "run_id": str(run.id),
        "experiment": run.pipeline.name,
        "name": short_id(str(run.id)),
        "state": run.state.value,
        "status": STATUS[run.state],
        "started_ms": run.started_ns // 1_000_000,
        "ended_ms": ended_ns // 1_000_000,
        "tags": _run_tags(run, settings),
        "params": _run_params(run),
        "metrics": {"seconds": (ended_ns - run.started_ns) / 1e9},
        "figures": _figures(run, lake_root),
        "models": [model_record(estimates, run.pipeline.models.get(name)) for name, estimates in _by_model(run.estimates)] if published else [],
    }


def lost_record(manifest: Mapping[str, Any], ended_ns: int, message: str, settings: Settings) -> RunRecord:
    """What is logged about a run whose process is gone, from its manifest: that it was, and that it was killed."""
    name = manifest["pipeline"]["name"]
    identity = _identity_tags(manifest["run_id"], name, manifest["environment"], settings)
    return {
        "run_id": manifest["run_id"],
        "experiment": name,
        "name": short_id(manifest["run_id"]),
        "state": State.LOST.value,
        "status": STATUS[State.LOST],
        "started_ms": int(datetime.fromisoformat(manifest["started_at"]).timestamp() * 1000),
        "ended_ms": ended_ns // 1_000_000,
        "tags": {
            **identity,
            **_code_tags(Code(**manifest["code"])),
            Tag.STATE: State.LOST.value,
            Tag.GATE: NO_GATE,
            Tag.ENVIRONMENT: manifest["environment"],
            "mlflow.source.name": name,
            "mlflow.note.content": described(identity, message),
        },
        "params": {},
        "metrics": {},
        "figures": [],
        "models": [],
    }


def model_record(estimates: list[Estimate], card: ModelCard | None) -> ModelRecord:
    """What is logged about one model, from its rows of the estimates."""
    fit = estimates[0]
    is_fitted = fit.converged and all(row.estimate is not None for row in estimates if not _is_variance(row.term))
    coefficients = _coefficients(estimates) if is_fitted else None
    return {
        "name": fit.model,
        "is_fitted": is_fitted,
        "description": _description(estimates, card, is_loadable=coefficients is not None),
        "params": _model_params(estimates, card),
        "metrics": _metrics(estimates),
        "estimates": _csv(estimates),
        "coefficients": coefficients,
    }


def short_id(run_id: str) -> str:
    """The id's first 13 characters: its time to the millisecond."""
    return run_id[:13]


def _by_model(estimates: Iterable[Estimate]) -> list[tuple[str, list[Estimate]]]:
    groups: dict[str, list[Estimate]] = {}
    for row in estimates:
        groups.setdefault(row.model, []).append(row)
    return list(groups.items())


# ---------------------------------------------------------------------------------------------- tags and parameters


def _run_tags(run: Run, settings: Settings) -> dict[str, str]:
    identity = _identity_tags(str(run.id), run.pipeline.name, run.environment, settings)
    return {
        **identity,
        **_code_tags(run.code),
        Tag.STATE: run.state.value,
        Tag.GATE: run.gate.value if run.gate else NO_GATE,
        Tag.ENVIRONMENT: run.environment,
        "mlflow.source.name": run.pipeline.name,
        "mlflow.note.content": described(identity, run.pipeline.description),
    }


def _identity_tags(run_id: str, pipeline: str, environment: str, settings: Settings) -> dict[str, str]:
    """Which run it is, and where its other pages are."""
    trace_id, namespace = run_id.replace("-", ""), settings.openlineage_namespace
    report, trace, lineage, grafana = (mask(url).rstrip("/") for url in (settings.report_url, settings.trace_url, settings.lineage_url, settings.grafana_url))
    chosen = urlencode({"var-run": run_id, "var-pipeline": pipeline, "var-environment": environment})
    return {
        Tag.RUN_ID: run_id,
        Tag.TRACE_ID: trace_id,
        Tag.REPORT: f"{report}/{run_id}/report.html",
        Tag.TRACE: f"{trace}/trace/{trace_id}",
        # A run has no page in Marquez; its job has.
        Tag.LINEAGE: f"{lineage}/lineage/job/{namespace}/{pipeline}?tableLevelNode=job%3A{namespace}%3A{pipeline}",
        Tag.DASHBOARD: f"{grafana}/d/goldtrace-run?{chosen}",
        "mlflow.source.type": "JOB",
    }


def described(tags: Mapping[str, str], text: str) -> str:
    """A description for MLflow's page, in Markdown: the run's id and addresses, as that page shows tags cut off and not as links, and the text."""
    links = " · ".join(f"[{words}]({tags[tag]})" for tag, words in _PAGES.items() if tag in tags)
    return f"Run `{tags[Tag.RUN_ID]}`, trace `{tags[Tag.TRACE_ID]}`\n\n{links}\n\n{text}"


def _code_tags(code: Code) -> dict[str, str]:
    """Where the code comes from, under MLflow's own names, which its page turns into links."""
    tags = {
        Tag.VERSION: code.version,
        Tag.DIRTY: None if code.dirty is None else str(code.dirty).lower(),
        "mlflow.source.git.commit": code.commit,
        "mlflow.source.git.branch": code.branch,
        "mlflow.source.git.repoURL": code.repository,
    }
    return {name: value for name, value in tags.items() if value}


def _run_params(run: Run) -> dict[str, str]:
    """What the run was made from, so that MLflow's comparison of two runs shows what was fed to each."""
    asked = {"as_of": run.as_of and run.as_of.isoformat(), "until": run.until}
    return {name: value for name, value in asked.items() if value} | {source.source: source.load_id for source in run.inputs}


def _figures(run: Run, lake_root: Path) -> list[str]:
    version = run.published.get(run.pipeline.figures or "")
    return [str(lake_root / version.path / file) for file in version.files] if version else []


def _model_params(estimates: list[Estimate], card: ModelCard | None) -> dict[str, str]:
    fit = estimates[0]
    regressors = [row.term for row in estimates if row.term != INTERCEPT and not _is_variance(row.term)]
    constant = [] if any(row.term == INTERCEPT for row in estimates) else ["0"]
    known = {
        "formula": " ~ ".join([*([card.response] if card else []), " + ".join([*constant, *regressors])]),
        "response": card.response if card else "",
        "regressors": ", ".join(regressors),
        "variances": ", ".join(row.term for row in estimates if _is_variance(row.term)),
        "errors": card.errors if card else "",
        "n_obs": str(fit.n_obs),
        "n_subjects": str(fit.n_subjects),
        "note": fit.note,
    }
    return {name: value for name, value in known.items() if value}


def _description(estimates: list[Estimate], card: ModelCard | None, *, is_loadable: bool) -> str:
    terms = [row.term for row in estimates]
    parts = [card.description if card else "", estimates[0].note]
    if not is_loadable:
        parts.append("There is no loadable model, since the table is no converged linear predictor over columns.")
    elif INTERCEPT in terms:
        parts.append("A prediction is the intercept plus the sum of coefficients times columns.")
    else:
        parts.append("A prediction is the sum of coefficients times columns, without the subjects' own levels: only differences within one mean something.")
    if is_loadable and any(_is_variance(term) for term in terms):
        parts.append("It is the fixed part: the subjects' random effects are not in it.")
    return "\n\n".join(part for part in parts if part)


# ---------------------------------------------------------------------------------------------- numbers


def _is_variance(term: str) -> bool:
    return term.startswith("var(")


def _coefficients(estimates: list[Estimate]) -> Coefficients | None:
    """The linear predictor; None when a term is not a column, or there is nothing but a constant."""
    table = {row.term: row.estimate for row in estimates if row.estimate is not None and not _is_variance(row.term)}
    intercept = table.pop(INTERCEPT, 0.0)
    if not table or not all(_COLUMN.fullmatch(term) for term in table):
        return None
    return {"format": FORMAT, "model": estimates[0].model, "intercept": intercept, "coefficients": table}


def _metrics(estimates: list[Estimate]) -> dict[str, float]:
    """The table's numbers as `estimate/<term>` and so on; what is missing or infinite is left out."""
    fit = estimates[0]
    keys = _keys([row.term for row in estimates])
    found: dict[str, float | None] = {f"{number}/{keys[row.term]}": getattr(row, number) for row in estimates for number in NUMBERS}
    found |= {"r_squared": fit.r_squared, "converged": float(fit.converged), "singular": float(fit.singular)}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _keys(terms: list[str]) -> dict[str, str]:
    """The terms as MLflow takes them, without brackets and the like, and still told apart: `var(subject)` is `var_subject`."""
    keys: dict[str, str] = {}
    for term in terms:
        key = base = _NOT_IN_KEYS.sub("_", term).strip("_./ ") or "term"
        number = 2
        while key in keys.values():
            key, number = f"{base}_{number}", number + 1
        keys[term] = key
    return keys


def _csv(estimates: list[Estimate]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Estimate))
    writer.writerows(astuple(row) for row in estimates)
    return text.getvalue()
