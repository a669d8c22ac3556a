"""What may leave the lake in words: messages, stack traces and log fields without the values of anybody's rows.

Errors of DuckDB, pandas and user code quote what they choked on, with and without quotation marks, so a list of what to take
out would always have a hole. The rule is the other way round: a word stays when it is known not to be data, and everything
else becomes `…`. Known are

- the common words of error messages (`words.py`);
- names that the pipeline declares: datasets, columns, steps, models, terms, input files, and the words of its SQL files;
- what stands in the code that raised or logged: string literals (also the fixed parts of an f-string) and identifiers;
- numbers that say a place, a count, a duration or a size (`line 12`, `record 7`, `436 rows`, `3.2 s`), and no others.

What is in quotation marks stays only when all of it is one such name. Free fields of log lines: numbers and booleans stay,
unless the field is called like a column that is not `public` (`weight` like `weight_kg`); text goes through the same rule; all else is replaced by its
type. Nothing is hashed, as subject ids are few enough to be guessed back. `docs/telemetry.md` says the same for readers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from numbers import Integral, Real
from pathlib import Path, PurePath
from types import CodeType, FrameType, TracebackType

from pipeline.errors import GoldtraceError, StepError
from pipeline.records import Failure, Privacy, Run, StepRun
from pipeline.telemetry.words import WORDS

MASK = "…"
MAX_MESSAGE = 1_000
MAX_INPUT = 20_000
MAX_FRAMES = 40
MAX_ITEMS = 20

Field = str | int | float | bool | list[str]

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*")
_HOME = re.compile(r"(?:/home/|/Users/|[A-Za-z]:\\Users\\)[^/\\\s:'\"]+")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_PLACE = r"(?:lines?|records?|rows?|positions?|columns?|index|axis|offset|bytes?|errno|chunk|size|length|code|signal)"
_COUNTED = (
    r"(?:rows?|records?|lines?|files?|columns?|datasets?|steps?|checks?|groups?|clusters?|subjects?|models?|terms?|iterations?|observations?|values?|threads?"
    r"|errors?|warnings?|times|attempts?|elements?|arguments?|bytes|[kKMGT]i?B|ns|us|µs|ms|s|seconds?|minutes?|hours?|days?)"
)
_TOKEN = re.compile(
    rf"(?P<place>\b{_PLACE}[\s:=#]{{1,2}}(?P<at>\d+)\b(?!\.\d))"
    rf"|(?P<count>(?<![\w.])\d[\d_,]*(?:\.\d+)?\s?{_COUNTED}\b)"
    r"|(?P<quoted>(?<!\w)(?P<mark>['\"`])(?P<inner>[^'\"`\n]*)(?P=mark)(?!\w))"
    r"|(?P<word>\w+(?:'[a-z]{1,2}\b|\(s\))?)"
    r"|(?P<other>[^\x00-\x7f…]+)",
    re.IGNORECASE,
)
_TYPE = re.compile(r"(?:u?int|float|complex|datetime|timedelta|decimal|utf|string|bool|ns|us|ms)_?\d{1,3}", re.IGNORECASE)
_CLASS = re.compile(r"[A-Z][A-Za-z]*(?:Error|Exception|Exit|Warning|Interrupt|Frame|Series|Index|Type)")
_RUNS = re.compile(rf"{MASK}(?:[\s,.;:/\\|+\-_=@#*()\[\]{{}}<>]*{MASK})+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known not to be data: whole names, and lower-case words; and the columns whose values are a person's."""

    names: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    personal: frozenset[str] = frozenset()

    @classmethod
    def of(cls, run: Run) -> Known:
        """The names that a run's pipeline declares, and those of its input files."""
        pipeline = run.pipeline
        columns = [column for contract in pipeline.contracts.values() for column in contract.columns]
        names = {pipeline.name, *(column.name for column in columns), *(source.file for source in run.inputs)}
        for dataset in pipeline.contracts:
            names |= {dataset, dataset.replace("/", "."), *dataset.split("/")}
        names |= {step.name for step in pipeline.steps} | {name for estimate in run.estimates for name in (estimate.model, estimate.term)}
        personal = frozenset(column.name for column in columns if column.privacy is not Privacy.PUBLIC)
        sql = frozenset(word for step in pipeline.steps if step.sql for word in _words_of_file(step.sql))
        return cls(names=frozenset(names), words=sql, personal=personal)

    def and_code(self, *codes: CodeType) -> Known:
        """The same, and the literals and identifiers of these pieces of code."""
        return replace(self, words=self.words.union(*(_words_of_code(code) for code in codes)))

    def has(self, word: str) -> bool:
        """Whether a word may stay: it is known, or made of known ones with `_` between."""
        if word in self.names or _TYPE.fullmatch(word) or _CLASS.fullmatch(word):
            return True
        return all(part in WORDS or part in self.words or part in self.names for part in word.lower().split("_") if part)

    def is_personal(self, field: str) -> bool:
        """Whether a field is called like a column about a person: all words of one name are in the other (`weight`, `weight_kg`)."""
        words = _name_words(field)
        return any(words <= column or column <= words for column in map(_name_words, self.personal))


