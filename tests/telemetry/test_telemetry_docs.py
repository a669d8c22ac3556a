from __future__ import annotations

import re
from pathlib import Path

from pipeline import names
from pipeline.telemetry import telemetry_docs


def test_the_pages_are_as_they_would_be_written(root: Path, tmp_path: Path):
    telemetry_docs.write(tmp_path)
    for name in ("telemetry.md", "bundle.md"):
        assert (root / "docs" / name).read_text("utf-8") == (tmp_path / name).read_text("utf-8"), "python -m pipeline.telemetry.telemetry_docs writes it"


def test_every_name_is_on_the_page():
    page = telemetry_docs.markdown()
    for item in (*names.metrics(), *names.attributes(), *names.events()):
        assert f"| `{item.name}` |" in page
        assert item.meaning.replace("|", "\\|") in page


def test_every_row_of_a_table_has_the_cells_of_its_head():
    for page in (telemetry_docs.markdown(), telemetry_docs.bundle_markdown()):
        for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(widths) == 1, table


def test_inner_fields_are_told_with_their_path():
    page = telemetry_docs.bundle_markdown()
    for field in ("run_id", "steps[].failure.hint", "pipeline.schedule.by", "pipeline.datasets.*.layer", "checks[].records[].record"):
        assert f"| `{field}` |" in page
