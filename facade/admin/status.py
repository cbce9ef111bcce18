"""What a node says of itself: the answers of `/api/status` and `/api/peers`."""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec

from cluster.cluster import PeerState, PeerStatus
from facade.clock import ClockWatch
from facade.gateways import GatewayStatus
from facade.kubo import RunningKubo
from facade.metrics import PEER_STATES, Metrics
from facade.settings import Address
from facade.upstream.breaker import BreakerState
from facade.upstream.config import Endpoint, UpstreamConfig
from node.errors import UnreachableError
from node.owned import Conflict
from node.store import Stats

LOW_DISK_BYTES: Final = 512 * 1024 * 1024
MOST_PEER_WARNINGS: Final = 5
MOST_CONFLICT_WARNINGS: Final = 20


class Held(Protocol):
    """What status asks of the store."""

    @property
    def node_id(self) -> str: ...

    @property
    def stats(self) -> Stats: ...


class Neighbourhood(Protocol):
    """What status asks of the cluster."""

    @property
    def warnings(self) -> tuple[str, ...]: ...

    def peers(self) -> tuple[PeerStatus, ...]: ...


class EndpointReport(msgspec.Struct, frozen=True):
    """One place where an upstream is reached; `breaker` is closed, open or half-open."""

    url: str
    breaker: str


class UpstreamReport(msgspec.Struct, frozen=True):
    """One upstream; `available` is False while every breaker is open, True also before it was ever asked.

    `endpoint` is the first of `endpoints`; `share` says who else gets what is private there, None for nobody.
    """

    namespace: str
    endpoint: str
    public: bool
    access: str
    available: bool
    endpoints: list[EndpointReport]
    share: str | None


class GatewayReport(msgspec.Struct, frozen=True):
    """One IPFS gateway that blobs may come from; `set_aside` says why it is not asked at present."""

    url: str
    set_aside: str | None
    received_bytes: int


class IpfsReport(msgspec.Struct, frozen=True):
    """The IPFS network. `state` says in words how it is; what follows is known of a daemon's alone.

    `offered`: how many blobs it offers; `withdrawn`: how many it was told to offer no longer since the start; `in_step`
    while there is nothing to be published.
    """

    network: str
    state: str
    usable: bool
    url: str | None = None
    version: str | None = None
    peer_id: str | None = None
    gateway: str | None = None
    offered: int | None = None
    withdrawn: int | None = None
    in_step: bool | None = None


class StatusReport(msgspec.Struct, frozen=True):
    """A node at a glance; sizes in bytes, times in seconds."""

    name: str
    id: str
    version: str
    ready: bool
    reason: str | None
    uptime_s: float
    data: str
    listeners: dict[str, str]
    blobs: int
    store_bytes: int
    disk_free_bytes: int | None
    peers: dict[str, int]
    served_bytes: dict[str, int]
    fetched_bytes: dict[str, int]
    upstreams: list[UpstreamReport]
    gateways: list[GatewayReport]
    ipfs: IpfsReport
    warnings: list[str]


class PeerReport(msgspec.Struct, frozen=True):
    """One peer; `last_seen` in unix seconds."""

    id: str
    name: str
    url: str
    state: str
    member: bool
    last_seen: float | None
    blobs: int
    set_aside: str | None
    note: str | None
    received_bytes: int
    sent_bytes: int


