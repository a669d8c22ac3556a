"""The silver SQL against its definitions in plain Python, on real, shipped and generated data."""

import csv
import hashlib
import os
import string
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlglot import exp, parse_one
from sqlglot.lineage import lineage

from pipeline.quality import checks
from pipeline.quality.contracts import load_contracts
from pipeline.records import Outcome
from pipeline.study.synth import generate
from tests.study import silver_reference as reference

STUDY = Path(__file__).resolve().parents[2] / "pipeline" / "study"
TABLES = ["subject_trajectories", "weekly_features", "modeling_dataset"]
SELECTS = {name: (STUDY / "silver" / f"{name}.sql").read_text(encoding="utf-8") for name in TABLES}
CONTRACTS = load_contracts(STUDY / "contracts")
SQL_TYPES = {"string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "date": "DATE"}
PHRASES = reference.read_phrases(STUDY / "food_phrases.csv")
FIRST_DAY = date(2024, 1, 1)


class Lake:
    """A database with the schemas that the SQL steps see."""

    def __init__(self):
        self.connection = duckdb.connect(config={"threads": 2})
        for schema in ("bronze", "silver", "seed"):
            self.connection.execute(f"CREATE SCHEMA {schema}")
        for source in reference.SOURCES:
            columns = ", ".join(f"{column.name} {SQL_TYPES[column.type]}" for column in CONTRACTS[f"bronze/{source}"].columns)
            self.connection.execute(f"CREATE TABLE bronze.{source} ({columns})")
        self.connection.execute("CREATE TABLE seed.food_phrases (category VARCHAR, rank BIGINT, phrase VARCHAR)")

    def fill(self, tables, phrases):
        seed = [{"category": category, "rank": rank, "phrase": phrase} for category, listed in phrases.items() for rank, phrase in enumerate(listed, 1)]
        for table, rows in {**{f"bronze.{source}": rows for source, rows in tables.items()}, "seed.food_phrases": seed}.items():
            self.connection.execute(f"DELETE FROM {table}")
            if rows:
                names = list(rows[0])
                marks = ", ".join([f"({', '.join('?' * len(names))})"] * len(rows))
                self.connection.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES {marks}", [row[name] for row in rows for name in names])
        return self

    def load(self, folder):
        for source, (pattern, _) in reference.SOURCES.items():
            types = {column.name: SQL_TYPES[column.type] for column in CONTRACTS[f"input/{source}"].columns}
            read = f"read_csv('{folder}/{pattern}', header=true, columns={types}, quote='\"', escape='\"')"
            self.connection.execute(f"INSERT INTO bronze.{source} SELECT *, 'file', row_number() OVER (), 'load' FROM {read}")
        seed = "INSERT INTO seed.food_phrases SELECT * FROM read_csv(?, header=true)"
        self.connection.execute(seed, [str(STUDY / "food_phrases.csv")])
        return self

    def make(self, *names):
        for name in names or TABLES:
            self.connection.execute(f"CREATE OR REPLACE TABLE silver.{name} AS {SELECTS[name]}")
        return self

    def rows(self, name):
        result = self.connection.execute(f"FROM silver.{name}")
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


@pytest.fixture(scope="module")
def lake():
    """One database for all generated cases of this module; each fills it anew."""
    return Lake()


@pytest.fixture(scope="module")
def sample():
    """The shipped sample, made into silver."""
    return Lake().load(STUDY / "sample").make()


def assert_silver_is_as_defined(made, tables):
    trajectories = reference.subject_trajectories(tables["weight"])
    features = reference.weekly_features(tables["nutrition"], tables["fiber"], PHRASES)
    assert reference.differences(made.rows("subject_trajectories"), trajectories) == []
    assert reference.differences(made.rows("weekly_features"), features) == []
    assert reference.differences(made.rows("modeling_dataset"), reference.modeling_dataset(trajectories, features)) == []


# ---------------------------------------------------------------------------------------------------- whole data sets


def test_the_real_data_come_out_as_defined_with_436_rows_to_model(shared):
    folder = shared / "data" / "potato"
    made = Lake().load(folder).make()
    assert_silver_is_as_defined(made, {source: reference.read(folder, source) for source in reference.SOURCES})
    assert len(made.rows("modeling_dataset")) == 436


def test_the_shipped_sample_comes_out_as_defined(sample):
    assert_silver_is_as_defined(sample, {source: reference.read(STUDY / "sample", source) for source in reference.SOURCES})


def test_nothing_at_all_comes_out_as_nothing(lake):
    lake.fill({"weight": [], "nutrition": [], "fiber": []}, PHRASES).make()
    assert [lake.rows(name) for name in TABLES] == [[], [], []]


# ----------------------------------------------------------------------------------------------------- generated data

SUBJECTS = st.sampled_from(["1", "2", "10", "ä", "S-1"])
DAYS = st.integers(0, 30).map(lambda days: FIRST_DAY + timedelta(days=days))
WEEKS = st.integers(1, 5)
SIGNS = st.sampled_from([" ", "-", "_", ",", ".", "s", "é", "\n", "\u017f", "\u212a", "2", "\x1e", "\x1f", "'", "🥔", "\x00", ""])
WORDS = st.sampled_from([phrase for listed in PHRASES.values() for phrase in listed])
FOODS = st.lists(st.tuples(st.one_of(WORDS, WORDS.map(str.upper), WORDS.map(str.title), st.text(max_size=4)), SIGNS), max_size=5).map(
    lambda parts: "".join(word + sign for word, sign in parts)
)


def maybe(lowest, highest):
    return st.one_of(st.none(), st.floats(lowest, highest), st.sampled_from([float(lowest), float(highest)]))


def maybe_hundredths(highest):
    """What people log: the study's totals count to twelve decimals, and these have two."""
    return st.one_of(st.none(), st.integers(0, 100 * highest).map(lambda hundredths: hundredths / 100), st.sampled_from([0.0, float(highest)]))


def numbered(rows):
    return [row | {"record_number": number} for number, row in enumerate(rows, 1)]


WEIGHT = st.lists(
    st.fixed_dictionaries(
        {"subject_id": SUBJECTS, "date": DAYS, "week": WEEKS, "weight_kg": maybe(20, 400), "energy_1_10": maybe(1, 10), "mood_1_10": maybe(1, 10)}
    ),
    max_size=60,
).map(numbered)
NUTRITION = st.lists(st.fixed_dictionaries({"subject_id": SUBJECTS, "date": DAYS, "food_item": st.one_of(st.none(), FOODS)}), max_size=40).map(numbered)
FIBER = st.lists(
    st.fixed_dictionaries(
        {"subject_id": SUBJECTS, "date": DAYS, "week": WEEKS, "total_calories": maybe_hundredths(20000), "total_fiber_g": maybe_hundredths(2000)}
    ),
    max_size=60,
).map(numbered)


@settings(max_examples=12)
@given(weight=WEIGHT)
def test_trajectories_are_as_defined_whatever_is_missing_or_shares_a_date(lake, weight):
    lake.fill({"weight": weight}, {}).make("subject_trajectories")
    assert reference.differences(lake.rows("subject_trajectories"), reference.subject_trajectories(weight)) == []


@settings(max_examples=12)
@given(nutrition=NUTRITION, fiber=FIBER)
def test_weekly_features_are_as_defined_whichever_file_knows_a_week(lake, nutrition, fiber):
    lake.fill({"nutrition": nutrition, "fiber": fiber}, PHRASES).make("weekly_features")
    assert reference.differences(lake.rows("weekly_features"), reference.weekly_features(nutrition, fiber, PHRASES)) == []


def test_deviations_of_nearly_equal_days_keep_their_digits(lake):
    days = [2000 + 1e-3 * place**2 for place in range(7)]
    fiber = numbered([{"subject_id": "1", "date": FIRST_DAY, "week": 1, "total_calories": value, "total_fiber_g": value} for value in days])
    lake.fill({"nutrition": [], "fiber": fiber}, PHRASES).make("weekly_features")
    assert reference.differences(lake.rows("weekly_features"), reference.weekly_features([], fiber, PHRASES)) == []


def test_totals_count_to_twelve_decimals(lake):
    fiber = numbered([{"subject_id": "1", "date": FIRST_DAY, "week": 1, "total_calories": value, "total_fiber_g": value} for value in (1e-12, 3.4e-12, 0.1)])
    lake.fill({"nutrition": [], "fiber": fiber}, PHRASES).make("weekly_features")
    [row] = lake.rows("weekly_features")
    assert row["fiber_g_sum"] == 0.100000000004


@settings(max_examples=8)
@given(weight=WEIGHT, nutrition=NUTRITION, fiber=FIBER)
def test_the_modeling_dataset_is_as_defined_whatever_overlaps(lake, weight, nutrition, fiber):
    weight = list({(row["subject_id"], row["date"]): row for row in weight}.values())  # its key
    tables = {"weight": weight, "nutrition": nutrition, "fiber": fiber}
    assert_silver_is_as_defined(lake.fill(tables, PHRASES).make(), tables)


def test_weeks_with_the_same_total_from_other_days_are_both_at_the_median(lake):
    days = [FIRST_DAY + timedelta(days=place) for place in range(2)]
    weight = [{"subject_id": subject, "date": day, "week": 1, "weight_kg": 70.0} for subject in "ab" for day in days]
    totals = [("a", days[0], 0.1), ("a", days[1], 0.2), ("b", days[0], 0.3)]  # 0.1 + 0.2 > 0.3 in floating point
    fiber = [{"subject_id": subject, "date": day, "week": 1, "total_calories": total, "total_fiber_g": total} for subject, day, total in totals]
    lake.fill({"weight": numbered(weight), "nutrition": [], "fiber": numbered(fiber)}, PHRASES).make()
    assert [(row["high_fiber_week"], row["high_calorie_week"]) for row in lake.rows("modeling_dataset")] == [(0, 0), (0, 0)]


# ------------------------------------------------------------------------------------------------------------ phrases


def mentions(lake, foods, phrases):
    """Mentions of the potato category in each text, each its own subject's week."""
    rows = [{"subject_id": f"{place:03d}", "date": FIRST_DAY, "food_item": food, "record_number": place} for place, food in enumerate(foods)]
    lake.fill({"nutrition": rows, "fiber": []}, {"potato": phrases}).make("weekly_features")
    return [row["potato_mentions"] for row in lake.rows("weekly_features")]


@pytest.mark.parametrize(
    ("food", "count"),
    [
        ("mashed potato", 2),
        ("baked potato", 1),
        ("potato salad", 1),
        ("Potato POTATOES potato", 3),
        ("potatoe", 0),
        ("sweet-potato, potato_chip", 1),
        ("épotato", 1),
        ("potato\x1fsalad", 1),
        ("", 0),
        (None, 0),
    ],
)
def test_phrases_are_whole_words_from_left_to_right_without_overlap(lake, food, count):
    assert mentions(lake, [food], PHRASES["potato"]) == [count]


def test_the_kelvin_sign_and_the_long_s_are_no_ascii_letters(lake):
    assert mentions(lake, ["mil\u212a", "milk", "mILK", "chee\u017fe"], ["milk", "cheese"]) == [0, 1, 1, 0]


SIGNS_OF_EXPRESSIONS = st.text(alphabet="ab AB.*+?()[]{}|^$\\-&#~'\"é", min_size=1, max_size=5)


@settings(max_examples=25)
@given(phrases=st.lists(SIGNS_OF_EXPRESSIONS, min_size=1, max_size=4), foods=st.lists(SIGNS_OF_EXPRESSIONS, min_size=1, max_size=6))
@example(phrases=["a", "b", "a b"], foods=["a b"])  # two: the first listed wins
@example(phrases=["a b", "a", "b"], foods=["a b"])  # one
@example(phrases=["a", "a b"], foods=["a ba"])  # a b doesn't end where a word does
@example(phrases=["a.c"], foods=["abc", "a.c"])
def test_a_phrase_is_text_whatever_signs_an_editor_puts_into_it(lake, phrases, foods):
    assert mentions(lake, foods, phrases) == [reference.count_mentions(food, phrases) for food in foods]


def test_more_texts_than_one_block_holds_keep_their_own_counts(lake):
    foods = [" ".join(["potato"] * (place % 7)) + string.ascii_lowercase[place % 26] + str(place) for place in range(450)]
    assert mentions(lake, foods, PHRASES["potato"]) == [reference.count_mentions(food, PHRASES["potato"]) for food in foods]


def test_the_categories_of_the_seed_are_those_of_the_columns():
    columns = [column.name.removesuffix("_mentions") for column in CONTRACTS["silver/weekly_features"].columns if column.name.endswith("_mentions")]
    assert list(PHRASES) == columns == reference.CATEGORIES


def test_the_seed_ranks_each_phrase_of_a_category_once():
    with (STUDY / "food_phrases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for category, phrases in PHRASES.items():
        assert sorted(int(row["rank"]) for row in rows if row["category"] == category) == list(range(1, len(phrases) + 1))
        assert len(set(phrases)) == len(phrases)


# ----------------------------------------------------------------------------------------------------------- the laws


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """150,000 diary lines: enough for two threads to share the work."""
    folder = tmp_path_factory.mktemp("large") / "input"
    generate(folder, subjects=1500, weeks=12, seed=3)
    return Lake().load(folder)


def files(lake, folder):
    """sha256 of each silver table as the runner writes it."""
    hashes = []
    for name in TABLES:
        lake.connection.execute(f"COPY ({SELECTS[name].strip()}) TO '{folder / name}.parquet' (FORMAT parquet, COMPRESSION zstd)")
        lake.connection.execute(f"CREATE OR REPLACE VIEW silver.{name} AS FROM '{folder / name}.parquet'")
        hashes.append(hashlib.sha256((folder / f"{name}.parquet").read_bytes()).hexdigest())
    return hashes


def test_neither_threads_nor_the_order_of_the_input_change_a_byte(large, tmp_path):
    first = files(large, tmp_path)
    assert files(large, tmp_path) == first
    for source in reference.SOURCES:
        large.connection.execute(f"CREATE OR REPLACE TABLE bronze.{source} AS FROM bronze.{source} ORDER BY hash(record_number)")
    assert files(large, tmp_path) == first


def test_names_and_types_are_those_of_the_contracts(sample):
    for name in TABLES:
        described = sample.connection.execute(f"DESCRIBE silver.{name}").fetchall()
        assert [(row[0], row[1]) for row in described] == [(column.name, SQL_TYPES[column.type]) for column in CONTRACTS[f"silver/{name}"].columns]


def source_columns(select, column, schema):
    tree = lineage(column, select, schema=schema, dialect="duckdb")
    return {f"{leaf.expression.db}/{leaf.expression.name}.{leaf.name.split('.')[-1]}" for leaf in tree.walk() if isinstance(leaf.expression, exp.Table)}


@pytest.mark.parametrize(
    ("table", "column", "expected"),
    [
        ("subject_trajectories", "energy_1_10", {"bronze/weight.energy_1_10"}),
        ("weekly_features", "fiber_g_std", {"bronze/fiber.total_fiber_g"}),
        ("weekly_features", "fiber_per_1000_cal", {"bronze/fiber.total_fiber_g", "bronze/fiber.total_calories"}),
        (
            "weekly_features",
            "beans_mentions",
            {"bronze/nutrition.food_item", "seed/food_phrases.category", "seed/food_phrases.rank", "seed/food_phrases.phrase"},
        ),
        ("modeling_dataset", "high_fiber_week", {"silver/weekly_features.fiber_g_week"}),
    ],
)
def test_each_table_is_one_select_whose_columns_can_be_traced(table, column, expected):
    schema = {"seed": {"food_phrases": {"category": "VARCHAR", "rank": "BIGINT", "phrase": "VARCHAR"}}}
    for dataset, contract in CONTRACTS.items():
        layer, _, name = dataset.partition("/")
        if contract.is_table:
            schema.setdefault(layer, {})[name] = {each.name: SQL_TYPES.get(each.type, "BOOLEAN") for each in contract.columns}
    assert isinstance(parse_one(SELECTS[table], dialect="duckdb"), exp.Select)
    assert source_columns(SELECTS[table], column, schema) == expected


# ---------------------------------------------------------------------------------------------------------- contracts


def failed(lake):
    return {
        f"{name}: {check.expectation} {check.column}"
        for name in TABLES
        for check in checks.evaluate(lake.connection, f"silver.{name}", CONTRACTS[f"silver/{name}"]).checks
        if check.outcome is not Outcome.PASSED
    }


def test_the_shipped_sample_keeps_every_silver_contract(sample):
    assert failed(sample) == set()


def test_the_real_data_keep_every_silver_contract(shared):
    assert failed(Lake().load(shared / "data" / "potato").make()) == set()


@pytest.mark.parametrize(
    ("source", "kept", "warning"),
    [
        ("weight", "subject_id = 'S00001'", "modeling_dataset: expect_column_unique_value_count_to_be_between subject_id"),
        ("weight", "week = 1", "modeling_dataset: expect_table_row_count_to_be_between None"),
        ("weight", "week <= 2", "modeling_dataset: expect_column_unique_value_count_to_be_between week"),
        ("fiber", "false", "modeling_dataset: expect_column_proportion_of_non_null_values_to_be_between fiber_days"),
        ("nutrition", "false", "modeling_dataset: expect_column_proportion_of_non_null_values_to_be_between food_variety_categories"),
    ],
)
def test_too_little_to_compare_is_a_warning_that_says_so(source, kept, warning):
    lake = Lake().load(STUDY / "sample")
    lake.connection.execute(f"DELETE FROM bronze.{source} WHERE NOT ({kept})")
    assert warning in failed(lake.make())


def landing(lake, source, changes):
    """A source's rows as they land, the first of them changed."""
    columns = ", ".join(column.name for column in CONTRACTS[f"bronze/{source}"].columns)
    lake.connection.execute(f"CREATE OR REPLACE TABLE landing AS SELECT {columns}, CAST(NULL AS VARCHAR[]) AS _bad_cells FROM bronze.{source}")
    lake.connection.execute(f"UPDATE landing SET {changes} WHERE record_number = 1")
    return checks.evaluate(lake.connection, "landing", CONTRACTS[f"input/{source}"])


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("weight", "weight_kg = 0"),
        ("weight", "weight_kg = 900"),
        ("weight", "mood_1_10 = 11"),
        ("weight", "week = 0"),
        ("nutrition", "calories = -1"),
        ("nutrition", "fiber_g = 2001"),
        ("fiber", "total_calories = -0.1"),
        ("fiber", "total_fiber_g = 1e6"),
        ("fiber", "date = NULL"),
    ],
)
def test_a_value_that_cannot_be_sets_its_row_aside(sample, source, changes):
    assert landing(sample, source, changes).bad_rows == 1


@pytest.mark.parametrize("source", reference.SOURCES)
def test_the_shipped_sample_loses_no_row(sample, source):
    verdict = landing(sample, source, "week = week" if source != "nutrition" else "calories = calories")
    assert verdict.bad_rows == 0
    assert {check.outcome for check in verdict.checks} == {Outcome.PASSED}


def test_the_declaration_loads_without_any_heavy_library():
    code = "import sys, pipeline.study as s; heavy = {'duckdb', 'pandas', 'numpy', 'scipy', 'matplotlib', 'sqlglot', 'statsmodels', 'mlflow'}; "
    code += "print(sorted(heavy & set(sys.modules)), [step.name for step in s.PIPELINE.steps])"
    environment = os.environ | {"PYTHONPATH": str(STUDY.parents[1])}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
    assert shown.strip() == "[] ['weight', 'food', 'fiber', 'traject', 'features', 'modeling', 'models', 'reports', 'figures']"
