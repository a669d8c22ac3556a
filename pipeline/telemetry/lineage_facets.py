"""OpenLineage facets of jobs and runs. Imports openlineage inside functions, since it takes a quarter of a second.

Marquez shows a job's description and link from the last event alone, so every event carries all facets of its job.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pipeline._version import __version__
from pipeline.records import Failure, Pipeline, Run, State, Step, StepKind, StepRun
from pipeline.settings import Settings, mask
from pipeline.telemetry.manifest import span_hex

if TYPE_CHECKING:
    from openlineage.client.facet_v2 import JobFacet, RunFacet, parent_run

PRODUCER = f"urn:goldtrace:{__version__}"
INTEGRATION = "GOLDTRACE"
# `goldtrace_facet.schema.json` beside this file.
RUN_FACET_SCHEMA = "urn:goldtrace:facet:run:1"
_ENDED = {State.FAILED: "failed", State.ABORTED: "was stopped", State.LOST: "was lost: its process is gone"}


def job_name(pipeline: Pipeline, step: Step | None = None) -> str:
    """`pipeline`, or `pipeline.step`: the form that Marquez stores and shows as it was sent."""
    return pipeline.name if step is None else f"{pipeline.name}.{step.name}"


# ---------------------------------------------------------------------------------------------- jobs


def job_facets(run: Run, step: Step | None = None) -> dict[str, JobFacet]:
    """What stands about the pipeline's job, or a step's: meaning, owner, type, code."""
    from openlineage.client.facet_v2 import documentation_job, job_type_job, ownership_job, source_code_location_job, sql_job

    facets: dict[str, JobFacet] = {
        "documentation": documentation_job.DocumentationJobFacet(description=(step or run.pipeline).description, producer=PRODUCER),
        "ownership": ownership_job.OwnershipJobFacet(owners=[ownership_job.Owner(name=run.pipeline.owner, type="OWNER")], producer=PRODUCER),
        "jobType": job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration=INTEGRATION, jobType=step.kind.value.upper() if step else "PIPELINE", producer=PRODUCER
        ),
    }
    path = _path_in_repository(_code_file(run.pipeline, step), run.code.root) if step else ""
    if path is not None and run.code.repository and run.code.commit:
        facets["sourceCodeLocation"] = source_code_location_job.SourceCodeLocationJobFacet(
            type="git",
            url=browsable(run.code.repository, run.code.commit, path),
            repoUrl=run.code.repository,
            path=path or None,
            version=run.code.commit,
            branch=run.code.branch,
            producer=PRODUCER,
        )
    if step and step.sql:
        facets["sql"] = sql_job.SQLJobFacet(query=step.sql.read_text("utf-8"), dialect="duckdb", producer=PRODUCER)
    return facets


def browsable(repository: str, commit: str, path: str) -> str:
    """The page that shows a file (or, without a path, the tree) at a commit, in the form of the repository's host."""
    base, file = repository.rstrip("/"), quote(path)
    if "bitbucket.org" in base:
        return f"{base}/src/{commit}/{file}"
    dash = "/-" if "gitlab" in base else ""
    return f"{base}{dash}/blob/{commit}/{file}" if path else f"{base}{dash}/tree/{commit}"


def _code_file(pipeline: Pipeline, step: Step) -> Path | None:
    """The file that says what a step does: its SQL, its function's module, or the contract of what it ingests."""
    if step.sql or step.kind is StepKind.INGEST:
        return step.sql or pipeline.contracts[step.inputs[0]].path
    return Path(step.code.__code__.co_filename) if step.code else None


def _path_in_repository(file: Path | None, root: Path | None) -> str | None:
    """A file's path in the run's git work tree; None outside of it, and for installed packages."""
    if file is None or root is None or "site-packages" in file.parts:
        return None
    resolved, top = file.resolve(), root.resolve()
    return resolved.relative_to(top).as_posix() if resolved.is_relative_to(top) else None


# ---------------------------------------------------------------------------------------------- runs


def run_facets(run: Run, settings: Settings, step: StepRun | None = None, *, ended: bool) -> dict[str, RunFacet]:
    """What stands about one execution; what is only known at its end (state, gate, error) when it has `ended`."""
    facets: dict[str, RunFacet] = {
        "processing_engine": _engine(run, step),
        "tags": _tags(run),
        "goldtrace": goldtrace_facet(run, settings, step, ended=ended),
    }
    if parent := _parent(run, settings, step):
        facets["parent"] = parent
    if run.as_of:
        facets["nominalTime"] = _nominal_time(run)
    record = step or run
    if ended and record.state is not State.COMPLETED:
        facets["errorMessage"] = error_facet(_error_message(run, step), record.failure.stacktrace if record.failure else "")
    return facets


def _engine(run: Run, step: StepRun | None) -> RunFacet:
    from openlineage.client.facet_v2 import processing_engine_run

    if step is None:
        name, version = "goldtrace", run.code.version
    elif step.step.kind is StepKind.PYTHON:
        name, version = "python", run.process.python
    else:
        name, version = "duckdb", run.libraries.get("duckdb", "unknown")
    return processing_engine_run.ProcessingEngineRunFacet(name=name, version=version, openlineageAdapterVersion=__version__, producer=PRODUCER)