class Readiness:
    """Whether the node answers pulls, and if not, why."""

    def __init__(self) -> None:
        self.reason: str | None = "starting"

    @property
    def ready(self) -> bool:
        """Whether it does."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Running:
    """The parts of a running node, as far as people ask about them."""

    name: str
    version: str
    data: Path
    listeners: Mapping[str, Address]
    store: Held
    cluster: Neighbourhood
    upstreams: Sequence[UpstreamConfig]
    available: Callable[[str], bool]
    conflicts: Callable[[], Awaitable[Sequence[Conflict]]]
    breaker: Callable[[Endpoint], BreakerState]
    metrics: Metrics
    readiness: Readiness
    clock: ClockWatch
    started: float
    """`time.monotonic()` at the start."""
    kubo: RunningKubo | None = None
    """The Kubo that stands for the IPFS network; None for the embedded one."""
    gateways: Callable[[], Sequence[GatewayStatus]] = tuple

    def peers_by_state(self) -> dict[str, int]:
        """How many peers are in each state, every state named."""
        return dict.fromkeys(PEER_STATES, 0) | Counter(str(peer.state) for peer in self.cluster.peers())

    def breakers(self) -> dict[Endpoint, BreakerState]:
        """How the breaker of every endpoint stands."""
        return {endpoint: self.breaker(endpoint) for config in self.upstreams for endpoint in config.endpoints}


async def status(node: Running) -> StatusReport:
    """The node now."""
    free = await asyncio.to_thread(_disk_free, node.data)
    stats = node.store.stats
    return StatusReport(
        name=node.name,
        id=node.store.node_id,
        version=node.version,
        ready=node.readiness.ready,
        reason=node.readiness.reason,
        uptime_s=round(time.monotonic() - node.started, 3),
        data=str(node.data),
        listeners={name: str(address) for name, address in node.listeners.items()},
        blobs=stats.blobs,
        store_bytes=stats.store_bytes,
        disk_free_bytes=free,
        peers=node.peers_by_state(),
        served_bytes=dict(node.metrics.served_bytes),
        fetched_bytes=dict(node.metrics.fetched_bytes),
        upstreams=[_upstream(node, config) for config in node.upstreams],
        gateways=[GatewayReport(each.url, each.set_aside, each.received_bytes) for each in node.gateways()],
        ipfs=ipfs(node.kubo),
        warnings=[
            *_disk_warnings(free, node.data),
            *([node.clock.warning] if node.clock.warning else []),
            *node.cluster.warnings,
            *_peer_warnings(node.cluster.peers()),
            *await _conflict_warnings(node),
            *_upstream_warnings(node),
            *(f"gateway {each.url} is not asked now: {each.set_aside}" for each in node.gateways() if each.set_aside),
            *ipfs_warnings(node.kubo),
        ],
    )


def peers(node: Running) -> list[PeerReport]:
    """Every peer and candidate, by name."""
    return [
        PeerReport(
            id=peer.id,
            name=peer.name,
            url=peer.url,
            state=str(peer.state),
            member=peer.member,
            last_seen=peer.last_seen,
            blobs=peer.blobs,
            set_aside=peer.set_aside,
            note=peer.note,
            received_bytes=peer.received_bytes,
            sent_bytes=peer.sent_bytes,
        )
        for peer in node.cluster.peers()
    ]


def ipfs(running: RunningKubo | None) -> IpfsReport:
    """The IPFS network now, as it was when it was looked at last."""
    if running is None:
        return IpfsReport("embedded", "the node itself", usable=True)
    kubo, publisher = running.kubo, running.publisher
    working = "in step" if publisher.in_step else "publishing"
    return IpfsReport(
        network=running.endpoint.client,
        state=kubo.known.trouble or working,
        usable=kubo.usable,
        url=str(running.endpoint),
        version=kubo.known.version or None,
        peer_id=kubo.known.identity or None,
        gateway=str(kubo.read_at) if kubo.read_at else None,
        offered=publisher.offered,
        withdrawn=publisher.withdrawn,
        in_step=publisher.in_step,
    )


def ipfs_warnings(running: RunningKubo | None) -> list[str]:
    """What is wrong with it, for people."""
    if running is None:
        return []
    known, trouble = running.kubo.known, running.publisher.trouble
    said = [known.trouble] if known.trouble is not None else [*known.notes, trouble]
    return [f"ipfs: {each}" for each in dict.fromkeys(said) if each is not None]


def _upstream(node: Running, config: UpstreamConfig) -> UpstreamReport:
    endpoints = [EndpointReport(str(each.url), str(node.breaker(each))) for each in config.endpoints]
    available = node.available(config.namespace)
    return UpstreamReport(
        namespace=config.namespace,
        endpoint=endpoints[0].url,
        public=config.public,
        access=str(config.access),
        available=available,
        endpoints=endpoints,
        share=str(config.share) if config.share else None,
    )


def _disk_free(data: Path) -> int | None:
    try:
        return shutil.disk_usage(data).free
    except OSError:
        return None


def _disk_warnings(free: int | None, data: Path) -> list[str]:
    if free is None:
        return [f"{data}: the data folder cannot be read any more"]
    if free >= LOW_DISK_BYTES:
        return []
    return [f"{data}: only {free // (1024 * 1024)} MiB are free; what does not fit is passed on without being kept"]


async def _conflict_warnings(node: Running) -> list[str]:
    try:
        found = await node.conflicts()
    except UnreachableError as error:
        return [f"own repositories: {error}"]
    return [
        f"{each.repository}:{each.tag} was written on two nodes at once: {each.digest or 'its deletion'} counts,"
        f" {each.rival or 'its deletion'} was lost; write it again to settle it"
        for each in found[:MOST_CONFLICT_WARNINGS]
    ]


def _upstream_warnings(node: Running) -> list[str]:
    failing = [endpoint for endpoint, state in node.breakers().items() if state is BreakerState.OPEN]
    return [
        f"{endpoint.namespace}: {endpoint.url} did not answer, and is asked last for a moment" for endpoint in failing
    ]


def _peer_warnings(peers: Sequence[PeerStatus]) -> list[str]:
    """What keeps nodes that are there from being peers, such as a clock that differs."""
    noted = [peer for peer in peers if peer.note and peer.state is not PeerState.GONE]
    return [f"{peer.name or peer.url}: {peer.note}" for peer in noted[:MOST_PEER_WARNINGS]]
