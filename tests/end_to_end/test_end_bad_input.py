"""Bad input to the study: what is read as meant, what is refused, what is set aside, and what warns; each with a true state and a clear message."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest

from pipeline import api
from pipeline.engine.lake import Lake
from pipeline.engine.runner import Order, execute, exit_code
from pipeline.records import Gate, Run, State, StepRun
from pipeline.settings import load
from pipeline.study import PIPELINE
from pipeline.telemetry.identity import new_id
from tests.end_to_end.end_support import FILES, SAMPLE, STEPS, Rows, by_subject, go, inputs, lake_now, manifest, read, root_without_its_rights, write

SILVER = ("silver/subject_trajectories", "silver/weekly_features", "silver/modeling_dataset")
OF_TYPE = "expect_column_values_to_be_of_type"
NOT_NULL = "expect_column_values_to_not_be_null"
BETWEEN = "expect_column_values_to_be_between"
Spoiling = Callable[[Path, str, Rows], None]
SHARE = "expect_quarantined_share_to_be_at_most"


@pytest.fixture(scope="session")
def silver_of_the_sample(study_run: Path) -> dict[str, str]:
    """The versions of the silver tables that the untouched sample gives."""
    datasets = Lake(str(study_run / "lake")).current()["datasets"]
    return {name: datasets[name]["version"] for name in SILVER}


@pytest.fixture(scope="session")
def lake_of_bronze(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the sample's bronze tables, to be copied."""
    folder = tmp_path_factory.mktemp("bronze")
    go(until="fiber", lake=str(folder / "lake"), runs=folder / "runs")
    return folder / "lake"


@pytest.fixture
def before(lake_of_bronze: Path) -> dict[str, tuple[str, int]]:
    """What is in the working folder's lake, which has the sample's bronze tables."""
    shutil.copytree(lake_of_bronze, "lake")
    return lake_now()


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder with the sample's files, to be spoilt."""
    return inputs(tmp_path / "input")


# ------------------------------------------------------------------------------------------------- read as meant


def reordered(folder: Path) -> None:
    for source in FILES:
        write(folder, source, [row[::-1] for row in read(source)])


def with_bom_and_crlf(folder: Path) -> None:
    for source in FILES:
        write(folder, source, read(source), lineterminator="\r\n")
        path = folder / FILES[source]
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def quoted_over_several_lines(folder: Path) -> None:
    for source in FILES:
        write(folder, source, read(source), quoting=csv.QUOTE_ALL)
    header, *records = read("nutrition")
    place = header.index("category")
    write(folder, "nutrition", [header, *([*row[:place], f'a "{row[place]}",\nthen\r\nmore', *row[place + 1 :]] for row in records)], quoting=csv.QUOTE_ALL)


@pytest.mark.parametrize("spell", [reordered, with_bom_and_crlf, quoted_over_several_lines])
def test_files_that_are_written_otherwise_are_read_as_meant(given: Path, silver_of_the_sample: dict[str, str], spell) -> None:
    spell(given)
    run = go(input=given, until="modeling")
    assert (run.state, run.gate, exit_code(run)) == (State.COMPLETED, Gate.GREEN, 0)
    assert {name: run.published[name].version for name in SILVER} == silver_of_the_sample


def test_an_extra_column_is_named_by_a_warning_and_changes_nothing_else(given: Path, silver_of_the_sample: dict[str, str]) -> None:
    for source, name in (("weight", "scales"), ("nutrition", "where eaten"), ("fiber", "app_version")):
        header, *records = read(source)
        write(given, source, [[name, *header], *(["x, y", *row] for row in records)])
    run = go(input=given, until="modeling")
    assert (run.state, run.gate, exit_code(run)) == (State.COMPLETED, Gate.YELLOW, 0)
    assert [check.observed["unexpected"] for check in run.warnings] == ["scales", "where eaten", "app_version"]
    assert {name: run.published[name].version for name in SILVER} == silver_of_the_sample
    assert all(name in (run.bundle / "report.html").read_text("utf-8") for name in ("scales", "where eaten", "app_version"))


