"""Whatever answers as a Kubo, and whatever addresses daemons say they have: of a known shape, or refused in words."""

import asyncio
import ipaddress
import json
from collections.abc import Awaitable
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st

from node.cid import Cid
from node.errors import InvalidError, LayermeshError
from node.ipfs.kubo.daemon import Daemon
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.multiaddrs import MOST_ADDRESSES, SwarmPeer, gateway_url
from node.ipfs.kubo.rpc import Rpc, open_session
from tests.node.gateways import serving

PEER_ID = "12D3KooWKvjC3xc6nirAzw42NfB67zTag8Qz4e6LoLAaq97y23kF"
CID = Cid.of(b"x")
_JSON = "application/json"
_KINDS = st.sampled_from((_JSON, _JSON, f"{_JSON}; charset=x", "text/html", ""))
_SAID = (str(CID), PEER_ID, "0.43.0", f"/ip4/10.0.0.1/tcp/4001/p2p/{PEER_ID}", "layermesh/x", "/ip4/127.0.0.1/tcp/80")
_KEYS = (
    "Addresses", "Cid", "Code", "Hash", "ID", "Keys", "Local", "Message", "Name", "Peers", "Pins", "Progress", "Type",
    "Value", "Version", str(CID),
)  # fmt: skip
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(_SAID)
JSON = st.recursive(
    _SCALARS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.sampled_from(_KEYS), below, max_size=5),
    max_leaves=12,
)


_RIGHT = {
    "Addresses": [f"/ip4/10.0.0.1/tcp/4001/p2p/{PEER_ID}", "/dns/x/tcp/1"],
    "Cid": str(CID),
    "ID": PEER_ID,
    "Keys": {str(CID): {"Name": "layermesh/x", "Type": "recursive"}},
    "Local": True,
    "Name": "layermesh/x",
    "Peers": [{"ID": PEER_ID, "Addrs": []}],
    "Pins": [str(CID)],
    "Progress": 5,
    "Value": "/ip4/127.0.0.1/tcp/8080",
    "Version": "0.43.0",
}
DOCUMENTS = st.fixed_dictionaries({key: st.just(value) | st.just(value) | JSON for key, value in _RIGHT.items()})
"""As a Kubo answers, but for some of it."""


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Some documents, one behind another, of which the last may be cut; or anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    lines = draw(st.lists(DOCUMENTS | JSON, min_size=1, max_size=3))
    text = draw(st.sampled_from(("\n", "\n", "\r\n", " "))).join(json.dumps(line) for line in lines).encode()
    return text[: len(text) - draw(st.sampled_from((0, 0, 0, 1, 5)))]


async def listed(daemon: Daemon) -> list[tuple[Cid, str]]:
    """All pins."""
    async with aclosing(daemon.pins("layermesh/")) as pins:
        return [pin async for pin in pins]


def asked(daemon: Daemon) -> list[tuple[Awaitable[object], type | tuple[type, ...]]]:
    """Everything that a daemon is asked, and what may come of it."""
    peer = SwarmPeer(PEER_ID, ("/ip4/10.0.0.1/tcp/4001",))
    return [
        (daemon.version(), str),
        (daemon.identity(), SwarmPeer),
        (daemon.setting("Addresses.Gateway"), object),
        (daemon.has_block(CID), bool),
        (daemon.has_file(CID), bool),
        (daemon.pinned(CID), (str, type(None))),
        (daemon.pin(CID, "x", stall_s=1.0), type(None)),
        (daemon.unpin(CID), type(None)),
        (listed(daemon), list),
        (daemon.peered(), set),
        (daemon.peer_with(peer), type(None)),
        (daemon.part_from(PEER_ID), type(None)),
    ]


