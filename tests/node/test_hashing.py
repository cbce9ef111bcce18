"""What hashing keeps in memory, and how far it goes in one turn."""

from collections.abc import AsyncIterator

import pytest

from node.digest import Digest
from node.hashing import BURST_BYTES, MAX_KEPT_BYTES, DigestPass, Recent
from node.unixfs import LEAF_BYTES
from node.workers import Workers


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    workers = Workers()
    yield workers
    await workers.close()


def test_pieces_that_came_out_of_order_are_found_once_the_gap_is_filled(workers: Workers) -> None:
    recent = Recent(workers)
    recent.add(2, b"cd")
    recent.add(0, b"ab")
    assert recent.following(0, 100) == [b"ab", b"cd"]
    assert recent.following(0, 1) == [b"ab"]
    assert recent.following(1, 100) == []


def test_what_was_not_kept_is_read_back_only_as_far_as_the_next_kept_piece(workers: Workers) -> None:
    recent = Recent(workers)
    recent.add(10, b"kept")
    assert recent.next(0, 100) == 10
    assert recent.next(0, 5) == 5
    assert recent.next(10, 100) == 100


def test_all_blobs_together_keep_no_more_than_the_bound(workers: Workers) -> None:
    one, other = Recent(workers), Recent(workers)
    one.add(0, bytes(MAX_KEPT_BYTES - 1))
    other.add(0, b"xx")
    assert other.following(0, 2) == []
    one.clear()
    other.add(0, b"xx")
    assert workers.kept_bytes == 2


def test_what_is_hashed_is_forgotten(workers: Workers) -> None:
    recent = Recent(workers)
    recent.add(0, b"ab")
    recent.add(2, b"cd")
    recent.forget(2)
    assert (recent.following(0, 4), recent.following(2, 2)) == ([], [b"cd"])
    assert workers.kept_bytes == 2


def test_turns_grow_with_what_came_and_nothing_waits_once_the_file_is_whole() -> None:
    over = DigestPass(Digest.of(b""))
    assert over.reach(LEAF_BYTES - 1, False) == 0
    assert over.reach(LEAF_BYTES, False) == LEAF_BYTES
    over.done = 1024 * LEAF_BYTES
    assert over.reach(over.done + 2 * LEAF_BYTES, False) == over.done
    assert over.reach(over.done + 2 * LEAF_BYTES, True) == over.done + 2 * LEAF_BYTES
    assert over.reach(over.done + 100 * LEAF_BYTES, False) == over.done + BURST_BYTES
