"""Synthetic study data of any size: the three input files, made from a seed and streamed to disk.

What is in it: subjects with their own weight, trend and eating habits; weekly weigh-ins, some without a weight; a food
diary as people keep one (several foods in an entry, quotes, commas, accents, misspellings, shouting, lines entered days
late or twice); daily totals that follow the diary, with days left out; a few subjects who leave early.

What is true in it: each gram of fibre eaten in a week lowers the next weight change by 2.5 g (`KG_PER_FIBER_G`), and
no other column that the models look at has an effect. Estimates come out nearer to 0, because people leave days out of
their totals, and what goes along with those days (calories, foods) picks up some of it. Subjects also differ in their
trend, and most noise stays in the body rather than in the scales, so a random intercept has something to find.

The shipped sample is `generate(sample, subjects=40, weeks=12, seed=7)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pipeline.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

KG_PER_FIBER_G = -0.0025
FIRST_DAY = date(2022, 1, 3)  # a Monday, and years ago: rows after a run's nominal date are set aside
MAX_WEEKS = 1_000
BLOCK_DAYS = 100_000  # subject-days made at once: what bounds the memory, and part of what a seed means

WEIGHT_FILE = "Sample_tidy.csv"
DIARY_FILE = "Sample_nutrition_rows.csv"
TOTALS_FILE = "Sample_fiber_daily.csv"
HEADERS = {
    WEIGHT_FILE: "subject_id,date,week,weight_kg,energy_1_10,mood_1_10",
    DIARY_FILE: "subject_id,date,food_item,category,calories,protein_g,carbs_g,fat_g,fiber_g",
    TOTALS_FILE: "subject_id,date,week,total_calories,total_fiber_g",
}

# Name, category, and a usual portion's calories, protein, carbohydrates, fat and fibre (g).
FOODS: tuple[tuple[str, str, float, float, float, float, float], ...] = (
    ("baked potato", "potato", 160, 4.3, 36.6, 0.2, 3.8),
    ("mashed potato", "potato", 240, 4.0, 35.0, 9.0, 3.1),
    ("roasted potatoes", "potato", 210, 4.1, 31.5, 8.0, 3.4),
    ("potato salad", "potato", 290, 4.6, 25.0, 19.0, 2.4),
    ("patatas bravas", "potato", 280, 4.0, 33.0, 15.0, 3.2),
    ("kidney beans", "beans", 215, 13.4, 37.0, 1.5, 13.6),
    ("black bean soup", "beans", 180, 10.5, 29.0, 2.6, 9.8),
    ("chickpea curry", "beans", 320, 12.0, 42.0, 11.0, 10.5),
    ("lentils", "beans", 230, 17.9, 39.9, 0.8, 15.0),
    ("baked beans on toast", "beans", 330, 15.0, 57.0, 4.0, 12.0),
    ("brown rice", "rice", 218, 4.5, 45.8, 1.6, 3.5),
    ("white rice", "rice", 205, 4.3, 44.5, 0.4, 0.6),
    ("jasmine rice", "rice", 215, 4.2, 45.0, 0.5, 0.7),
    ("basmati", "rice", 210, 4.4, 46.0, 0.5, 0.7),
    ("oatmeal", "oats", 158, 5.9, 27.3, 3.2, 4.0),
    ("steel cut oats", "oats", 170, 7.0, 29.0, 3.0, 5.0),
    ("overnight oats", "oats", 305, 12.0, 44.0, 9.0, 7.2),
    ("porridge", "oats", 180, 6.2, 28.0, 4.5, 4.1),
    ("whole wheat bread", "bread", 160, 8.0, 27.0, 2.2, 3.8),
    ("sourdough", "bread", 185, 7.5, 36.0, 1.2, 1.8),
    ("bagel", "bread", 277, 11.0, 55.0, 1.4, 2.3),
    ("toast", "bread", 130, 4.8, 24.0, 1.6, 1.9),
    ("baguette", "bread", 235, 8.6, 48.0, 1.0, 1.9),
    ("apple", "fruit", 95, 0.5, 25.1, 0.3, 4.4),
    ("banana", "fruit", 105, 1.3, 27.0, 0.4, 3.1),
    ("mixed berries", "fruit", 70, 1.0, 17.0, 0.5, 5.8),
    ("orange", "fruit", 69, 1.3, 17.6, 0.2, 3.1),
    ("fruit salad", "fruit", 120, 1.5, 30.0, 0.5, 4.0),
    ("jalapeño pepper", "vegetables", 25, 0.8, 5.0, 0.3, 2.4),
    ("carrots", "vegetables", 50, 1.1, 11.7, 0.3, 3.4),
    ("broccoli", "vegetables", 55, 3.7, 11.2, 0.6, 5.1),
    ("spinach", "vegetables", 41, 5.4, 6.8, 0.5, 4.3),
    ("tomato soup", "vegetables", 90, 2.0, 20.0, 0.5, 1.8),
    ("crème fraîche", "dairy", 110, 0.7, 1.0, 11.5, 0.0),
    ("cottage cheese", "dairy", 180, 24.0, 7.0, 5.0, 0.0),
    ("greek yogurt", "dairy", 150, 15.0, 8.0, 7.5, 0.0),
    ("yoghurt", "dairy", 140, 8.0, 12.0, 6.5, 0.0),
    ("milk", "dairy", 120, 8.0, 12.0, 4.8, 0.0),
    ("chicken breast", "meat", 230, 43.0, 0.5, 5.0, 0.0),
    ("grilled salmon", "meat", 290, 34.0, 0.5, 16.0, 0.0),
    ("lean beef", "meat", 250, 36.0, 0.5, 11.0, 0.0),
    ("turkey sandwich", "meat", 340, 24.0, 38.0, 10.0, 3.0),
    ("scrambled eggs", "egg", 200, 13.5, 2.0, 15.0, 0.0),
    ("omelette", "egg", 220, 14.0, 2.0, 17.0, 0.3),
    ("fried egg", "egg", 90, 6.3, 0.4, 7.0, 0.0),
    ("hard boiled egg", "egg", 78, 6.3, 0.6, 5.3, 0.0),
    ("almonds", "nuts", 164, 6.0, 6.1, 14.2, 3.5),
    ("peanut butter", "nuts", 190, 7.0, 7.5, 16.0, 1.6),
    ("walnuts", "nuts", 185, 4.3, 3.9, 18.5, 1.9),
    ("cashew nut", "nuts", 157, 5.2, 8.6, 12.4, 0.9),
    ("brocolli", "vegetables", 55, 3.7, 11.2, 0.6, 5.1),  # as people type
    ("bannana", "fruit", 105, 1.3, 27.0, 0.4, 3.1),
    ("choclate cake", "other", 370, 5.0, 51.0, 16.0, 2.0),
    ("black coffee", "other", 5, 0.3, 0.5, 0.1, 0.0),
    ("chips 🍟", "other", 310, 3.8, 41.0, 15.0, 3.8),
    ("味噌汁", "other", 60, 4.0, 7.0, 2.0, 1.2),
    ("peppermint tea", "other", 4, 0.1, 0.7, 0.1, 0.0),  # no pepper: phrases are whole words
)
# How one food, or two, are written down, and how they are typed; each with its share of the diary.
ENTRIES: tuple[tuple[str, float], ...] = (
    ("{0}", 0.635),
    ("{0} with {1}", 0.1),
    ("{0} and {1}", 0.08),
    ("{0}, {1}", 0.06),
    ('"{0}" (homemade)', 0.04),
    ("{0} / {1}", 0.03),
    ("2x {0}", 0.03),
    ("leftover {0}; some {1}", 0.02),
    ("{0}\n+ {1}", 0.005),
)
CASES: tuple[tuple[Callable[[str], str], float], ...] = ((str.lower, 0.8), (str.capitalize, 0.12), (str.upper, 0.05), (str.title, 0.03))

DIARY_LINES_A_DAY = 1.2
LATE, TWICE = 0.03, 0.01  # share of diary lines entered days late, and entered twice
LEAVE_EARLY = 0.08  # share of subjects
DAY_LOGGED, CALORIES_KNOWN, FIBER_KNOWN, WEIGHT_KNOWN, SCORE_KNOWN = 0.86, 0.92, 0.95, 0.89, 0.97
# Everyday eating beside the diary's lines: mean, spread between subjects, between weeks and between days.
CALORIES = (1850.0, 220.0, 120.0, 260.0)
FIBER_G = (21.0, 5.0, 4.0, 5.0)


def generate(out: Path, *, subjects: int, weeks: int, seed: int, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the three input files to the folder `out`, which is made if need be and has to be empty.

    The same arguments give the same bytes. About 8.4 diary lines, 6 daily totals and 1 weigh-in a subject-week; memory
    doesn't grow with the size. Files get their names when all are whole, so a broken-off call leaves no input.

    Args:
        out: the folder.
        subjects: how many people, 1 or more.
        weeks: how long, 1 to `MAX_WEEKS`; the first day is `FIRST_DAY`.
        seed: 0 or more.
        progress: told (subjects done, subjects in all) after each block.

    Raises:
        UsageError: an argument is out of range, or the folder isn't empty or can't be written.
    """
    _refuse_arguments(subjects, weeks, seed)
    try:
        _refuse_folder(out)
        out.mkdir(parents=True, exist_ok=True)
        _write(out, _Size(subjects=subjects, weeks=weeks, seed=seed), progress)
    except OSError as error:
        raise UsageError(f"{out} can't be written: {error.strerror or error}", hint="choose another folder with --out") from error


