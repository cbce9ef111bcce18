"""Files read through a gateway that is ours, but may be anything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from node.cid import Cid
from node.errors import LayermeshError, MismatchError, NotFoundError, UnreachableError
from node.ipfs.kubo.files import open_file
from tests.node.gateways import Handler, answering, serving

CID = Cid.of(b"0123456789")
NAMED = {"X-Ipfs-Path": f"/ipfs/{CID}"}


@asynccontextmanager
async def reading(handler: Handler, start: int = 0, stop: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
    async with (
        serving(answering(handler)) as base,
        aiohttp.ClientSession() as session,
        open_file(session, base, CID, start, stop, head_s=0.3, stall_s=0.2) as pieces,
    ):
        yield pieces


def saying(status: int, *, content_range: str | None = None, path: str = f"/ipfs/{CID}") -> Handler:
    headers = {"X-Ipfs-Path": path, "Location": "http://127.0.0.1:1/"}
    if content_range is not None:
        headers["Content-Range"] = content_range

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=b"0123456789", headers=headers)

    return answer


@pytest.mark.parametrize(
    ("handler", "error", "words"),
    [
        (saying(404), NotFoundError, "does not find it"),
        (saying(412), NotFoundError, "does not find it"),
        (saying(504), NotFoundError, "does not find it"),
        (saying(500), UnreachableError, "answered 500"),
        (saying(301), UnreachableError, "answered 301"),
        (saying(200, path="/index.html"), MismatchError, "no IPFS gateway"),
        (saying(200), MismatchError, "another part"),
        (saying(206, content_range="bytes 0-9/10"), MismatchError, "another part"),
        (saying(206, content_range="nonsense"), MismatchError, "another part"),
    ],
)
async def test_what_is_not_the_part_that_was_asked_for_is_refused(
    handler: Handler, error: type[LayermeshError], words: str
) -> None:
    with pytest.raises(error, match=words):
        async with reading(handler, 3):
            pass


async def test_what_ends_early_is_told_behind_what_came() -> None:
    async def short(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=NAMED)
        response.content_length = 10
        await response.prepare(request)
        await response.write(b"01234")
        assert request.transport is not None
        request.transport.close()
        return response

    came = b""
    with pytest.raises(UnreachableError, match="5 missing"):
        async with reading(short) as pieces:
            async for piece in pieces:
                came += piece
    assert came == b"01234"


async def test_what_stops_is_given_up() -> None:
    released = asyncio.Event()

    async def stalls(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=NAMED)
        response.content_length = 10
        await response.prepare(request)
        await response.write(b"01234")
        await released.wait()
        return response

    async with reading(stalls) as pieces:
        with pytest.raises(UnreachableError, match="no bytes came any more"):
            async for _ in pieces:
                pass
        released.set()


async def test_more_than_was_asked_for_is_not_handed_on() -> None:
    async with reading(saying(200), 0, 4) as pieces:
        assert b"".join([piece async for piece in pieces]) == b"0123"
    async with reading(saying(206, content_range="bytes 0-9/10"), 0, 4) as pieces:
        assert b"".join([piece async for piece in pieces]) == b"0123"


async def test_a_gateway_that_gives_no_head_has_nothing() -> None:
    released = asyncio.Event()

    async def silent(_request: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with serving(answering(silent)) as base, aiohttp.ClientSession() as session:
        with pytest.raises(NotFoundError, match="nobody in the swarm"):
            async with open_file(session, base, CID, 0, None, head_s=0.1, stall_s=0.1):
                pass
        released.set()


async def test_nobody_there_is_unreachable() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(UnreachableError):
            async with open_file(session, URL("http://127.0.0.1:1"), CID, 0, None, head_s=1, stall_s=1):
                pass


async def test_a_file_that_comes_may_take_longer_than_a_request_does_otherwise() -> None:
    async def steady(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=NAMED | {"Content-Length": "10"})
        await response.prepare(request)
        for _ in range(10):
            await response.write(b"x")
            await asyncio.sleep(0.03)
        return response

    limited = aiohttp.ClientTimeout(total=0.15)  # by default it is five minutes
    async with (
        serving(answering(steady)) as base,
        aiohttp.ClientSession(timeout=limited) as session,
        open_file(session, base, CID, 0, None, head_s=5.0, stall_s=5.0) as pieces,
    ):
        assert b"".join([piece async for piece in pieces]) == b"x" * 10
