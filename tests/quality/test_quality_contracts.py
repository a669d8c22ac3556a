"""What a contract may say, and how a wrong one is told: with file, line, and what mends it."""

from pathlib import Path

import pytest

from pipeline.errors import DeclarationError
from pipeline.quality.contracts import check, load_contract, load_contracts
from pipeline.records import Privacy, Severity

GOOD = """\
dataset: input/weight
description: One weighing.
owner: study team
key: [subject_id, date]
max_quarantined_share: 0.05
pattern: "*tidy*.csv"
as_of_column: date
columns:
  - {name: subject_id, type: string, nullable: false, privacy: identifier, description: The person.}
  - {name: date, type: date, nullable: false, privacy: personal, description: The day.}
  - {name: weight_kg, type: number, unit: kg, privacy: personal, description: Body weight.}
expectations:
  - expect: expect_column_values_to_be_between
    kwargs: {column: weight_kg, min_value: 20, max_value: 400}
    severity: error
    quarantine: true
    description: Scales show nothing else.
  - expect: expect_column_values_to_match_regex
    kwargs: {column: subject_id, regex: "^[A-Za-z0-9_-]+$"}
    severity: warn
"""

# What stands there → what takes its place, the line that is told, a part of the message, and of the hint.
REFUSED = [
    ("key: [", "keys: [", 4, "'keys' is not a key of the contract", "did you mean key?"),
    ("owner: study team\n", "", 1, "has no 'owner'", "add owner:"),
    ("type: number", "type: float", 11, "columns[3].type is 'float', which is not known", "string, integer, number"),
    ("nullable: false, privacy: personal", "nullable: no, privacy: personal", 10, "'no', not true or false", "write true or false"),
    ("0.05", "5", 5, "max_quarantined_share is 5, more than 1", ""),
    ("0.05", '"0.05"', 5, "is '0.05', not a number", ""),
    ("input/weight", "inputs/weight", 1, "dataset is 'inputs/weight'", "layer/name"),
    ("input/weight", "silver/weight", 6, "'pattern' is for sources", "leave it out"),
    ('pattern: "*tidy*.csv"\n', "", 1, "a source has no 'pattern'", "add pattern"),
    ("[subject_id, date]", "[subject_id, day]", 4, "there is no column 'day'", "columns are subject_id, date, weight_kg"),
    ("[subject_id, date]", "[subject_id, weight_kg]", 4, "'weight_kg' may be missing", "say nullable: false"),
    ("as_of_column: date", "as_of_column: weight_kg", 7, "of type number", "a date or a timestamp"),
    ("{name: weight_kg, type", "{name: Date, type", 11, "'Date' is declared twice", "capitals"),
    ("{name: weight_kg, type", "{name: load_id, type", 11, "'load_id' is one that ingestion adds", "kept names"),
    ("{name: weight_kg, type", "{name: weight kg, type", 11, "'weight kg', which can't be", "letters, digits"),
    ("values_to_be_between", "values_to_be_betwen", 13, "'expect_column_values_to_be_betwen', which is not known", "expect_column_values_to_be_between"),
    ("expect_column_values_to_be_between", "expect_column_to_exist", 13, "can't stand in a contract", "the contract's columns say it"),
    ("min_value: 20", "minimum: 20", 14, "'minimum' is not a key of expectations[1].kwargs", "min_value"),
    ("{column: weight_kg, min_value: 20", "{min_value: 20", 14, "has no 'column'", ""),
    ("min_value: 20", "min_value: 500", 14, "min_value is 500, more than max_value (400)", ""),
    ("min_value: 20, max_value: 400", "strict_min: true", 14, "has no bound", "min_value, max_value or both"),
    ("min_value: 20", "min_value: 2024-01-31", 14, "'2024-01-31', and 'weight_kg' is of type number", "without quotes"),
    ("column: weight_kg, min", "column: subject_id, min", 14, "'subject_id' is of type string", "it takes date, integer, number, timestamp"),
    ("column: weight_kg, min", "column: weight, min", 14, "there is no column 'weight'", "did you mean weight_kg?"),
    ("max_value: 400}", "max_value: 400, mostly: 0.9}", 16, "'mostly' and 'quarantine' exclude each other", "max_quarantined_share"),
    ("severity: warn", "severity: info", 20, "severity is 'info', which is not known", "known are warn, error"),
    ("    severity: warn\n", "", 18, "has no 'severity'", "add severity:"),
    ("^[A-Za-z0-9_-]+$", r"^P\\d+$", 19, "at position 3: \\d differs between engines", "write [0-9]"),
    ("description: The day.", "description: The day., description: Again.", 10, "'description' is written twice", "line 10"),
    ("description: The day.", "description: ''", 10, "is empty", ""),
    ("owner: study team", "owner: !!python/object:os.system x", 3, "the tag", "leave the tag out"),
    ("owner: study team", "owner: [a", 4, "not YAML", "check indents"),
    ("owner: study team", "owner: 7", 3, "owner is 7, not text", "put it in quotes"),
]


def write(folder: Path, text: str, name: str = "weight.yaml") -> Path:
    path = folder / "contracts" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_contract_becomes_a_record(tmp_path: Path) -> None:
    contract = load_contract(write(tmp_path, GOOD))
    assert (contract.dataset, contract.key, contract.as_of_column, contract.max_quarantined_share) == ("input/weight", ("subject_id", "date"), "date", 0.05)
    assert contract.column("subject_id").privacy is Privacy.IDENTIFIER
    assert contract.column("weight_kg").nullable
    first, second = contract.expectations
    assert (first.kwargs, first.severity, first.quarantine) == ({"column": "weight_kg", "min_value": 20, "max_value": 400}, Severity.ERROR, True)
    assert (second.severity, second.quarantine, second.description) == (Severity.WARN, False, "")


