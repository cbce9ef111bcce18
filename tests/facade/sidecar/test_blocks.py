"""What a Kubo may read by its sidecar: what is here, what peers have, and nothing that is not for everybody."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from node.cid import Cid
from node.digest import Digest
from node.visibility import Visibility
from tests.cluster.machine import FAST, machine, until
from tests.facade.sidecar.beside import heard_of, kept, sidecar
from tests.fakes.peer import FakePeer, dag_of, fake_peer

BLOB = random.Random(5).randbytes(5 * 1024 * 1024 + 77)
DAG = dag_of(BLOB)
DIGEST = Digest.of(BLOB)
SECRET = b"a secret that all of this cluster know"


async def test_what_is_public_here_is_provided_and_read_block_by_block(tmp_path: Path) -> None:
    async with sidecar(tmp_path) as mine:
        await mine.node.keep(BLOB)
        assert await mine.provided(DAG.root) and await mine.provided(DAG.leaf(3).cid)
        assert await mine.blob(DAG) == BLOB
        assert mine.metrics.served_bytes["local"] == len(BLOB) + len(DAG.interior[0][1])


async def test_what_only_a_peer_has_comes_through_this_node_and_stays(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a") as a, sidecar(tmp_path / "b", a.url) as mine:
        await a.keep(BLOB)
        await heard_of(mine, DAG.root)
        assert await mine.provided(DAG.root)
        assert await mine.blob(DAG) == BLOB
        assert mine.metrics.fetched_bytes["peer"] == len(BLOB)
        await kept(mine, DAG.root)
        sent = a.cluster.sent_bytes
        await a.store.drop(DIGEST)
        await until(lambda: not mine.node.cluster.rooted(DAG.root))
        assert await mine.provided(DAG.root) and await mine.provided(DAG.leaf(0).cid)
        assert await mine.blob(DAG) == BLOB
        assert a.cluster.sent_bytes == sent
    async with sidecar(tmp_path / "b") as mine:
        assert await mine.provided(DAG.leaf(5).cid)
        assert await mine.blob(DAG) == BLOB


@pytest.mark.parametrize("data", [b"", b"one leaf", BLOB[: 1024 * 1024]], ids=["empty", "small", "one whole leaf"])
async def test_a_blob_of_one_leaf_is_its_own_root(tmp_path: Path, data: bytes) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        root = peer.hold(data)
        await heard_of(mine, root)
        assert await mine.provided(root)
        assert await mine.block(root) == data
        await kept(mine, root)
        assert await mine.block(root) == data


async def test_a_strangers_word_makes_nothing_public_and_a_members_makes_it_the_members(tmp_path: Path) -> None:
    for secret, expected in ((None, Visibility.PRIVATE), (SECRET, Visibility.MEMBERS)):
        folder = tmp_path / expected
        async with fake_peer(FakePeer(secret=secret)) as peer, sidecar(folder, peer.url, secret=secret) as mine:
            root = peer.hold(BLOB)
            await heard_of(mine, root)
            assert await mine.blob(DAG) == BLOB
            await kept(mine, root)
            holding = await mine.node.store.find(DIGEST)
            assert holding is not None and holding.visibility is expected


async def test_what_nobody_has_is_not_found_at_once(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        root = peer.hold(b"another")
        await heard_of(mine, root)
        for cid in (DAG.root, DAG.leaf(1).cid):
            assert not await mine.provided(cid)
            assert await mine.block(cid) is None
        assert not [path for path in peer.requests if "/ipfs/" in path]


@pytest.mark.parametrize("visibility", [Visibility.PRIVATE, Visibility.MEMBERS])
async def test_what_is_not_for_everybody_is_nowhere(tmp_path: Path, visibility: Visibility) -> None:
    peer = FakePeer(secret=SECRET)
    async with fake_peer(peer), sidecar(tmp_path, peer.url, secret=SECRET) as mine:
        theirs = peer.hold(BLOB[:-1], visibility="members")
        await heard_of(mine, theirs)
        await mine.node.keep(BLOB, visibility)
        for cid in (theirs, DAG.root, DAG.leaf(0).cid):
            assert not await mine.provided(cid)
            assert await mine.block(cid) is None
            async with mine.session.head(f"/ipfs/{cid}?format=raw") as answer:
                assert answer.status == 404
            async with mine.session.get(f"/ipfs/{cid}?format=car") as answer:
                assert answer.status == 404
        assert not peer.bodies


async def test_what_is_hidden_here_comes_from_the_peer_that_shows_it_and_stays_hidden(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        await mine.node.keep(BLOB, Visibility.PRIVATE)
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        assert await mine.blob(DAG) == BLOB
        assert peer.bodies
        await kept(mine, root)
        holding = await mine.node.store.find(DIGEST)
        assert holding is not None and holding.visibility is Visibility.PRIVATE


async def test_a_peer_that_only_claims_to_show_what_is_hidden_here_opens_nothing(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        await mine.node.keep(BLOB, Visibility.PRIVATE)
        peer.faults.status = 404
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        assert await mine.block(root) is None
        assert await mine.block(DAG.leaf(0).cid) is None


async def test_a_head_fetches_nothing(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        async with mine.session.head(f"/ipfs/{root}?format=raw") as answer:
            assert answer.status == 200 and "Content-Length" not in answer.headers
        assert not [path for path in peer.requests if "/ipfs/" in path]


async def test_nothing_is_fetched_for_who_wants_only_what_is_cached(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        asked = (f"/ipfs/{root}?format=raw", {"Cache-Control": "only-if-cached"})
        async with mine.session.get(asked[0], headers=asked[1]) as answer:
            assert answer.status == 412
        assert not [path for path in peer.requests if "/ipfs/" in path]
        await mine.blob(DAG)
        await kept(mine, root)
        async with mine.session.get(asked[0], headers=asked[1]) as answer:
            assert answer.status == 200


async def test_a_file_is_not_fetched_whole_for_who_asks_for_no_block(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        for query, status in (("", 400), ("?format=car", 404)):
            async with mine.session.get(f"/ipfs/{root}{query}") as answer:
                assert answer.status == status
        assert not peer.bodies


async def test_many_requests_at_once_are_one_fetch(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        await mine.block(root)
        blocks = [mine.block(DAG.leaf(at % DAG.leaf_count).cid) for at in range(100)]
        found = await asyncio.gather(*blocks, *(mine.block(root) for _ in range(50)))
        assert None not in found
        assert peer.bodies <= 4
        assert mine.metrics.fetched_bytes["peer"] < 2 * len(BLOB)


async def test_the_first_blocks_are_read_while_the_others_are_on_their_way(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        peer.faults.stall_after = 3 * 1024 * 1024
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        assert await mine.block(root) == DAG.interior[0][1]
        assert await mine.block(DAG.leaf(0).cid) == BLOB[: 1024 * 1024]
        assert await mine.node.store.find(DIGEST) is None


async def test_a_leaf_that_comes_late_is_announced_by_its_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facade.sidecar.blocks.BLOCK_S", 0.05)
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        peer.faults.trickle_s = 0.003
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        await mine.block(root)
        await until(lambda: mine.metrics.fetched_bytes["peer"] > 0)
        leaf = DAG.leaf(4)
        async with mine.session.get(f"/ipfs/{leaf.cid}?format=raw") as answer:
            assert (answer.status, answer.content_length) == (200, leaf.length)
            assert mine.metrics.fetched_bytes["peer"] < leaf.offset
            assert await answer.read() == BLOB[leaf.offset : leaf.offset + leaf.length]
        assert mine.metrics.served_bytes["peer"] == len(DAG.interior[0][1]) + leaf.length


async def test_a_leaf_that_was_announced_and_does_not_come_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facade.sidecar.blocks.BLOCK_S", 0.05)
    async with fake_peer() as peer, sidecar(tmp_path, peer.url, timings=FAST) as mine:
        peer.faults.stall_after = 3 * 1024 * 1024
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        while await mine.block(root) is None:  # the first answer may be later than that
            pass
        async with mine.session.get(f"/ipfs/{DAG.leaf(4).cid}?format=raw") as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()


async def test_a_peer_that_stalls_or_goes_costs_a_moment_and_the_next_one_gives_it(tmp_path: Path) -> None:
    async with (
        fake_peer() as peer,
        machine(tmp_path / "a", "a") as a,
        sidecar(tmp_path / "b", peer.url, timings=FAST) as mine,
    ):
        peer.faults.stall_after = 1024 * 1024
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        assert await mine.block(DAG.leaf(4).cid) is None  # nobody knows yet which blob it is of
        assert await mine.block(root) is not None
        began = asyncio.get_running_loop().time()
        assert await mine.block(DAG.leaf(4).cid) is None
        assert asyncio.get_running_loop().time() - began < 6 * FAST.stall_s
        assert not await mine.provided(root)
        await a.keep(BLOB)
    async with machine(tmp_path / "a", "a") as a, sidecar(tmp_path / "b", a.url) as mine:
        await heard_of(mine, root)
        assert await mine.blob(DAG) == BLOB


async def test_wrong_bytes_reach_nobody_and_are_not_kept(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        peer.faults.flip_at = 10
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        assert await mine.block(root) is not None
        assert await mine.block(DAG.leaf(0).cid) is None
        assert await mine.node.store.find(DIGEST) is None
        assert not await mine.provided(root)


async def test_a_wrong_node_is_refused(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        peer.faults.wrong_node = True
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        assert await mine.block(root) is None


async def test_blocks_are_right_also_where_the_peer_names_another_digest_and_nothing_is_kept(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        other = Digest.of(b"other bytes")
        root = peer.hold(BLOB, digest=other)
        await heard_of(mine, root)
        assert await mine.block(root) is not None
        await until(lambda: not mine.node.cluster.rooted(root))
        assert await mine.node.store.find(other) is None
        assert await mine.node.store.lent.block(root) is None
        assert [peer.set_aside for peer in mine.node.cluster.peers()] != [None]


async def test_a_fetch_that_a_restart_ended_goes_on_when_a_leaf_of_it_is_asked_for(tmp_path: Path) -> None:
    async with fake_peer() as peer:
        root = peer.hold(BLOB)
        peer.faults.stall_after = 2 * 1024 * 1024
        async with sidecar(tmp_path, peer.url) as mine:
            await heard_of(mine, root)
            assert await mine.block(root) is not None
        peer.faults.stall_after = None
        async with sidecar(tmp_path, peer.url) as mine:
            await heard_of(mine, root)
            assert not await mine.provided(Cid.of(b"something else"))
            assert await mine.provided(DAG.leaf(4).cid)
            assert await mine.block(DAG.leaf(4).cid) is not None
            await kept(mine, root)
            await until(lambda: mine.node.store.lent.awaited == ())


async def test_what_does_not_come_the_second_time_is_given_up(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        await mine.node.store.lent.expect(root)
        peer.faults.status = 500
        assert not await mine.provided(DAG.leaf(4).cid)
        await until(lambda: mine.node.store.lent.awaited == ())


async def test_a_blob_that_was_damaged_here_is_fetched_again(tmp_path: Path) -> None:
    async with fake_peer() as peer, sidecar(tmp_path, peer.url) as mine:
        root = peer.hold(BLOB)
        await heard_of(mine, root)
        await mine.blob(DAG)
        await kept(mine, root)
        path = mine.node.store.folder / "blobs/sha256" / DIGEST.hex[:2] / DIGEST.hex
        path.chmod(0o644)
        path.write_bytes(BLOB[::-1])
        assert await mine.block(DAG.leaf(4).cid) is not None
        assert await mine.blob(DAG) == BLOB


async def test_whoever_names_another_digest_is_set_aside_and_the_others_blob_is_kept(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        liars = [await stack.enter_async_context(fake_peer(FakePeer(id=each * 32))) for each in "de"]
        honest = await stack.enter_async_context(fake_peer())
        mine = await stack.enter_async_context(sidecar(tmp_path, *(each.url for each in (honest, *liars))))
        root = honest.hold(BLOB)
        for liar in liars:
            liar.hold(BLOB, digest=Digest.of(b"other bytes"))
        await until(lambda: sum(map(len, mine.node.cluster.rooted(root).values())) == 3)
        assert await mine.block(root) is not None
        await until(lambda: list(mine.node.cluster.rooted(root)) == [DIGEST])
        assert await mine.blob(DAG) == BLOB
        await kept(mine, root)
        assert honest.bodies and any(liar.bodies for liar in liars)
