"""Contracts as Markdown for people: what each dataset promises (`pipeline contracts docs`)."""

from collections.abc import Iterator, Mapping

from pipeline.quality.expectations import EXPECTATIONS, expected_words
from pipeline.records import Contract, Expectation, Layer


def contracts_markdown(contracts: Mapping[str, Contract]) -> str:
    """All contracts as one page, by layer: columns with unit, meaning and privacy class, key, and rules in words."""
    lines = ["# Datasets", "", "What each dataset promises, from its contract. `docs/contracts.md` explains the words.", ""]
    for layer in Layer:
        for contract in sorted(contracts.values(), key=lambda contract: contract.dataset):
            if contract.layer is layer:
                lines += _dataset(contract)
    return "\n".join(lines).rstrip() + "\n"


def _dataset(contract: Contract) -> Iterator[str]:
    yield f"## {contract.dataset}"
    yield ""
    yield _text(contract.description)
    yield ""
    for name, value in _facts(contract):
        yield f"- {name}: {value}"
    yield ""
    if contract.columns:
        yield "| column | type | unit | missing | privacy | meaning |"
        yield "|---|---|---|---|---|---|"
        for column in contract.columns:
            missing = "may be" if column.nullable else "never"
            yield f"| `{column.name}` | {column.type} | {_cell(column.unit or '')} | {missing} | {column.privacy} | {_cell(column.description)} |"
        yield ""
    if contract.expectations:
        yield "| rule | when it is broken | why |"
        yield "|---|---|---|"
        for expectation in contract.expectations:
            yield f"| {_cell(_rule(expectation))} | {_consequence(expectation)} | {_cell(expectation.description)} |"
        yield ""


def _facts(contract: Contract) -> Iterator[tuple[str, str]]:
    yield "owner", contract.owner
    if contract.pattern is not None:
        yield "file", f"`{contract.pattern}`"
    if contract.key:
        yield "key", ", ".join(f"`{name}`" for name in contract.key)
    if contract.as_of_column is not None:
        yield "rows after the run's nominal date are set aside by", f"`{contract.as_of_column}`"
    if contract.layer is Layer.INPUT or any(expectation.quarantine for expectation in contract.expectations):
        yield "rows that may be set aside", f"{100 * contract.max_quarantined_share:.10g} %"
    if not contract.is_table:
        yield "form", "a folder of files"


def _rule(expectation: Expectation) -> str:
    return expected_words(EXPECTATIONS[expectation.name], expectation.kwargs)


def _consequence(expectation: Expectation) -> str:
    gate = "RED" if expectation.severity == "error" else "YELLOW"
    if not expectation.quarantine:
        return f"gate {gate}"
    return "rows set aside, gate YELLOW" + ("; RED beyond the share" if gate == "RED" else "")


def _text(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")