@pytest.mark.parametrize(("old", "new", "line", "message", "hint"), REFUSED, ids=[f"{case[1][:40]!r}" for case in REFUSED])
def test_what_is_wrong_is_told_with_file_line_and_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, line: int, message: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DeclarationError) as raised:
        load_contract(path)
    assert raised.value.message.startswith(f"contracts/weight.yaml:{line}: ")
    assert message in raised.value.message
    assert hint in raised.value.hint


def test_check_tells_all_problems_of_all_files_and_the_loader_the_first(tmp_path: Path) -> None:
    wrong = GOOD.replace("type: number", "type: float").replace("severity: warn", "severity: info").replace("[subject_id, date]", "[subject_id, day]")
    write(tmp_path, wrong, "b.yaml")
    write(tmp_path, GOOD.replace("owner:", "owners:"), "a.yaml")
    problems = check(tmp_path / "contracts")
    assert [(Path(problem.file).name, problem.line) for problem in problems] == [("a.yaml", 1), ("a.yaml", 3), ("b.yaml", 4), ("b.yaml", 11), ("b.yaml", 20)]
    with pytest.raises(DeclarationError, match=r"a\.yaml:1: .* \(and 4 more: pipeline contracts check\)"):
        load_contracts(tmp_path / "contracts")


def test_what_stands_beside_a_broken_part_is_still_looked_at(tmp_path: Path) -> None:
    wrong = GOOD.replace("unit: kg", "unite: kg").replace("column: subject_id, regex", "column: subject, regex")
    write(tmp_path, wrong)
    assert [problem.line for problem in check(tmp_path / "contracts")] == [11, 19]


def test_two_contracts_of_one_dataset_are_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.yaml")
    write(tmp_path, GOOD, "b.yaml")
    with pytest.raises(DeclarationError, match=r"b\.yaml:1: 'input/weight' has two contracts"):
        load_contracts(tmp_path / "contracts")


def test_contracts_are_loaded_by_dataset_in_order(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.yaml")
    write(tmp_path, GOOD.replace("input/weight", "input/fiber"), "b.yml")
    assert list(load_contracts(tmp_path / "contracts")) == ["input/fiber", "input/weight"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"# only this\n", "the file is empty"),
        (b"owner: \xff", "is not UTF-8"),
        (b"a: \x07", "not YAML"),
        (b"- 1\n", "is a list"),
        (b"a: 1\n---\nb: 2\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_contract_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(DeclarationError, match=message):
        load_contract(path)


def test_a_missing_file_and_an_empty_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"x\.yaml:1: can't be read: No such file"):
        load_contract(tmp_path / "x.yaml")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DeclarationError, match="no contracts are here"):
            load_contracts(folder)


def test_an_alias_is_refused_and_one_to_itself_ends(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("key: [subject_id, date]", "key: &k [subject_id, *k]"))
    with pytest.raises(DeclarationError, match=r"weight\.yaml:4: an alias stands here"):
        load_contract(path)


def test_words_that_older_yaml_takes_for_something_else_are_text(tmp_path: Path) -> None:
    values = "value_set: [no, on, 12:30, 2024-01-31, 0x10, 010, .inf]"
    contract = load_contract(write(tmp_path, GOOD.replace("values_to_match_regex", "values_to_be_in_set").replace('regex: "^[A-Za-z0-9_-]+$"', values)))
    assert contract.expectations[1].kwargs["value_set"] == ["no", "on", "12:30", "2024-01-31", "0x10", "010", ".inf"]


def test_numbers_keep_their_kind(tmp_path: Path) -> None:
    contract = load_contract(write(tmp_path, GOOD.replace("min_value: 20,", "min_value: -2.5e1,")))
    assert contract.expectations[0].kwargs["min_value"] == -25.0


def test_a_date_column_takes_dates_as_bounds_and_no_times(tmp_path: Path) -> None:
    text = GOOD.replace("column: weight_kg, min_value: 20, max_value: 400", "column: date, min_value: 2024-01-31")
    assert load_contract(write(tmp_path, text)).expectations[0].kwargs["min_value"] == "2024-01-31"
    for wrong in ("2024-02-30", "2024-01-31T10:00"):
        with pytest.raises(DeclarationError, match=r"weight\.yaml:14: min_value has .*, and 'date' is of type date"):
            load_contract(write(tmp_path, text.replace("2024-01-31", wrong)))


def test_only_rules_about_rows_with_sql_set_rows_aside(tmp_path: Path) -> None:
    mean = GOOD.replace("values_to_be_between", "mean_to_be_between")
    with pytest.raises(DeclarationError, match=r":16: expect_column_mean_to_be_between is not about rows"):
        load_contract(write(tmp_path, mean))
    outliers = GOOD.replace("values_to_be_between", "values_to_not_be_outliers").replace(", min_value: 20, max_value: 400", "")
    with pytest.raises(DeclarationError, match=r":16: expect_column_values_to_not_be_outliers runs in Great Expectations"):
        load_contract(write(tmp_path, outliers))


def test_a_dataset_of_files_is_gold_and_has_no_rules(tmp_path: Path) -> None:
    files = "dataset: gold/figures\ndescription: Plots.\nowner: us\n"
    assert not load_contract(write(tmp_path, files)).is_table
    with pytest.raises(DeclarationError, match="a table has no 'columns'"):
        load_contract(write(tmp_path, files.replace("gold", "silver")))
    with pytest.raises(DeclarationError, match="'key' speaks of columns"):
        load_contract(write(tmp_path, files + "key: [a]\n"))


def test_the_study_s_contracts_are_right(root: Path) -> None:
    assert check(root / "pipeline" / "study" / "contracts") == []
