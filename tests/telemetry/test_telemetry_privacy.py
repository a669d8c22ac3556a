import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pipeline.errors import InputError, StepError
from pipeline.records import Run
from pipeline.telemetry import privacy
from pipeline.telemetry.privacy import MASK, Known
from pipeline.telemetry.words import WORDS
from pipeline.testing import example_run


@pytest.fixture
def known(run: Run) -> Known:
    return Known.of(run)


# ------------------------------------------------------------------------------------------------- what is taken out and what stays


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Conversion Error: Could not convert string 'greek yogurt' to DOUBLE", f"Conversion Error: Could not convert string '{MASK}' to DOUBLE"),
        (
            "CSV Error on Line: 5\nOriginal Line: S1,2024-01-01,greek yogurt\nExpected Number of Columns: 3",
            f"CSV Error on Line: 5\nOriginal Line: {MASK}\nExpected Number of Columns: 3",
        ),
        ("unable to parse: greek yogurt, at position 3", f"unable to parse: {MASK}, at position 3"),
        ("could not convert string to float: 'mom's pie'", f"could not convert string to float: '{MASK}'"),
        ('Referenced column "wieght_kg" not found\nCandidate bindings: "weight_kg"', f'Referenced column "{MASK}" not found\nCandidate bindings: "weight_kg"'),
        ("'S0012'", f"'{MASK}'"),
        ("80.5", MASK),
        ("bad value 80.5 of S0012 on 2024-01-02", f"bad value {MASK} of {MASK} on {MASK}"),
        ("8 columns passed, passed data had 7 columns", "8 columns passed, passed data had 7 columns"),
        ("index 5 is out of bounds for axis 0 with size 5", "index 5 is out of bounds for axis 0 with size 5"),
        ("436 rows in 3.2 s, 16.0 MiB", "436 rows in 3.2 s, 16.0 MiB"),
        ("row 80.5", f"row {MASK}"),
        ("Can't cast 🥛 to INT32; it doesn't match", f"Can't cast {MASK} to INT32; it doesn't match"),
        ("unsupported operand type(s) for +: 'int' and 'str'", "unsupported operand type(s) for +: 'int' and 'str'"),
        ("[Errno 28] No space left on device: '/data/x.parquet'", f"[Errno 28] No space left on device: '{MASK}'"),
        ("step features: bronze/weight has no weight_kg in weight.csv", "step features: bronze/weight has no weight_kg in weight.csv"),
        ("bronze/weightless", f"bronze/{MASK}"),
        ("mail ann@example.org", f"{MASK}"),
        ("a\x00b", MASK),
        ("ValueError: division by zero", "ValueError: division by zero"),
    ],
)
def test_values_go_and_the_error_stays_readable(known: Known, text: str, kept: str):
    assert privacy.scrub(text, known) == kept


def test_words_of_sql_files_are_code(known: Known):
    assert privacy.scrub("weight_mean_kg GROUP by avg", known) == "weight_mean_kg GROUP by avg"


@given(st.text(max_size=200))
@example("…")
def test_what_was_scrubbed_stays_as_it_is(text: str):
    once = privacy.scrub(text)
    assert privacy.scrub(once) == once


@given(st.text(max_size=50))
def test_our_own_text_loses_nothing_but_control_characters(text: str):
    assume("@" not in text and "/" not in text and "\\" not in text)
    assert privacy.tidy(text) == "".join(letter for letter in text if letter in "\t\n" or (letter >= " " and letter != "\x7f"))


def test_a_long_message_is_cut():
    assert len(privacy.scrub("value " * 5_000)) == privacy.MAX_MESSAGE


def test_home_folders_and_addresses_are_taken_out_of_our_own_text():
    assert privacy.tidy("at /home/ann/lake and /Users/ann/x by ann.b+c@mail.example.org") == f"at ~/lake and ~/x by {MASK}"
    assert privacy.tidy(f"{Path.home()}/lake") == "~/lake"


# ------------------------------------------------------------------------------------------------- a secret in every usual shape

# A number beside one of these is a place or a count, which stays.
_UNITS = re.compile(f"{privacy._PLACE}|{privacy._COUNTED}", re.IGNORECASE)
letters = st.text("abcdefghijklmnopqrstuvwxyzäéøßжλ", min_size=2, max_size=12).filter(lambda text: not _UNITS.fullmatch(text))
word = st.one_of(letters, st.from_regex(r"S[0-9]{2,5}", fullmatch=True), st.integers(1000, 9999).map(str), st.floats(30, 300).map(lambda x: f"{x:.2f}"))
secrets = st.lists(word, min_size=1, max_size=3).map(" ".join)

