"""Which input columns the columns of an SQL statement are made from. The only module that imports sqlglot.

Two kinds of influence, in the words of OpenLineage's column lineage facet:

- DIRECT: the output column's value is computed from the input column (IDENTITY, TRANSFORMATION, AGGREGATION).
- INDIRECT: the input column decides which value is taken: for one output column (CONDITIONAL, WINDOW, SORT, FILTER of an aggregate), or
  for the whole output, by deciding which rows there are and in which order (JOIN, FILTER, GROUP_BY, SORT). The latter are `rows`.

What influences the rows of a common table expression influences the rows of all that reads it. So the sets are complete (a test
changes one input column at a time, and what changes has to be declared), and `rows` is rather too large than too small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from pipeline.errors import DeclarationError

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope

# Small tables that are shipped with the code: part of the code, so not an input.
SEED = "seed"


class Influence(StrEnum):
    """How an input column acts on an output."""

    DIRECT = "DIRECT"
    INDIRECT = "INDIRECT"


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """One input column, as `layer/dataset.column`, and how it acts; `subtype` is OpenLineage's word for it."""

    input: str
    influence: Influence
    subtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLineage:
    """What the output of one statement is made from: by column, and for all its rows.

    `expressions` has the SQL behind each column that is not simply copied.
    """

    columns: Mapping[str, tuple[Edge, ...]]
    rows: tuple[Edge, ...]
    expressions: Mapping[str, str]


def sql_lineage(sql: str, schemas: Mapping[str, Iterable[str]], output: str) -> StatementLineage:
    """The column lineage of one SELECT in DuckDB's SQL.

    Args:
        sql: the statement; its tables are written `layer.name`.
        schemas: the columns of each table that it reads, by `layer/name`; those of seeds by `seed/name`.
        output: the dataset that it writes, for messages.

    Raises:
        DeclarationError: the statement can't be read, or has a form whose lineage is not known (PIVOT, a recursive query).
    """
    from sqlglot.errors import SqlglotError

    try:
        return _derived(sql, tuple((name, tuple(columns)) for name, columns in sorted(schemas.items())))
    except (SqlglotError, _UnknownFormError) as error:
        reason = str(error).splitlines()[0]
        raise DeclarationError(
            f"the column lineage of {output} can't be derived: {reason}", hint="write the SQL with plain SELECTs, JOINs and CTEs", dataset=output
        ) from error


class _UnknownFormError(Exception):
    """The statement has a part of which this module does not know what it does."""


@lru_cache(maxsize=64)
def _derived(sql: str, tables: tuple[tuple[str, tuple[str, ...]], ...]) -> StatementLineage:
    import sqlglot
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import traverse_scope

    # Only the names of columns matter here; sqlglot wants a type beside each.
    schema: dict[str, object] = {}
    for name, columns in tables:
        layer, table = name.split("/", 1)
        schema.setdefault(layer, {})[table] = dict.fromkeys(columns, "VARCHAR")  # type: ignore[index]
    statements = sqlglot.parse(sql, dialect="duckdb")  # with one for a comment after the semicolon
    tree = next((each for each in statements if isinstance(each, sqlglot.exp.Query)), None)
    if tree is None:
        raise _UnknownFormError("it is not a SELECT")
    # DuckDB keeps a name's case and ignores it when it looks one up; sqlglot makes it lower case.
    spelled = {name.lower(): name for name in (*(column for _, columns in tables for column in columns), *_named(tree))}
    tree = qualify(tree, dialect="duckdb", schema=schema, quote_identifiers=False, identify=False)
    reader = _Reader({f"{name}.{column}".lower(): f"{name}.{column}" for name, columns in tables for column in columns})
    relation = None
    for scope in traverse_scope(tree):
        relation = reader.read(scope)
    if relation is None:
        raise _UnknownFormError("it is not a SELECT")
    return StatementLineage(
        columns={spelled.get(name, name): tuple(sorted(edges)) for name, edges in relation.columns.items()},
        rows=tuple(sorted(relation.rows)),
        expressions={spelled.get(name, name): text for name, node in relation.expressions.items() if (text := _text(node))},
    )


