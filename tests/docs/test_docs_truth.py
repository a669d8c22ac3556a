"""What the documents say is there: links, commands, targets, settings, errors, packages."""

import importlib.util
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from pipeline.cli import app
from pipeline.errors import GoldtraceError
from pipeline.settings import MAKE_KEYS, Settings, variable

GENERATED = ("settings.md", "telemetry.md", "bundle.md", "contracts-study.md", "mlflow.md")
# Ends that no error class stands for: a signal, a vanished process, and a set-up that failed before Python started.
OTHER_SECTIONS = {"aborted", "lost", "setup", "exit-codes", "errors"}


@pytest.fixture(scope="module")
def generate_docs(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", root / "scripts" / "generate_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", GENERATED)
def test_generated_documents_are_up_to_date(generate_docs: ModuleType, root: Path, name: str) -> None:
    assert set(generate_docs.GENERATED) == set(GENERATED)
    assert (root / "docs" / name).read_text(encoding="utf-8") == generate_docs.GENERATED[name](), "run: make docs"


def test_every_setting_is_documented_with_its_default(documents: Any) -> None:
    rows = {cells[1].strip(" `"): cells[2].strip() for line in documents["docs/settings.md"].text.splitlines() if len(cells := line.split("|")) >= 4}
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "") else f"`{field.default}`"
        assert rows[variable(name)] == default, name


def test_every_setting_that_a_document_names_exists(documents: Any) -> None:
    known = {variable(name) for name in Settings.model_fields} | MAKE_KEYS
    for name, document in documents.items():
        unknown = {key for key in re.findall(r"PIPELINE_[A-Z_]*[A-Z]", document.text) if key not in known}
        assert not unknown, name


def test_every_error_has_a_section_and_every_section_an_error(documents: Any) -> None:
    slugs = {kind.slug for kind in _tree(GoldtraceError)}
    assert documents["docs/errors.md"].anchors == slugs | OTHER_SECTIONS


def test_every_section_that_the_code_leads_to_exists(documents: Any, root: Path) -> None:
    sources = [*(root / "pipeline").rglob("*.py"), *(root / "scripts").iterdir(), root / "Makefile"]
    named = {name for path in sources if path.is_file() for name in re.findall(r"docs/errors\.md#([a-z_-]+)", path.read_text(encoding="utf-8"))}
    assert "setup" in named
    assert named - {"slug"} <= documents["docs/errors.md"].anchors


def test_every_relative_link_leads_somewhere(documents: Any) -> None:
    broken = []
    for name, document in documents.items():
        for link in document.links:
            target, _, anchor = link.partition("#")
            path = (document.path.parent / target).resolve() if target else document.path
            if not path.exists() or (anchor and anchor not in _document(documents, path).anchors):
                broken.append(f"{name}: {link}")
    assert not broken


def test_every_document_can_be_reached_from_the_readme(documents: Any) -> None:
    linked = {(documents["README.md"].path.parent / link.partition("#")[0]).resolve() for link in documents["README.md"].links}
    assert {name for name, document in documents.items() if document.path not in linked} == {"README.md"}


def test_every_make_target_that_a_document_names_exists(documents: Any, root: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z.-]*):", (root / "Makefile").read_text(), re.MULTILINE))
    named = {(name, target) for name, document in documents.items() for code in document.code for target in re.findall(r"^make ([a-z][a-z.-]*)", code)}
    assert ("README.md", "run") in named
    assert {pair for pair in named if pair[1] not in targets} == set()


def test_every_make_target_that_has_a_comment_is_in_the_help(root: Path) -> None:
    for target in re.findall(r"^([a-z][a-z.-]*):.*## ", (root / "Makefile").read_text(), re.MULTILINE):
        assert re.search(rf"^  {re.escape(target)} ", _help(root), re.MULTILINE), target


def test_every_command_and_option_that_a_document_names_exists(documents: Any) -> None:
    named = [(name, words) for name, document in documents.items() for code in document.code if (words := _pipeline_words(code))]
    assert any(name == "docs/quickstart.md" for name, _ in named)
    wrong = [f"{name}: pipeline {' '.join(words)}" for name, words in named if not _is_command(words)]
    assert not wrong


def test_every_direct_dependency_is_justified_once(documents: Any, root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    extras = [name for names in project["project"]["optional-dependencies"].values() for name in names]
    declared = [*project["project"]["dependencies"], *extras, *project["dependency-groups"]["dev"]]
    listed = re.findall(r"^\| ([A-Za-z][\w-]+) \| [A-Z]", documents["docs/dependencies.md"].text, re.MULTILINE)
    assert sorted(listed) == sorted([*(re.split(r"[<>=\[]", name)[0] for name in declared), "setuptools", "uv"])


def _tree(kind: type[GoldtraceError]) -> list[type[GoldtraceError]]:
    return [kind, *(found for child in kind.__subclasses__() if child.__module__ == "pipeline.errors" for found in _tree(child))]


def _document(documents: Any, path: Path) -> Any:
    return next(document for document in documents.values() if document.path == path)


def _help(root: Path) -> str:
    return subprocess.run(["make"], cwd=root, capture_output=True, text=True, check=True).stdout


def _pipeline_words(code: str) -> list[str]:
    """The words behind `pipeline` when the code is such a command; `pipeline/…` and `pipeline.…` are none."""
    match = re.match(r"(?:\.venv/bin/)?pipeline ([a-z-].*)", code)
    return shlex.split(match[1], comments=True) if match else []


def _is_command(words: list[str]) -> bool:
    """Whether the first words are a command, and all that begins with `--` are its options."""
    command: Any = typer.main.get_command(app)
    words = list(words)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        command = command.commands.get(words.pop(0))
        if command is None:
            return False
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return all(word.split("=")[0] in options for word in words if word.startswith("--"))
