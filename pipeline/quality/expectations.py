"""The expectations that contracts may name: their parameters, what columns they fit, and how they read in words.

Names and parameters are those of Great Expectations 1.x (core). The common ones have a SQL form (`sql_forms.py`) and
always run in DuckDB; the others run in Great Expectations over pandas, at its price in time and memory.
`contract.schema.json` is built from this table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, cast

from pipeline.quality.sql_forms import SQL_FORMS, Build, Kwargs
from pipeline.records import JsonValue, Privacy


class Kind(StrEnum):
    """What an expectation is about: each row, rows that share values, or one number of the table."""

    ROW = "row"
    UNIQUE = "unique"
    AGGREGATE = "aggregate"


class Parameter(StrEnum):
    """What a parameter's value is. Each is a definition of `contract.schema.json`."""

    COLUMN = "column"
    COLUMNS = "columns"
    BOUND = "bound"
    NUMBER = "number"
    COUNT = "count"
    SHARE = "share"
    MOSTLY = "mostly"
    FLAG = "flag"
    REGEX = "regex"
    REGEXES = "regexes"
    VALUES = "values"
    PAIRS = "pairs"
    TEXT = "text"
    MAPPING = "mapping"
    IGNORE_COLUMNS = "ignore_columns"
    MATCH_ON = "match_on"
    OUTLIER_METHOD = "outlier_method"


ORDERED: Final = frozenset({"integer", "number", "date", "timestamp"})
NUMERIC: Final = frozenset({"integer", "number"})
TEXT: Final = frozenset({"string"})
ANY: Final = frozenset({"string", "integer", "number", "boolean", "date", "timestamp"})

# Whose observed value a check may hold: a count is no value of a row; a mean over a handful of rows nearly is one.
_COUNTS: Final = frozenset(Privacy)
_MEANS: Final = frozenset({Privacy.PUBLIC, Privacy.PERSONAL})
_VALUES: Final = frozenset({Privacy.PUBLIC})


@dataclass(frozen=True, slots=True)
class ExpectationType:
    """One expectation of the table.

    Attributes:
        kind: what it is about.
        required: the parameters that have to be given.
        optional: the others.
        types: the contract's types that its columns may have.
        shown: the privacy classes of a column whose observed value (of an aggregate) a check may hold.
        words: the rule as a reader says it.
    """

    name: str
    kind: Kind
    required: Mapping[str, Parameter]
    optional: Mapping[str, Parameter]
    types: frozenset[str]
    words: Callable[[Kwargs], str]
    shown: frozenset[Privacy] = field(default=_COUNTS)

    @property
    def build(self) -> Build | None:
        """What makes its SQL form, if it has one."""
        return SQL_FORMS.get(self.name)

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """All parameters."""
        return {**self.required, **self.optional}


def expected_words(expectation: ExpectationType, kwargs: Kwargs) -> str:
    """The rule in words, such as `20 ≤ weight_kg ≤ 400 for at least 95 % of the values`."""
    mostly = kwargs.get("mostly")
    share = f" for at least {_number(100 * float(cast(float, mostly)))} % of the values" if mostly is not None else ""
    return expectation.words(kwargs) + share


def _number(value: JsonValue) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def bounds_words(subject: str, kwargs: Kwargs) -> str:
    """`subject` between its bounds: `20 ≤ weight_kg < 400`."""
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    left = "" if low is None else f"{_number(low)} {'<' if kwargs.get('strict_min') else '≤'} "
    right = "" if high is None else f" {'<' if kwargs.get('strict_max') else '≤'} {_number(high)}"
    return left + subject + right


def _column(text: str) -> Callable[[Kwargs], str]:
    return lambda kwargs: text.format_map({key: _plain(value) for key, value in kwargs.items()})


def _between(subject: str) -> Callable[[Kwargs], str]:
    return lambda kwargs: bounds_words(subject.format_map(kwargs), kwargs)


def _plain(value: JsonValue) -> str:
    if not isinstance(value, list):
        return _number(value)
    shown = ", ".join(_plain(item) for item in value[:12])
    return f"{{{shown}, … {len(value)} values}}" if len(value) > 12 else f"{{{shown}}}"


def _pair_greater(kwargs: Kwargs) -> str:
    return f"{kwargs['column_A']} {'≥' if kwargs.get('or_equal') else '>'} {kwargs['column_B']}"


def _compound(kwargs: Kwargs) -> str:
    return f"no two rows share {', '.join(cast(list[str], kwargs['column_list']))}"


_NONE: Final[Mapping[str, Parameter]] = {}
_COLUMN: Final = {"column": Parameter.COLUMN}
_MOSTLY: Final = {"mostly": Parameter.MOSTLY}
_STRICT: Final = {"strict_min": Parameter.FLAG, "strict_max": Parameter.FLAG}
_PAIR: Final = {"column_A": Parameter.COLUMN, "column_B": Parameter.COLUMN}
_LIST: Final = {"column_list": Parameter.COLUMNS}


