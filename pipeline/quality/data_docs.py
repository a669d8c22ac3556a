"""Data Docs: Great Expectations' pages over the tables of the lake, as a folder of static files (`make quality`).

The pages are made to stand alone: what they would load from elsewhere (styles, scripts, a logo that is counted) is taken
out, and a policy in each forbids the rest. No value of a row is in them: results carry counts only, and an
observed value only where a check may hold it. The folder is built anew each time, with one validation a table.
"""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.quality import gx
from pipeline.quality.checks import check_of
from pipeline.quality.expectations import Kind
from pipeline.quality.gate import counts, decide
from pipeline.quality.rules import Rule, describe, rules
from pipeline.records import Check, Contract, Outcome

if TYPE_CHECKING:
    import duckdb

_SITE: Final = "docs"
_RESULTS_KEPT: Final = ("element_count", "missing_count", "missing_percent", "unexpected_percent")
_REMOTE: Final = re.compile(r"<script\b.*?</script>|<link\b[^>]*>|<img\b[^>]*>|<form\b.*?</form>|<footer\b.*?</footer>|url\('https?://[^']*'\)", re.DOTALL)
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 0 auto; padding: 1rem; color-scheme: light dark; }
table { border-collapse: collapse; width: 100%; } th, td { border: 1px solid #8888; padding: .3rem .6rem; text-align: left; vertical-align: top; }
ul { padding-left: 1.2rem; } .btn-group, .card-header + .card-body .mb-2 { display: none; } footer { display: none; }
.fa-check-circle::before { content: "✓ holds"; font-style: normal; } .fa-times::before { content: "✗ broken"; font-style: normal; }
"""


@dataclass(frozen=True, slots=True)
class DataDocs:
    """The pages' index, and the checks that they show."""

    index: Path
    checks: tuple[Check, ...]


def build_data_docs(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, str], contracts: Mapping[str, Contract], out: Path) -> DataDocs:
    """Validate tables with Great Expectations and write its pages.

    Args:
        connection: where the tables can be read.
        tables: what stands behind FROM, by dataset; those whose contract has columns are validated.
        contracts: the contracts, by dataset.
        out: the folder; what it held before is removed.
    """
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    context = gx.context(data_docs_sites=_site(out.resolve()))
    checks: dict[str, list[Check]] = {}
    for dataset, table in tables.items():
        if contracts[dataset].is_table:
            checks[dataset] = _validate(context, connection, table, contracts[dataset])
    with gx.quiet():
        context.build_data_docs(site_names=[_SITE])
    shutil.rmtree(out / "static", ignore_errors=True)
    for page in out.rglob("*.html"):
        page.write_text(_alone(page.read_text(encoding="utf-8"), out, page), encoding="utf-8")
    index = out / "index.html"
    index.write_text(_index(checks, out), encoding="utf-8")
    return DataDocs(index, tuple(check for found in checks.values() for check in found))


def _site(out: Path) -> dict[str, Any]:
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(out)}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    return {_SITE: {"class_name": "SiteBuilder", "show_how_to_buttons": False, "store_backend": store, "site_index_builder": index}}


def _validate(context: Any, connection: duckdb.DuckDBPyConnection, table: str, contract: Contract) -> list[Check]:
    """Validate one table; what is kept for the pages has no values in it."""
    layout = describe(connection, table, contract)
    every = [rule for rule in rules(contract, layout, None) if rule.unusable is None and not rule.only_sql]
    frame = gx.read_frame(connection, table, layout)
    name = _page_name(contract.dataset)
    found = gx.validate(context, name, frame, layout, every)
    checks = []
    for result, rule in zip(gx.in_order(found), every, strict=True):
        check = check_of(contract, rule, gx.measured(result, rule, frame), len(frame), "gx")
        checks.append(check)
        result.result = _shown(result.result, rule, check)
        result.success = check.outcome is Outcome.PASSED
        result.exception_info = {"raised_exception": False, "exception_message": None, "exception_traceback": None}
    gx.keep_results(context, name, found)
    return checks


def _shown(found: Mapping[str, Any], rule: Rule, check: Check) -> dict[str, Any]:
    """The parts of a result that a page may show."""
    kept = {key: found[key] for key in _RESULTS_KEPT if key in found}
    if "unexpected_percent" in kept:
        kept |= {"unexpected_count": found["unexpected_count"], "partial_unexpected_list": []}
    if "value" in check.observed:
        kept["observed_value"] = check.observed["value"]
    elif "not_evaluated" in check.observed:
        kept["observed_value"] = "could not be evaluated"
    elif rule.kind is Kind.AGGREGATE:
        kept["observed_value"] = "not shown"
    return kept


def _page_name(dataset: str) -> str:
    return dataset.replace("/", "__")


def _alone(page: str, out: Path, path: Path) -> str:
    """A page without anything that it would load, with a policy that forbids it, and with a style of its own."""
    page = _REMOTE.sub("", page)
    up = "../" * len(path.relative_to(out).parent.parts)
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_STYLE}</style>'
    body = f'<body><p><a href="{up}index.html">All tables</a></p>'
    return page.replace("</head>", head + "</head>", 1).replace("<body>", body, 1)


def _index(checks: Mapping[str, list[Check]], out: Path) -> str:
    """The list of tables with their outcome; Great Expectations' own needs scripts from elsewhere."""
    rows = []
    for dataset, found in checks.items():
        pages = sorted(out.glob(f"validations/{_page_name(dataset)}/**/*.html"))
        link = f'<a href="{html.escape(pages[-1].relative_to(out).as_posix())}">{html.escape(dataset)}</a>' if pages else html.escape(dataset)
        outcomes = counts(found)
        rows.append(f"<tr><td>{link}</td><td>{decide(found)}</td><td>{outcomes[Outcome.PASSED]}</td><td>{len(found) - outcomes[Outcome.PASSED]}</td></tr>")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><title>Data Docs</title><style>{_STYLE}</style></head>'
        "<body><h1>Data Docs</h1><p>What Great Expectations found in the current tables of the lake.</p>"
        f"<table><tr><th>table</th><th>gate</th><th>checks that hold</th><th>that don't</th></tr>{''.join(rows)}</table></body></html>\n"
    )