def _name_words(name: str) -> frozenset[str]:
    return frozenset(re.split(r"[._-]", name.lower()))


NOTHING = Known()


@lru_cache(maxsize=256)
def _words_of_file(path: Path) -> frozenset[str]:
    try:
        return _words(path.read_text("utf-8", errors="replace"))
    except OSError:
        return frozenset()


@lru_cache(maxsize=4096)
def _words_of_code(code: CodeType) -> frozenset[str]:
    """The words of a function's literals and identifiers, without its docstring, which may tell of data."""
    # Up to Python 3.13 a function's first constant is its docstring or None.
    literals = code.co_consts[1 if code.co_consts and isinstance(code.co_consts[0], str) else 0 :]
    texts = [*_strings(literals), *code.co_names, *code.co_varnames, *code.co_freevars, code.co_name]
    return frozenset().union(*(_words(text) for text in texts))


def _strings(literals: tuple[object, ...] | frozenset[object]) -> Iterator[str]:
    for literal in literals:
        if isinstance(literal, str):
            yield literal
        elif isinstance(literal, tuple | frozenset):
            yield from _strings(literal)


def _words(text: str) -> frozenset[str]:
    return frozenset(part for word in re.findall(r"\w+", text.lower()) for part in (word, *word.split("_")) if len(part) > 1 and not part.isdecimal())


# ---------------------------------------------------------------------------------------------- text


def tidy(text: str) -> str:
    """Text of our own without control characters, e-mail addresses and users' home folders."""
    text = _CONTROL.sub("", text)
    text = _EMAIL.sub(MASK, text) if "@" in text else text
    return _HOME.sub("~", text.replace(_home(), "~")) if "/" in text or "\\" in text else text


@lru_cache(maxsize=1)
def _home() -> str:
    """This user's home folder; a root user's `/` is no folder of a person, and neither is an empty one."""
    home = str(Path.home())
    return home if len(home) > 1 else "\0"


def scrub(text: str, known: Known = NOTHING) -> str:
    """Text of others with everything replaced that is not known; at most 1,000 characters."""
    text = tidy(text[:MAX_INPUT])
    spelled = _spelled(known.names)
    # Names with a slash, a dot or a space in them are kept whole; the rest goes by words.
    parts = spelled.split(text) if spelled else [text]
    text = "".join(part if place % 2 else _mask(part, known) for place, part in enumerate(parts))
    text = _RUNS.sub(MASK, text)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + MASK


@lru_cache(maxsize=64)
def _spelled(names: frozenset[str]) -> re.Pattern[str] | None:
    """What finds the names that are not one word, the longest first."""
    found = sorted((name for name in names if not re.fullmatch(r"\w+", name)), key=len, reverse=True)
    return re.compile(rf"(?<![\w/.-])({'|'.join(map(re.escape, found))})(?![\w/-])") if found else None


def _mask(text: str, known: Known) -> str:
    def kept(match: re.Match[str]) -> str:
        if match["place"] or match["count"]:
            return match[0]
        if match["quoted"]:
            return match[0] if match["inner"] in known.names or _is_name(match["inner"], known) else f"{match['mark']}{MASK}{match['mark']}"
        return match[0] if match["word"] and known.has(re.split(r"['(]", match["word"])[0]) else MASK

    return _TOKEN.sub(kept, text)


