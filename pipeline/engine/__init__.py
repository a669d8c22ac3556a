"""Runs a graph of steps: what a pipeline's author uses."""

from pipeline.engine.graph import define, ingest, python_step, sql_step
from pipeline.engine.table import Table
from pipeline.records import ModelCard, Pipeline, Schedule

__all__ = ["ModelCard", "Pipeline", "Schedule", "Table", "define", "ingest", "python_step", "sql_step"]
