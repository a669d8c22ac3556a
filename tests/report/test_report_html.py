import base64
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.errors import LakeError, RunNotFoundError
from pipeline.records import Failure, Gate, Outcome, Run, State
from pipeline.report.html import write_report
from tests.report.report_support import ENDS, LogLine, log_json, write_bundle

MakeRun = Callable[..., Run]
MakeBundle = Callable[..., Path]
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"


@dataclass
class Outline(HTMLParser):
    """A page as its elements, and the text of those that are looked at."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    inside: dict[str, str] = field(default_factory=dict)
    text: str = ""
    _open: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open in ("style", "script"):
            self.inside[self._open] = self.inside.get(self._open, "") + data
        else:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def outline(bundle: Path) -> Outline:
    found = Outline()
    found.feed(write_report(bundle).read_text("utf-8"))
    return found


def everywhere_hostile(run: Run) -> Path:
    """The bundle of a run in which whatever is text is hostile."""
    run.failure = Failure(type="step", message=HOSTILE, hint=HOSTILE, exception=HOSTILE, step="models", stacktrace=HOSTILE)
    run.steps[-1].failure = run.failure
    run.estimates = [replace(estimate, model=HOSTILE, term=HOSTILE, note=HOSTILE) for estimate in run.estimates]
    run.process = replace(run.process, host=HOSTILE, command=HOSTILE)
    run.settings = {HOSTILE: HOSTILE, "PIPELINE_TRACE_URL": 'http://h/"><script>'}
    first = run.steps[0]
    first.inputs = [replace(first.inputs[0], file=HOSTILE)]
    first.checks = [replace(check, expected=HOSTILE, description=HOSTILE, outcome=Outcome.FAILED, records=((HOSTILE, 1),)) for check in first.checks]
    bundle = write_bundle(run)
    text = (bundle / "manifest.json").read_text().replace("silver/weekly_features", json.dumps(f"silver/{HOSTILE}")[1:-1])
    (bundle / "manifest.json").write_text(text)
    (bundle / "logs.jsonl").write_text(log_json(run, LogLine(1, 17, HOSTILE, HOSTILE, HOSTILE, ((HOSTILE, HOSTILE),))) + "\n")
    (bundle / "delivery.json").write_text(json.dumps({HOSTILE: {"state": HOSTILE, "target": HOSTILE, "detail": HOSTILE}}))
    return bundle


# ---------------------------------------------------------------------------------------------- the file


def test_the_same_bundle_gives_the_same_bytes(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    first = write_report(bundle).read_bytes()
    time.sleep(0.01)
    assert write_report(bundle).read_bytes() == first


def test_the_report_is_one_file_that_others_can_read(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    before = set(bundle.iterdir())
    report = write_report(bundle)
    assert set(bundle.iterdir()) - before == {report}
    assert report.stat().st_mode & 0o777 == 0o644


def test_a_folder_that_is_no_bundle_is_refused_and_left_empty(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("state", "gate"), [*ENDS, (State.RUNNING, None)])
def test_every_end_of_a_run_has_a_page_also_without_telemetry(make_bundle: MakeBundle, state: State, gate: Gate | None) -> None:
    bundle = make_bundle(state, gate)
    whole = outline(bundle).text
    for path in bundle.iterdir():
        if path.name != "manifest.json":
            path.unlink()
    alone = outline(bundle).text
    assert "Environment" in whole
    assert "The bundle has no log" in alone


def test_a_long_log_is_cut_and_says_so(make_run: MakeRun) -> None:
    run = make_run()
    bundle = write_bundle(run)
    (bundle / "logs.jsonl").write_text((log_json(run, LogLine(1, 9, "", "", "again")) + "\n") * 2000)
    text = outline(bundle).text
    assert "1,200 of them are left out here" in text


# ---------------------------------------------------------------------------------------------- what it may do


def test_nothing_that_a_bundle_holds_becomes_markup(make_run: MakeRun) -> None:
    page = outline(everywhere_hostile(make_run(State.FAILED, Gate.RED)))
    assert len(page.named("script")) == 1
    assert not page.named("img")
    assert HOSTILE in page.text
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]


def test_the_policy_lets_in_this_style_and_this_script_and_nothing_else(make_bundle: MakeBundle) -> None:
    page = outline(make_bundle())
    policy = next(meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    digests = {name: base64.b64encode(hashlib.sha256(page.inside[name].encode()).digest()).decode() for name in ("style", "script")}
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digests['style']}'",
        "script-src": f"'sha256-{digests['script']}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_nothing_is_loaded_from_anywhere(make_bundle: MakeBundle) -> None:
    page = outline(make_bundle())
    assert not [tag for tag, attributes in page.tags if "src" in attributes or "srcset" in attributes]
    links = [attributes["href"] for tag, attributes in page.tags if "href" in attributes and tag != "a"]
    assert all(link.startswith(("#", "data:image/svg+xml,")) for link in links)
    outside = [attributes["href"] for attributes in page.named("a") if not attributes["href"].startswith("#")]
    assert {re.match(r"http://127\.0\.0\.1:\d+/", link) is not None for link in outside} == {True}
    assert "@import" not in page.inside["style"]
    assert not re.search(r"url\((?!#)", page.inside["style"])


# ---------------------------------------------------------------------------------------------- that everyone can read it


@pytest.mark.parametrize(("state", "gate"), [*ENDS, (State.RUNNING, None)])
def test_ids_are_unique_and_every_link_in_the_page_leads_somewhere(make_bundle: MakeBundle, state: State, gate: Gate | None) -> None:
    page = outline(make_bundle(state, gate))
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert [name for name, times in ids.items() if times > 1] == []
    inner = [attributes["href"][1:] for _, attributes in page.tags if attributes.get("href", "").startswith("#")]
    labels = [name for _, attributes in page.tags for name in attributes.get("aria-labelledby", "").split()]
    assert [name for name in (*inner, *labels) if name not in ids] == []


def test_the_page_has_landmarks_headings_and_table_heads(make_bundle: MakeBundle) -> None:
    page = outline(make_bundle())
    assert all(len(page.named(tag)) == 1 for tag in ("main", "nav", "h1", "footer", "html"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all("scope" in attributes for attributes in page.named("th"))
    assert next(iter(page.named("html")))["lang"] == "en"


def test_every_picture_has_words(make_bundle: MakeBundle) -> None:
    page = outline(make_bundle())
    for attributes in page.named("svg"):
        inner = "node-sign" in attributes.get("class", "")
        assert attributes.get("aria-hidden") == "true" or "aria-labelledby" in attributes or inner or "viewBox" not in attributes, attributes


def test_the_page_says_what_a_reader_looks_for(make_bundle: MakeBundle) -> None:
    text = " ".join(outline(make_bundle()).text.split())
    for words in (
        "Completed with warnings in 4.2 s",
        "Potato_tidy.csv record 12",
        "601 = 600 + 1",
        "singular fit",
        "An association, not a cause",
        "need servers at those addresses",
    ):
        assert words in text, words


def test_a_report_that_can_not_be_written_is_a_clear_error(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    (bundle / "report.html").unlink(missing_ok=True)
    (bundle / "report.html").mkdir()
    with pytest.raises(LakeError, match=r"report.html can't be written: Is a directory"):
        write_report(bundle)
