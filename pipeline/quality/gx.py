"""Great Expectations behind one door: the only module that imports it, and it does so late (its import takes seconds).

It runs over pandas, with the whole of the needed columns in memory (some 50 to 200 bytes a cell of text, 8 a number):
at ten million rows that is gigabytes. Its analytics are off, and its results carry no values.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pipeline.quality.expectations import EXPECTATIONS, Kind, Parameter
from pipeline.quality.measuring import Measure, Number
from pipeline.quality.regexes import python_pattern
from pipeline.quality.rules import Layout, Rule
from pipeline.records import Expectation, JsonValue

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

# No values of rows in results: not even a sample of unexpected ones.
RESULT_FORMAT: Final = {"result_format": "BASIC", "partial_unexpected_count": 0}
_MOMENTS: Final = frozenset({"date", "timestamp"})


def measure_with_gx(connection: duckdb.DuckDBPyConnection, table: str, layout: Layout, every: Sequence[Rule]) -> list[Measure | None]:
    """Measure rules with Great Expectations, all in one validation; the verdicts are its own. None: it could not evaluate the rule."""
    frame = read_frame(connection, table, layout)
    found = validate(context(), "contract", frame, layout, every)
    return [measured(result, rule, frame) for result, rule in zip(in_order(found), every, strict=True)]


def validate(context: Any, name: str, frame: pd.DataFrame, layout: Layout, every: Sequence[Rule]) -> Any:
    """Great Expectations' own results of rules about a frame, under a name in a context."""
    gx = import_gx()
    suite = gx.ExpectationSuite(name, expectations=[gx_expectation(gx, rule.expectation, layout, number) for number, rule in enumerate(every)])
    whole = context.data_sources.add_pandas(name).add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
    with quiet():
        return whole.get_batch({"dataframe": frame}).validate(context.suites.add(suite), result_format=dict(RESULT_FORMAT))


def in_order(found: Any) -> list[Any]:
    """Results in the order of their rules; they come grouped by column, each with the number that its rule went with."""
    return sorted(found.results, key=lambda result: int(result.expectation_config.meta["rule"]))


def keep_results(context: Any, name: str, found: Any) -> None:
    """Put results where a context's pages are built from."""
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import ExpectationSuiteIdentifier, ValidationResultIdentifier

    run = RunIdentifier(run_name="current", run_time=datetime.now(UTC))
    found.meta |= {"run_id": run, "validation_time": run.run_time, "batch_parameters": None}
    suite = ExpectationSuiteIdentifier(name=name)
    key = ValidationResultIdentifier(expectation_suite_identifier=suite, run_id=run, batch_identifier=name)
    context.validation_results_store.store_validation_results(found, key, suite)


def read_frame(connection: duckdb.DuckDBPyConnection, table: str, layout: Layout) -> pd.DataFrame:
    """The contract's columns as a frame in which a missing value and NaN are two things.

    NumPy's doubles can't tell them apart; a column with NaN is handed over as Arrow doubles, which can.
    """
    import pandas as pd

    names = ", ".join(column.sql for column in layout.usable.values()) or "0 AS nothing"
    arrow: Any = connection.sql(f"SELECT {names} FROM {table}").to_arrow_table()
    frame = pd.DataFrame({name: _series(arrow.column(name), column.type) for name, column in layout.usable.items()}, copy=False)
    return frame if len(frame.columns) else pd.DataFrame(index=range(arrow.num_rows))


