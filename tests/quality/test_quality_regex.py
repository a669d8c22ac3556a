"""Regular expressions: what is refused and where, and that what is taken means one thing in RE2 and in Python."""

import re
from collections.abc import Iterator
from string import ascii_letters, punctuation

import duckdb
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline.quality.regexes import python_pattern, refusal

REFUSED = [
    (r"\d+", 0, "[0-9]"),
    (r"a\w", 1, "[A-Za-z0-9_]"),
    (r"\s", 0, "[ "),
    (r"\bx\b", 0, "beside the word"),
    (r"x\Z", 1, "write $"),
    (r"x\z", 1, "write $"),
    (r"\Ax", 0, "write ^"),
    (r"(a)\1", 3, "subset"),
    (r"\x41", 0, "subset"),
    (r"\pL", 0, "subset"),
    (r"\Qa.b\E", 0, "subset"),
    (r"(?i)a", 0, "plain groups"),
    (r"(?P<n>a)", 0, "plain groups"),
    (r"a(?=b)", 1, "plain groups"),
    (r"(?<!a)b", 0, "plain groups"),
    (r"(?>a)", 0, "plain groups"),
    (r"(?#x)a", 0, "plain groups"),
    (r"a++", 2, "subset"),
    (r"a*+", 2, "subset"),
    (r"a**", 2, "subset"),
    (r"a{2}{3}", 4, "subset"),
    (r"a{,3}", 1, "{2,5}"),
    (r"a{02}", 1, "{2,5}"),
    (r"a{", 1, r"\{"),
    (r"a{3,2}", 1, "subset"),
    (r"a{1001}", 1, "subset"),
    (r"((a{11}){10}){10}", 13, "subset"),
    (r"(a*)*", 4, "at least one"),
    (r"(a|)+", 4, "at least one"),
    (r"^(?:)", 1, "leave the group out"),
    (r"a()", 1, "leave the group out"),
    (r"^*a", 1, "subset"),
    (r"*a", 0, r"\*"),
    (r"(+a)", 1, r"\+"),
    (r"a]", 1, r"\]"),
    (r"a}", 1, r"\}"),
    (r"(a", 0, "subset"),
    (r"a)", 1, r"\)"),
    (r"[a", 0, r"\["),
    (r"[]", 0, r"\]"),
    (r"[]a]", 0, r"\]"),
    (r"[^]", 0, r"\]"),
    (r"[[:alpha:]]", 1, r"\["),
    (r"[a&&b]", 2, r"\&"),
    (r"[a--b]", 3, r"\-"),
    (r"[z-a]", 1, "subset"),
    (r"[a-\d]", 3, "[0-9]"),
    (r"[a-c-e]", 4, r"\-"),
    ("a\\", 1, "subset"),
    ("é", 0, "\\n"),
    ("a\nb", 1, "\\n"),
    ("", 0, "subset"),
    ("(" * 51 + "a" + ")" * 51, 50, "subset"),
]
TAKEN = [
    r"^P[0-9]{3}$",
    r"^(yes|no)$",
    r"a.b",
    r"[+-]?[0-9]+(\.[0-9]*)?",
    r"^[^@ ]+@[^@ ]+$",
    r"a|",
    r"x{0}y",
    r"[\]\[\\^-]",
    r"\t\n\r",
    r"^$",
    r"(?:ab){2,3}?c+?",
    r"[a^]",
    r"\.\_\ \#",
]

PARTS = [*"()[]{}|^$.*+?\\-,:=!<", *"ab09dwZ ", "&&", "--", "(?", "[^", "{1,2}", "\\d", *"_#~'\"/"]
TEXTS = st.lists(st.text(alphabet=st.sampled_from("aAbB0 9_-.\n\r\té\u0130\u017f\u0663\u2028,]^$\\{|\0"), max_size=8), min_size=1, max_size=12)


