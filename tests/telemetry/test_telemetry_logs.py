from __future__ import annotations

import io
import logging
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import structlog

from pipeline import names
from pipeline.records import Caller, ExperimentRun, Gate, Run, State
from pipeline.telemetry import bundle, facts, logs
from pipeline.telemetry.guard import Hooks
from pipeline.telemetry.logs import LogsHook, Style, get_logger
from pipeline.telemetry.tracing import TracesHook
from pipeline.testing import logs as written
from pipeline.testing import read_lines
from tests.telemetry.telemetry_support import python, stored, tell

log = get_logger("study")
# Not in the functions below, whose literals are known to be code.
FOOD = "greek yogurt"


@contextmanager
def step_of(run: Run, *hooks: LogsHook | TracesHook) -> Iterator[None]:
    """Within the first step of a run."""
    guarded = Hooks(hooks or (LogsHook(),))
    with guarded.run(run), guarded.step(run, run.steps[0]):
        yield


def free(run: Run) -> list[dict]:
    """The records that are no facts of ours."""
    return [record for record in written(run.bundle) if "eventName" not in record]


def body(record: dict) -> str:
    return record["body"]["stringValue"]


# ------------------------------------------------------------------------------------------------- facts


def test_the_facts_of_a_run_are_there_in_their_order(run: Run):
    tell(run, LogsHook())
    assert [record["eventName"] for record in written(run.bundle)] == [
        "run.started",
        "check.evaluated",
        "step.finished",
        "check.evaluated",
        "step.finished",
        "step.finished",
        "model.estimated",
        "model.estimated",
        "model.estimated",
        "gate.decided",
        "dataset.published",
        "dataset.published",
        "dataset.published",
        "run.finished",
    ]
    times = [int(record["timeUnixNano"]) for record in written(run.bundle)]
    assert sorted(set(times)) == times


@pytest.mark.parametrize("state", list(State))
def test_each_record_has_a_sentence_its_event_twice_and_only_the_attributes_of_names(runs: Path, state: State):
    run = stored(runs, state)
    tell(run, LogsHook())
    known = {event.name: {attribute.name for attribute in event.attributes} for event in names.events()}
    for record in written(run.bundle):
        assert body(record)
        assert record["attributes"]["event.name"] == record["eventName"]
        assert record["attributes"].keys() - {"event.name", "step"} <= known[record["eventName"]]


def test_each_record_has_the_ids_of_its_span_and_a_step_its_name(run: Run):
    tell(run, LogsHook())
    spans = {step.step.name: step.id.hex[16:] for step in run.steps}
    for record in written(run.bundle):
        assert record["traceId"] == run.id.hex
        assert record["spanId"] == spans.get(record["attributes"].get("step"), run.id.hex[16:])
    assert [record["attributes"]["step"] for record in written(run.bundle) if record["eventName"] == "step.finished"] == list(spans)


def test_the_numbers_can_be_read_back(run: Run):
    tell(run, LogsHook())
    by_event = {record["eventName"]: record["attributes"] for record in written(run.bundle)}
    assert by_event["run.finished"]["goldtrace.run.rows_in"] == 10
    assert by_event["gate.decided"] == {"event.name": "gate.decided", "goldtrace.run.gate": "YELLOW", "goldtrace.gate.warnings": 1, "goldtrace.gate.errors": 0}
    checks = [record["attributes"] for record in written(run.bundle) if record["eventName"] == "check.evaluated"]
    assert [(check["goldtrace.check.unexpected_count"], check["goldtrace.check.rows"]) for check in checks] == [(1, 10), (0, 6)]
    published = [record["attributes"]["goldtrace.dataset.changed"] for record in written(run.bundle) if record["eventName"] == "dataset.published"]
    assert published == [True, True, False]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_run_with_a_page_in_mlflow_says_which_and_each_model_its_own(run: Run, is_there: bool):
    run.experiment = ExperimentRun(experiment_id="7", run_id="parent", models={"ols": "child"}) if is_there else None
    run.estimates = [replace(run.estimates[0], model=model) for model in ("ols", "another")]
    tell(run, LogsHook())
    told = [
        (record["eventName"], record["attributes"].get("goldtrace.mlflow.experiment_id"), record["attributes"].get("goldtrace.mlflow.run_id"))
        for record in written(run.bundle)
        if record["eventName"] in ("model.estimated", "run.finished")
    ]
    first, last = (("7", "child"), ("7", "parent")) if is_there else ((None, None), (None, None))
    assert told == [("model.estimated", *first), ("model.estimated", None, None), ("run.finished", *last)]