def _bounds(kind: Parameter) -> dict[str, Parameter]:
    return {"min_value": kind, "max_value": kind, **_STRICT}


_Parameters = Mapping[str, Parameter]


def _row(name: str, types: frozenset[str], words: Callable[[Kwargs], str], required: _Parameters = _NONE, optional: _Parameters = _NONE) -> ExpectationType:
    return ExpectationType(name, Kind.ROW, {**_COLUMN, **required}, {**optional, **_MOSTLY}, types, words)


def _aggregate(name: str, types: frozenset[str], subject: str, bound: Parameter, shown: frozenset[Privacy]) -> ExpectationType:
    return ExpectationType(name, Kind.AGGREGATE, _COLUMN, _bounds(bound), types, _between(subject), shown)


def _of_table(name: str, words: Callable[[Kwargs], str], required: Mapping[str, Parameter], **optional: Parameter) -> ExpectationType:
    return ExpectationType(name, Kind.AGGREGATE, required, optional, ANY, words)


def _of_columns(name: str, types: frozenset[str], words: str, required: _Parameters = _NONE) -> ExpectationType:
    return ExpectationType(name, Kind.ROW, {**_LIST, **required}, _MOSTLY, types, _column(words))


def _values(name: str, words: str, optional: _Parameters = _NONE) -> ExpectationType:
    return ExpectationType(name, Kind.AGGREGATE, {**_COLUMN, "value_set": Parameter.VALUES}, optional, ANY, _column(words), frozenset())


_WITH_SQL: Final = (
    _row("expect_column_values_to_be_between", ORDERED, _between("{column}"), optional=_bounds(Parameter.BOUND)),
    _row("expect_column_values_to_not_be_null", ANY, _column("{column} is not missing")),
    _row("expect_column_values_to_be_null", ANY, _column("{column} is missing")),
    _row("expect_column_values_to_be_in_set", ANY, _column("{column} is one of {value_set}"), {"value_set": Parameter.VALUES}),
    _row("expect_column_values_to_not_be_in_set", ANY, _column("{column} is none of {value_set}"), {"value_set": Parameter.VALUES}),
    _row("expect_column_values_to_match_regex", TEXT, _column("{column} matches {regex}"), {"regex": Parameter.REGEX}),
    _row("expect_column_values_to_not_match_regex", TEXT, _column("{column} does not match {regex}"), {"regex": Parameter.REGEX}),
    _row("expect_column_value_lengths_to_be_between", TEXT, _between("length of {column}"), optional=_bounds(Parameter.COUNT)),
    _row("expect_column_value_lengths_to_equal", TEXT, _column("length of {column} is {value}"), {"value": Parameter.COUNT}),
    ExpectationType("expect_column_values_to_be_unique", Kind.UNIQUE, _COLUMN, _MOSTLY, ANY, _column("no two rows share {column}")),
    ExpectationType("expect_compound_columns_to_be_unique", Kind.UNIQUE, _LIST, {"ignore_row_if": Parameter.IGNORE_COLUMNS, **_MOSTLY}, ANY, _compound),
    ExpectationType("expect_column_pair_values_a_to_be_greater_than_b", Kind.ROW, _PAIR, {"or_equal": Parameter.FLAG, **_MOSTLY}, ORDERED, _pair_greater),
    _aggregate("expect_column_mean_to_be_between", NUMERIC, "mean of {column}", Parameter.NUMBER, _MEANS),
    _aggregate("expect_column_sum_to_be_between", NUMERIC, "sum of {column}", Parameter.NUMBER, _MEANS),
    _aggregate("expect_column_min_to_be_between", ORDERED, "least {column}", Parameter.BOUND, _VALUES),
    _aggregate("expect_column_max_to_be_between", ORDERED, "greatest {column}", Parameter.BOUND, _VALUES),
    _aggregate("expect_column_unique_value_count_to_be_between", ANY, "distinct values of {column}", Parameter.COUNT, _COUNTS),
    _aggregate("expect_column_proportion_of_non_null_values_to_be_between", ANY, "share of {column} that is not missing", Parameter.SHARE, _COUNTS),
    _of_table("expect_table_row_count_to_be_between", _between("rows"), {}, **_bounds(Parameter.COUNT)),
    _of_table("expect_table_row_count_to_equal", _column("{value} rows"), {"value": Parameter.COUNT}),
)

