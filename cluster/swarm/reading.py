"""Cutting a body into leaves."""

import asyncio
from collections.abc import AsyncIterator

from node.errors import UnreachableError


class LeafReader:
    """Reads leaf after leaf from a body that comes in chunks of any size. One leaf is in memory at a time.

    Each leaf has a buffer of its own, because whoever is given it may still be writing it to disk.
    """

    def __init__(self, body: AsyncIterator[bytes], leaf_s: float) -> None:
        self._body = body
        self._leaf_s = leaf_s
        self._rest = memoryview(b"")

    async def read(self, length: int) -> bytearray:
        """The next `length` bytes.

        Raises:
            UnreachableError: when they do not come in time, or the body ends before.
            Whatever the body raises.
        """
        leaf = bytearray(length)
        try:
            async with asyncio.timeout(self._leaf_s):
                await self._fill(leaf)
        except TimeoutError:
            raise UnreachableError(f"it stalled: a block took longer than {self._leaf_s:g} s") from None
        return leaf

    async def _fill(self, leaf: bytearray) -> None:
        filled, rest = 0, self._rest
        while filled < len(leaf):
            if not rest:
                try:
                    rest = memoryview(await anext(self._body))
                except StopAsyncIteration:
                    raise UnreachableError("it cut the body") from None
            count = min(len(rest), len(leaf) - filled)
            leaf[filled : filled + count] = rest[:count]
            filled, rest = filled + count, rest[count:]
        self._rest = rest
