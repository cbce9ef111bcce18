"""Bodies received by threads: from the socket into a buffer, and used there, past the event loop."""

import asyncio
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Generic, TypeVar

from node.errors import UnreachableError
from node.unixfs import LEAF_BYTES

T = TypeVar("T")
_MOST_KEPT: Final = 32
_PATIENCE_MS: Final = 5
"""How long a thread waits for a slow peer before the event loop does."""


class Buffers:
    """Memory for blocks of 1 MiB, used again and again: new memory costs more than what is done with it.

    A buffer is free when nobody holds a view of it any more; nobody need give it back.
    """

    def __init__(self) -> None:
        self._kept: list[bytearray] = []

    def view(self, length: int) -> memoryview:
        """Memory for `length` bytes, at most 1 MiB."""
        if length < LEAF_BYTES // 2:  # whoever keeps it should not keep a whole buffer
            return memoryview(bytearray(length))
        for buffer in self._kept:
            with suppress(BufferError):  # it is viewed: Python does not let it be resized
                buffer.append(buffer.pop())
                return memoryview(buffer)[:length]
        buffer = bytearray(LEAF_BYTES)
        if len(self._kept) < _MOST_KEPT:
            self._kept.append(buffer)
        return memoryview(buffer)[:length]

    def forget(self) -> None:
        """Nothing is received now."""
        self._kept.clear()


class BlockReceiver:
    """Takes block after block from a connection whose transport reads no more; `first` are the bytes it had read.

    `stall_s` is the longest the peer may send nothing, `block_s` the longest one block may take.
    """

    def __init__(
        self, connection: socket.socket | None, first: bytes, buffers: Buffers, stall_s: float, block_s: float
    ) -> None:
        self._own = connection.dup() if connection is not None else None
        self._first = first
        self._buffers = buffers
        self._stall_s = stall_s
        self._block_s = block_s

    async def block(self, length: int, use: Callable[[memoryview], T]) -> T:
        """What `use` makes of the next `length` bytes, at most 1 MiB, in the thread that received them.

        `use` has ended once this has, however it ended.

        Raises:
            UnreachableError: when they do not come in time, or the body ends before.
            Whatever `use` raises.
        """
        first, self._first = self._first[:length], self._first[length:]
        view = self._buffers.view(length)
        view[: len(first)] = first
        taking = _Taking(self._own, view, len(first), time.monotonic() + self._block_s, use)
        while not await _to_its_end(partial(taking.run, time.monotonic()), self._cut):
            await self._readable(min(self._stall_s, taking.until - time.monotonic()))
        return taking.results[0]

    async def skip(self, count: int) -> None:
        """Drop the next `count` bytes.

        Raises:
            UnreachableError: as `block`.
        """
        while count:
            length = min(LEAF_BYTES, count)
            await self.block(length, lambda _: None)
            count -= length

    def close(self) -> None:
        """Give the connection back."""
        if self._own is not None:
            self._own.close()

    def _cut(self) -> None:
        if self._own is not None:
            with suppress(OSError):  # it may be gone already
                self._own.shutdown(socket.SHUT_RDWR)  # the thread notices and ends

    async def _readable(self, limit_s: float) -> None:
        assert self._own is not None, "without a connection all bytes are here, or none come any more"
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._own, partial(_settle, ready))
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                await ready
        except TimeoutError:
            raise UnreachableError("it stalled") from None
        finally:
            loop.remove_reader(self._own)


class _Taking(Generic[T]):
    """One block on its way."""

    def __init__(
        self,
        connection: socket.socket | None,
        view: memoryview,
        have: int,
        until: float,
        use: Callable[[memoryview], T],
    ) -> None:
        self.results: list[T] = []
        self.until = until
        self._connection = connection
        self._view = view
        self._have = have
        self._use = use

    def run(self, asked_at: float) -> bool:
        """Receive, and use the whole; False when the peer pauses. That no thread was free at once is not its fault."""
        self.until += time.monotonic() - asked_at
        try:
            whole = self._receive()
        except OSError as error:
            raise UnreachableError(f"it cut the body: {error.strerror or error}") from None
        if whole:
            self.results.append(self._use(self._view))
        return whole

    def _receive(self) -> bool:
        poll = select.poll()
        while self._have < len(self._view):
            if self._connection is None:
                raise UnreachableError("it cut the body")
            try:
                got = self._connection.recv_into(self._view[self._have :])
            except BlockingIOError:
                if time.monotonic() > self.until:
                    raise UnreachableError("it stalled") from None
                poll.register(self._connection, select.POLLIN)
                if not poll.poll(_PATIENCE_MS):
                    return False
                continue
            if not got:
                raise UnreachableError("it cut the body")
            self._have += got
        return True


async def _to_its_end(work: Callable[[], T], hurry: Callable[[], None]) -> T:
    """Run `work` in a thread and wait until it has ended even when cancelled; `hurry` makes it end soon then."""
    job = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        while not job.done():
            hurry()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([job])
        job.exception()  # seen, though nobody asks for it
        raise


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
