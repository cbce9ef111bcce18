"""Every IPFS network, held to the same contract."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from node.cid import Cid
from node.ipfs.embedded import Embedded
from node.ipfs.gateway import GatewayClient
from node.ipfs.ipfshttpclient.network import open_ipfshttpclient
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.kubo import OnDaemon, Timings, open_kubo
from node.ipfs.reading import GatewayReading
from node.serve import gateway_routes
from node.store import Store, open_store
from node.visibility import Visibility
from tests.contracts.networks import DaemonContract, NetworkContract, Published
from tests.fakes.kubo import fake_kubo
from tests.kubo.daemon import Kubo
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


class _Behind(Embedded):
    """A store that is published by a node's own gateway, and read through it by another node."""

    def __init__(self, store: Store, reading: GatewayReading) -> None:
        super().__init__(store)
        self._reading = reading

    @asynccontextmanager
    async def open(self, cid: Cid, start: int = 0, stop: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._reading.open(cid, start, stop) as pieces:
            yield pieces

    async def has(self, cid: Cid) -> bool:
        return await self._reading.has(cid)


class TestGateway(NetworkContract):
    """A gateway that answers with what can be verified alone, read block by block."""

    @pytest.fixture
    async def network(self, tmp_path: Path) -> AsyncIterator[Published]:
        async with open_store(tmp_path / "data") as store, aiohttp.ClientSession() as session:
            client = GatewayClient(session)
            routes = gateway_routes(store, lambda _request, visibility: visibility is Visibility.PUBLIC, strict=True)
            async with serving(routes) as base:

                async def having(cid: Cid) -> list[URL]:
                    return [base] if await client.has(base, cid) else []

                yield Published(_Behind(store, GatewayReading(client, having)), store)
