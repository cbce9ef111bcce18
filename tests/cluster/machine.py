"""A whole node for tests: store, cluster and mesh listener on loopback; and waiting for what it comes to know."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiohttp import web
from yarl import URL

from cluster.cluster import Cluster, Holder, PeerStatus, open_cluster
from cluster.config import ClusterConfig, Limits, Timings
from node.digest import Digest
from node.reference import Repository
from node.serve import gateway_routes
from node.source import Wanted
from node.store import Store, open_store
from node.visibility import Proof, Visibility

FAST = Timings(
    probe_every_s=0.1,
    probe_timeout_s=0.5,
    reprobe_s=0.05,
    greet_timeout_s=1.0,
    retry_first_s=0.05,
    retry_most_s=0.2,
    poll_wait_s=5.0,
    stall_s=1.0,
    leaf_s=2.0,
    hedge_s=0.2,
)
REPOSITORY = Repository("docker.io", "library/app")


@dataclass
class Machine:
    """One node."""

    name: str
    url: URL
    store: Store
    cluster: Cluster
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    async def keep(self, data: bytes, visibility: Visibility = Visibility.PUBLIC) -> Digest:
        """Hold a blob that may be seen by others."""
        digest = Digest.of(data)
        await self.store.put(digest, data, Proof(visibility))
        return digest

    async def holders(self, digest: Digest, count: int = 1) -> tuple[Holder, ...]:
        """The holders of a blob, once there are so many."""
        await until(lambda: len(self.cluster.holders(digest)) == count)
        return self.cluster.holders(digest)

    async def fetch(self, digest: Digest) -> bytes:
        """Fetch a blob from its holders into the store, and read it."""
        await until(lambda: bool(self.cluster.holders(digest)))
        wanted = Wanted(REPOSITORY, digest)
        async with self.store.ingest(wanted) as ingest:
            await self.cluster.fetch(wanted, self.cluster.holders(digest), ingest)
            await ingest.commit()
        return await self.store.load(digest, 1 << 30)

    def peer(self, url: URL) -> PeerStatus | None:
        """What is known of an address."""
        return next((status for status in self.cluster.peers() if status.url == str(url)), None)

    def alive(self) -> list[str]:
        """The names of the peers that are alive."""
        return [status.name for status in self.cluster.peers() if status.state == "alive"]


@asynccontextmanager
async def machine(
    folder: Path,
    name: str = "node",
    *joins: URL,
    secret: bytes | None = None,
    port: int = 0,
    mdns: tuple[str, ...] = (),
    open_gateway: bool = False,
    by_cid: bool = False,
    timings: Timings = FAST,
    limits: Limits | None = None,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[Machine]:
    """Run a node until the block is left."""
    listener = socket.create_server(("127.0.0.1", port))
    bound: int = listener.getsockname()[1]
    config = ClusterConfig(
        name=name,
        mesh_port=bound,
        mesh_host="127.0.0.1",
        joins=joins,
        mdns=bool(mdns),
        mdns_interfaces=mdns,
        secret=secret,
        open_gateway=open_gateway,
        by_cid=by_cid,
        timings=timings,
        limits=limits or Limits(),
    )
    events: list[tuple[str, dict[str, object]]] = []
    async with open_store(folder) as store:
        extra = {} if clock is None else {"clock": clock}
        opened = open_cluster(config, store, on_event=lambda *event: events.append(event), **extra)
        async with opened as cluster, _serving(listener, store, cluster):
            yield Machine(name, URL.build(scheme="http", host="127.0.0.1", port=bound), store, cluster, events)


@asynccontextmanager
async def _serving(listener: socket.socket, store: Store, cluster: Cluster) -> AsyncIterator[None]:
    app = web.Application()
    app.add_routes(cluster.routes())
    app.add_routes(gateway_routes(store, cluster.may_read, cluster.count_sent))
    app.on_shutdown.append(cluster.stop_polls)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Wait until something is so; it is looked at often, because nothing tells when it comes to be."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)


def patient(**changes: float) -> Timings:
    """Timings as fast as tests want them, but for some."""
    return replace(FAST, **changes)
