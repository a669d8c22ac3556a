"""Nothing about a person leaves the lake: no subject id, no diary text, no number of a row in anything else that a run leaves or says."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline import api, cli
from pipeline.engine import Table
from pipeline.engine.lake import Lake
from pipeline.records import Gate, Pipeline, State
from pipeline.study import PIPELINE
from pipeline.telemetry.logs import get_logger
from tests.end_to_end.end_support import FILES, STEPS, Rows, inputs, read

pytestmark = pytest.mark.slow

# In every subject id and every text; nothing of ours has it.
MARK = "QX7"
NUMBER = re.compile(r"\d+\.\d{5,}")


def marked_rows(source: str) -> Rows:
    """The sample's rows with unmistakable ids and texts, and numbers of so many digits that none is there by chance."""
    header, *records = read(source)
    texts = {"subject_id": "SUBJ-{0}-{1}", "food_item": "zebra-soup-{0} {1} of {2}", "category": "{1}-{0}"}
    made = [header]
    for place, record in enumerate(records):
        row = dict(zip(header, record, strict=True))
        for name, cell in row.items():
            if name in texts:
                row[name] = texts[name].format(MARK, cell, place)
            elif ("." in cell and float(cell) < 9.9) or float_of(cell) > 10:
                row[name] = f"{cell}{place * 7919 % 99991:05d}7"
        made.append(list(row.values()))
    return made


def float_of(cell: str) -> float:
    return float(cell) if "." in cell else 0.0


def with_bad_rows(source: str, rows: Rows, count: int = 3) -> Rows:
    """Records that break rules in several ways, with marked cells, a key that is there twice, and a column that nobody asked for."""
    column = {"weight": "weight_kg", "nutrition": "calories", "fiber": "total_calories"}[source]
    for number in range(5, 5 + count):
        rows[number][rows[0].index(column)] = f"99999.{number:05d}7351" if number % 2 else f"{MARK} kg"
    rows[count + 9][1] = f"{MARK}-day"
    return [[*rows[0], "remark"], *([*row, f"remark {MARK}"] for row in [*rows[1:], rows[4]])]


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """An input folder whose place, rows and bad rows are marked."""
    return inputs(tmp_path / f"study-{MARK}" / "input", **{source: with_bad_rows(source, marked_rows(source)) for source in FILES})


