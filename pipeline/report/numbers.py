"""Numbers, sizes, durations, times and p values as a person reads them. Pure text, no markup, no clock."""

import math
from datetime import UTC, datetime
from typing import Final

MINUS: Final = "\N{MINUS SIGN}"
_SUPERSCRIPTS: Final = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
# Not strftime's, which speaks the process's language: the same bundle gives the same bytes everywhere.
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Beyond this many decimals a reader counts zeros; powers of ten are easier.
MOST_DECIMALS: Final = 6


def count(value: int) -> str:
    """`7301` as `7,301`."""
    return f"{value:,}".replace("-", MINUS)


def counted(value: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `7,301 rows`; `plural` where it isn't made with an s."""
    return f"{count(value)} {noun if value == 1 else plural or noun + 's'}"


def share(value: float) -> str:
    """`0.0233` as `2.3 %`; never `0 %` for something or `100 %` for not quite all."""
    percent = value * 100
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.1f} %"


def size(value: int) -> str:
    """Bytes in powers of ten: `512 B`, `68.2 kB`, `1.3 GB`."""
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{value} B" if unit == "B" else f"{_three(amount)} {unit}"
        amount /= 1000
    return f"{_three(amount)} TB"


def duration(seconds: float) -> str:
    """`0.4 ms`, `38 ms`, `0.42 s`, `4.2 s`, `1 min 5 s`, `2 h 3 min`."""
    if seconds < 0.0995:
        return f"{_three(seconds * 1000) if seconds < 0.00995 else round(seconds * 1000)} ms"
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def _three(value: float) -> str:
    """Up to two or three significant digits, without a trailing `.0`."""
    text = f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"
    return text.removesuffix(".0")


def moment(time: datetime) -> str:
    """`21 Nov 2026, 14:11:02 UTC`."""
    at = time.astimezone(UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at:%Y, %H:%M:%S} UTC"


def clock(time: datetime) -> str:
    """`14:11:02.123` in UTC, for lists where the day is known."""
    at = time.astimezone(UTC)
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"


def p_value(value: float | None) -> str:
    """`<0.001`, `0.043`, `0.43`; a dash when there is none."""
    if value is None:
        return "–"
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.0995 else f"{value:.2f}"


def p_phrase(value: float) -> str:
    """`p < 0.001` or `p = 0.43`."""
    return "p < 0.001" if value < 0.001 else f"p = {p_value(value)}"


def decimals(*spreads: float | None, digits: int = 2) -> int:
    """How many decimals show the first known spread (a standard error, an interval's half width) with `digits` digits."""
    for spread in spreads:
        if spread is not None and math.isfinite(spread) and spread > 0:
            return digits - 1 - math.floor(math.log10(float(f"{spread:.{digits - 1}e}")))
    return digits


def number(value: float | None, places: int) -> str:
    """`value` rounded to `places` decimals, with thousands separators; powers of ten where the zeros would be many."""
    if value is None:
        return "–"
    if places <= MOST_DECIMALS:
        text = f"{value:,.{max(places, 0)}f}"
        return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", MINUS)
    # One exponent for all numbers shown with these decimals, so that an estimate and its interval can be compared.
    return f"{number(value * 10 ** (places - 1), 1)} × 10{str(1 - places).translate(_SUPERSCRIPTS)}"


def significant(value: float | None, digits: int = 3) -> str:
    """`value` with that many significant digits, for numbers that stand without a spread."""
    if value is None:
        return "–"
    return number(value, decimals(abs(value), digits=digits)) if value else "0"
