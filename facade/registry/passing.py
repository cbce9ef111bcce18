"""Answers that pass through this node without being kept: ranges far ahead, and everything while the disk is full."""

import asyncio
import os
from collections.abc import Mapping

from aiohttp import web

from facade.flight import Reader
from facade.metrics import Metrics
from facade.sources import HELD_BACK_BYTES, SourceName
from facade.upstream.client import Passage
from node.digest import Hasher
from node.errors import LayermeshError, MismatchError, UnreachableError
from node.http import RangeError
from node.sending import HasFileno, file_sender
from node.source import BlobSource, Wanted

_READ_BYTES = 1024 * 1024


def cut(request: web.BaseRequest) -> None:
    """End the connection short of Content-Length: all that is possible behind sent headers, never taken for success."""
    if request.transport is not None:
        request.transport.close()


async def send_file(
    request: web.BaseRequest, response: web.StreamResponse, reader: HasFileno, start: int, count: int
) -> None:
    """Send `count` bytes of a growing file, from `start` on, as a piece of the body; by the kernel where it can.

    Raises:
        ConnectionError: when the client has gone, or the file is shorter than was promised.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    sender = file_sender(transport, response.write, reader, start, count)
    await sender.run()
    if sender.sent != count:
        raise ConnectionError("the growing file ended early")


async def pass_on(
    request: web.BaseRequest, passage: Passage, headers: Mapping[str, str], metrics: Metrics
) -> web.StreamResponse:
    """Send what upstream answered to a Range request, as it comes; only the headers that matter are taken over.

    Raises:
        RangeError: when upstream says that there is no such range.
    """
    if passage.status == 416:
        raise RangeError(passage.total or 0)
    response = web.StreamResponse(status=passage.status, headers={**headers, "Layermesh-Source": SourceName.UPSTREAM})
    if passage.content_range is not None:
        response.headers["Content-Range"] = passage.content_range
    if passage.length is not None:
        response.content_length = passage.length
    await response.prepare(request)
    try:
        async for data in passage.body:
            await response.write(data)
            metrics.served(SourceName.UPSTREAM, len(data))
        await response.write_eof()
    except (LayermeshError, ConnectionError):
        cut(request)
    return response


class Outlet:
    """A sink that sends a blob to one client and keeps nothing, holding the last piece back until the digest agrees."""

    def __init__(
        self, request: web.BaseRequest, response: web.StreamResponse, wanted: Wanted, metrics: Metrics
    ) -> None:
        self._request = request
        self._response = response
        self._wanted = wanted
        self._metrics = metrics
        self._hasher: Hasher = wanted.digest.hasher()
        self._size = wanted.size
        self._position = 0
        self._held = bytearray()

    @property
    def size(self) -> int | None:
        """Implements `Sink.size`."""
        return self._size

    @property
    def prefix(self) -> int:
        """Implements `Sink.prefix`."""
        return self._position

    @property
    def begun(self) -> bool:
        """Whether headers have gone out."""
        return self._response.prepared

    def expect(self, size: int) -> None:
        """Implements `Sink.expect`."""
        if self._size is not None and size != self._size:
            raise MismatchError(f"{self._wanted.digest}: {size} bytes announced, {self._size} expected")
        self._size = size

    async def skip(self, reader: Reader, position: int) -> None:
        """Go on behind `position` bytes that the client has already, which `reader` still can read."""
        if (head := reader.remembered(position)) is not None:
            self._hasher.update(head)
        else:
            await asyncio.to_thread(_hash_file, self._hasher, reader.fileno(), position)
        self._position = position

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Implements `Sink.write`, for bytes that come in order."""
        if self._size is None:
            raise UnreachableError(f"{self._wanted.digest}: without room to keep it, its size must be known first")
        if offset != self._position or offset + len(data) > self._size:
            raise MismatchError(f"{self._wanted.digest}: bytes at {offset}, expected at {self._position}")
        await asyncio.to_thread(self._hasher.update, data)
        self._position += len(data)
        free = max(0, min(len(data), self._size - HELD_BACK_BYTES - offset))
        self._held += data[free:]
        if free:
            await self._send(data[:free])

    async def finish(self) -> None:
        """Send the last piece if the whole agrees with its digest.

        Raises:
            MismatchError: when it does not.
        """
        if self._position != self._size or self._hasher.hexdigest() != self._wanted.digest.hex:
            raise MismatchError(f"{self._wanted.digest}: upstream gave other bytes")
        await self._send(self._held)
        await self._response.write_eof()

    async def _send(self, data: bytes | bytearray | memoryview) -> None:
        if not self._response.prepared:
            self._response.content_length = self._size
            await self._response.prepare(self._request)
        await self._response.write(data)
        self._metrics.served(SourceName.UPSTREAM, len(data))


def _hash_file(hasher: Hasher, descriptor: int, stop: int) -> None:
    position = 0
    while position < stop:
        data = os.pread(descriptor, min(_READ_BYTES, stop - position), position)
        if not data:
            raise UnreachableError("what was fetched before the disk was full cannot be read again")
        hasher.update(data)
        position += len(data)


async def send_through(request: web.BaseRequest, outlet: Outlet, wanted: Wanted, upstream: BlobSource) -> None:
    """Fill `outlet` from upstream; a failure behind sent headers cuts the body.

    Raises:
        LayermeshError: before any header was sent.
    """
    try:
        await upstream.fill(wanted, outlet)
        await outlet.finish()
    except (LayermeshError, ConnectionError):
        if not outlet.begun:
            raise
        cut(request)