def _named(tree: exp.Expr) -> list[str]:
    """The new names that a query gives to its columns, as they are written."""
    from sqlglot import exp

    return [projection.alias for projection in tree.selects if projection.alias] if isinstance(tree, exp.Query) else []


def _text(node: exp.Expr) -> str:
    """The expression as SQL on one line; empty for a column that is only copied."""
    from sqlglot import exp

    return "" if isinstance(node, exp.Column) else node.sql(dialect="duckdb", comments=False)


@dataclass(frozen=True, slots=True)
class _Relation:
    """What a query gives: edges by column, edges of its rows, and the expression behind each column.

    A table function has no list of columns; `any_column` stands for all of them.
    """

    columns: Mapping[str, frozenset[Edge]]
    rows: frozenset[Edge]
    expressions: Mapping[str, exp.Expr] = field(default_factory=dict)
    any_column: frozenset[Edge] | None = None


class _Reader:
    """Reads the scopes of a statement, inner ones first, as `traverse_scope` gives them."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known  # `layer/dataset.column` in lower case → as it is spelled
        self._of_scope: dict[int, _Relation] = {}
        self._of_query: dict[int, _Relation] = {}

    def read(self, scope: Scope) -> _Relation:
        from sqlglot import exp

        if isinstance(scope.expression, exp.Select):
            relation = self._select(scope, scope.expression)
        elif isinstance(scope.expression, exp.SetOperation):
            relation = self._set_operation(scope, scope.expression)
        elif isinstance(scope.expression, exp.UDTF):
            edges = self._edges(scope.expression, scope)
            relation = _Relation({}, _indirect(edges, "JOIN"), any_column=_transformed(edges))
        else:
            raise _UnknownFormError(f"{type(scope.expression).__name__} is not a form that is known here")
        self._of_scope[id(scope)] = relation
        self._of_query[id(scope.expression)] = relation
        return relation

    # ------------------------------------------------------------------------------------------ relations

    def _select(self, scope: Scope, select: exp.Select) -> _Relation:
        from sqlglot import exp

        if scope.pivots:
            raise _UnknownFormError("PIVOT is not a form that is known here")
        if unknown := next((node for node in scope.find_all(exp.Columns, exp.TableColumn)), None):
            raise _UnknownFormError(f"{unknown.sql(dialect='duckdb')} stands for columns that it does not name")
        columns: dict[str, frozenset[Edge]] = {}
        expressions: dict[str, exp.Expr] = {}
        rows = self._source_rows(scope) | self._clauses(scope, select)
        for projection in select.selects:
            name, value = projection.alias_or_name, projection.unalias()
            edges = self._edges(value, scope)
            # `count(*)` has no column of its own: what it counts is decided by what decides the rows.
            columns[name] = edges or (rows if value.find(exp.AggFunc) else frozenset())
            expressions[name] = self._defining(value, scope)
            if value.find(exp.Explode, exp.Unnest):
                rows |= _indirect(edges, "JOIN")
        rows |= self._distinct(select, columns) | self._order(scope, select, columns)
        return _Relation(columns, rows, expressions)

    def _source_rows(self, scope: Scope) -> frozenset[Edge]:
        """What decides the rows of the tables that are read."""
        sources = [source for _, source in scope.selected_sources.values()]
        sources += [scope.sources[name] for name in scope.semi_or_anti_join_tables]
        return frozenset(edge for source in sources for edge in self._rows_of(source, scope))

    def _rows_of(self, source: exp.Table | Scope, scope: Scope) -> frozenset[Edge]:
        from sqlglot import exp

        if not isinstance(source, exp.Table):
            return self._relation(source).rows
        return _indirect(self._edges(source.this, scope), "JOIN") if isinstance(source.this, exp.Func) else frozenset()

    def _clauses(self, scope: Scope, select: exp.Select) -> frozenset[Edge]:
        """What JOIN, WHERE, GROUP BY, HAVING and QUALIFY look at."""
        found: set[Edge] = set()
        for join in select.args.get("joins") or []:
            found |= self._edges(join.args["on"], scope, "JOIN") if join.args.get("on") else frozenset()
        for clause, subtype in (("where", "FILTER"), ("group", "GROUP_BY"), ("having", "FILTER"), ("qualify", "FILTER")):
            if select.args.get(clause):
                found |= self._edges(select.args[clause], scope, subtype)
        if (group := select.args.get("group")) and group.args.get("all"):
            found |= self._group_by_all(scope, select)
        return frozenset(found)

    def _group_by_all(self, scope: Scope, select: exp.Select) -> frozenset[Edge]:
        from sqlglot import exp

        keys = [projection for projection in select.selects if not projection.find(exp.AggFunc)]
        return frozenset(edge for key in keys for edge in self._edges(key, scope, "GROUP_BY"))

    def _distinct(self, select: exp.Select, columns: Mapping[str, frozenset[Edge]]) -> frozenset[Edge]:
        return _all(columns, "GROUP_BY") if select.args.get("distinct") else frozenset()

    def _order(self, scope: Scope, select: exp.Select, columns: Mapping[str, frozenset[Edge]]) -> frozenset[Edge]:
        """What ORDER BY looks at; there a bare name is a column of the output."""
        from sqlglot import exp

        order = select.args.get("order")
        if order is None:
            return frozenset()
        if any(isinstance(node, exp.Var) and node.name.upper() == "ALL" for node in order.find_all(exp.Var)):
            return _all(columns, "SORT")
        own = frozenset(edge for node in order.find_all(exp.Column) if not node.table for edge in columns.get(node.name, ()))
        tables = [node for node in order.find_all(exp.Column) if node.table]
        return _indirect(own, "SORT") | frozenset(edge for node in tables for edge in self._edges(node, scope, "SORT"))

    def _set_operation(self, scope: Scope, query: exp.SetOperation) -> _Relation:
        from sqlglot import exp

        left, right = (self._relation(inner) for inner in scope.set_operation_scopes)
        names = (*left.columns, *right.columns)
        if len(left.columns) != len(right.columns) and not query.args.get("by_name"):
            raise _UnknownFormError("the two sides of a UNION, EXCEPT or INTERSECT have different numbers of columns")
        pairs = zip(names, names, strict=True) if query.args.get("by_name") else zip(left.columns, right.columns, strict=True)
        columns = {name: _transformed(left.columns.get(name, frozenset()) | right.columns.get(other, frozenset())) for name, other in pairs}
        rows = left.rows | right.rows
        if not isinstance(query, exp.Union) or query.args.get("distinct"):
            rows |= _all(columns, "FILTER")
        return _Relation(columns, rows)

    def _relation(self, scope: Scope) -> _Relation:
        try:
            return self._of_scope[id(scope)]
        except KeyError:
            raise _UnknownFormError("a recursive query is not a form that is known here") from None

    # ------------------------------------------------------------------------------------------ expressions

    def _edges(self, node: exp.Expr, scope: Scope, context: str | None = None) -> frozenset[Edge]:
        """The edges of an expression. With `context` (JOIN, FILTER, …) all of them are INDIRECT, of that subtype."""
        from sqlglot import exp

        if isinstance(node, exp.Column):
            return _indirect(self._column(node, scope), context) if context else self._column(node, scope)
        if isinstance(node, exp.Query) and id(node.unnest()) in self._of_query:
            inner = self._of_query[id(node.unnest())]
            edges = inner.rows | {edge for edges in inner.columns.values() for edge in edges}
            return _indirect(edges, context) if context else _transformed(edges)
        indirect = _indirect_parts(node)
        found = {edge for key, child in _children(node) for edge in self._edges(child, scope, context or indirect.get(key))}
        if isinstance(node, exp.Window) and node.alias:
            found |= self._named_window(node.alias, scope)
        if isinstance(node, exp.AggFunc) and not isinstance(node, (exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue)):
            return _transformed(found, "AGGREGATION")
        return frozenset(found) if isinstance(node, (exp.Alias, exp.Paren)) else _transformed(found)

    def _named_window(self, name: str, scope: Scope) -> frozenset[Edge]:
        """What the window looks at that the query's WINDOW clause calls `name`."""
        windows = {window.name: window for window in scope.expression.args.get("windows") or []}
        if name not in windows:
            raise _UnknownFormError(f"it is not known what window {name} is")
        return _indirect(self._edges(windows[name], scope), "WINDOW")

    def _column(self, node: exp.Column, scope: Scope) -> frozenset[Edge]:
        from sqlglot import exp

        source = _source(node, scope)
        if isinstance(source, exp.Table):
            return self._table_column(node, source, scope)
        relation = self._relation(source)
        if relation.any_column is not None:
            return relation.any_column
        if node.name not in relation.columns:
            raise _UnknownFormError(f"it is not known where {node.sql()} comes from")
        return relation.columns[node.name]

    def _table_column(self, node: exp.Column, table: exp.Table, scope: Scope) -> frozenset[Edge]:
        from sqlglot import exp

        if isinstance(table.this, exp.Func):
            return _transformed(self._edges(table.this, scope))
        if table.db == SEED:
            return frozenset()
        name = f"{table.db}/{table.name}.{node.name}"
        if name not in self._known:
            raise _UnknownFormError(f"it reads {name}, which is not among its inputs")
        return frozenset({Edge(self._known[name], Influence.DIRECT, "IDENTITY")})

    def _defining(self, node: exp.Expr, scope: Scope) -> exp.Expr:
        """The expression itself, or the one behind it when it only names a column of an inner query."""
        from sqlglot import exp

        if isinstance(node, exp.Column) and not isinstance(source := _source(node, scope), exp.Table):
            return self._relation(source).expressions.get(node.name, node)
        return node


