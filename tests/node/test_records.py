"""The clock of records, and which of two counts."""

from hypothesis import given
from hypothesis import strategies as st

from node.digest import Digest
from node.records import Content, Kind, Record, stamp_at, time_of

NOW = 1_800_000_000.0


def record(stamp: int, origin: str = "a" * 32, base: int = 0) -> Record:
    return Record("team/app", Kind.TAG, "v1", Content(Digest.of(b"x"), 1), stamp, origin, base)


@given(now=st.floats(0, 1e11), last=st.integers(0, 1 << 61))
def test_a_stamp_is_later_than_what_was_seen_and_no_earlier_than_the_clock(now: float, last: int) -> None:
    stamp = stamp_at(now, last)
    assert stamp > last
    assert time_of(stamp) >= now - 0.001


def test_a_clock_that_stands_still_or_goes_back_gives_later_stamps_all_the_same() -> None:
    stamps = [stamp_at(NOW)]
    for now in (NOW, NOW, NOW - 3600):
        stamps.append(stamp_at(now, stamps[-1]))
    assert stamps == sorted(set(stamps))


def test_a_stamp_says_when_it_was_given() -> None:
    assert abs(time_of(stamp_at(NOW)) - NOW) < 0.002


def test_of_two_records_the_later_counts_and_of_one_stamp_the_greater_origins() -> None:
    assert record(2).supersedes(record(1)) and not record(1).supersedes(record(2))
    assert record(1, "b" * 32).supersedes(record(1, "a" * 32))
    assert not record(1).supersedes(record(1))


def test_a_writer_knew_what_its_base_reaches() -> None:
    assert record(9, base=5).knew(record(5)) and record(9, base=5).knew(record(4))
    assert not record(9, base=5).knew(record(6))
