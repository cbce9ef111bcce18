"""The parts of a cluster, made and wired."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import aiohttp
import msgspec

from cluster import messages
from cluster.auth import Keys
from cluster.config import ClusterConfig, Timings
from cluster.directory.directory import Directory
from cluster.directory.disk import CacheError, LogCache, open_cache
from cluster.discovery import static
from cluster.discovery.contracts import Sighting
from cluster.discovery.mdns import Announcement, Mdns
from cluster.greeting import Greeter, Rounds
from cluster.membership import Identity, Membership
from cluster.messages import Hello
from cluster.peers import OnEvent, Peers
from cluster.penalties import Penalties
from cluster.server import Candidate, Gate, MeshServer, parse_peer_url
from cluster.swarm.swarm import Faults, Source, Swarm
from cluster.wire import Caller, MeshClient
from node.ipfs.gateway import GatewayClient
from node.ipfs.kubo.multiaddrs import SwarmPeer
from node.store import Store

READ_BUFFER: Final = 256 * 1024


class Me:
    """Who this node says that it is."""

    def __init__(self, hello: Hello) -> None:
        self.daemon: SwarmPeer | None = None
        """The IPFS daemon beside it."""
        self._hello = hello

    def hello(self, to_member: bool) -> Hello:
        """The greeting; where there is a secret, only members hear of the daemon."""
        if self.daemon is None or (self._hello.secured and not to_member):
            return self._hello
        daemon = messages.Daemon(self.daemon.peer_id, list(self.daemon.addresses))
        return msgspec.structs.replace(self._hello, daemon=daemon)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a cluster consists of."""

    me: Me
    peers: Peers
    swarm: Swarm
    server: MeshServer
    gate: Gate
    caller: Caller
    rounds: Rounds
    mdns: Mdns | None
    warned: dict[str, str]
    """Warnings in force, by what they are about."""

    def running(self) -> list[Coroutine[Any, Any, None]]:
        """What goes on until it is cancelled."""
        return [self.rounds.run(), self.peers.run(), *([] if self.mdns is None else [self._discover(self.mdns)])]

    async def _discover(self, mdns: Mdns) -> None:
        try:
            await mdns.run()
        except Exception as error:  # a node without mDNS is still a node
            self.warned["mdns"] = f"mDNS: failed here: {type(error).__name__}: {error}"


async def assemble(
    config: ClusterConfig, store: Store, clock: Callable[[], float], on_event: OnEvent, stack: AsyncExitStack
) -> Parts:
    """Make the parts; what needs closing is left to `stack`."""
    hello = _hello(config, store.node_id)
    me = Me(hello)
    keys = None if config.secret is None else Keys.of(config.secret)
    warned: dict[str, str] = {}
    session = await stack.enter_async_context(_session(config.timings))
    caller = Caller(store.node_id, keys, clock)
    client = MeshClient(session, caller)
    peers = await _peers(config, store, client, clock, on_event, warned, hello, stack)
    greeter = Greeter(client, me.hello, keys is not None, config.timings)
    rounds = Rounds(peers.membership, greeter, peers.reconcile, peers.lied, peers.crashed)
    peers.wake = rounds.wake
    sighted = partial(_sighted, peers, rounds)
    static.announce(config.joins, sighted)
    gate = Gate(store.node_id, keys, config.open_gateway, clock)
    heard = partial(_heard, peers, rounds)
    server = MeshServer(store, gate, me.hello, heard, config.limits.polls_per_host)
    swarm = Swarm(
        GatewayClient(session, answer_s=config.timings.stall_s), config.timings, config.limits, _faults(peers)
    )
    mdns = _mdns(config, hello, sighted, warned) if config.mdns else None
    return Parts(me, peers, swarm, server, gate, caller, rounds, mdns, warned)


async def _peers(
    config: ClusterConfig,
    store: Store,
    client: MeshClient,
    clock: Callable[[], float],
    on_event: OnEvent,
    warned: dict[str, str],
    hello: Hello,
    stack: AsyncExitStack,
) -> Peers:
    cache: LogCache | None = None
    try:
        cache = await stack.enter_async_context(open_cache(store.folder, store.log_id))
    except CacheError as error:
        warned["cache"] = f"what peers hold is not kept on disk: {error}"
    penalties = Penalties(config.timings)
    me = Identity(hello.id, hello.name, hello.boot)
    loop = asyncio.get_running_loop()
    membership = Membership(
        me, config.timings, config.limits, lambda url: penalties.of(url, loop.time(), member=False) is not None
    )
    directory = Directory(cache, config.limits, clock, store.owned.merge, lambda: store.log_id, config.by_cid)
    return Peers(membership, penalties, directory, client, config.timings, on_event)


def _session(timings: Timings) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=timings.connect_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
        read_bufsize=READ_BUFFER,
        trust_env=False,
    )


def _hello(config: ClusterConfig, node_id: str) -> Hello:
    """Who this node is."""
    port = config.mesh_port
    if config.advertise is not None:
        port = parse_peer_url(config.advertise).port or port
    return Hello(
        v=messages.VERSION,
        id=node_id,
        name=messages.shown_name(config.name) or node_id[:8],
        boot=secrets.token_hex(16),
        port=port,
        secured=config.secret is not None,
        url=config.advertise,
    )


def _mdns(config: ClusterConfig, hello: Hello, sighted: Callable[[Sighting], None], warned: dict[str, str]) -> Mdns:
    def warn(text: str | None) -> None:
        if text is None:
            warned.pop("mdns", None)
        else:
            warned["mdns"] = text

    me = Announcement(hello.id, hello.boot, hello.name, config.mesh_port, messages.VERSION, config.mesh_host)
    return Mdns(me, config.mdns_interfaces, sighted, warn, config.timings.mdns_retry_s)


def _faults(peers: Peers) -> Faults:
    def lacks(source: Source) -> None:
        peers.directory.drop(source.peer_id, source.digest)

    def received(source: Source, size_bytes: int) -> None:
        peers.received[source.peer_id] += size_bytes

    return Faults(
        failed=lambda source, reason: peers.failed(source.url, reason),
        lied=lambda source, reason: peers.lied(source.url, reason),
        lacks=lacks,
        received=received,
    )


def _sighted(peers: Peers, rounds: Rounds, sighting: Sighting) -> None:
    now = asyncio.get_running_loop().time()
    if sighting.gone:
        peers.membership.withdrawn(sighting.url, sighting.origin, now)
    else:
        peers.membership.named(sighting.url, sighting.origin, now, sighting.boot)
    rounds.wake()


def _heard(peers: Peers, rounds: Rounds, candidate: Candidate) -> None:
    now = asyncio.get_running_loop().time()
    peers.membership.named(candidate.url, candidate.origin, now, candidate.boot)
    rounds.wake()
