"""A step's SQL file: one SELECT over the tables that the step declares."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.errors import StepError

if TYPE_CHECKING:
    import duckdb

    from pipeline.records import Step

_NOTHING = re.compile(r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
_LAYERS = ("bronze", "silver", "gold")


def read_select(connection: duckdb.DuckDBPyConnection, step: Step) -> str:
    """The SELECT in the step's file, ready to stand in brackets.

    Raises:
        StepError: the file holds something else, or a table is read that the step doesn't declare.
    """
    import duckdb

    assert step.sql is not None  # `sql_step` sets it
    text = step.sql.read_text(encoding="utf-8")
    try:
        kinds = [statement.type.name for statement in connection.extract_statements(text)]
    except duckdb.ParserException as error:
        raise StepError(str(error), hint=f"mend {step.sql.name}", step=step.name) from error
    if kinds not in (["SELECT"], ["MULTI"]):  # the latter is a PIVOT
        held = f"{len(kinds)} statements" if len(kinds) > 1 else f"a statement of kind {kinds[0]}" if kinds else "no statement"
        raise StepError(f"step {step.name}: {step.sql.name} holds {held}", hint="an SQL step is one SELECT", step=step.name)
    _refuse_undeclared(connection, step, text)
    return _without_end(connection, text) + "\n"  # a comment may be its last line


def _refuse_undeclared(connection: duckdb.DuckDBPyConnection, step: Step, text: str) -> None:
    """Lineage and `--until` know what a step declares: it may read nothing else."""
    import duckdb

    names: set[str] = set()
    with suppress(duckdb.Error):  # what is wrong with it is told when it is run
        names = connection.get_table_names(text, qualified=True)
    read = {name.replace(".", "/", 1) for name in names if name.partition(".")[0] in _LAYERS}
    undeclared = sorted(read - set(step.inputs))
    if undeclared:
        text = f"step {step.name} reads {undeclared[0]}, which is not among its inputs"
        raise StepError(text, hint=f"declare it, or mend {step.sql.name if step.sql else ''}; its inputs are {', '.join(step.inputs)}", step=step.name)


def _without_end(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    """The statement without its semicolon and what follows. One in a string or a comment is not it: what is before doesn't parse."""
    for found in re.finditer(";", text):
        if _NOTHING.fullmatch(text, found.end()) and _is_whole(connection, text[: found.start()]):
            return text[: found.start()]
    return text


def _is_whole(connection: duckdb.DuckDBPyConnection, text: str) -> bool:
    import duckdb

    try:
        return len(connection.extract_statements(text)) == 1
    except duckdb.ParserException:
        return False
