"""Declaring a pipeline: steps, datasets between them, and the checks that hold before anything runs."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import DeclarationError, UsageError
from pipeline.quality.contracts import load_contracts
from pipeline.records import ColumnLineage, Contract, Layer, ModelCard, Pipeline, Schedule, Step, StepKind

# Without `%`, which some lineage pages can't open, and without `.`, which joins pipeline and step.
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def ingest(name: str, *, source: str, output: str, description: str) -> Step:
    """A step that reads the source's file into a typed bronze table and sets broken rows aside."""
    return Step(name=name, kind=StepKind.INGEST, inputs=(source,), outputs=(output,), description=description)


def sql_step(name: str, sql: Path, *, inputs: Sequence[str], output: str, description: str, seeds: Mapping[str, Path] | None = None) -> Step:
    """A step that is one SELECT in a file.

    The tables are called `<layer>.<name>`; `seeds` are small CSV files shipped with the code, called `seed.<name>`.
    It has to end in an ORDER BY over a key, so that the same input gives the same bytes.
    """
    return Step(name=name, kind=StepKind.SQL, inputs=tuple(inputs), outputs=(output,), description=description, sql=sql, seeds=dict(seeds or {}))


def python_step(
    name: str, function: Callable[..., Any], *, inputs: Sequence[str], outputs: Sequence[str], description: str, column_lineage: ColumnLineage | None = None
) -> Step:
    """A step that is a pure function of tables.

    It is called with one `Table` per input, as keyword arguments named by the datasets' short names, and returns a pandas
    DataFrame for a table, `dict[str, bytes]` (file name → content) for a folder of files, or a dict from dataset name
    to those when it has several outputs. `column_lineage` says which input columns each output column is made from.
    """
    return Step(
        name=name,
        kind=StepKind.PYTHON,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        description=description,
        function=function,
        column_lineage=dict(column_lineage or {}),
    )


def define(
    *,
    name: str,
    description: str,
    owner: str,
    contracts: Path,
    schedule: Schedule,
    steps: Sequence[Step],
    estimates: str | None = None,
    figures: str | None = None,
    headline: tuple[str, str] | None = None,
    models: Mapping[str, ModelCard] | None = None,
    sample: Path | None = None,
    generate: Callable[..., None] | None = None,
) -> Pipeline:
    """A pipeline of `steps` over the contracts in a folder, checked and put in an order in which it can run.

    `sample` is a folder of input files that is used when no other is named; `generate(out, subjects=…, weeks=…, seed=…)`
    makes such a folder.

    Raises:
        DeclarationError: a name is malformed or taken twice, a dataset has no contract, no writer or two, a contract is
            not used, an SQL or seed file is missing, the steps form a cycle, or a contract file is wrong.
    """
    known = load_contracts(contracts)
    _check_names(name, steps)
    _check_datasets(steps, known)
    _check_files(steps)
    for dataset in (estimates, figures):
        if dataset is not None and dataset not in known:
            raise DeclarationError(f"pipeline {name}: {dataset!r} has no contract", hint=_known(known))
    return Pipeline(
        name=name,
        description=description,
        owner=owner,
        steps=_ordered(steps),
        contracts=known,
        schedule=schedule,
        estimates=estimates,
        figures=figures,
        headline=headline,
        models=dict(models or {}),
        sample=sample,
        generate=generate,
    )


def steps_until(pipeline: Pipeline, until: str | None) -> tuple[Step, ...]:
    """All steps, or those that `until` needs and itself.

    Raises:
        UsageError: there is no such step.
    """
    if until is None:
        return pipeline.steps
    by_name = {step.name: step for step in pipeline.steps}
    if until not in by_name:
        raise UsageError(f"pipeline {pipeline.name} has no step {until!r}", hint=f"its steps are {', '.join(by_name)}")
    writers = {output: step for step in pipeline.steps for output in step.outputs}
    needed: set[str] = set()
    waiting = [by_name[until]]
    while waiting:
        step = waiting.pop()
        needed.add(step.name)
        waiting += [writers[dataset] for dataset in step.inputs if dataset in writers and writers[dataset].name not in needed]
    return tuple(step for step in pipeline.steps if step.name in needed)


def _check_names(pipeline: str, steps: Sequence[Step]) -> None:
    for name in (pipeline, *(step.name for step in steps)):
        if not _NAME.fullmatch(name):
            raise DeclarationError(f"{name!r} is not a name for a pipeline or step", hint="use a-z, 0-9 and _, and begin with a letter")
    seen: set[str] = set()
    for step in steps:
        if step.name in seen:
            raise DeclarationError(f"pipeline {pipeline}: two steps are called {step.name!r}", hint="rename one of them")
        seen.add(step.name)


def _check_datasets(steps: Sequence[Step], known: Mapping[str, Contract]) -> None:
    for step in steps:
        for dataset in (*step.inputs, *step.outputs):
            if dataset not in known:
                raise DeclarationError(f"step {step.name}: dataset {dataset!r} has no contract", hint=_known(known))
    written = set(_writers(steps, known))
    for step in steps:
        for dataset in step.inputs:
            if dataset not in written and known[dataset].layer is not Layer.INPUT:
                raise DeclarationError(f"step {step.name} reads {dataset}, which no step writes", hint="add the step that writes it")
    unused = sorted(set(known) - written - {dataset for step in steps for dataset in step.inputs})
    if unused:
        raise DeclarationError(f"{unused[0]} has a contract, but no step reads or writes it", hint="declare the step, or delete the contract")


def _writers(steps: Sequence[Step], known: Mapping[str, Contract]) -> dict[str, str]:
    writers: dict[str, str] = {}
    for step in steps:
        for output in step.outputs:
            if output in writers:
                raise DeclarationError(f"steps {writers[output]} and {step.name} both write {output}", hint="a dataset has one writer")
            if known[output].layer is Layer.INPUT:
                raise DeclarationError(f"step {step.name} writes {output}, which is a source", hint="write to bronze, silver or gold")
            writers[output] = step.name
    return writers


def _check_files(steps: Sequence[Step]) -> None:
    for step in steps:
        for path in (*([step.sql] if step.sql else []), *step.seeds.values()):
            if not path.is_file():
                raise DeclarationError(f"step {step.name}: there is no file {path.name}", hint=f"looked for it in {path.parent.name}/")
            _check_encoding(step, path)


def _check_encoding(step: Step, path: Path) -> None:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DeclarationError(f"step {step.name}: {path.name} is not UTF-8 (byte {error.start + 1})", hint="save it as UTF-8") from error


def _ordered(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps in the order of their declaration, each moved behind the writers of what it reads."""
    writers = {output: step.name for step in steps for output in step.outputs}
    waiting, done, ordered = list(steps), set[str](), list[Step]()
    while waiting:
        ready = next((step for step in waiting if all(writers.get(dataset) in (None, *done) for dataset in step.inputs)), None)
        if ready is None:
            cycle = ", ".join(step.name for step in waiting)
            raise DeclarationError(f"steps wait for each other: {cycle}", hint="a step can't read what is made from its own output")
        waiting.remove(ready)
        done.add(ready.name)
        ordered.append(ready)
    return tuple(ordered)


def _known(known: Mapping[str, Contract]) -> str:
    return f"contracts are there for {', '.join(sorted(known))}"
