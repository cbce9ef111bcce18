"""A real Kubo without any IPFS peer fetches through its node's sidecar."""

import asyncio
import json
import random
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import reduce
from http.client import HTTPConnection
from operator import getitem
from pathlib import Path

import pytest
from yarl import URL

from facade.cli.kubo_settings import Role, kubo_settings
from facade.settings import Address
from node.cid import Cid
from node.digest import Digest
from node.visibility import Visibility
from tests.bench.processes import free_port
from tests.cluster.machine import machine, until
from tests.facade.sidecar.beside import sidecar
from tests.fakes.peer import FakePeer, dag_of, fake_peer
from tests.kubo.daemon import Kubo, built_kubo, kubo_environment, running_kubo

BLOB = random.Random(6).randbytes(40 * 1024 * 1024 + 77)
DAG = dag_of(BLOB)
SECRET = b"a secret that all of this cluster know"


@asynccontextmanager
async def fetching(folder: Path, address: Address) -> AsyncIterator[Kubo]:
    """A Kubo in the role `fetch`, beside the node whose sidecar is there."""
    settings = kubo_settings(Role.FETCH, address).nested()
    running = running_kubo(folder, settings=settings)
    kubo = await asyncio.to_thread(running.__enter__)
    try:
        yield kubo
        assert kubo.call("swarm/peers")["Peers"] is None
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


async def pinned(kubo: Kubo, root: Cid, limit: str) -> tuple[int, bytes]:
    return await asyncio.to_thread(kubo.ask, "pin/add", str(root), timeout=limit)


async def pinned_whole(kubo: Kubo, root: Cid) -> None:
    """Have it pinned, as a person would who sees it stand still.

    Where 32 blocks take Kubo 0.43 longer than twice what the one before took, as on a busy machine, it may think that
    they do not come, drop its only peer, and look for it again a minute later (boxo's `sessionwantsender`).
    """
    for _ in range(4):
        status, said = await pinned(kubo, root, "15s")
        if status == 200:
            return
    raise AssertionError(said)


async def read(kubo: Kubo, root: Cid) -> bytes:
    """A file as this Kubo has it, without asking anybody."""
    status, data = await asyncio.to_thread(kubo.ask, "cat", str(root), offline="true")
    assert status == 200
    return data


async def test_a_blob_that_is_here(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "node") as mine, fetching(tmp_path / "ipfs", mine.address) as kubo:
        await mine.node.keep(BLOB)
        await pinned_whole(kubo, DAG.root)
        assert await read(kubo, DAG.root) == BLOB


async def test_one_block_in_the_middle_that_no_root_was_asked_for(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "node") as mine, fetching(tmp_path / "ipfs", mine.address) as kubo:
        await mine.node.keep(BLOB)
        leaf = DAG.leaf(7)
        status, data = await asyncio.to_thread(kubo.ask, "block/get", str(leaf.cid), timeout="10s")
        assert (status, data) == (200, BLOB[leaf.offset : leaf.offset + leaf.length])


async def test_a_blob_that_only_a_peer_has(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "a") as a,
        sidecar(tmp_path / "b", a.url) as mine,
        fetching(tmp_path / "ipfs", mine.address) as kubo,
    ):
        await a.keep(BLOB)
        await until(lambda: bool(mine.node.cluster.rooted(DAG.root)))
        await pinned_whole(kubo, DAG.root)
        assert await read(kubo, DAG.root) == BLOB
        assert mine.metrics.fetched_bytes["peer"] == len(BLOB)
        assert a.cluster.sent_bytes < 2 * len(BLOB)


async def test_what_nobody_has_ends_with_kubos_own_limit_and_harms_nothing_else(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "node") as mine, fetching(tmp_path / "ipfs", mine.address) as kubo:
        began = asyncio.get_running_loop().time()
        status, said = await pinned(kubo, DAG.root, "2s")
        assert status == 500 and b"deadline" in said
        assert asyncio.get_running_loop().time() - began < 5
        assert mine.metrics._server["kubo-sidecar", "GET", "200"] >= 1  # it did ask who has it
        await mine.node.keep(BLOB)
        await pinned_whole(kubo, DAG.root)


@pytest.mark.parametrize("visibility", [Visibility.PRIVATE, Visibility.MEMBERS])
async def test_what_is_not_for_everybody(tmp_path: Path, visibility: Visibility) -> None:
    async with (
        fake_peer(FakePeer(secret=SECRET)) as peer,
        sidecar(tmp_path / "node", peer.url, secret=SECRET) as mine,
        fetching(tmp_path / "ipfs", mine.address) as kubo,
    ):
        theirs = peer.hold(BLOB[:-1], visibility="members")
        await until(lambda: bool(mine.node.cluster.rooted(theirs)))
        await mine.node.keep(BLOB, visibility)
        for root in (theirs, DAG.root, DAG.leaf(0).cid):
            assert (await pinned(kubo, root, "600ms"))[0] == 500
        assert not peer.bodies
        _, said = await asyncio.to_thread(kubo.ask, "refs/local")
        assert not [cid for cid in (theirs, DAG.root, DAG.leaf(0).cid) if str(cid) in said.decode()]