def test_a_step_that_writes_files_says_how_many_and_no_rows(run: Run):
    step = run.steps[2]
    step.outputs = {"gold/models": replace(step.outputs["gold/models"], rows=None, files=("a.png", "b.png"))}
    tell(run, LogsHook())
    (record,) = [record for record in written(run.bundle) if record["attributes"].get("goldtrace.step.name") == "models"]
    assert body(record) == "models completed after 0.50 s: 6 rows in, 2 files out"
    assert "goldtrace.step.rows_out" not in record["attributes"]


def test_an_attribute_that_an_event_does_not_list_is_refused():
    with pytest.raises(ValueError, match=r"run\.started has no error\.type"):
        facts._line(names.RUN_STARTED, {names.ERROR_TYPE: "x"}, facts.Line(body=""))


@pytest.mark.parametrize(
    ("state", "gate", "levels"),
    [
        (State.COMPLETED, Gate.GREEN, {"INFO"}),
        (State.COMPLETED, Gate.YELLOW, {"INFO", "WARN"}),
        (State.FAILED, None, {"INFO", "WARN", "ERROR"}),
        (State.FAILED, Gate.RED, {"INFO", "WARN", "ERROR"}),
        (State.ABORTED, None, {"INFO", "WARN"}),
    ],
)
def test_the_level_says_how_it_went(runs: Path, state: State, gate: Gate | None, levels: set[str]):
    run = stored(runs, state, gate=gate)
    tell(run, LogsHook())
    assert {record["severityText"] for record in written(run.bundle)} == levels


def test_a_bad_traceparent_is_told(run: Run):
    run.caller = Caller(traceparent="hello")
    tell(run, LogsHook())
    assert [body(record) for record in free(run)] == ["TRACEPARENT is ignored: it is not version-traceid-spanid-flags in lower-case hex digits"]


# ------------------------------------------------------------------------------------------------- lines of users


def test_a_users_line_has_its_fields_and_the_step(run: Run):
    with step_of(run):
        log.info("rows read", rows=436, share=0.5, dataset="bronze/weight", food=FOOD, weight_kg=80.5)
    (record,) = free(run)
    assert body(record) == "rows read"
    assert record["attributes"] == {
        "step": "weight",
        "goldtrace.logger": "study",
        "rows": 436,
        "share": 0.5,
        "dataset": "bronze/weight",
        "food": "…",
        "weight_kg": "…",
    }
    assert (record["traceId"], record["spanId"]) == (run.id.hex, run.steps[0].id.hex[16:])


def test_a_line_in_a_span_of_the_users_belongs_to_that_span(run: Run):
    from opentelemetry.sdk.trace import TracerProvider

    with step_of(run, LogsHook(), TracesHook()), TracerProvider(shutdown_on_exit=False).get_tracer("theirs").start_as_current_span("theirs") as span:
        log.info("hello")
    assert free(run)[0]["spanId"] == f"{span.get_span_context().span_id:016x}"


def test_a_line_of_a_thread_belongs_to_the_step(run: Run):
    with step_of(run, LogsHook(), TracesHook()):
        thread = threading.Thread(target=lambda: log.info("done"))
        thread.start()
        thread.join()
    (record,) = free(run)
    assert (record["spanId"], record["attributes"]["step"]) == (run.steps[0].id.hex[16:], "weight")


