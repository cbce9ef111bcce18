"""Stands between a command and its node, and holds what goes between them, so that it is caught in the middle."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final

_PIECE: Final = 64 * 1024
_ENDS_WITHIN_S: Final = 10.0


class Relay:
    """Passes on at most `most` bytes, both ways together; `sent` went to the node, `got` came from it."""

    def __init__(self, target: str, most: int | None) -> None:
        self.address = ""
        self.sent = 0
        self.got = 0
        self.held = threading.Event()
        """Set once nothing is passed on any more."""
        self._host, _, self._port = target.partition(":")
        self._most = most
        self._talks: set[asyncio.Task[None]] = set()

    async def serve(self, ready: "Future[asyncio.Event]") -> None:
        """Run until the event that `ready` gets is set."""
        stopped = asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.address = "{}:{}".format(*server.sockets[0].getsockname())
        ready.set_result(stopped)
        await stopped.wait()
        server.close()
        for task in list(self._talks):
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        there, back = await asyncio.open_connection(self._host, int(self._port))
        ways = [asyncio.ensure_future(way) for way in (self._up(reader, back), self._down(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            back.transport.abort()
            self._talks.discard(task)

    async def _up(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_PIECE):
            await self._room(len(data))
            self.sent += len(data)
            sink.write(data)
            await sink.drain()

    async def _down(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_PIECE):
            await self._room(len(data))
            self.got += len(data)
            sink.write(data)
            await sink.drain()

    async def _room(self, count: int) -> None:
        if self._most is not None and self.sent + self.got + count > self._most:
            self.held.set()
            await asyncio.Event().wait()


@contextmanager
def relayed(target: str, most: int | None = None) -> Iterator[Relay]:
    """Relay to `HOST:PORT`, in a thread of its own; what is held is cut in the end."""
    relay, ready = Relay(target, most), Future[asyncio.Event]()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(relay.serve(ready),), name="relay")
    thread.start()
    try:
        stopped = ready.result(_ENDS_WITHIN_S)
        yield relay
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(_ENDS_WITHIN_S)
        loop.close()