def contents(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file below a folder, and what is packed in it, as text."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                yield from ((f"{path}:{name}", packed.read(name).decode("latin-1")) for name in packed.namelist())
        yield str(path), path.read_bytes().decode("latin-1")


def numbers_of_rows(lake: str = "lake") -> set[str]:
    """All numbers of rows in bronze, silver and quarantine that are written with 5 decimals or more."""
    found: set[str] = set()
    for dataset in Lake(lake).current()["datasets"]:
        if not dataset.startswith("gold/"):
            frame = api.read(dataset, lake=lake).select_dtypes("float")
            found |= {repr(value) for value in frame.to_numpy().ravel().tolist() if NUMBER.fullmatch(repr(abs(value)))}
    return {number.removeprefix("-") for number in found}


def leaks(texts: Iterator[tuple[str, str]], numbers: set[str]) -> list[str]:
    """Where a mark or a number of a row is, in words that show what stands around it."""
    found = []
    for name, text in texts:
        found += [f"{name}: …{text[max(0, at.start() - 60) : at.end() + 20]}…" for at in re.finditer(rf"{MARK}|zebra|SUBJ-", text, re.IGNORECASE)]
        found += [f"{name}: {number}" for number in set(NUMBER.findall(text)) & numbers]
    return found


def everything_but_tables() -> Iterator[tuple[str, str]]:
    """What leaves the lake: the bundles with their reports, the MLflow store, gold's files."""
    yield from contents(Path("runs"))
    for dataset in ("gold/reports", "gold/figures"):
        if (Path("lake") / dataset).exists():
            yield from contents(Path("lake") / dataset)


def test_the_marks_are_found_where_they_are(marked: Path) -> None:
    """The search itself: it sees the input, and the rows in the lake."""
    api.run(input=marked, until="weight", tracking="off", telemetry="off", log_level="error")
    texts = dict(contents(marked))
    assert len(leaks(iter(texts.items()), set())) > 10_000
    weights = {row[3] for row in marked_rows("weight")[20:] if row[3]}
    assert len(weights) > 300
    assert weights <= numbers_of_rows()
    assert len(leaks(iter(texts.items()), weights)) > len(leaks(iter(texts.items()), set())) + 300


def test_nothing_of_a_row_is_in_what_a_whole_run_leaves_and_says(marked: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_TRACKING_TIMEOUT", "120")  # a busy machine may take its time
    said = [CliRunner().invoke(cli.app, words).output for words in (["run", "--input", str(marked)], ["show", "last"], ["runs", "--json"], ["report"])]
    (manifest,) = Path("runs").glob("*/manifest.json")
    assert '"delivered"' in (manifest.parent / "delivery.json").read_text()
    assert '"YELLOW"' in manifest.read_text()
    assert {"mlflow.db", "mlartifacts"} < {path.name for path in Path("runs").iterdir()}
    numbers = numbers_of_rows()
    assert len(numbers) > 20_000
    assert leaks(everything_but_tables(), numbers) == []
    assert leaks(iter([("output", "\n".join(said)), *zip(("stdout", "stderr"), capfd.readouterr(), strict=True)]), numbers) == []


def test_nothing_of_a_row_is_in_what_a_red_run_leaves(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = with_bad_rows("weight", marked_rows("weight"), 100)
    run = api.run(input=inputs(tmp_path / MARK / "input", weight=rows), until="weight", tracking="off")
    assert run.gate is Gate.RED
    assert leaks(contents(run.bundle), {cell for row in rows for cell in row if NUMBER.fullmatch(cell)}) == []
    assert leaks(iter([("output", "".join(capfd.readouterr()))]), set()) == []


# ------------------------------------------------------------------------------------------------- steps that fail


def careless(modeling_dataset: Table) -> Any:
    """A step that logs rows and raises with values in its message, its notes and its cause."""
    frame = modeling_dataset.df()
    subject, weight = frame.subject_id.iloc[0], float(frame.baseline_weight_kg.iloc[0])
    get_logger("study").warning(f"subject {subject} weighs {weight}", subject=subject, weight_kg=weight, **{subject: weight})
    logging.getLogger("study.models").error("row %s", frame.iloc[0].to_dict(), extra={"person": subject})
    try:
        frame.set_index("subject_id").loc[f"{subject} {weight}"]
    except KeyError as error:
        error.add_note(f"while looking at {subject}: {frame.head()}")
        raise ValueError(f"could not fit {subject!r} at {weight}:\n{frame.head()}") from error


def failing_assert(modeling_dataset: Table) -> Any:
    rows = modeling_dataset.df().subject_id.tolist()
    assert rows == [], f"{rows}"


def failing_group(modeling_dataset: Table) -> Any:
    raise ExceptionGroup("many", [KeyError(subject) for subject in modeling_dataset.df().subject_id.unique()])


def with_step(name: str, **changes: Any) -> Pipeline:
    """The study with one step changed."""
    return replace(PIPELINE, steps=tuple(replace(step, **changes) if step.name == name else step for step in PIPELINE.steps))


def python_failure(function: Callable[..., Any]) -> Callable[[Path], tuple[Pipeline, str]]:
    return lambda _: (with_step("models", function=function), "models")


def sql_failure(expression: str, table: str) -> Callable[[Path], tuple[Pipeline, str]]:
    def prepare(folder: Path) -> tuple[Pipeline, str]:
        (folder / "traject.sql").write_text(f"SELECT {expression} FROM {table} ORDER BY 1")
        return with_step("traject", sql=folder / "traject.sql", inputs=(table.replace(".", "/"),)), "traject"

    return prepare


FAILURES = {
    "a step that logs rows and raises with them": python_failure(careless),
    "a failed assert": python_failure(failing_assert),
    "a group of errors": python_failure(failing_group),
    "a text that is no number": sql_failure("CAST(subject_id AS INTEGER)", "bronze.weight"),
    "a text that is no date": sql_failure("CAST(food_item AS DATE)", "bronze.nutrition"),
    "a number too large": sql_failure("CAST(1e9 * weight_kg AS INTEGER)", "bronze.weight"),
    "an error of its own": sql_failure("error(concat(subject_id, ' weighs ', weight_kg))", "bronze.weight"),
    "a scalar subquery with rows": sql_failure("(SELECT weight_kg FROM bronze.weight)", "bronze.weight"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_nothing_of_a_row_is_in_what_a_failed_run_leaves_and_says(tmp_path: Path, how: str, capfd: pytest.CaptureFixture[str]) -> None:
    pipeline, step = FAILURES[how](tmp_path)
    folder = inputs(tmp_path / "input", **{source: marked_rows(source) for source in FILES})
    run = api.run(pipeline, input=folder, until=step, tracking="off", log_level="debug")
    assert (run.state, run.failure and (run.failure.type, run.failure.step)) == (State.FAILED, ("step", step))
    numbers = {cell for source in ("weight", "fiber") for row in marked_rows(source) for cell in row if NUMBER.fullmatch(cell)}
    assert leaks(contents(run.bundle), numbers) == []
    assert leaks(iter([("output", "".join(capfd.readouterr()))]), numbers) == []


@pytest.mark.parametrize("source", FILES)
@pytest.mark.parametrize("how", ["too few fields", "a quote in the middle", "latin-1", "only the ids", "mixed line ends"])
def test_nothing_of_a_row_is_in_what_a_refused_file_leaves_and_says(tmp_path: Path, source: str, how: str, capfd: pytest.CaptureFixture[str]) -> None:
    rows = marked_rows(source)
    folder = inputs(tmp_path / "input", **{source: rows})
    path = folder / FILES[source]
    text = path.read_bytes()
    path.write_bytes(
        {
            "too few fields": text.replace(b",", b"", 12),
            "a quote in the middle": text.replace(b"SUBJ", b'"SU"BJ', 9),
            "latin-1": text.replace(MARK.encode(), MARK.encode() + b"\xe9", 9),
            "only the ids": b"".join(line.split(b",")[0] + b"\n" for line in text.splitlines()),
            "mixed line ends": text.replace(b"\n", b"\r\n", 9),
        }[how]
    )
    run = api.run(input=folder, until=STEPS[source], tracking="off", log_level="debug")
    assert (run.state, run.failure and run.failure.type) == (State.FAILED, "input")
    assert leaks(contents(run.bundle), set()) == []
    assert leaks(iter([("output", "".join(capfd.readouterr()))]), set()) == []


def test_nothing_of_a_row_is_in_data_docs(marked: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = api.run(input=marked, until="models", tracking="off", telemetry="off", log_level="error")
    assert run.state is State.COMPLETED
    api.quality(tmp_path / "docs")
    numbers = numbers_of_rows()
    assert leaks(contents(tmp_path / "docs"), numbers) == []
    assert leaks(iter([("output", "".join(capfd.readouterr()))]), numbers) == []
