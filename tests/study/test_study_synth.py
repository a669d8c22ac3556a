"""Synthetic data: whole, repeatable, as odd as real data, and with the effect that it says."""

import csv
import io
import tracemalloc
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.study import synth
from pipeline.study.synth import FIRST_DAY, KG_PER_FIBER_G, generate

SAMPLE = Path(synth.__file__).with_name("sample")
FILES = ["Sample_fiber_daily.csv", "Sample_nutrition_rows.csv", "Sample_tidy.csv"]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def records(folder, name):
    return list(csv.DictReader(io.StringIO((folder / name).read_text(encoding="utf-8"))))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """150 subjects for 12 weeks."""
    folder = tmp_path_factory.mktemp("synth") / "input"
    generate(folder, subjects=150, weeks=12, seed=5)
    return folder


def test_the_shipped_sample_is_what_its_arguments_make(tmp_path):
    generate(tmp_path / "input", subjects=40, weeks=12, seed=7)
    assert contents(tmp_path / "input") == contents(SAMPLE)


def test_the_shipped_sample_is_small_and_has_thousands_of_lines():
    assert sum(map(len, contents(SAMPLE).values())) < 400_000
    assert len(records(SAMPLE, "Sample_nutrition_rows.csv")) > 3000


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(made, tmp_path):
    for name, seed in (("again", 5), ("other", 6)):
        generate(tmp_path / name, subjects=150, weeks=12, seed=seed)
    assert contents(tmp_path / "again") == contents(made)
    assert contents(tmp_path / "other") != contents(made)


def test_more_subjects_leave_whole_blocks_before_them_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(synth, "BLOCK_DAYS", 7 * 5)
    for name, subjects in (("few", 10), ("many", 13)):
        generate(tmp_path / name, subjects=subjects, weeks=1, seed=1)
    assert all((tmp_path / "many" / name).read_bytes().startswith((tmp_path / "few" / name).read_bytes()) for name in FILES)


@settings(max_examples=15)
@given(subjects=st.integers(1, 8), weeks=st.integers(1, 6), seed=st.integers(0, 2**40))
def test_any_size_gives_three_files_with_known_subjects_days_and_ranges(tmp_path_factory, subjects, weeks, seed):
    folder = tmp_path_factory.mktemp("any") / "input"
    generate(folder, subjects=subjects, weeks=weeks, seed=seed)
    assert [path.name for path in sorted(folder.iterdir())] == FILES
    known = {f"S{number:05d}" for number in range(1, subjects + 1)}
    last = FIRST_DAY + timedelta(days=7 * weeks - 1)
    for row in (row for name in FILES for row in records(folder, name)):
        assert row["subject_id"] in known
        assert FIRST_DAY <= date.fromisoformat(row["date"]) <= last
        assert 1 <= int(row.get("week", 1)) <= weeks
        assert not row.get("weight_kg") or 30 <= float(row["weight_kg"]) <= 300
        assert all(float(row[name] or 0) >= 0 for name in row if name.endswith("_g") or "calories" in name)


def test_weigh_ins_and_totals_have_their_keys_and_some_gaps(made):
    for name, gaps in (("Sample_tidy.csv", ["weight_kg", "energy_1_10", "mood_1_10"]), ("Sample_fiber_daily.csv", ["total_calories", "total_fiber_g"])):
        rows = records(made, name)
        assert len({(row["subject_id"], row["date"]) for row in rows}) == len(rows)
        for column in gaps:
            assert 0.01 < sum(not row[column] for row in rows) / len(rows) < 0.2


def test_the_diary_is_as_odd_as_people_are(made):
    rows = records(made, "Sample_nutrition_rows.csv")
    foods = {row["food_item"] for row in rows}
    for sign in (",", '"', "\n", "ñ", "🍟", "味", " with ", "brocolli"):
        assert any(sign in food for food in foods)
    assert any(food.isupper() for food in foods)
    assert any(food.istitle() for food in foods)
    late = sum(a["subject_id"] == b["subject_id"] and a["date"] > b["date"] for a, b in pairwise(rows))
    assert 0.005 < late / len(rows) < 0.05
    assert max(Counter(tuple(row.values()) for row in rows).values()) > 1


def test_some_subjects_leave_early(made):
    weeks = Counter(row["subject_id"] for row in records(made, "Sample_tidy.csv"))
    assert 0.02 < sum(count < 12 for count in weeks.values()) / len(weeks) < 0.2


def test_daily_totals_go_with_the_diary(made):
    diary = Counter()
    for row in {tuple(row.items()): row for row in records(made, "Sample_nutrition_rows.csv")}.values():
        diary[row["subject_id"], row["date"]] += float(row["calories"])
    totals = [(float(row["total_calories"]), diary[row["subject_id"], row["date"]]) for row in records(made, "Sample_fiber_daily.csv") if row["total_calories"]]
    assert np.corrcoef(np.transpose(totals))[0, 1] > 0.3


def test_fibre_has_the_effect_that_is_stated():
    rng = np.random.default_rng(1)
    fiber_g_week = rng.normal(180, 40, (20_000, 6))
    weight_kg = synth._weights(rng, fiber_g_week)
    slope = np.polyfit(fiber_g_week[:, :-1].ravel(), np.diff(weight_kg, axis=1).ravel(), 1)[0]
    assert slope == pytest.approx(KG_PER_FIBER_G, rel=0.05)


def test_memory_does_not_grow_with_the_number_of_subjects(tmp_path, monkeypatch):
    monkeypatch.setattr(synth, "BLOCK_DAYS", 700)
    generate(tmp_path / "before", subjects=1000, weeks=2, seed=1)  # texts are kept when they occur first
    peaks = []
    for subjects in (100, 1000):
        tracemalloc.start()
        generate(tmp_path / str(subjects), subjects=subjects, weeks=2, seed=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_progress_tells_subjects_done_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(synth, "BLOCK_DAYS", 7 * 4)
    told = []
    generate(tmp_path / "input", subjects=10, weeks=1, seed=1, progress=lambda done, of: told.append((done, of)))
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_a_call_that_is_broken_off_leaves_no_file(tmp_path):
    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "input", subjects=3, weeks=1, seed=1, progress=stop)
    assert list((tmp_path / "input").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subjects": 0}, "subjects is 0, which is fewer than one"),
        ({"weeks": 0}, "weeks is 0, which is not between 1 and 1000"),
        ({"weeks": 1001}, "weeks is 1001, which is not between 1 and 1000"),
        ({"seed": -1}, "seed is -1, which is below 0"),
    ],
)
def test_an_argument_out_of_range_is_refused_with_a_hint(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        generate(tmp_path / "input", **{"subjects": 1, "weeks": 1, "seed": 1} | changes)
    assert caught.value.hint
    assert not (tmp_path / "input").exists()


def test_a_folder_with_something_in_it_and_a_file_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        generate(tmp_path, subjects=1, weeks=1, seed=1)
    with pytest.raises(UsageError, match="is a file"):
        generate(tmp_path / "notes.txt", subjects=1, weeks=1, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be written: Not a directory"):
        generate(tmp_path / "file" / "input", subjects=1, weeks=1, seed=1)
