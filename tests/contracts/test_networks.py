"""Every IPFS network, held to the same contract."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.ipfs.embedded import Embedded
from node.store import open_store
from tests.contracts.networks import Network, NetworkContract


class TestEmbedded(NetworkContract):
    """The network without a daemon."""

    @pytest.fixture
    async def network(self, tmp_path: Path) -> AsyncIterator[Network]:
        async with open_store(tmp_path / "data") as store:
            yield Network(Embedded(store), store)
