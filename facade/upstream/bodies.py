"""Blob bodies from upstream into a sink, over one connection."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from facade.upstream.blob import UpstreamBlob
from facade.upstream.ranges import ContradictionError, span_of
from facade.upstream.wire import Answer, BrokenBodyError, StalledBodyError
from node.errors import MismatchError
from node.source import Sink, Wanted

SKIPPED_BYTES: Final = 4 * 1024 * 1024
"""More than this that is there already is not brought again: a new request costs less, and clients would wait."""


@dataclass(slots=True)
class Pace:
    """Whether a body brings `least_bytes` in each `window_s` that was spent waiting for it.

    What a slow disk takes does not count.
    """

    least_bytes: int
    window_s: float
    _got: int = 0
    _waited_s: float = 0.0

    def falls_behind(self, count: int, waited_s: float) -> bool:
        """After `waited_s`, `count` more bytes came: True at the end of a window that brought too few."""
        self._got += count
        self._waited_s += waited_s
        if self._waited_s < self.window_s:
            return False
        behind = self._got < self.least_bytes
        self._got, self._waited_s = 0, 0.0
        return behind


async def pour_once(wanted: Wanted, sink: Sink, blob: UpstreamBlob, pace: Pace, begun: Callable[[], None]) -> None:
    """Fill the sink from its prefix on, over one connection; `begun` is called with the first byte.

    A body that falls behind its `pace` is given up, as one that stalls, where another endpoint could give it instead.

    Raises:
        BrokenBodyError, StalledBodyError: what was written stays.
        ContradictionError: before any byte was written.
        LayermeshError: as `BlobSource.fill`.
    """
    while await _pour_on(wanted, sink, blob, pace, begun):
        pass


async def _pour_on(wanted: Wanted, sink: Sink, blob: UpstreamBlob, pace: Pace, begun: Callable[[], None]) -> bool:
    """Fill the sink from its prefix on; True once a gap is filled, and what follows it has come from others before."""
    start = sink.prefix
    if start and start == sink.size:
        return False
    answer = await blob.open_from(start)
    try:
        offset, total = span_of(answer, start)
        known = sink.size if sink.size is not None else wanted.size
        if total is not None and known is not None and total != known:
            raise ContradictionError(f"{wanted.digest}: upstream has {total} bytes of it, not {known}")
        size = total if total is not None else known
        if size is None:
            size = await blob.size()
        sink.expect(size)
        if first := await answer.piece():
            begun()
        too_slow = partial(_too_slow, blob, pace)
        return await _copy(answer, sink, first, range(offset, size), start, too_slow)
    finally:
        answer.close()


def _too_slow(blob: UpstreamBlob, pace: Pace, count: int, waited_s: float) -> bool:
    return pace.falls_behind(count, waited_s) and blob.has_others


async def _copy(
    answer: Answer, sink: Sink, data: bytes, covers: range, start: int, too_slow: Callable[[int, float], bool]
) -> bool:
    """Write a body that covers these bytes of the blob, its first piece being `data`, from `start` on.

    Whether it was left because what follows is there; only of one that began where it was asked to.
    """
    offset, clock = covers.start, asyncio.get_running_loop().time
    while data:
        end = offset + len(data)
        if end > covers.stop:
            raise MismatchError(f"{answer.url.host} sends more than the blob's {covers.stop} bytes")
        if end > start:
            fresh = max(start, offset)
            await sink.write(fresh, data if fresh == offset else memoryview(data)[fresh - offset :])
        offset = end
        if covers.start == start and sink.prefix > offset + SKIPPED_BYTES:
            return True
        asked = clock()
        data = await answer.piece()
        if too_slow(len(data), clock() - asked) and data:
            raise StalledBodyError(f"{answer.url.host} sends too slowly, and another may do better")
    if offset < covers.stop:
        raise BrokenBodyError(f"{answer.url.host} ended the body at {offset} of {covers.stop} bytes")
    return False
