"""Every IPFS network, held to the same contract."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.ipfs.embedded import Embedded
from node.ipfs.ipfshttpclient.network import open_ipfshttpclient
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.kubo import Timings, open_kubo
from node.store import open_store
from tests.contracts.networks import DaemonContract, NetworkContract, Published
from tests.fakes.kubo import fake_kubo
from tests.kubo.daemon import Kubo

QUICK = Timings(swarm_s=0.5, pin_stall_s=0.5)


class TestEmbedded(NetworkContract):
    """The network without a daemon."""

    @pytest.fixture
    async def network(self, tmp_path: Path) -> AsyncIterator[Published]:
        async with open_store(tmp_path / "data") as store:
            yield Published(Embedded(store), store)


class TestKubo(DaemonContract):
    """A real Kubo."""

    @pytest.fixture
    async def network(self, tmp_path: Path, kubo: Kubo) -> AsyncIterator[Published]:
        async with (
            open_store(tmp_path / "data") as store,
            open_kubo(store, Endpoint(kubo.rpc, gateway=kubo.gateway), QUICK) as network,
        ):
            await network.health()
            yield Published(network, store)


class TestIpfsHttpClient(DaemonContract):
    """A real Kubo, by way of ipfshttpclient."""

    @pytest.fixture
    async def network(self, tmp_path: Path, kubo: Kubo) -> AsyncIterator[Published]:
        async with (
            open_store(tmp_path / "data") as store,
            open_ipfshttpclient(store, Endpoint(kubo.rpc), QUICK) as network,
        ):
            await network.health()
            yield Published(network, store)


class TestFakeKubo(DaemonContract):
    """The Kubo of the wire tests."""

    @pytest.fixture
    async def network(self, tmp_path: Path) -> AsyncIterator[Published]:
        async with (
            fake_kubo() as fake,
            open_store(tmp_path / "data") as store,
            open_kubo(store, Endpoint(fake.rpc), QUICK) as network,
        ):
            await network.health()
            yield Published(network, store)


class TestIpfsHttpClientOnFakeKubo(DaemonContract):
    """The same library before the Kubo of the wire tests."""

    @pytest.fixture
    async def network(self, tmp_path: Path) -> AsyncIterator[Published]:
        async with (
            fake_kubo() as fake,
            open_store(tmp_path / "data") as store,
            open_ipfshttpclient(store, Endpoint(fake.rpc), QUICK) as network,
        ):
            await network.health()
            yield Published(network, store)
