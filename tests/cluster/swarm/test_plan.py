"""Which leaves are fetched by which connection."""

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.swarm.plan import WINDOW_PIECES, Piece, Plan

PIECE_LEAVES = 16


def take(plan: Plan, worker: int, now: float = 0.0) -> Piece:
    piece = plan.take(worker, now)
    assert piece is not None
    return piece


def drain(plan: Plan, piece: Piece, now: float = 0.0) -> None:
    while piece.at < piece.stop:
        plan.done(piece, now)
    plan.release(piece)


def test_pieces_ascend_and_stay_within_the_window() -> None:
    plan = Plan(0, 100, 0.5, PIECE_LEAVES)
    pieces = [plan.take(worker, 0.0) for worker in range(6)]
    starts = [piece.at for piece in pieces if piece is not None]
    assert starts == list(range(0, WINDOW_PIECES * PIECE_LEAVES, PIECE_LEAVES))


def test_it_goes_on_from_what_is_here() -> None:
    plan = Plan(7, 9, 0.5, PIECE_LEAVES)
    piece = plan.take(0, 0.0)
    assert piece is not None
    assert (piece.at, piece.stop) == (7, 9)
    drain(plan, piece)
    assert plan.complete


def test_what_a_lost_connection_left_is_fetched_next() -> None:
    plan = Plan(0, 100, 0.5, PIECE_LEAVES)
    first, second = plan.take(0, 0.0), plan.take(1, 0.0)
    assert first is not None
    assert second is not None
    plan.done(first, 0.0)
    plan.release(first)
    again = plan.take(1, 0.0)
    assert again is not None
    assert (again.at, again.stop) == (1, PIECE_LEAVES)


def test_a_lagging_piece_is_shared_and_no_leaf_is_lost() -> None:
    plan = Plan(0, PIECE_LEAVES, 0.5, PIECE_LEAVES)
    slow = plan.take(0, 0.0)
    assert slow is not None
    assert plan.take(0, 1.0) is None, "not with itself"
    other = plan.take(1, 1.0)
    assert other is not None
    assert (other.at, other.stop) == (0, PIECE_LEAVES)
    assert slow.stop == 1
    drain(plan, other)
    assert plan.complete


def test_a_piece_that_is_being_written_does_not_lag() -> None:
    plan = Plan(0, PIECE_LEAVES, 0.5, PIECE_LEAVES)
    piece = plan.take(0, 0.0)
    assert piece is not None
    piece.stop = piece.at + 2
    plan.came(piece, 0.1)
    assert plan.take(1, 5.0) is None


def test_of_a_halved_piece_nothing_goes_that_comes_already() -> None:
    plan = Plan(0, 8, 0.5, PIECE_LEAVES)
    busy = take(plan, 0)
    busy.held = 6
    other = take(plan, 1)
    assert (other.at, other.stop, busy.stop) == (6, 8, 6)


def test_leaves_that_were_taken_together_do_not_lag_while_one_is_written() -> None:
    plan = Plan(0, 4, 0.5, PIECE_LEAVES)
    piece = take(plan, 0)
    plan.came(piece, 1.0)
    plan.done(piece, math.inf)
    assert not plan.lags(piece, 100.0)
    plan.done(piece, 2.0)
    assert plan.lags(piece, 100.0)


def test_a_leaf_that_others_brought_is_not_taken_from_a_lagging_connection_again() -> None:
    plan = Plan(0, 40, 0.5, PIECE_LEAVES)
    slow = take(plan, 0)
    other = take(plan, 1, 10.0)
    assert (other.at, slow.stop) == (0, 1)
    drain(plan, other, 10.0)
    while plan.has(slow.at) and (piece := plan.take(1, 20.0)) is not None:
        assert not plan.has(piece.at)
        drain(plan, piece, 20.0)


def test_the_last_piece_is_halved_for_an_idle_connection() -> None:
    plan = Plan(0, 8, 0.5, PIECE_LEAVES)
    piece = plan.take(0, 0.0)
    half = plan.take(1, 0.0)
    assert piece is not None
    assert half is not None
    assert (piece.at, piece.stop, half.at, half.stop) == (0, 4, 4, 8)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 120), st.integers(1, 5), st.integers(0, 2**32))
def test_whatever_connections_do_every_leaf_comes(first: int, more: int, workers: int, seed: int) -> None:
    count, now, order = first + more, 0.0, random.Random(seed)
    plan = Plan(first, count, 0.5, PIECE_LEAVES)
    held: dict[int, Piece] = {}
    came: set[int] = set()
    for _ in range(20_000):
        if plan.complete:
            break
        now += order.choice((0.0, 0.1, 1.0))
        worker = order.randrange(workers)
        piece = held.get(worker)
        if piece is None:
            taken = plan.take(worker, now)
            if taken is not None:
                assert first <= taken.at < taken.stop <= count
                held[worker] = taken
        elif piece.at >= piece.stop or order.random() < 0.1:
            plan.release(held.pop(worker))
        else:
            plan.came(piece, now)
            came.add(piece.at)
            plan.done(piece, now)
    assert plan.complete
    assert came >= set(range(first, count))
