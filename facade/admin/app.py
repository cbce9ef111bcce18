"""The admin listener: health, metrics, and what the commands of `layermesh` ask a running node for."""

import time
from typing import Final

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from facade.admin.bodies import HEADERS, json_answer, status_of
from facade.admin.images import WholeImages
from facade.admin.ipfs import IpfsByHand
from facade.admin.own import OwnRepositories
from facade.admin.status import Running, peers, status
from facade.admin.where import Where
from facade.hosts import guard
from facade.metrics import CLIENT_GONE
from facade.settings import Address
from node.errors import InvalidError, LayermeshError

log = structlog.get_logger(__name__)
_PATHS: Final = "/api/status, /api/peers, /api/where?ref=, /metrics, /livez or /readyz"


def admin_app(
    node: Running,
    where: Where,
    listen: Address,
    own: OwnRepositories | None = None,
    images: WholeImages | None = None,
    by_hand: IpfsByHand | None = None,
) -> web.Application:
    """The application of the admin listener."""
    admin = _Admin(node, where)
    app = web.Application(middlewares=[admin.counting, _refusing, guard(listen, lambda why: _error(403, why))])
    app.router.add_get("/livez", admin.livez)
    app.router.add_get("/readyz", admin.readyz)
    app.router.add_get("/metrics", admin.metrics)
    app.router.add_get("/api/status", admin.status)
    app.router.add_get("/api/peers", admin.peers)
    app.router.add_get("/api/where", admin.where)
    if own is not None:
        app.router.add_get("/api/own/records", own.records)
        app.router.add_post("/api/own/records", own.restore)
        app.router.add_get("/api/own/blob", own.blob, allow_head=False)
        app.router.add_put("/api/own/blob", own.put_blob)
    if images is not None:
        app.router.add_routes(images.routes())
    if by_hand is not None:
        app.router.add_routes(by_hand.routes())
    return app


class _Admin:
    """One method for each path."""

    def __init__(self, node: Running, where: Where) -> None:
        self._node = node
        self._where = where

    async def livez(self, _: web.Request) -> web.Response:
        """The process is up."""
        return json_answer({"live": True})

    async def readyz(self, _: web.Request) -> web.Response:
        """The listeners serve and the store is open."""
        reason = self._node.readiness.reason
        return json_answer({"ready": True}) if reason is None else _error(503, reason)

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus' text."""
        body, content_type = await self._node.metrics.expose(request.headers.get("Accept", ""))
        return web.Response(body=body, headers=HEADERS | {"Content-Type": content_type})

    async def status(self, _: web.Request) -> web.Response:
        """The node at a glance."""
        return json_answer(await status(self._node))

    async def peers(self, _: web.Request) -> web.Response:
        """Every peer."""
        return json_answer({"peers": peers(self._node)})

    async def where(self, request: web.Request) -> web.Response:
        """Where an image or blob is."""
        match request.query.getall("ref", []):
            case [asked] if asked:
                return json_answer(await self._where.answer(asked, time.time()))
        raise InvalidError("the parameter ref is expected once: an image reference or a digest")

    @web.middleware
    async def counting(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count every answer."""
        started = time.perf_counter()
        response = await handler(request)
        self._node.metrics.server_request("admin", request.method, response.status, time.perf_counter() - started)
        return response


@web.middleware
async def _refusing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error becomes `{"error": ...}`."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return _error(405, f"{request.method[:20]} is not allowed here, only {allowed}", {"Allow": allowed})
    except web.HTTPNotFound:
        return _error(404, f"not a path of this listener; try {_PATHS}")
    except web.HTTPException as error:
        return _error(error.status, error.reason)
    except LayermeshError as error:
        return _error(status_of(error), str(error))
    except ConnectionError as error:
        log.debug("the client has gone", path=request.path[:200], why=str(error))
        return web.Response(status=CLIENT_GONE)
    except Exception:
        log.exception("an admin request failed", path=request.path[:200])
        return _error(500, "this is a bug of layermesh; its log has the details")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode({"error": message})
    return web.Response(status=status, body=body, headers=HEADERS | (headers or {}), content_type="application/json")
