"""Which bytes of a file are there: disjoint, ordered spans."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Spans:
    """A set of byte positions, kept as spans `[start, stop)` that neither touch nor overlap."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    @property
    def prefix(self) -> int:
        """How far it reaches from 0 without a gap."""
        return self._stops[0] if self._starts and self._starts[0] == 0 else 0

    @property
    def end(self) -> int:
        """The position behind the last one in it."""
        return self._stops[-1] if self._stops else 0

    def add(self, start: int, stop: int) -> None:
        """Put `[start, stop)` in."""
        if start >= stop:
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of `[start, stop)` that are not in it, in order."""
        missing: list[tuple[int, int]] = []
        at = start
        for index in range(bisect_right(self._stops, start), len(self._starts)):
            if self._starts[index] >= stop:
                break
            if self._starts[index] > at:
                missing.append((at, self._starts[index]))
            at = self._stops[index]
        if at < stop:
            missing.append((at, stop))
        return missing

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._stops, strict=True))
