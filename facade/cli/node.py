"""A whole node: its parts opened in order, and closed in the reverse one."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import structlog
from aiohttp import web

from cluster.cluster import Cluster, open_cluster
from facade.admin.app import admin_app
from facade.admin.images import WholeImages
from facade.admin.ipfs import IpfsByHand
from facade.admin.own import OwnRepositories
from facade.admin.status import Readiness, Running
from facade.admin.where import Where
from facade.background import Background
from facade.cli.guarding import Guarding, passes_through, read_users
from facade.cli.pulling import reachable
from facade.cli.serving import counted, serving
from facade.cli.sockets import Listener
from facade.cli.tls import server_context
from facade.cli.version import installed
from facade.cli.wiring import Wiring
from facade.clock import ClockWatch
from facade.gateways import Gateways, GatewaySource, open_gateways
from facade.hosts import foreign
from facade.ipfs import Ipfs
from facade.kubo import RunningKubo, run_kubo
from facade.metrics import Metrics
from facade.networks import Networks
from facade.registry.app import Registry, open_registry
from facade.registry.client_logins import ClientLogins
from facade.registry.gate import Gate
from facade.registry.logins import Logins
from facade.registry.requests import Listener as RegistryListener
from facade.settings import Address, Waits
from facade.sidecar.app import NAME as SIDECAR
from facade.sidecar.app import sidecar_app
from facade.sources import NetworkName
from facade.upstream.client import Upstreams
from facade.upstream.config import granted
from facade.watching import follow
from node.serve import gateway_routes
from node.store import Store, open_store

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_node(wiring: Wiring, listeners: Mapping[str, Listener], cut: asyncio.Event) -> AsyncIterator[Running]:
    """Serve on `listeners`, which are bound already; ready when entered. `cut` ends the grace of open answers.

    Raises:
        StartError: what the operator has to change.
    """
    started, metrics, clock = time.monotonic(), Metrics(), ClockWatch()
    config = replace(wiring.cluster, mesh_port=listeners["mesh"].address.port)
    facade, guarding = wiring.facade, wiring.guarding
    logins = Logins(guarding.users.users) if guarding.users else None
    gate = Gate(logins, guarding.rules, ClientLogins() if passes_through(facade) else None)
    async with (
        open_store(wiring.data, shared=config.shared, granted=granted(facade.upstreams)) as store,
        _upstreams(wiring, metrics) as upstreams,
        open_cluster(config, store, on_event=_log_event) as cluster,
        _kubo(wiring, store, cluster) as kubo,
        Background() as background,
        open_gateways(wiring.gateways) as gateways,
        open_registry(
            store, cluster, upstreams, facade, metrics, gate, _networks(wiring, store, cluster, kubo, gateways)
        ) as registry,
    ):
        tls = _look_after(background, clock, guarding, logins) | ({"mesh": cluster.tls} if cluster.tls else {})
        running = Running(
            name=wiring.name,
            version=installed(),
            data=wiring.data,
            listeners={name: listener.address for name, listener in listeners.items()},
            store=store,
            cluster=cluster,
            upstreams=facade.upstreams,
            available=upstreams.available,
            conflicts=store.owned.conflicts,
            breaker=upstreams.breaker,
            metrics=metrics,
            readiness=Readiness(),
            clock=clock,
            started=started,
            gateways=gateways.status,
            kubo=kubo,
        )
        _watch(metrics, running, store, cluster, upstreams)
        by_hand = IpfsByHand(
            store,
            kubo,
            gateways,
            f"{'https' if cluster.tls else 'http'}://{reachable(running.listeners['mesh'])}/ipfs/",
        )
        admin = {"admin": _admin_app(running, store, cluster, registry, by_hand)}
        servers = _registry_servers(registry, listeners)
        apps: dict[str, web.Application | web.Server] = {**servers, "mesh": _mesh_app(store, cluster, metrics)}
        if sidecar := listeners.get(SIDECAR):
            apps[SIDECAR] = _sidecar_app(store, cluster, background, metrics, sidecar, facade.waits)
        async with serving(admin, listeners, cut, grace_s=1.0), serving(apps, listeners, cut, tls=tls):
            running.readiness.reason = None
            yield running
            running.readiness.reason = "stopping"


def _networks(wiring: Wiring, store: Store, cluster: Cluster, kubo: RunningKubo | None, gateways: Gateways) -> Ipfs:
    """The IPFS networks that blobs may come from, in their order."""
    networks: dict[NetworkName, Ipfs] = {}
    if kubo is not None:
        networks[NetworkName.KUBO] = kubo.source
    if wiring.gateways:
        networks[NetworkName.GATEWAYS] = GatewaySource(store, cluster, gateways)
    return Networks(networks)


@asynccontextmanager
async def _kubo(wiring: Wiring, store: Store, cluster: Cluster) -> AsyncIterator[RunningKubo | None]:
    if wiring.kubo is None:
        yield None
        return
    async with run_kubo(wiring.kubo, store, cluster) as running:
        yield running


def _upstreams(wiring: Wiring, metrics: Metrics) -> Upstreams:
    return Upstreams(
        wiring.facade.upstreams,
        credentials=wiring.credentials,
        on_request=metrics.upstream_request,
        tls=wiring.tls,
    )


def _look_after(
    background: Background, clock: ClockWatch, guarding: Guarding, logins: Logins | None
) -> dict[str, ssl.SSLContext]:
    """Notice when the clock is set, and when the users or the certificate change, from now on.

    Returns what listeners speak TLS with.
    """
    background.start(clock.run(), "clock watch")
    if guarding.users and logins:
        path = guarding.users.path
        background.start(follow([path], partial(read_users, path), logins.replace), "follow the users")
    if (tls := guarding.tls) is None:
        return {}
    paths = [tls.files.certificate, tls.files.key]
    background.start(follow(paths, partial(server_context, tls.files), tls.renew), "follow the certificate")
    return dict.fromkeys(RegistryListener, tls.context)


def _watch(metrics: Metrics, running: Running, store: Store, cluster: Cluster, upstreams: Upstreams) -> None:
    metrics.watch_store(lambda: store.stats.store_bytes, lambda: store.stats.blobs)
    metrics.watch_peers(
        running.peers_by_state,
        lambda: {"in": cluster.received_bytes, "out": cluster.sent_bytes},
        lambda: sum(peer.set_aside is not None for peer in cluster.peers()),
    )
    metrics.watch_upstreams(running.breakers, lambda: upstreams.quotas)
    if running.kubo is not None:
        metrics.watch_ipfs(running.kubo.numbers)


def _admin_app(
    running: Running, store: Store, cluster: Cluster, registry: Registry, by_hand: IpfsByHand
) -> web.Application:
    namespaces = frozenset(config.namespace for config in running.upstreams)
    where = Where(store, store.repositories, store.owned, cluster, namespaces, running.listeners["facade"])
    own = OwnRepositories(store, registry.bringing)
    images = WholeImages(store, registry.images, registry.admitting, running.listeners["facade"])
    return admin_app(running, where, running.listeners["admin"], own, images, by_hand)


def _registry_servers(registry: Registry, listeners: Mapping[str, Listener]) -> dict[str, web.Server]:
    return {
        name: registry.server(name, foreign(listeners[name].address)) for name in RegistryListener if name in listeners
    }


def _mesh_app(store: Store, cluster: Cluster, metrics: Metrics) -> web.Application:
    app = web.Application(middlewares=[counted("mesh", metrics)])
    app.on_shutdown.append(cluster.stop_polls)
    app.add_routes(cluster.routes())
    app.add_routes(gateway_routes(store, cluster.may_read, cluster.count_sent))
    return app


def _sidecar_app(
    store: Store, cluster: Cluster, background: Background, metrics: Metrics, listener: Listener, waits: Waits
) -> web.Application:
    host, port = listener.socket.getsockname()[:2]  # whatever its name is, Kubo has to be given numbers
    return sidecar_app(store, cluster, background, metrics, Address(host, port), waits, counted(SIDECAR, metrics))


def _log_event(what: str, details: dict[str, object]) -> None:
    """Log what happened to a peer; one that crashed our own code comes with its exception."""
    told = {name: value for name, value in details.items() if value is not None}
    error = told.pop("exception", None)
    if isinstance(error, BaseException):
        log.error(what, exc_info=error, **told)
    else:
        log.info(what, **told)
