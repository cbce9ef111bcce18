"""Nodes that speak TLS with each other, and nothing else."""

import asyncio
import os
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from cluster import messages
from cluster.messages import Hello
from cluster.tls import Pin, fingerprint_of, make_certificate
from node.digest import Digest
from node.errors import UnreachableError
from node.visibility import Visibility
from tests.cluster.machine import Machine, machine, until
from tests.fakes.peer import FakePeer, Faults, fake_peer

BLOB = random.Random(1).randbytes(9 * 1024 * 1024 + 77)
SECRET = b"a secret that all of this cluster know"


@asynccontextmanager
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Machine, Machine]]:
    """Two members over TLS."""
    async with (
        machine(tmp_path / "a", "a", secret=SECRET, tls=True) as a,
        machine(tmp_path / "b", "b", a.url, secret=SECRET, tls=True) as b,
    ):
        yield a, b


def note(node: Machine, url: URL) -> str:
    status = node.peer(url)
    return (status.note or "") if status else ""


async def test_members_share_over_tls_what_they_hold(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b):
        for data in (BLOB, b"small", b""):
            digest = await a.keep(data, Visibility.MEMBERS)
            (holder,) = await b.holders(digest)
            assert (holder.member, holder.url) == (True, str(a.url)) and holder.url.startswith("https://")
            assert await b.fetch(digest) == data
        assert a.cluster.sent_bytes >= len(BLOB)


async def test_who_joined_is_reached_by_https_in_turn(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b):
        digest = await b.keep(BLOB, Visibility.MEMBERS)
        (holder,) = await a.holders(digest)
        assert holder.url == str(b.url)
        assert await a.fetch(digest) == BLOB


async def test_a_blob_comes_from_several_members(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b):
        digest = await a.keep(BLOB, Visibility.MEMBERS)
        await b.keep(BLOB, Visibility.MEMBERS)
        async with machine(tmp_path / "c", "c", a.url, b.url, secret=SECRET, tls=True) as c:
            await c.holders(digest, 2)
            assert await c.fetch(digest) == BLOB
            assert a.cluster.sent_bytes and b.cluster.sent_bytes


async def test_nodes_find_each_other_by_mdns_and_speak_tls(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "box", secret=SECRET, tls=True, mdns=("127.0.0.1",)) as a,
        machine(tmp_path / "b", "box", secret=SECRET, tls=True, mdns=("127.0.0.1",)) as b,
    ):
        digest = await a.keep(b"x", Visibility.MEMBERS)
        (holder,) = await b.holders(digest)
        assert holder.url == str(a.url)


async def test_only_tls_1_3_is_spoken(tmp_path: Path) -> None:
    older = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    older.check_hostname, older.verify_mode = False, ssl.CERT_NONE
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    async with machine(tmp_path / "a", "a", secret=SECRET, tls=True) as a, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(a.url / "mesh/v1/hello", ssl=older)
        with pytest.raises(aiohttp.ClientError):
            await session.get(a.url.with_scheme("http") / "mesh/v1/hello")


async def test_the_open_gateway_speaks_https(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "a", secret=SECRET, tls=True, open_gateway=True) as a,
        aiohttp.ClientSession() as session,
    ):
        shown, hidden = await a.keep(b"public"), await a.keep(b"members", Visibility.MEMBERS)
        for digest, status in ((shown, 200), (hidden, 404)):
            holding = await a.store.find(digest)
            assert holding is not None
            async with session.get(a.url / f"ipfs/{holding.cid}", ssl=False) as answer:
                assert answer.status == status


async def test_a_stranger_with_another_secret_is_no_member_and_gets_what_anybody_may(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "a", secret=SECRET, tls=True, open_gateway=True) as a,
        machine(tmp_path / "b", "b", a.url, secret=b"another secret", tls=True) as b,
    ):
        hidden, shown = await a.keep(b"members", Visibility.MEMBERS), await a.keep(BLOB)
        (holder,) = await b.holders(shown)
        assert not holder.member
        assert await b.fetch(shown) == BLOB
        assert b.cluster.holders(hidden) == ()
        assert "the same on both" in note(b, a.url)


async def test_a_node_that_is_started_anew_shows_another_certificate_and_is_a_member_again_at_once(
    tmp_path: Path,
) -> None:
    async with machine(tmp_path / "a", "a", secret=SECRET, tls=True) as a:
        async with machine(tmp_path / "b", "b", a.url, secret=SECRET, tls=True) as b:
            first = await b.keep(BLOB, Visibility.MEMBERS)
            await a.holders(first)
            port = b.url.port or 0
        for folder in ("b", "emptied"):
            async with machine(tmp_path / folder, "b", secret=SECRET, tls=True, port=port) as b:
                again = await b.keep(folder.encode() * 500_000, Visibility.MEMBERS)
                (holder,) = await a.holders(again)
                assert holder.member
                assert await a.fetch(again) == folder.encode() * 500_000


