"""Bodies received by threads: from the socket into a block's buffer, and hashed there, past the event loop."""

import asyncio
import hashlib
import select
import socket
import time
from contextlib import suppress
from typing import Final

from node.errors import UnreachableError

_MOST_AT_ONCE: Final = 1 << 20


class BlockReceiver:
    """Takes block after block from a connection whose transport reads no more; `first` are the bytes it had read.

    `stall_s` is the longest the peer may send nothing, `block_s` the longest one block may take.
    """

    def __init__(self, connection: socket.socket | None, first: bytes, stall_s: float, block_s: float) -> None:
        self._connection = connection
        self._first = first
        self._stall_s = stall_s
        self._block_s = block_s

    async def block(self, length: int) -> tuple[bytes, bytes]:
        """The next `length` bytes, and their sha2-256.

        Raises:
            UnreachableError: when they do not come in time, or the body ends before.
        """
        taking = _Taking(self._connection, self._first[:length], length, self._stall_s, self._block_s)
        self._first = self._first[length:]
        job = asyncio.get_running_loop().run_in_executor(None, taking.run)
        job.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, even if nobody waits
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            if self._connection is not None:
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)  # the thread notices and ends
            raise


class _Taking:
    """One block, by a thread that owns its own end of the connection."""

    def __init__(
        self, connection: socket.socket | None, first: bytes, length: int, stall_s: float, block_s: float
    ) -> None:
        self._own = None if connection is None else connection.dup()
        self._first = first
        self._length = length
        self._stall_ms = max(1, round(stall_s * 1000))
        self._until = time.monotonic() + block_s

    def run(self) -> tuple[bytes, bytes]:
        """Receive and hash."""
        try:
            data = self._take()
        except OSError as error:
            raise UnreachableError(f"it cut the body: {error.strerror or error}") from None
        finally:
            if self._own is not None:
                self._own.close()
        return data, hashlib.sha256(data).digest()

    def _take(self) -> bytes:
        if len(self._first) == self._length:
            return self._first
        buffer = bytearray(self._length)
        view, have = memoryview(buffer), len(self._first)
        view[:have] = self._first
        if self._own is None:
            raise UnreachableError("it cut the body")
        poll = select.poll()
        poll.register(self._own, select.POLLIN)
        while have < self._length:
            try:
                got = self._own.recv_into(view[have : have + _MOST_AT_ONCE])
            except BlockingIOError:
                if time.monotonic() > self._until or not poll.poll(self._stall_ms):
                    raise UnreachableError("it stalled") from None
                continue
            if not got:
                raise UnreachableError("it cut the body")
            have += got
        return bytes(buffer)
