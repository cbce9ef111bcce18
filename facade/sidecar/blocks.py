"""Blocks for this machine's Kubo: what the node's gateway does not have for everybody, from peers who do."""

import asyncio
from contextlib import closing, suppress
from typing import Final

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from facade.metrics import Metrics
from facade.registry.passing import cut, send_file
from facade.sidecar.fetch import Fetch, Part
from facade.sidecar.fetches import Fetches
from facade.sources import SourceName
from node.cid import Cid
from node.errors import FullError, InvalidError, NotFoundError, UnreachableError
from node.formats import RAW_BLOCK, Format, read_question
from node.http import FileRange
from node.lent import LentLeaf
from node.sending import HasFileno
from node.store import Store
from node.visibility import Visibility

log = structlog.get_logger(__name__)
BLOCK_S: Final = 8.0
"""So long a block is waited for; Kubo waits 10 s for the head of an answer."""
RESUME_S: Final = 2.0
"""So long it may take to learn which blocks an earlier run's fetches bring."""
LATE_S: Final = 19.0
"""So long a leaf may come behind its head; Kubo waits 30 s for the whole of an answer."""
ANSWER_S: Final = 60.0
"""A block that its client did not take within this time is cut; Kubo gives up after 30 s."""
_ONLY_IF_CACHED: Final = 412
"""Who asks so wants nothing to be fetched."""
_NOT_HERE: Final = (404, _ONLY_IF_CACHED)
MOST_WAITING: Final = 512
"""Requests for blocks at once; a Kubo makes 64."""


