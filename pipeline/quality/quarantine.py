"""The two parts of a table: the rows that go on, and those that are set aside with their reasons.

Every row is in exactly one of them: `Verdict.bad_predicate` is never NULL. Of a landing table the contract's columns and
each row's place go on; of other tables everything. Rows stay in their order. Where some are left out they are sorted by it
all the same: DuckDB keeps it without, but then the file's row groups depend on the number of threads. When none are set
aside there is no sorting, which at ten million rows takes longer than writing them.
"""

from typing import Final

from pipeline.quality.checks import Verdict
from pipeline.quality.sql_forms import identifier
from pipeline.records import Contract, Layer

_PLACE: Final = ("source_file", "record_number", "load_id")
_ORDER: Final = '"place of the row"'


def good_rows_sql(table: str, contract: Contract, verdict: Verdict) -> str:
    """The SELECT of the rows that go on."""
    return _select(table, contract, "" if verdict.bad_predicate is None else f" WHERE NOT {verdict.bad_predicate}")


def bad_rows_sql(table: str, contract: Contract, verdict: Verdict) -> str | None:
    """The SELECT of the rows set aside, with the labels of the rules that they break in `reasons VARCHAR[]`; None when there are none."""
    if verdict.bad_predicate is None:
        return None
    return _select(table, contract, f" WHERE {verdict.bad_predicate}", f", {verdict.reasons} AS reasons")


def _select(table: str, contract: Contract, where: str, more: str = "") -> str:
    if contract.layer is Layer.INPUT:
        columns = ", ".join([*(identifier(column.name) for column in contract.columns), *_PLACE])
        return f"SELECT {columns}{more} FROM {table}" + (f"{where} ORDER BY source_file, record_number" if where else "")
    if not where:
        return f"SELECT * FROM {table}"
    return f"SELECT * EXCLUDE ({_ORDER}){more} FROM (SELECT *, row_number() OVER () AS {_ORDER} FROM {table}){where} ORDER BY {_ORDER}"
