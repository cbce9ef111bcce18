"""A real Kubo and the fake, held to the same contract."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from node.cid import Cid
from tests.contracts.kubos import Daemon, KuboContract
from tests.fakes.kubo import fake_kubo
from tests.kubo.daemon import Kubo


class TestRealKubo(KuboContract):
    """Kubo itself."""

    @pytest.fixture
    async def daemon(self, kubo: Kubo) -> AsyncIterator[Daemon]:
        def lose(cid: Cid) -> None:
            kubo.call("block/rm", str(cid), force="true")

        async with aiohttp.ClientSession() as session:
            yield Daemon(kubo.rpc, kubo.gateway, session, lose, lambda: kubo.call("repo/gc"))


class TestFake(KuboContract):
    """The one that the wire tests run."""

    @pytest.fixture
    async def daemon(self) -> AsyncIterator[Daemon]:
        async with fake_kubo() as fake, aiohttp.ClientSession() as session:
            yield Daemon(fake.rpc, fake.gateway, session, fake.blocks.__delitem__, fake.collect)
