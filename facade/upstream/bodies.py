"""Blob bodies from upstream into a sink: lengths and ranges checked, gone on with once when they break."""

import re
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from facade.upstream.wire import Answer, BrokenBodyError
from node.errors import MismatchError, UnreachableError
from node.source import Sink, Wanted

Opener = Callable[[int], Awaitable[Answer]]
"""Opens the blob's body from this byte on."""
Sizer = Callable[[], Awaitable[int]]
"""Asks for the blob's size."""

_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)")


class Span(NamedTuple):
    """A Content-Range (RFC 9110, section 14.4): `start` up to `stop` of `total` bytes; of a 416, `total` only."""

    start: int
    stop: int
    total: int | None


def parse_content_range(header: str | None) -> Span | None:
    """None when it is missing or malformed."""
    match = _CONTENT_RANGE.fullmatch((header or "").strip())
    if match is None:
        return None
    total = None if match[3] == "*" else int(match[3])
    if match[1] is None:
        return Span(0, 0, total)
    start, stop = int(match[1]), int(match[2]) + 1
    if stop <= start or (total is not None and stop > total):
        return None
    return Span(start, stop, total)


async def pour(wanted: Wanted, sink: Sink, open_from: Opener, ask_size: Sizer) -> None:
    """Fill the sink from its prefix on, and once more where the body broke off.

    Raises:
        UnreachableError, MismatchError: as `BlobSource.fill`.
    """
    try:
        await _pour_once(wanted, sink, open_from, ask_size)
    except BrokenBodyError:
        await _pour_once(wanted, sink, open_from, ask_size)


async def _pour_once(wanted: Wanted, sink: Sink, open_from: Opener, ask_size: Sizer) -> None:
    start = sink.prefix
    if start and start == sink.size:
        return
    answer = await open_from(start)
    try:
        offset, total = span_of(answer, start)
        known = sink.size if sink.size is not None else wanted.size
        if total is not None and known is not None and total != known:
            raise MismatchError(f"{wanted.digest}: upstream has {total} bytes of it, not {known}")
        size = total if total is not None else known
        if size is None:
            size = await ask_size()
        sink.expect(size)
        await _copy(answer, sink, offset, skip=start - offset, size=size)
    finally:
        answer.close()


def span_of(answer: Answer, start: int) -> tuple[int, int | None]:
    """Where a body that was asked for from `start` on really starts (there, or at 0), and the blob's size if told.

    Raises:
        MismatchError: when it is another part, or lengths contradict each other.
    """
    if answer.status == 200:
        return 0, answer.length
    span = parse_content_range(answer.headers.get("Content-Range"))
    if answer.status == 206 and span is not None and span.start == start:
        if answer.length in (None, span.stop - span.start):
            return start, span.total
        raise MismatchError(f"{answer.url.host} sends {answer.length} bytes as a range of {span.stop - span.start}")
    raise MismatchError(
        f"{answer.url.host} was asked for bytes from {start} on and answers HTTP {answer.status} with "
        f"Content-Range {answer.headers.get('Content-Range', '')[:80]!r}"
    )


async def _copy(answer: Answer, sink: Sink, offset: int, *, skip: int, size: int) -> None:
    """Write what comes behind the first `skip` bytes; `offset` is where the body starts."""
    begin = offset + skip
    while data := await answer.piece():
        end = offset + len(data)
        if end > size:
            raise MismatchError(f"{answer.url.host} sends more than the blob's {size} bytes")
        if end > begin:
            fresh = max(begin, offset)
            await sink.write(fresh, data if fresh == offset else memoryview(data)[fresh - offset :])
        offset = end
    if offset < size:
        raise BrokenBodyError(f"{answer.url.host} ended the body at {offset} of {size} bytes")


def size_from_range(answer: Answer) -> int:
    """The blob's size from an answer to `Range: bytes=0-0`.

    Raises:
        UnreachableError: when it does not tell it.
    """
    span = parse_content_range(answer.headers.get("Content-Range")) if answer.status in (206, 416) else None
    size = answer.length if answer.status == 200 else span.total if span else None
    if size is None:
        raise UnreachableError(f"{answer.url.host} does not tell the blob's size")
    return size
