"""The log of a run: each line goes to the terminal (readable, on stderr) and to `logs.jsonl` (OTLP), and is the same line.

Three things write it: `LogsHook` the facts of the run, `get_logger()` what a user's step has to say (structlog, configured here
for these loggers alone), and a handler on the root logger what the standard library's `logging` is told meanwhile. What is
not ours goes through `privacy.py` first. Each line in the bundle has trace id, span id and, in a step, the step's name.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType
from typing import TYPE_CHECKING, Any

from pipeline import names
from pipeline.errors import LakeError
from pipeline.records import Run, StepRun
from pipeline.telemetry import bundle, facts, privacy
from pipeline.telemetry.facts import Level, Line, Value
from pipeline.telemetry.privacy import Known

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from pipeline.telemetry.otlp_logs import LogFile

# Libraries that would write about our own writing, or that log values.
SILENCED = ("opentelemetry", "urllib3", "openlineage", "mlflow", "great_expectations", "alembic", "sqlglot", "matplotlib")
_COLOURS = {Level.DEBUG: "\x1b[2m", Level.INFO: "\x1b[36m", Level.WARNING: "\x1b[33m", Level.ERROR: "\x1b[31m"}
_RESET = "\x1b[0m"
# Over whatever shows progress in this line of a terminal.
_CLEAR = "\r\x1b[2K"
NEVER = 100


class Style(StrEnum):
    """What a terminal is sent beside text: colours, or only what clears the line that shows progress, or nothing."""

    COLOURED = "coloured"
    MONOCHROME = "monochrome"
    PLAIN = "plain"


# Free lines of a run beyond these are counted and left out: a line costs about .2 ms, and telemetry may cost a run 2 s.
MAX_FREE_LINES = 10_000
# Ours: what is written under these says what `names.py` says. A metric's label (`dataset`, `model`) is a good name for a field.
_RESERVED = frozenset(attribute.name for attribute in names.attributes() if "." in attribute.name) | {names.STEP.name}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def get_logger(name: str = "") -> FilteringBoundLogger:
    """A structlog logger for the code of steps: `log.info("rows read", rows=436)`.

    Numbers and names stay, other text is masked (see `privacy.py`). Outside of a run the lines go to the terminal only.
    """
    import structlog

    logger: FilteringBoundLogger = structlog.wrap_logger(
        object(),
        processors=[structlog.contextvars.merge_contextvars, _deliver],
        wrapper_class=structlog.make_filtering_bound_logger(Level.DEBUG),
        cache_logger_on_first_use=True,
        logger_name=name,
    )
    return logger


def _deliver(_: object, method: str, event: MutableMapping[str, Any]) -> str:
    """The last structlog processor: hands the line over, and lets structlog itself print nothing."""
    import structlog

    name, error = str(event.pop("logger_name", "")), _error(event.pop("exc_info", None))
    _current_sink().free(Said(text=str(event.pop("event", "")), level=_level(method), fields=event, logger=name, error=error))
    raise structlog.DropEvent


def _error(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    return sys.exc_info()[1] if exc_info is True else exc_info if isinstance(exc_info, BaseException) else None


def _level(method: str) -> Level:
    return {"debug": Level.DEBUG, "info": Level.INFO, "warning": Level.WARNING, "warn": Level.WARNING}.get(method, Level.ERROR)


def telemetry_failed(run: Run, signal: str, error: Exception) -> None:  # noqa: ARG001 - the guard hands over the run
    """Tell that a hook failed."""
    _current_sink().write([facts.telemetry_failed(signal, error)])


class LogsHook:
    """Writes a run's log: to the terminal, and unless `to_bundle` is off to the bundle."""

    signal = "logs"

    def __init__(self, *, terminal_level: str = "info", to_bundle: bool = True, style: Style = Style.COLOURED, resource_attributes: str = "") -> None:
        """Set what the terminal shows; what is no terminal gets plain lines whatever the `style`."""
        self._terminal = Level[terminal_level.upper()]
        self._to_bundle = to_bundle
        self._style = style
        self._resource_attributes = resource_attributes
        # The facts of a run are its own, also while another one in this process listens to the loggers.
        self._own: Sink | None = None

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """Write `run.started`, then everything that is logged, then what the run came to."""
        with self._file(run) as file:
            sink = self._own = Sink(terminal=self._terminal, style=self._style, run=run, file=file)
            with _active(sink), _captured(sink):
                sink.write(facts.run_started(run))
                try:
                    yield
                finally:
                    sink.write(sink.left_out())
                    sink.write(facts.run_finished(run))
            sink.check()

    @contextmanager
    def _file(self, run: Run) -> Iterator[LogFile | None]:
        if not self._to_bundle:
            yield None
            return
        from pipeline.telemetry.otlp_logs import LogFile

        with bundle.open_for_append(run.bundle / bundle.LOGS) as stream:
            file = LogFile(run, stream, self._resource_attributes)
            try:
                yield file
            finally:
                file.close()

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:
        """Put the step's name on every line, and write what the step came to."""
        sink = self._own or _current_sink()
        sink.step = step
        try:
            yield
        finally:
            sink.step = None
            sink.write(facts.step_finished(run, step))
        sink.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What somebody else's code logged, with values in it. `echo`: whether the terminal is to show it."""

    text: str
    level: Level
    fields: Mapping[str, object]
    logger: str
    error: BaseException | None
    echo: bool = True


