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
from threading import Lock
from typing import Final, Protocol
from weakref import WeakKeyDictionary

_BY_THREAD_BYTES: Final = 1024 * 1024
"""Longer pieces are sent by threads: the loop stays free while pages come from the disk and sockets fill."""
_TURN_BYTES: Final = 1024 * 1024
"""So much a client gets in one turn, if its socket takes it: less than a socket does at once, so turns are short."""
_THREADS: Final = 4
"""So many take turns at once, of a pool that everything shares: a core each is kept busy, others wait for the disk."""
_SHIFT_S: Final = 1.0
"""A thread goes back to the pool after so long: others may need it."""
_IDLE_S: Final = 0.005
"""How long a thread waits for slow clients before the event loop does."""
_COPY_BYTES: Final = 256 * 1024


class FileError(ConnectionAbortedError):
    """The file itself cannot be read; `why` is what the system says of it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the file cannot be read: {why}")
        self.why = why


class HasFileno(Protocol):
    """An open file."""

    def fileno(self) -> int: ...


class Sender(Protocol):
    """Sends a part of a file to a client."""

    @property
    def sent(self) -> int:
        """How many bytes were handed over, so far; afterwards, all of them."""

    async def run(self) -> None:
        """Send.

        Raises:
            FileError: when the file cannot be read.
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
        self._sent = 0
        self._write = write
        self._file = file
        self._start = start
        self._count = count

    @property
    def sent(self) -> int:
        """See `Sender`."""
        return self._sent

    async def run(self) -> None:
        """Send.

        Raises:
            FileError: when the file cannot be read.
            ConnectionError: when the client went away.
        """
        while self.sent < self._count:
            wanted = min(_COPY_BYTES, self._count - self.sent)
            try:
                piece = await asyncio.to_thread(os.pread, self._file.fileno(), wanted, self._start + self.sent)
            except OSError as error:
                raise FileError(f"{error.strerror}") from None
            if not piece:
                return
            await self._write(piece)
            self._sent += len(piece)


class FileSender:
    """Sends `count` bytes of a file, from `start` on, over a plain TCP transport that nobody else writes to meanwhile.

    `sent` says how many are with the kernel; fewer than `count` at the end means that the file ended.
    """

    def __init__(self, transport: asyncio.Transport, file: HasFileno, start: int, count: int) -> None:
        self._sent = 0
        self._body: _Body | None = None
        self._transport = transport
        self._file = file
        self._start = start
        self._count = count

    @property
    def sent(self) -> int:
        """See `Sender`."""
        return self._sent + (self._body.sent if self._body else 0)

    async def run(self) -> None:
        """Send.

        Raises:
            FileError: when the file cannot be read.
            ConnectionError: when the client went away, or the file cannot be kept open.
        """
        connection: socket.socket = self._transport.get_extra_info("socket")
        try:
            if not self._transport.get_write_buffer_size():
                self._at_once(connection)
            if self._left > _BY_THREAD_BYTES:
                await self._drained()
                await self._by_turns(connection)
            elif self._left:
                await self._by_loop()
        except ConnectionError:
            raise
        except OSError as error:
            await self._try_file()
            raise ConnectionAbortedError(f"the file cannot be sent: {error.strerror}") from None

    @property
    def _left(self) -> int:
        return self._count - self.sent

    def _at_once(self, connection: socket.socket) -> None:
        """What the socket takes without waiting; the first bytes of a body are better out than queued."""
        piece = min(self._left, _BY_THREAD_BYTES)
        try:
            self._sent += os.sendfile(connection.fileno(), self._file.fileno(), self._start, piece)
        except BlockingIOError:
            return

    async def _by_loop(self) -> None:
        loop, file = asyncio.get_running_loop(), self._file
        position = self._start + self.sent
        try:
            self._sent += await loop.sendfile(self._transport, file, position, self._left, fallback=False)  # type: ignore[arg-type]  # fileno() is all it needs
        except asyncio.SendfileNotAvailableError:  # said of every error before the first byte
            await self._try_file()
            raise ConnectionResetError("the client has gone") from None

    async def _try_file(self) -> None:
        """Raises: FileError, when it is the file that could not go on."""
        try:
            await asyncio.to_thread(os.pread, self._file.fileno(), 1, self._start + self.sent)
        except OSError as error:
            raise FileError(f"{error.strerror}") from None

    async def _drained(self) -> None:
        """The head of the answer goes first."""
        if self._transport.get_write_buffer_size():
            piece, whole = min(64 * 1024, self._left), self._count
            self._count = self.sent + piece
            await self._by_loop()
            self._count = whole

    async def _by_turns(self, connection: socket.socket) -> None:
        turns = _turns(asyncio.get_running_loop())
        descriptor = os.dup(self._file.fileno())
        try:
            own = connection.dup()
        except OSError:
            os.close(descriptor)
            raise
        self._body = body = _Body(own, descriptor, self._start + self.sent, self._left)
        _cork(connection, True)
        try:
            await turns.take(body)
        except asyncio.CancelledError:
            with suppress(OSError):  # the client may have gone already
                connection.shutdown(socket.SHUT_RDWR)
            raise
        finally:
            _cork(connection, False)
            body.abandon()


