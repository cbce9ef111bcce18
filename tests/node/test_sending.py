"""Files sent by the kernel, in one go, by threads, to clients that are slow, leave, or are cut."""

import asyncio
import hashlib
import os
import resource
import selectors
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from threading import Event

import pytest

from node.sending import FileCopier, FileError, FileSender

MIB = 1024 * 1024
SIZES = (0, 1, MIB, MIB + 1, 40 * MIB)


@asynccontextmanager
async def _connected() -> AsyncIterator[tuple[asyncio.Transport, socket.socket]]:
    """The transport of a server's connection, and the client's non-blocking end of it."""
    met: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(writer.transport, asyncio.Transport)
        met.set_result(writer.transport)
        await asyncio.wait([closed])

    closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with socket.socket() as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, server.sockets[0].getsockname())
        transport = await met
        try:
            yield transport, client
        finally:
            transport.abort()
            closed.set_result(None)
            server.close()
            await server.wait_closed()


async def _read(client: socket.socket, size: int, at_pause: Callable[[], Awaitable[None]] | None = None) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await asyncio.get_running_loop().sock_recv(client, MIB)
        if not piece:
            break
        data += piece
        if at_pause and len(data) > size // 2:
            await at_pause()
            at_pause = None
    return bytes(data)


def _file(folder: Path, size: int) -> Path:
    path = folder / "file"
    path.write_bytes(hashlib.shake_256(b"sending").digest(size))
    return path


@pytest.mark.parametrize("size", SIZES)
async def test_every_size_arrives_whole_behind_what_was_written_before(tmp_path: Path, size: int) -> None:
    path = _file(tmp_path, size + 10)
    async with _connected() as (transport, client):
        with path.open("rb") as file:
            transport.write(b"head")
            sender = FileSender(transport, file, 5, size)
            _, data = await asyncio.gather(sender.run(), _read(client, size + 4))
        holds_back = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK)
    assert not holds_back  # the next answer's head is short
    assert data == b"head" + path.read_bytes()[5 : size + 5] and sender.sent == size


async def test_a_slow_client_gives_the_thread_back_and_still_gets_all(tmp_path: Path) -> None:
    path = _file(tmp_path, 24 * MIB)
    async with _connected() as (transport, client):
        with path.open("rb") as file:
            sender = FileSender(transport, file, 0, 24 * MIB)
            _, data = await asyncio.gather(sender.run(), _read(client, 24 * MIB, lambda: asyncio.sleep(0.1)))
    assert data == path.read_bytes()


async def test_a_client_that_leaves_ends_the_sending(tmp_path: Path) -> None:
    path = _file(tmp_path, 40 * MIB)
    async with _connected() as (transport, client):
        with path.open("rb") as file:
            sending = asyncio.ensure_future(FileSender(transport, file, 0, 40 * MIB).run())
            await _read(client, MIB)
            client.close()
            with pytest.raises(ConnectionError) as caught:
                await asyncio.wait_for(sending, 10)
            assert not isinstance(caught.value, FileError)


async def test_a_client_that_leaves_before_the_first_byte_went_ends_the_sending(tmp_path: Path) -> None:
    path = _file(tmp_path, MIB)
    async with _connected() as (transport, client):
        with suppress(BlockingIOError):
            while True:
                os.write(transport.get_extra_info("socket").fileno(), bytes(MIB))  # it takes nothing any more
        with path.open("rb") as file:
            sending = asyncio.ensure_future(FileSender(transport, file, 0, MIB).run())
            await asyncio.sleep(0)
            client.close()
            with pytest.raises(ConnectionError) as caught:
                await asyncio.wait_for(sending, 10)
            assert not isinstance(caught.value, FileError)


async def test_sending_that_is_cancelled_leaves_no_thread_behind(tmp_path: Path) -> None:
    path = _file(tmp_path, 40 * MIB)
    async with _connected() as (transport, client):
        with path.open("rb") as file:
            sender = FileSender(transport, file, 0, 40 * MIB)
            sending = asyncio.ensure_future(sender.run())
            await _read(client, MIB)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(sending, 10)
    assert MIB <= sender.sent < 40 * MIB


async def test_a_file_that_ended_early_is_told_by_what_was_sent(tmp_path: Path) -> None:
    path = _file(tmp_path, 3 * MIB)
    async with _connected() as (transport, client):
        with path.open("rb") as file:
            sender = FileSender(transport, file, 0, 9 * MIB)
            await asyncio.gather(sender.run(), _read(client, 3 * MIB))
    assert sender.sent == 3 * MIB


