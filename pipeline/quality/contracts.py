"""Loads contracts: YAML files of one dataset each, checked against one JSON Schema and against themselves.

A run's loader stops at the first problem; `check` lists all of them. Both use the same code and the same schema.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pipeline.errors import DeclarationError
from pipeline.quality.contract_meaning import meaning_problems
from pipeline.quality.contract_schema import schema
from pipeline.quality.expectations import EXPECTATIONS, NOT_HERE
from pipeline.quality.json_schema import Violation, violations
from pipeline.quality.yaml_source import Problem, Source, read_yaml, shown_path
from pipeline.records import Column, Contract, Expectation, Privacy, Severity

SUFFIXES: Final = (".yaml", ".yml")


def load_contract(path: Path) -> Contract:
    """The contract in one file.

    Raises:
        DeclarationError: it can't be read, or something in it is wrong; names file and line.
    """
    contract, problems = _examine(path)
    if contract is None:
        raise _error(problems)
    return contract


def load_contracts(folder: Path) -> dict[str, Contract]:
    """The contracts of all YAML files in a folder, by dataset, sorted by name.

    Raises:
        DeclarationError: as `load_contract`; or there is no contract, or two are of one dataset.
    """
    contracts, problems = _examine_all(folder)
    if problems:
        raise _error(problems)
    return {contract.dataset: contract for contract in sorted(contracts, key=lambda contract: contract.dataset)}


def check(folder: Path) -> list[Problem]:
    """Everything that is wrong with the contracts of a folder, by file and line."""
    return _examine_all(folder)[1]


def _error(problems: list[Problem]) -> DeclarationError:
    first = problems[0]
    more = f" (and {len(problems) - 1} more: pipeline contracts check)" if len(problems) > 1 else ""
    return DeclarationError(f"{first}{more}", hint=first.hint, file=first.file, line=first.line)


def _examine_all(folder: Path) -> tuple[list[Contract], list[Problem]]:
    files = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES) if folder.is_dir() else []
    if not files:
        return [], [Problem(shown_path(folder), 1, "no contracts are here", "a contract is a .yaml file; docs/contracts.md shows one")]
    contracts: list[Contract] = []
    problems: list[Problem] = []
    for path in files:
        contract, found = _examine(path)
        problems += found
        if contract is not None:
            contracts.append(contract)
    return contracts, problems + _twice(contracts)


def _twice(contracts: Iterable[Contract]) -> list[Problem]:
    first: dict[str, Contract] = {}
    problems = []
    for contract in contracts:
        earlier = first.setdefault(contract.dataset, contract)
        if earlier is not contract and contract.path and earlier.path:
            line = read_yaml(contract.path).lines.get(("dataset",), 1)
            problems.append(Problem(shown_path(contract.path), line, f"'{contract.dataset}' has two contracts", f"the other is {shown_path(earlier.path)}"))
    return problems


def _examine(path: Path) -> tuple[Contract | None, list[Problem]]:
    try:
        source = read_yaml(path)
    except OSError as error:
        return None, [Problem(shown_path(path), 1, f"can't be read: {error.strerror}", "check the path and its permissions")]
    problems = source.problems
    if not problems and source.value is None:
        problems.append(source.problem((), "the file is empty", "docs/contracts.md shows a contract"))
    elif source.value is not None:
        found = [_explained(violation) for violation in violations(source.value, schema())]
        problems += [source.problem(violation.path, violation.message, violation.hint) for violation in found]
        problems += meaning_problems(source, frozenset(violation.path[:2] for violation in found))
    problems.sort(key=lambda problem: problem.line)
    return (None if problems else _contract(source, path)), problems


def _explained(violation: Violation) -> Violation:
    """A violation with a better hint, where an expectation's name is unknown."""
    if not violation.path or violation.path[-1] != "expect" or "not known" not in violation.message:
        return violation
    name = violation.message.split("'")[1] if "'" in violation.message else ""
    if name in NOT_HERE:
        return Violation(violation.path, f"{name} can't stand in a contract", NOT_HERE[name])
    near = difflib.get_close_matches(name, EXPECTATIONS, n=3)
    return Violation(violation.path, violation.message, f"did you mean {' or '.join(near)}?" if near else "docs/contracts.md lists all expectations")


def _contract(source: Source, path: Path) -> Contract:
    value: Any = source.value  # the schema has decided its shape
    return Contract(
        dataset=value["dataset"],
        description=value["description"],
        owner=value["owner"],
        columns=tuple(_column(item) for item in value.get("columns", ())),
        key=tuple(value.get("key", ())),
        expectations=tuple(_expectation(item) for item in value.get("expectations", ())),
        max_quarantined_share=float(value.get("max_quarantined_share", 0.0)),
        pattern=value.get("pattern"),
        as_of_column=value.get("as_of_column"),
        path=path,
    )


def _column(item: dict[str, Any]) -> Column:
    return Column(**{**item, "privacy": Privacy(item.get("privacy", Privacy.PUBLIC))})


def _expectation(item: dict[str, Any]) -> Expectation:
    return Expectation(
        name=item["expect"],
        kwargs=item.get("kwargs", {}),
        severity=Severity(item["severity"]),
        quarantine=item.get("quarantine", False),
        description=item.get("description", ""),
    )
