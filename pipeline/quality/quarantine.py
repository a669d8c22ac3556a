"""The two parts of a table: the rows that go on, and those that are set aside with their reasons.

Every row is in exactly one of them: `Verdict.bad_predicate` is never NULL. Of a landing table the contract's columns and
each row's place go on; of other tables everything. Rows stay in their order, which DuckDB keeps without being told
(`preserve_insertion_order`): sorting ten million rows takes longer than writing them.
"""

from typing import Final

from pipeline.quality.checks import Verdict
from pipeline.quality.sql_forms import identifier
from pipeline.records import Contract, Layer

_PLACE: Final = ("source_file", "record_number", "load_id")


def good_rows_sql(table: str, contract: Contract, verdict: Verdict) -> str:
    """The SELECT of the rows that go on."""
    return _select(table, contract, "" if verdict.bad_predicate is None else f" WHERE NOT {verdict.bad_predicate}")


def bad_rows_sql(table: str, contract: Contract, verdict: Verdict) -> str | None:
    """The SELECT of the rows set aside, with the labels of the rules that they break in `reasons VARCHAR[]`; None when there are none."""
    if verdict.bad_predicate is None:
        return None
    return _select(table, contract, f" WHERE {verdict.bad_predicate}", f", {verdict.reasons} AS reasons")


def _select(table: str, contract: Contract, where: str, more: str = "") -> str:
    columns = ", ".join([*(identifier(column.name) for column in contract.columns), *_PLACE]) if contract.layer is Layer.INPUT else "*"
    return f"SELECT {columns}{more} FROM {table}{where}"
