"""Which connections a Kubo is told to keep."""

import pytest
from aiohttp import web
from yarl import URL

from node.errors import UnreachableError
from node.ipfs.kubo.daemon import Daemon
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.multiaddrs import SwarmPeer
from node.ipfs.kubo.peering import Peering
from node.ipfs.kubo.rpc import Rpc, open_session
from tests.fakes.kubo import FakeKubo, fake_kubo

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


class Refusing(FakeKubo):
    """Says no to a peer whose id it cannot read, which anybody may name."""

    async def _swarm_peering_add(self, request: web.Request) -> web.Response:
        if OTHER.peer_id in request.query["arg"]:
            return web.json_response({"Message": "invalid peer id", "Code": 0, "Type": "error"}, status=500)
        return await super()._swarm_peering_add(request)


async def test_what_it_refuses_it_is_told_once() -> None:
    async with fake_kubo(Refusing()) as fake, open_session(Endpoint(fake.rpc)) as session:
        peering = Peering(Daemon(Rpc(Endpoint(fake.rpc), session)))
        for _ in range(5):
            await peering.keep(fake.peer_id, [OTHER, ONE])
        assert fake.peerings.keys() == {ONE.peer_id} and fake.asked.count("swarm/peering/add") == 2
        await peering.keep(fake.peer_id, [SwarmPeer(OTHER.peer_id, ONE.addresses), ONE])
        assert fake.asked.count("swarm/peering/add") == 3
        await peering.keep(fake.peer_id, [])
        assert not fake.peerings


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
