"""The listener for this machine's own Kubo: who provides a CID (always this node), and blocks of public content.

Kubo cannot say who it is there, so it is on loopback alone and gives nothing that is not for everybody. It is the one
place where the node fetches for somebody else without a runtime's pull.
"""

import time
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from cluster.cluster import Cluster
from facade.background import Background
from facade.hosts import guard
from facade.metrics import Metrics
from facade.settings import Address, Waits
from facade.sidecar.blocks import Blocks
from facade.sidecar.fetches import Fetches
from facade.sidecar.provider import PeerId, Provider
from facade.sidecar.routing import Routing
from facade.sources import SourceName
from node.errors import InvalidError, UnreachableError
from node.serve import gateway_routes
from node.store import Store
from node.visibility import Visibility

log = structlog.get_logger(__name__)
NAME: Final = "kubo-sidecar"


def sidecar_app(
    store: Store,
    cluster: Cluster,
    background: Background,
    metrics: Metrics,
    address: Address,
    waits: Waits,
    counting: Middleware,
) -> web.Application:
    """The application of the listener at `address`, which is numeric. The cluster must have been opened `by_cid`."""
    fetches = Fetches(background, store, cluster, metrics, time.time, waits.proof_s)
    blocks = Blocks(store, fetches, metrics)
    routing = Routing(Provider(PeerId.of_node(store.node_id), address), blocks.has)
    app = web.Application(middlewares=[counting, refusing, guard(address, _refused), blocks.lending])
    app.on_shutdown.append(blocks.stop)
    app.add_routes(routing.routes())
    app.add_routes(
        gateway_routes(store, _is_public, lambda count, _: metrics.served(SourceName.LOCAL, count), strict=True)
    )
    return app


def _is_public(_: web.Request, visibility: Visibility) -> bool:
    return visibility is Visibility.PUBLIC


def _refused(why: str) -> web.Response:
    return web.Response(status=403, text=f"{why}\n")


@web.middleware
async def refusing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors become statuses; Kubo goes elsewhere after each of them."""
    try:
        return await handler(request)
    except InvalidError as error:
        return web.Response(status=422, text=f"{error}\n")
    except UnreachableError as error:
        return web.Response(status=503, text=f"{error}\n", headers={"Retry-After": "1"})
    except (web.HTTPException, ConnectionError):
        raise
    except Exception:
        log.exception("a request of kubo failed", path=request.path[:200])
        return web.Response(status=500, text="this is a bug of layermesh; its log has the details\n")
