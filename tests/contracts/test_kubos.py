"""A real Kubo and the fake, held to the same contract."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from node.cid import Cid
from tests.contracts.kubos import Daemon, KuboContract
from tests.fakes.kubo import FakeKubo, fake_kubo
from tests.fakes.kubo_faults import KuboFaults
from tests.kubo.daemon import Kubo, running_kubo


@asynccontextmanager
async def of(kubo: Kubo) -> AsyncIterator[Daemon]:
    """A real one, as the suite asks it."""

    def lose(cid: Cid) -> None:
        kubo.call("block/rm", str(cid), force="true")

    async with aiohttp.ClientSession() as session:
        yield Daemon(kubo.rpc, kubo.gateway, session, lose, lambda: kubo.call("repo/gc"))


class TestRealKubo(KuboContract):
    """Kubo itself."""

    @pytest.fixture
    async def daemon(self, kubo: Kubo) -> AsyncIterator[Daemon]:
        async with of(kubo) as daemon:
            yield daemon

    @pytest.fixture
    async def fetching_nothing(self, tmp_path: Path) -> AsyncIterator[Daemon]:
        with running_kubo(tmp_path / "offline", settings={"Gateway": {"NoFetch": True}}) as kubo:
            async with of(kubo) as daemon:
                yield daemon


class TestFake(KuboContract):
    """The one that the wire tests run."""

    @pytest.fixture
    async def daemon(self) -> AsyncIterator[Daemon]:
        async with fake_kubo() as fake, aiohttp.ClientSession() as session:
            yield Daemon(fake.rpc, fake.gateway, session, fake.blocks.__delitem__, fake.collect)

    @pytest.fixture
    async def fetching_nothing(self) -> AsyncIterator[Daemon]:
        fake = FakeKubo(faults=KuboFaults(no_fetch=True))
        async with fake_kubo(fake), aiohttp.ClientSession() as session:
            yield Daemon(fake.rpc, fake.gateway, session, fake.blocks.__delitem__, fake.collect)
