"""Settings: where they come from, what is refused, what is masked."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.settings import Settings, from_here, load, variable


def test_defaults_need_no_environment() -> None:
    assert (load({}).lake, load({}).runs, load({}).openlineage_url) == ("lake", Path("runs"), "http://127.0.0.1:5080")


def test_the_command_line_wins_over_the_environment_which_wins_over_dotenv(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("PIPELINE_LAKE=file\nPIPELINE_ENVIRONMENT=file\nPIPELINE_THREADS=1\n")
    settings = load({"PIPELINE_LAKE": "environment", "PIPELINE_ENVIRONMENT": "environment"}, dotenv, lake="argument")
    assert (settings.lake, settings.environment, settings.threads) == ("argument", "environment", 1)


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert load({"PIPELINE_LAKE": "", "OPENLINEAGE_URL": ""}) == load({})


def test_an_unknown_key_is_refused_in_dotenv(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("PIPELINE_COLOUR=red\n")
    with pytest.raises(SettingsError, match="PIPELINE_COLOUR in"):
        load({}, dotenv)


def test_an_unknown_key_in_the_environment_is_refused_only_when_it_looks_like_a_typo() -> None:
    load({"PIPELINE_BUILD_NUMBER": "7", "PIPELINE_COLOUR": "red"})
    with pytest.raises(SettingsError) as caught:
        load({"PIPELINE_LAEK": "x"})
    assert "did you mean PIPELINE_LAKE?" in caught.value.hint


@given(st.sampled_from(sorted(name for name in Settings.model_fields if variable(name).startswith("PIPELINE_"))), st.data())
def test_every_key_with_one_letter_more_is_taken_for_a_typo(name: str, data: st.DataObject) -> None:
    key = variable(name)
    place = data.draw(st.integers(len("PIPELINE_"), len(key)))
    with pytest.raises(SettingsError):
        load({f"{key[:place]}Q{key[place:]}": "x"})


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PIPELINE_LAKE": "s4://bucket"}, "PIPELINE_LAKE is 's4://bucket': not a folder"),
        ({"PIPELINE_THREADS": "0"}, "PIPELINE_THREADS is '0': input should be greater than or equal to 1"),
        ({"PIPELINE_QUALITY_ENGINE": "fast"}, "PIPELINE_QUALITY_ENGINE is 'fast': input should be 'sql' or 'gx'"),
        ({"OPENLINEAGE_NAMESPACE": "potato:dev"}, "OPENLINEAGE_NAMESPACE is 'potato:dev'"),
        ({"OPENLINEAGE_URL": "https://lineage.example.org?api"}, "an address without ? and # is wanted"),
        ({"OPENLINEAGE_URL": "https://lineage.example.org?a=1&api_token=s3cret"}, "?a=1&api_token=**********': an address without ? and"),
        ({"PIPELINE_MEMORY_LIMIT": "lots"}, "PIPELINE_MEMORY_LIMIT is 'lots': wanted is 700MB or 4GiB"),
        ({"PIPELINE_LOG_LEVEL": "DEBUG"}, "PIPELINE_LOG_LEVEL is 'DEBUG': wanted is debug, info, warning or error"),
        ({"PIPELINE_LAKE": "caf\udce9"}, "not UTF-8"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(environment: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environment)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("lake", "lake"),
        ("data/lake", "data/lake"),
        ("/home/ann/lake/", "…/lake"),
        ("../ann/runs", "…/runs"),
        ("~/runs", "…/runs"),
        ("sqlite:////home/ann/mlflow.db", "sqlite://…/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("file:///home/ann/mlruns", "file://…/mlruns"),
        ("https://mlflow.example.org/a/b", "https://mlflow.example.org/a/b"),
        ("postgresql+psycopg://db/mlflow", "postgresql+psycopg://db/mlflow"),
    ],
)
def test_the_way_to_a_folder_elsewhere_is_not_shown(address: str, shown: str) -> None:
    assert from_here(address) == shown


def test_no_folder_elsewhere_is_among_the_settings_that_are_shown(tmp_path: Path) -> None:
    settings = load({}, input=tmp_path / "in", lake=str(tmp_path / "lake"), runs=tmp_path / "runs", mlflow_tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert str(tmp_path) not in str(settings.masked())


def test_secrets_are_masked_where_settings_are_shown() -> None:
    settings = load({"OPENLINEAGE_API_KEY": "s3cret", "MLFLOW_TRACKING_URI": "http://ann:s3cret@tracking.example.org"})
    assert "s3cret" not in repr(settings).replace("ann:s3cret", "")
    assert "s3cret" not in str(settings.masked())
    assert settings.masked()["OPENLINEAGE_API_KEY"] == "**********"


def test_an_empty_argument_is_as_good_as_none() -> None:
    assert load({}, lake="", app="") == load({})


def test_a_typo_in_dotenv_is_told_with_what_is_meant(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PIPELINE_LAEK=x\n")
    with pytest.raises(SettingsError) as caught:
        load({}, tmp_path / ".env")
    assert "did you mean PIPELINE_LAKE?" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "words"),
    [(b'PIPELINE_RUNS=x\nPIPELINE_LAKE="a\nPIPELINE_THREADS=1', ", line 2: can't be read"), (b"PIPELINE_LAKE=\xe9", "is not UTF-8 (byte 15)")],
)
def test_a_dotenv_that_can_not_be_read_is_refused_whole(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load({}, tmp_path / ".env")
    assert words in caught.value.message
    assert caught.value.hint


def test_a_dotenv_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfPIPELINE_LAKE=x\n")
    assert load({}, tmp_path / ".env").lake == "x"
