"""Column lineage is held to the truth: one input column is changed at a time, and what changes has to be declared."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import DeclarationError
from pipeline.records import Column, Contract, Expectation, Severity, Step, StepKind
from pipeline.telemetry.columns import Influence, StatementLineage, sql_lineage
from pipeline.telemetry.step_columns import step_lineage
from tests.telemetry.perturbation import Laboratory, undeclared, unseen

OUTPUT = "silver/out"
STATEMENTS = {
    "copied": "SELECT k, x FROM bronze.a",
    "computed": "SELECT k, x * 2 + y AS z, coalesce(x, y) AS c FROM bronze.a",
    "bare names from two tables": "SELECT d, y, z FROM bronze.a JOIN bronze.b ON a.k = b.k",
    "upper case": "SELECT A.K, X AS Total FROM BRONZE.A",
    "star": "SELECT * EXCLUDE (t) REPLACE (x + 1 AS x) FROM bronze.a",
    "filtered": "SELECT k, x FROM bronze.a WHERE y > 3",
    "aggregated": "SELECT k, sum(x) AS s, count(*) AS n, count(x) FILTER (WHERE y > 3) AS f FROM bronze.a GROUP BY k",
    "group by all": "SELECT k, d, avg(x) AS m FROM bronze.a GROUP BY ALL ORDER BY ALL",
    "group by place": "SELECT k, max(y) AS m FROM bronze.a GROUP BY 1",
    "having": "SELECT k, max(x) AS m FROM bronze.a GROUP BY k HAVING sum(y) > 12",
    "left join": "SELECT a.k, a.x, b.z FROM bronze.a AS a LEFT JOIN bronze.b AS b ON a.k = b.k AND b.z > 10",
    "full join using": "SELECT k, x, z FROM bronze.a FULL JOIN bronze.b USING (k)",
    "semi join": "SELECT k, x FROM bronze.a SEMI JOIN bronze.b USING (k)",
    "cross join": "SELECT a.k, a.x > m.m AS above FROM bronze.a AS a CROSS JOIN (SELECT median(z) AS m FROM bronze.b) AS m",
    "as of join": "SELECT a.k, b.z FROM bronze.a AS a ASOF JOIN bronze.b AS b ON a.k = b.k AND a.x >= b.z",
    "window": "SELECT k, d, lag(x) OVER (PARTITION BY k ORDER BY d) AS p, sum(y) OVER (PARTITION BY k) AS s FROM bronze.a",
    "named window": "SELECT k, d, lag(x) OVER w AS p, rank() OVER (v ORDER BY y) AS r FROM bronze.a WINDOW v AS (PARTITION BY k), w AS (v ORDER BY d)",
    "qualify": "SELECT k, x FROM bronze.a QUALIFY row_number() OVER (PARTITION BY k ORDER BY y, d) = 1",
    "case": "SELECT k, d, CASE WHEN y > 4 THEN x ELSE 0 END AS c, CASE k WHEN 'k1' THEN 1 ELSE y END AS o, if(x > 12, 'much', 'little') AS i FROM bronze.a",
    "ordered aggregates": "SELECT k, first(x ORDER BY d) AS f, arg_max(x, y) AS a, list(x ORDER BY y) AS l FROM bronze.a GROUP BY k",
    "scalar subquery": "SELECT k, x - (SELECT avg(z) FROM bronze.b) AS r FROM bronze.a",
    "correlated subquery": "SELECT k, d, (SELECT max(z) FROM bronze.b WHERE b.k = a.k) AS m FROM bronze.a AS a",
    "in": "SELECT k, x FROM bronze.a WHERE k IN (SELECT k FROM bronze.b WHERE z > 10)",
    "exists": "SELECT k, EXISTS (SELECT 1 FROM bronze.b WHERE b.k = a.k) AS e FROM bronze.a AS a",
    "expressions in steps": "WITH s AS (SELECT k, x / y AS q FROM bronze.a), t AS (SELECT k, avg(q) AS m FROM s GROUP BY k) SELECT k, m * 2 AS mm FROM t",
    "alias used again": "SELECT k, d, x + 1 AS u, u * 2 AS v FROM bronze.a",
    "derived table": "SELECT q.k, q.m FROM (SELECT k, max(x) AS m FROM bronze.a WHERE y > 2 GROUP BY k) AS q",
    "union": "SELECT k, x AS v FROM bronze.a UNION SELECT k, z FROM bronze.b",
    "union by name": "SELECT k, x FROM bronze.a UNION ALL BY NAME SELECT z AS x, k FROM bronze.b",
    "except": "SELECT k FROM bronze.a EXCEPT SELECT k FROM bronze.b",
    "distinct": "SELECT DISTINCT k FROM bronze.a",
    "distinct on": "SELECT DISTINCT ON (k) k, x FROM bronze.a ORDER BY k, d, y",
    "first rows": "SELECT k, x FROM bronze.a ORDER BY y, d LIMIT 3",
    "unnest": "SELECT k, unnest(string_split(t, ' ')) AS word FROM bronze.a",
    "unnest in from": "SELECT a.k, u.word FROM bronze.a AS a, unnest(string_split(a.t, ' ')) AS u(word)",
    "lambda": "SELECT k, list_transform(string_split(t, ' '), lambda w : w || k) AS l FROM bronze.a",
    "struct": "SELECT s.inner AS v FROM (SELECT {'inner': x} AS s FROM bronze.a)",
    "seed": "SELECT a.k, p.word FROM bronze.a AS a JOIN seed.words AS p ON a.t LIKE '%' || p.word || '%'",
    "constant": "SELECT k, 1 AS one FROM bronze.a",
}


@pytest.fixture(scope="module")
def laboratory() -> Iterator[Laboratory]:
    made = Laboratory()
    made.add(
        "bronze/a",
        """SELECT 'k' || n % 3 AS k, CASE WHEN n <> 5 THEN (n * 7 % 11)::DOUBLE + 10 END AS x, n * 5 % 7 AS y, DATE '2026-01-01' + (n * 3 % 10)::INT AS d,
           ['potato soup', 'rice', 'beans rice'][n % 3 + 1] AS t FROM range(12) AS r(n)""",
    )
    made.add("bronze/b", "SELECT 'k' || n AS k, (n * 3 % 5)::DOUBLE * 3 + 5 AS z FROM range(1, 5) AS r(n)")
    made.add("seed/words", "SELECT unnest(['rice', 'beans']) AS word")
    yield made
    made.connection.close()


@pytest.mark.parametrize("name", STATEMENTS)
def test_what_changes_is_declared_and_what_is_declared_direct_changes(laboratory: Laboratory, name: str) -> None:
    sql = STATEMENTS[name]
    lineage = sql_lineage(sql, laboratory.schemas, OUTPUT)
    run = laboratory.query(sql)
    key = [column for column in ("k", "d") if column in run()[0]]
    changes = laboratory.changes(["bronze/a", "bronze/b"], run, key)
    assert any(changes.values.values())
    assert undeclared(lineage, changes) == []
    assert unseen(lineage, changes) == []


@pytest.mark.parametrize("name", ["filtered", "window", "case", "left join", "correlated subquery", "in", "qualify", "ordered aggregates"])
def test_the_laboratory_notices_a_lineage_without_indirect_edges(laboratory: Laboratory, name: str) -> None:
    lineage = sql_lineage(STATEMENTS[name], laboratory.schemas, OUTPUT)
    direct = {output: tuple(edge for edge in edges if edge.influence is Influence.DIRECT) for output, edges in lineage.columns.items()}
    changes = laboratory.changes(["bronze/a", "bronze/b"], laboratory.query(STATEMENTS[name]), ["k"])
    assert undeclared(replace(lineage, columns=direct, rows=()), changes)


def test_the_laboratory_notices_a_direct_edge_that_is_none(laboratory: Laboratory) -> None:
    lineage = sql_lineage("SELECT k, x + 0 * y AS x FROM bronze.a", laboratory.schemas, OUTPUT)
    changes = laboratory.changes(["bronze/a"], laboratory.query("SELECT k, x FROM bronze.a"))
    assert unseen(lineage, changes) == ["x <- bronze/a.y"]


# ------------------------------------------------------------------------------------------------ in words


def _said(lineage: StatementLineage, output: str) -> set[str]:
    return {f"{edge.influence} {edge.subtype} {edge.input}" for edge in lineage.columns[output]}


@pytest.mark.parametrize(
    ("statement", "output", "expected"),
    [
        ("copied", "x", {"DIRECT IDENTITY bronze/a.x"}),
        ("upper case", "Total", {"DIRECT IDENTITY bronze/a.x"}),
        ("computed", "z", {"DIRECT TRANSFORMATION bronze/a.x", "DIRECT TRANSFORMATION bronze/a.y"}),
        ("aggregated", "s", {"DIRECT AGGREGATION bronze/a.x"}),
        ("aggregated", "f", {"DIRECT AGGREGATION bronze/a.x", "INDIRECT FILTER bronze/a.y"}),
        ("aggregated", "n", {"INDIRECT GROUP_BY bronze/a.k"}),
        ("window", "p", {"DIRECT TRANSFORMATION bronze/a.x", "INDIRECT WINDOW bronze/a.k", "INDIRECT WINDOW bronze/a.d"}),
        ("case", "c", {"DIRECT TRANSFORMATION bronze/a.x", "INDIRECT CONDITIONAL bronze/a.y"}),
        ("case", "o", {"DIRECT TRANSFORMATION bronze/a.y", "INDIRECT CONDITIONAL bronze/a.k"}),
        ("ordered aggregates", "f", {"DIRECT AGGREGATION bronze/a.x", "INDIRECT SORT bronze/a.d"}),
        ("correlated subquery", "m", {"DIRECT AGGREGATION bronze/b.z", "INDIRECT FILTER bronze/a.k", "INDIRECT FILTER bronze/b.k"}),
        ("expressions in steps", "mm", {"DIRECT AGGREGATION bronze/a.x", "DIRECT AGGREGATION bronze/a.y"}),
        ("seed", "word", set()),
        ("constant", "one", set()),
    ],
)
def test_edges_are_said_in_openlineages_words(laboratory: Laboratory, statement: str, output: str, expected: set[str]) -> None:
    assert _said(sql_lineage(STATEMENTS[statement], laboratory.schemas, OUTPUT), output) == expected


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("copied", set()),
        ("filtered", {"FILTER bronze/a.y"}),
        ("left join", {"JOIN bronze/a.k", "JOIN bronze/b.k", "JOIN bronze/b.z"}),
        ("group by all", {f"{what} bronze/a.{column}" for what in ("GROUP_BY", "SORT") for column in "kd"} | {"SORT bronze/a.x"}),
        ("derived table", {"FILTER bronze/a.y", "GROUP_BY bronze/a.k"}),
        ("distinct", {"GROUP_BY bronze/a.k"}),
    ],
)
def test_what_decides_the_rows_is_said_for_the_whole_output(laboratory: Laboratory, statement: str, expected: set[str]) -> None:
    rows = sql_lineage(STATEMENTS[statement], laboratory.schemas, OUTPUT).rows
    assert {f"{edge.subtype} {edge.input}" for edge in rows} == expected
    assert {edge.influence for edge in rows} <= {Influence.INDIRECT}


def test_the_sql_behind_a_column_is_told_through_inner_queries_and_a_copy_has_none(laboratory: Laboratory) -> None:
    told = sql_lineage("WITH s AS (SELECT k, sum(x) AS total FROM bronze.a GROUP BY k) SELECT k, total AS t FROM s", laboratory.schemas, OUTPUT)
    assert told.expressions == {"t": "SUM(a.x)"}


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELEC k FROM bronze.a", "Invalid expression"),
        ("SELECT nothing FROM bronze.a", "nothing"),
        ("SELECT k FROM bronze.elsewhere", "elsewhere|'k'"),
        ("PIVOT bronze.a ON k USING sum(x)", "not a SELECT"),
        ("SELECT * FROM bronze.a PIVOT (sum(x) FOR k IN ('k1'))", "PIVOT"),
        ("SELECT COLUMNS('k|x') FROM bronze.a", "COLUMNS"),
        ("SELECT a FROM bronze.a", "does not name"),
        ("WITH RECURSIVE r AS (SELECT y FROM bronze.a UNION ALL SELECT y + 1 FROM r WHERE y < 5) SELECT y FROM r", "recursive"),
        ("SELECT x FROM bronze.a UNION SELECT k, z FROM bronze.b", ""),
    ],
)
def test_what_cannot_be_derived_is_refused_rather_than_guessed(laboratory: Laboratory, sql: str, reason: str) -> None:
    with pytest.raises(DeclarationError, match=rf"silver/out can't be derived: .*({reason})") as refused:
        sql_lineage(sql, laboratory.schemas, OUTPUT)
    assert refused.value.hint


def test_the_same_text_is_read_once(laboratory: Laboratory) -> None:
    first = sql_lineage(STATEMENTS["window"], laboratory.schemas, OUTPUT)
    assert sql_lineage(STATEMENTS["window"], laboratory.schemas, OUTPUT) is first


# ------------------------------------------------------------------------------------------------ steps


def _contract(dataset: str, *columns: Column, rule: Expectation | None = None, key: tuple[str, ...] = ()) -> Contract:
    return Contract(dataset=dataset, description="", owner="", columns=columns, expectations=(rule,) if rule else (), key=key)


def test_an_ingested_table_is_its_source_and_what_can_set_a_row_aside_decides_its_rows() -> None:
    text, number = Column(name="note", type="string", description=""), Column(name="kg", type="number", description="")
    ruled, keyed = replace(text, name="code"), replace(text, name="id")
    rule = Expectation(
        name="expect_column_pair_values_a_to_be_greater_than_b", kwargs={"column_A": "code", "column_B": "kg"}, severity=Severity.WARN, quarantine=True
    )
    source = _contract("input/x", text, number, ruled, keyed, rule=rule, key=("id",))
    output = _contract("bronze/x", text, number, ruled, keyed, replace(text, name="load_id"))
    step = Step(name="x", kind=StepKind.INGEST, inputs=("input/x",), outputs=("bronze/x",), description="")
    lineage = step_lineage(step, {"input/x": source, "bronze/x": output})["bronze/x"]
    assert _said(lineage, "kg") == {"DIRECT IDENTITY input/x.kg"}
    assert "load_id" not in lineage.columns
    assert [edge.input for edge in lineage.rows] == ["input/x.kg", "input/x.code", "input/x.id"]


def test_a_seed_is_known_by_its_header_and_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("\ufeffword,weight\nrice,1\n", "utf-8")
    (tmp_path / "out.sql").write_text("SELECT k, sum(weight) AS w FROM bronze.a JOIN seed.words ON t = word GROUP BY k")
    columns = [Column(name=name, type="string", description="") for name in ("k", "t", "w")]
    step = Step(
        name="out",
        kind=StepKind.SQL,
        inputs=("bronze/a",),
        outputs=(OUTPUT,),
        description="",
        sql=tmp_path / "out.sql",
        seeds={"words": tmp_path / "words.csv"},
    )
    lineage = step_lineage(step, {"bronze/a": _contract("bronze/a", *columns[:2]), OUTPUT: _contract(OUTPUT, columns[0], columns[2])})[OUTPUT]
    assert _said(lineage, "k") == {"DIRECT IDENTITY bronze/a.k"}
    assert _said(lineage, "w") == {"INDIRECT GROUP_BY bronze/a.k", "INDIRECT JOIN bronze/a.t"}


def test_a_python_steps_lineage_is_what_it_declares() -> None:
    step = Step(name="m", kind=StepKind.PYTHON, inputs=("silver/x",), outputs=("gold/m",), description="", column_lineage={"gold/m": {"p": ("silver/x.y",)}})
    assert _said(step_lineage(step, {})["gold/m"], "p") == {"DIRECT TRANSFORMATION silver/x.y"}
    assert step_lineage(replace(step, column_lineage={}), {}) == {}
