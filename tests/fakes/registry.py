"""A registry in this process (OCI distribution specification 1.1, "Pull"), with faults on demand and a record.

async with FakeRegistry() as registry:
    image = registry.push("library/alpine", make_image("seed"), "latest")
    registry.fault("blobs", image.layers[0].digest, Fault(cut_after=1000, times=1))
    ... registry.url, registry.requests, registry.sent[digest], registry.stop(), registry.start() ...
"""

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeVar

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from node.digest import Digest
from tests.fakes.faults import NO_FAULT, Fault, encoded, send_body
from tests.fakes.images import Blob, FakeImage, FakeIndex, all_blobs
from tests.fakes.registry_auth import Auth, Basic, challenge, grant, let_in

Kind = Literal["manifests", "blobs", "tags", "token", "v2", "files"]
Image = TypeVar("Image", FakeImage, FakeIndex)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: `path` is raw, with its query, as it came over the wire."""

    kind: Kind
    method: str
    path: str
    headers: CIMultiDictProxy[str]


@dataclass(slots=True)
class _Repository:
    manifests: dict[str, Blob] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)


class FakeRegistry:
    """On `host`, an address of this machine; `async with` starts and stops it. `auth`, `files` and the switches may be
    changed at any time.

    `files`: raw path with query -> content, for what redirects lead to. `silent`: accept everything and answer nothing.
    `concurrent`: the most blob bodies that were ever on their way at once. `sent`: digest -> body bytes of blobs sent.
    `connections`: how many that sent a request. `tokens_last`: after so many more requests that a token lets in, every
    token granted so far expires, once.
    """

    def __init__(self, *, auth: Auth | None = None, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.auth = auth
        self.files: dict[str, bytes] = {}
        self.silent = False
        self.requests: list[Seen] = []
        self.sent: Counter[str] = Counter()
        self.concurrent = 0
        self.connections = 0
        self.tokens: dict[str, str] = {}
        self.tokens_last: int | None = None
        self.port = 0
        self._tls, self._host = tls, host
        self._repositories: dict[str, _Repository] = {}
        self._faults: dict[tuple[str, str], Fault] = {}
        self._flying = 0
        self._released = asyncio.Event()
        self._changed = asyncio.Condition()
        self._peers: set[tuple[str, int]] = set()
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Its endpoint, without a slash behind it."""
        return f"{'https' if self._tls else 'http'}://{self.address}"

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self._host}:{self.port}"

    async def start_again(self) -> None:
        """Listen, if it was stopped."""
        if self._runner is None:
            await self.start()

    async def start(self) -> None:
        """Listen; after `stop`, on the same port again."""
        self._released.clear()
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections from now on and cut those that are open."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        for site in list(runner.sites):
            await site.stop()
        server = runner.server
        for transport in [each.transport for each in server.connections if each.transport] if server else []:
            transport.abort()  # also what was closed and is not taken by anybody
        self._released.set()
        await runner.cleanup()

    def push(self, repository: str, image: Image, tag: str | None = None) -> Image:
        """Hold an image, and point a tag at it (which may point elsewhere now)."""
        held = self._repositories.setdefault(repository, _Repository())
        for blob in all_blobs(image):
            is_manifest = "manifest" in blob.media_type or "index" in blob.media_type
            (held.manifests if is_manifest else held.blobs)[str(blob.digest)] = blob
        if tag is not None:
            held.manifests[tag] = image.manifest
        return image

    def put_blob(self, repository: str, data: bytes) -> Digest:
        """Hold a blob that no manifest names."""
        digest = Digest.of(data)
        blob = Blob("application/octet-stream", digest, data)
        self._repositories.setdefault(repository, _Repository()).blobs[str(digest)] = blob
        return digest

    def put_manifest(self, repository: str, data: bytes, media_type: str, tag: str | None = None) -> Digest:
        """Hold any bytes as a manifest."""
        digest = Digest.of(data)
        held = self._repositories.setdefault(repository, _Repository())
        held.manifests[str(digest)] = held.manifests[tag or str(digest)] = Blob(media_type, digest, data)
        return digest

    def delete(self, repository: str, selector: Digest | str) -> None:
        """Forget a manifest, tag or blob of a repository."""
        held = self._repositories[repository]
        held.manifests.pop(str(selector), None)
        held.blobs.pop(str(selector), None)

    def fault(self, kind: Kind, selector: Digest | str, fault: Fault | None) -> None:
        """Misbehave on a digest, tag or file path (`*`: on all of the kind) from now on; None heals it."""
        if fault is None:
            self._faults.pop((kind, str(selector)), None)
        else:
            self._faults[kind, str(selector)] = fault

    def heal(self) -> None:
        """Behave again, and go on where a body stalled or nothing was answered (with a cut)."""
        self._faults.clear()
        self.silent = False
        self._released.set()
        self._released = asyncio.Event()

    def expire_tokens(self) -> None:
        """Let no token that was granted so far in any more."""
        self.tokens.clear()

    def _use_token(self) -> None:
        if self.tokens_last is None:
            return
        self.tokens_last -= 1
        if self.tokens_last <= 0:
            self.tokens_last = None
            self.expire_tokens()

    def asked(self, kind: Kind, method: str | None = None, selector: Digest | str = "") -> list[Seen]:
        """The requests of a kind, in order, whose path holds `selector`."""
        return [
            seen
            for seen in self.requests
            if seen.kind == kind and method in (None, seen.method) and str(selector) in seen.path
        ]

    async def until(self, holds: Callable[[], bool], patience_s: float = _PATIENCE_S) -> None:
        """Wait until something holds; looked at whenever a request came or bytes went."""
        async with asyncio.timeout(patience_s), self._changed:
            await self._changed.wait_for(holds)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        kind, repository, selector = _route(request.path)
        self.requests.append(
            Seen(kind, request.method, request.raw_path, CIMultiDictProxy(CIMultiDict(request.headers)))
        )
        await self._notify()
        transport = request.transport
        assert transport is not None
        self._peers.add(transport.get_extra_info("peername")[:2])
        self.connections = len(self._peers)
        fault = self._pick(kind, selector, request)
        is_silent = fault.silent or self.silent
        if is_silent:
            await self._released.wait()
        if is_silent or fault.reset:
            transport.abort()
            return web.Response(status=500)
        return await self._respond(request, kind, repository, selector, fault)

    def _pick(self, kind: Kind, selector: str, request: web.BaseRequest) -> Fault:
        for key in (selector, "*"):
            fault = self._faults.get((kind, key))
            if fault is not None and fault.befalls(request):
                return fault
        return NO_FAULT

    async def _respond(
        self, request: web.BaseRequest, kind: Kind, repository: str, selector: str, fault: Fault
    ) -> web.StreamResponse:
        if fault.location is not None:
            return web.Response(status=fault.redirect_status, headers={"Location": fault.location})
        if fault.status is not None:
            headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
            return _error(fault.status, "FAULT", headers | fault.limits())
        if kind == "token":
            return encoded(await grant(self.auth, request, self.tokens), fault)
        if kind == "files":
            return await self._file(request, selector, fault)
        if not let_in(self.auth, request, repository, self.tokens):
            if (
                isinstance(self.auth, Basic)
                and self.auth.hides
                and repository
                and "Authorization" not in request.headers
            ):
                return _error(404, "NAME_UNKNOWN", {})
            return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge(self.auth, self.url, repository)})
        self._use_token()
        if kind == "v2":
            return web.json_response({})
        held = self._repositories.get(repository, _Repository())
        if kind == "tags" and held.manifests:
            tags = sorted(each for each in held.manifests if ":" not in each)
            return web.json_response({"name": repository, "tags": tags})
        blob = (held.manifests if kind == "manifests" else held.blobs).get(selector)
        if blob is None or (kind == "manifests" and not _accepts(request, blob.media_type)):
            return _error(404, "MANIFEST_UNKNOWN" if kind == "manifests" else "BLOB_UNKNOWN", {})
        return await self._send(request, kind, blob, fault)

    async def _file(self, request: web.BaseRequest, selector: str, fault: Fault) -> web.StreamResponse:
        data = self.files.get(selector)
        if data is None:
            return _error(404, "NO_SUCH_FILE", {})
        return await self._send(request, "files", Blob("application/octet-stream", Digest.of(data), data), fault)

    async def _send(self, request: web.BaseRequest, kind: Kind, blob: Blob, fault: Fault) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": fault.media_type or blob.media_type})
        if not fault.no_digest and kind != "files":
            response.headers["Docker-Content-Digest"] = fault.digest or str(blob.digest)
        response.headers.update(fault.limits())
        if fault.encoding is not None:
            response.headers["Content-Encoding"] = fault.encoding
        data = fault.spoil(blob.data)
        if kind != "manifests" and not fault.ignore_range:
            data = _ranged(request, response, data, fault)
        is_body = kind != "manifests" and request.method == "GET"
        self._flying += is_body
        self.concurrent = max(self.concurrent, self._flying)
        try:
            await send_body(request, response, data, fault, self._released, lambda count: self._count(blob, count))
        finally:
            self._flying -= is_body
            await self._notify()
        return response

    def _count(self, blob: Blob, count: int) -> None:
        self.sent[str(blob.digest)] += count


