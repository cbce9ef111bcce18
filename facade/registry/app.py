"""The registry API as aiohttp servers: one for each listener, over the same manifests and blobs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from aiohttp import hdrs, web

from cluster.cluster import Cluster
from facade.background import Background
from facade.flights import Flights
from facade.hosts import Foreign
from facade.ipfs import NO_IPFS, Ipfs
from facade.metrics import CLIENT_GONE, Metrics
from facade.registry.admitting import Admitting
from facade.registry.blobs import Blobs, PassingUpstream
from facade.registry.client_logins import TOKEN_PATH, challenge
from facade.registry.expecting import check_expected
from facade.registry.gate import Gate
from facade.registry.images import Images
from facade.registry.listings import Listings, ListingUpstream
from facade.registry.manifests import Answer, Manifests, ManifestUpstream
from facade.registry.near import Bringing
from facade.registry.obtainable import Obtainable
from facade.registry.own import Own
from facade.registry.problems import Problem, unserved
from facade.registry.pushing import Pushing
from facade.registry.requests import Asked, Form, Listener, MalformedError, Route, UnknownError, parse
from facade.registry.rights import JudgingUpstream, Rights
from facade.settings import FacadeSettings, Waits
from facade.sources import SourceName
from node.digest import Digest
from node.errors import DeniedError, LayermeshError, NotFoundError, UnreachableError
from node.http import RangeError
from node.store import Store

log = structlog.get_logger(__name__)
WARM_BYTES: Final = 64 * 1024
WARM_ENTRIES: Final = 256
WARM_S: Final = 60.0
LINGERING_S: Final = 10.0
_UNKNOWN: Final = {Route.BLOB: "BLOB_UNKNOWN", Route.TAGS: "NAME_UNKNOWN"}
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class RegistryUpstream(ManifestUpstream, PassingUpstream, ListingUpstream, JudgingUpstream, Protocol):
    """All that the registry asks of the registries behind it."""

    def serves(self, namespace: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Warm:
    """An answer that holds until a blob is dropped, an own repository written to, or a minute has passed."""

    headers: dict[str, str]
    data: bytes
    state: tuple[int, int | None]
    until: float


class Registry:
    """Answers `/v2/` on both listeners (OCI distribution specification 1.1, "Pull"). Made by `open_registry`."""

    def __init__(
        self,
        store: Store,
        upstream: RegistryUpstream,
        manifests: Manifests,
        blobs: Blobs,
        own: Own,
        pushing: Pushing,
        bringing: Bringing,
        admitting: Admitting,
        waits: Waits,
        metrics: Metrics,
        gate: Gate,
    ) -> None:
        self.bringing = bringing
        """What brings blobs of own repositories here, for all who want them to stay."""
        self.admitting = admitting
        """What enters images that came as files."""
        self._own = own
        self._pushing = pushing
        self._listings = Listings(upstream)
        self._gate = gate
        self._rights = Rights(upstream, store.repositories, waits)
        self.images = Images(manifests, blobs, own, self._rights, waits)
        """What finds whole images, for who takes them away as files."""
        self._waits = waits
        self._store = store
        self._upstream = upstream
        self._manifests = manifests
        self._blobs = blobs
        self._metrics = metrics
        self._warm: dict[tuple[Listener, str], _Warm] = {}

    def server(
        self, listener: Listener, foreign: Foreign = lambda _: None, lingering_s: float = LINGERING_S
    ) -> web.Server:
        """The server of one listener, which refuses what is `foreign`.

        For `lingering_s` it reads on what is left of a body that it refused, for else the client misses its answer.
        A low-level one: names hold slashes, so that routes are found here and not by a router of aiohttp's, which would
        take a sixth of the time that a manifest takes (measured). Bodies are what digests name, so none is decoded.
        """
        return web.Server(
            self._handler(listener, foreign), access_log=None, lingering_time=lingering_s, auto_decompress=False
        )

    def _handler(self, listener: Listener, foreign: Foreign) -> Handler:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            started = time.perf_counter()
            try:
                _check_served(request, foreign)
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

    async def _answer(self, request: web.BaseRequest, listener: Listener) -> web.StreamResponse:
        check_expected(request)
        if request.path in ("/v2", "/v2/"):
            _check_reads(request)
            return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})
        if request.path == "/v2/_catalog" and listener is Listener.FACADE:
            _check_reads(request)
            return await self._own.catalog(request.query)
        if request.path == TOKEN_PATH and self._gate.clients is not None:
            return await self._gate.clients.answer(request)
        asked = self._asked(request, listener)
        try:
            if asked.form is Form.OWN and request.method in self._pushing.methods(asked):
                return await self._pushing.answer(request, asked)
            self._check_method(request, asked)
            return await self._pull(request, listener, asked)
        except RangeError as error:
            headers = {"Content-Range": f"bytes */{error.size}"}
            raise Problem(416, "SIZE_INVALID", str(error), headers) from None
        except LayermeshError as error:
            if isinstance(error, DeniedError | NotFoundError) and self._may_log_in(request, listener, asked):
                raise Problem(401, "UNAUTHORIZED", str(error), challenge(request)) from None
            code = _UNKNOWN.get(asked.route, "MANIFEST_UNKNOWN")
            raise unserved(error, asked.form, code) from None

    def _may_log_in(self, request: web.BaseRequest, listener: Listener, asked: Asked) -> bool:
        """Whether another answer may come of a login: containerd sends one only to who asks for it at that path."""
        asks = listener is Listener.FACADE and hdrs.AUTHORIZATION not in request.headers
        return asks and self._rights.judges(asked)

    def _check_method(self, request: web.BaseRequest, asked: Asked) -> None:
        if asked.form is Form.OWN:
            allowed = self._pushing.methods(asked)
            if asked.route is not Route.UPLOAD:
                allowed = ("GET", "HEAD", *allowed)
            message = f"{request.method} is not answered here"
        else:
            allowed = () if asked.route is Route.UPLOAD else ("GET", "HEAD")
            message = "this is a mirror: it is read-only, and pushing is refused"
        if request.method not in allowed:
            raise Problem(405, "UNSUPPORTED", message, {"Allow": ", ".join(allowed)})

    async def _pull(self, request: web.BaseRequest, listener: Listener, asked: Asked) -> web.StreamResponse:
        hidden = await self._rights.hidden(asked)
        if asked.route is Route.MANIFEST:
            return await self._manifest(request, listener, asked, hidden)
        if asked.route is Route.BLOB:
            return await self._blobs.answer(request, asked, _headers(request, asked, asked.digest))
        if asked.form is Form.OWN and asked.route is Route.TAGS:
            return await self._own.tags(asked.repository, request.query)
        if asked.form is Form.OWN and asked.route is Route.REFERRERS:
            return await self._own.referrers(asked.repository, asked.digest, request.query)
        return await self._listings.answer(request, asked)

    def _asked(self, request: web.BaseRequest, listener: Listener) -> Asked:
        try:
            asked = parse(request, listener)
        except MalformedError as error:
            raise Problem(400, error.code, str(error)) from None
        except UnknownError as error:
            raise Problem(404, "NAME_UNKNOWN", str(error)) from None
        if asked.form is not Form.OWN and not self._upstream.serves(asked.repository.namespace):
            raise Problem(
                404, "NAME_UNKNOWN", f"registry namespace {asked.repository.namespace!r} is not configured here"
            )
        return asked

    async def _manifest(
        self, request: web.BaseRequest, listener: Listener, asked: Asked, hidden: LayermeshError | None
    ) -> web.StreamResponse:
        assert asked.selector is not None, "a manifest is asked for by tag or digest"
        manifests = self._own.manifest if asked.form is Form.OWN else self._manifests.get
        state = self._state(asked.form)  # of before: what changes meanwhile may make the answer an old one
        try:
            async with asyncio.timeout(self._waits.silent_s(is_mirror=asked.form is Form.MIRROR)):
                answer = await manifests(asked.repository, asked.selector)
        except TimeoutError:
            raise hidden or UnreachableError(f"{asked.repository}: no source answered in time") from None
        except LayermeshError as error:
            raise hidden or error from None  # who may not read it is not told either what of it is here
        manifest = answer.manifest
        await self._rights.check(asked, manifest.digest, hidden)
        if request.method == "GET":
            self._blobs.served(asked.repository, manifest)
        headers = _headers(request, asked, manifest.digest)
        headers["Content-Type"] = manifest.media_type
        headers["Layermesh-Source"] = answer.source
        _say_age(headers, answer)
        is_small = len(manifest.data) <= WARM_BYTES
        if answer.holds_s and is_small and answer.source is SourceName.LOCAL and not self._rights.judges(asked):
            until = asyncio.get_running_loop().time() + min(WARM_S, answer.holds_s)
            if asked.form is Form.OWN or await self._manifests.all_here(manifest):
                self._keep_warm(request, listener, _Warm(headers, manifest.data, state, until))
        return self._send(request, headers, manifest.data, answer.source)

    def _state(self, form: Form) -> tuple[int, int | None]:
        """Differs once a blob is dropped, or for an own repository anything is written to one."""
        return self._store.generation, self._store.owned.generation if form is Form.OWN else None

    def _keep_warm(self, request: web.BaseRequest, listener: Listener, warm: _Warm) -> None:
        """Answer the same request from memory."""
        if len(self._warm) >= WARM_ENTRIES:
            del self._warm[next(iter(self._warm))]
        self._warm[listener, request.raw_path] = warm

    def _from_memory(self, request: web.BaseRequest, listener: Listener) -> web.StreamResponse | None:
        warm = self._warm.get((listener, request.raw_path))
        if warm is None or request.method not in ("GET", "HEAD"):
            return None
        form = Form.MIRROR if warm.state[1] is None else Form.OWN
        if warm.state != self._state(form) or asyncio.get_running_loop().time() > warm.until:
            del self._warm[listener, request.raw_path]
            return None
        return self._send(request, warm.headers, warm.data, SourceName.LOCAL)

    def _send(
        self, request: web.BaseRequest, headers: dict[str, str], data: bytes, source: SourceName
    ) -> web.StreamResponse:
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(data))})
        self._metrics.served(source, len(data))
        return web.Response(body=data, headers=headers)


def _headers(request: web.BaseRequest, asked: Asked, digest: Digest) -> dict[str, str]:
    headers = {
        "Docker-Content-Digest": str(digest),
        "Docker-Distribution-Api-Version": "registry/2.0",
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
    }
    if "ns" in request.query:
        headers["OCI-Namespace"] = asked.repository.namespace
    return headers


def _check_served(request: web.BaseRequest, foreign: Foreign) -> None:
    if why := foreign(request):
        raise Problem(403, "DENIED", why)
    if not (request.path == "/v2" or request.path.startswith("/v2/")):
        raise Problem(404, "UNSUPPORTED", "only /v2/ is served here (OCI distribution specification)")


def _check_reads(request: web.BaseRequest) -> None:
    if request.method not in ("GET", "HEAD"):
        raise Problem(405, "UNSUPPORTED", f"{request.method} is not answered here", {"Allow": "GET, HEAD"})


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
    ipfs: Ipfs = NO_IPFS,
) -> AsyncIterator[Registry]:
    """The registry of a node, behind a gate or open; flights and questions under way when the context ends are cut."""
    async with Background() as background:
        flights = Flights(background, store, cluster, upstream, settings.waits, metrics, ipfs)
        manifests = Manifests(background, store, cluster, flights, upstream, settings.waits, metrics, ipfs=ipfs)
        blobs = Blobs(store, cluster, upstream, flights, background, settings.waits, metrics)
        own = Own(store, cluster, Obtainable(store, cluster, flights, own=True), settings.waits, metrics)
        gate = gate or Gate()
        bringing = Bringing(background, store, cluster)
        pushing = Pushing(store, cluster, bringing, gate)
        admitting = Admitting(store, upstream, manifests)
        yield Registry(
            store, upstream, manifests, blobs, own, pushing, bringing, admitting, settings.waits, metrics, gate
        )
