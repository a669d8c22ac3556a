"""`report.html`: one file that opens from disk, loads nothing, and shows a run as its bundle tells it.

The only module that imports jinja2. Templates escape everything; what is put in as it is are the style sheet and the
script of this package, whose hashes are the only ones that the page's policy lets in. No clock: the same bundle gives
the same bytes.
"""

import base64
import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.errors import LakeError
from pipeline.report import numbers, page, words
from pipeline.report.facts import REPORT
from pipeline.report.page import Page, read_page

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES: Final = Path(__file__).with_name("templates")
FILTERS: Final[dict[str, Callable[..., object]]] = {
    "clock": numbers.clock,
    "count": numbers.count,
    "counted": numbers.counted,
    "decimals_of": words.estimate_places,
    "duration": numbers.duration,
    "finding": words.finding_words,
    "fitted": page.fitted,
    "interval_words": words.interval_words,
    "estimate_words": words.estimate_words,
    "layer": page.layer,
    "moment": numbers.moment,
    "number": numbers.number,
    "observed": words.observed_words,
    "p_value": numbers.p_value,
    "ranges": words.ranges,
    "records": words.records_words,
    "share": numbers.share,
    "short_name": page.short_name,
    "significant": numbers.significant,
    "size": numbers.size,
    "upfirst": words.upfirst,
    "slug": page.slug,
    "check_tone": page.check_tone,
    "tone": lambda thing: page.TONES.get(thing, "quiet"),
}


def write_report(bundle: Path) -> Path:
    """Render `<bundle>/report.html` from the bundle alone, and return where it is.

    Raises:
        RunNotFoundError: the folder has no manifest that can be read.
        LakeError: the report can't be written there.
    """
    target = bundle / REPORT
    # The name does not end in .html, so that nobody opens half a report.
    temporary = bundle / f".{REPORT}.{os.getpid()}.tmp"
    try:
        temporary.write_text(render(read_page(bundle)), "utf-8", newline="\n")
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise LakeError(f"{target} can't be written: {error.strerror}", hint="may this user write there, and is there room?") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def render(content: Page) -> str:
    """The report as HTML."""
    style, script = _asset("report.css"), _asset("report.js")
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=content,
            facts=content.facts,
            style=_trusted(style),
            script=_trusted(script),
            policy=policy(style, script),
            words=words,
        )
    )


def policy(style: str, script: str) -> str:
    """The page's Content-Security-Policy: its own style and script and the icon written into it, nothing else."""
    return f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


def _trusted(text: str) -> str:
    """A file of this package, to be put in unescaped; it can't hold the end of its own element."""
    from markupsafe import Markup

    if "</" in text:
        raise ValueError("a style sheet or script that holds '</' would end its element")
    return Markup(text)  # noqa: S704 - our own files, checked above


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(FILTERS)
    return environment
