"""Blocks received by threads, from connections that stall, cut, or have given part of it already."""

import asyncio
import hashlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from node.errors import MismatchError, UnreachableError
from node.receiving import BlockReceiver, Buffers, StreamReceiver

MIB = 1024 * 1024
DATA = hashlib.shake_256(b"receiving").digest(3 * MIB)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def receiving(
    connection: socket.socket | None, first: bytes = b"", stall_s: float = 5, block_s: float = 5
) -> BlockReceiver:
    return BlockReceiver(connection, first, Buffers(), stall_s, block_s)


async def block(receiver: BlockReceiver, length: int, use: Callable[[memoryview], object] = bytes) -> object:
    (result,) = await receiver.blocks([length], lambda _, data: use(data))
    return result


async def drip(connection: socket.socket) -> None:
    while True:
        connection.send(b"?")
        await asyncio.sleep(0.002)


async def test_blocks_come_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiver = receiving(ours, DATA[:1000])
    sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(theirs, DATA[1000:]))
    for at in range(0, len(DATA), MIB):
        assert await block(receiver, MIB) == DATA[at : at + MIB]
    await sending
    receiver.close()


async def test_blocks_that_come_without_a_pause_are_taken_in_one_turn(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    receiver = receiving(ours, DATA[:15])
    assert await receiver.blocks([10] * 3, lambda index, data: (index, bytes(data))) == [(0, DATA[:10])]
    theirs.send(DATA[15:30])
    later = [DATA[10:20], DATA[20:30]]
    assert await receiver.blocks([10] * 3, lambda _, data: bytes(data)) == later
    receiver.close()


async def test_what_goes_wrong_behind_the_first_block_does_not_lose_it(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    def use(index: int, data: memoryview) -> bytes:
        if bytes(data) == DATA[10:20]:
            raise MismatchError("wrong")
        return bytes(data)

    ours, theirs = pair
    receiver = receiving(ours, DATA[:30])
    assert await receiver.blocks([10] * 3, use) == [DATA[:10]]
    assert isinstance(receiver.failure, MismatchError)
    with pytest.raises(MismatchError, match="wrong"):
        await receiver.blocks([10], use)
    theirs.close()
    assert await receiver.blocks([10] * 2, use) == [DATA[20:30]]
    with pytest.raises(UnreachableError, match="cut"):
        await receiver.blocks([10], use)
    receiver.close()


async def test_what_came_is_told_while_the_block_behind_it_drips(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiver = receiving(ours, DATA[:10], block_s=30)
    dripping = asyncio.ensure_future(drip(theirs))
    async with asyncio.timeout(10):
        assert await receiver.blocks([10, MIB], lambda _, data: bytes(data)) == [DATA[:10]]
    dripping.cancel()
    receiver.close()


async def test_a_block_that_was_read_already_needs_no_connection() -> None:
    receiver = receiving(None, DATA[:10])
    assert await block(receiver, 10) == DATA[:10]
    with pytest.raises(UnreachableError, match="cut"):
        await block(receiver, 1)


async def test_a_peer_that_stalls_or_cuts_is_unreachable(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiver = receiving(ours, stall_s=0.05)
    theirs.send(DATA[:10])
    with pytest.raises(UnreachableError, match="stalled"):
        await block(receiver, MIB)
    theirs.close()
    with pytest.raises(UnreachableError, match="cut"):
        await block(receiver, MIB)
    receiver.close()


async def test_a_peer_that_pauses_is_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiver = receiving(ours)
    theirs.send(DATA[:10])
    waiting = asyncio.ensure_future(block(receiver, 20))
    await asyncio.sleep(0.05)  # longer than a thread waits
    theirs.send(DATA[10:20])
    assert await waiting == DATA[:20]
    receiver.close()


async def test_a_peer_that_drips_is_given_up(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiver = receiving(ours, block_s=0.2)
    dripping = asyncio.ensure_future(drip(theirs))
    with pytest.raises(UnreachableError, match="stalled"):
        await block(receiver, MIB)
    dripping.cancel()
    receiver.close()


async def test_bytes_that_are_not_wanted_are_skipped(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiver, wanted = receiving(ours, DATA[:100]), slice(2 * MIB + 7, 2 * MIB + 12)
    sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(theirs, DATA[100 : wanted.stop]))
    await receiver.skip(wanted.start)
    assert await block(receiver, 5) == DATA[wanted]
    await sending
    receiver.close()


async def pieces(*each: bytes, pause_s: float = 0.0) -> AsyncIterator[bytes]:
    for piece in each:
        await asyncio.sleep(pause_s)
        yield piece


async def test_a_stream_gives_blocks_whatever_pieces_it_comes_in() -> None:
    receiver = StreamReceiver(pieces(DATA[:7], DATA[7 : MIB + 9], DATA[MIB + 9 :]), Buffers(), 5)
    await receiver.skip(5)
    for at in (5, MIB + 5):
        assert await receiver.blocks([MIB, MIB], lambda _, data: bytes(data)) == [DATA[at : at + MIB]]
    with pytest.raises(UnreachableError, match="cut"):
        await receiver.blocks([MIB], lambda _, data: None)


async def test_a_stream_that_drips_or_stalls_is_given_up() -> None:
    async def stalled() -> AsyncIterator[bytes]:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
        yield b""

    for stream, block_s in ((pieces(*[b"?"] * 1000, pause_s=0.01), 0.1), (stalled(), 5.0)):
        receiver = StreamReceiver(stream, Buffers(), block_s)
        with pytest.raises(UnreachableError, match="stalled"):
            await receiver.blocks([MIB], lambda _, data: None)


async def test_what_is_wrong_in_a_stream_is_raised_at_once() -> None:
    def use(_index: int, _data: memoryview) -> None:
        raise MismatchError("wrong")

    with pytest.raises(MismatchError, match="wrong"):
        await StreamReceiver(pieces(DATA[:10]), Buffers(), 5).blocks([10], use)


def test_memory_is_used_again_once_nobody_views_it() -> None:
    buffers = Buffers()
    one = buffers.view(MIB)
    one[:3] = b"one"
    other, kept = buffers.view(MIB), one[:3]
    other[:3] = b"two"
    one.release()
    del other
    buffers.view(10)[:3] = b"new"
    assert bytes(kept) == b"one"


async def test_who_is_cancelled_ends_only_after_the_bytes_were_used(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiver, using, go_on = receiving(ours), threading.Event(), threading.Event()

    def use(_: memoryview) -> None:
        using.set()
        assert go_on.wait(5)

    theirs.send(DATA[:10])
    waiting = asyncio.ensure_future(block(receiver, 10, use))
    await asyncio.to_thread(using.wait, 5)
    for _ in range(2):
        waiting.cancel()
        await asyncio.sleep(0.01)
    assert not waiting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    receiver.close()


async def test_whoever_is_cancelled_leaves_no_thread_waiting(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    receiver = receiving(ours)
    waiting = asyncio.ensure_future(block(receiver, MIB))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    receiver.close()
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_peer_is_not_blamed_when_no_thread_is_free(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiver, go_on = receiving(ours, block_s=0.05), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        pool.submit(go_on.wait, 5)
        waiting = asyncio.ensure_future(block(receiver, 20))
        await asyncio.sleep(0.1)
        theirs.send(DATA[:10])
        go_on.set()
        await asyncio.sleep(0.01)
        theirs.send(DATA[10:20])
        assert await waiting == DATA[:20]
    receiver.close()
