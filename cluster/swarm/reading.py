"""Cutting a body into leaves."""

import asyncio
from collections.abc import AsyncIterator

from node.errors import MismatchError, UnreachableError


class LeafReader:
    """Reads leaf after leaf from a body that comes in chunks of any size. About one leaf is in memory at a time."""

    def __init__(self, body: AsyncIterator[bytes], leaf_s: float) -> None:
        self._body = body
        self._leaf_s = leaf_s
        self._rest: bytes | memoryview = b""

    async def read(self, length: int) -> bytes:
        """The next `length` bytes.

        Raises:
            UnreachableError: when they do not come in time, or the body ends before.
            Whatever the body raises.
        """
        try:
            async with asyncio.timeout(self._leaf_s):
                return await self._gather(length)
        except TimeoutError:
            raise UnreachableError(f"it stalled: a block took longer than {self._leaf_s:g} s") from None

    async def end(self, wait_s: float) -> None:
        """Read to the end, where the connection can be used again.

        Raises:
            MismatchError: when there is more.
            UnreachableError: when the end does not come within `wait_s`.
            Whatever the body raises.
        """
        try:
            async with asyncio.timeout(wait_s):
                async for more in self._body:
                    if self._rest or more:
                        raise MismatchError("more bytes came than were asked for")
        except TimeoutError:
            raise UnreachableError("it stalled at the end of a range") from None

    async def _gather(self, length: int) -> bytes:
        parts: list[bytes | memoryview] = []
        missing = length
        while missing:
            if not self._rest:
                try:
                    self._rest = await anext(self._body)
                except StopAsyncIteration:
                    raise UnreachableError("it cut the body") from None
            part = self._rest
            self._rest = b""
            if len(part) > missing:
                part, self._rest = memoryview(part)[:missing], memoryview(part)[missing:]
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)