async def test_a_peer_that_goes_is_left_for_the_next_and_kubo_gets_all(tmp_path: Path) -> None:
    async with (
        fake_peer() as peer,
        machine(tmp_path / "a", "a") as a,
        sidecar(tmp_path / "b", peer.url, a.url) as mine,
        fetching(tmp_path / "ipfs", mine.address) as kubo,
    ):
        peer.faults.cut_after = 3 * 1024 * 1024
        await a.keep(BLOB)
        root = peer.hold(BLOB)
        await mine.node.holders(Digest.of(BLOB), 2)
        await pinned_whole(kubo, root)
        assert await read(kubo, root) == BLOB


async def test_a_node_that_is_started_anew_in_the_middle(tmp_path: Path) -> None:
    async with fake_peer() as peer, AsyncExitStack() as stack:
        root = peer.hold(BLOB)
        peer.faults.stall_after = 8 * 1024 * 1024
        async with sidecar(tmp_path / "node", peer.url) as mine:
            kubo = await stack.enter_async_context(fetching(tmp_path / "ipfs", mine.address))
            await until(lambda: bool(mine.node.cluster.rooted(root)))
            assert (await pinned(kubo, root, "2s"))[0] == 500
        peer.faults.stall_after = None
        async with sidecar(tmp_path / "node", peer.url, port=mine.address.port) as mine:
            await until(lambda: bool(mine.node.cluster.rooted(root)))
            await pinned_whole(kubo, root)
            assert await read(kubo, root) == BLOB


async def test_a_peer_that_lies_gives_kubo_nothing_wrong(tmp_path: Path) -> None:
    async with (
        fake_peer() as peer,
        sidecar(tmp_path / "node", peer.url) as mine,
        fetching(tmp_path / "ipfs", mine.address) as kubo,
    ):
        peer.faults.flip_at = 100
        root = peer.hold(BLOB)
        await until(lambda: bool(mine.node.cluster.rooted(root)))
        assert (await pinned(kubo, root, "2s"))[0] == 500
        await mine.node.keep(BLOB)
        await pinned_whole(kubo, root)
        assert await read(kubo, root) == BLOB


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Path]:
    """A repository as `ipfs init` makes it, but for what would have it look for others."""
    path = tmp_path / "ipfs"
    path.mkdir()
    ipfs(path, "init", "--empty-repo", "--profile=autoconf-off")
    ipfs(path, "config", "--json", "Bootstrap", "[]")
    ipfs(path, "config", "--json", "Discovery.MDNS.Enabled", "false")
    yield path


def ipfs(repo: Path, *words: str) -> None:
    subprocess.run([built_kubo(), *words], env=kubo_environment(repo), check=True, capture_output=True, timeout=30)


def added(kubo: Kubo, data: bytes) -> str:
    """The CID that this Kubo gives to a file when it is told nothing of how."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    with closing(HTTPConnection(kubo.rpc.host or "", kubo.rpc.port, timeout=30)) as connection:
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        connection.request("POST", "/api/v0/add?only-hash=true", head + data + b"\r\n--b--\r\n", kind)
        return str(json.loads(connection.getresponse().read().splitlines()[-1])["Hash"])


@pytest.mark.parametrize("role", list(Role))
def test_what_is_printed_is_taken_by_a_kubo_which_then_starts(repo: Path, role: Role) -> None:
    found = kubo_settings(role, Address("127.0.0.1", 9))
    for line in found.commands():
        ipfs(repo, *shlex.split(line)[1:])
    config = json.loads((repo / "config").read_text())
    for name, value in found.settings.items():
        assert reduce(getitem, name.split("."), config) == value
    if role is Role.PRIVATE_SWARM:
        (repo / "swarm.key").write_text(f"/key/swarm/psk/1.0.0/\n/base16/\n{'5a' * 32}\n")
    swarm, rpc, gateway = free_port(), free_port(), free_port()
    at = "/ip4/127.0.0.1/tcp/"
    listening = {"Swarm": [f"{at}{swarm}"], "API": f"{at}{rpc}", "Gateway": f"{at}{gateway}"}
    ipfs(repo, "config", "--json", "Addresses", json.dumps(config["Addresses"] | listening))
    kubo = Kubo(repo, URL(f"http://127.0.0.1:{rpc}"), URL(f"http://127.0.0.1:{gateway}"), f"{at}{swarm}")
    try:
        kubo.start()
        assert kubo.peer_id
        if role is not Role.FETCH:
            assert added(kubo, BLOB[: 3 * 1024 * 1024]) == str(dag_of(BLOB[: 3 * 1024 * 1024]).root)
    finally:
        kubo.stop()
    assert "ERROR" not in (repo / "daemon.log").read_text()
