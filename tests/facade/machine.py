"""A whole node in this process: store, cluster, upstream and both registry listeners, on loopback ports."""

import asyncio
import io
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from cluster.cluster import Cluster, open_cluster
from cluster.config import ClusterConfig, Timings
from facade.gateways import GatewaySource, open_gateways
from facade.ipfs import NO_IPFS, Ipfs
from facade.kubo import RunningKubo, run_kubo
from facade.metrics import Metrics
from facade.registry.app import Registry, open_registry
from facade.registry.gate import Gate
from facade.registry.requests import Listener
from facade.settings import FacadeSettings, Waits
from facade.upstream.client import Limits, Upstreams
from facade.upstream.config import Access, UpstreamConfig, granted
from facade.upstream.credentials import NO_CREDENTIALS, Credentials
from node.digest import Digest
from node.ipfs.kubo.endpoint import Client, Endpoint
from node.ipfs.kubo.kubo import Timings as KuboTimings
from node.serve import gateway_routes
from node.store import Store, open_store
from tests.fakes.certificates import trusting
from tests.fakes.kubo import FakeKubo
from tests.fakes.registry import FakeRegistry

QUICK_WAITS = Waits(
    patience_s=12.0,
    strangers_s=5.0,
    look_s=1.0,
    answer_s=3.0,
    fallback_s=2.0,
    swarm_s=1.0,
    nearby_s=2.0,
    progress_s=5.0,
)
QUICK_LIMITS = Limits(connect_s=1.0, headers_s=1.5, stall_s=1.0, document_s=3.0, aside_s=0.5)
QUICK_KUBO = KuboTimings(
    look_every_s=0.1, look_again_s=0.1, look_s=1.0, here_s=1.0, swarm_s=1.0, stall_s=1.0, pin_stall_s=1.0
)
LEAVES = Timings(set_aside_s=30.0)
QUICK_TIMINGS = Timings(
    probe_every_s=0.2, probe_timeout_s=0.5, reprobe_s=0.05, retry_first_s=0.05, retry_most_s=0.3, stall_s=1.0
)


@dataclass
class Pulled:
    """One answer, read to its end; `cut` when the body broke off."""

    status: int
    headers: Mapping[str, str]
    data: bytes
    cut: bool = False

    @property
    def source(self) -> str:
        """The `Layermesh-Source` header."""
        return self.headers["Layermesh-Source"]


@dataclass
class Machine:
    """A node under test, and a client of its listeners."""

    store: Store
    cluster: Cluster
    registry: Registry
    metrics: Metrics
    session: aiohttp.ClientSession
    facade: str
    docker: str
    mesh: str
    daemon: RunningKubo | None = None
    """What works with its Kubo, where it has one."""

    @property
    def kubo(self) -> RunningKubo:
        """The same, of a node that was given one."""
        assert self.daemon is not None, "this node has no Kubo"
        return self.daemon

    async def get(self, path: str, method: str = "GET", **headers: str) -> Pulled:
        """Ask the facade listener; `path` begins behind its address."""
        return await self.ask(f"{self.facade}{path}", method, headers)

    async def ask(
        self, url: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Pulled:
        """Ask any URL, as it is written."""
        asked = self.session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=io.BytesIO(body) if body else None,
            ssl=not url.startswith(self.mesh),  # whose certificate nobody but a member can judge
        )
        async with asked as answer:
            data = bytearray()
            cut = False
            try:
                async for piece in answer.content.iter_any():
                    data += piece
            except aiohttp.ClientError:
                cut = True
            return Pulled(answer.status, answer.headers, bytes(data), cut)

    async def manifest(self, selector: object, name: str = "team/app", namespace: str = "docker.io") -> Pulled:
        """GET a manifest as containerd does."""
        return await self.get(f"/v2/{name}/manifests/{selector}?ns={namespace}")

    async def blob(
        self, digest: Digest, name: str = "team/app", namespace: str = "docker.io", **headers: str
    ) -> Pulled:
        """GET a blob as containerd does."""
        return await self.get(f"/v2/{name}/blobs/{digest}?ns={namespace}", **headers)

    async def landed(self, digest: Digest, limit_s: float = 10.0) -> None:
        """Wait until a blob that was served is entered in the store.

        Raises:
            TimeoutError: when it is not within `limit_s`.
        """
        async with asyncio.timeout(limit_s):
            while await self.store.find(digest) is None:
                await asyncio.sleep(0.005)


async def until(holds: Callable[[], object], limit_s: float = 10.0) -> None:
    """Wait until something holds that nobody announces, looking often.

    Raises:
        TimeoutError: when it does not within `limit_s`.
    """
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.01)