def _cork(connection: socket.socket, full: bool) -> None:
    """Send full segments only, as nginx does: else each 64 KiB that sendfile takes at once ends in a short one."""
    with suppress(OSError):  # no TCP, or the client has gone
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, full)


class _Body:
    """What one client still gets. It owns the socket and the descriptor of the file, and closes both."""

    def __init__(self, own: socket.socket, descriptor: int, position: int, wanted: int) -> None:
        self.sent = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when all is sent or the file ended; fails with what the kernel says of a client that has gone."""
        self._own = own
        self._descriptor = descriptor
        self._position = position
        self._wanted = wanted
        self._abandoned = False
        self._closed = False
        self._lock = Lock()

    def fileno(self) -> int:
        """The socket."""
        return self._own.fileno()

    def go_on(self) -> bool:
        """Send what the client takes at once, in a thread; whether there is more to send."""
        try:
            with self._lock:
                return not self._abandoned and self._send()
        finally:
            self._close()

    def _send(self) -> bool:
        piece = min(self._wanted - self.sent, _TURN_BYTES)
        try:
            went = os.sendfile(self._own.fileno(), self._descriptor, self._position + self.sent, piece)
        except BlockingIOError:
            return True
        self.sent += went
        return went > 0 and self.sent < self._wanted

    def abandon(self) -> None:
        """Send no more, and close what is open: here, or in the thread that is sending just now."""
        self._abandoned = True
        self._close()

    def _close(self) -> None:
        if self._abandoned and self._lock.acquire(blocking=False):  # who has it looks again behind it
            if not self._closed:
                self._closed = True
                self._own.close()
                os.close(self._descriptor)
            self._lock.release()


class _Turns:
    """Threads that send to all clients of one event loop by turns.

    The kernel keeps the queue: of the sockets that take bytes, one that had its turn comes behind all others. Threads
    wait at the queue while there is work; else the event loop does, so that slow clients cost no thread.
    """

    def __init__(self) -> None:
        self._queue = select.epoll()
        self._bodies: dict[int, _Body] = {}
        self._threads = 0

    async def take(self, body: _Body) -> None:
        """Send a body to its end.

        Raises:
            OSError: when the client went away.
        """
        descriptor = body.fileno()
        self._bodies[descriptor] = body
        self._queue.register(descriptor, select.EPOLLOUT | select.EPOLLONESHOT)
        self._begin()
        try:
            await body.over
        finally:
            self._queue.unregister(descriptor)
            del self._bodies[descriptor]
            if not self._bodies:
                asyncio.get_running_loop().remove_reader(self._queue)

    def _begin(self) -> None:
        """Have threads work, as many as are of use."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._queue)
        while self._threads < min(_THREADS, len(self._bodies)):
            self._threads += 1
            loop.run_in_executor(None, self._work, loop)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give one client after another its turn, in a thread."""
        until, idle = time.monotonic() + _SHIFT_S, False
        while not idle and time.monotonic() < until:
            ready = self._queue.poll(_IDLE_S, 1)
            idle = not ready
            for descriptor, _ in ready:
                self._turn(descriptor, loop)
        loop.call_soon_threadsafe(self._left, idle)

    def _turn(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        body = self._bodies.get(descriptor)
        if body is None:  # it was abandoned just now
            return
        try:
            if body.go_on():
                self._queue.modify(descriptor, select.EPOLLOUT | select.EPOLLONESHOT)
            else:
                loop.call_soon_threadsafe(_settle, body.over, None)
        except OSError as error:
            loop.call_soon_threadsafe(_settle, body.over, error)

    def _left(self, idle: bool) -> None:
        """A thread went back to the pool."""
        self._threads -= 1
        if self._bodies and not idle:
            self._begin()
        elif self._bodies and not self._threads:
            asyncio.get_running_loop().add_reader(self._queue, self._begin)


_TURNS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns]] = WeakKeyDictionary()


def _turns(loop: asyncio.AbstractEventLoop) -> _Turns:
    if (turns := _TURNS.get(loop)) is None:
        turns = _TURNS[loop] = _Turns()
    return turns


def _settle(over: "asyncio.Future[None]", failure: OSError | None) -> None:
    if over.done():
        return
    if failure:
        over.set_exception(failure)
    else:
        over.set_result(None)
