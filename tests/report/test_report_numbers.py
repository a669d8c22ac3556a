from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import numbers


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"),
        (0.0004, "0.4 ms"),
        (0.0381, "38 ms"),
        (0.42, "0.42 s"),
        (0.996, "1.0 s"),
        (4.2, "4.2 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (65, "1 min 5 s"),
        (7380, "2 h 3 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_durations_are_said_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert numbers.duration(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (68_230, "68.2 kB"), (849_000_000, "849 MB"), (1_300_000_000, "1.3 GB"), (2_000_000_000_000, "2 TB")],
)
def test_sizes_are_in_powers_of_ten(size: int, words: str) -> None:
    assert numbers.size(size) == words


@pytest.mark.parametrize(
    ("p", "words"), [(0.0000001, "<0.001"), (0.001, "0.001"), (0.0432, "0.043"), (0.0996, "0.10"), (0.43, "0.43"), (1.0, "1.00"), (None, "–")]
)
def test_p_values_are_never_zero(p: float | None, words: str) -> None:
    assert numbers.p_value(p) == words


@pytest.mark.parametrize(("part", "words"), [(0, "0 %"), (0.00001, "<0.1 %"), (0.0233, "2.3 %"), (0.333, "33 %"), (0.99999, ">99.9 %"), (1, "100 %")])
def test_a_share_is_nothing_or_all_only_when_it_is(part: float, words: str) -> None:
    assert numbers.share(part) == words


@pytest.mark.parametrize(
    ("value", "spread", "words"),
    [
        (-0.25, 0.1, "−0.25"),
        (0.21432, 0.1187, "0.21"),
        (-0.000312, 0.000448, "−0.00031"),
        (-0.00000871, 0.00000402, "−8.7 × 10⁻⁶"),
        (1234567.8, 2345.6, "1,234,568"),
        (-0.0001, 0.1, "0.00"),
        (None, 0.1, "–"),
    ],
)
def test_a_number_has_the_digits_that_its_spread_leaves(value: float | None, spread: float, words: str) -> None:
    assert numbers.number(value, numbers.decimals(spread)) == words


@given(value=st.floats(min_value=1e-12, max_value=1e12), digits=st.integers(min_value=2, max_value=4))
def test_a_number_is_never_further_off_than_half_its_last_digit(value: float, digits: int) -> None:
    text = numbers.significant(value, digits).replace(",", "").replace(numbers.MINUS, "-")
    mantissa, _, power = text.partition(" × 10")
    exponent = int(power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))) if power else 0
    assert abs(float(mantissa) * 10.0**exponent - value) <= 0.51 * value * 10.0 ** (1 - digits) or value > 1e4


def test_times_are_said_in_utc_wherever_they_were_taken() -> None:
    at = datetime(2026, 11, 21, 16, 11, 2, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert numbers.moment(at) == "21 Nov 2026, 14:11:02 UTC"
    assert numbers.clock(at.astimezone(UTC)) == "14:11:02.123"


def test_things_are_counted_in_their_number() -> None:
    assert [numbers.counted(n, "row") for n in (0, 1, 7301)] == ["0 rows", "1 row", "7,301 rows"]
    assert numbers.counted(2, "entry", "entries") == "2 entries"
