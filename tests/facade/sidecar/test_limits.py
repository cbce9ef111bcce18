"""What peers, pages and a Kubo that asks too much can make a node's sidecar do at most."""

import asyncio
import random
from pathlib import Path

import pytest

from node.cid import Cid
from tests.cluster.machine import until
from tests.facade.sidecar.beside import heard_of, sidecar
from tests.fakes.peer import dag_of, fake_peer

BLOB = random.Random(5).randbytes(5 * 1024 * 1024 + 77)
DAG = dag_of(BLOB)


async def test_a_blob_that_does_not_fit_the_disk_is_not_begun(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        root = peer.hold(BLOB, size=1 << 40)
        await heard_of(mine, root)
        assert await mine.block(root) is None
        assert not [path for path in peer.requests if "/ipfs/" in path]


async def test_a_fetch_that_hangs_is_waited_for_within_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facade.sidecar.blocks.BLOCK_S", 0.2)
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        peer.faults.hang = frozenset({"/ipfs/"})
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        async with asyncio.timeout(5):
            assert await mine.block(root) is None


async def test_a_node_that_stops_waits_for_no_peer(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        peer.faults.stall_after = 3 * 1024 * 1024
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        await mine.block(root)
        waiting = asyncio.ensure_future(mine.block(DAG.leaf(4).cid))
        await until(lambda: mine.metrics.fetched_bytes["peer"] > 1024 * 1024)
        async with asyncio.timeout(3):
            await mine.runner.shutdown()
            assert await waiting is None


async def test_so_many_blobs_are_fetched_at_once_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facade.sidecar.blocks.BLOCK_S", 0.5)
    monkeypatch.setattr("facade.sidecar.fetches.MOST_AT_ONCE", 2)
    monkeypatch.setattr("facade.sidecar.fetches.MOST_IN_ALL", 6)
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        peer.faults.hang = frozenset({"/ipfs/"})
        roots = [peer.hold(BLOB[at:]) for at in range(12)]
        for root in roots:
            await heard_of(mine, root)
        assert await asyncio.gather(*map(mine.block, roots)) == [None] * 12
        assert len({path for path in peer.requests if "/ipfs/" in path}) <= 2


async def test_too_many_requests_at_once_are_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facade.sidecar.blocks.BLOCK_S", 0.5)
    monkeypatch.setattr("facade.sidecar.blocks.MOST_WAITING", 3)
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        peer.faults.hang = frozenset({"/ipfs/"})
        root = peer.hold(BLOB)
        await heard_of(mine, root)

        async def ask() -> int:
            async with mine.session.get(f"/ipfs/{root}?format=raw") as answer:
                return answer.status

        assert sorted(await asyncio.gather(*(ask() for _ in range(8)))) == [404] * 3 + [503] * 5
        assert await ask() == 404


async def test_a_client_that_takes_nothing_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facade.sidecar.blocks.ANSWER_S", 0.3)
    async with sidecar(tmp_path) as mine:
        zeros = bytes(1024 * 1024)
        await mine.node.keep(zeros)
        url = mine.session._base_url
        assert url is not None and url.host and url.port
        _, writer = await asyncio.open_connection(url.host, url.port, limit=1024)
        line = f"GET /ipfs/{Cid.of(zeros)}?format=raw HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        writer.write(line.encode() * 40)
        async with asyncio.timeout(10):
            await until(lambda: mine.metrics._server.get(("kubo-sidecar", "GET", "499"), 0) > 0)
        writer.close()


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}])
async def test_a_foreign_page_gets_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    async with sidecar(tmp_path) as mine:
        await mine.node.keep(BLOB)
        for path in (f"/routing/v1/providers/{DAG.root}", f"/ipfs/{DAG.root}?format=raw", f"/ipfs/{DAG.root}"):
            async with mine.session.get(path, headers=headers) as answer:
                assert answer.status == 403 and "evil.example" in await answer.text()


async def test_other_methods_are_refused(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as mine, mine.session.put(f"/ipfs/{DAG.root}", data=b"x") as answer:
        assert answer.status == 405


async def test_the_probe_of_kubo_is_answered(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as mine, mine.session.head("/ipfs/bafkqaaa?format=raw") as answer:
        assert answer.status == 200
