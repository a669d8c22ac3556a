"""All events of one run, as a file. `GOLDTRACE_ACCEPT=1 pytest <this file>` accepts what changed and prints it."""

import difflib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import State
from pipeline.testing import example_run
from tests.telemetry.lineage_support import Event, tell

GOLDEN = Path(__file__).parent / "golden"
# The same in every facet, or another with every release; the tests against the specification look at them.
LEFT_OUT = {"_producer", "_schemaURL", "producer", "schemaURL", "openlineageAdapterVersion"}


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
def test_the_events_of_a_whole_run_are_those_of_the_golden_file(tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    path = GOLDEN / f"lineage_{state.value.lower()}.json"
    told = json.dumps(_scrubbed(tell(example_run(tmp_path / "bundle", state))), indent=1, ensure_ascii=False) + "\n"
    known = path.read_text() if path.exists() else ""
    changes = "".join(difflib.unified_diff(known.splitlines(keepends=True), told.splitlines(keepends=True), path.name, "now"))
    if changes and os.environ.get("GOLDTRACE_ACCEPT"):
        path.write_text(told)
        with capsys.disabled():
            print(f"\naccepted:\n{changes}")
    else:
        assert not changes, f"{path.name} differs (GOLDTRACE_ACCEPT=1 accepts it):\n{changes}"


def _scrubbed(told: list[Event]) -> Any:
    """The events with ids by number and times by order."""
    text = json.dumps([_without(event) for event in told])
    for pattern, word in ((r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "run"), (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "time")):
        for number, found in enumerate(sorted(set(re.findall(pattern, text))), 1):
            text = text.replace(found, f"{word}-{number}").replace(found.replace("-", ""), f"trace-{number}")
    return json.loads(re.sub(r'"spanId": "[0-9a-f]{16}"', '"spanId": "span"', re.sub(r"uiFind=[0-9a-f]{16}", "uiFind=span", text)))


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items() if key not in LEFT_OUT}
    return [_without(item) for item in value] if isinstance(value, list) else value
