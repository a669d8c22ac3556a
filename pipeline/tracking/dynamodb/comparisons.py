"""How SQLite compares: what is missing matches nothing, `LIKE` minds the case, `ILIKE` forgets that of ASCII letters only."""

from __future__ import annotations

import operator
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

Value = str | float | int
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_PLAIN: dict[str, Callable[[Value, Value], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One comparison of a filter: the kind of thing that is compared, and the rest as MLflow parsed it."""

    kind: str
    key: str
    comparator: str
    value: Value | tuple[Value, ...]


def matches(found: Value | None, comparator: str, wanted: Value | tuple[Value, ...]) -> bool:
    """Whether what was found compares so with what is wanted. `wanted` is a tuple for `IN` and `NOT IN`."""
    if found is None:
        return False
    if isinstance(wanted, tuple):
        return (found in wanted) == (comparator == "IN")
    if comparator == "LIKE":
        return _like(str(wanted)).fullmatch(str(found)) is not None
    if comparator == "ILIKE":
        return _like(str(wanted).translate(_LOWER)).fullmatch(str(found).translate(_LOWER)) is not None
    return bool(_PLAIN[comparator](found, wanted))


@lru_cache(maxsize=256)
def _like(pattern: str) -> re.Pattern[str]:
    parts = {"%": ".*", "_": "."}
    return re.compile("".join(parts.get(sign) or re.escape(sign) for sign in pattern), re.DOTALL)
