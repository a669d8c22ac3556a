"""The silver tables by their definitions, slow and plain, in exact arithmetic: what the SQL is held against.

Rows are dicts; a missing value is None. Nothing here is taken from the SQL.
"""

import csv
import math
import re
from collections import defaultdict
from datetime import date
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

CATEGORIES = ["potato", "beans", "rice", "oats", "bread", "fruit", "vegetables", "dairy", "meat", "egg", "nuts"]
ASCII_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
MEASURES = {"subject_id": str, "date": date.fromisoformat, "week": int, "weight_kg": float, "energy_1_10": float, "mood_1_10": float}
DIARY = {"subject_id": str, "date": date.fromisoformat, "food_item": str, "category": str} | dict.fromkeys(
    ["calories", "protein_g", "carbs_g", "fat_g", "fiber_g"], float
)
TOTALS = {"subject_id": str, "date": date.fromisoformat, "week": int, "total_calories": float, "total_fiber_g": float}
SOURCES = {"weight": ("*tidy*.csv", MEASURES), "nutrition": ("*nutrition_rows*.csv", DIARY), "fiber": ("*fiber_daily*.csv", TOTALS)}


def read(folder: Path, source):
    """The rows of one input file, typed, with their record number."""
    pattern, types = SOURCES[source]
    (path,) = folder.glob(pattern)
    with path.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    return [
        {name: kind(record[name]) if record[name] else None for name, kind in types.items()} | {"record_number": number}
        for number, record in enumerate(records, 1)
    ]


def read_phrases(path: Path):
    """The seed as category → phrases in their order."""
    phrases = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in sorted(csv.DictReader(file), key=lambda row: int(row["rank"])):
            phrases[row["category"]].append(row["phrase"])
    return dict(phrases)


def by(rows, *names):
    """Rows in groups that share the values of `names`."""
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in names)].append(row)
    return groups


def slope(values):
    """Least-squares slope of `values` against 0, 1, 2, …; None under three."""
    if len(values) < 3:
        return None
    x_mean = Fraction(len(values) - 1, 2)
    y_mean = sum(map(Fraction, values)) / len(values)
    products = sum((x - x_mean) * (Fraction(y) - y_mean) for x, y in enumerate(values))
    return float(products / sum((x - x_mean) ** 2 for x in range(len(values))))


def subject_trajectories(weight):
    made = []
    for _, records in sorted(by(weight, "subject_id").items()):
        records = sorted(records, key=lambda row: (row["date"], row["week"], row["record_number"]))
        known = [row["weight_kg"] for row in records if row["weight_kg"] is not None]
        baseline = known[0] if known else None
        changes = [None] + [minus(after["weight_kg"], before["weight_kg"]) for before, after in pairwise(records)]
        for place, row in enumerate(records):
            before = records[place - 1]["weight_kg"] if place else None
            distance = minus(row["weight_kg"], baseline)
            made.append(
                {name: row[name] for name in MEASURES}
                | {
                    "delta_kg": changes[place],
                    "delta_kg_pct": None if changes[place] is None else 100 * changes[place] / before,
                    "delta_kg_next": changes[place + 1] if place + 1 < len(records) else None,
                    "baseline_weight_kg": baseline,
                    "delta_from_baseline_kg": distance,
                    "delta_from_baseline_pct": None if distance is None else 100 * distance / baseline,
                    "weight_slope_kg_per_week": slope(known),
                }
            )
    return made


def minus(a, b):
    return None if a is None or b is None else a - b


def describe(values):
    """Mean, sum, standard deviation (n-1) and number of the known values."""
    known = [Fraction(value) for value in values if value is not None]
    if not known:
        return None, None, None, 0
    mean = sum(known) / len(known)
    std = math.sqrt(sum((value - mean) ** 2 for value in known) / (len(known) - 1)) if len(known) > 1 else None
    return float(mean), float(sum(known)), std, len(known)


