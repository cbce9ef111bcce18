"""Blocking calls in threads: each bounded in time, and its connections cut when nobody waits for it any more."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, Protocol, TypeVar

from node.errors import UnreachableError

T = TypeVar("T")
_ENDS_WITHIN_S: Final = 0.5
"""How soon a thread ends whose connections were cut, unless it waits for a name server."""
_here: Final = threading.local()


class Closable(Protocol):
    """Something that has to be closed."""

    def close(self) -> None: ...


class Call:
    """What one caller does in threads, one step after another."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._kept: list[Closable] = []
        self._cut = False

    async def step(self, work: Callable[[], T]) -> T:
        """What `work` returns, run in a thread. Cut short, it is waited for a moment, so that it uses nothing then."""
        running = self._threads.submit(self._run, work)
        future = asyncio.wrap_future(running)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # then nobody else has to look
        try:
            return await asyncio.shield(future)
        finally:
            if not future.done():
                self.cut()
                if not running.cancel():  # one that did not begin never does
                    await asyncio.wait([future], timeout=_ENDS_WITHIN_S)

    def opened(self, connection: socket.socket) -> None:
        """A connection was made for this call; in its thread.

        Raises:
            UnreachableError: when the call was cut short meanwhile.
        """
        with self._lock:
            self._sockets.append(connection)
        if self._cut:
            _shut(connection)
            raise _unwanted()

    def keep(self, kept: Closable) -> None:
        """Close something once the call is over; in its thread. Raises as `opened`."""
        with self._lock:
            self._kept.append(kept)
        if self._cut:
            self.release()
            raise _unwanted()

    def cut(self) -> None:
        """End what the thread waits for."""
        with self._lock:
            self._cut = True
            sockets = list(self._sockets)
        for each in sockets:
            _shut(each)

    def release(self) -> None:
        """Close what was kept; in a thread."""
        with self._lock:
            kept, self._kept = self._kept, []
        for each in kept:
            each.close()

    @property
    def has_kept(self) -> bool:
        """Whether there is something to release."""
        return bool(self._kept)

    def _run(self, work: Callable[[], T]) -> T:
        if self._cut:
            raise _unwanted()
        _here.call = self
        try:
            return work()
        finally:
            _here.call = None


def opened(connection: socket.socket) -> None:
    """Tell the call whose thread this is of its connection."""
    call: Call | None = getattr(_here, "call", None)
    assert call is not None, "connections are made in the threads of calls"
    call.opened(connection)


class Threads:
    """Threads for calls; all of them end with it."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._calls: set[Call] = set()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Call]:
        """A call, which is over at the end: its connections are cut, and what it kept is closed."""
        call = Call(self._pool)
        self._calls.add(call)
        try:
            yield call
        finally:
            call.cut()
            self._calls.discard(call)
            if call.has_kept:
                self._release(call)

    def _release(self, call: Call) -> None:
        try:
            self._pool.submit(call.release)
        except RuntimeError:  # there are no threads any more
            call.release()

    async def close(self) -> None:
        """Cut what is left, and end the threads."""
        for call in self._calls:
            call.cut()
        await asyncio.to_thread(self._pool.shutdown)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _unwanted() -> UnreachableError:
    return UnreachableError("nobody waits for the answer any more")
