"""Bodies received by threads: from the socket into a buffer, and used there, past the event loop.

Where TLS is spoken, the event loop reads and decrypts, and threads use what it put into the buffer.
"""

import asyncio
import math
import select
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import Final, Generic, Protocol, TypeVar

from node.errors import UnreachableError
from node.unixfs import LEAF_BYTES

T = TypeVar("T")
_MOST_KEPT: Final = 32
_PATIENCE_MS: Final = 5
"""How long a thread waits for a slow peer before the event loop does."""
_TURN_S: Final = 0.05
"""How long a thread goes on behind the first block: nobody hears of what it took before it is done."""


class Buffers:
    """Memory for blocks of 1 MiB, used again and again: new memory costs more than what is done with it.

    A buffer is free when nobody holds a view of it any more; nobody need give it back.
    """

    def __init__(self) -> None:
        self._kept: list[bytearray] = []
        self._lock = Lock()

    def view(self, length: int) -> memoryview:
        """Memory for `length` bytes, at most 1 MiB; from any thread."""
        if length < LEAF_BYTES // 2:  # whoever keeps it should not keep a whole buffer
            return memoryview(bytearray(length))
        with self._lock:
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
        with self._lock:
            self._kept.clear()


class Receiver(Protocol):
    """Takes block after block of a body."""

    failure: Exception | None
    """What went wrong behind the blocks that were taken; the next call raises it."""

    async def blocks(self, lengths: Sequence[int], use: Callable[[int, memoryview], T]) -> list[T]:
        """What `use` makes, in a thread, of the first of the next blocks, of at most 1 MiB each, and of those behind it
        as far as they are taken at once. It is given the block's index and bytes, and has ended once this has.

        Raises:
            UnreachableError: when bytes do not come in time, or the body ends before.
            Whatever `use` raises.
        """

    async def skip(self, count: int) -> None:
        """Drop the next `count` bytes.

        Raises:
            UnreachableError: as `blocks`.
        """


class StreamReceiver:
    """A `Receiver` of what comes in pieces, which an iterator waits for no longer than a peer may send nothing.

    `block_s` is the longest one block may take.
    """

    def __init__(self, pieces: AsyncIterator[bytes], buffers: Buffers, block_s: float) -> None:
        self.failure: Exception | None = None
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._buffers = buffers
        self._block_s = block_s

    async def blocks(self, lengths: Sequence[int], use: Callable[[int, memoryview], T]) -> list[T]:
        """See `Receiver`: one block at a time."""
        view = self._buffers.view(lengths[0])
        try:
            async with asyncio.timeout(self._block_s):
                await self._fill(view)
        except TimeoutError:
            raise UnreachableError("it stalled") from None
        return [await _to_its_end(partial(use, 0, view), lambda: None)]

    async def skip(self, count: int) -> None:
        """See `Receiver`."""
        while count:
            length = min(LEAF_BYTES, count)
            await self.blocks([length], lambda _index, _bytes: None)
            count -= length

    async def _fill(self, view: memoryview) -> None:
        have = 0
        while have < len(view):
            if not self._piece:
                try:
                    self._piece = memoryview(await anext(self._pieces))
                except StopAsyncIteration:
                    raise UnreachableError("it cut the body") from None
            taken = min(len(self._piece), len(view) - have)
            view[have : have + taken], self._piece = self._piece[:taken], self._piece[taken:]
            have += taken


