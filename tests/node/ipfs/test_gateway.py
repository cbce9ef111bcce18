"""The client of gateways, against ours and against such as misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from node.digest import Digest
from node.errors import MismatchError, NotFoundError, UnreachableError
from node.ipfs.gateway import AnswerError, GatewayClient
from node.ipfs.kubo.files import open_file
from node.serve import gateway_routes
from node.store import Store
from node.unixfs import build_dag
from tests.node.contents import MIB, PUBLIC, content
from tests.node.gateways import Handler, answering, serving

DATA = content(2 * MIB)
DAG = build_dag(len(DATA), b"".join(bytes.fromhex(Digest.of(DATA[at : at + MIB]).hex) for at in (0, MIB)))


@asynccontextmanager
async def asking(handler: Handler) -> AsyncIterator[tuple[GatewayClient, URL]]:
    async with serving(answering(handler)) as base, aiohttp.ClientSession() as session:
        yield GatewayClient(session, answer_s=0.5), base


async def body(client: GatewayClient, base: URL, start: int, stop: int) -> bytes:
    async with aclosing(client.body(base, DAG.root, start, stop, stall_s=0.2)) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_our_own_gateway_gives_blocks_and_ranges(store: Store) -> None:
    await store.put(Digest.of(DATA), DATA, PUBLIC)
    routes = gateway_routes(store, lambda _request, _visibility: True)
    async with serving(routes) as base, aiohttp.ClientSession() as session:
        client = GatewayClient(session)
        assert await client.probe(base)
        assert await client.block(base, DAG.root) == DAG.interior[0][1]
        assert await client.block(base, DAG.leaf(1).cid) == DATA[MIB:]
        assert await body(client, base, 5, MIB + 5) == DATA[5 : MIB + 5]
        assert await body(client, base, 5, 5) == b""


async def test_a_gateway_that_ignores_ranges_is_read_up_to_what_is_wanted() -> None:
    async def whole(_request: web.Request) -> web.Response:
        return web.Response(body=DATA)

    async with asking(whole) as (client, base):
        assert await body(client, base, 100, 1000) == DATA[100:1000]


async def test_other_bytes_than_the_cid_names_are_a_mismatch() -> None:
    async def lie(_request: web.Request) -> web.Response:
        return web.Response(body=b"a lie")

    async with asking(lie) as (client, base):
        with pytest.raises(MismatchError, match="hash to something else"):
            await client.block(base, DAG.root)


async def test_a_block_without_end_is_given_up() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(MIB))

    async with asking(endless) as (client, base):
        with pytest.raises(MismatchError, match="more than"):
            await client.block(base, DAG.root)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, NotFoundError),
        (401, NotFoundError),
        (412, NotFoundError),
        (429, UnreachableError),
        (503, UnreachableError),
    ],
)
async def test_a_refusal_is_told_apart_from_trouble(status: int, error: type[Exception]) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with asking(refuse) as (client, base):
        with pytest.raises(error):
            await client.block(base, DAG.root)
        with pytest.raises(error):
            await body(client, base, 0, 10)
        assert not await client.probe(base)


async def test_a_redirect_is_not_followed() -> None:
    async def redirect(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})

    async with asking(redirect) as (client, base):
        with pytest.raises(UnreachableError, match="302"):
            await client.block(base, DAG.root)


@pytest.mark.parametrize("said", [None, "bytes 0-9/100", "bytes 10-20/100", "nonsense"])
async def test_another_range_is_a_mismatch(said: str | None) -> None:
    async def other(_request: web.Request) -> web.Response:
        return web.Response(status=206, body=bytes(10), headers={"Content-Range": said} if said else None)

    async with asking(other) as (client, base):
        with pytest.raises(MismatchError, match="another range"):
            await body(client, base, 10, 20)


async def test_more_bytes_than_asked_for_are_a_mismatch() -> None:
    async def more(_request: web.Request) -> web.Response:
        return web.Response(status=206, body=bytes(11), headers={"Content-Range": "bytes 10-19/100"})

    async with asking(more) as (client, base):
        with pytest.raises(MismatchError, match="more bytes"):
            await body(client, base, 10, 20)


@pytest.mark.parametrize("end", ["cut", "stall", "short"])
async def test_a_body_that_does_not_go_on_is_unreachable_behind_what_came(end: str) -> None:
    gone = asyncio.Event()

    async def partial(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=206, headers={"Content-Range": "bytes 0-99/100"})
        response.content_length = None if end == "short" else 100
        await response.prepare(request)
        await response.write(b"x" * 40)
        if end == "stall":
            await gone.wait()
        elif end == "cut" and request.transport:
            request.transport.close()
        return response

    async with asking(partial) as (client, base):
        came = b""
        with pytest.raises(UnreachableError):
            async with aclosing(client.body(base, DAG.root, 0, 100, stall_s=0.2)) as pieces:
                async for piece in pieces:
                    came += piece
        gone.set()
    assert came == b"x" * 40


async def test_an_encoded_body_is_a_mismatch() -> None:
    async def encoded(_request: web.Request) -> web.Response:
        return web.Response(body=b"??", headers={"Content-Encoding": "br"})

    async with serving(answering(encoded)) as base, aiohttp.ClientSession(auto_decompress=False) as session:
        with pytest.raises(MismatchError, match="encoded"):
            await GatewayClient(session).block(base, DAG.root)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, {"Content-Encoding": "gzip", "Content-Range": f"bytes 0-{MIB - 1}/{2 * MIB}"}),
        (206, {"Content-Range": "bytes 0-99/8388608"}),
        (206, {"Content-Range": f"bytes 0-{MIB - 1}/{2 * MIB}"}),  # of a body of three bytes
    ],
)
async def test_an_answer_of_another_shape_is_no_lie_of_our_own_gateway(status: int, headers: dict[str, str]) -> None:
    async def odd(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=b"???", headers=headers)

    async with serving(answering(odd)) as base, aiohttp.ClientSession(auto_decompress=False) as session:
        for own, error in ((False, AnswerError), (True, UnreachableError)):
            with pytest.raises(error):
                async with GatewayClient(session, own=own).blocks(base, DAG.root, 0, MIB):
                    pass


async def test_other_bytes_are_a_mismatch_of_our_own_gateway_as_well() -> None:
    async def wrong(_request: web.Request) -> web.Response:
        return web.Response(body=b"something else")

    async with serving(answering(wrong)) as base, aiohttp.ClientSession() as session:
        with pytest.raises(MismatchError) as caught:
            await GatewayClient(session, own=True).block(base, DAG.root)
        assert not isinstance(caught.value, AnswerError)


async def test_nobody_there_is_unreachable_and_no_gateway() -> None:
    async with aiohttp.ClientSession() as session:
        client = GatewayClient(session)
        with pytest.raises(UnreachableError):
            await client.block(URL("http://127.0.0.1:1"), DAG.root)
        assert not await client.probe(URL("http://127.0.0.1:1"))


@pytest.mark.parametrize("host", ["....", "kubo..test", "k" * 64 + ".test"])
async def test_what_is_no_host_name_is_unreachable_and_no_gateway(host: str) -> None:
    async with aiohttp.ClientSession() as session:
        client, url = GatewayClient(session), URL.build(scheme="http", host=host, port=80)
        with pytest.raises(UnreachableError):
            await client.block(url, DAG.root)
        with pytest.raises(UnreachableError):
            async with open_file(session, url, DAG.root, 0, None, head_s=1.0, stall_s=1.0):
                pass
        assert not await client.probe(url)
