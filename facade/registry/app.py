"""The registry API as aiohttp applications: one for each listener, over the same manifests and blobs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from cluster.cluster import Cluster
from facade.background import Background
from facade.flights import Flights
from facade.metrics import CLIENT_GONE, Metrics
from facade.registry.blobs import Blobs, PassingUpstream
from facade.registry.gate import Gate
from facade.registry.manifests import Answer, Manifests, ManifestUpstream
from facade.registry.problems import Problem, unserved
from facade.registry.requests import Asked, Form, Kind, Listener, MalformedError, UnknownError, parse
from facade.settings import FacadeSettings, Waits
from facade.sources import SourceName
from node.digest import Digest
from node.errors import LayermeshError, UnreachableError
from node.http import RangeError
from node.store import Store

log = structlog.get_logger(__name__)
WARM_BYTES: Final = 64 * 1024
WARM_ENTRIES: Final = 256
WARM_S: Final = 60.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RegistryUpstream(ManifestUpstream, PassingUpstream, Protocol):
    """All that the registry asks of the registries behind it."""

    def serves(self, namespace: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Warm:
    """An answer that holds until a blob is dropped, or a minute has passed."""

    headers: dict[str, str]
    data: bytes
    generation: int
    until: float


class Registry:
    """Answers `/v2/` on both listeners (OCI distribution specification 1.1, "Pull"). Made by `open_registry`."""

    def __init__(
        self,
        store: Store,
        upstream: RegistryUpstream,
        manifests: Manifests,
        blobs: Blobs,
        waits: Waits,
        metrics: Metrics,
        gate: Gate,
    ) -> None:
        self._gate = gate
        self._waits = waits
        self._store = store
        self._upstream = upstream
        self._manifests = manifests
        self._blobs = blobs
        self._metrics = metrics
        self._warm: dict[tuple[Listener, str], _Warm] = {}

    def app(self, listener: Listener, middlewares: tuple[Middleware, ...] = ()) -> web.Application:
        """The application of one listener."""
        app = web.Application(middlewares=middlewares)
        app.router.add_route("*", "/v2{rest:(?:/.*)?}", self._handler(listener))
        return app

    def _handler(self, listener: Listener) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            try:
                await self._gate.check(request, listener)
                response = self._from_memory(request, listener) or await self._answer(request, listener)
            except Problem as problem:
                response = problem.response()
            except ConnectionError as error:
                log.debug("the client has gone", path=request.path, why=str(error))
                response = web.Response(status=CLIENT_GONE)
            except Exception:  # the last resort: a defect of ours, told apart from every answer that is meant
                log.exception("request failed", path=request.path)
                response = Problem(500, "UNKNOWN", "this node failed to answer; its log says why").response()
            self._metrics.server_request(listener, request.method, response.status, time.perf_counter() - started)
            return response

        return handle

    async def _answer(self, request: web.Request, listener: Listener) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            message = "this is a mirror: it is read-only, and pushing is refused"
            raise Problem(405, "UNSUPPORTED", message, {"Allow": "GET, HEAD"})
        if request.path in ("/v2", "/v2/"):
            return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})
        asked = self._asked(request, listener)
        try:
            if asked.kind is Kind.MANIFEST:
                return await self._manifest(request, listener, asked)
            return await self._blobs.answer(request, asked, _headers(request, asked, asked.digest))
        except RangeError as error:
            headers = {"Content-Range": f"bytes */{error.size}"}
            raise Problem(416, "SIZE_INVALID", str(error), headers) from None
        except LayermeshError as error:
            code = "MANIFEST_UNKNOWN" if asked.kind is Kind.MANIFEST else "BLOB_UNKNOWN"
            raise unserved(error, asked.form, code) from None

    def _asked(self, request: web.Request, listener: Listener) -> Asked:
        try:
            asked = parse(request, listener)
        except MalformedError as error:
            raise Problem(400, error.code, str(error)) from None
        except UnknownError as error:
            raise Problem(404, "NAME_UNKNOWN", str(error)) from None
        if asked.form is Form.OWN:
            raise Problem(404, "NAME_UNKNOWN", f"{asked.repository.name}: this node has no such repository of its own")
        if not self._upstream.serves(asked.repository.namespace):
            raise Problem(
                404, "NAME_UNKNOWN", f"registry namespace {asked.repository.namespace!r} is not configured here"
            )
        return asked

    async def _manifest(self, request: web.Request, listener: Listener, asked: Asked) -> web.StreamResponse:
        try:
            async with asyncio.timeout(self._waits.patience_s):
                answer = await self._manifests.get(asked.repository, asked.selector)
        except TimeoutError:
            raise UnreachableError(f"{asked.repository}: no source answered in time") from None
        manifest = answer.manifest
        if request.method == "GET":
            self._blobs.served(asked.repository, manifest)
        headers = _headers(request, asked, manifest.digest)
        headers["Content-Type"] = manifest.media_type
        headers["Layermesh-Source"] = answer.source
        _say_age(headers, answer)
        if isinstance(asked.selector, Digest) and len(manifest.data) <= WARM_BYTES:
            await self._keep_warm(request, listener, answer, headers)
        return self._send(request, headers, manifest.data, answer.source)

    async def _keep_warm(
        self, request: web.Request, listener: Listener, answer: Answer, headers: dict[str, str]
    ) -> None:
        """Answer the same request from memory as long as every blob stays here."""
        generation = self._store.generation
        if answer.source is not SourceName.LOCAL or not await self._manifests.all_here(answer.manifest):
            return
        if len(self._warm) >= WARM_ENTRIES:
            del self._warm[next(iter(self._warm))]
        until = asyncio.get_running_loop().time() + WARM_S
        self._warm[listener, request.raw_path] = _Warm(headers, answer.manifest.data, generation, until)

    def _from_memory(self, request: web.Request, listener: Listener) -> web.StreamResponse | None:
        warm = self._warm.get((listener, request.raw_path))
        if warm is None or request.method not in ("GET", "HEAD"):
            return None
        if warm.generation != self._store.generation or asyncio.get_running_loop().time() > warm.until:
            del self._warm[listener, request.raw_path]
            return None
        return self._send(request, warm.headers, warm.data, SourceName.LOCAL)

    def _send(
        self, request: web.Request, headers: dict[str, str], data: bytes, source: SourceName
    ) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(data))})
        self._metrics.served(source, len(data))
        return web.Response(body=data, headers=headers)


def _headers(request: web.Request, asked: Asked, digest: Digest) -> dict[str, str]:
    headers = {
        "Docker-Content-Digest": str(digest),
        "Docker-Distribution-Api-Version": "registry/2.0",
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
    }
    if "ns" in request.query:
        headers["OCI-Namespace"] = asked.repository.namespace
    return headers


def _say_age(headers: dict[str, str], answer: Answer) -> None:
    """A tag that upstream did not confirm says so (specification, "Warnings"), with its age in seconds."""
    if answer.seen_at is None:
        return
    age = max(0, round(time.time() - answer.seen_at))
    who = f"cluster member {answer.seen_by}" if answer.seen_by else "this node"
    headers["Age"] = str(age)
    headers["Warning"] = f'299 - "upstream cannot answer; {who} last saw this tag {age} s ago"'


@asynccontextmanager
async def open_registry(
    store: Store,
    cluster: Cluster,
    upstream: RegistryUpstream,
    settings: FacadeSettings,
    metrics: Metrics,
    gate: Gate | None = None,
) -> AsyncIterator[Registry]:
    """The registry of a node, behind a gate or open; flights and questions under way when the context ends are cut."""
    async with Background() as background:
        flights = Flights(background, store, cluster, upstream, settings.waits, metrics)
        manifests = Manifests(background, store, cluster, flights, upstream, settings.waits, metrics)
        blobs = Blobs(store, cluster, upstream, flights, background, settings.waits, metrics)
        yield Registry(store, upstream, manifests, blobs, settings.waits, metrics, gate or Gate())