SHAPES = [
    "Could not convert string '{}' to DOUBLE",
    'Duplicate key "{}" violates unique constraint',
    "unable to parse: {}, at position 0",
    "{}",
    "value={}",
    "cannot use {} here",
    "({}, 1)",
    "[{!r}, {!r}]",
    "Original Line: a,{},b",
    "   week   food\n0     1  {}\n1     2  {}",
    "{{'food': '{}'}}",
    "`{}`",
    "“{}”",
    "line 3: {}",
    "key {}: missing",
    "/data/{}/x.csv",
    "<{}>",
    "x\x00{}\x00",
    "a{}b c{}",
]


def _leaks(secret: str, text: str) -> bool:
    """Whether a part of the secret is in the text that is not just a common word."""
    lowered = text.lower()
    return any(part in lowered for part in secret.split() if len(part) > 2 and part not in WORDS and not any(part in word for word in WORDS))


@given(secrets, st.sampled_from(SHAPES))
def test_a_secret_does_not_survive_in_the_text_of_an_exception(secret: str, shape: str):
    assert not _leaks(secret, privacy.scrub(shape.format(secret, secret)))


def _raise_plainly(secret: str) -> None:
    raise ValueError(f"could not use {secret} here")


def _raise_with_arguments(secret: str) -> None:
    raise KeyError(secret, {"food": secret})


def _raise_from(secret: str) -> None:
    try:
        _raise_plainly(secret)
    except ValueError as error:
        raise RuntimeError("it went wrong") from error


def _raise_within(secret: str) -> None:
    try:
        _raise_plainly(secret)
    except ValueError:
        raise StepError(f"step: {secret}") from KeyError(secret)


def _raise_a_group(secret: str) -> None:
    raise ExceptionGroup(secret, [ValueError(secret)])


def _raise_with_a_note(secret: str) -> None:
    error = ValueError(secret)
    error.add_note(f"while reading {secret}")
    raise error


@given(secrets, st.sampled_from([_raise_plainly, _raise_with_arguments, _raise_from, _raise_within, _raise_a_group, _raise_with_a_note]))
def test_a_secret_does_not_survive_in_the_record_of_an_exception(secret: str, raise_it):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the shapes raise different ones
        raise_it(secret)
    failure = privacy.failure(caught.value)
    assert not any(_leaks(secret, text) for text in (failure.message, failure.stacktrace, failure.exception, failure.hint))


FIELDS = [str, lambda s: [s], lambda s: {s: s}, lambda s: (s,), lambda s: s.encode(), Path]


@given(secrets, st.sampled_from(["food", "subject", "value", "note"]), st.sampled_from(FIELDS))
def test_a_secret_does_not_survive_in_a_field_of_a_log_line(secret: str, key: str, shape):
    assert not _leaks(secret, str(privacy.fields({key: shape(secret)}, Known(words=frozenset(["food", "subject"])))))


@given(secrets)
def test_a_secret_does_not_survive_as_the_name_of_a_field(secret: str):
    assert not _leaks(secret, str(privacy.fields({secret: 1}, privacy.NOTHING)))


# ------------------------------------------------------------------------------------------------- exceptions


def test_the_words_of_the_code_that_raised_stay(known: Known):
    def fit(week: int) -> None:
        raise ValueError(f"the turnip of week {week} is bad")

    with pytest.raises(ValueError, match="week") as caught:
        fit(12345)
    assert privacy.message(caught.value, known) == f"the turnip of week {MASK} is bad"
    assert privacy.scrub("the turnip", known) == f"the {MASK}"


def test_a_number_of_the_code_lets_no_number_of_the_data_through():
    def fit(value: float) -> None:
        raise ValueError(f"{value} is over 80")

    with pytest.raises(ValueError, match="over") as caught:
        fit(80.25)
    assert privacy.message(caught.value) == f"{MASK} is over {MASK}"


def test_a_docstring_is_not_code():
    def fit(food: str) -> None:
        """Do something with a turnip."""
        raise ValueError(food)

    with pytest.raises(ValueError, match="nip") as caught:
        fit("nip".rjust(6, "x").replace("xxx", "tur"))
    assert privacy.message(caught.value) == MASK


