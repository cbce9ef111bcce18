"""Who stands between two nodes that speak TLS: he shows a certificate of his own, and passes on what he reads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from yarl import URL

from cluster.tls import Certificate, Pin, make_certificate


@dataclass
class Between:
    """What he does, and what he got to read. `rewrite`: he puts his own fingerprint in the place of the node's."""

    target: URL
    rewrite: bool
    certificate: Certificate
    url: URL = field(default_factory=URL)
    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)
    _server: asyncio.Server | None = None
    _talks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def leave(self) -> None:
        """Answer nobody any more."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._talks):
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        self._server = None

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await self.relay(reader, writer)
        self._talks.discard(task)

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either end has enough."""
        pin = Pin()
        there, back = await asyncio.open_connection(self.target.host, self.target.port, ssl=pin)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, back, self.asked, b"", b""))
                mine = self.certificate.fingerprint.encode() if self.rewrite else pin.fingerprint.encode()
                group.create_task(self._pass_on(there, writer, self.answered, pin.fingerprint.encode(), mine))
        except* (_Ended, OSError):
            pass
        finally:
            for end in (writer, back):
                end.transport.abort()

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, heard: bytearray, named: bytes, instead: bytes
    ) -> None:
        while data := await source.read(1 << 20):
            heard += data
            sink.write(data.replace(named, instead) if named else data)
            await sink.drain()
        raise _Ended


class _Ended(Exception):
    """One end has enough."""


@asynccontextmanager
async def between(target: URL, *, rewrite: bool) -> AsyncIterator[Between]:
    """Stand between a node and those who take his address for the node's."""
    one = Between(target, rewrite, await asyncio.to_thread(make_certificate))
    one._server = await asyncio.start_server(one._talk, "127.0.0.1", 0, ssl=one.certificate.context)
    one.url = URL.build(scheme="https", host="127.0.0.1", port=one._server.sockets[0].getsockname()[1])
    try:
        yield one
    finally:
        await one.leave()