def _refuse_arguments(subjects: int, weeks: int, seed: int) -> None:
    if subjects < 1:
        raise UsageError(f"subjects is {subjects}, which is fewer than one", hint="use --subjects 1 or more", subjects=subjects)
    if not 1 <= weeks <= MAX_WEEKS:
        raise UsageError(f"weeks is {weeks}, which is not between 1 and {MAX_WEEKS}", hint=f"use --weeks 1 to {MAX_WEEKS}", weeks=weeks)
    if seed < 0:
        raise UsageError(f"seed is {seed}, which is below 0", hint="use --seed 0 or more", seed=seed)


def _refuse_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", hint="name a folder that is empty or doesn't exist with --out")
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty", hint="name a folder that is empty or doesn't exist with --out")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """What was asked for."""

    subjects: int
    weeks: int
    seed: int

    @property
    def days(self) -> int:
        return 7 * self.weeks

    def blocks(self) -> Iterator[range]:
        """Numbers of the subjects that are made together."""
        step = max(1, BLOCK_DAYS // self.days)
        return (range(first, min(first + step, self.subjects)) for first in range(0, self.subjects, step))


def _write(out: Path, size: _Size, progress: Callable[[int, int], None] | None) -> None:
    parts = {name: out / f".{name}.part" for name in HEADERS}
    try:
        with ExitStack() as stack:
            files = {name: stack.enter_context(part.open("w", encoding="utf-8", newline="")) for name, part in parts.items()}
            for name, file in files.items():
                file.write(HEADERS[name] + "\n")
            for people in size.blocks():
                _write_block(files, size, people)
                if progress:
                    progress(people.stop, size.subjects)
        for name, part in parts.items():
            part.replace(out / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _write_block(files: Mapping[str, TextIO], size: _Size, people: range) -> None:
    import numpy as np

    # A generator for each block: what a subject is like doesn't depend on how many come after.
    rng = np.random.default_rng([size.seed, people.start])
    ids = [f"S{number + 1:05d}" for number in people]
    dates = [(FIRST_DAY + timedelta(days=day)).isoformat() for day in range(size.days)]
    days = np.where(rng.random(len(ids)) < LEAVE_EARLY, rng.integers(size.days // 2, size.days, len(ids)) + 1, size.days)
    here = np.arange(size.days) < days[:, None]
    diary = _diary(rng, here)
    calories = _daily(rng, CALORIES, here.shape) + diary.by_day(diary.nutrients[0], here.shape)
    fiber_g = _daily(rng, FIBER_G, here.shape) + diary.by_day(diary.nutrients[4], here.shape)
    _write_rows(files[DIARY_FILE], _diary_columns(rng, diary, ids, dates))
    _write_rows(files[TOTALS_FILE], _totals_columns(rng, (calories, fiber_g), here, (ids, dates)))
    _write_rows(files[WEIGHT_FILE], _weight_columns(rng, fiber_g, here, (ids, dates)))


def _write_rows(file: TextIO, columns: Iterable[Iterable[str]]) -> None:
    file.writelines(",".join(row) + "\n" for row in zip(*columns, strict=True))


def _daily(rng: Generator, what: tuple[float, float, float, float], shape: tuple[int, int]) -> Floats:
    """What subjects take in a day (subjects × days): a habit, better and worse weeks, better and worse days."""
    mean, subject, week, day = what
    subjects, days = shape
    weekly = rng.normal(0, week, (subjects, days // 7)).repeat(7, axis=1)
    return (mean + rng.normal(0, subject, (subjects, 1)) + weekly + rng.normal(0, day, shape)).clip(mean / 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Diary:
    """Diary lines in the order of subject and day. `nutrients` is 5 × lines: calories, protein, carbohydrates, fat, fibre."""

    subject: Ints
    day: Ints
    first: Ints
    second: Ints
    entry: Ints
    case: Ints
    nutrients: Floats

    def by_day(self, values: Floats, shape: tuple[int, int]) -> Floats:
        """Sums of the lines' `values` by subject and day."""
        import numpy as np

        return np.bincount(self.subject * shape[1] + self.day, weights=values, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)


def _diary(rng: Generator, here: Bools) -> _Diary:
    import numpy as np

    subject, day = np.nonzero(here)
    lines = rng.poisson(DIARY_LINES_A_DAY, len(subject))
    subject, day = subject.repeat(lines), day.repeat(lines)
    first, second = rng.integers(0, len(FOODS), (2, len(subject)))
    entry = rng.choice(len(ENTRIES), len(subject), p=[share for _, share in ENTRIES])
    case = rng.choice(len(CASES), len(subject), p=[share for _, share in CASES])
    portion = np.array([food[2:] for food in FOODS]).T
    two = np.array(["{1}" in pattern for pattern, _ in ENTRIES])[entry]
    nutrients = (portion[:, first] + two * portion[:, second]) * rng.uniform(0.6, 1.5, len(subject))
    return _Diary(subject=subject, day=day, first=first, second=second, entry=entry, case=case, nutrients=nutrients)


def _diary_columns(rng: Generator, diary: _Diary, ids: list[str], dates: list[str]) -> Iterator[Iterable[str]]:
    import numpy as np

    lines = len(diary.day)
    entered = diary.day + (rng.random(lines) < LATE) * rng.integers(1, 15, lines)
    order = np.lexsort((entered, diary.subject)).repeat(1 + (rng.random(lines) < TWICE))
    written = zip(*(column[order].tolist() for column in (diary.entry, diary.case, diary.first, diary.second)), strict=True)
    yield map(ids.__getitem__, diary.subject[order].tolist())
    yield map(dates.__getitem__, diary.day[order].tolist())
    yield [_food_cell(*line) for line in written]
    yield [FOODS[food][1] for food in diary.first[order].tolist()]
    for values in diary.nutrients:
        yield _texts(values[order], 1)


@cache
def _food_cell(entry: int, case: int, first: int, second: int) -> str:
    text = CASES[case][0](ENTRIES[entry][0].format(FOODS[first][0], FOODS[second][0]))
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\n') else text


def _totals_columns(rng: Generator, eaten: tuple[Floats, Floats], here: Bools, names: tuple[list[str], list[str]]) -> Iterator[Iterable[str]]:
    import numpy as np

    ids, dates = names
    subject, day = np.nonzero(here & (rng.random(here.shape) < DAY_LOGGED))
    yield map(ids.__getitem__, subject.tolist())
    yield map(dates.__getitem__, day.tolist())
    yield map(str, (1 + day // 7).tolist())
    for values, known in zip(eaten, (CALORIES_KNOWN, FIBER_KNOWN), strict=True):
        yield _texts(values[subject, day], 1, rng.random(len(day)) < known)


def _weight_columns(rng: Generator, fiber_g: Floats, here: Bools, names: tuple[list[str], list[str]]) -> Iterator[Iterable[str]]:
    import numpy as np

    ids, dates = names
    weeks = here.shape[1] // 7
    weight_kg = _weights(rng, fiber_g.reshape(len(ids), weeks, 7).sum(axis=2))
    subject, week = np.nonzero(here[:, ::7])
    day = 7 * week + rng.integers(0, 7, len(week))
    yield map(ids.__getitem__, subject.tolist())
    yield map(dates.__getitem__, day.tolist())
    yield map(str, (1 + week).tolist())
    yield _texts(weight_kg[subject, week], 2, rng.random(len(week)) < WEIGHT_KNOWN)
    for mean in (6.2, 6.6):  # energy, mood
        yield _texts(rng.normal(mean, 1.6, len(week)).clip(1, 10), 1, rng.random(len(week)) < SCORE_KNOWN)


def _weights(rng: Generator, fiber_g_week: Floats) -> Floats:
    """Weights in kg (subjects × weeks): start, own trend, the effect of last week's fibre, and a random walk."""
    import numpy as np

    subjects, weeks = fiber_g_week.shape
    usual = 7 * (FIBER_G[0] + DIARY_LINES_A_DAY * float(np.mean([food[6] for food in FOODS])))
    trend = rng.normal(-0.08, 0.22, (subjects, 1))
    change = trend + KG_PER_FIBER_G * (fiber_g_week - usual) + rng.normal(0, 0.4, (subjects, weeks))
    start = rng.normal(76, 13, (subjects, 1)).clip(48, 125)
    moved = np.hstack([np.zeros((subjects, 1)), np.cumsum(change[:, :-1], axis=1)])
    return (start + moved + rng.normal(0, 0.12, (subjects, weeks))).clip(30, 300)


def _texts(values: Floats, decimals: int, known: Bools | None = None) -> Iterable[str]:
    """`values` written with `decimals`, an empty text where one isn't known."""
    import numpy as np

    table = _number_texts(decimals)
    steps = np.rint(values * 10**decimals).astype(np.int64).clip(0, len(table) - 2)
    if known is not None:
        steps = np.where(known, steps, len(table) - 1)
    return map(table.__getitem__, steps.tolist())


@cache
def _number_texts(decimals: int) -> list[str]:
    """All numbers that occur, written once (ten times as fast as formatting each), and an empty text at the end."""
    return [f"{step / 10**decimals:.{decimals}f}" for step in range(100_000)] + [""]
