"""Two processes that write to one `delivery.json`."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import delivery_file


def test_nobody_puts_back_what_another_has_replaced(tmp_path: Path) -> None:
    def count(signal: str) -> None:
        for number in range(50):
            delivery_file.write(tmp_path, signal, {"number": number})

    with ThreadPoolExecutor() as threads:
        list(threads.map(count, ("experiments", "lineage")))
    assert delivery_file.read(tmp_path) == {"experiments": {"number": 49}, "lineage": {"number": 49}}
    assert [path.name for path in tmp_path.iterdir()] == [delivery_file.FILE]


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_file_says_nothing_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / delivery_file.FILE).write_bytes(content)
    assert delivery_file.read(tmp_path) == {}
    delivery_file.write(tmp_path, "lineage", {"state": "off"})
    assert json.loads((tmp_path / delivery_file.FILE).read_text()) == {"lineage": {"state": "off"}}
