"""Uploads to a daemon that is slow, or wrong in some way that only a socket shows."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from yarl import URL

from node.cid import Cid
from node.errors import UnreachableError
from node.ipfs.kubo.adding import add
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.rpc import Rpc, open_session
from node.sending import HasFileno
from tests.node.contents import MIB

NAMED = Cid.of(b"slowly")
STALL_S = 1.0
_TAKEN = 512 * 1024


@asynccontextmanager
async def taking(*, pause_s: float, most: int | None = None) -> AsyncIterator[URL]:
    """A daemon that takes half a MiB of an upload at a time, and nothing any more behind `most` bytes."""
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")).split()[1])
        stop = 0 if most is None else left - most
        while left > stop:
            left -= len(await reader.read(min(_TAKEN, left)))
            await asyncio.sleep(pause_s)
        if not left:
            await asyncio.sleep(2 * STALL_S)  # it writes what it has not written yet
            body = f'{{"Name":"blob","Hash":"{NAMED}","Size":"1"}}\n'
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            writer.write(head + body.encode())
        await over.wait()
        writer.close()

    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    async with await asyncio.start_server(answer, sock=listening, limit=_TAKEN):
        try:
            yield URL(f"http://127.0.0.1:{listening.getsockname()[1]}")
        finally:
            over.set()


async def upload(to: URL, folder: Path, size: int) -> Cid:
    (folder / "file").write_bytes(bytes(size))
    endpoint = Endpoint(to)
    with (folder / "file").open("rb") as file:
        async with asyncio.timeout(60), open_session(endpoint, pooled=False) as session:
            return await add(Rpc(endpoint, session), file, size, pin_name="name", stall_s=STALL_S)


async def test_a_daemon_that_takes_a_file_slowly_gets_all_of_it(tmp_path: Path) -> None:
    async with taking(pause_s=0.1) as daemon:
        assert await upload(daemon, tmp_path, 16 * MIB) == NAMED


async def test_a_daemon_that_takes_nothing_any_more_is_given_up(tmp_path: Path) -> None:
    async with taking(pause_s=0.0, most=MIB) as daemon:
        with pytest.raises(UnreachableError, match="takes no more of an upload: is it frozen"):
            await upload(daemon, tmp_path, 64 * MIB)


@dataclass
class Met:
    """A daemon that breaks each connection behind some bytes, or takes all that comes."""

    rpc: URL
    connections: int = 0


@asynccontextmanager
async def meeting(*, cut_behind: int | None = None) -> AsyncIterator[Met]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.connections += 1
        taken = 0
        while (cut_behind is None or taken < cut_behind) and (piece := await reader.read(_TAKEN)):
            taken += len(piece)
        if cut_behind is not None:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        met = Met(URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        yield met


async def refusal(rpc: URL, file: HasFileno, size: int) -> str:
    endpoint = Endpoint(rpc)
    async with asyncio.timeout(20), open_session(endpoint, pooled=False) as session:
        with pytest.raises(UnreachableError) as caught:
            await add(Rpc(endpoint, session), file, size, pin_name="name", stall_s=STALL_S)
    return str(caught.value)


@pytest.mark.parametrize("size", [100, MIB, 9 * MIB])
async def test_a_blob_that_cannot_be_read_is_not_blamed_on_the_daemon_nor_tried_again(
    tmp_path: Path, size: int
) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    with (tmp_path / "file").open("ab", buffering=0) as file:  # for writing alone
        async with meeting() as daemon:
            said = await refusal(daemon.rpc, file, size)
    assert said == "the blob cannot be read: Bad file descriptor"
    assert daemon.connections == 1


async def test_a_connection_that_breaks_twice_is_told_without_the_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(64 * MIB))
    with (tmp_path / "file").open("rb") as file:
        async with meeting(cut_behind=MIB) as daemon:
            said = await refusal(daemon.rpc, file, 64 * MIB)
    assert said.startswith(f"Kubo at {daemon.rpc} broke off: ") and daemon.connections == 2
    assert "?" not in said and "/api/v0" not in said and len(said) < 120
