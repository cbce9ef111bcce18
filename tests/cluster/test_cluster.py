"""Whole nodes that find each other and share blobs."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from node.digest import Digest
from node.ipfs.kubo.multiaddrs import SwarmPeer
from node.reference import Tag
from node.repositories import TagSeen
from node.store import Store
from node.visibility import Visibility
from tests.cluster.machine import FAST, REPOSITORY, machine, until
from tests.fakes.peer import FakePeer, dag_of, fake_peer

BLOB = random.Random(1).randbytes(5 * 1024 * 1024 + 77)
SECRET = b"a secret that all of this cluster know"
MANIFEST = b'{"schemaVersion":2,"config":{"digest":"%s","size":2},"layers":[]}'


async def test_a_blob_comes_from_a_joined_peer(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a") as a, machine(tmp_path / "b", "b", a.url) as b:
        digest = await a.keep(BLOB)
        (holder,) = await b.holders(digest)
        assert (holder.name, holder.member, holder.size) == ("a", False, len(BLOB))
        assert await b.fetch(digest) == BLOB
        assert b.cluster.received_bytes >= len(BLOB)
        assert a.cluster.sent_bytes >= len(BLOB)


async def test_who_is_joined_learns_of_who_joined(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a") as a, machine(tmp_path / "b", "b", a.url) as b:
        await until(lambda: a.alive() == ["b"])
        digest = await b.keep(BLOB)
        await a.holders(digest)
        assert await a.fetch(digest) == BLOB


async def test_a_change_is_known_to_peers_at_once(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a") as a, machine(tmp_path / "b", "b", a.url) as b:
        await b.holders(await a.keep(b"first"))
        digest = Digest.of(b"second")
        began = asyncio.get_running_loop().time()
        await a.keep(b"second")
        await b.holders(digest)
        assert asyncio.get_running_loop().time() - began < FAST.poll_wait_s / 2
        await a.store.drop(digest)
        await b.holders(digest, 0)


async def test_a_blob_is_found_by_its_root_where_that_was_wanted(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "a") as a,
        machine(tmp_path / "b", "b", a.url, by_cid=True) as b,
        machine(tmp_path / "c", "c", a.url) as c,
    ):
        digest = await a.keep(BLOB)
        (holder,) = await b.holders(digest)
        await c.holders(digest)
        assert b.cluster.rooted(holder.cid) == {digest: (holder,)}
        assert c.cluster.rooted(holder.cid) == {}
        await a.store.drop(digest)
        await b.holders(digest, 0)
        assert b.cluster.rooted(holder.cid) == {}


async def test_the_gateway_answers_from_what_is_here_and_asks_no_peer(tmp_path: Path) -> None:
    peer = FakePeer()
    async with (
        fake_peer(peer),
        machine(tmp_path / "a", "a", peer.url) as node,
        aiohttp.ClientSession(node.url) as client,
    ):
        root = peer.hold(BLOB)
        await node.holders(Digest.of(BLOB))
        leaf = dag_of(BLOB).leaf(1).cid
        for path in (f"{root}", f"{root}?format=raw", f"{root}?format=car", f"{leaf}?format=raw", f"{root}/name"):
            for method in ("GET", "HEAD"):
                async with client.request(method, f"/ipfs/{path}") as answer:
                    assert answer.status == 404, path
        assert peer.bodies == 0
        assert not [request for request in peer.requests if "/ipfs/" in request]


async def test_private_blobs_and_strangers_eyes(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "a", secret=SECRET, open_gateway=True) as a,
        machine(tmp_path / "b", "b", a.url, secret=SECRET) as b,
        machine(tmp_path / "c", "c", a.url) as c,
    ):
        private = await a.keep(b"private", Visibility.PRIVATE)
        members = await a.keep(b"members", Visibility.MEMBERS)
        public = await a.keep(b"public")
        assert (await b.holders(public))[0].member
        await b.holders(members)
        assert await b.fetch(members) == b"members"
        await c.holders(public)
        assert await c.fetch(public) == b"public"
        assert c.cluster.holders(members) == ()
        assert b.cluster.holders(private) == c.cluster.holders(private) == ()


async def test_only_one_of_two_nodes_has_a_secret(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "a", secret=SECRET) as a,
        machine(tmp_path / "b", "b", a.url) as b,
    ):
        shown = await a.keep(b"a holds this")
        held = await b.keep(b"b holds this")
        (holder,) = await a.holders(held)
        assert not holder.member
        await until(lambda: (s := b.peer(a.url)) is not None and s.note is not None and "secret" in s.note)
        assert b.cluster.holders(shown) == ()
        async with aiohttp.ClientSession() as session, session.get(a.url / "mesh/v1/log") as answer:
            assert answer.status == 401
            assert "proof of the secret" in await answer.text()


async def test_nodes_with_different_secrets_are_strangers_and_say_so(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "a", secret=SECRET) as a,
        machine(tmp_path / "b", "b", a.url, secret=b"another secret") as b,
    ):
        digest = await a.keep(BLOB)
        await until(lambda: (s := b.peer(a.url)) is not None and s.note is not None and "the same on both" in s.note)
        status = b.peer(a.url)
        assert status is not None
        assert (status.state, status.member) == ("alive", False)
        assert b.cluster.holders(digest) == ()


async def test_a_clock_that_differs_is_named(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "a", secret=SECRET, clock=lambda: 1_000_000.0) as a,
        machine(tmp_path / "b", "b", a.url, secret=SECRET, clock=lambda: 1_000_300.0) as b,
    ):
        await until(lambda: (s := b.peer(a.url)) is not None and s.note is not None and "differ by 300 s" in s.note)


async def see(store: Store, tag: str, manifest: bytes, seen_at: float) -> Digest:
    from node.manifest import OCI_MANIFEST, parse_manifest
    from node.visibility import Proof

    parsed = parse_manifest(manifest, OCI_MANIFEST)
    await store.put(parsed.digest, manifest, Proof(Visibility.PUBLIC))
    await store.repositories.record(REPOSITORY, parsed, Proof(Visibility.PUBLIC))
    await store.repositories.see(TagSeen(REPOSITORY, Tag(tag), parsed.digest, OCI_MANIFEST, seen_at, len(manifest)))
    return parsed.digest


def manifest(number: int) -> bytes:
    return MANIFEST % str(Digest.of(b"%d" % number)).encode()


async def test_tags_are_shared_between_members_and_the_newest_wins(tmp_path: Path) -> None:
    now = 1_000_000.0

    def clock() -> float:
        return now

    async with (
        machine(tmp_path / "a", "a", secret=SECRET, clock=clock) as a,
        machine(tmp_path / "b", "b", a.url, secret=SECRET, clock=clock) as b,
        machine(tmp_path / "c", "c", a.url, b.url, secret=SECRET, clock=clock) as c,
    ):
        await see(a.store, "latest", manifest(1), now - 100)
        newest = await see(b.store, "latest", manifest(2), now - 50)
        await until(lambda: (t := c.cluster.tag(REPOSITORY, Tag("latest"), now)) is not None and t.peer_name == "b")
        found = c.cluster.tag(REPOSITORY, Tag("latest"), now)
        assert found is not None
        assert (found.seen.digest, found.seen.seen_at) == (newest, now - 50)
        assert c.cluster.tag(REPOSITORY, Tag("other"), now) is None
        assert c.cluster.tag(REPOSITORY, Tag("latest"), now - 500) is None


async def test_without_a_secret_no_tag_is_believed(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a") as a, machine(tmp_path / "b", "b", a.url) as b:
        await see(a.store, "latest", manifest(1), 1.0)
        await b.holders(Digest.of(manifest(1)))
        assert b.cluster.tag(REPOSITORY, Tag("latest"), 100.0) is None


async def test_a_node_that_leaves_is_noticed_and_no_holder_any_more(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        leaving = AsyncExitStack()
        a = await leaving.enter_async_context(machine(tmp_path / "a", "a"))
        b = await stack.enter_async_context(machine(tmp_path / "b", "b", a.url))
        digest = await a.keep(BLOB)
        await b.holders(digest)
        began = asyncio.get_running_loop().time()
        await leaving.aclose()
        await b.holders(digest, 0)
        assert asyncio.get_running_loop().time() - began < 3.0
        await until(lambda: (s := b.peer(a.url)) is not None and s.state == "gone")


async def test_leaving_does_not_wait_for_peers_that_wait_for_changes(tmp_path: Path) -> None:
    async with machine(tmp_path / "b", "b") as b:
        async with machine(tmp_path / "a", "a", b.url) as a:
            await until(lambda: a.alive() == ["b"] and b.alive() == ["a"])
            digest = await a.keep(b"x")
            await b.holders(digest)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 2.0


async def test_a_node_that_comes_back_is_read_on_where_it_was_left(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a") as a:
        port = a.url.port or 0
        async with machine(tmp_path / "b", "b", a.url) as b:
            first = await b.keep(b"first")
            await a.holders(first)
            b_url, b_port = b.url, b.url.port or 0
        await a.holders(first, 0)
        async with machine(tmp_path / "b", "b", port=b_port) as b:
            second = await b.keep(b"second")
            await a.holders(first)
            await a.holders(second)
            assert b.url == b_url
    async with (
        machine(tmp_path / "b", "b", port=b_port) as b,
        machine(tmp_path / "a", "a", b.url, port=port) as a,
    ):
        await a.holders(first)
        await a.holders(second)


async def test_a_node_with_an_emptied_store_is_read_anew(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a") as a:
        async with machine(tmp_path / "b", "b", a.url) as b:
            lost = await b.keep(b"lost")
            await a.holders(lost)
            port = b.url.port or 0
        async with machine(tmp_path / "b2", "b", a.url, port=port) as b:
            kept = await b.keep(b"kept")
            await a.holders(kept)
            assert a.cluster.holders(lost) == ()


async def test_a_node_that_joins_itself_has_no_peer(tmp_path: Path) -> None:
    async with machine(tmp_path / "x", "x") as taken:
        port = taken.url.port or 0
        url = taken.url
    async with machine(tmp_path / "a", "a", url, port=port) as a:
        await until(lambda: (s := a.peer(a.url)) is not None and s.note == "this node itself")
        assert a.alive() == []


async def test_two_nodes_with_one_name_share(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "box") as a, machine(tmp_path / "b", "box", a.url) as b:
        digest = await a.keep(BLOB)
        await b.holders(digest)
        assert b.alive() == ["box"]


async def test_a_folder_that_was_copied_is_reported(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a"):
        pass
    copy_folder(tmp_path / "a", tmp_path / "b")
    async with machine(tmp_path / "a", "a") as a, machine(tmp_path / "b", "b", a.url) as b:
        await until(lambda: any("copied" in warning for warning in b.cluster.warnings))


def copy_folder(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


async def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a") as a:
        digest = await a.keep(BLOB)
        async with machine(tmp_path / "b", "b", a.url) as b:
            await b.holders(digest)
        (tmp_path / "b" / "cluster.db").write_bytes(b"no database" * 1000)
        async with machine(tmp_path / "b", "b", a.url) as b:
            await b.holders(digest)
            assert b.cluster.warnings == ()


async def test_nodes_find_each_other_by_mdns(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "box", mdns=("127.0.0.1",)) as a,
        machine(tmp_path / "b", "box", mdns=("127.0.0.1",)) as b,
    ):
        digest = await a.keep(BLOB)
        await b.holders(digest)
        assert await b.fetch(digest) == BLOB
        assert all(status.note != "this node itself" for status in a.cluster.peers())
        assert a.cluster.warnings == b.cluster.warnings == ()


async def test_a_missing_interface_is_a_warning(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a", mdns=("192.0.2.77",)) as a:
        await until(lambda: bool(a.cluster.warnings))
        assert "192.0.2.77" in a.cluster.warnings[0]


@pytest.mark.parametrize("query", ["since=-1", "since=x", "wait=99999", "wait=nan", "since=" + "9" * 30])
async def test_malformed_questions_are_answered_in_one_line(tmp_path: Path, query: str) -> None:
    async with (
        machine(tmp_path / "a", "a") as a,
        aiohttp.ClientSession() as session,
        session.get(f"{a.url}/mesh/v1/log?{query}") as answer,
    ):
        assert answer.status == 400
        assert "expected" in await answer.text()


@pytest.mark.parametrize("body", [b"", b"junk", b"\x81\xa1v\x02", b"x" * 40_000])
async def test_malformed_greetings_are_refused_and_nobody_is_dialled(tmp_path: Path, body: bytes) -> None:
    async with machine(tmp_path / "a", "a") as a, aiohttp.ClientSession() as session:
        async with session.post(a.url / "mesh/v1/hello", data=body) as answer:
            assert answer.status == 400
        assert a.cluster.peers() == ()


async def test_a_callers_error_is_not_wrapped(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with machine(tmp_path / "a", "a"):
            raise ZeroDivisionError


async def test_a_page_of_a_log_that_was_forgotten_meanwhile_is_not_taken_for_its_beginning(tmp_path: Path) -> None:
    peer, held = FakePeer(), (b"one", b"two", b"three")
    for data in held[:2]:
        peer.hold(data)
    async with fake_peer(peer), machine(tmp_path / "a", "a", peer.url) as node:
        for data in held[:2]:
            await node.holders(Digest.of(data))

        def forgotten() -> None:
            """What else may happen while the page is under way, such as that all logs together are too much."""
            peer.faults.log = None
            for log in node.cluster._peers.directory._logs.values():
                log.forget()

        peer.faults.log = forgotten
        peer.hold(held[2])
        for data in reversed(held):
            await node.holders(Digest.of(data))


async def test_what_a_member_says_of_its_daemon_counts_more_than_what_a_stranger_says(tmp_path: Path) -> None:
    peer_id = "12D3KooWEE1" + "x" * 41
    async with (
        machine(tmp_path / "a", "stranger") as stranger,
        machine(tmp_path / "b", "member", secret=SECRET) as member,
    ):
        stranger.cluster.introduce(SwarmPeer(peer_id, ("/ip4/127.0.0.1/tcp/1",)))
        member.cluster.introduce(SwarmPeer(peer_id, ("/ip4/127.0.0.1/tcp/2",)))
        async with machine(tmp_path / "c", "c", stranger.url, member.url, secret=SECRET) as node:
            await until(lambda: sorted(node.alive()) == ["member", "stranger"])
            assert node.cluster.introduced() == (SwarmPeer(peer_id, ("/ip4/127.0.0.1/tcp/2",)),)
