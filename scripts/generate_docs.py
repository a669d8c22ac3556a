"""Writes the documents that are made from the code, so that they can't drift: `make docs`; `--check` only compares.

docs/settings.md comes from `pipeline/settings.py`, docs/telemetry.md from `pipeline/names.py`, docs/bundle.md from the
schemas of the bundle's files, docs/contracts-study.md from the study's contracts, and the table in docs/mlflow.md from the DynamoDB store.
"""

import re
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipeline.api import load_app
from pipeline.quality.contract_docs import contracts_markdown
from pipeline.settings import PREFIX, Settings, variable
from pipeline.telemetry import telemetry_docs

DOCS = Path(__file__).resolve().parent.parent / "docs"

SETTINGS_HEAD = """# Settings

A run is told by settings what to read, where to write and whom to tell. They are environment variables, or lines of a file `.env`
in the folder where the command runs. An option of the command wins over the environment, and the environment wins over
`.env`. An empty value counts as unset.

A typo is not passed over in silence: an unknown `PIPELINE_*` key is refused in `.env`. In the environment it is
refused when it is within two letters of a known one; others are left alone, since CI systems export their own.

The manifest of a run holds its settings, with keys and passwords masked.

## Goldtrace's own

"""
MAKE_SETTING = (
    f"| `{PREFIX}PYTHON` |  | The interpreter from which `make` builds `.venv`: a command or a path. Unless set: the first of `python3`, "
    "`python3.13`, `python3.12`, `python3.11`, `python` that is Python 3.11, 3.12 or 3.13. Only the Makefile reads it. |\n"
)
STANDARD_HEAD = """
## Standard ones

These belong to the tools around, and keep the meaning they have there. One differs: an outer `TRACEPARENT` becomes a link
of the run's root span and not its parent, since the trace id is the run's id.

"""
TABLE = "| setting | default | meaning |\n|---|---|---|\n"


def settings() -> str:
    """docs/settings.md."""
    ours: list[str] = []
    standard: list[str] = []
    for name in Settings.model_fields:
        (ours if variable(name).startswith(PREFIX) else standard).append(_setting(name))
    return SETTINGS_HEAD + TABLE + "".join(ours) + MAKE_SETTING + STANDARD_HEAD + TABLE + "".join(standard)


def _setting(name: str) -> str:
    field = Settings.model_fields[name]
    default = "" if field.default in (None, "", PydanticUndefined) else f"`{field.default}`"
    meaning = " ".join((field.description or "").split()) + _values(field)
    return f"| `{variable(name)}` | {default} | {meaning.replace('|', chr(92) + '|')} |\n"


def _values(field: FieldInfo) -> str:
    """The allowed values in words, where they are few."""
    values: list[str] = []
    if isinstance(field.annotation, type) and issubclass(field.annotation, StrEnum):
        values = [str(value) for value in field.annotation]
    for constraint in field.metadata:
        alternatives = re.fullmatch(r"\^\(([a-z|]+)\)\$", getattr(constraint, "pattern", None) or "")
        values += alternatives[1].split("|") if alternatives else []
    return f" One of {', '.join(f'`{value}`' for value in values)}." if values else ""


def contracts() -> str:
    """docs/contracts-study.md."""
    return contracts_markdown(load_app("pipeline.study:PIPELINE").contracts)


def what_works_in_mlflow() -> str:
    """docs/mlflow.md, one table of which is made."""
    import mlflow.exceptions  # noqa: F401 - before what is its plugin

    from pipeline.tracking.dynamodb import coverage

    return coverage.shown((DOCS / "mlflow.md").read_text(encoding="utf-8"))


GENERATED: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "telemetry.md": telemetry_docs.markdown,
    "bundle.md": telemetry_docs.bundle_markdown,
    "contracts-study.md": contracts,
    "mlflow.md": what_works_in_mlflow,
}


def main(check: bool) -> int:
    """Write the documents, or with `check` name those that differ; returns the exit code."""
    stale = []
    for name in GENERATED:
        path, text = DOCS / name, GENERATED[name]()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(f"docs/{name}")
        if not check:
            path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"error: {', '.join(stale)} differ from the code\nhint: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