@st.composite
def patterns(draw: st.DrawFn, depth: int = 3) -> str:
    """Patterns as the grammar of the subset allows them."""
    atom = st.one_of(
        st.sampled_from([*"abA0 9_,.", r"\.", r"\$", r"\n", r"\t", r"\\", r"\{", r"\-"]),
        st.sampled_from(["[ab]", "[^ab]", "[a-c0-9]", "[^\\n]", "[+-]", r"[\]\\^]", "[a^]", "[ -~]"]),
        *([patterns(depth=depth - 1).map(lambda inside: f"({inside})"), patterns(depth=depth - 1).map(lambda inside: f"(?:{inside})")] if depth else []),
    )
    quantifier = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?", "??", "{1,2}?"])
    piece = st.one_of(st.tuples(atom, quantifier).map("".join), st.sampled_from(["^", "$"]))
    return "|".join(draw(st.lists(st.lists(piece, max_size=4).map("".join), min_size=1, max_size=2)))


@pytest.fixture(scope="module")
def re2() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        yield connection


def matches(re2: duckdb.DuckDBPyConnection, pattern: str, texts: list[str]) -> list[bool]:
    """What DuckDB says of a constant pattern, which is what its optimizer rewrites."""
    quoted = pattern.replace("'", "''")
    return [bool(row[0]) for row in re2.execute(f"SELECT regexp_matches(t, '{quoted}') FROM (SELECT unnest(?) AS t)", [texts]).fetchall()]


def agree(re2: duckdb.DuckDBPyConnection, pattern: str, texts: list[str]) -> None:
    compiled = re.compile(python_pattern(pattern))
    assert matches(re2, pattern, texts) == [compiled.search(text) is not None for text in texts]


@pytest.mark.parametrize(("pattern", "position", "hint"), REFUSED)
def test_a_pattern_outside_of_the_subset_is_refused_at_its_place(pattern: str, position: int, hint: str) -> None:
    refused = refusal(pattern)
    assert refused is not None
    assert refused.position == position
    assert hint in refused.hint


@pytest.mark.parametrize("pattern", TAKEN)
def test_a_pattern_of_the_subset_is_taken(re2: duckdb.DuckDBPyConnection, pattern: str) -> None:
    assert refusal(pattern) is None
    agree(re2, pattern, ["", "P001", "yes", "a\nb", "a-b", "-1.5", "a@b", "ab\n", "]", "\t\n\r", "ababc", "y", "._ #"])


def test_the_end_of_the_text_is_its_end_in_both_engines(re2: duckdb.DuckDBPyConnection) -> None:
    assert re.search("b$", "ab\n"), "Python's own $ stops before a final newline"
    assert python_pattern(r"[$](b$)\$") == r"[$](?:b\Z)\$"
    agree(re2, "b$", ["ab", "ab\n", "ab\nc"])


@settings(max_examples=100)
@given(pattern=patterns(), texts=TEXTS)
@example(pattern="(?:|a)+$", texts=["b", "a"])
def test_patterns_of_the_subset_mean_the_same_in_both_engines(re2: duckdb.DuckDBPyConnection, pattern: str, texts: list[str]) -> None:
    assume(refusal(pattern) is None)
    agree(re2, pattern, texts)


@settings(max_examples=200)
@given(pattern=st.lists(st.sampled_from(PARTS), min_size=1, max_size=9).map("".join), texts=TEXTS)
def test_whatever_is_not_refused_means_the_same_in_both_engines(re2: duckdb.DuckDBPyConnection, pattern: str, texts: list[str]) -> None:
    assume(refusal(pattern) is None)
    agree(re2, pattern, texts)


@pytest.mark.parametrize("char", [*punctuation, " "])
def test_every_escaped_sign_stands_for_itself(re2: duckdb.DuckDBPyConnection, char: str) -> None:
    for pattern in (f"^\\{char}$", f"^[\\{char}]$"):
        assert refusal(pattern) is None
        assert matches(re2, pattern, [char, "a", char + "\n"]) == [True, False, False]
        agree(re2, pattern, [char, "a", "\\", char + "\n"])


@pytest.mark.parametrize("letter", sorted(set(ascii_letters + "0123456789") - set("tnr")))
def test_no_escaped_letter_or_digit_is_taken(letter: str) -> None:
    assert refusal(f"\\{letter}") is not None
    assert refusal(f"[\\{letter}]") is not None
