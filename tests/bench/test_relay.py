"""The relay that makes a link longer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.bench.relay import relay


@asynccontextmanager
async def _far_end() -> AsyncIterator[int]:
    """A server that sends back what it gets, until the end of it."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

    async with asyncio.TaskGroup() as answering:

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answering.create_task(echo(reader, writer))

        async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def _through_the_relay(delay_s: float) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with _far_end() as far, relay("127.0.0.1", 0, "127.0.0.1", far, delay_s) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()


async def test_bytes_pass_unchanged_both_ways_and_more_than_the_window() -> None:
    data = bytes(range(256)) * (40 << 10)

    async with _through_the_relay(0.0) as (reader, writer), asyncio.timeout(20):
        writer.write(data)
        back = await reader.readexactly(len(data))

    assert back == data


async def test_an_upstream_that_refuses_ends_the_connection() -> None:
    async with _far_end() as far:
        pass
    async with relay("127.0.0.1", 0, "127.0.0.1", far, 0.0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
