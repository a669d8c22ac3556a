"""What a lake's address says, and what its datasets are called in lineage."""

from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.lake_address import S3Address, dataset_place, parse_s3
from pipeline.settings import load


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("lake", None),
        ("data/s3:/lake", None),
        ("s3://bucket", S3Address("bucket", "")),
        ("s3://bucket/", S3Address("bucket", "")),
        ("s3://my.bucket-1/a/b_c=d/", S3Address("my.bucket-1", "a/b_c=d")),
    ],
)
def test_an_address_is_a_folder_or_a_place_in_a_bucket(address: str, found: S3Address | None) -> None:
    assert parse_s3(address) == found
    if found is not None:
        assert parse_s3(str(found)) == found
        assert load({"PIPELINE_LAKE": address}).lake == str(found)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s4://bucket/x", "not a folder, and not s3://bucket/prefix"),
        ("https://bucket/x", "not a folder"),
        ("s3://", "no bucket's name has that form"),
        ("s3://Bucket/x", "no bucket's name has that form"),
        ("s3:///x", "no bucket's name has that form"),
        ("s3://bucket//x", "a prefix is made of"),
        ("s3://bucket/a/../b", "a prefix is made of"),
        ("s3://bucket/a?versionId=1", "a prefix is made of"),
        ("s3://bucket/ä", "a prefix is made of"),
    ],
)
def test_other_addresses_are_refused_with_what_is_wanted(address: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"PIPELINE_LAKE": address})
    assert f"PIPELINE_LAKE is '{address}': {words}" in caught.value.message


@pytest.mark.parametrize("address", ["s3://AKIDSECRET:seCret@bucket/x", "s3://AKIDSECRET:se/Cret@bucket/x", "s3://AKIDSECRET@bucket"])
def test_credentials_in_an_address_are_refused_and_not_shown(address: str) -> None:
    with pytest.raises(SettingsError, match="without credentials") as caught:
        load({"PIPELINE_LAKE": address})
    assert "AKIDSECRET" not in caught.value.message
    assert "Cret" not in caught.value.message


def test_datasets_are_called_by_bucket_and_key_and_inputs_by_the_lakes_name() -> None:
    assert dataset_place("s3://bucket/a/b", "potato", "silver/x") == ("s3://bucket", "a/b/silver/x")
    assert dataset_place("s3://bucket", "potato", "silver/x") == ("s3://bucket", "silver/x")
    assert dataset_place("s3://bucket/a/b", "potato", "input/x") == ("file://potato", "input/x")
    assert dataset_place("lake", "potato", "silver/x") == ("file://potato", "silver/x")


def test_the_manifest_has_the_whole_address_and_no_way_to_the_staging_folder(tmp_path: Path) -> None:
    shown = load({"PIPELINE_LAKE": "s3://bucket/a/b", "PIPELINE_STAGING": str(tmp_path / "staging")}).masked()
    assert (shown["PIPELINE_LAKE"], shown["PIPELINE_STAGING"]) == ("s3://bucket/a/b", "…/staging")
