"""Every IPFS network, held to the same contract."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from node.cid import Cid
from node.digest import Digest
from node.ipfs.embedded import Embedded
from node.ipfs.gateway import AT_HAND, GatewayClient
from node.ipfs.ipfshttpclient.network import open_ipfshttpclient
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.kubo import OnDaemon, Timings, open_kubo
from node.ipfs.reading import GatewayReading
from node.serve import gateway_routes
from node.store import Store, open_store
from node.visibility import Visibility
from tests.contracts.kubos import Daemon
from tests.contracts.networks import DaemonContract, NetworkContract, Published, Readable, ReadingContract
from tests.fakes.kubo import fake_kubo
from tests.kubo.daemon import Kubo
from tests.node.contents import PUBLIC
from tests.node.gateways import serving

QUICK = Timings(swarm_s=0.5, pin_stall_s=0.5)
Opener = Callable[[Store, Endpoint, Timings], AbstractAsyncContextManager[OnDaemon]]


class TestEmbedded(NetworkContract):
    """The network without a daemon."""

    @pytest.fixture
    async def network(self, tmp_path: Path) -> AsyncIterator[Published]:
        async with open_store(tmp_path / "data") as store:
            yield Published(Embedded(store), store)


@asynccontextmanager
async def on_daemon(folder: Path, endpoint: Endpoint, opened: Opener) -> AsyncIterator[Published]:
    """A store that is published by a daemon, which was looked at once."""
    async with open_store(folder) as store, opened(store, endpoint, QUICK) as network:
        await network.health()
        yield Published(network, store)


class TestKubo(DaemonContract):
    """A real Kubo."""

    @pytest.fixture
    async def network(self, tmp_path: Path, kubo: Kubo) -> AsyncIterator[Published]:
        async with on_daemon(tmp_path / "data", Endpoint(kubo.rpc, gateway=kubo.gateway), open_kubo) as published:
            yield published


class TestIpfsHttpClient(DaemonContract):
    """A real Kubo, by way of ipfshttpclient."""

    @pytest.fixture
    async def network(self, tmp_path: Path, kubo: Kubo) -> AsyncIterator[Published]:
        async with on_daemon(tmp_path / "data", Endpoint(kubo.rpc), open_ipfshttpclient) as published:
            yield published


class TestFakeKubo(DaemonContract):
    """The Kubo of the wire tests."""

    @pytest.fixture
    async def network(self, tmp_path: Path) -> AsyncIterator[Published]:
        async with fake_kubo() as fake, on_daemon(tmp_path / "data", Endpoint(fake.rpc), open_kubo) as published:
            yield published


class TestIpfsHttpClientOnFakeKubo(DaemonContract):
    """The same library before the Kubo of the wire tests."""

    @pytest.fixture
    async def network(self, tmp_path: Path) -> AsyncIterator[Published]:
        async with (
            fake_kubo() as fake,
            on_daemon(tmp_path / "data", Endpoint(fake.rpc), open_ipfshttpclient) as published,
        ):
            yield published


class _Through:
    """A gateway, read as a node reads gateways: each block verified, and only what it has at hand."""

    def __init__(self, client: GatewayClient, base: URL) -> None:
        self._client = client
        self._base = base
        self._reading = GatewayReading(client, self._having)

    async def _having(self, cid: Cid) -> list[URL]:
        return [self._base] if await self._client.has(self._base, cid) else []

    def open(
        self, cid: Cid, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._reading.open(cid, start, stop)

    async def has(self, cid: Cid) -> bool:
        return await self._reading.has(cid)

    async def block(self, cid: Cid) -> bytes:
        return await self._client.block(self._base, cid, headers=AT_HAND)


class TestGateway(ReadingContract):
    """A node's own gateway, one that answers with what can be verified alone."""

    @pytest.fixture
    async def readable(self, tmp_path: Path) -> AsyncIterator[Readable]:
        async with open_store(tmp_path / "data") as store, aiohttp.ClientSession() as session:
            routes = gateway_routes(store, lambda _request, visibility: visibility is Visibility.PUBLIC, strict=True)

            async def keep(data: bytes) -> None:
                await store.put(Digest.of(data), data, PUBLIC)

            async with serving(routes) as base:
                yield Readable(_Through(GatewayClient(session), base), keep)


class TestKuboGateway(ReadingContract):
    """The gateway of a real Kubo."""

    @pytest.fixture
    async def readable(self, kubo: Kubo) -> AsyncIterator[Readable]:
        async with aiohttp.ClientSession() as session:

            async def keep(data: bytes) -> None:
                await Daemon(kubo.rpc, kubo.gateway, session, lambda _cid: None, lambda: None).add(data)

            yield Readable(_Through(GatewayClient(session), kubo.gateway), keep)


class TestFakeKuboGateway(ReadingContract):
    """The gateway of the Kubo of the wire tests."""

    @pytest.fixture
    async def readable(self) -> AsyncIterator[Readable]:
        async with fake_kubo() as fake, aiohttp.ClientSession() as session:

            async def keep(data: bytes) -> None:
                fake.keep(data)

            yield Readable(_Through(GatewayClient(session), fake.gateway), keep)