class Sink:
    """Where lines go: the terminal, and a file when there is one. Safe to use from threads."""

    def __init__(self, *, terminal: Level = Level.INFO, style: Style = Style.PLAIN, run: Run | None = None, file: LogFile | None = None) -> None:
        self.step: StepRun | None = None
        self.lost = 0
        self._terminal: int = terminal
        self._style = style
        self._run = run
        self._file = file
        self._told = 0
        self._free = 0
        self._last_ns = 0
        self._lock = threading.Lock()
        self._known: tuple[int, Known] = (-1, privacy.NOTHING)
        self._process = os.getpid()

    def write(self, lines: Iterable[Line]) -> None:
        """Write lines of our own, as they are. A child that a step forked has none: the facts are its parent's."""
        for line in lines if os.getpid() == self._process else ():
            self._write(line)

    def free(self, said: Said) -> None:
        """Write a line of somebody else's code, without values. Never raises, since it is called from a step."""
        self._free += 1
        if self._free > MAX_FREE_LINES:
            return
        try:
            self._write(self._line(said))
        except Exception:  # noqa: BLE001 - a line that can't be written is counted, and must not break the code that logged it
            self.lost += 1

    def _line(self, said: Said) -> Line:
        known = self._names().and_code(*(frame.f_code for frame in _callers()))
        attributes: dict[str, Value] = {names.LOGGER.name: privacy.tidy(said.logger)} if said.logger else {}
        attributes |= {key: value for key, value in privacy.fields(said.fields, known).items() if key not in _RESERVED}
        if said.error is not None:
            attributes |= {
                names.EXCEPTION_TYPE.name: privacy.exception_name(said.error),
                names.EXCEPTION_MESSAGE.name: privacy.message(said.error, known),
                names.EXCEPTION_STACKTRACE.name: privacy.stacktrace(said.error, known),
            }
        step = self.step.step.name if self.step else None
        return Line(body=privacy.scrub(said.text, known), level=said.level, attributes=attributes, step=step, shown_at=None if said.echo else NEVER)

    def left_out(self) -> Iterator[Line]:
        """A line that says how many there were too many, if there were."""
        if self._free > MAX_FREE_LINES:
            body = f"{self._free - MAX_FREE_LINES:,} lines are left out: a run's log has room for {MAX_FREE_LINES:,} lines of its steps"
            yield Line(body=body, level=Level.WARNING)

    def _names(self) -> Known:
        """The run's names, looked up again when another step has begun, as input files and models come to be known."""
        if self._run is not None and self._known[0] != len(self._run.steps):
            self._known = (len(self._run.steps), Known.of(self._run))
        return self._known[1]

    def _write(self, line: Line) -> None:
        if (line.shown_at or line.level) >= self._terminal:
            self._show(line)
        if self._file is None or self._run is None or line.level < Level.INFO:
            return
        with self._lock:
            # Lines keep their order by time too, and no two are at one time: Loki drops equal lines at one.
            self._last_ns = at_ns = max(line.at_ns or self._run.clock.now_ns(), self._last_ns + 1)
            self._file.write(line, at_ns, self.step.span_id if self.step else self._run.span_id)

    def _show(self, line: Line) -> None:
        try:
            style = self._style if sys.stderr.isatty() else Style.PLAIN
            sys.stderr.write((_CLEAR if style is not Style.PLAIN else "") + _readable(line, colour=style is Style.COLOURED) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            self._terminal = NEVER  # closed, or none at all: nobody reads there, and the bundle has the line

    def check(self) -> None:
        """Raise when lines could not be written since the last look, so that the loss is counted.

        Raises:
            LakeError: a write failed.
        """
        lost = self.lost + (self._file.lost if self._file else 0)
        new, self._told = lost - self._told, lost
        if new:
            raise LakeError(f"{new} log records could not be written to {bundle.LOGS}", hint="is the disk full?")


# Of the run that this thread runs. A thread that a step starts has none: its lines go to the run that began last.
_own_sink: ContextVar[Sink | None] = ContextVar("_own_sink", default=None)
# Those of the runs in this process, by their beginning, after the one for lines outside of a run.
_sinks = [Sink()]


def _current_sink() -> Sink:
    return _own_sink.get() or _sinks[-1]


@contextmanager
def _active(sink: Sink) -> Iterator[None]:
    """Make a sink the one that loggers write to: those of this thread, and those of threads that run no run of their own."""
    _sinks.append(sink)
    own = _own_sink.set(sink)
    try:
        yield
    finally:
        _own_sink.reset(own)
        _sinks.remove(sink)


def _readable(line: Line, *, colour: bool) -> str:
    known = {key: value for key, value in line.attributes.items() if not line.event and key not in _RESERVED}
    pairs = "".join(f" {key}={value}" for key, value in known.items())
    step = f"{line.step}: " if line.step and not line.event else ""
    level = f"{line.level.name.lower():<7}"
    level = f"{_COLOURS[line.level]}{level}{_RESET}" if colour else level
    trace = line.attributes.get(names.EXCEPTION_STACKTRACE.name)
    return f"{time.strftime('%H:%M:%S')} {level} {step}{line.body}{pairs}" + (f"\n{trace}" if trace else "")


# ---------------------------------------------------------------------------------------------- the standard library's logging


class _Capture(logging.Handler):
    """Brings records of the standard library's loggers into the run's log. The SDK's own handler is deprecated."""

    def __init__(self, sink: Sink, *, echo: bool) -> None:
        super().__init__(level=logging.DEBUG)
        self._sink = sink
        self._echo = echo
        self._busy = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        is_anothers = (_own_sink.get() or self._sink) is not self._sink
        return not (is_anothers or record.name.startswith(SILENCED) or getattr(self._busy, "now", False))

    def emit(self, record: logging.LogRecord) -> None:
        self._busy.now = True  # writing may log in turn
        try:
            extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
            level = max((level for level in Level if level <= record.levelno), default=Level.DEBUG)
            said = Said(text=record.getMessage(), level=level, fields=extra, logger=record.name, error=_error(record.exc_info), echo=self._echo)
            self._sink.free(said)
        except (TypeError, ValueError):
            self._sink.lost += 1  # the message and its arguments don't fit
        finally:
            self._busy.now = False


@contextmanager
def _captured(sink: Sink) -> Iterator[None]:
    """Listen to the root logger for a while. Its level is lowered only where nobody has configured it."""
    root = logging.getLogger()
    untouched = not root.handlers and root.level == logging.WARNING
    handler = _Capture(sink, echo=untouched)
    level = root.level
    root.addHandler(handler)
    if untouched:
        root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


_OURS = (f"{os.sep}logging{os.sep}__init__", f"{os.sep}structlog{os.sep}", __file__)


def _callers() -> Iterator[FrameType]:
    """The frames that logged: the first outside of logging, structlog and this module."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and any(part in frame.f_code.co_filename for part in _OURS):
        frame = frame.f_back
    if frame is not None:
        yield frame