def test_an_error_of_ours_keeps_its_words_and_its_hint(known: Known):
    failure = privacy.failure(InputError("food.csv: line 3 has 'x' in kcal", hint="mend /home/ann/food.csv"), known)
    assert (failure.type, failure.message, failure.hint, failure.exception) == (
        "input",
        "food.csv: line 3 has 'x' in kcal",
        "mend ~/food.csv",
        "pipeline.errors.InputError",
    )


def test_a_foreign_error_in_a_step_is_of_type_step_and_names_its_class(run: Run):
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    failure = privacy.failure(caught.value, step=run.steps[1])
    assert (failure.type, failure.step, failure.exception, failure.message) == ("step", "features", "ZeroDivisionError", "division by zero")
    assert failure.stacktrace.endswith("in test_a_foreign_error_in_a_step_is_of_type_step_and_names_its_class\nZeroDivisionError: division by zero")
    assert "/" + "work" not in failure.stacktrace
    assert str(Path.cwd()) not in failure.stacktrace


def test_what_is_no_exception_aborted_the_run():
    assert privacy.failure(KeyboardInterrupt()).type == "aborted"
    assert privacy.failure(ValueError()).type == "bug"


def test_the_cause_comes_first_in_a_stack_trace():
    with pytest.raises(RuntimeError) as caught:
        _raise_from("x")
    cause, effect = privacy.stacktrace(caught.value).split("\n\n")
    assert cause.splitlines()[-1].startswith("ValueError: could not use")
    assert effect.splitlines()[-1] == "RuntimeError: it went wrong"


def test_an_exception_that_cannot_say_what_it_is_hides_nothing():
    class MuteError(Exception):
        def __str__(self) -> str:
            raise OSError("no")

    assert "OSError" in privacy.message(MuteError())


def test_exceptions_that_cause_each_other_come_to_an_end():
    first, second = ValueError("a"), ValueError("a")
    first.__cause__, second.__cause__ = second, first
    assert privacy.stacktrace(first).count("ValueError") == 2


def test_the_path_of_a_library_says_its_package_and_not_where_it_is_installed():
    with pytest.raises(ValueError, match="Style must be") as caught:
        logging.Formatter(style="?")
    assert 'File "logging/__init__.py", line ' in privacy.stacktrace(caught.value)


# ------------------------------------------------------------------------------------------------- fields


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("rows", 436, 436),
        ("share", 0.5, 0.5),
        ("converged", True, True),
        ("rows", float("nan"), None),
        ("weight_kg", 80.5, MASK),
        ("weight", 80.5, MASK),
        ("mean_weight_kg", 80.5, MASK),
        ("dataset", "bronze/weight", "bronze/weight"),
        ("state", "completed", "completed"),
        ("note", "greek yogurt", MASK),
        ("datasets", ["bronze/weight", "gold/models"], ["bronze/weight", "gold/models"]),
        ("values", [1, 2, 3], "<list>"),
        ("path", Path("/data/ann/weight.csv"), "weight.csv"),
        ("result", object(), "<object>"),
        ("nothing", None, None),
    ],
)
def test_a_field_keeps_numbers_and_names(known: Known, key: str, value: object, kept: object):
    assert privacy.field(key, value, known) == kept


def test_numbers_of_other_libraries_stay_numbers():
    np = pytest.importorskip("numpy")
    found = privacy.fields({"rows": np.int64(3), "share": np.float32(0.5), "values": np.zeros(3)}, privacy.NOTHING)
    assert found == {"rows": 3, "share": 0.5, "values": "<ndarray>"}
    assert [type(value) for value in found.values()] == [int, float, str]


def test_a_file_or_model_that_the_run_came_to_know_is_known(tmp_path: Path):
    run = example_run(tmp_path)
    run.steps[0].inputs = [replace(run.steps[0].inputs[0], file="tidy scale (1).csv")]
    assert privacy.scrub("of tidy scale (1).csv: ols", Known.of(run)) == "of tidy scale (1).csv: ols"


def test_an_exception_without_words_is_told_by_its_name():
    assert privacy.message(MemoryError()) == "MemoryError"
    assert privacy.message(RuntimeError("failed with SystemExit")) == "failed with SystemExit"
