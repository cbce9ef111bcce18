"""Blocks received by threads, from connections that stall, cut, or have given part of it already."""

import asyncio
import hashlib
import socket
from collections.abc import Iterator

import pytest

from node.errors import UnreachableError
from node.receiving import BlockReceiver

MIB = 1024 * 1024
DATA = hashlib.shake_256(b"receiving").digest(3 * MIB)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


async def test_blocks_come_in_order_with_their_hashes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiver = BlockReceiver(ours, DATA[:1000], stall_s=5, block_s=5)
    sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(theirs, DATA[1000:]))
    for at in range(0, len(DATA), MIB):
        block = DATA[at : at + MIB]
        assert await receiver.block(MIB) == (block, hashlib.sha256(block).digest())
    await sending


async def test_a_block_that_was_read_already_needs_no_connection() -> None:
    receiver = BlockReceiver(None, DATA[:10], stall_s=5, block_s=5)
    assert (await receiver.block(10))[0] == DATA[:10]
    with pytest.raises(UnreachableError, match="cut"):
        await receiver.block(1)


async def test_a_peer_that_stalls_or_cuts_is_unreachable(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiver = BlockReceiver(ours, b"", stall_s=0.05, block_s=5)
    theirs.send(DATA[:10])
    with pytest.raises(UnreachableError, match="stalled"):
        await receiver.block(MIB)
    theirs.close()
    with pytest.raises(UnreachableError, match="cut"):
        await receiver.block(MIB)


async def test_whoever_is_cancelled_leaves_no_thread_waiting(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    waiting = asyncio.ensure_future(BlockReceiver(ours, b"", stall_s=60, block_s=60).block(MIB))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.get_running_loop().shutdown_default_executor()