def test_many_threads_write_whole_lines(run: Run, request: pytest.FixtureRequest):
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    with step_of(run):
        threads = [threading.Thread(target=lambda: [log.info("row", rows=number) for number in range(50)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(free(run)) == 400
    assert len({record["timeUnixNano"] for record in free(run)}) == 400


def test_a_flood_of_lines_is_cut_and_told(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "MAX_FREE_LINES", 3)
    with step_of(run):
        for number in range(10):
            log.info("row", rows=number)
    assert [record["attributes"].get("rows") for record in free(run)] == [0, 1, 2, None]
    assert body(free(run)[-1]) == "7 lines are left out: a run's log has room for 3 lines of its steps"


def test_the_standard_librarys_logging_is_captured_without_values(run: Run):
    logger, person = logging.getLogger("mine"), "S" + str(12)
    with step_of(run):
        logger.warning("no fit for %s at %.1f in %d rows", person, 80.5, 12, extra={"rows": 3, "note": person})
    (record,) = free(run)
    assert body(record) == "no fit for … at … in 12 rows"
    assert record["severityText"] == "WARN"
    assert record["attributes"] == {"step": "weight", "goldtrace.logger": "mine", "rows": 3, "note": "…"}


def test_an_exception_is_logged_with_where_it_was_raised_and_without_its_value(run: Run):
    with step_of(run):
        try:
            float("".join(["gre", "ek"]))
        except ValueError:
            log.exception("bad value")
            logging.getLogger("mine").exception("bad value")
    for record in free(run):
        attributes = record["attributes"]
        assert (attributes["exception.type"], attributes["exception.message"]) == ("ValueError", "could not convert string to float: '…'")
        assert "in test_an_exception_is_logged" in attributes["exception.stacktrace"]
        assert record["severityText"] == "ERROR"


@pytest.mark.parametrize("name", ["opentelemetry.sdk", "urllib3.connectionpool", "openlineage.client", "mlflow", "great_expectations.core"])
def test_libraries_that_would_write_about_the_writing_are_left_out(run: Run, name: str):
    with step_of(run):
        logging.getLogger(name).error("a frame")
    assert free(run) == []


def test_debug_lines_stay_out_of_the_bundle_and_reach_the_terminal_when_asked(run: Run, capsys: pytest.CaptureFixture[str]):
    with step_of(run, LogsHook(terminal_level="debug")):
        log.debug("in detail", rows=1)
    assert free(run) == []
    assert "debug   weight: in detail rows=1" in capsys.readouterr().err


def test_a_line_that_does_not_fit_its_arguments_is_counted_and_breaks_nothing(run: Run):
    heard: list[str] = []
    hooks = Hooks([LogsHook()], on_failure=lambda run, signal, error: heard.append(str(error)))
    with hooks.run(run), hooks.step(run, run.steps[0]):
        record = logging.makeLogRecord({"name": "mine", "levelno": logging.ERROR, "msg": "%d rows", "args": ("many",)})
        logging.getLogger().handlers[-1].handle(record)
    assert run.telemetry_lost == {"logs": 1}
    assert heard == ["1 log records could not be written to logs.jsonl"]


def test_users_own_structlog_configuration_is_left_alone(run: Run):
    before = structlog.get_config()
    with step_of(run):
        log.info("hello")
    assert structlog.get_config() == before
    assert not structlog.is_configured()


def test_a_users_structlog_configuration_does_not_reach_our_loggers(run: Run, capsys: pytest.CaptureFixture[str]):
    structlog.configure(processors=[lambda *_: 1 / 0])
    try:
        with step_of(run):
            log.info("hello")
    finally:
        structlog.reset_defaults()
    assert len(free(run)) == 1


def test_bound_context_variables_are_on_the_line(run: Run):
    with step_of(run), structlog.contextvars.bound_contextvars(rows=3):
        log.info("hello")
    assert free(run)[0]["attributes"]["rows"] == 3


def test_a_field_cannot_take_the_name_of_one_of_ours(run: Run):
    with step_of(run):
        log.info("hello", step="forged", **{"event.name": "run.finished", "goldtrace.run.state": "LOST"})
    assert free(run)[0]["attributes"] == {"step": "weight", "goldtrace.logger": "study"}


def test_the_root_logger_is_as_it_was_afterwards(run: Run):
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    with step_of(run):
        assert len(root.handlers) == len(before[1]) + 1
    assert (root.level, root.handlers) == before


# ------------------------------------------------------------------------------------------------- terminal


def test_the_terminal_shows_what_one_wants_to_know(run: Run, capsys: pytest.CaptureFixture[str]):
    tell(run, LogsHook())
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line[9:] for line in captured.err.splitlines()]
    assert lines == [
        f"info    run {run.id} of example started",
        "warning input/weight: weight_kg between 20 and 400: quarantined (1 of 10 rows)",
        "info    weight completed after 0.50 s: 10 rows in, 9 rows out, 1 quarantined",
        "info    features completed after 0.50 s: 9 rows in, 6 rows out",
        "info    models completed after 0.50 s: 6 rows in, 2 rows out",
        "warning gate YELLOW: 0 errors, 1 warning in 2 checks",
        f"info    run {run.id} completed after 2.00 s, gate YELLOW",
    ]


def test_the_terminal_can_be_quieter_than_the_bundle(run: Run, capsys: pytest.CaptureFixture[str]):
    tell(run, LogsHook(terminal_level="error"))
    assert capsys.readouterr().err == ""
    assert len(written(run.bundle)) == 14


def test_a_failure_is_told_with_its_reason(runs: Path, capsys: pytest.CaptureFixture[str]):
    tell(stored(runs, State.FAILED), LogsHook())
    assert "error   features failed after 0.20 s: 9 rows in, nothing out: step features: Binder Error" in capsys.readouterr().err


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("screen", "style", "sent"),
    [
        (Screen(), Style.COLOURED, {"\r\x1b[2K", "\x1b[36m", "\x1b[33m", "\x1b[0m"}),
        (Screen(), Style.MONOCHROME, {"\r\x1b[2K"}),
        (Screen(), Style.PLAIN, set()),
        (io.StringIO(), Style.COLOURED, set()),
    ],
)
def test_control_sequences_are_for_a_screen_that_wants_them(run: Run, monkeypatch: pytest.MonkeyPatch, screen: io.StringIO, style: Style, sent: set[str]):
    monkeypatch.setattr(sys, "stderr", screen)
    tell(run, LogsHook(style=style))
    assert set(re.findall(r"\r?\x1b\[\d+\w", screen.getvalue())) == sent


def test_a_closed_terminal_stops_nothing(run: Run, monkeypatch: pytest.MonkeyPatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    tell(run, LogsHook())
    assert len(written(run.bundle)) == 14


def test_without_a_bundle_only_the_terminal_is_written(run: Run, capsys: pytest.CaptureFixture[str]):
    tell(run, LogsHook(to_bundle=False))
    assert not (run.bundle / bundle.LOGS).exists()
    assert "run.finished" not in capsys.readouterr().err


def test_outside_of_a_run_a_line_goes_to_the_terminal(capsys: pytest.CaptureFixture[str]):
    log.warning("hello", rows=1)
    assert capsys.readouterr().err[9:] == "warning hello rows=1\n"


def test_info_lines_of_the_standard_library_show_in_a_process_that_configured_nothing(tmp_path: Path):
    done = python(
        "import sys, logging, pathlib\n"
        "from pipeline.testing import example_run\n"
        "from pipeline.telemetry.logs import LogsHook\n"
        "run, hook = example_run(pathlib.Path(sys.argv[1])), LogsHook()\n"
        "with hook.run(run), hook.step(run, run.steps[0]):\n"
        "    logging.getLogger('mine').info('rows read')\n"
        "print(logging.getLogger().level, logging.getLogger().handlers)\n",
        tmp_path,
    )
    assert "info    weight: rows read" in done.stderr
    assert done.stdout == "30 []\n"


# ------------------------------------------------------------------------------------------------- the file


def test_a_record_is_in_the_file_as_soon_as_it_was_logged(run: Run):
    with step_of(run):
        log.info("hello")
        assert [body(record) for record in free(run)] == ["hello"]


def test_each_line_is_one_record_that_begins_with_the_run_id(run: Run):
    tell(run, LogsHook())
    lines = (run.bundle / bundle.LOGS).read_text().splitlines()
    assert len(lines) == len(written(run.bundle)) == len(read_lines(run.bundle / bundle.LOGS))
    assert all(line.startswith('{"resourceLogs":[{"resource":{"attributes":[{"key":"goldtrace.run.id"') for line in lines)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_records_that_cannot_be_written_are_counted(run: Run):
    (run.bundle / bundle.LOGS).symlink_to("/dev/full")
    with ExitStack() as stack:
        hooks = Hooks([LogsHook()], on_failure=lambda *_: None)
        stack.enter_context(hooks.run(run))
    assert run.telemetry_lost["logs"] >= 1


def test_a_hook_that_failed_is_told_as_an_event(run: Run):
    with step_of(run):
        logs.telemetry_failed(run, "lineage", OSError(28, "No space left on device"))
    (record,) = [record for record in written(run.bundle) if record.get("eventName") == "telemetry.failed"]
    assert record["attributes"]["goldtrace.telemetry.signal"] == "lineage"
    assert body(record) == "gaps in the lineage of this run: OSError: [Errno 28] No space left on device; the run goes on"


def test_a_long_stack_trace_is_cut(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs.privacy, "stacktrace", lambda *_: "x" * 50_000)
    with step_of(run):
        log.error("bad", exc_info=ValueError())
    assert len(free(run)[0]["attributes"]["exception.stacktrace"]) == 16_384


def test_the_note_of_a_fit_is_on_its_record(run: Run):
    run.estimates = [replace(run.estimates[0], note="")]
    tell(run, LogsHook())
    (record,) = [record for record in written(run.bundle) if record["eventName"] == "model.estimated"]
    assert "goldtrace.model.note" not in record["attributes"]
