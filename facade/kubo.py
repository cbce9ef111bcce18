"""The Kubo beside a running node: looked at, published to, introduced to those of other nodes, and reported on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from cluster.cluster import Cluster
from cluster.config import Timings as LeafTimings
from facade.background import Background
from facade.ipfs import KuboSource, Read, by_blocks, by_gateway
from node.errors import LayermeshError
from node.ipfs.kubo.endpoint import Client, Endpoint
from node.ipfs.kubo.kubo import DEFAULT_TIMINGS, Kubo, OnDaemon, Timings, open_kubo
from node.ipfs.kubo.peering import Peering
from node.ipfs.publisher import Publisher
from node.store import Store

log = structlog.get_logger(__name__)
INTRODUCE_EVERY_S: Final = 2.0
DEFAULT_LEAF_TIMINGS: Final = LeafTimings()


@dataclass(frozen=True, slots=True)
class RunningKubo:
    """The parts of it that people ask about, and the source that pulls use."""

    endpoint: Endpoint
    kubo: OnDaemon
    publisher: Publisher
    source: KuboSource

    def numbers(self) -> tuple[bool, int]:
        """Whether it can be used, and how many blobs are offered by it."""
        return self.kubo.usable, self.publisher.offered


@asynccontextmanager
async def run_kubo(
    endpoint: Endpoint,
    store: Store,
    cluster: Cluster,
    *,
    timings: Timings = DEFAULT_TIMINGS,
    introduce_every_s: float = INTRODUCE_EVERY_S,
    leaves: LeafTimings = DEFAULT_LEAF_TIMINGS,
) -> AsyncIterator[RunningKubo]:
    """Work with the Kubo at `endpoint` until the context ends; it need not be there, now or ever.

    `leaves`: how long its leaves may take.
    """
    async with _open(store, endpoint, timings) as kubo, Background() as background:
        publisher = Publisher(store, kubo)
        background.start(kubo.run(), "look at kubo")
        background.start(publisher.run(), "publish to kubo")
        background.start(_introduce(kubo, cluster, introduce_every_s), "introduce kubo")
        yield RunningKubo(endpoint, kubo, publisher, KuboSource(store, cluster, kubo, _reading(kubo, leaves)))


def _open(store: Store, endpoint: Endpoint, timings: Timings) -> AbstractAsyncContextManager[OnDaemon]:
    if endpoint.client is Client.KUBO:
        return open_kubo(store, endpoint, timings)
    from node.ipfs.ipfshttpclient.network import open_ipfshttpclient  # an extra, which takes half a second to load

    return open_ipfshttpclient(store, endpoint, timings)


def _reading(network: OnDaemon, leaves: LeafTimings) -> Read:
    return by_gateway(network, leaves) if isinstance(network, Kubo) else by_blocks(network, leaves.leaf_s)


async def _introduce(kubo: OnDaemon, cluster: Cluster, every_s: float) -> None:
    """Tell the peers of it, and it of the peers'."""
    peering = Peering(kubo.daemon)
    while True:
        cluster.introduce(kubo.peer)
        if kubo.usable and kubo.peer is not None:
            try:
                await peering.keep(kubo.peer.peer_id, cluster.introduced())
            except LayermeshError as error:
                log.debug("kubo was not introduced", why=str(error))
        await asyncio.sleep(every_s)
