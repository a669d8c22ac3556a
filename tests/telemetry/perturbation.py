"""A laboratory for lineage: change one input column at a time and see which output columns change."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from pipeline.telemetry.columns import Influence, StatementLineage

Rows = list[dict[str, object]]

# What is done to a column, as SQL over the row `a`, its mirror image `b` (the last row for the first) and the row's place `n`.
SHIFTED = {"DATE": "{a} + CAST(7 + n % 5 AS INTEGER)", "VARCHAR": "{a} || ' apple ' || n", "BIGINT": "{a} + n % 7 + 1", "DOUBLE": "{a} * 1.37 + n % 7 + 0.11"}
SHIFT, MISSING, MIRROR, EQUAL, GONE = "shift", "missing", "mirror", "equal", "gone"
WAYS = (SHIFT, MISSING, MIRROR)


def _expression(way: str, column: str, kind: str) -> str:
    if way == SHIFT:
        return f"CASE WHEN n % 2 = 0 THEN {SHIFTED[kind].format(a=f'a.{column}')} ELSE a.{column} END"
    return {
        MISSING: f"CASE WHEN n % 3 = 0 THEN NULL ELSE a.{column} END",
        MIRROR: f"b.{column}",
        EQUAL: f"first_value(a.{column}) OVER (ORDER BY n)",
        GONE: f"CASE WHEN n > 8 THEN a.{column} END",
    }[way]


@dataclass
class Changes:
    """Output columns that some change of an input column changed, by input column (`bronze/weight.date`).

    `values`: their values taken together; `rows`: their values in rows that persist by the output's key. The latter says
    nothing when the input column is what the key is made from, since another row may then have the same key.
    """

    key: Sequence[str]
    values: dict[str, set[str]] = field(default_factory=dict)
    rows: dict[str, set[str]] = field(default_factory=dict)

    def of(self, source: str, lineage: StatementLineage) -> set[str]:
        """What the input column changed."""
        makes_key = any(edge.input == source for column in self.key for edge in lineage.columns[column])
        return self.values.get(source, set()) | (set() if makes_key else self.rows.get(source, set()))


@dataclass
class Laboratory:
    """Tables in DuckDB, `layer.name`, whose columns can be changed and set back."""

    connection: duckdb.DuckDBPyConnection = field(default_factory=lambda: duckdb.connect(config={"threads": 1}))
    schemas: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, name: str, sql: str) -> None:
        """Make a table of a query, and remember it as it is."""
        layer, table = name.split("/")
        self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {layer}; CREATE SCHEMA IF NOT EXISTS original")
        self.connection.execute(f"CREATE TABLE original.{layer}_{table} AS SELECT *, row_number() OVER () AS n FROM ({sql})")
        self._set(name, "a.* EXCLUDE (n)")
        described = self.connection.execute(f"DESCRIBE {layer}.{table}").fetchall()
        self.schemas[name] = {column: kind for column, kind, *_ in described}

    def _set(self, name: str, columns: str) -> None:
        layer, table = name.split("/")
        original = f"original.{layer}_{table}"
        mirrored = f"(SELECT * EXCLUDE (n), (SELECT count(*) FROM {original}) + 1 - n AS place FROM {original})"
        self.connection.execute(
            f"CREATE OR REPLACE TABLE {layer}.{table} AS SELECT {columns} FROM {original} AS a JOIN {mirrored} AS b ON place = n ORDER BY n"
        )

    def changes(
        self, inputs: Iterable[str], run: Callable[[], Rows], key: Sequence[str] = (), ways: Sequence[str] = WAYS, together: Collection[str] = ()
    ) -> Changes:
        """What changes in the output of `run` with each column of the inputs, changed in several ways.

        The columns `together` are changed all at once: cheaper, for those of which nothing is expected.
        """
        before, found = run(), Changes(key)
        for name in inputs:
            apart = [column for column in self.schemas[name] if f"{name}.{column}" not in together]
            for columns in [[column] for column in apart] + [[column for column in self.schemas[name] if column not in apart]]:
                for way in ways if columns else ():
                    changed = ", ".join(f"{_expression(way, column, self.schemas[name][column])} AS {column}" for column in columns)
                    self._set(name, f"a.* EXCLUDE (n) REPLACE ({changed})")
                    after = run()
                    for column in columns:
                        found.values.setdefault(f"{name}.{column}", set()).update(changed_values(before, after))
                        found.rows.setdefault(f"{name}.{column}", set()).update(changed_rows(before, after, key))
            self._set(name, "a.* EXCLUDE (n)")
        return found

    def query(self, sql: str) -> Callable[[], Rows]:
        """A run that executes SQL."""

        def run() -> Rows:
            cursor = self.connection.execute(sql)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        return run


def changed_values(before: Rows, after: Rows) -> set[str]:
    """The columns whose values, taken together, are others."""
    return {column for column in [*before, *after, {}][0] if _all(before, column) != _all(after, column)}


def changed_rows(before: Rows, after: Rows, key: Sequence[str]) -> set[str]:
    """The columns with another value in a row that persists by its key."""
    old, new = _by_key(before, key), _by_key(after, key)
    return {column for place in old.keys() & new.keys() for column in old[place] if repr(old[place][column]) != repr(new[place][column])}


def _all(rows: Rows, column: str) -> Counter[str]:
    return Counter(repr(row[column]) for row in rows)


def _by_key(rows: Rows, key: Sequence[str]) -> Mapping[tuple[str, ...], dict[str, object]]:
    """The rows by their key; none when there is no key, or two rows share one."""
    found = {tuple(repr(row[column]) for column in key): row for row in rows} if key else {}
    return found if len(found) == len(rows) else {}


def undeclared(lineage: StatementLineage, changes: Changes) -> list[str]:
    """Changes that the lineage does not explain: nothing of the kind makes it sound."""
    rows = {edge.input for edge in lineage.rows}
    return sorted(
        f"{output} <- {source}"
        for source in changes.values
        for output in changes.of(source, lineage)
        if source not in rows | {edge.input for edge in lineage.columns.get(output, ())}
    )


def unseen(lineage: StatementLineage, changes: Changes) -> list[str]:
    """DIRECT edges of which no change was seen: nothing of the kind means that it does not claim too much."""
    direct = [(output, edge.input) for output, edges in lineage.columns.items() for edge in edges if edge.influence is Influence.DIRECT]
    return sorted({f"{output} <- {source}" for output, source in direct if output not in changes.of(source, lineage)})