def _series(values: Any, column_type: str) -> pd.Series[Any]:
    """One Arrow column as a pandas series of a type that Great Expectations takes, missing values kept apart from NaN."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    if column_type == "number":
        doubles = pc.add(values.cast(pa.float64()), 0.0)  # -0.0 becomes 0.0: pandas tells them apart in keys, beside a NaN
        has_nan = pc.any(pc.is_nan(doubles)).as_py()
        return pd.Series(pd.arrays.ArrowExtensionArray(doubles)) if has_nan else pd.Series(doubles.to_pandas(), dtype="float64")
    if column_type == "integer":
        return pd.Series(values.cast(pa.int64()).to_pandas(types_mapper=lambda _: pd.Int64Dtype()), dtype="Int64")
    if column_type == "boolean":
        return pd.Series(values.to_pandas(types_mapper=lambda _: pd.BooleanDtype()), dtype="boolean")
    if column_type in _MOMENTS:
        return pd.Series(values.cast(pa.timestamp("us")).to_pandas(), dtype="datetime64[us]")
    return pd.Series(values.to_pandas(), dtype="str")


def import_gx() -> Any:
    """Great Expectations, with its analytics off before it is imported and its log at warnings (it logs frames at debug level)."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(max(logging.WARNING, logging.getLogger().level))
    with quiet():
        import great_expectations

    return great_expectations


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of the library's own: of its imports for newer Pythons, of NumPy about sums of infinities.

    A caller that turns warnings into errors would have them change its verdicts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def context(**stores: Any) -> Any:
    """A context that lives in memory and writes nothing, not even its default documentation folder."""
    gx = import_gx()
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars={"globally": False, "metric_calculations": False},
        analytics_enabled=False,
        **stores,
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def gx_expectation(gx: Any, expectation: Expectation, layout: Layout, number: int) -> Any:
    """An expectation of a contract as Great Expectations' own object, with `number` to find its result by."""
    name = "".join(part.capitalize() for part in expectation.name.split("_"))
    kind, column = EXPECTATIONS[expectation.name], layout.usable.get(str(expectation.column))
    kwargs = {key: _value(value, kind.parameters.get(key), column.type if column else "") for key, value in expectation.kwargs.items() if value is not None}
    # Rules about rows ignore missing values. For these it is not the default, and pandas can't compare them.
    if "column_A" in kind.parameters:
        kwargs["ignore_row_if"] = "either_value_is_missing"
    elif "column_list" in kind.parameters and kind.kind is Kind.ROW:
        kwargs["ignore_row_if"] = "any_value_is_missing"
    return getattr(gx.expectations, name)(**kwargs, meta={"rule": number})


def _value(value: JsonValue, parameter: Parameter | None, column_type: str) -> Any:
    """A contract's parameter as Great Expectations takes it."""
    if isinstance(value, list) and parameter in (Parameter.REGEXES, Parameter.VALUES):
        return [_value(item, Parameter.REGEX if parameter is Parameter.REGEXES else Parameter.BOUND, column_type) for item in value]
    if isinstance(value, str) and parameter is Parameter.REGEX:
        return python_pattern(value)
    if isinstance(value, str) and parameter is Parameter.BOUND and column_type in _MOMENTS:
        return datetime.fromisoformat(value)
    return value


def measured(result: Any, rule: Rule, frame: pd.DataFrame) -> Measure | None:
    """One of Great Expectations' results as a measure; None where it raised (its message may hold values, and is left there)."""
    if _raised(result.exception_info):
        return None
    found: Mapping[str, Any] = result.result
    rows, column = len(frame), rule.expectation.column
    if rule.kind is Kind.AGGREGATE:
        considered = int(frame[column].notna().sum()) if column else rows
        return Measure(rows=rows, considered=considered, value=_number(found.get("observed_value")), success=bool(result.success))
    considered = rows - int(found.get("missing_count") or 0)
    return Measure(rows=rows, considered=considered, unexpected=int(found["unexpected_count"]), success=bool(result.success))


def _raised(exception_info: Mapping[str, Any]) -> bool:
    """Whether an expectation, or one of the metrics that it needs, raised: told of itself, or by metric."""
    flags = [exception_info, *(value for value in exception_info.values() if isinstance(value, dict))]
    return any(flag.get("raised_exception") for flag in flags)


def _number(value: Any) -> Number:
    """An observed value that is one number or date; anything else (lists of values) is not taken over."""
    if isinstance(value, datetime):
        return value if value == value else None  # not pandas' NaT
    if hasattr(value, "item"):
        value = value.item()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
