"""What hashing keeps in memory, and how far it goes in one turn."""

import pytest

from node.digest import Digest
from node.hashing import DigestPass, Recent
from node.unixfs import LEAF_BYTES
from node.workers import Allowance


@pytest.fixture
def allowance() -> Allowance:
    return Allowance(100)


def test_pieces_that_came_out_of_order_are_found_once_the_gap_is_filled(allowance: Allowance) -> None:
    recent = Recent(allowance)
    recent.add(2, b"cd")
    recent.add(0, b"ab")
    assert recent.following(0, 100) == [b"ab", b"cd"]
    assert recent.following(0, 1) == [b"ab"]
    assert recent.following(1, 100) == []


def test_what_was_not_kept_is_read_back_only_as_far_as_the_next_kept_piece(allowance: Allowance) -> None:
    recent = Recent(allowance)
    recent.add(10, b"kept")
    assert recent.next(0, 100) == 10
    assert recent.next(0, 5) == 5
    assert recent.next(10, 100) == 100


def test_all_blobs_together_keep_no_more_than_the_bound(allowance: Allowance) -> None:
    one, other = Recent(allowance), Recent(allowance)
    one.add(0, bytes(99))
    other.add(0, b"xx")
    assert other.following(0, 2) == []
    one.clear()
    other.add(0, b"xx")
    assert allowance.used == 2


def test_what_is_hashed_is_forgotten(allowance: Allowance) -> None:
    recent = Recent(allowance)
    recent.add(0, b"ab")
    recent.add(2, b"cd")
    recent.forget(2)
    assert (recent.following(0, 4), recent.following(2, 2)) == ([], [b"cd"])
    assert allowance.used == 2


def test_a_turn_begins_with_a_mebibyte_and_nothing_waits_once_the_file_is_whole() -> None:
    over = DigestPass(Digest.of(b""))
    over.done = 1024 * LEAF_BYTES
    assert not over.worthwhile(over.done + LEAF_BYTES - 1, False)
    assert over.worthwhile(over.done + LEAF_BYTES, False)
    assert over.worthwhile(over.done + 1, True)
    assert not over.worthwhile(over.done, True)
