"""What every IPFS network must do, whatever is behind it. A new one joins with one fixture, `network`.

What can only be read joins `ReadingContract` with a fixture `readable`.
"""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import pytest

from node.cid import Cid
from node.digest import Digest
from node.errors import DeniedError, NotFoundError
from node.ipfs.contracts import Blocks, Network, Pin, Pinning, Reading
from node.store import Store
from node.unixfs import Dag
from tests.fakes.peer import dag_of
from tests.node.contents import MEMBERS, MIB, PRIVATE, PUBLIC, content

DATA = content(2 * MIB + 3)


@dataclass(frozen=True, slots=True)
class Published:
    """A network, and the store it publishes from."""

    ipfs: Network
    store: Store


class ReadingBlocks(Reading, Blocks, Protocol):
    """What files and their blocks are read from."""


@dataclass(frozen=True, slots=True)
class Readable:
    """Something that is read; `keep` has it have a file of this node's profile."""

    ipfs: ReadingBlocks
    keep: Callable[[bytes], Awaitable[None]]

    async def having(self, data: bytes) -> Dag:
        """Have it have a file; what that is."""
        await self.keep(data)
        return dag_of(data)


async def read(ipfs: Reading, cid: Cid, start: int = 0, stop: int | None = None) -> bytes:
    """A part of a file."""
    async with ipfs.open(cid, start, stop) as pieces:
        return b"".join([piece async for piece in pieces])


async def pinned(ipfs: Pinning) -> set[Pin]:
    """Everything that is pinned for the node."""
    async with aclosing(ipfs.pins()) as pins:
        return {pin async for pin in pins}


class ReadingContract:
    """The suite for whatever is read."""

    async def test_a_file_that_is_there_can_be_read(self, readable: Readable) -> None:
        dag = await readable.having(DATA)
        assert await readable.ipfs.has(dag.root)
        assert await read(readable.ipfs, dag.root) == DATA

    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (5, None), (MIB - 1, MIB + 1), (0, 10 * MIB), (7, 7)])
    async def test_any_part_can_be_read(self, readable: Readable, start: int, stop: int | None) -> None:
        dag = await readable.having(DATA)
        assert await read(readable.ipfs, dag.root, start, stop) == DATA[start:stop]

    async def test_what_is_not_there_is_not_found_on_entry(self, readable: Readable) -> None:
        absent = Cid.of(b"absent")
        assert not await readable.ipfs.has(absent)
        with pytest.raises(NotFoundError):
            await read(readable.ipfs, absent)

    @pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1])
    async def test_files_of_any_size_are_read_whole_and_block_by_block(self, readable: Readable, size: int) -> None:
        data = content(size, "blocks")
        dag = await readable.having(data)
        assert await readable.ipfs.has(dag.root)
        assert await read(readable.ipfs, dag.root) == data
        assert await readable.ipfs.block(dag.root) == (dag.interior[-1][1] if dag.interior else data)
        leaf = dag.leaf(dag.leaf_count - 1)
        assert await readable.ipfs.block(leaf.cid) == data[leaf.offset :]

    async def test_a_block_that_is_not_there_is_not_found(self, readable: Readable) -> None:
        with pytest.raises(NotFoundError):
            await readable.ipfs.block(Cid.of(b"absent"))


class NetworkContract(ReadingContract):
    """The suite; subclass it beside a fixture `network`."""

    @pytest.fixture
    def readable(self, network: Published) -> Readable:
        async def keep(data: bytes) -> None:
            await network.ipfs.add((await network.store.put(Digest.of(data), data, PUBLIC)).digest)

        return Readable(network.ipfs, keep)

    @pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1])
    async def test_what_is_added_has_the_name_that_the_store_gives_it(self, network: Published, size: int) -> None:
        data = content(size, "sized")
        holding = await network.store.put(Digest.of(data), data, PUBLIC)
        assert await network.ipfs.add(holding.digest) == holding.cid == dag_of(data).root

    async def test_what_the_store_does_not_hold_cannot_be_added(self, network: Published) -> None:
        with pytest.raises(NotFoundError):
            await network.ipfs.add(Digest.of(b"absent"))

    async def test_private_blobs_are_never_added(self, network: Published) -> None:
        await network.store.put(Digest.of(DATA), DATA, PRIVATE)
        with pytest.raises(DeniedError):
            await network.ipfs.add(Digest.of(DATA))

    async def test_withdrawing_what_is_not_offered_is_no_error(self, network: Published) -> None:
        await network.ipfs.withdraw(Cid.of(b"absent"))
        assert not await network.ipfs.has(Cid.of(b"absent"))

    async def test_what_was_added_is_pinned_under_its_digest(self, network: Published) -> None:
        holding = await network.store.put(Digest.of(DATA), DATA, PUBLIC)
        await network.ipfs.add(holding.digest)
        assert await pinned(network.ipfs) == {Pin(holding.cid, holding.digest)}

    async def test_adding_and_pinning_again_is_no_error(self, network: Published) -> None:
        holding = await network.store.put(Digest.of(DATA), DATA, PUBLIC)
        for _ in range(2):
            assert await network.ipfs.add(holding.digest) == holding.cid
        for _ in range(2):
            await network.ipfs.pin(holding.cid)
        assert [pin.cid for pin in await pinned(network.ipfs)] == [holding.cid]

    async def test_what_nobody_has_cannot_be_pinned(self, network: Published) -> None:
        with pytest.raises(NotFoundError):
            await network.ipfs.pin(Cid.of(b"absent"))
        assert await pinned(network.ipfs) == set()

    async def test_unpinning_what_is_not_pinned_is_no_error(self, network: Published) -> None:
        await network.ipfs.unpin(Cid.of(b"absent"))
        assert await pinned(network.ipfs) == set()

    async def test_a_network_that_works_is_healthy(self, network: Published) -> None:
        health = await network.ipfs.health()
        assert health.trouble is None and not health.notes


class DaemonContract(NetworkContract):
    """The suite for networks behind a daemon, where blobs leave the node."""

    async def test_what_members_share_is_not_added(self, network: Published) -> None:
        await network.store.put(Digest.of(DATA), DATA, MEMBERS)
        with pytest.raises(DeniedError):
            await network.ipfs.add(Digest.of(DATA))

    async def test_what_is_withdrawn_is_pinned_no_longer(self, network: Published) -> None:
        holding = await network.store.put(Digest.of(DATA), DATA, PUBLIC)
        await network.ipfs.add(holding.digest)
        await network.ipfs.withdraw(holding.cid)
        assert await pinned(network.ipfs) == set()

    async def test_what_was_pinned_by_hand_stays_when_it_is_withdrawn(self, network: Published) -> None:
        holding = await network.store.put(Digest.of(DATA), DATA, PUBLIC)
        await network.ipfs.add(holding.digest)
        await network.ipfs.pin(holding.cid)
        await network.ipfs.withdraw(holding.cid)
        assert await pinned(network.ipfs) == {Pin(holding.cid)}
        await network.ipfs.unpin(holding.cid)
        assert await pinned(network.ipfs) == set()