class BlockReceiver:
    """Takes block after block from a connection whose transport reads no more; `first` are the bytes it had read.

    `stall_s` is the longest the peer may send nothing, `block_s` the longest one block may take.
    """

    def __init__(
        self, connection: socket.socket | None, first: bytes, buffers: Buffers, stall_s: float, block_s: float
    ) -> None:
        self._own = connection.dup() if connection is not None else None
        self._inlet = _Inlet(self._own, first, buffers, block_s)
        self._stall_s = stall_s
        self.failure: Exception | None = None

    async def blocks(self, lengths: Sequence[int], use: Callable[[int, memoryview], T]) -> list[T]:
        """What `use` makes of the next blocks, of at most 1 MiB each, in the thread that receives them.

        It is given the block's index and bytes, and has ended once this has, however it ended. The first block is
        waited for; those behind it are taken as long as they come quickly. What goes wrong with one of them is the
        `failure`, and raised by the next call.

        Raises:
            UnreachableError: when bytes do not come in time, or the body ends before.
            Whatever `use` raises.
        """
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        taking = _Taking(self._inlet, lengths, use)
        self._inlet.start_clock()
        while not await _to_its_end(partial(taking.run, time.monotonic()), self._cut):
            await self._readable(min(self._stall_s, self._inlet.until - time.monotonic()))
        self.failure = taking.failure
        return taking.results

    async def skip(self, count: int) -> None:
        """Drop the next `count` bytes.

        Raises:
            UnreachableError: as `blocks`.
        """
        while count:
            length = min(LEAF_BYTES, count)
            await self.blocks([length], lambda _index, _bytes: None)
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


class _Inlet:
    """Where the bytes of a body come in: the connection, and the block that is on its way."""

    def __init__(self, connection: socket.socket | None, first: bytes, buffers: Buffers, block_s: float) -> None:
        self.until = 0.0
        """When the block that is on its way must be here."""
        self.pause_at = math.inf
        """When the thread goes back to the event loop, rather than wait for more."""
        self._connection = connection
        self._first = first
        self._buffers = buffers
        self._block_s = block_s
        self._view: memoryview | None = None
        self._have = 0

    def start_clock(self) -> None:
        """From now on the peer is waited for."""
        self.until = time.monotonic() + self._block_s

    def receive(self, length: int) -> memoryview | None:
        """The next `length` bytes; None when the peer pauses. What came of them is kept for the next call.

        Raises:
            UnreachableError: when they do not come in time, or the body ends before.
        """
        if self._view is None:
            self._view = self._buffers.view(length)
            self._have = min(length, len(self._first))
            self._view[: self._have], self._first = self._first[: self._have], self._first[self._have :]
        try:
            whole = self._fill(self._view)
        except OSError as error:
            raise UnreachableError(f"it cut the body: {error.strerror or error}") from None
        if not whole:
            return None
        view, self._view = self._view, None
        return view

    def _fill(self, view: memoryview) -> bool:
        poll = select.poll()
        while self._have < len(view):
            if self._connection is None:
                raise UnreachableError("it cut the body")
            try:
                got = self._connection.recv_into(view[self._have :])
            except BlockingIOError:
                if time.monotonic() > self.until:
                    raise UnreachableError("it stalled") from None
                if time.monotonic() > self.pause_at:
                    return False
                poll.register(self._connection, select.POLLIN)
                if not poll.poll(_PATIENCE_MS):
                    return False
                continue
            if not got:
                raise UnreachableError("it cut the body")
            self._have += got
        return True


class _Taking(Generic[T]):
    """One turn of a thread: block after block, for as long as they come."""

    def __init__(self, inlet: _Inlet, lengths: Sequence[int], use: Callable[[int, memoryview], T]) -> None:
        self.results: list[T] = []
        self.failure: Exception | None = None
        """What ended it behind the first block."""
        self._inlet = inlet
        self._lengths = lengths
        self._use = use

    def run(self, asked_at: float) -> bool:
        """Receive and use; False when the peer pauses in the first block. A wait for a thread is not its fault."""
        self._inlet.until += time.monotonic() - asked_at
        self._inlet.pause_at = math.inf
        try:
            for index, length in enumerate(self._lengths):
                block = self._inlet.receive(length)
                if block is None:
                    return bool(index)
                self.results.append(self._use(index, block))
                self._inlet.start_clock()
                if not index:
                    self._inlet.pause_at = time.monotonic() + _TURN_S
                elif time.monotonic() > self._inlet.pause_at:
                    break
        except Exception as error:
            if not self.results:
                raise
            self.failure = error
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