_ONLY_GX: Final = (
    _aggregate("expect_column_median_to_be_between", NUMERIC, "median of {column}", Parameter.NUMBER, _VALUES),
    _aggregate("expect_column_stdev_to_be_between", NUMERIC, "standard deviation of {column}", Parameter.NUMBER, _MEANS),
    _aggregate("expect_column_proportion_of_unique_values_to_be_between", ANY, "share of distinct values of {column}", Parameter.SHARE, _COUNTS),
    _values("expect_column_distinct_values_to_be_in_set", "all values of {column} are in {value_set}"),
    _values("expect_column_distinct_values_to_contain_set", "{column} has all of {value_set}"),
    _values("expect_column_distinct_values_to_equal_set", "the values of {column} are {value_set}"),
    _values("expect_column_most_common_value_to_be_in_set", "the most common {column} is one of {value_set}", {"ties_okay": Parameter.FLAG}),
    ExpectationType(
        "expect_column_quantile_values_to_be_between",
        Kind.AGGREGATE,
        {**_COLUMN, "quantile_ranges": Parameter.MAPPING},
        {},
        NUMERIC,
        _column("quantiles of {column} lie in their ranges"),
        frozenset(),
    ),
    _row(
        "expect_column_values_to_match_regex_list",
        TEXT,
        _column("{column} matches {regex_list}"),
        {"regex_list": Parameter.REGEXES},
        {"match_on": Parameter.MATCH_ON},
    ),
    _row("expect_column_values_to_not_match_regex_list", TEXT, _column("{column} matches none of {regex_list}"), {"regex_list": Parameter.REGEXES}),
    _row("expect_column_values_to_match_strftime_format", TEXT, _column("{column} is written as {strftime_format}"), {"strftime_format": Parameter.TEXT}),
    _row("expect_column_values_to_be_dateutil_parseable", TEXT, _column("{column} is a date")),
    _row("expect_column_values_to_be_json_parseable", TEXT, _column("{column} is JSON")),
    _row("expect_column_values_to_match_json_schema", TEXT, _column("{column} is JSON of its schema"), {"json_schema": Parameter.MAPPING}),
    _row("expect_column_values_to_be_increasing", NUMERIC, _column("{column} increases from row to row"), optional={"strictly": Parameter.FLAG}),
    _row("expect_column_values_to_be_decreasing", NUMERIC, _column("{column} decreases from row to row"), optional={"strictly": Parameter.FLAG}),
    _row(
        "expect_column_value_z_scores_to_be_less_than",
        NUMERIC,
        _column("z score of {column} < {threshold}"),
        {"threshold": Parameter.NUMBER, "double_sided": Parameter.FLAG},
    ),
    _row(
        "expect_column_values_to_not_be_outliers",
        NUMERIC,
        _column("{column} has no outliers"),
        optional={"method": Parameter.OUTLIER_METHOD, "multiplier": Parameter.NUMBER},
    ),
    ExpectationType("expect_column_pair_values_to_be_equal", Kind.ROW, _PAIR, _MOSTLY, ANY, _column("{column_A} = {column_B}")),
    ExpectationType(
        "expect_column_pair_values_to_be_in_set",
        Kind.ROW,
        {**_PAIR, "value_pairs_set": Parameter.PAIRS},
        _MOSTLY,
        ANY,
        _column("({column_A}, {column_B}) is one of {value_pairs_set}"),
    ),
    _of_columns("expect_multicolumn_sum_to_equal", NUMERIC, "{column_list} add up to {sum_total}", {"sum_total": Parameter.NUMBER}),
    _of_columns("expect_multicolumn_values_to_be_equal", ANY, "{column_list} are equal"),
    _of_columns("expect_select_column_values_to_be_unique_within_record", ANY, "{column_list} differ from each other"),
    _of_table("expect_table_column_count_to_be_between", _between("columns"), {}, min_value=Parameter.COUNT, max_value=Parameter.COUNT),
    _of_table("expect_table_column_count_to_equal", _column("{value} columns"), {"value": Parameter.COUNT}),
    _of_table("expect_table_columns_to_match_ordered_list", _column("columns are {column_list}, in this order"), _LIST),
)

EXPECTATIONS: Final[Mapping[str, ExpectationType]] = {expectation.name: expectation for expectation in (*_WITH_SQL, *_ONLY_GX)}

# Core expectations of Great Expectations that a contract can't use, and what to do instead.
NOT_HERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "expect_column_values_to_be_of_type",
            "expect_column_values_to_be_in_type_list",
            "expect_column_type_to_be",
            "expect_column_to_exist",
            "expect_table_columns_to_match_set",
        ),
        "the contract's columns say it",
    ),
    **dict.fromkeys(
        (
            "expect_column_values_to_match_like_pattern",
            "expect_column_values_to_match_like_pattern_list",
            "expect_column_values_to_not_match_like_pattern",
            "expect_column_values_to_not_match_like_pattern_list",
        ),
        "use expect_column_values_to_match_regex",
    ),
    **dict.fromkeys(
        ("expect_query_results_to_match_comparison", "expect_table_row_count_to_equal_other_table", "unexpected_rows_expectation"),
        "it needs a second table or a query: make a step that computes it, with a contract for its output",
    ),
    "expect_multicolumn_values_to_be_unique": "use expect_select_column_values_to_be_unique_within_record",
    "expect_column_kl_divergence_to_be_less_than": "it takes a histogram of the data, which doesn't belong into a contract",
}