async def look(status: int, kind: str, body: bytes) -> None:
    """Ask everything of what answers so."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={"Content-Type": kind})

    async with serving([web.post("/api/v0/{command:.*}", answer)]) as base:
        endpoint = Endpoint(base)
        async with open_session(endpoint) as session, asyncio.timeout(30):
            for question, kinds in asked(Daemon(Rpc(endpoint, session))):
                try:
                    assert isinstance(await question, kinds)
                except LayermeshError as error:
                    assert str(error) and "\n" not in str(error)


@settings(max_examples=120)
@given(head=st.just((200, _JSON)) | st.tuples(st.sampled_from((200, 500, 403, 400, 404, 302)), _KINDS), body=bodies())
@example((200, _JSON), b'{"Keys": {"x": 1}, "Pins": [], "Cid": null}')
@example((200, _JSON), b"[" * 60_000)
@example((500, _JSON), b'{"Message": "' + b"\\u0000\\n" * 2000 + b'"}')
def test_whatever_a_kubo_answers_is_of_a_known_shape_or_refused_in_words(head: tuple[int, str], body: bytes) -> None:
    asyncio.run(look(*head, body))


_HOSTS = st.sampled_from(
    ("127.0.0.1", "10.0.0.1", "0.0.0.0", "::1", "::", "fe80::1", "::ffff:127.0.0.1", "2001:db8::5", "224.0.0.1",
     "999.1.1.1", "localhost", "node.example", "1", "", "00.0.0.1")
)  # fmt: skip
_ENDS = st.sampled_from(("", f"/p2p/{PEER_ID}", "/p2p/x", "/ws", "/p2p-circuit", "/quic-v1", f"/quic-v1/p2p/{PEER_ID}"))
_PORTS = st.sampled_from(("4001", "0", "65535", "65536", "99999", "-1", "", "٤"))
MULTIADDRS = st.text(max_size=40) | st.builds(
    lambda kind, host, transport, port, end: f"/{kind}/{host}/{transport}/{port}{end}",
    st.sampled_from(("ip4", "ip6", "dns", "dns4", "unix")),
    _HOSTS,
    st.sampled_from(("tcp", "udp")),
    _PORTS,
    _ENDS,
)


@settings(max_examples=300)
@given(addresses=st.lists(MULTIADDRS, max_size=12), host=_HOSTS | st.text(max_size=10), believed=st.booleans())
def test_whatever_addresses_a_daemon_names_only_those_that_may_be_dialled_are(
    addresses: list[str], host: str, believed: bool
) -> None:
    peer = SwarmPeer.parse(PEER_ID, addresses)
    assert len(peer.addresses) <= MOST_ADDRESSES
    assert SwarmPeer.parse(PEER_ID, peer.addresses) == peer
    seen = peer.seen_from(host, believed=believed)
    assert len(seen.addresses) <= len(peer.addresses)
    for address in seen.addresses:
        _, kind, text, *_ = address.split("/")
        if kind == "dns":
            assert text == host
            continue
        ip = ipaddress.ip_address(text)
        assert believed or str(ip) == host or ip.is_loopback
        assert not ip.is_multicast or str(ip) == host
        assert not ip.is_loopback or host == "localhost" or ipaddress.ip_address(host).is_loopback


@settings(max_examples=200)
@given(peer_id=st.text(max_size=70) | st.text("1abcDEFxyz0OIl", min_size=44, max_size=66))
def test_whatever_a_peer_id_is_it_is_base58_or_refused(peer_id: str) -> None:
    try:
        assert SwarmPeer.parse(peer_id, []).peer_id.isalnum()
    except InvalidError as error:
        assert "peer id" in str(error)
        return
    assert 46 <= len(peer_id) <= 64 and not set(peer_id) & set("0OIl")


@settings(max_examples=200)
@given(value=JSON | MULTIADDRS | st.lists(MULTIADDRS, max_size=4), host=_HOSTS)
def test_whatever_is_said_of_a_gateway_leads_to_an_address_or_is_refused(value: Any, host: str) -> None:
    try:
        url = gateway_url(value, host)
    except InvalidError as error:
        assert "its gateway" in str(error)
        return
    assert url.scheme == "http" and url.host and url.port


def test_a_gateway_on_every_address_is_reached_at_the_daemons() -> None:
    assert str(gateway_url(["/dns/x/udp/1", "/ip4/0.0.0.0/tcp/8080"], "10.0.0.1")) == "http://10.0.0.1:8080"
    with pytest.raises(InvalidError, match="switched off"):
        gateway_url([], "10.0.0.1")
