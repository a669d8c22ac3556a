"""What is written for people: the page of all contracts, Data Docs, and the document about contracts."""

import re
from pathlib import Path

import duckdb
import pytest

from pipeline.quality import expectations
from pipeline.quality.contract_docs import contracts_markdown
from pipeline.quality.contracts import load_contract
from pipeline.quality.data_docs import build_data_docs
from pipeline.records import Contract, Outcome, Privacy, Severity
from tests.quality.quality_support import check_of, column, make_table, rule, source_contract, table_contract

BETWEEN = "expect_column_values_to_be_between"


def test_the_page_of_contracts_has_columns_rules_and_consequences_by_layer() -> None:
    source = source_contract(
        [column("id", "string", nullable=False, privacy=Privacy.IDENTIFIER)],
        rule("expect_column_values_to_be_in_set", column="id", value_set=["a|b"], quarantine=True),
        key=("id",),
        max_quarantined_share=0.05,
    )
    table = table_contract([column("x")], rule(BETWEEN, column="x", min_value=1.5, strict_min=True, mostly=0.9, severity=Severity.WARN))
    files = Contract(dataset="gold/figures", description="Two\nlines.", owner="us")
    page = contracts_markdown({"gold/figures": files, "silver/t": table, "input/t": source})
    assert re.findall("^## (.*)$", page, re.MULTILINE) == ["input/t", "silver/t", "gold/figures"]
    assert "| `id` | string |  | never | identifier | x |" in page
    assert "- file: `*.csv`\n- key: `id`\n- rows that may be set aside: 5 %\n" in page
    assert "| id is one of {a\\|b} | rows set aside, gate YELLOW; RED beyond the share |  |" in page
    assert "| 1.5 < x for at least 90 % of the values | gate YELLOW |  |" in page
    assert page.endswith("Two lines.\n\n- owner: us\n- form: a folder of files\n")


def test_the_document_s_example_is_a_contract(root: Path, tmp_path: Path) -> None:
    (example,) = re.findall("```yaml\n(.*?)```", (root / "docs" / "contracts.md").read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "weight.yaml"
    path.write_text(example, encoding="utf-8")
    assert load_contract(path).dataset == "input/weight"


def test_the_document_lists_every_expectation_with_its_parameters(root: Path) -> None:
    text = (root / "docs" / "contracts.md").read_text(encoding="utf-8")
    listed = {cells[1].strip(" `"): re.findall("`(.*?)`", cells[2]) for line in text.splitlines() if (cells := line.split("|"))[1:2] and "`expect_" in cells[1]}
    assert listed == {name: list(expectation.parameters) for name, expectation in expectations.EXPECTATIONS.items()}
    sql, only_gx = text.split("have no SQL form")
    assert all((name in sql) == (expectation.build is not None) for name, expectation in expectations.EXPECTATIONS.items())
    assert only_gx


@pytest.fixture
def docs_folder(db: duckdb.DuckDBPyConnection, tmp_path: Path) -> Path:
    """Data Docs of a table with values that are easy to find."""
    columns = [column("who", "string", privacy=Privacy.IDENTIFIER), column("weight_kg", privacy=Privacy.PERSONAL), column("n", "integer")]
    contract = table_contract(
        columns,
        rule("expect_column_values_to_match_regex", column="who", regex="^[a-z]$"),
        rule("expect_column_distinct_values_to_be_in_set", column="who", value_set=["a"]),
        rule("expect_column_most_common_value_to_be_in_set", column="who", value_set=["a"]),
        rule("expect_column_quantile_values_to_be_between", column="weight_kg", quantile_ranges={"quantiles": [0.5], "value_ranges": [[0, 1]]}),
        rule(BETWEEN, column="weight_kg", max_value=400),
        rule("expect_column_max_to_be_between", column="weight_kg", max_value=400),
        rule("expect_column_max_to_be_between", column="n", max_value=77777),
    )
    table = make_table(db, columns, [["SECRETa", 8181.25, 77777], ["SECRETb", 9191.25, 2], ["SECRETb", None, 3]])
    files = Contract(dataset="gold/figures", description="x", owner="us")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "old.html").write_text("old")
    made = build_data_docs(db, {"silver/t": table, "gold/figures": "nowhere"}, {"silver/t": contract, "gold/figures": files}, tmp_path / "docs")
    assert made.index == tmp_path / "docs" / "index.html"
    assert check_of(made.checks, BETWEEN).outcome is Outcome.FAILED
    return tmp_path / "docs"


def test_data_docs_stand_alone_and_show_no_values(docs_folder: Path) -> None:
    pages = {path.relative_to(docs_folder).as_posix(): path.read_text(encoding="utf-8") for path in docs_folder.rglob("*") if path.is_file()}
    assert "old.html" not in pages
    text = "\n".join(pages.values())
    assert not re.findall("SECRET|8181|9191|8686", text)
    assert not re.findall(r"<script|<link|<img|<form|url\(", text)
    assert text.count("Content-Security-Policy") == len(pages)
    (validation,) = [page for name, page in pages.items() if name.startswith("validations/")]
    assert "2 unexpected values found" in validation
    assert "77777" in validation, "the greatest value of a public column may be shown"
    links = [(Path(name).parent / href, name) for name, page in pages.items() for href in re.findall(r'href="([^"#:]+)"', page)]
    assert all((docs_folder / target).resolve().is_file() for target, _ in links)
    assert '<td><a href="validations/silver__t/' in pages["index.html"]
    assert "</a></td><td>RED</td>" in pages["index.html"]
