"""Serves the reports of runs, read-only, so that links to them resolve: `/` lists runs, `/<run id>/report.html` is one.

Served are, of bundles here and in `archive/`, the report and the documents in `DOCUMENTS`; nothing else of the folder, whatever
it holds. Needs Python's standard library only, and nothing of the pipeline, whose image it doesn't share.
"""

import argparse
import base64
import hashlib
import html
import json
import os
import re
import signal
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

# The run id's form leaves no room for a way out of the folder.
RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# What a person may read of a bundle. Traces, metrics and logs are in their stores, lineage in Marquez.
DOCUMENTS = {
    "report.html": "text/html; charset=utf-8",
    "manifest.json": "application/json",
    "checks.json": "application/json",
    "delivery.json": "application/json",
}
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent) }
td { font-variant-numeric: tabular-nums }
""".strip()
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
INDEX_POLICY = f"{NOTHING}; style-src 'sha256-{STYLE_HASH}'"
# A report names its style and script by their hashes in a policy of its own, and a browser holds to both policies. This one,
# which doesn't know the hashes, keeps out all else: requests, frames, forms.
REPORT_POLICY = f"{NOTHING}; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
# How many runs the list shows.
LISTED = 300
# From in here no one can see whether the process of a run lives.
UNFINISHED = "not ended, or killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back: status, body, its type, the page's Content-Security-Policy, and where to go instead."""

    status: HTTPStatus = HTTPStatus.OK
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    policy: str = NOTHING
    location: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run in the list."""

    run_id: str
    pipeline: str
    environment: str
    state: str
    gate: str
    started_at: str
    has_report: bool


def respond(runs: Path, path: str) -> Answer:
    """The answer to a GET of `path`, which is decoded once."""
    match unquote(urlsplit(path).path).strip("/").split("/"):
        case [""]:
            return index(runs)
        case ["healthz"]:
            return health(runs)
        case [run_id] if RUN_ID.fullmatch(run_id):
            return Answer(status=HTTPStatus.FOUND, location=f"/{run_id}/report.html")
        case [run_id, name] if RUN_ID.fullmatch(run_id) and name in DOCUMENTS:
            return document(runs, run_id, name)
    return missing("here is / and /<run id>/report.html")


def health(runs: Path) -> Answer:
    """200 while the folder of runs can be read."""
    try:
        next(runs.iterdir(), None)
    except OSError as error:
        return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, body=f"{runs}: {error.strerror}\n".encode())
    return Answer(body=b"ok\n")


def document(runs: Path, run_id: str, name: str) -> Answer:
    """One file of a bundle, here or archived; a link that leads out of the bundle is not followed."""
    for bundle in (runs / run_id, runs / "archive" / run_id):
        file = bundle / name
        try:
            if file.resolve().parent == bundle.resolve() and bundle.resolve().is_relative_to(runs.resolve()):
                return Answer(body=file.read_bytes(), kind=DOCUMENTS[name], policy=REPORT_POLICY if name == "report.html" else NOTHING)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return missing(f"{name} of run {run_id} is not here: the run still goes on, was killed, or was deleted; `pipeline report {run_id}` writes a report")


def missing(reason: str) -> Answer:
    """404 with the reason."""
    return Answer(status=HTTPStatus.NOT_FOUND, body=f"{reason}\n".encode())


def index(runs: Path) -> Answer:
    """The newest runs."""
    found = {folder.name: folder for parent in (runs / "archive", runs) if parent.is_dir() for folder in parent.iterdir() if RUN_ID.fullmatch(folder.name)}
    rows = [row for name in sorted(found, reverse=True)[:LISTED] if (row := read_row(found[name])) is not None]
    lines = "\n".join(map(table_row, rows)) or '<tr><td colspan="6">No run yet: <code>make run</code></td></tr>'
    more = f"<p>The newest {LISTED} of {len(found)} runs; <code>pipeline runs</code> lists all.</p>" if len(found) > LISTED else ""
    page = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Runs</title>
<style>{STYLE}</style>
<h1>Runs</h1>
<table>
<thead><tr><th>Started (UTC)<th>Pipeline<th>Environment<th>State<th>Gate<th>Report</thead>
<tbody>
{lines}
</tbody>
</table>
{more}</html>
"""
    return Answer(body=page.encode(), kind="text/html; charset=utf-8", policy=INDEX_POLICY)


def read_row(bundle: Path) -> Row | None:
    """What the bundle's manifest says; None when there is none, or it is no manifest."""
    try:
        manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict):
        return None
    pipeline = manifest.get("pipeline")
    return Row(
        run_id=bundle.name,
        pipeline=str(pipeline.get("name")) if isinstance(pipeline, dict) else "",
        environment=str(manifest.get("environment") or ""),
        state=str(manifest.get("state")) if manifest.get("ended_at") else UNFINISHED,
        gate=str(manifest.get("gate") or ""),
        started_at=str(manifest.get("started_at") or ""),
        has_report=(bundle / "report.html").is_file(),
    )


def table_row(row: Row) -> str:
    """One line of the table. A run's id is a UUIDv7, so newest first is the order of ids."""
    report = f'<a href="/{row.run_id}/report.html">{row.run_id}</a>' if row.has_report else row.run_id
    cells = (html.escape(cell) for cell in (row.started_at[:19].replace("T", " "), row.pipeline, row.environment, row.state, row.gate))
    return f"<tr><td>{'<td>'.join(cells)}<td>{report}"


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD; anything else is 501."""

    protocol_version = "HTTP/1.1"
    # A client that sends nothing holds a thread for no longer.
    timeout = 10
    runs: ClassVar[Path]

    def do_GET(self) -> None:
        """Answer, with a body."""
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        """Answer, without one."""
        self._send(with_body=False)

    def version_string(self) -> str:
        """Nobody's business."""
        return "reports"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Only what went wrong: probes alone would fill the log."""
        if isinstance(code, int) and code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            super().log_request(code, size)

    def _send(self, *, with_body: bool) -> None:
        answer = self._answer()
        self.send_response(answer.status)
        headers = {
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            "Content-Security-Policy": answer.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            # A run's report changes while the run goes on.
            "Cache-Control": "no-cache",
        }
        for name, value in (headers | ({"Location": answer.location} if answer.location else {})).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def _answer(self) -> Answer:
        try:
            return respond(self.runs, self.path)
        except OSError as error:
            self.log_error("%s", error)
            return Answer(status=HTTPStatus.INTERNAL_SERVER_ERROR, body=b"the folder of runs can't be read\n")


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="Serves the reports of runs.")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104 - in a container, whose port is published on 127.0.0.1
    parser.add_argument("--port", type=int, default=8088)
    options = parser.parse_args()
    Handler.runs = options.runs
    # Process 1 has no handler of its own. Nothing has to be put away, and Python's own end aborts when a thread is just writing to the log.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with ThreadingHTTPServer((options.host, options.port), Handler) as server:
        server.daemon_threads = True
        server.serve_forever()


if __name__ == "__main__":
    main()
