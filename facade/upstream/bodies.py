"""Blob bodies from upstream into a sink: lengths and ranges checked, gone on with when they break."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from facade.upstream.wire import Answer, BrokenBodyError, Limits, StalledBodyError
from node.errors import MismatchError, UnreachableError
from node.source import Sink, Wanted

Opener = Callable[[int], Awaitable[Answer]]
"""Opens the blob's body from this byte on."""
Sizer = Callable[[], Awaitable[int]]
"""Asks for the blob's size."""

FORWARD_BYTES: Final = 1024 * 1024
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


class Resuming:
    """Goes on with a body that broke or stalled: at once, then behind pauses, as long as that brings it forward."""

    def __init__(self, limits: Limits, draw: Callable[[], float]) -> None:
        self._limits, self._draw = limits, draw

    async def pour(self, wanted: Wanted, sink: Sink, open_from: Opener, ask_size: Sizer) -> None:
        """Fill the sink from its prefix on, and again from there when the body broke off, or stalled.

        The next byte must come within `resume_s` of a break, and within `hurry_s` of a stall, for clients have waited
        long already. A connection that brought `FORWARD_BYTES` is none of the `tries` in vain.

        Raises:
            UnreachableError, MismatchError: as `BlobSource.fill`.
        """
        limit_s, in_vain = None, 0
        while True:
            before = sink.prefix
            try:
                await self._pour_in_time(wanted, sink, open_from, ask_size, limit_s, in_vain)
                return
            except (BrokenBodyError, StalledBodyError) as error:
                limit_s = self._limits.resume_s if isinstance(error, BrokenBodyError) else self._limits.hurry_s
                in_vain = 1 if sink.prefix - before >= FORWARD_BYTES else in_vain + 1
                if in_vain >= self._limits.retry.tries:
                    raise

    async def _pour_in_time(
        self,
        wanted: Wanted,
        sink: Sink,
        open_from: Opener,
        ask_size: Sizer,
        limit_s: float | None,
        in_vain: int,
    ) -> None:
        try:
            async with asyncio.timeout(limit_s) as hurry:
                if in_vain > 1:
                    await asyncio.sleep(self._limits.retry.pause_s(in_vain - 1, 0.0, self._draw) or 0.0)
                await _pour_once(wanted, sink, open_from, ask_size, lambda: hurry.reschedule(None))
        except TimeoutError:
            raise UnreachableError(f"{wanted.repository}: {wanted.digest} broke off, and does not go on") from None


async def _pour_once(wanted: Wanted, sink: Sink, open_from: Opener, ask_size: Sizer, begun: Callable[[], None]) -> None:
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
        if first := await answer.piece():
            begun()
        await _copy(answer, sink, first, range(offset, size), start)
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
