"""What a real Kubo says and refuses, and the fake."""

import base64
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from node.cid import Cid
from tests.contracts.kubo_answers import LOGIN, KuboAnswers, showing
from tests.contracts.kubos import Daemon
from tests.fakes.kubo import FakeKubo, fake_kubo
from tests.fakes.kubo_faults import KuboFaults
from tests.kubo.daemon import Kubo, running_kubo


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk that is soon full."""
    if os.geteuid() != 0:
        pytest.skip("a small disk is mounted by root: run `sudo make test`")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here ({mounted.stderr.strip()}): run on a machine of its own")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=10)


def real(kubo: Kubo, session: aiohttp.ClientSession) -> Daemon:
    """A Kubo, as somebody with a session asks it."""
    return Daemon(kubo.rpc, kubo.gateway, session, lambda _cid: None, lambda: None)


def fake(kubo: FakeKubo, session: aiohttp.ClientSession) -> Daemon:
    """The same for the fake."""
    return Daemon(kubo.rpc, kubo.gateway, session, lambda _cid: None, lambda: None)


class TestRealKubo(KuboAnswers):
    """Kubo itself."""

    @pytest.fixture
    async def daemon(self, kubo: Kubo) -> AsyncIterator[Daemon]:
        async with aiohttp.ClientSession() as session:
            yield real(kubo, session)

    @pytest.fixture
    def corrupt(self, kubo: Kubo) -> Callable[[Cid], None]:
        def change(cid: Cid) -> None:
            key = base64.b32encode(cid.raw[2:]).decode().rstrip("=")  # as flatfs names the files of blocks
            file = kubo.repo / "blocks" / key[-3:-1] / f"{key}.data"
            file.write_bytes(bytes(file.stat().st_size))

        return change

    @pytest.fixture
    async def guarded(self, tmp_path: Path) -> AsyncIterator[tuple[Daemon, Daemon]]:
        with running_kubo(tmp_path / "guarded", authorization=LOGIN) as kubo:
            async with showing(None) as stranger, showing(kubo.authorization) as owner:
                yield real(kubo, stranger), real(kubo, owner)

    @pytest.fixture
    async def full(self, tmp_path: Path) -> AsyncIterator[Daemon]:
        with small_disk(tmp_path / "disk") as disk, running_kubo(disk / "kubo") as kubo:
            async with aiohttp.ClientSession() as session:
                yield real(kubo, session)


class TestFake(KuboAnswers):
    """The one that the wire tests run."""

    @pytest.fixture
    async def kubo(self) -> AsyncIterator[FakeKubo]:
        async with fake_kubo() as kubo:
            yield kubo

    @pytest.fixture
    async def daemon(self, kubo: FakeKubo) -> AsyncIterator[Daemon]:
        async with aiohttp.ClientSession() as session:
            yield fake(kubo, session)

    @pytest.fixture
    def corrupt(self, kubo: FakeKubo) -> Callable[[Cid], None]:
        def change(cid: Cid) -> None:
            kubo.faults.wrong_leaf = cid

        return change

    @pytest.fixture
    async def guarded(self) -> AsyncIterator[tuple[Daemon, Daemon]]:
        login = "Bearer a-token"
        async with (
            fake_kubo(FakeKubo(authorization=login)) as kubo,
            showing(None) as stranger,
            showing(login) as owner,
        ):
            yield fake(kubo, stranger), fake(kubo, owner)

    @pytest.fixture
    async def full(self) -> AsyncIterator[Daemon]:
        async with fake_kubo(FakeKubo(faults=KuboFaults(full=True))) as kubo, aiohttp.ClientSession() as session:
            yield fake(kubo, session)