class Blocks:
    """Answers what the gateway answers with 404, where it is a block that a peer has."""

    def __init__(self, store: Store, fetches: Fetches, metrics: Metrics) -> None:
        self._store = store
        self._fetches = fetches
        self._metrics = metrics
        self._waiting = 0
        self._limits: set[asyncio.Timeout] = set()
        self._stopped = False

    async def stop(self, app: web.Application | None = None) -> None:
        """Wait for no block any more: for `app.on_shutdown`."""
        self._stopped = True
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(0.0)

    async def has(self, cid: Cid) -> bool:
        """Whether a block could be read here: it is public, or lent, or comes from a peer.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        if self._fetches.bringing(cid) is not None or self._fetches.offered(cid) is not None:
            return True
        if await self._is_public(cid) or await self._store.lent.block(cid) is not None:
            return True
        return await self._resumed(cid) is not None

    async def _resumed(self, cid: Cid) -> Fetch | None:
        """The fetch of an earlier run that a block comes with: a Kubo that has a part of a blob asks for no root."""
        fetches = self._fetches.resumed()
        with suppress(TimeoutError):
            async with asyncio.timeout(RESUME_S):
                await asyncio.gather(*(fetch.known() for fetch in fetches))
        return next((fetch for fetch in fetches if fetch.has(cid)), None)

    async def _is_public(self, cid: Cid) -> bool:
        try:
            return (await self._store.block(cid)).visibility is Visibility.PUBLIC
        except NotFoundError:
            return False

    @web.middleware
    async def lending(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A middleware around the gateway's routes: raw blocks that it does not have are fetched."""
        if not _is_block(request):
            return await handler(request)
        if self._waiting >= MOST_WAITING:
            return web.Response(status=503, text="too many requests at once\n", headers={hdrs.RETRY_AFTER: "1"})
        self._waiting += 1
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await handler(request)
                return await self._lend(request, answer) if answer.status in _NOT_HERE else answer
        except TimeoutError:
            cut(request)
            raise ConnectionResetError("the client takes no bytes") from None
        finally:
            self._waiting -= 1

    async def _lend(self, request: web.Request, not_here: web.StreamResponse) -> web.StreamResponse:
        try:
            cid = Cid.parse(_asked(request))
        except InvalidError:
            return not_here
        try:
            lent = await self._store.lent.block(cid)
            if lent is not None and (stored := await self._stored(request, cid, lent)):
                return stored
            if not_here.status == _ONLY_IF_CACHED:
                return not_here
            return await self._brought(request, cid) or not_here
        except (NotFoundError, UnreachableError, FullError) as error:
            log.info("no block for kubo", cid=str(cid), why=str(error))
            return not_here

    async def _brought(self, request: web.Request, cid: Cid) -> web.StreamResponse | None:
        fetch = self._fetches.bringing(cid)
        if request.method == hdrs.METH_HEAD:
            coming = fetch is not None or self._fetches.offered(cid) is not None
            return _with(web.StreamResponse(), cid, SourceName.PEER) if coming else None
        fetch = fetch or self._fetches.start(cid) or await self._resumed(cid)
        if fetch is None:
            return None
        try:
            part = await self._part(fetch, cid, BLOCK_S)
        except TimeoutError:
            return await self._late(request, cid, fetch)
        if part is None:  # the blob landed just now, or nobody gives it
            lent = await self._store.lent.block(cid)
            return None if lent is None else await self._stored(request, cid, lent)
        if isinstance(part, bytes):
            return self._bytes(request, cid, part, SourceName.PEER)
        with closing(part):
            return await self._file(request, cid, part, part, SourceName.PEER)

    async def _part(self, fetch: Fetch, cid: Cid, limit_s: float) -> Part | bytes | None:
        async with asyncio.timeout(0.0 if self._stopped else limit_s) as limit:
            self._limits.add(limit)
            try:
                return await fetch.part(cid)
            finally:
                self._limits.discard(limit)

    async def _late(self, request: web.Request, cid: Cid, fetch: Fetch) -> web.StreamResponse:
        """Say that a leaf comes, and send it once it has: after a 404 Kubo would not ask again for a minute."""
        length = fetch.length(cid)
        if length is None or self._stopped:
            raise UnreachableError(f"no peer gave it within {BLOCK_S:g} s")
        response = _with(web.StreamResponse(), cid, SourceName.PEER)
        response.content_length = length
        await response.prepare(request)
        try:
            part = await self._part(fetch, cid, LATE_S)
            if not isinstance(part, Part):
                raise ConnectionResetError("no peer gave it")
            with closing(part):
                await send_file(request, response, part, part.offset, part.length)
        except (TimeoutError, ConnectionError) as error:
            log.info("block cut", cid=str(cid), why=str(error) or "it came too late")
            cut(request)  # Kubo asks again at once
        else:
            self._metrics.served(SourceName.PEER, length)
            await response.write_eof()
        return response

    async def _stored(self, request: web.Request, cid: Cid, lent: LentLeaf | bytes) -> web.StreamResponse | None:
        """A block that is lent; None when its blob was damaged, and is to be fetched again."""
        if isinstance(lent, bytes):
            return self._bytes(request, cid, lent, SourceName.LOCAL)
        try:
            async with self._store.read(lent.digest) as blob:
                return await self._file(request, cid, blob, lent, SourceName.LOCAL)
        except NotFoundError:
            await self._store.lent.expect(lent.root)
            return None

    def _bytes(self, request: web.Request, cid: Cid, data: bytes, source: SourceName) -> web.StreamResponse:
        if request.method == hdrs.METH_GET:
            self._metrics.served(source, len(data))
        return _with(web.Response(body=data), cid, source)

    async def _file(
        self, request: web.Request, cid: Cid, file: HasFileno, leaf: LentLeaf | Part, source: SourceName
    ) -> web.StreamResponse:
        response = FileRange(file, leaf.length, offset=leaf.offset)
        _with(response, cid, source)
        try:
            await response.prepare(request)
        finally:
            self._metrics.served(source, response.sent)
        return response


def _is_block(request: web.Request) -> bool:
    if not request.path.startswith("/ipfs/"):
        return False
    try:
        return read_question(request.query, request.headers.getall(hdrs.ACCEPT, ())).format is Format.RAW
    except InvalidError:
        return False


def _asked(request: web.Request) -> str:
    return request.path.removeprefix("/ipfs/").removesuffix("/")


def _with(response: web.StreamResponse, cid: Cid, source: SourceName) -> web.StreamResponse:
    response.headers.update(
        {
            hdrs.CONTENT_TYPE: RAW_BLOCK,
            hdrs.ETAG: f'"{cid}.raw"',
            hdrs.ACCEPT_RANGES: "none",
            hdrs.CACHE_CONTROL: "public, max-age=29030400, immutable",
            hdrs.X_CONTENT_TYPE_OPTIONS: "nosniff",
            "X-Ipfs-Path": f"/ipfs/{cid}",
            "Layermesh-Source": source,
        }
    )
    return response
