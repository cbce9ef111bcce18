"""Spans against a set of positions."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from node.spans import Spans

PARTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12)


def positions(parts: list[tuple[int, int]]) -> set[int]:
    return {at for start, stop in parts for at in range(start, stop)}


@given(PARTS)
def test_spans_hold_what_was_added_and_neither_touch_nor_overlap(parts: list[tuple[int, int]]) -> None:
    spans = Spans()
    for start, stop in parts:
        spans.add(start, stop)
    held = list(spans)
    assert positions(held) == positions(parts)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(held))


@given(PARTS, st.integers(0, 30), st.integers(0, 30))
def test_gaps_are_what_is_missing(parts: list[tuple[int, int]], start: int, stop: int) -> None:
    spans = Spans()
    for each in parts:
        spans.add(*each)
    assert positions(spans.gaps(start, stop)) == set(range(start, stop)) - positions(parts)


@given(PARTS)
def test_the_prefix_ends_at_the_first_gap(parts: list[tuple[int, int]]) -> None:
    spans, held = Spans(), positions(parts)
    for each in parts:
        spans.add(*each)
    assert spans.prefix == next(at for at in range(40) if at not in held)
    assert spans.end == max(held, default=-1) + 1