def _route(path: str) -> tuple[Kind, str, str]:
    if path in ("/v2/", "/v2"):
        return "v2", "", ""
    if path == "/token":
        return "token", "", ""
    if path.startswith("/v2/") and path.endswith("/tags/list"):
        return "tags", path.removeprefix("/v2/").removesuffix("/tags/list"), ""
    for kind in ("manifests", "blobs"):
        head, found, selector = path.rpartition(f"/{kind}/")
        if found and head.startswith("/v2/"):
            return ("manifests" if kind == "manifests" else "blobs"), head.removeprefix("/v2/"), selector
    return "files", "", path


def _accepts(request: web.BaseRequest, media_type: str) -> bool:
    """As Debian's docker-registry does: a manifest of a type that was not asked for is not found."""
    asked = {
        part.partition(";")[0].strip() for line in request.headers.getall("Accept", []) for part in line.split(",")
    }
    return media_type in asked or "*/*" in asked or not asked


def _ranged(request: web.BaseRequest, response: web.StreamResponse, data: bytes, fault: Fault) -> bytes:
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None:
        return data
    first, last = match[1], match[2]
    start = int(first) if first else max(0, len(data) - int(last))
    stop = min(len(data), int(last) + 1) if first and last else len(data)
    if start >= stop:
        response.set_status(416)
        response.headers["Content-Range"] = fault.content_range or f"bytes */{len(data)}"
        return b""
    response.set_status(206)
    response.headers["Content-Range"] = fault.content_range or f"bytes {start}-{stop - 1}/{len(data)}"
    return data[start:stop]


def _error(status: int, code: str, headers: dict[str, str]) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": code.lower()}]}, status=status, headers=headers)
