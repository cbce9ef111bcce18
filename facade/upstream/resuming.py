"""Bodies that break or stall are gone on with, so that whoever reads them sees one."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial

from facade.upstream.blob import UpstreamBlob
from facade.upstream.bodies import Pace, pour_once
from facade.upstream.ranges import ContradictionError, Span, span_of
from facade.upstream.wire import Answer, BrokenBodyError, Limits, StalledBodyError
from node.errors import UnreachableError
from node.source import Sink, Wanted


class Resuming:
    """Goes on at once, then behind pauses, as long as that brings a body forward.

    The next byte must come within `resume_s` of a break, and within `hurry_s` of a stall, for clients have waited long
    already. The tries in vain, those that bring less than `least_bytes`, are counted, and those alone.
    """

    def __init__(self, limits: Limits, draw: Callable[[], float]) -> None:
        self._limits, self._draw = limits, draw

    async def pour(self, wanted: Wanted, sink: Sink, blob: UpstreamBlob) -> None:
        """Fill the sink from its prefix on. An endpoint that contradicts what is known gives way to another.

        Raises:
            UnreachableError, MismatchError: as `BlobSource.fill`.
        """
        limit_s, in_vain = None, 0
        while True:
            before = sink.prefix
            try:
                async with asyncio.timeout(limit_s) as hurry:
                    await self._pause(in_vain)
                    await pour_once(wanted, sink, blob, self._pace(), partial(hurry.reschedule, None))
                    return
            except (BrokenBodyError, StalledBodyError) as error:
                in_vain = self._count(error, in_vain, sink.prefix - before)
                limit_s = self._limit_s(error, blob)
            except ContradictionError:
                if not blob.has_others:
                    raise
            except TimeoutError:
                raise UnreachableError(f"{wanted.repository}: {wanted.digest} broke off, and does not go on") from None

    async def pieces(self, blob: UpstreamBlob, answer: Answer, span: Span | None) -> AsyncGenerator[bytes, None]:
        """The body of `answer`, which holds `span`; without one, nothing can be gone on with. Closes the answer.

        Raises:
            UnreachableError: when it does not go on.
            MismatchError: when it goes on with something else.
        """
        at, in_vain = span.start if span else 0, 0
        try:
            while True:
                before = at
                try:
                    while data := await answer.piece():
                        at += len(data)
                        yield data
                    return
                except (BrokenBodyError, StalledBodyError) as error:
                    if span is None or at >= span.stop:
                        raise
                    in_vain = self._count(error, in_vain, at - before)
                    limit_s = self._limit_s(error, blob)
                answer.close()
                answer, data = await self._reopen(blob, range(at, span.stop), span.total, in_vain, limit_s)
                at += len(data)
                yield data
        finally:
            answer.close()

    async def _reopen(
        self, blob: UpstreamBlob, left: range, total: int | None, in_vain: int, limit_s: float
    ) -> tuple[Answer, bytes]:
        """The rest of a range, and its first piece."""
        try:
            async with asyncio.timeout(limit_s):
                await self._pause(in_vain)
                answer = await blob.open_range(f"bytes={left.start}-{left.stop - 1}")
                try:
                    start, size = span_of(answer, left.start)
                    if start != left.start or (total is not None and size != total):
                        raise ContradictionError(f"{answer.url.host} goes on with another part, or another blob")
                    return answer, await answer.piece()
                except BaseException:
                    answer.close()
                    raise
        except TimeoutError:
            raise UnreachableError(f"a range broke off at {left.start}, and does not go on") from None

    def _pace(self) -> Pace:
        return Pace(self._limits.least_bytes, self._limits.stall_s)

    async def _pause(self, in_vain: int) -> None:
        if in_vain > 1:
            await asyncio.sleep(self._limits.retry.pause_s(in_vain - 1, 0.0, self._draw) or 0.0)

    def _count(self, error: UnreachableError, in_vain: int, brought: int) -> int:
        """How many tries in vain that makes in a row; too many raise what the last one failed with."""
        in_vain = 1 if brought >= self._limits.least_bytes else in_vain + 1
        if in_vain >= self._limits.retry.tries:
            raise error
        return in_vain

    def _limit_s(self, error: UnreachableError, blob: UpstreamBlob) -> float:
        if isinstance(error, BrokenBodyError):
            return self._limits.resume_s
        blob.stalled()
        return self._limits.hurry_s
