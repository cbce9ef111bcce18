"""Byte ranges, and bodies sent by the kernel."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import aiohttp
import pytest
import trustme
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from node.http import FileRange, RangeError, parse_range
from tests.node.contents import MIB, content
from tests.node.gateways import answering, serving

DATA = content(3 * MIB + 7)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", range(1)),
        ("bytes=2-5", range(2, 6)),
        ("bytes=2-", range(2, 10)),
        ("bytes=-3", range(7, 10)),
        ("bytes=-30", range(10)),
        ("bytes=2-99999999999999", range(2, 10)),
        ("BYTES=2-5", range(2, 6)),
        ("bytes=0-1,3-4", None),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes", None),
        ("items=0-1", None),
        ("bytes=\u0661-", None),
        ("bytes=" + "9" * 5000 + "-", None),
    ],
)
def test_a_range_is_read_as_the_rfc_says_or_ignored(header: str | None, expected: range | None) -> None:
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=99-100"])
def test_a_range_outside_is_unsatisfiable(header: str) -> None:
    with pytest.raises(RangeError) as caught:
        parse_range(header, 10)
    assert caught.value.size == 10


def test_the_last_bytes_of_nothing_are_nothing() -> None:
    assert parse_range("bytes=-5", 0) is None
    with pytest.raises(RangeError):
        parse_range("bytes=0-", 0)


@given(st.text(max_size=30), st.integers(0, 100))
def test_no_header_breaks_it(header: str, size: int) -> None:
    try:
        found = parse_range(f"bytes={header}", size)
    except RangeError:
        return
    assert found is None or (0 <= found.start < found.stop <= size)


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[BinaryIO]:
    path = tmp_path / "file"
    await asyncio.to_thread(path.write_bytes, b"before" + DATA)
    with await asyncio.to_thread(path.open, "rb") as opened:
        yield opened


def routes(file: BinaryIO, sent: list[int]) -> list[web.RouteDef]:
    async def answer(request: web.Request) -> web.StreamResponse:
        wanted = parse_range(request.headers.get("Range"), len(DATA)) if request.method == "GET" else None
        response = FileRange(file, len(DATA), wanted=wanted, offset=6)
        try:
            await response.prepare(request)
        finally:
            sent.append(response.sent)
        return response

    return answering(answer)


async def test_the_whole_file_a_part_and_its_head_over_one_connection(file: BinaryIO) -> None:
    sent: list[int] = []
    connector = aiohttp.TCPConnector(limit=1)
    async with serving(routes(file, sent)) as base, aiohttp.ClientSession(base, connector=connector) as client:
        async with client.get("/ipfs/x") as answer:
            assert (answer.status, answer.content_length, await answer.read()) == (200, len(DATA), DATA)
        async with client.get("/ipfs/x", headers={"Range": "bytes=1000000-2999999"}) as answer:
            assert answer.status == 206
            assert answer.headers["Content-Range"] == f"bytes 1000000-2999999/{len(DATA)}"
            assert await answer.read() == DATA[1_000_000:3_000_000]
        async with client.head("/ipfs/x") as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(DATA)))
            assert answer.connection is None or answer.connection.transport is not None
        async with client.get("/ipfs/x", headers={"Range": "bytes=-1"}) as answer:
            assert await answer.read() == DATA[-1:]
    assert sent == [len(DATA), 2_000_000, 0, 1]


async def test_over_tls_the_same_bytes_come(file: BinaryIO) -> None:
    authority = trustme.CA()
    server, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(trusting)
    async with (
        serving(routes(file, []), server) as base,
        aiohttp.ClientSession(base) as client,
        client.get("/ipfs/x", headers={"Range": "bytes=5-"}, ssl=trusting) as answer,
    ):
        assert await answer.read() == DATA[5:]


async def test_a_client_that_goes_away_is_no_trouble_for_the_next(file: BinaryIO) -> None:
    sent: list[int] = []
    async with serving(routes(file, sent)) as base:
        reader, writer = await asyncio.open_connection(base.host, base.port, limit=1024)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        writer.write(b"GET /ipfs/x HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readline()
        writer.close()
        async with aiohttp.ClientSession(base) as client, client.get("/ipfs/x") as answer:
            assert await answer.read() == DATA


async def test_a_file_that_is_shorter_than_it_was_cuts_the_body(tmp_path: Path) -> None:
    path = tmp_path / "short"
    await asyncio.to_thread(path.write_bytes, DATA[:MIB])
    with await asyncio.to_thread(path.open, "rb") as file:
        async with (
            serving(routes(file, [])) as base,
            aiohttp.ClientSession(base) as client,
            client.get("/ipfs/x") as answer,
        ):
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