async def test_a_file_that_cannot_be_read_is_told_as_that(tmp_path: Path) -> None:
    path = _file(tmp_path, 3 * MIB)

    async def write(_piece: bytes) -> None:
        pytest.fail("there is nothing to be written")

    async with _connected() as (transport, _):
        with path.open("ab", buffering=0) as file:  # for writing alone
            for sender in (FileSender(transport, file, 0, 3 * MIB), FileCopier(write, file, 0, 3 * MIB)):
                with pytest.raises(FileError, match="the file cannot be read: Bad file descriptor"):
                    await sender.run()


async def test_without_a_descriptor_to_be_had_the_sending_fails_as_if_the_client_had_gone(tmp_path: Path) -> None:
    path, (soft, hard) = _file(tmp_path, 40 * MIB), resource.getrlimit(resource.RLIMIT_NOFILE)
    async with _connected() as (transport, client):
        with path.open("rb") as file:
            await asyncio.gather(FileSender(transport, file, 0, 2 * MIB).run(), _read(client, 2 * MIB))
            sending = asyncio.ensure_future(FileSender(transport, file, 0, 40 * MIB).run())
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                with pytest.raises(ConnectionError):
                    await asyncio.wait_for(sending, 10)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _read_evenly(clients: Sequence[socket.socket], size: int) -> dict[socket.socket, int]:
    """Take a little from each in turn; how many bytes each had when the first had all, and read on to the end."""
    had = dict.fromkeys(clients, 0)
    when_first_ended: dict[socket.socket, int] = {}
    with selectors.DefaultSelector() as ready:
        for each in clients:
            ready.register(each, selectors.EVENT_READ, each)
        while ready.get_map():
            for key, _ in ready.select(10):
                client: socket.socket = key.data
                had[client] += len(client.recv(MIB // 4))
                if had[client] == size:
                    when_first_ended = when_first_ended or dict(had)
                    ready.unregister(client)
    return when_first_ended


async def test_of_many_clients_that_read_alike_none_is_served_before_the_others(tmp_path: Path) -> None:
    """One thread serves all, and begins once all wait, so the order is that of their turns and not the machine's."""
    count, size, loop = 24, 24 * MIB, asyncio.get_running_loop()
    path, gate, readers = tmp_path / "file", Event(), ThreadPoolExecutor(1)
    path.touch()
    loop.set_default_executor(ThreadPoolExecutor(1))
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        stack.callback(readers.shutdown)
        file = stack.enter_context(path.open("r+b"))
        file.truncate(size)
        ends = [await stack.enter_async_context(_connected()) for _ in range(count)]
        held = asyncio.ensure_future(asyncio.to_thread(gate.wait, 60))
        sending = [asyncio.ensure_future(FileSender(transport, file, 0, size).run()) for transport, _ in ends]
        await asyncio.sleep(0)  # each has begun, and waits for its first turn
        gate.set()
        had = await loop.run_in_executor(readers, _read_evenly, [client for _, client in ends], size)
        await asyncio.gather(held, *sending)
    assert min(had.values()) > size // 3


async def test_clients_that_take_nothing_keep_nobody_else_waiting(tmp_path: Path) -> None:
    path = _file(tmp_path, 40 * MIB)
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        file = stack.enter_context(path.open("rb"))
        idle = [await stack.enter_async_context(_connected()) for _ in range(12)]
        stuck = [asyncio.ensure_future(FileSender(transport, file, 0, 40 * MIB).run()) for transport, _ in idle]
        transport, client = await stack.enter_async_context(_connected())
        sender = FileSender(transport, file, 0, 40 * MIB)
        _, data = await asyncio.gather(sender.run(), _read(client, 40 * MIB))
        still = [each for each in stuck if not each.done()]
        for each in stuck:
            each.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
    assert data == path.read_bytes() and len(still) == len(idle)


async def test_a_client_that_pauses_gets_the_rest_when_it_reads_on(tmp_path: Path) -> None:
    path = _file(tmp_path, 24 * MIB)
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        file = stack.enter_context(path.open("rb"))
        paused, slow = await stack.enter_async_context(_connected())
        sending = asyncio.ensure_future(FileSender(paused, file, 0, 24 * MIB).run())
        quick, client = await stack.enter_async_context(_connected())
        await asyncio.gather(FileSender(quick, file, 0, 24 * MIB).run(), _read(client, 24 * MIB))
        data, _ = await asyncio.gather(_read(slow, 24 * MIB), sending)
    assert data == path.read_bytes()
