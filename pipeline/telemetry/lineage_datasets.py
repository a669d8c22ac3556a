"""OpenLineage's inputs and outputs of a step: what a contract says, and at the step's end what was seen.

The contract's part is the same in START and in the terminal event: Marquez makes one version a run only if schema, data source
and lifecycle are equal in both. Values never stand here but minimum and maximum of `public` columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict, cast

from pipeline.errors import SettingsError
from pipeline.lake_address import dataset_place
from pipeline.records import Check, Column, ColumnStats, Contract, DatasetVersion, Outcome, Privacy, Run, SourceFile, StepRun
from pipeline.telemetry.columns import Edge, Influence, StatementLineage
from pipeline.telemetry.lineage_facets import PRODUCER

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import (
        DatasetFacet,
        InputDatasetFacet,
        OutputDatasetFacet,
        column_lineage_dataset,
        data_quality_assertions_dataset,
        schema_dataset,
    )

_SIGNS = r"[A-Za-z0-9_@+=;/.-]"
_NAMESPACE = re.compile(rf"(?:[A-Za-z][A-Za-z0-9+.-]*://)?{_SIGNS}+(?::\d+(?:/{_SIGNS}*)?)?")


def dataset_namespace(lake_name: str) -> str:
    """The namespace of a lake's datasets, `file://<name>`.

    Raises:
        SettingsError: the name has a sign that Marquez can't take. One such namespace breaks its lists for everybody, for good.
    """
    namespace = f"file://{lake_name}"
    if not is_dataset_namespace(namespace):
        raise SettingsError(f"{namespace!r} can't be a namespace of datasets in lineage", hint="set PIPELINE_LAKE_NAME to letters, digits, _ and -")
    return namespace


def _place(run: Run, dataset: str) -> tuple[str, str]:
    """A dataset's namespace and name."""
    return dataset_place(run.lake, run.lake_name, dataset)


def is_dataset_namespace(text: str) -> bool:
    """Whether a server can take a namespace of datasets and still list all of them afterwards."""
    return bool(_NAMESPACE.fullmatch(text))


# ---------------------------------------------------------------------------------------------- inputs


def input_dataset(run: Run, step: StepRun, name: str, *, ended: bool) -> InputDataset:
    """A dataset that a step reads. Only a source carries checks and counts here: it has no writer that could."""
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset

    contract = run.pipeline.contracts[name]
    facets = _contract_facets(run, contract)
    version = _version_read(run, step, name) if ended else None
    if version:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=version, producer=PRODUCER)
    seen = _seen_of_source(step, contract) if ended else {}
    namespace, place = _place(run, name)
    return InputDataset(namespace=namespace, name=place, facets=facets, inputFacets=seen or None)


def _version_read(run: Run, step: StepRun, name: str) -> str | None:
    for source in step.inputs:
        if source.source == name:
            return source.sha256
    return next((done.outputs[name].version for done in run.steps if name in done.outputs), None)


def _seen_of_source(step: StepRun, contract: Contract) -> dict[str, InputDatasetFacet]:
    facets: dict[str, InputDatasetFacet] = {}
    source = next((source for source in step.inputs if source.source == contract.dataset), None)
    if source:
        facets["dataQualityMetrics"] = _source_metrics(step, contract, source)
    if assertions := _assertions(step, contract.dataset):
        facets["dataQualityAssertions"] = assertions
    return facets


def _source_metrics(step: StepRun, contract: Contract, source: SourceFile) -> InputDatasetFacet:
    from openlineage.client.facet_v2 import data_quality_metrics_input_dataset as metrics

    columns = {
        name: metrics.ColumnMetrics(**numbers, quantiles=None) for name, numbers in _numbers(contract, step.column_stats.get(contract.dataset, ())).items()
    }
    return metrics.DataQualityMetricsInputDatasetFacet(rowCount=source.rows, bytes=source.bytes, fileCount=1, columnMetrics=columns, producer=PRODUCER)


# ---------------------------------------------------------------------------------------------- outputs


def output_dataset(run: Run, step: StepRun, name: str, lineage: StatementLineage | None, *, ended: bool) -> OutputDataset:
    """A dataset that a step writes, or has declared that it will."""
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import lifecycle_state_change_dataset as lifecycle

    contract = run.pipeline.contracts[name]
    # A run replaces a dataset by a whole new version, also the first time and also by an equal one; START could not know better.
    overwrite = lifecycle.LifecycleStateChangeDatasetFacet(lifecycleStateChange=lifecycle.LifecycleStateChange.OVERWRITE, producer=PRODUCER)
    facets = {**_contract_facets(run, contract), "lifecycleStateChange": overwrite}
    written = step.outputs.get(name) if ended else None
    if lineage and contract.columns:
        facets["columnLineage"] = _column_lineage(run, contract, lineage)
    if ended and (assertions := _assertions(step, name)):
        # The specification has this facet for inputs; the writer's place for it, which Marquez reads too, is here.
        facets["dataQualityAssertions"] = cast("DatasetFacet", assertions)
    if written:
        facets |= _written_facets(step, contract, written)
    namespace, place = _place(run, name)
    return OutputDataset(namespace=namespace, name=place, facets=facets, outputFacets=_output_statistics(written) if written else None)


