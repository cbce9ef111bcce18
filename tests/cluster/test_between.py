"""Who stands between two members that speak TLS gets nothing, and is believed by neither."""

import asyncio
import random
import time
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from cluster.auth import Keys
from cluster.tls import Pin, make_certificate
from cluster.wire import HELLO, LOG, Caller
from node.digest import Digest
from node.errors import NotFoundError
from node.source import Wanted
from node.visibility import Visibility
from tests.cluster.machine import FAST, REPOSITORY, Machine, machine, until
from tests.fakes.between import Between, between
from tests.fakes.peer import FakePeer, fake_peer

BLOB = random.Random(2).randbytes(3 * 1024 * 1024 + 77)
SECRET = b"a secret that all of this cluster know"


def note(node: Machine, url: URL) -> str:
    status = node.peer(url)
    return (status.note or "") if status else ""


async def _keep_secret(node: Machine) -> Digest:
    """A blob for members."""
    return await node.keep(BLOB, Visibility.MEMBERS)


def _gave_away(one: Between, *digests: Digest) -> list[bytes]:
    """What of the blobs and their names whoever stands between got to read."""
    said = bytes(one.asked + one.answered)
    needles = [form for each in digests for form in (each.hex.encode(), bytes.fromhex(each.hex))]
    return [needle for needle in (BLOB[:64], BLOB[-64:], b"/mesh/v1/log", *needles) if needle in said]


async def test_who_relays_a_greeting_shows_another_certificate_and_is_set_aside(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "a", secret=SECRET, tls=True) as a,
        between(a.url, rewrite=False) as evil,
        machine(tmp_path / "b", "b", evil.url, secret=SECRET, tls=True) as b,
    ):
        digests = [await _keep_secret(a), await b.keep(b"of b", Visibility.MEMBERS)]
        await until(lambda: (s := b.peer(evil.url)) is not None and s.set_aside is not None)
        status = b.peer(evil.url)
        assert status is not None and (status.member, status.state) == (False, "candidate")
        assert "another certificate" in (status.set_aside or "") and "stands between" in (status.note or "")
        assert b.cluster.holders(digests[0]) == ()
        assert b"Layermesh-Mac" not in evil.asked and not _gave_away(evil, *digests)


async def test_who_relays_a_greeting_and_names_his_own_certificate_is_no_member(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "a", secret=SECRET, tls=True) as a,
        between(a.url, rewrite=True) as evil,
        machine(tmp_path / "b", "b", evil.url, secret=SECRET, tls=True) as b,
    ):
        digests = [await _keep_secret(a), await b.keep(b"of b", Visibility.MEMBERS)]
        await until(lambda: "stand between" in note(b, evil.url))
        status = b.peer(evil.url)
        assert status is not None and not status.member
        await until(lambda: b"the log of this node is for members" in evil.answered)  # asked as a stranger, in vain
        assert b.cluster.holders(digests[0]) == ()
        gave_away = _gave_away(evil, *digests)
        assert gave_away == [b"/mesh/v1/log"]


async def test_a_member_is_found_again_once_nobody_stands_between_any_more(tmp_path: Path) -> None:
    """The same address: first somebody else answers there, then the member itself; what was his fault is not its."""
    async with machine(tmp_path / "a", "a", secret=SECRET, tls=True) as a, between(a.url, rewrite=False) as evil:
        url, port = evil.url, evil.url.port or 0
        async with machine(tmp_path / "b", "b", url, secret=SECRET, tls=True) as b:
            await until(lambda: "stands between" in note(b, url))
            await evil.leave()
            async with machine(tmp_path / "c", "c", secret=SECRET, tls=True, port=port) as c:
                began = asyncio.get_running_loop().time()
                (holder,) = await b.holders(await _keep_secret(c))
                assert holder.member and holder.url == str(url)
                assert asyncio.get_running_loop().time() - began < FAST.set_aside_s / 2


async def test_who_takes_a_members_place_is_not_asked_for_what_that_had(tmp_path: Path) -> None:
    """Whoever looked for holders before would else tell him the CID, which is all that it takes to know the bytes."""
    async with machine(tmp_path / "b", "b", secret=SECRET, tls=True) as b:
        async with machine(tmp_path / "a", "a", b.url, secret=SECRET, tls=True) as a:
            digest = await _keep_secret(a)
            holders = await b.holders(digest)
            url, peer_id = a.url, a.store.node_id
        evil = FakePeer(id=peer_id, certificate=await asyncio.to_thread(make_certificate))
        async with fake_peer(evil, port=url.port or 0):
            await until(lambda: (s := b.peer(url)) is not None and (s.state, s.member) == ("alive", False))
            wanted = Wanted(REPOSITORY, digest)
            async with b.store.ingest(wanted) as ingest:
                with pytest.raises(NotFoundError):
                    await b.cluster.fetch(wanted, holders, ingest)
            assert not any("/ipfs/" in asked for asked in evil.requests)


async def test_a_proof_that_was_made_for_another_certificate_opens_nothing(tmp_path: Path) -> None:
    """As it would be if a member could be brought to ask whoever stands between."""
    async with machine(tmp_path / "a", "a", secret=SECRET, tls=True) as a, aiohttp.ClientSession() as session:
        held = await a.store.find(await _keep_secret(a))
        assert held is not None
        caller = Caller("b" * 32, Keys.of(SECRET), time.time)
        right, evil = Pin(), Pin("e" * 64)
        async with session.get(a.url / HELLO[1:], ssl=right) as answer:
            assert answer.status == 200
        for path in (f"{LOG}?id=&since=0&wait=0", f"/ipfs/{held.cid}", HELLO):
            statuses = []
            for pin in (evil, None, right):
                headers, _ = caller.proof(a.store.node_id, "GET", path, pin=pin)
                async with session.get(URL(f"{a.url.origin()}{path}", encoded=True), headers=headers, ssl=right) as got:
                    statuses.append(got.status)
            assert statuses in ([401, 401, 200], [404, 404, 200])


async def test_nothing_is_proved_over_a_connection_whose_other_end_is_not_known() -> None:
    caller = Caller("b" * 32, Keys.of(SECRET), time.time, tls=True)
    for pin in (None, Pin()):
        assert caller.proof("a" * 32, "GET", LOG, pin=pin) == ({}, None)