async def test_a_node_that_is_started_anew_in_the_middle_of_a_talk_is_believed_within_seconds(tmp_path: Path) -> None:
    """Its port answers all the while, with another certificate: no probe ever fails to connect."""
    async with machine(tmp_path / "a", "a", secret=SECRET, tls=True) as a:
        async with machine(tmp_path / "b", "b", a.url, secret=SECRET, tls=True) as b:
            await until(lambda: a.alive() == ["b"])
            port = b.url.port or 0
        async with machine(tmp_path / "b", "b", secret=SECRET, tls=True, port=port) as b:
            digest = await b.keep(b"after", Visibility.MEMBERS)
            began = asyncio.get_running_loop().time()
            await a.holders(digest)
            assert asyncio.get_running_loop().time() - began < 3


@pytest.mark.parametrize("joins", ["tls joins plain", "plain joins tls"])
async def test_a_node_with_and_one_without_tls_both_say_so(tmp_path: Path, joins: str) -> None:
    first_speaks = joins == "plain joins tls"
    async with (
        machine(tmp_path / "a", "a", secret=SECRET, tls=first_speaks) as a,
        machine(tmp_path / "b", "b", _other(a.url), secret=SECRET, tls=not first_speaks) as b,
    ):
        digest = await a.keep(BLOB)
        await until(lambda: all(any(peer.note for peer in node.cluster.peers()) for node in (a, b)))
        for node, name, speaks in ((a, "b", not first_speaks), (b, "a", first_speaks)):
            (peer,) = node.cluster.peers()
            words = f"{name} speaks TLS, this node does not" if speaks else f"{name} speaks no TLS, this node does"
            assert (peer.note or "").startswith(words) and "[cluster] tls" in (peer.note or "")
            assert (peer.state, peer.member) == ("candidate", False)
        assert b.cluster.holders(digest) == ()


def _other(url: URL) -> URL:
    """As a node that speaks the other way is told of it."""
    return URL.build(scheme="https" if url.scheme == "http" else "http", host="127.0.0.1", port=url.port)


@pytest.mark.parametrize("secured", [True, False])
async def test_who_speaks_no_tls_but_says_so_is_no_peer(tmp_path: Path, secured: bool) -> None:
    """Over a plain connection anybody may name any certificate."""
    liar = FakePeer(faults=Faults(hello=_hello("e" * 64, secured)))
    async with fake_peer(liar), machine(tmp_path / "a", "a", liar.url, secret=SECRET, tls=True) as a:
        await until(lambda: "liar speaks no TLS" in note(a, liar.url))
        assert not a.alive()
        assert all("log" not in asked for asked in liar.requests)


def _hello(fingerprint: str, secured: bool) -> bytes:
    hello = Hello(v=1, id="f" * 32, name="liar", boot="1" * 32, port=1, secured=secured, tls=fingerprint)
    return messages.encode(hello)


async def test_by_mdns_a_node_with_and_one_without_tls_both_say_so(tmp_path: Path) -> None:
    async with (
        machine(tmp_path / "a", "a", secret=SECRET, tls=True, mdns=("127.0.0.1",)) as a,
        machine(tmp_path / "b", "b", secret=SECRET, mdns=("127.0.0.1",)) as b,
    ):
        await until(lambda: "b speaks no TLS" in note(a, b.url) and "a speaks TLS" in note(b, a.url))
        for node in (a, b):
            assert len(node.cluster.peers()) == 1


async def test_a_node_that_takes_up_tls_is_a_member_again_once_all_have(tmp_path: Path) -> None:
    async with machine(tmp_path / "a", "a", secret=SECRET, tls=True) as a:
        async with machine(tmp_path / "b", "b", a.url, secret=SECRET, tls=False) as b:
            port = b.url.port or 0
            await until(lambda: "b speaks no TLS" in note(a, b.url))
        async with machine(tmp_path / "b", "b", a.url, secret=SECRET, tls=True, port=port) as b:
            digest = await a.keep(b"x", Visibility.MEMBERS)
            assert (await b.holders(digest))[0].member


async def test_a_silent_port_costs_no_more_than_a_greeting(tmp_path: Path) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    url = URL.build(scheme="https", host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    async with server, machine(tmp_path / "a", "a", url, secret=SECRET, tls=True) as a:
        await until(lambda: bool(note(a, url)))
        assert note(a, url) == "no answer in time" or "connect" in note(a, url).lower()


def test_a_pin_takes_the_first_certificate_and_no_other() -> None:
    pin, shown = Pin(), b"one certificate"
    pin.take(shown)
    assert pin.fingerprint == fingerprint_of(shown)
    pin.take(shown)
    for other in (b"another", None):
        with pytest.raises(ssl.SSLCertVerificationError):
            pin.take(other)


def test_each_start_has_a_certificate_of_its_own() -> None:
    assert make_certificate().fingerprint != make_certificate().fingerprint


async def test_a_blob_that_is_not_what_its_name_says_is_refused_over_tls_as_well(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b):
        digest = await a.keep(BLOB, Visibility.MEMBERS)
        await b.holders(digest)
        path = next((tmp_path / "a" / "blobs").rglob(digest.hex))
        stat = path.stat()
        wrong = bytearray(BLOB)
        wrong[5_000_000] ^= 1
        path.write_bytes(wrong)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        with pytest.raises(UnreachableError, match="bytes are not those"):
            await b.fetch(digest)
        assert await b.store.find(Digest.of(BLOB)) is None
