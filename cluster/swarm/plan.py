"""Which leaves of a blob are fetched by which connection. Pure: the clock is passed in.

Pieces are handed out in ascending order, no further ahead of the first missing leaf than a window. A piece that shows
no new leaf for a while, or whose end is still far when nothing else is left, is shared with another connection: leaves
may come twice, and the one that comes first counts.
"""

import heapq
import math
from dataclasses import dataclass
from typing import Final

WINDOW_PIECES: Final = 4


@dataclass(slots=True, eq=False)
class Piece:
    """Leaves `at` to `stop` (exclusive) that one connection is fetching; `stop` may shrink meanwhile."""

    at: int
    stop: int
    worker: int
    since: float
    """When it was begun, or its last leaves were done; infinite while leaves are being written."""
    held: int = 0
    """The leaves before this one come over this connection, whatever others take over."""


class Plan:
    """The work of one fetch: leaves `first` to `count`."""

    def __init__(self, first: int, count: int, hedge_s: float, piece_leaves: int) -> None:
        self._count = count
        self._frontier = first
        self._next = first
        self._ahead: set[int] = set()
        self._returned: list[tuple[int, int]] = []
        self._active: list[Piece] = []
        self._hedge_s = hedge_s
        self._piece_leaves = piece_leaves
        self._leaf_s = 0.0

    @property
    def complete(self) -> bool:
        """Whether every leaf is here."""
        return self._frontier >= self._count

    def has(self, leaf: int) -> bool:
        """Whether a leaf is here already."""
        return leaf < self._frontier or leaf in self._ahead

    def take(self, worker: int, now: float) -> Piece | None:
        """The next piece for a connection; None when there is nothing it could do now."""
        start, stop = self._lagging(worker, now)
        if start >= stop:
            start, stop = self._free()
        if start >= stop:
            start, stop = self._halve(worker)
        if start >= stop:
            return None
        piece = Piece(start, stop, worker, now)
        self._active.append(piece)
        return piece

    def came(self, piece: Piece, now: float) -> None:
        """The leaf at `piece.at` came; it is being written, and others behind it may be."""
        self._leaf_s += (now - piece.since - self._leaf_s) / 4
        piece.since = math.inf

    def done(self, piece: Piece, now: float) -> None:
        """The leaf at `piece.at` was verified and written; `now` is infinite while others of the piece are."""
        if not self.has(piece.at):
            self._ahead.add(piece.at)
            while self._frontier in self._ahead:
                self._ahead.remove(self._frontier)
                self._frontier += 1
        piece.at, piece.since = piece.at + 1, now

    def lags(self, piece: Piece, now: float) -> bool:
        """Whether a connection does not get on: no leaf for longer than three usually take."""
        return now - piece.since >= max(self._hedge_s, 3 * self._leaf_s)

    def release(self, piece: Piece) -> None:
        """The connection goes on with this piece no more; what is missing of it is for others."""
        self._active.remove(piece)
        start = piece.at
        while start < piece.stop:
            if self.has(start) or self._is_active(start):
                start += 1
                continue
            stop = start
            while stop < piece.stop and not self.has(stop) and not self._is_active(stop):
                stop += 1
            heapq.heappush(self._returned, (start, stop))
            start = stop

    def _free(self) -> tuple[int, int]:
        while self._returned:
            start, stop = heapq.heappop(self._returned)
            while start < stop and self.has(start):
                start += 1
            if start < stop:
                return start, stop
        start = self._next
        ahead = self._frontier + WINDOW_PIECES * self._piece_leaves
        stop = min(start + self._piece_leaves, self._count, ahead)
        if start < stop:
            self._next = stop
        return start, stop

    def _lagging(self, worker: int, now: float) -> tuple[int, int]:
        """What is left of the first piece that another connection does not get on with."""
        for piece in self._others(worker):
            start, stop = piece.at, piece.stop
            while start < stop and self.has(start):  # another one brought it meanwhile
                start += 1
            if start < stop and self.lags(piece, now) and not self._shared(piece):
                piece.stop = piece.at + 1
                return start, stop
        return 0, 0

    def _halve(self, worker: int) -> tuple[int, int]:
        """When nothing else is left: the second half of a piece of another connection."""
        if self._next >= self._count:
            for piece in self._others(worker):
                middle = max(piece.held, piece.at + (piece.stop - piece.at + 1) // 2)
                if piece.stop - piece.at >= 3 and middle < piece.stop:
                    stop, piece.stop = piece.stop, middle
                    return middle, stop
        return 0, 0

    def _others(self, worker: int) -> list[Piece]:
        others = (piece for piece in self._active if piece.worker != worker and piece.at < piece.stop)
        return sorted(others, key=lambda piece: piece.at)

    def _shared(self, piece: Piece) -> bool:
        return any(other is not piece and other.at <= piece.at < other.stop for other in self._active)

    def _is_active(self, leaf: int) -> bool:
        return any(piece.at <= leaf < piece.stop for piece in self._active)
