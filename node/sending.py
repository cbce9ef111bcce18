"""Files sent by the kernel (sendfile): small pieces by the event loop, long ones by threads.

Where bytes are encrypted on their way (TLS), the kernel cannot: threads read, and the transport writes.
"""

import asyncio
import os
import select
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

_BY_THREAD_BYTES: Final = 1024 * 1024
"""Longer pieces are handed to a thread: the loop stays free while pages come from the disk and sockets fill."""
_BURST_BYTES: Final = 64 * 1024 * 1024
"""A thread then takes the next piece that waits. With a quarter of it, a single client got two thirds of the rate."""
_TURN_S: Final = 1.0
"""A thread also goes back when a burst takes longer: others wait for it."""
_PATIENCE_MS: Final = 5
"""How long a thread waits for a slow client before the event loop does."""
_COPY_BYTES: Final = 256 * 1024


class HasFileno(Protocol):
    """An open file."""

    def fileno(self) -> int: ...


class Sender(Protocol):
    """Sends a part of a file to a client. `sent` says at any time how many bytes were handed over."""

    sent: int

    async def run(self) -> None:
        """Send.

        Raises:
            ConnectionError: when the client went away.
        """


def file_sender(
    transport: asyncio.Transport,
    write: Callable[[bytes], Awaitable[None]],
    file: HasFileno,
    start: int,
    count: int,
) -> Sender:
    """What sends these bytes over the transport: the kernel, or `write`, which the transport encrypts behind."""
    if transport.get_extra_info("sslcontext") is None:
        return FileSender(transport, file, start, count)
    return FileCopier(write, file, start, count)


class FileCopier:
    """Sends `count` bytes of a file, from `start` on, through `write`, which waits for slow clients.

    `sent` is less than `count` at the end when the file ended.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[None]], file: HasFileno, start: int, count: int) -> None:
        self.sent = 0
        self._write = write
        self._file = file
        self._start = start
        self._count = count

    async def run(self) -> None:
        """Send.

        Raises:
            ConnectionError: when the client went away, or the file cannot be read.
        """
        while self.sent < self._count:
            wanted = min(_COPY_BYTES, self._count - self.sent)
            try:
                piece = await asyncio.to_thread(os.pread, self._file.fileno(), wanted, self._start + self.sent)
            except OSError as error:
                raise ConnectionResetError(f"the file cannot be read: {error.strerror}") from None
            if not piece:
                return
            await self._write(piece)
            self.sent += len(piece)


class FileSender:
    """Sends `count` bytes of a file, from `start` on, over a plain TCP transport that nobody else writes to meanwhile.

    `sent` says at any time how many are with the kernel; fewer than `count` at the end means that the file ended.
    """

    def __init__(self, transport: asyncio.Transport, file: HasFileno, start: int, count: int) -> None:
        self.sent = 0
        self._transport = transport
        self._file = file
        self._start = start
        self._count = count

    async def run(self) -> None:
        """Send.

        Raises:
            ConnectionError: when the client went away.
        """
        connection: socket.socket = self._transport.get_extra_info("socket")
        if not self._transport.get_write_buffer_size():
            self._at_once(connection)
        if self._left > _BY_THREAD_BYTES:
            await self._drained()
            with connection.dup() as own:
                await self._by_thread(own)
        elif self._left:
            await self._by_loop()

    @property
    def _left(self) -> int:
        return self._count - self.sent

    def _at_once(self, connection: socket.socket) -> None:
        """What the socket takes without waiting; the first bytes of a body are better out than queued."""
        piece = min(self._left, _BY_THREAD_BYTES)
        try:
            self.sent += os.sendfile(connection.fileno(), self._file.fileno(), self._start, piece)
        except BlockingIOError:
            return

    async def _by_loop(self) -> None:
        loop, file = asyncio.get_running_loop(), self._file
        position = self._start + self.sent
        try:
            self.sent += await loop.sendfile(self._transport, file, position, self._left, fallback=False)  # type: ignore[arg-type]  # fileno() is all it needs
        except asyncio.SendfileNotAvailableError:  # said of every error before the first byte
            raise ConnectionResetError("the client has gone") from None

    async def _drained(self) -> None:
        """The head of the answer goes first."""
        if self._transport.get_write_buffer_size():
            piece, whole = min(64 * 1024, self._left), self._count
            self._count = self.sent + piece
            await self._by_loop()
            self._count = whole

    async def _by_thread(self, own: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while self._left:
            wanted = min(self._left, _BURST_BYTES)
            burst = _Burst(own.dup(), os.dup(self._file.fileno()), self._start + self.sent, wanted)
            job = loop.run_in_executor(None, burst.run)
            job.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, even if nobody waits
            try:
                await asyncio.shield(job)
            except asyncio.CancelledError:
                with suppress(OSError):  # the client may have gone already
                    own.shutdown(socket.SHUT_RDWR)  # the thread notices and ends; what it uses is its own
                raise
            finally:
                self.sent += burst.sent
            if burst.ended:
                return
            if burst.sent < wanted:
                await _writable(own)


class _Burst:
    """One turn of a thread, which owns the socket and the descriptor and closes both."""

    def __init__(self, own: socket.socket, descriptor: int, position: int, wanted: int) -> None:
        self.sent = 0
        self.ended = False
        self._own = own
        self._descriptor = descriptor
        self._position = position
        self._wanted = wanted

    def run(self) -> None:
        """Send until all is sent, the file ends, or the client takes nothing for a while."""
        try:
            self._send()
        finally:
            self._own.close()
            os.close(self._descriptor)

    def _send(self) -> None:
        poll = select.poll()
        poll.register(self._own, select.POLLOUT)
        until = time.monotonic() + _TURN_S
        while self.sent < self._wanted and not self.ended and time.monotonic() < until:
            left = self._wanted - self.sent
            try:
                went = os.sendfile(self._own.fileno(), self._descriptor, self._position + self.sent, left)
            except BlockingIOError:
                if not poll.poll(_PATIENCE_MS):
                    return
                continue
            self.sent += went
            self.ended = not went


async def _writable(own: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(own, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(own)


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
