r"""The regular expressions that contracts may use: the ASCII subset that means the same in RE2 and in Python.

DuckDB's engine is RE2, Great Expectations' is Python's `re` or, through pandas' Arrow strings, RE2. Where they differ
(`\d`, `\w`, `\s`, `\b` are Unicode in Python; `$` stops before a final newline there; lookarounds and back references
don't exist in RE2; `{,3}` is literal in RE2; `[[:alpha:]]` is a set of letters in RE2 only …) a pattern is refused.

Patterns are searched for, as Great Expectations does: `^` and `$` are what ties them to the start and the end of the text.

    pattern     = alternative *("|" alternative)
    alternative = *piece
    piece       = "^" | "$" | atom [quantifier]
    atom        = letter | "." | class | "\" punctuation | "\t" | "\n" | "\r" | "(" pattern ")" | "(?:" pattern ")"
    quantifier  = ("*" | "+" | "?" | "{n}" | "{n,}" | "{n,m}") ["?"]
"""

import re
from dataclasses import dataclass
from typing import Final

_PRINTABLE: Final = frozenset(map(chr, range(0x20, 0x7F)))
_PUNCTUATION: Final = frozenset(c for c in _PRINTABLE if not c.isalnum())
_CONTROLS: Final = frozenset("tnr")
_QUANTIFIERS: Final = frozenset("*+?{")
_COUNTED: Final = re.compile(r"\{(0|[1-9][0-9]*)(,(0|[1-9][0-9]*)?)?\}")
_MAX_REPEATS: Final = 1000  # RE2 refuses more, nested repeats multiplied
_MAX_DEPTH: Final = 50