def count_mentions(text, phrases):
    """Whole-word matches of `phrases` in `text`, by Python's own regular expressions."""
    if text is None or not phrases:
        return 0
    alternatives = "|".join(re.escape(phrase.translate(ASCII_LOWER)) for phrase in phrases)
    return len(re.findall(rf"\b(?:{alternatives})\b", text.translate(ASCII_LOWER), re.ASCII))


def week_of_totals(rows):
    calories = describe([row["total_calories"] for row in rows])
    fiber = describe([row["total_fiber_g"] for row in rows])
    rate = None if None in (calories[1], fiber[1]) or calories[1] == 0 else 1000 * fiber[1] / calories[1]
    return (
        dict(zip(["calories_mean", "calories_sum", "calories_std", "calories_days"], calories, strict=True))
        | dict(zip(["fiber_g_mean", "fiber_g_sum", "fiber_g_std", "fiber_days"], fiber, strict=True))
        | {"calories_week": calories[1], "fiber_g_week": fiber[1], "calories_day_avg": calories[0], "fiber_g_day_avg": fiber[0], "fiber_per_1000_cal": rate}
    )


def week_of_diary(rows, phrases):
    made, variety = {}, 0
    for category in CATEGORIES:
        mentions = sum(count_mentions(row["food_item"], phrases.get(category)) for row in rows)
        made |= {f"{category}_mentions": mentions, f"{category}_week": int(mentions > 0)}
        variety += int(mentions > 0)
    return made | {"food_variety_categories": variety, "food_entries_week": len(rows)}


def weekly_features(nutrition, fiber, phrases):
    first = {subject: min(row["date"] for row in rows) for (subject,), rows in by(nutrition, "subject_id").items()}
    dated = [row | {"week": 1 + (row["date"] - first[row["subject_id"]]).days // 7} for row in nutrition]
    totals = {key: week_of_totals(rows) for key, rows in by(fiber, "subject_id", "week").items()}
    diary = {key: week_of_diary(rows, phrases) for key, rows in by(dated, "subject_id", "week").items()}
    nothing = dict.fromkeys(week_of_totals([{"total_calories": None, "total_fiber_g": None}])), dict.fromkeys(week_of_diary([], {}))
    return [
        {"subject_id": subject, "week": week} | totals.get((subject, week), nothing[0]) | diary.get((subject, week), nothing[1])
        for subject, week in sorted(totals.keys() | diary.keys())
    ]


def modeling_dataset(trajectories, features):
    weeks = {(row["subject_id"], row["week"]): row for row in features}
    names = list(weekly_features([{"subject_id": "", "date": date(2000, 1, 1), "food_item": None}], [], {})[0])[2:]
    joined = []
    for row in trajectories:
        week = weeks.get((row["subject_id"], row["week"]), dict.fromkeys(names))
        joined.append(row | {name: 0 if week[name] is None and name.endswith("_week") else week[name] for name in names})
    for flag, name in (("high_fiber_week", "fiber_g_week"), ("high_calorie_week", "calories_week")):
        middle = median(row[name] for row in joined) if joined else 0
        for row in joined:
            row[flag] = int(row[name] - middle > 1e-12 * abs(middle))  # the last bit of a sum doesn't make it greater
    return [row for row in joined if row["delta_kg_next"] is not None]


def differences(made, expected):
    """Where two tables differ by more than 1e-9 of the expected number, in words."""
    if len(made) != len(expected):
        return [f"{len(made)} rows, expected {len(expected)}"]
    return [
        f"row {place}, {name}: {left.get(name)!r}, expected {right[name]!r}"
        for place, (left, right) in enumerate(zip(made, expected, strict=True))
        for name in right
        if not same(left.get(name), right[name])
    ] + [f"columns {list(left)}, expected {list(right)}" for left, right in zip(made[:1], expected[:1], strict=True) if list(left) != list(right)]


def same(left, right):
    # Deviations and slopes of nearly equal numbers come from differences of doubles: below 1e-15 there is nothing to know.
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-15) if isinstance(left, float) and isinstance(right, (int, float)) else left == right