def _tags(run: Run) -> RunFacet:
    from openlineage.client.facet_v2 import tags_run

    dirty = None if run.code.dirty is None else str(run.code.dirty).lower()
    tags = {"environment": run.environment, "version": run.code.version, "commit": run.code.commit, "branch": run.code.branch, "dirty": dirty}
    fields = [tags_run.TagsRunFacetFields(key=key, value=value, source=INTEGRATION) for key, value in tags.items() if value]
    return tags_run.TagsRunFacet(tags=fields, producer=PRODUCER)


def _nominal_time(run: Run) -> RunFacet:
    """The nominal day's start, and that of the next run by the pipeline's schedule."""
    from openlineage.client.facet_v2 import nominal_time_run

    assert run.as_of is not None
    start = datetime.combine(run.as_of, time(), UTC)
    end = start + run.pipeline.schedule.every
    return nominal_time_run.NominalTimeRunFacet(nominalStartTime=_zulu(start), nominalEndTime=_zulu(end), producer=PRODUCER)


def _zulu(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _parent(run: Run, settings: Settings, step: StepRun | None) -> RunFacet | None:
    """A step's parent is its pipeline's run; the pipeline's is the outer job, if one started it. The root is the outermost."""
    own = (settings.openlineage_namespace, run.pipeline.name, str(run.id))
    outer = run.caller.openlineage_parent
    if outer is not None and not _is_uuid(outer[2]):
        outer = None  # OpenLineage knows runs by UUID: another id would be refused
    parent = own if step else outer
    return _parent_facet(parent, root=outer or own) if parent else None


def _parent_facet(parent: tuple[str, str, str], root: tuple[str, str, str]) -> parent_run.ParentRunFacet:
    from openlineage.client.facet_v2 import parent_run

    return parent_run.ParentRunFacet(
        run=parent_run.Run(runId=parent[2], facets=None),
        job=parent_run.Job(namespace=parent[0], name=parent[1], facets=None),
        root=parent_run.Root(run=parent_run.RootRun(runId=root[2], facets=None), job=parent_run.RootJob(namespace=root[0], name=root[1], facets=None)),
        producer=PRODUCER,
    )


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


# ---------------------------------------------------------------------------------------------- errors


def error_facet(message: str, stacktrace: str = "") -> RunFacet:
    """Why a run failed, in words that were cleaned of values before."""
    from openlineage.client.facet_v2 import error_message_run

    return error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage="PYTHON", stackTrace=stacktrace or None, producer=PRODUCER)


def _error_message(run: Run, step: StepRun | None) -> str:
    record = step or run
    message = record.failure.message if record.failure else f"it {_ENDED.get(record.state, 'ended without a state')}"
    name = step.step.name if step else _failed_step(run, run.failure)
    # One that names its step already says it better.
    return message if name is None or f"step {name}" in message else f"step {name}: {message}"


def _failed_step(run: Run, failure: Failure | None) -> str | None:
    """The step that a run ended in: said by its failure, or the first one that did not complete."""
    if failure and failure.step:
        return failure.step
    return next((step.step.name for step in run.steps if step.state is not State.COMPLETED), None)


# ---------------------------------------------------------------------------------------------- our own facet


def goldtrace_facet(run: Run, settings: Settings, step: StepRun | None, *, ended: bool) -> RunFacet:
    """Where the rest of what is known about the run is: flat, as Marquez shows nested objects folded."""
    trace, span = run.id.hex, span_hex(step.id if step else run.id)
    address = f"{mask(settings.trace_url).rstrip('/')}/trace/{trace}"
    return _goldtrace_class()(
        traceId=trace,
        spanId=span,
        traceUrl=f"{address}?uiFind={span}" if step else address,
        reportUrl=f"{mask(settings.report_url).rstrip('/')}/{quote(run.bundle.name)}/report.html",
        bundle=run.bundle.name,
        state=_told_state((step or run).state) if ended else None,
        gate=run.gate.value if ended and run.gate and step is None else None,
        rowsQuarantined=sum(step.rows_quarantined.values()) if ended and step and step.outputs else None,
        producer=PRODUCER,
    )


def _told_state(state: State) -> str:
    """The state of what has ended; what nobody said the end of was aborted."""
    return State.ABORTED.value if state is State.RUNNING else state.value


@cache
def _goldtrace_class() -> Callable[..., RunFacet]:
    import attr
    from openlineage.client.facet_v2 import RunFacet

    @attr.define
    class GoldtraceRunFacet(RunFacet):
        traceId: str = attr.field(kw_only=True)  # noqa: N815 - OpenLineage's spelling
        spanId: str = attr.field(kw_only=True)  # noqa: N815
        traceUrl: str = attr.field(kw_only=True)  # noqa: N815
        reportUrl: str = attr.field(kw_only=True)  # noqa: N815
        bundle: str = attr.field(kw_only=True)
        state: str | None = attr.field(default=None, kw_only=True)
        gate: str | None = attr.field(default=None, kw_only=True)
        rowsQuarantined: int | None = attr.field(default=None, kw_only=True)  # noqa: N815

        @staticmethod
        def _get_schema() -> str:
            return RUN_FACET_SCHEMA

    return GoldtraceRunFacet