_HINTS: Final = {
    "d": "write [0-9]",
    "D": "write [^0-9]",
    "w": "write [A-Za-z0-9_]",
    "W": "write [^A-Za-z0-9_]",
    "s": "write [ \\t\\r\\n]",
    "S": "write [^ \\t\\r\\n]",
    "b": "say what may stand beside the word, such as (^|[^a-z])word($|[^a-z])",
    "Z": "write $, which is the end of the text here",
    "z": "write $, which is the end of the text here",
    "A": "write ^",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pattern is not of the subset. `position` counts characters from 0."""

    position: int
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Part:
    """What a parsed part can do: whether it can match nothing, and how often its counted repeats multiply."""

    empty: bool
    repeats: int = 1


class _RefusedError(Exception):
    """Carries a refusal out of the parser."""

    def __init__(self, position: int, reason: str, hint: str = "docs/contracts.md has the subset") -> None:
        super().__init__(reason)
        self.refusal = Refusal(position, reason, hint)


def refusal(pattern: str) -> Refusal | None:
    """Why `pattern` can't be used in a contract, or None when it can."""
    try:
        _Parser(pattern).parse()
    except _RefusedError as error:
        return error.refusal
    return None


def python_pattern(pattern: str) -> str:
    r"""`pattern`, which is of the subset, as Python and pandas have to be given it.

    `$` becomes `\Z`, since Python's `$` also matches before a final newline; groups become non-capturing, since
    pandas warns about others.
    """
    translated: list[str] = []
    in_class = False
    position = 0
    while position < len(pattern):
        char = pattern[position]
        taken = 2 if char == "\\" else 1
        text = pattern[position : position + taken]
        if in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
        elif char == "$":
            text = r"\Z"
        elif char == "(" and not pattern.startswith("(?", position):
            text = "(?:"
        translated.append(text)
        position += taken
    return "".join(translated)


class _Parser:
    """A recursive descent over one pattern."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self.depth = 0

    def parse(self) -> None:
        if not self.pattern:
            raise _RefusedError(0, "an empty pattern matches everything")
        for position, char in enumerate(self.pattern):
            if char not in _PRINTABLE:
                raise _RefusedError(position, f"{char!r} is not printable ASCII", "newline, tab and return are written \\n, \\t, \\r")
        self._alternatives()
        if self.position < len(self.pattern):
            raise _RefusedError(self.position, "a closing bracket without an opening one", "a bracket that is meant is written \\)")

    def _peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def _take(self) -> str:
        char = self._peek()
        self.position += 1
        return char

    def _alternatives(self) -> _Part:
        parts = [self._alternative()]
        while self._peek() == "|":
            self._take()
            parts.append(self._alternative())
        return _Part(any(part.empty for part in parts), max(part.repeats for part in parts))

    def _alternative(self) -> _Part:
        parts = [_Part(empty=True)]
        while self._peek() and self._peek() not in "|)":
            parts.append(self._piece())
        return _Part(all(part.empty for part in parts), max(part.repeats for part in parts))

    def _piece(self) -> _Part:
        if self._peek() in ("^", "$"):
            self._take()
            if self._peek() and self._peek() in _QUANTIFIERS:
                raise _RefusedError(self.position, "an anchor can't be repeated")
            return _Part(empty=True)
        return self._quantified(self._atom())

    def _atom(self) -> _Part:
        start, char = self.position, self._take()
        if char == "(":
            return self._group(start)
        if char == "[":
            return self._class(start)
        if char == "\\":
            self._escaped(start)
        elif char in _QUANTIFIERS:
            raise _RefusedError(start, f"{char!r} repeats nothing", f"the character itself is written \\{char}")
        elif char in "]}":
            raise _RefusedError(start, f"{char!r} without an opening bracket", f"the character itself is written \\{char}")
        return _Part(empty=False)

    def _group(self, start: int) -> _Part:
        if self._peek() == "?":
            if not self.pattern.startswith("(?:", start):
                raise _RefusedError(start, "flags, lookarounds, named and other special groups differ between engines", "plain groups are (…) and (?:…)")
            self.position += 2
        if self._peek() == ")":
            raise _RefusedError(start, "an empty group", "DuckDB takes ^(?:) for ^$; leave the group out")
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _RefusedError(start, f"groups are nested more than {_MAX_DEPTH} deep")
        inside = self._alternatives()
        if self._take() != ")":
            raise _RefusedError(start, "a group is not closed")
        self.depth -= 1
        return inside

    def _escaped(self, start: int) -> str:
        char = self._take()
        if char in _PUNCTUATION or char in _CONTROLS:
            return {"t": "\t", "n": "\n", "r": "\r"}.get(char, char)
        if not char:
            raise _RefusedError(start, "a backslash at the end")
        raise _RefusedError(start, f"\\{char} differs between engines or is in one only", _HINTS.get(char, "docs/contracts.md has the subset"))

    def _class(self, start: int) -> _Part:
        if self._peek() == "^":
            self._take()
        first = self.position
        while self._peek() != "]":
            if not self._peek():
                raise _RefusedError(start, "a set is not closed", "a bracket that is meant is written \\[")
            low_at, low = self.position, self._member(first)
            if self._peek() == "-" and self.pattern[self.position + 1 : self.position + 2] not in ("]", ""):
                self._take()
                if self._member(first) < low:
                    raise _RefusedError(low_at, "a range of a set runs backwards")
        if self.position == first:
            raise _RefusedError(start, "an empty set", "a closing bracket that is meant is written \\]")
        self._take()
        return _Part(empty=False)

    def _member(self, first: int) -> str:
        start, char = self.position, self._take()
        if char == "\\":
            return self._escaped(start)
        if char == "[":
            raise _RefusedError(start, "'[' in a set opens a named set in one engine only", "the character itself is written \\[")
        if char == "-" and start != first and self._peek() != "]":
            raise _RefusedError(start, "'-' stands for itself only first or last in a set", "elsewhere it is written \\-")
        if char in "-&~|" and self._peek() == char:
            raise _RefusedError(start, f"'{char}{char}' in a set is kept for set operations in Python", f"the character itself is written \\{char}")
        return char

    def _quantified(self, atom: _Part) -> _Part:
        start, char = self.position, self._peek()
        if not char or char not in _QUANTIFIERS:
            return atom
        low, high, counted = self._bounds(start)
        if self._peek() == "?":
            self._take()
        if self._peek() and self._peek() in _QUANTIFIERS:
            raise _RefusedError(self.position, "two repeats in a row")
        if atom.empty:
            raise _RefusedError(start, "what is repeated can match nothing", "make it match at least one character, or leave the repeat out")
        repeats = atom.repeats * max(high, 1) if counted else atom.repeats
        if repeats > _MAX_REPEATS:
            raise _RefusedError(start, f"more than {_MAX_REPEATS} repeats, those of inner groups multiplied")
        return _Part(low == 0, repeats)

    def _bounds(self, start: int) -> tuple[int, int, bool]:
        char = self._peek()
        if char != "{":
            self._take()
            return (1 if char == "+" else 0), 1, False
        counted = _COUNTED.match(self.pattern, start)
        if counted is None:
            raise _RefusedError(start, "'{' opens no repeat", "repeats are {2}, {2,}, {2,5}; the character itself is written \\{")
        self.position = counted.end()
        low = int(counted[1])
        high = int(counted[3]) if counted[3] else low
        if high < low:
            raise _RefusedError(start, "a repeat runs backwards")
        return low, high, True
