"""How listeners stop: answers under way may finish, for a while."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession, StreamReader, web

from facade.cli.serving import serving
from facade.cli.sockets import Listener, bound
from facade.settings import Address

LIMIT_S = 5.0


class Slow:
    """Answers with one byte at once, and the second when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.told_to_stop = asyncio.Event()
        self.app = web.Application()
        self.app.router.add_get("/", self.answer)
        self.app.on_shutdown.append(self.on_shutdown)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "2"})
        await response.prepare(request)
        await response.write(b"a")
        await self.go_on.wait()
        await response.write(b"b")
        return response

    async def on_shutdown(self, _: web.Application) -> None:
        self.told_to_stop.set()


@pytest.fixture
def listeners() -> Iterator[dict[str, Listener]]:
    """One listening socket."""
    with bound({"facade": Address("127.0.0.1", 0)}) as listeners:
        yield listeners


@asynccontextmanager
async def half_an_answer(listeners: dict[str, Listener]) -> AsyncIterator[tuple[ClientSession, StreamReader]]:
    """A client that has got the first byte."""
    address = listeners["facade"].address
    async with ClientSession() as session, session.get(f"http://{address}/") as response:
        assert await response.content.readexactly(1) == b"a"
        yield session, response.content


async def test_an_answer_under_way_finishes_while_nobody_new_is_let_in(listeners: dict[str, Listener]) -> None:
    slow, stop = Slow(), asyncio.Event()

    async def serve() -> None:
        async with serving({"facade": slow.app}, listeners, asyncio.Event()):
            await stop.wait()

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        served = group.create_task(serve())
        async with half_an_answer(listeners) as (session, body):
            stop.set()
            await slow.told_to_stop.wait()
            with pytest.raises(ClientConnectionError):
                await session.get(f"http://{listeners['facade'].address}/")
            slow.go_on.set()
            assert await body.read() == b"b"
            await served


@pytest.mark.parametrize("how", ["grace is over", "second signal"])
async def test_what_does_not_finish_is_cut(listeners: dict[str, Listener], how: str) -> None:
    slow, cut = Slow(), asyncio.Event()
    grace_s = 0.1 if how == "grace is over" else 60.0
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving({"facade": slow.app}, listeners, cut, grace_s):
            await stop.wait()

    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        group.create_task(serve())
        async with half_an_answer(listeners) as (_, body):
            stop.set()
            if how == "second signal":
                cut.set()
            with pytest.raises(ClientPayloadError):
                await body.read()