def _source(node: exp.Column, scope: Scope) -> exp.Table | Scope:
    """The table or query that a column is read from; a correlated subquery finds it in a query around it."""
    around: Scope | None = scope
    while around is not None:
        if node.table in around.selected_sources:
            return around.selected_sources[node.table][1]
        if node.table in around.semi_or_anti_join_tables:
            return around.sources[node.table]
        around = around.parent
    raise _UnknownFormError(f"it is not known where {node.sql()} comes from")


def _indirect_parts(node: exp.Expr) -> Mapping[str, str]:
    """Which parts of an expression decide without being part of the value, and the word for it."""
    from sqlglot import exp

    parts: dict[type[exp.Expr], Mapping[str, str]] = {
        exp.Case: {"this": "CONDITIONAL"},
        exp.If: {"this": "CONDITIONAL"},
        exp.Window: {"partition_by": "WINDOW", "order": "WINDOW"},
        exp.Filter: {"expression": "FILTER"},
        exp.ArgMax: {"expression": "SORT"},
        exp.ArgMin: {"expression": "SORT"},
        exp.Order: {"expressions": "SORT"},
    }
    return parts.get(type(node), {})


def _children(node: exp.Expr) -> Iterator[tuple[str, exp.Expr]]:
    from sqlglot import exp

    for key, value in node.args.items():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, exp.Expr):
                yield key, child


def _indirect(edges: Iterable[Edge], subtype: str) -> frozenset[Edge]:
    """The same inputs as INDIRECT ones; what is so already keeps its subtype."""
    return frozenset(edge if edge.influence is Influence.INDIRECT else Edge(edge.input, Influence.INDIRECT, subtype) for edge in edges)


def _transformed(edges: Iterable[Edge], subtype: str = "TRANSFORMATION") -> frozenset[Edge]:
    """The same inputs after one more computation; an aggregation stays one."""
    return frozenset(
        edge if edge.influence is Influence.INDIRECT or edge.subtype == "AGGREGATION" else Edge(edge.input, Influence.DIRECT, subtype) for edge in edges
    )


def _all(columns: Mapping[str, frozenset[Edge]], subtype: str) -> frozenset[Edge]:
    return _indirect((edge for edges in columns.values() for edge in edges), subtype)
