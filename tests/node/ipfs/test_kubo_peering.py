"""Which connections a Kubo is told to keep."""

import pytest
from yarl import URL

from node.errors import UnreachableError
from node.ipfs.kubo.daemon import Daemon
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.multiaddrs import SwarmPeer
from node.ipfs.kubo.peering import Peering
from node.ipfs.kubo.rpc import Rpc, open_session
from tests.fakes.kubo import fake_kubo

ONE = SwarmPeer("12D3KooWEE1" + "x" * 41, ("/ip4/10.0.0.7/tcp/4001",))
OTHER = SwarmPeer("12D3KooWEE2" + "x" * 41, ("/ip4/10.0.0.8/tcp/4001",))


async def test_peers_that_come_go_and_move_are_followed() -> None:
    async with fake_kubo() as fake, open_session(Endpoint(fake.rpc)) as session:
        peering = Peering(Daemon(Rpc(Endpoint(fake.rpc), session)))
        await peering.keep(fake.peer_id, [ONE, OTHER])
        assert fake.peerings == {each.peer_id: list(each.addresses) for each in (ONE, OTHER)}
        await peering.keep(fake.peer_id, [OTHER])
        assert fake.peerings.keys() == {OTHER.peer_id}
        moved = SwarmPeer(OTHER.peer_id, ("/ip4/10.0.0.9/tcp/4001", "/ip4/10.0.0.9/udp/4001/quic-v1"))
        await peering.keep(fake.peer_id, [moved])
        assert fake.peerings == {OTHER.peer_id: list(moved.addresses)}


async def test_a_daemon_that_was_started_anew_is_told_again() -> None:
    async with fake_kubo() as fake, open_session(Endpoint(fake.rpc)) as session:
        peering = Peering(Daemon(Rpc(Endpoint(fake.rpc), session)))
        await peering.keep(fake.peer_id, [ONE])
        fake.peerings.clear()
        await peering.keep(fake.peer_id, [ONE])
        assert fake.peerings.keys() == {ONE.peer_id}


async def test_what_the_operator_made_it_keep_is_left_alone() -> None:
    async with fake_kubo() as fake, open_session(Endpoint(fake.rpc)) as session:
        fake.peerings[ONE.peer_id] = ["/ip4/1.1.1.1/tcp/1"]
        peering = Peering(Daemon(Rpc(Endpoint(fake.rpc), session)))
        await peering.keep(fake.peer_id, [ONE, OTHER])
        await peering.keep(fake.peer_id, [])
        assert fake.peerings == {ONE.peer_id: ["/ip4/1.1.1.1/tcp/1"]}


async def test_it_is_not_told_of_itself() -> None:
    async with fake_kubo() as fake, open_session(Endpoint(fake.rpc)) as session:
        peering = Peering(Daemon(Rpc(Endpoint(fake.rpc), session)))
        await peering.keep(ONE.peer_id, [ONE])
        assert not fake.peerings


async def test_a_daemon_that_is_away_is_told_later() -> None:
    nowhere = Endpoint(URL("http://127.0.0.1:1"))
    async with open_session(nowhere) as session:
        peering = Peering(Daemon(Rpc(nowhere, session)))
        with pytest.raises(UnreachableError):
            await peering.keep("x", [ONE])
