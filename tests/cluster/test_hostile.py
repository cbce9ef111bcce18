"""A whole node among peers that lie, flood, stall and pretend."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import msgpack
import pytest
from yarl import URL

from cluster.auth import Call, Keys, sign_request
from cluster.config import Limits
from node.digest import Digest
from node.errors import MismatchError, NotFoundError, UnreachableError
from node.records import stamp_at
from node.reference import Tag
from node.source import Wanted
from tests.cluster.machine import FAST, REPOSITORY, Machine, machine, until
from tests.fakes.peer import FakePeer, Faults, dag_of, fake_peer

SECRET = b"a secret that all of this cluster know"
BLOB = random.Random(2).randbytes(3 * 1024 * 1024 + 5)
WRONG = random.Random(3).randbytes(len(BLOB))
NOW = 1_000_000.0


@asynccontextmanager
async def meeting(
    tmp_path: Path, *peers: FakePeer, secret: bytes | None = None, limits: Limits | None = None
) -> AsyncIterator[Machine]:
    """A node that joined these peers."""
    async with AsyncExitStack() as stack:
        urls = [(await stack.enter_async_context(fake_peer(peer))).url for peer in peers]
        opened = machine(tmp_path / "a", "a", *urls, secret=secret, limits=limits, clock=lambda: NOW)
        yield await stack.enter_async_context(opened)


def set_aside(node: Machine, peer: FakePeer) -> str | None:
    status = node.peer(peer.url)
    return None if status is None else status.set_aside


async def fetch(node: Machine, digest: Digest) -> None:
    wanted = Wanted(REPOSITORY, digest)
    async with node.store.ingest(wanted) as ingest:
        await node.cluster.fetch(wanted, node.cluster.holders(digest), ingest)
        await ingest.verified()


async def test_a_consistent_dag_of_wrong_bytes_is_found_by_the_digest_and_blamed(tmp_path: Path) -> None:
    liar = FakePeer()
    digest = Digest.of(BLOB)
    cid = liar.hold(WRONG, digest)
    async with meeting(tmp_path, liar) as node:
        await node.holders(digest)
        with pytest.raises(MismatchError):
            await fetch(node, digest)
        node.cluster.blame(digest, cid)
        assert node.cluster.holders(digest) == ()
        assert "named" in (set_aside(node, liar) or "")
        assert await node.store.find(digest) is None


@pytest.mark.parametrize("faults", [Faults(flip_at=99), Faults(wrong_node=True)])
async def test_who_sends_wrong_bytes_is_set_aside_with_the_reason(tmp_path: Path, faults: Faults) -> None:
    liar = FakePeer(faults=faults)
    liar.hold(BLOB)
    async with meeting(tmp_path, liar) as node:
        digest = Digest.of(BLOB)
        await node.holders(digest)
        with pytest.raises(UnreachableError):
            await fetch(node, digest)
        assert set_aside(node, liar)
        assert node.cluster.holders(digest) == ()


async def test_a_size_that_is_not_the_wanted_one_is_blamed(tmp_path: Path) -> None:
    liar = FakePeer()
    liar.hold(BLOB)
    async with meeting(tmp_path, liar) as node:
        digest = Digest.of(BLOB)
        holders = await node.holders(digest)
        wanted = Wanted(REPOSITORY, digest, size=7)
        async with node.store.ingest(wanted) as ingest:
            with pytest.raises(MismatchError, match="7 bytes"):
                await node.cluster.fetch(wanted, holders, ingest)
        assert set_aside(node, liar)


async def test_who_has_it_no_more_is_no_holder_but_not_set_aside(tmp_path: Path) -> None:
    peer = FakePeer(faults=Faults(status=404))
    peer.hold(BLOB)
    async with meeting(tmp_path, peer) as node:
        digest = Digest.of(BLOB)
        await node.holders(digest)
        with pytest.raises(NotFoundError):
            await fetch(node, digest)
        assert node.cluster.holders(digest) == ()
        assert set_aside(node, peer) is None


@pytest.mark.parametrize(
    "log",
    [
        b"",
        b"junk",
        b"\x91" * 3000,
        b"x" * 3_000_000,
        msgpack.packb({"v": 2}),
        msgpack.packb({"v": 1, "log": "2" * 32, "upto": 5, "more": False, "lines": [["blob", 9, "sha256:x"]]}),
        msgpack.packb({"v": 1, "log": "2" * 32, "upto": 5, "more": True, "lines": [["drop", 9, f"sha256:{0:064x}"]]}),
        msgpack.packb({"v": 1, "log": "2" * 32, "upto": 1 << 63, "more": False, "lines": []}),
    ],
)
async def test_a_malformed_log_sets_its_peer_aside_and_harms_no_other(tmp_path: Path, log: bytes) -> None:
    liar, honest = FakePeer(id="e" * 32, faults=Faults(log=log)), FakePeer(id="a" * 32)
    honest.hold(BLOB)
    async with meeting(tmp_path, liar, honest) as node:
        await until(lambda: set_aside(node, liar) is not None)
        await node.holders(Digest.of(BLOB))
        await fetch(node, Digest.of(BLOB))
        assert set_aside(node, honest) is None


@pytest.mark.parametrize(
    "hello",
    [
        b"junk",
        b"y" * 20_000,
        msgpack.packb({"v": 99}),
        msgpack.packb({"v": 1, "id": "x", "name": "y", "boot": "z", "port": 1, "secured": False}),
    ],
)
async def test_a_malformed_hello_makes_no_peer_and_the_reason_is_shown(tmp_path: Path, hello: bytes) -> None:
    async with meeting(tmp_path, liar := FakePeer(faults=Faults(hello=hello))) as node:
        await until(lambda: (s := node.peer(liar.url)) is not None and s.note is not None)
        status = node.peer(liar.url)
        assert status is not None
        assert (status.state, status.id) == ("candidate", "")
        assert "Hello" in (status.note or "") or "longer" in (status.note or "")


async def test_peers_that_never_answer_delay_nobody(tmp_path: Path) -> None:
    hanging = [FakePeer(faults=Faults(hang=frozenset({"/mesh/v1/hello"}))) for _ in range(4)]
    mute = FakePeer(id="c" * 32, faults=Faults(hang=frozenset({"/mesh/v1/log"})))
    honest = FakePeer(id="a" * 32)
    honest.hold(BLOB)
    async with meeting(tmp_path, *hanging, mute, honest) as node:
        await node.holders(Digest.of(BLOB))
        await fetch(node, Digest.of(BLOB))


async def test_more_entries_than_allowed_set_a_peer_aside(tmp_path: Path) -> None:
    greedy, honest = FakePeer(id="e" * 32), FakePeer(id="a" * 32)
    for number in range(60):
        greedy.hold(b"%d" % number)
    honest.hold(BLOB)
    async with meeting(tmp_path, greedy, honest, limits=Limits(entries_per_peer=50)) as node:
        await until(lambda: set_aside(node, greedy) is not None)
        assert "more than 50 entries" in (set_aside(node, greedy) or "")
        await node.holders(Digest.of(BLOB))


async def test_when_all_logs_are_too_much_the_largest_goes(tmp_path: Path) -> None:
    greedy, honest = FakePeer(id="e" * 32), FakePeer(id="a" * 32)
    for number in range(40):
        greedy.hold(b"%d" % number)
    for number in range(20):
        honest.hold(b"%d" % number)
    async with meeting(tmp_path, greedy, honest, limits=Limits(entries=50)) as node:
        await until(lambda: set_aside(node, greedy) is not None)
        await node.holders(Digest.of(b"1"))
        assert set_aside(node, honest) is None


async def test_tags_of_a_stranger_are_never_used_though_it_says_that_it_has_a_secret(tmp_path: Path) -> None:
    stranger = FakePeer(secured=True)
    stranger.see("latest", Digest.of(b"evil"), NOW - 1)
    stranger.hold(BLOB)
    async with meeting(tmp_path, stranger, secret=SECRET) as node:
        (holder,) = await node.holders(Digest.of(BLOB))
        assert not holder.member
        assert node.cluster.tag(REPOSITORY, Tag("latest"), NOW) is None
        status = node.peer(stranger.url)
        assert status is not None
        assert "not proved to be a member" in (status.note or "")


async def test_tags_dated_tomorrow_are_ignored_even_from_a_member(tmp_path: Path) -> None:
    member = FakePeer(secret=SECRET)
    member.see("latest", Digest.of(b"tomorrow"), NOW + 86_400)
    member.see("stable", Digest.of(b"today"), NOW - 5)
    async with meeting(tmp_path, member, secret=SECRET) as node:
        await until(lambda: node.cluster.tag(REPOSITORY, Tag("stable"), NOW) is not None)
        assert node.cluster.tag(REPOSITORY, Tag("latest"), NOW + 100_000) is None


@pytest.mark.parametrize("fault", ["unsigned", "wrong_secret"])
async def test_a_member_that_stops_proving_itself_is_a_member_no_more(tmp_path: Path, fault: str) -> None:
    member = FakePeer(secret=SECRET)
    member.see("stable", Digest.of(b"today"), NOW - 5)
    async with meeting(tmp_path, member, secret=SECRET) as node:
        await until(lambda: node.cluster.tag(REPOSITORY, Tag("stable"), NOW) is not None)
        setattr(member.faults, fault, True)
        member.see("stable", Digest.of(b"forged"), NOW)
        await until(lambda: (s := node.peer(member.url)) is not None and s.state == "alive" and not s.member)
        assert node.cluster.tag(REPOSITORY, Tag("stable"), NOW) is None


async def test_a_strangers_hello_never_makes_us_dial_an_address_of_its_choice(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a") as node, fake_peer() as victim, aiohttp.ClientSession() as session:
        chosen = {"url": str(victim.url).replace("127.0.0.1", "127.0.0.9"), "port": 1}
        hello = {"v": 1, "id": "e" * 32, "name": "evil", "boot": "e" * 32, "secured": False, **chosen}
        async with session.post(node.url / "mesh/v1/hello", data=msgpack.packb(hello)) as answer:
            assert answer.status == 200
        assert [status.url for status in node.cluster.peers()] == ["http://127.0.0.1:1"]
        await until(lambda: node.cluster.peers() == ())
        assert victim.requests == []


async def test_one_host_cannot_name_more_than_a_few_candidates(tmp_path: Path) -> None:
    limits = Limits(candidates_per_host=4)
    timings_free = FAST
    async with machine(tmp_path / "a", "a", limits=limits, timings=timings_free) as node, aiohttp.ClientSession() as s:
        for port in range(1, 60):
            hello = {"v": 1, "id": f"{port:032x}", "name": "x", "boot": "e" * 32, "secured": False, "port": port}
            async with s.post(node.url / "mesh/v1/hello", data=msgpack.packb(hello)) as answer:
                assert answer.status == 200
            assert len(node.cluster.peers()) <= 4


async def test_an_ids_owner_is_not_displaced_by_who_claims_it(tmp_path: Path) -> None:
    owner, thief = FakePeer(secret=SECRET), FakePeer(boot="9" * 32)
    owner.hold(BLOB)
    async with meeting(tmp_path, thief, owner, secret=SECRET) as node:
        await until(lambda: (s := node.peer(owner.url)) is not None and s.member)
        (holder,) = await node.holders(Digest.of(BLOB))
        assert (holder.member, holder.url) == (True, str(owner.url))


async def ask(session: aiohttp.ClientSession, url: URL, target: str, header: str) -> tuple[int, str]:
    async with session.get(URL(f"{url}{target}", encoded=True), headers={"Authorization": header}) as answer:
        return answer.status, await answer.text(errors="replace")


async def test_replayed_and_redirected_requests_are_refused_over_the_wire(tmp_path: Path) -> None:
    keys, me = Keys.of(SECRET), "b" * 32
    async with (
        machine(tmp_path / "a", "a", secret=SECRET, clock=lambda: NOW) as node,
        aiohttp.ClientSession() as session,
    ):
        target = "/mesh/v1/log?since=0"
        proof = sign_request(keys, Call(me, node.store.node_id, "GET", target), NOW, "1" * 32)
        assert (await ask(session, node.url, target, proof))[0] == 200
        for where, header, reason in [
            (target, proof, "seen before"),
            ("/mesh/v1/log?since=1", proof, "MAC is wrong"),
            (target, sign_request(keys, Call(me, "c" * 32, "GET", target), NOW, "2" * 32), "another node"),
            (target, sign_request(keys, Call(me, node.store.node_id, "GET", target), NOW - 99, "3" * 32), "99 s"),
            (target, "Basic YTpi", "scheme Layermesh-Mac"),
        ]:
            status, text = await ask(session, node.url, where, header)
            assert status == 401
            assert reason in text
            assert text.count("\n") == 1


async def test_a_gateway_request_with_a_wrong_or_replayed_proof_gets_nothing(tmp_path: Path) -> None:
    keys = Keys.of(SECRET)
    async with (
        machine(tmp_path / "a", "a", secret=SECRET, clock=lambda: NOW) as node,
        aiohttp.ClientSession() as session,
    ):
        await node.keep(BLOB)
        target = f"/ipfs/{dag_of(BLOB).root}"
        proof = sign_request(keys, Call("b" * 32, node.store.node_id, "GET", target), NOW, "1" * 32)
        assert [(await ask(session, node.url, target, proof))[0] for _ in range(2)] == [200, 404]
        async with session.get(f"{node.url}{target}") as answer:
            assert answer.status == 404


async def test_a_fetch_without_holders_finds_nothing(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a") as node:
        with pytest.raises(NotFoundError):
            await fetch(node, Digest.of(BLOB))


async def test_a_peer_that_dies_without_a_word_is_gone_within_its_probes(tmp_path: Path) -> None:
    peer = FakePeer()
    peer.hold(BLOB)
    async with meeting(tmp_path, peer) as node:
        await node.holders(Digest.of(BLOB))
        peer.faults.hang = frozenset({"/mesh/v1/hello", "/mesh/v1/log", "/ipfs/"})
        await node.holders(Digest.of(BLOB), 0)
        await until(lambda: (s := node.peer(peer.url)) is not None and s.state == "gone", 3.0)


async def test_a_thousand_hostile_messages_leave_the_node_working(tmp_path: Path) -> None:
    order = random.Random(4)
    liar = FakePeer(id="e" * 32, faults=Faults(log=lambda: order.randbytes(order.randrange(300))))
    honest = FakePeer(id="a" * 32)
    async with meeting(tmp_path, liar, honest) as node, aiohttp.ClientSession() as session:
        for _ in range(300):
            async with session.post(node.url / "mesh/v1/hello", data=order.randbytes(order.randrange(200))) as answer:
                assert answer.status == 400
        honest.hold(BLOB)
        await node.holders(Digest.of(BLOB))
        assert not [event for event, _ in node.events if event == "peer_crashed"]


async def test_a_member_with_more_records_than_are_kept_of_one_is_named_and_read_no_further(tmp_path: Path) -> None:
    member, app = FakePeer(secret=SECRET), "team/app"
    async with meeting(tmp_path, member, secret=SECRET, limits=Limits(records_per_peer=2)) as node:
        for seq in (1, 2):
            member.say(record(seq))
        await until(lambda: node.peer(member.url) is not None)
        async with asyncio.timeout(10):
            while await node.store.owned.blob(app, Digest.of(b"2")) is None:
                await asyncio.sleep(0.01)
        member.say(record(3))
        await until(lambda: "more than 2 records" in (((status := node.peer(member.url)) and status.note) or ""))
        assert [about["note"] for event, about in node.events if event == "peer_noted"]
        assert set_aside(node, member) is None
        assert await node.store.owned.blob(app, Digest.of(b"3")) is None
        await node.store.owned.add_blob(app, Digest.of(b"own"), 3)


def record(seq: int) -> list[object]:
    digest = str(Digest.of(b"%d" % seq))
    return ["record", seq, "team/app", "blob", digest, digest, 1, "", "", "", stamp_at(NOW), "9" * 32, 0]
