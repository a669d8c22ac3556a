import os
import random
import threading
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.telemetry import identity

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_an_id_is_a_uuid_of_version_7_that_tells_when_it_was_made():
    before = time.time_ns() // 1_000_000 * 1_000_000
    id_ = identity.new_id()
    assert (id_.version, id_.variant) == (7, uuid.RFC_4122)
    assert before <= identity.started_ns(id_) <= time.time_ns()


def test_ids_of_a_process_sort_in_the_order_in_which_they_were_made():
    ids = [identity.new_id() for _ in range(20_000)]
    assert sorted(ids) == ids
    assert sorted(map(str, ids)) == list(map(str, ids))


def test_ids_go_on_growing_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch):
    first = identity.new_id()
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3_600_000_000_000)
    assert identity.new_id() > first


def test_threads_get_different_ids():
    ids: list[uuid.UUID] = []
    threads = [threading.Thread(target=lambda: ids.extend(identity.new_id() for _ in range(500))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 4_000


def test_seeding_random_repeats_no_id():
    ids = set()
    for _ in range(3):
        random.seed(1)
        ids |= {identity.new_id().int & identity.LOW_64, identity.new_span_id()}
    assert len(ids) == 6


def test_a_forked_child_makes_other_ids():
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, identity.new_id().bytes)
        os._exit(0)
    os.waitpid(child, 0)
    assert uuid.UUID(bytes=os.read(reader, 16)).int & identity.LOW_64 != identity.new_id().int & identity.LOW_64


@given(st.uuids())
def test_the_span_id_is_the_low_64_bits(id_: uuid.UUID):
    assert f"{identity.span_id(id_):016x}" == id_.hex[16:]


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_written_traceparent_is_read_back(trace: int, span: int, sampled: bool):
    text = f"00-{trace:032x}-{span:016x}-{int(sampled):02x}"
    assert identity.parse_traceparent(text) == identity.TraceParent(trace_id=trace, span_id=span, sampled=sampled)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "hex"),
        ("hello", "hex"),
        (GOOD.upper(), "lower-case"),
        (GOOD + "-more", "nothing after"),
        ("ff" + GOOD[2:], "version ff"),
        (GOOD[:3] + "0" * 32 + GOOD[35:], "zeros"),
        (GOOD[:36] + "0" * 16 + GOOD[52:], "zeros"),
        (GOOD[:-1], "hex"),
        (GOOD + "\n00", "hex"),
    ],
)
def test_a_bad_traceparent_is_refused_with_a_reason(text: str, reason: str):
    found = identity.parse_traceparent(text)
    assert isinstance(found, str)
    assert reason in found


def test_a_traceparent_of_a_later_version_is_read_as_far_as_it_is_known():
    assert isinstance(identity.parse_traceparent("01" + GOOD[2:] + "-more"), identity.TraceParent)


def test_an_id_is_read_with_and_without_dashes():
    id_ = identity.new_id()
    assert identity.parse_id(str(id_)) == identity.parse_id(id_.hex) == id_
    assert identity.parse_id(str(uuid.uuid4())) is None
    assert identity.parse_id("archive") is None