def _is_name(text: str, known: Known) -> bool:
    """Whether quoted text is one identifier of the code or one type of a column, and not a sentence or a number."""
    return text.isidentifier() and (_TYPE.fullmatch(text) is not None or known.has(text))


# ---------------------------------------------------------------------------------------------- exceptions


def failure(error: BaseException, known: Known = NOTHING, *, step: StepRun | None = None) -> Failure:
    """The record of an exception: the only way from an exception to a bundle.

    Our own messages are written without values, so they are only tidied; a `StepError` that wraps another error and every foreign one are scrubbed.
    """
    ours = isinstance(error, GoldtraceError)
    slug = error.slug if isinstance(error, GoldtraceError) else "aborted" if not isinstance(error, Exception) else "step" if step else "bug"
    return Failure(
        type=slug,
        message=message(error, known),
        hint=tidy(error.hint) if isinstance(error, GoldtraceError) else "",
        exception=exception_name(error.__cause__ if ours and isinstance(error.__cause__, Exception) else error),
        step=step.step.name if step else None,
        stacktrace=stacktrace(error, known),
    )


def message(error: BaseException, known: Known = NOTHING) -> str:
    """What an exception says, without values; our own as they are, since they are written so."""
    if isinstance(error, GoldtraceError) and not (isinstance(error, StepError) and error.__cause__):
        return tidy(error.message)
    try:
        text = str(error) or exception_name(error)  # a MemoryError says nothing
    except Exception as broken:  # noqa: BLE001 - a user's class may fail to say what it is, which must not hide its error
        text = f"no message, as str() raised {type(broken).__name__}"
    return scrub(text, known.and_code(*(frame.f_code for each in _chain(error) for frame, _ in _frames(each.__traceback__))))


def exception_name(error: BaseException) -> str:
    """The class, with its module unless that is builtins."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def stacktrace(error: BaseException, known: Known = NOTHING) -> str:
    """Where an exception and its causes were raised: file (relative to its package), line, function; causes first, as in Python."""
    blocks = []
    for each in reversed(list(_chain(error))):
        lines = [f'File "{_relative(frame)}", line {line}, in {frame.f_code.co_name}' for frame, line in _frames(each.__traceback__)]
        blocks.append("\n".join([*lines, f"{exception_name(each)}: {message(each, known)}"]))
    return "\n\n".join(blocks)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, its cause, the cause's cause …, each once."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < MAX_FRAMES:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    """The innermost frames, outermost first."""
    frames = []
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    yield from frames[-MAX_FRAMES:]


def _relative(frame: FrameType) -> str:
    """A file as its module's name says where it is: `pipeline/study/gold.py`, wherever it is installed."""
    file = PurePath(frame.f_code.co_filename)
    package = str(frame.f_globals.get("__name__", "")).split(".")
    if file.stem != "__init__":
        package = package[:-1]
    return "/".join([*package, file.name])


# ---------------------------------------------------------------------------------------------- fields of log lines


def fields(values: Mapping[str, object], known: Known) -> dict[str, Field]:
    """The free fields of a log line that may be kept; a field whose own name is not known is left out."""
    kept = {key: field(key, value, known) for key, value in values.items() if all(known.has(part) for part in re.split(r"[.\-]", str(key)))}
    return {key: value for key, value in kept.items() if value is not None}


def field(key: str, value: object, known: Known) -> Field | None:
    """One field's value as it may be kept, or None when there is nothing to keep."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Real):
        return MASK if known.is_personal(key) else _number(value)
    if isinstance(value, PurePath):
        value = value.name
    if isinstance(value, str):
        return scrub(value, known)
    if isinstance(value, list | tuple) and len(value) <= MAX_ITEMS and all(isinstance(item, str) and item in known.names for item in value):
        return [str(item) for item in value]
    return None if value is None else f"<{type(value).__name__}>"


def _number(value: Real) -> int | float | bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if math.isfinite(value) else None
