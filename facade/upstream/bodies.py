"""Blob bodies from upstream into a sink, over one connection."""

from collections.abc import Callable

from facade.upstream.blob import UpstreamBlob
from facade.upstream.ranges import ContradictionError, span_of
from facade.upstream.wire import Answer, BrokenBodyError
from node.errors import MismatchError
from node.source import Sink, Wanted


async def pour_once(wanted: Wanted, sink: Sink, blob: UpstreamBlob, begun: Callable[[], None]) -> None:
    """Fill the sink from its prefix on, over one connection; `begun` is called with the first byte.

    Raises:
        BrokenBodyError, StalledBodyError: what was written stays.
        ContradictionError: before any byte was written.
        LayermeshError: as `BlobSource.fill`.
    """
    start = sink.prefix
    if start and start == sink.size:
        return
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
        await _copy(answer, sink, first, range(offset, size), start)
    finally:
        answer.close()


async def _copy(answer: Answer, sink: Sink, data: bytes, covers: range, start: int) -> None:
    """Write a body that covers these bytes of the blob, its first piece being `data`, from `start` on."""
    offset = covers.start
    while data:
        end = offset + len(data)
        if end > covers.stop:
            raise MismatchError(f"{answer.url.host} sends more than the blob's {covers.stop} bytes")
        if end > start:
            fresh = max(start, offset)
            await sink.write(fresh, data if fresh == offset else memoryview(data)[fresh - offset :])
        offset = end
        data = await answer.piece()
    if offset < covers.stop:
        raise BrokenBodyError(f"{answer.url.host} ended the body at {offset} of {covers.stop} bytes")
