"""Lineage pages cut the label of a job at 16 characters and of a dataset at 15: what is left has to tell them apart."""

from collections.abc import Iterable

import pytest

from pipeline.records import Pipeline
from pipeline.study import PIPELINE
from pipeline.telemetry.lineage_facets import job_name
from pipeline.testing import example_pipeline

JOB, DATASET = 16, 15


def _labels(names: Iterable[str], width: int) -> list[str]:
    """The names as a page shows them, with the mark of the cut counted in."""
    return [name if len(name) <= width else name[: width - 1] + "…" for name in names]


@pytest.mark.parametrize("pipeline", [PIPELINE, example_pipeline()], ids=lambda pipeline: pipeline.name)
def test_jobs_and_datasets_are_told_apart_by_what_a_page_shows_of_their_names(pipeline: Pipeline) -> None:
    jobs = _labels((job_name(pipeline, step) for step in pipeline.steps), JOB)
    datasets = _labels(pipeline.contracts, DATASET)
    assert len(set(jobs)) == len(pipeline.steps)
    assert len(set(datasets)) == len(pipeline.contracts)


@pytest.mark.parametrize("pipeline", [PIPELINE, example_pipeline()], ids=lambda pipeline: pipeline.name)
def test_no_name_has_a_sign_that_breaks_its_page(pipeline: Pipeline) -> None:
    assert not any("%" in name for name in (pipeline.name, *(step.name for step in pipeline.steps), *pipeline.contracts))


def test_names_that_begin_alike_would_be_noticed() -> None:
    assert len(set(_labels(["potato_study.bronze_weight", "potato_study.bronze_potato"], JOB))) == 1