def _bind(port: int = 0) -> socket.socket:
    """A listening address on loopback, known before anything is served on it."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


async def _serve(
    stack: AsyncExitStack, server: web.Server, bound: socket.socket, tls: ssl.SSLContext | None = None
) -> None:
    await _run(stack, web.ServerRunner(server, shutdown_timeout=0.2), bound, tls)


async def _run(
    stack: AsyncExitStack,
    runner: web.AppRunner | web.ServerRunner,
    bound: socket.socket,
    tls: ssl.SSLContext | None = None,
) -> None:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, bound, ssl_context=tls).start()


async def _kubo(
    stack: AsyncExitStack,
    endpoint: Endpoint | None,
    timings: KuboTimings,
    leaves: Timings,
    store: Store,
    cluster: Cluster,
) -> tuple[RunningKubo | None, Ipfs]:
    if endpoint is None:
        return None, NO_IPFS
    running = run_kubo(endpoint, store, cluster, timings=timings, introduce_every_s=0.1, leaves=leaves)
    daemon = await stack.enter_async_context(running)
    return daemon, daemon.source


def _url(bound: socket.socket, tls: ssl.SSLContext | None = None) -> str:
    return f"{'https' if tls else 'http'}://127.0.0.1:{bound.getsockname()[1]}"


def _client(tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=trusting()) if tls else None
    return aiohttp.ClientSession(connector=connector, auto_decompress=False)


def mesh_app(store: Store, cluster: Cluster) -> web.Application:
    """The mesh listener's application."""
    app = web.Application()
    app.router.add_routes(gateway_routes(store, cluster.may_read, on_sent=cluster.count_sent))
    app.router.add_routes(cluster.routes())
    app.on_shutdown.append(cluster.stop_polls)
    return app


def _cluster_config(
    name: str,
    mesh: socket.socket,
    joins: tuple[str, ...],
    secret: bytes | None,
    timings: Timings,
    tls: bool,
    upstreams: tuple[UpstreamConfig, ...],
) -> ClusterConfig:
    return ClusterConfig(
        name=name,
        mesh_port=mesh.getsockname()[1],
        mesh_host="127.0.0.1",
        joins=tuple(URL(one) for one in joins),
        mdns=False,
        secret=secret,
        tls=tls,
        shared=frozenset(config.namespace for config in upstreams if config.share),
        timings=timings,
    )


@asynccontextmanager
async def machine(
    folder: Path,
    registry: FakeRegistry,
    *,
    namespaces: tuple[str, ...] = ("docker.io",),
    public: bool = True,
    access: Access = Access.REFUSE,
    upstreams: tuple[UpstreamConfig, ...] = (),
    credentials: Credentials = NO_CREDENTIALS,
    secret: bytes | None = None,
    joins: tuple[str, ...] = (),
    waits: Waits = QUICK_WAITS,
    gate: Gate | None = None,
    tls: ssl.SSLContext | None = None,
    mesh_tls: bool = False,
    mesh_port: int = 0,
    limits: Limits = QUICK_LIMITS,
    timings: Timings = QUICK_TIMINGS,
    gateways: tuple[URL, ...] = (),
    kubo: FakeKubo | Endpoint | None = None,
    kubo_client: Client = Client.KUBO,
    kubo_timings: KuboTimings = QUICK_KUBO,
    leaves: Timings = LEAVES,
) -> AsyncIterator[Machine]:
    """A node over `registry`, which answers for every one of `namespaces`, unless `upstreams` says it all.

    It asks the IPFS `gateways` for what anybody may have; `leaves` are for what comes from these, or from its Kubo.
    `tls`, with a certificate of the test's authority, is for its registry listeners.
    """
    configs = upstreams or tuple(
        UpstreamConfig.parse(one, registry.url, public=public, access=access) for one in namespaces
    )
    metrics = Metrics()
    mesh, facade, docker = _bind(mesh_port), _bind(), _bind()
    config = _cluster_config(folder.name, mesh, joins, secret, timings, mesh_tls, configs)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(folder, shared=config.shared, granted=granted(configs)))
        upstream = await stack.enter_async_context(
            Upstreams(configs, credentials=credentials, limits=limits, trust_env=False)
        )
        cluster = await stack.enter_async_context(open_cluster(config, store))
        app = mesh_app(store, cluster)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, lingering_time=0.2)
        await _run(stack, runner, mesh, cluster.tls)
        settings = FacadeSettings(upstreams=configs, waits=waits)
        endpoint = Endpoint(kubo.rpc, client=kubo_client) if isinstance(kubo, FakeKubo) else kubo
        daemon, ipfs = await _kubo(stack, endpoint, kubo_timings, leaves, store, cluster)
        if gateways:
            ipfs = GatewaySource(
                store, cluster, await stack.enter_async_context(open_gateways(gateways, timings=leaves))
            )
        served = await stack.enter_async_context(open_registry(store, cluster, upstream, settings, metrics, gate, ipfs))
        await _serve(stack, served.server(Listener.FACADE, lingering_s=0.2), facade, tls)
        await _serve(stack, served.server(Listener.DOCKER_MIRROR, lingering_s=0.2), docker, tls)
        session = await stack.enter_async_context(_client(tls))
        urls = _url(facade, tls), _url(docker, tls), _url(mesh, cluster.tls)
        yield Machine(store, cluster, served, metrics, session, *urls, daemon)