# ------------------------------------------------------------------------------------------------------- refused


def without_last_column(path: Path, source: str, rows: Rows) -> None:
    write(path.parent, source, [row[:-1] for row in rows])


def renamed_column(path: Path, source: str, rows: Rows) -> None:
    write(path.parent, source, [[*rows[0][:-1], rows[0][-1].upper()], *rows[1:]])


def semicolons(path: Path, source: str, rows: Rows) -> None:
    write(path.parent, source, rows, delimiter=";")


def latin_1(path: Path, source: str, rows: Rows) -> None:
    """In the tenth line that begins with the subject of the first record."""
    lines = path.read_bytes().splitlines(keepends=True)
    number = [number for number, line in enumerate(lines) if line.startswith(rows[1][0].encode())][9]
    lines[number] = b"Jos\xe9" + lines[number]
    path.write_bytes(b"".join(lines))


def empty(path: Path, source: str, rows: Rows) -> None:
    path.write_bytes(b"")


def header_only(path: Path, source: str, rows: Rows) -> None:
    write(path.parent, source, rows[:1])


def no_file(path: Path, source: str, rows: Rows) -> None:
    path.unlink()


def two_files(path: Path, source: str, rows: Rows) -> None:
    path.with_stem(path.stem + "_copy").write_bytes(path.read_bytes())


def too_few_fields(path: Path, source: str, rows: Rows) -> None:
    write(path.parent, source, [*rows[:5], rows[5][:-1], *rows[6:]])


def no_folder(path: Path, source: str, rows: Rows) -> None:
    shutil.rmtree(path.parent)


def spoil(folder: Path, source: str, how: Spoiling) -> None:
    how(folder / FILES[source], source, read(source))


# The message and the hint; {line} is that of the bad byte, {ragged} of the record that is cut off.
REFUSED: dict[Spoiling, tuple[str, str]] = {
    without_last_column: ("{file}, line 1: column '{column}' is missing", "the contract expects"),
    renamed_column: ("{file}, line 1: column '{column}' is missing", "was '{column}' renamed to '{renamed}'?"),
    semicolons: ("{file}, line 1: column 'subject_id' is missing", "semicolons"),
    latin_1: ("{file}, line {line}, column 'subject_id': byte 0xe9 is not UTF-8", "iconv -f latin1 -t utf-8"),
    empty: ("{file}: the file is empty", "is the export complete?"),
    header_only: ("{file}: no records after the header in line 1", "is the export complete?"),
    no_file: ("input/{source}: no file in ", "the folder has "),
    two_files: ("input/{source}: 2 files in ", "leave one"),
    too_few_fields: ("{file}, line {ragged}: {fewer} fields where the header has {fields}", "quoted"),
    no_folder: ("there is no input folder", "--input"),
}


def words_of(source: str) -> dict[str, object]:
    header, *records = read(source)
    lines = (SAMPLE / FILES[source]).read_text("utf-8").splitlines()
    line = [number for number, text in enumerate(lines, 1) if text.startswith(records[0][0])][9]
    ragged = 2 + sum(1 + sum(cell.count("\n") for cell in row) for row in records[:4])
    names = {"file": FILES[source], "source": source, "column": header[-1], "renamed": header[-1].upper()}
    return {**names, "line": line, "ragged": ragged, "fields": len(header), "fewer": len(header) - 1}


@pytest.mark.parametrize("source", FILES)
@pytest.mark.parametrize("how", REFUSED)
def test_a_file_that_cannot_be_read_is_refused_before_anything_is_written(given: Path, how: Spoiling, source: str) -> None:
    spoil(given, source, how)
    message, hint = (text.format(**words_of(source)) for text in REFUSED[how])
    run = go(input=given, until=STEPS[source])
    assert (run.state, run.gate, exit_code(run)) == (State.FAILED, None, 1)
    assert run.failure is not None
    assert (run.failure.type, message in run.failure.message, hint in run.failure.hint) == ("input", True, True), run.failure
    assert manifest(run)["failure"]["message"] == run.failure.message
    assert not Path("lake").exists()


