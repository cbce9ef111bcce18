"""What every IPFS network must do, whatever is behind it. A new one joins with one fixture, `network`."""

from dataclasses import dataclass
from typing import Protocol

import pytest

from node.cid import Cid
from node.digest import Digest
from node.errors import DeniedError, NotFoundError
from node.ipfs.contracts import Publishing, Reading
from node.store import Store
from tests.node.contents import MIB, PRIVATE, PUBLIC, content

DATA = content(2 * MIB + 3)


class Both(Reading, Publishing, Protocol):
    """A network that can be read and published to."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network, and the store it publishes from."""

    ipfs: Both
    store: Store


async def read(ipfs: Reading, cid: Cid, start: int = 0, stop: int | None = None) -> bytes:
    async with ipfs.open(cid, start, stop) as pieces:
        return b"".join([piece async for piece in pieces])


class NetworkContract:
    """The suite; subclass it beside a fixture `network`."""

    async def test_what_was_added_can_be_read(self, network: Network) -> None:
        holding = await network.store.put(Digest.of(DATA), DATA, PUBLIC)
        cid = await network.ipfs.add(holding.digest)
        assert cid == holding.cid
        assert await network.ipfs.has(cid)
        assert await read(network.ipfs, cid) == DATA

    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (5, None), (MIB - 1, MIB + 1), (0, 10 * MIB), (7, 7)])
    async def test_any_part_can_be_read(self, network: Network, start: int, stop: int | None) -> None:
        holding = await network.store.put(Digest.of(DATA), DATA, PUBLIC)
        cid = await network.ipfs.add(holding.digest)
        assert await read(network.ipfs, cid, start, stop) == DATA[start:stop]

    async def test_what_is_not_there_is_not_found_on_entry(self, network: Network) -> None:
        absent = Cid.of(b"absent")
        assert not await network.ipfs.has(absent)
        with pytest.raises(NotFoundError):
            await read(network.ipfs, absent)

    async def test_what_the_store_does_not_hold_cannot_be_added(self, network: Network) -> None:
        with pytest.raises(NotFoundError):
            await network.ipfs.add(Digest.of(b"absent"))

    async def test_private_blobs_are_never_added(self, network: Network) -> None:
        await network.store.put(Digest.of(DATA), DATA, PRIVATE)
        with pytest.raises(DeniedError):
            await network.ipfs.add(Digest.of(DATA))

    async def test_withdrawing_what_is_not_offered_is_no_error(self, network: Network) -> None:
        await network.ipfs.withdraw(Cid.of(b"absent"))
        assert not await network.ipfs.has(Cid.of(b"absent"))

    async def test_a_network_that_works_is_healthy(self, network: Network) -> None:
        assert await network.ipfs.health()