def _written_facets(step: StepRun, contract: Contract, written: DatasetVersion) -> dict[str, DatasetFacet]:
    from openlineage.client.facet_v2 import data_quality_metrics_dataset as metrics
    from openlineage.client.facet_v2 import dataset_version_dataset

    columns = {
        name: metrics.ColumnMetrics(**numbers, quantiles=None) for name, numbers in _numbers(contract, step.column_stats.get(contract.dataset, ())).items()
    }
    return {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=written.version, producer=PRODUCER),
        "dataQualityMetrics": metrics.DataQualityMetricsDatasetFacet(
            rowCount=written.rows, bytes=written.bytes, fileCount=len(written.files), columnMetrics=columns, producer=PRODUCER
        ),
    }


def _output_statistics(written: DatasetVersion) -> dict[str, OutputDatasetFacet]:
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    facet = statistics.OutputStatisticsOutputDatasetFacet(rowCount=written.rows, size=written.bytes, fileCount=len(written.files), producer=PRODUCER)
    return {"outputStatistics": facet}


# ---------------------------------------------------------------------------------------------- what a contract says


def _contract_facets(run: Run, contract: Contract) -> dict[str, DatasetFacet]:
    from openlineage.client.facet_v2 import datasource_dataset, documentation_dataset, schema_dataset

    namespace, _ = _place(run, contract.dataset)
    facets: dict[str, DatasetFacet] = {
        "documentation": documentation_dataset.DocumentationDatasetFacet(description=contract.description, producer=PRODUCER),
        "dataSource": datasource_dataset.DatasourceDatasetFacet(name=namespace, uri=namespace, producer=PRODUCER),
    }
    if contract.columns:
        fields = [_schema_field(place, column) for place, column in enumerate(contract.columns, 1)]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields, producer=PRODUCER)
    return facets


def _schema_field(place: int, column: Column) -> schema_dataset.SchemaDatasetFacetFields:
    from openlineage.client.facet_v2 import schema_dataset

    description = f"{column.description} Unit: {column.unit}." if column.unit else column.description
    return schema_dataset.SchemaDatasetFacetFields(name=column.name, type=column.type, description=description, ordinal_position=place, fields=None)


# ---------------------------------------------------------------------------------------------- what was seen


class _Numbers(TypedDict):
    """What OpenLineage's `ColumnMetrics`, of which there are two, have in common."""

    nullCount: int
    distinctCount: int | None
    min: float | None
    max: float | None


def _numbers(contract: Contract, stats: tuple[ColumnStats, ...]) -> dict[str, _Numbers]:
    """The counts of each column, and the extremes of public ones."""
    public = {column.name for column in contract.columns if column.privacy is Privacy.PUBLIC}
    return {
        each.column: {
            "nullCount": each.null_count,
            "distinctCount": each.distinct_count,
            "min": each.min if each.column in public else None,
            "max": each.max if each.column in public else None,
        }
        for each in stats
    }


def _assertions(step: StepRun, dataset: str) -> data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet | None:
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as quality

    assertions = [_assertion(check) for check in step.checks if check.dataset == dataset]
    return quality.DataQualityAssertionsDatasetFacet(assertions=assertions, producer=PRODUCER) if assertions else None


def _assertion(check: Check) -> data_quality_assertions_dataset.Assertion:
    """A check; one whose broken rows were set aside did find issues, so it is no success."""
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as quality

    return quality.Assertion(
        assertion=check.expectation,
        success=check.outcome is Outcome.PASSED,
        column=check.column,
        severity=check.severity.value,
        description=check.description or None,
        expected=check.expected,
        actual=", ".join(f"{key}={value}" for key, value in check.observed.items()) or None,
        params={"outcome": check.outcome.value, "engine": check.engine},
    )


# ---------------------------------------------------------------------------------------------- column lineage


def _column_lineage(run: Run, contract: Contract, lineage: StatementLineage) -> DatasetFacet:
    """Column lineage twice: `transformations` by input for whoever knows them, `transformationType` for Marquez."""
    from openlineage.client.facet_v2 import column_lineage_dataset as columns

    fields = {
        column.name: columns.Fields(
            inputFields=_input_fields(run, edges),
            transformationType=_strongest(edges),
            transformationDescription=lineage.expressions.get(column.name),
        )
        for column in contract.columns
        if (edges := lineage.columns.get(column.name))
    }
    return columns.ColumnLineageDatasetFacet(fields=fields, dataset=_input_fields(run, lineage.rows) or None, producer=PRODUCER)


def _input_fields(run: Run, edges: tuple[Edge, ...]) -> list[column_lineage_dataset.InputField]:
    from openlineage.client.facet_v2 import column_lineage_dataset as columns

    by_input: dict[str, list[column_lineage_dataset.Transformation]] = {}
    for edge in edges:
        by_input.setdefault(edge.input, []).append(columns.Transformation(type=edge.influence.value, subtype=edge.subtype))
    return [
        columns.InputField(namespace=namespace, name=name, field=field, transformations=transformations)
        for (dataset, _, field), transformations in ((column.rpartition("."), each) for column, each in by_input.items())
        for namespace, name in [_place(run, dataset)]
    ]


def _strongest(edges: tuple[Edge, ...]) -> str:
    """The one word for a column that Marquez shows for all its inputs."""
    direct: Mapping[str, int] = {"AGGREGATION": 2, "TRANSFORMATION": 1, "IDENTITY": 0}
    found = [edge.subtype for edge in edges if edge.influence is Influence.DIRECT]
    return max(found, key=lambda subtype: direct[subtype]) if found else edges[0].subtype