@pytest.mark.parametrize("how", [latin_1, no_file, renamed_column])
def test_a_file_that_cannot_be_read_leaves_a_lake_that_is_there_as_it_was(given: Path, how: Spoiling) -> None:
    go(input=given, until="traject")
    before = lake_now()
    spoil(given, "fiber", how)
    run = go(input=given, until="features")
    assert (run.state, run.published) == (State.FAILED, {})
    assert lake_now() == before


def test_the_command_says_what_is_wrong_and_how_to_mend_it(given: Path) -> None:
    spoil(given, "weight", semicolons)
    done = command("run", "--input", str(given), PIPELINE_TRACKING="off")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "Sample_tidy.csv, line 1: column 'subject_id' is missing" in said
    assert "commas are expected" in said
    assert "Traceback" not in said


def command(*arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    """`pipeline <arguments>` in a process of its own."""
    line = [*prefix, sys.executable, "-c", "from pipeline.cli import main; main()", *arguments]
    return subprocess.run(line, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False)


# ----------------------------------------------------------------------------------------------------- set aside

# Column, text, and the rule that a row with it breaks.
BROKEN = {
    "weight": [
        *(("weight_kg", text, OF_TYPE) for text in ("abc", "nan", "NaN", "inf", "-Infinity", "1e999", "70,5", "1_0")),
        *(("weight_kg", text, BETWEEN) for text in ("0", "900", "-70", "19.999999", "400.000001")),
        *(("date", text, OF_TYPE) for text in ("2022-02-30", "07/01/2022", "soon")),
        *(("week", text, OF_TYPE) for text in ("1.5", "one")),
        ("week", "0", BETWEEN),
        ("energy_1_10", "11", BETWEEN),
        ("mood_1_10", "0", BETWEEN),
        ("subject_id", "", NOT_NULL),
        ("date", "", NOT_NULL),
    ],
    "nutrition": [
        *((column, "-0.1", BETWEEN) for column in ("calories", "protein_g", "carbs_g", "fat_g", "fiber_g")),
        *((column, "1e6", BETWEEN) for column in ("calories", "protein_g", "carbs_g", "fat_g", "fiber_g")),
        *((column, text, OF_TYPE) for column in ("calories", "fiber_g") for text in ("many", "nan", "inf")),
        ("date", "2022-13-01", OF_TYPE),
        ("date", "", NOT_NULL),
        ("subject_id", "", NOT_NULL),
    ],
    "fiber": [
        *((column, text, BETWEEN) for column in ("total_calories", "total_fiber_g") for text in ("-1", "20000.1")),
        *((column, text, OF_TYPE) for column in ("total_calories", "total_fiber_g") for text in ("?", "-nan", "Infinity")),
        ("week", "-3", BETWEEN),
        ("week", "", NOT_NULL),
        ("date", "2022-1-3", OF_TYPE),
        ("subject_id", "", NOT_NULL),
    ],
}
CASES = [(source, *case) for source, cases in BROKEN.items() for case in cases]


def break_rows(rows: Rows, cells: list[tuple[str, str]], every: int = 17) -> list[int]:
    """Put the texts into the columns of single records, the first and the last one among them; returns the records' numbers."""
    numbers = [1 + every * place for place in range(len(cells) - 1)] + [len(rows) - 1]
    for number, (column, text) in zip(numbers, cells, strict=True):
        rows[number][rows[0].index(column)] = text
    return numbers


@pytest.mark.parametrize("source", FILES)
def test_rows_with_a_value_that_cannot_be_are_set_aside_with_reason_and_place(tmp_path: Path, source: str) -> None:
    """Also after records that span lines: a record's number is not its line's."""
    rows = read(source)
    numbers = break_rows(rows, [(column, text) for column, text, _ in BROKEN[source]])
    run = go(input=inputs(tmp_path / "input", **{source: rows}), until=STEPS[source])
    assert (run.state, run.gate, exit_code(run)) == (State.COMPLETED, Gate.YELLOW, 0)
    aside = api.read(f"quarantine/bronze/{source}")
    expected = {number: f"{column}: {rule}" for number, (column, _, rule) in zip(numbers, BROKEN[source], strict=True)}
    assert {int(row.record_number): row.reasons[0] for row in aside.itertuples()} == expected
    assert all(len(reasons) == 1 for reasons in aside.reasons)
    assert set(aside.source_file) == {FILES[source]}
    assert sorted([*aside.record_number, *api.read(f"bronze/{source}").record_number]) == list(range(1, len(rows)))
    assert_counts(run, source, len(rows) - 1, len(numbers))
    places = {number for check in run.warnings for file, number in check.records if file == FILES[source]}
    assert places == set(numbers)


def assert_counts(run: Run, source: str, rows: int, aside: int) -> None:
    """Rows in = rows out + rows set aside, in the record and in the manifest."""
    step = run.steps[-1]
    bronze = f"bronze/{source}"
    assert step.rows_in == {f"input/{source}": rows}
    assert (step.outputs[bronze].rows, step.rows_quarantined[bronze]) == (rows - aside, aside)
    told = manifest(run)["steps"][-1]
    assert (told["rows_in"][f"input/{source}"], told["rows_out"][bronze], told["rows_quarantined"][bronze]) == (rows, rows - aside, aside)


def test_a_row_that_breaks_several_rules_is_set_aside_once_with_all_reasons(tmp_path: Path) -> None:
    rows = read("weight")
    break_rows(rows, [("weight_kg", "900"), ("weight_kg", "0")])
    break_rows(rows, [("mood_1_10", "many"), ("week", "0")])
    run = go(input=inputs(tmp_path / "input", weight=rows), until="weight")
    assert [list(reasons) for reasons in api.read("quarantine/bronze/weight").reasons] == [
        [f"mood_1_10: {OF_TYPE}", f"weight_kg: {BETWEEN}"],
        [f"weight_kg: {BETWEEN}", f"week: {BETWEEN}"],
    ]
    assert_counts(run, "weight", len(rows) - 1, 2)


@pytest.mark.parametrize(("broken", "gate", "code"), [(20, Gate.YELLOW, 0), (21, Gate.RED, 3)])
def test_more_broken_rows_than_the_contract_allows_publish_nothing(tmp_path: Path, broken: int, gate: Gate, code: int) -> None:
    """The contract's share is 5 %, of 400 records just 20."""
    go(until="weight")
    before = lake_now()
    rows = read("weight")[:401]
    numbers = break_rows(rows, [("weight_kg", "900")] * broken)
    run = go(input=inputs(tmp_path / "input", weight=rows), until="traject")
    assert (run.gate, exit_code(run)) == (gate, code)
    share = next(check for check in run.checks if check.expectation == SHARE)
    assert (share.observed["unexpected_count"], share.observed["rows"]) == (broken, 400)
    if gate is Gate.RED:
        assert (run.state, run.published, run.failure and run.failure.type) == (State.FAILED, {}, "gate")
        assert lake_now() == before
        report = (run.bundle / "report.html").read_text("utf-8")
        assert FILES["weight"] in report
        assert all(str(number) in report for number in numbers)


def test_all_sources_that_are_red_are_named_by_one_run_and_what_needs_them_is_not_made(tmp_path: Path) -> None:
    weight, nutrition = read("weight"), read("nutrition")
    break_rows(weight, [("weight_kg", "900")] * 40, every=5)
    break_rows(nutrition, [("calories", "-1")] * 300, every=5)
    run = go(input=inputs(tmp_path / "input", weight=weight, nutrition=nutrition))
    assert (run.state, run.gate, exit_code(run)) == (State.FAILED, Gate.RED, 3)
    assert [(step.step.name, step.state) for step in run.steps] == [("weight", State.FAILED), ("food", State.FAILED), ("fiber", State.COMPLETED)]
    assert run.failure is not None
    assert all(source in run.failure.message for source in ("input/weight", "input/nutrition"))
    assert not Path("lake").exists()


def test_rows_after_the_nominal_date_are_set_aside_and_the_day_itself_is_not(tmp_path: Path) -> None:
    for source in FILES:
        header, *records = read(source)
        days = sorted(date.fromisoformat(row[header.index("date")]) for row in records)
        nominal = days[len(days) - len(days) // 50]
        late = sum(day > nominal for day in days)
        run = go(until=STEPS[source], as_of=nominal)
        assert (run.gate, late > 0) == (Gate.YELLOW, True)
        assert_counts(run, source, len(records), late)
        assert api.read(f"bronze/{source}").date.max().date() == nominal
        assert manifest(run)["as_of"] == nominal.isoformat()


def test_too_many_rows_after_the_nominal_date_are_red() -> None:
    run = go(as_of=date(2022, 1, 10))
    assert (run.gate, exit_code(run), len(run.steps)) == (Gate.RED, 3, 3)


@pytest.mark.parametrize("source", ["weight", "fiber"])
def test_all_rows_of_a_key_that_is_there_twice_are_set_aside(tmp_path: Path, source: str) -> None:
    rows = read(source)
    other = [*rows[3][:3], rows[4][3], *rows[3][4:]]  # the key alone decides
    rows += [list(rows[7]), other, list(rows[3])]
    run = go(input=inputs(tmp_path / "input", **{source: rows}), until=STEPS[source])
    assert (run.state, run.gate) == (State.COMPLETED, Gate.YELLOW)
    aside = api.read(f"quarantine/bronze/{source}")
    last = len(rows) - 1
    assert sorted(aside.record_number) == [3, 7, last - 2, last - 1, last]
    assert {label for reasons in aside.reasons for label in reasons} == {"subject_id, date: expect_compound_columns_to_be_unique"}
    assert_counts(run, source, last, 5)


def test_equal_lines_of_the_diary_are_real_and_stay(tmp_path: Path) -> None:
    rows = read("nutrition")
    rows += [list(row) for row in rows[1:500]]
    run = go(input=inputs(tmp_path / "input", nutrition=rows), until="food")
    assert run.gate is Gate.GREEN
    assert_counts(run, "nutrition", len(rows) - 1, 0)


# ---------------------------------------------------------------------------------------------------------- warns


def one_subject(source: str) -> Rows:
    return by_subject(lambda subject: subject == "S00001", source)


def one_week(source: str) -> Rows:
    header, *records = read(source)
    first = min(row[header.index("date")] for row in records)
    last = (date.fromisoformat(first) + timedelta(days=6)).isoformat()
    return [header, *(row for row in records if row[header.index("date")] <= last)]


def other_subjects(source: str) -> Rows:
    header, *records = read(source)
    return [header, *records] if source == "weight" else [header, *([f"T{row[0]}", *row[1:]] for row in records)]


@pytest.mark.parametrize(
    ("cut", "check", "reason"),
    [
        (one_subject, ("silver/modeling_dataset", "subject_id"), "there is one subject"),
        (one_week, ("silver/modeling_dataset", "week"), "there is no row in which the outcome and all regressors are known"),
        (other_subjects, ("silver/modeling_dataset", "fiber_days"), "fiber_g_week, calories_week, beans_week and potato_week are constant"),
    ],
)
def test_input_too_thin_for_models_completes_with_a_warning_and_says_why(tmp_path: Path, cut, check: tuple[str, str], reason: str) -> None:
    run = go(input=inputs(tmp_path / "input", **{source: cut(source) for source in FILES}))
    assert (run.state, run.gate, exit_code(run)) == (State.COMPLETED, Gate.YELLOW, 0)
    assert check in [(found.dataset, found.column) for found in run.warnings]
    assert ("gold/models", "converged") in [(found.dataset, found.column) for found in run.warnings]
    notes = {row.model: row.note for row in run.estimates}
    assert set(notes) == {"ols_cluster", "fixed_effects", "mixed_effects"}
    assert all(reason in note for note in notes.values())
    assert all(row.estimate is None for row in run.estimates)
    gold = Lake("lake")
    with gold.opened("gold/reports") as [report]:
        assert reason in report.read_text("utf-8")
    assert reason in (run.bundle / "report.html").read_text("utf-8")
    with gold.opened("gold/figures") as figures:
        assert len(figures) == 4


# ------------------------------------------------------------------------------------------- ended from outside


class Interrupting:
    """A hook that presses Ctrl-C when a step begins."""

    signal = "test"

    def __init__(self, step: str) -> None:
        self._step = step

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        yield

    @contextmanager
    def step(self, run: Run, step: StepRun) -> Iterator[None]:
        if step.step.name == self._step:
            os.kill(os.getpid(), signal.SIGINT)
        yield


@pytest.mark.parametrize("step", [step.name for step in PIPELINE.steps])
def test_ctrl_c_in_a_step_aborts_the_run_and_leaves_the_lake_as_it_was(step: str, before: dict[str, tuple[str, int]]) -> None:
    run = execute(PIPELINE, load(tracking="off", log_level="error"), Order(until=step, hooks=[Interrupting(step)]))
    assert (run.state, exit_code(run)) == (State.ABORTED, 130)
    assert [(done.step.name, done.state) for done in run.steps][-1] == (step, State.ABORTED)
    assert manifest(run)["failure"]["message"] == "SIGINT ended the run"
    assert lake_now() == before


def test_a_second_run_at_the_same_time_is_told_that_the_lake_is_busy() -> None:
    with Lake("lake").lock(new_id()):
        run = go()
    assert (run.state, exit_code(run), run.steps) == (State.FAILED, 4, [])
    assert run.failure is not None
    assert "another run writes to the lake lake (run " in run.failure.message
    assert "--wait" in run.failure.hint
    assert not Path("lake").exists()


def test_a_full_disk_fails_with_a_clear_message_and_leaves_the_lake_as_it_was(tmp_path: Path, before: dict[str, tuple[str, int]]) -> None:
    """A limit on the size of files stands in for the disk: the kernel refuses the write of bronze/nutrition in the middle."""
    rows = read("nutrition")
    large = inputs(tmp_path / "input", nutrition=[rows[0], *([*row[:4], *(f"{cell}{place}" for cell in row[4:])] for place, row in enumerate(rows[1:]))])
    limit = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); os.execv(sys.argv[1], sys.argv[1:])"
    quiet = {"PIPELINE_TRACKING": "off", "PIPELINE_TELEMETRY": "off"}
    done = command("run", "--until", "food", "--input", str(large), prefix=(sys.executable, "-c", limit), **quiet)
    assert done.returncode == 1, done.stderr
    assert "can't write the lake lake: File too large" in done.stdout + done.stderr
    assert "nothing was published" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert lake_now() == before


def test_a_read_only_lake_fails_with_a_clear_message(before: dict[str, tuple[str, int]]) -> None:
    prefix = root_without_its_rights()
    if prefix is None:
        pytest.skip("runs as root, and setpriv is not there to give up root's right to write anywhere")
    lake = Path("lake")
    (lake / ".lock").chmod(0o444)
    lake.chmod(0o555)
    done = command("run", "--until", "fiber", prefix=prefix, PIPELINE_TRACKING="off")
    lake.chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert "can't write the lake lake" in done.stdout + done.stderr
    assert "--lake" in done.stdout + done.stderr
    assert lake_now() == before
