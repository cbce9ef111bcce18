"""Who stands before a server and passes on every byte: behind TLS of his own, or not before something has happened."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from yarl import URL

_PIECE: Final = 64 * 1024


@dataclass
class Relay:
    """Passes on both ways. What the server sends can be held, and is passed on once `go_on` is set."""

    target: URL
    url: URL = field(default_factory=URL)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """What the server sends over one connection at least is held now."""
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    hold_after: int | None = None
    """So much of what the server sends over a connection is passed on before it is held."""
    _talks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either end has enough."""
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        there = back = None
        try:
            there, back = await self._connect()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, back, is_answer=False))
                group.create_task(self._pass_on(there, writer, is_answer=True))
        except* (_Ended, OSError, asyncio.CancelledError):
            pass
        finally:
            for end in (writer, back):
                if end is not None:
                    end.transport.abort()
            self._talks.discard(task)

    async def leave(self) -> None:
        """End all connections."""
        for task in list(self._talks):
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """With a small buffer of the kernel's, so that a server does not run far ahead of what is passed on."""
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * _PIECE)
            await asyncio.get_running_loop().sock_connect(sock, (self.target.host or "", self.target.port or 0))
            return await asyncio.open_connection(sock=sock, limit=_PIECE)
        except BaseException:
            sock.close()
            raise

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool) -> None:
        count = 0
        while data := await source.read(_PIECE):
            count += len(data)
            if is_answer and self.hold_after is not None and count > self.hold_after:
                self.reached.set()
                await self.go_on.wait()
            sink.write(data)
            await sink.drain()
        raise _Ended


class _Ended(Exception):
    """One end has enough."""


@asynccontextmanager
async def relaying(target: URL, tls: ssl.SSLContext | None = None) -> AsyncIterator[Relay]:
    """Stand before the server at `target`, behind TLS where that is given."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.talk, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    relay.url = URL.build(scheme=scheme, host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    try:
        yield relay
    finally:
        server.close()
        with suppress(asyncio.CancelledError):
            await relay.leave()
