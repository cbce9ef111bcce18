"""The IPFS gateway of this node: blocks, archives and files by CID (Trustless and Path Gateway specifications).

It answers from what is here and asks nobody else. What `may_read` refuses is answered as if it were not here.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Final
from urllib.parse import unquote

import structlog
from aiohttp import hdrs, web

from node.car import Inline, header_naming
from node.catalog import Holding, Visibility
from node.cid import Codec
from node.dagpb import Kind
from node.errors import InvalidError, LayermeshError, NotFoundError, UnreachableError
from node.formats import (
    EntityBytes,
    Format,
    Question,
    Scope,
    UnacceptableError,
    UnsupportedError,
    content_type,
    disposition,
    etag,
    is_known,
    read_question,
)
from node.http import FileRange, RangeError, parse_range
from node.naming import Name
from node.outgoing import contents, sections
from node.store import Block, Store
from node.traversal import Dags, Entity, Held, NoSuchNameError, Piece, Target
from node.walked import BrokenDagError

MayRead = Callable[[web.Request, Visibility], bool]
OnSent = Callable[[int, web.Request], None]
Chunks = AsyncGenerator[bytes, None] | AsyncGenerator[bytearray, None]
Sent = AsyncGenerator[bytes | bytearray, None]
Encode = Callable[[AsyncGenerator[Piece, None]], Chunks]
MAX_SEGMENTS: Final = 64
MOST_WALKS: Final = 64
"""So many archives, and files that are no blobs here, are sent at once: each has 2 MiB in memory or more, whose client
does not read.
"""
STALL_S: Final = 60.0
"""A client that takes no piece of those within this time is cut."""
_PROBE: Final = Name(Inline(Codec.RAW, b""))
"""`node.cid.IDENTITY_PROBE`, which is answered however it is asked for."""
_NOT_HERE: Final = "not here\n"
_IMMUTABLE: Final = "max-age=29030400, immutable"
_log: Final = structlog.get_logger(__name__)


def gateway_routes(
    store: Store, may_read: MayRead, on_sent: OnSent | None = None, *, strict: bool = False
) -> list[web.RouteDef]:
    """`GET|HEAD /ipfs/{cid}[/{path}]`.

    A `strict` gateway answers with what can be verified alone, raw blocks and CARs: 400 where no format is asked for.
    The one for peers is not: they read parts of plain files, whose leaves they verify.
    """
    gateway = _Gateway(store, may_read, on_sent or (lambda _count, _request: None), strict)
    return [web.get("/ipfs/{path:.+}", gateway.answer)]


class _Gateway:
    def __init__(self, store: Store, may_read: MayRead, on_sent: OnSent, strict: bool) -> None:
        self._store = store
        self._may_read = may_read
        self._on_sent = on_sent
        self._strict = strict
        self._walks = 0
        self._long_nodes = asyncio.Semaphore(1)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Parse, ask, answer."""
        try:
            return await self._answer(request)
        except RangeError as error:
            headers = {hdrs.CONTENT_RANGE: f"bytes */{error.size}"}
            return web.Response(status=416, text=f"{error}\n", headers=headers)
        except NoSuchNameError as error:
            return web.Response(status=404, text=f"{error}\n")
        except NotFoundError:
            return web.Response(status=412 if _only_if_cached(request) else 404, text=_NOT_HERE)
        except LayermeshError as error:
            return web.Response(status=_status(error), text=f"{error}\n")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Service-Worker") == "script":
            raise InvalidError("Service-Worker: none is served here")
        root, path = _content_path(request)
        question = read_question(request.query, request.headers.getall(hdrs.ACCEPT, ()))
        if question.format is Format.PLAIN and self._strict and root != _PROBE:
            raise InvalidError("?format=raw or ?format=car is expected: nothing is served that cannot be verified")
        held = Held(self._store, lambda visibility: self._may_read(request, visibility))
        dags = Dags(held, self._long_nodes)
        asked = _Asked(request, question, held, dags, await dags.resolve(root, path))
        match question.format:
            case Format.RAW:
                return await self._raw(asked)
            case Format.CAR:
                return await self._car(asked)
            case _:
                return await self._plain(asked)

    async def _raw(self, asked: "_Asked") -> web.StreamResponse:
        block = asked.target.name.block
        if isinstance(block, Inline):
            return self._bytes(asked, block.data)
        return await self._block(asked, await asked.held.block(block))

    async def _block(self, asked: "_Asked", block: Block) -> web.StreamResponse:
        if block.within is None:
            return self._bytes(asked, block.data or b"")
        return await self._part(asked, block.within, block.offset, block.length)

    async def _plain(self, asked: "_Asked") -> web.StreamResponse:
        """A file's bytes."""
        name = asked.target.name
        if (holding := await asked.held.holding(name)) is not None:
            return await self._part(asked, holding, 0, holding.size)
        if name.codec is Codec.RAW:  # a leaf is a file, too
            return await self._raw(asked)
        entity = await asked.dags.entity(name)
        if not entity.is_file:
            raise UnacceptableError(f"{name}: it is a directory: ask for ?format=car, or a file in it")
        return await self._pieced(asked, entity)

    async def _part(self, asked: "_Asked", within: Holding, offset: int, length: int) -> web.StreamResponse:
        request = asked.request
        async with self._store.read(within.digest) as blob:
            if asked.is_known:
                return asked.described(web.Response(status=304))
            response = FileRange(blob, length, wanted=_range(request, length), offset=offset)
            asked.described(response)
            try:
                await response.prepare(request)
            finally:
                if response.sent:
                    self._on_sent(response.sent, request)
        return response

    def _bytes(self, asked: "_Asked", data: bytes) -> web.StreamResponse:
        if asked.is_known:
            return asked.described(web.Response(status=304))
        wanted = _range(asked.request, len(data))
        part = data if wanted is None else data[wanted.start : wanted.stop]
        response = web.Response(body=part, status=200 if wanted is None else 206)
        response.headers[hdrs.ACCEPT_RANGES] = "bytes"
        if wanted is not None:
            response.headers[hdrs.CONTENT_RANGE] = f"bytes {wanted.start}-{wanted.stop - 1}/{len(data)}"
        if asked.request.method == hdrs.METH_GET:
            self._on_sent(len(part), asked.request)
        return asked.described(response)

    async def _pieced(self, asked: "_Asked", entity: Entity) -> web.StreamResponse:
        """A file that is no blob here: its blocks, one after another."""
        wanted = _range(asked.request, entity.size)
        response = web.StreamResponse(status=200 if wanted is None else 206)
        response.headers[hdrs.ACCEPT_RANGES] = "bytes"
        if wanted is not None:
            response.headers[hdrs.CONTENT_RANGE] = f"bytes {wanted.start}-{wanted.stop - 1}/{entity.size}"
        part = range(entity.size) if wanted is None else wanted
        response.content_length = len(part)
        pieces = asked.dags.walk(asked.target.name, Scope.ENTITY, part, dups=True)
        return await self._stream(asked, response, b"", pieces, lambda found: contents(found, part))

    async def _car(self, asked: "_Asked") -> web.StreamResponse:
        question, name = asked.question, asked.target.name
        scope, part = question.scope, None
        if question.entity_bytes is not None:
            scope, part = await self._entity_bytes(asked, question.entity_bytes)
        header = header_naming([name.raw])
        pieces = _all(asked.dags.passed(asked.target), asked.dags.walk(name, scope, part, dups=question.dups))
        response = web.StreamResponse()
        response.headers[hdrs.ACCEPT_RANGES] = "none"
        return await self._stream(asked, response, header, pieces, sections)

    async def _entity_bytes(self, asked: "_Asked", wanted: EntityBytes) -> tuple[Scope, range | None]:
        """What is sent of a file: a part of it, or its root alone where the part is empty."""
        entity = await asked.dags.entity(asked.target.name)
        if entity.kind not in (Kind.FILE, Kind.RAW):
            return Scope.ENTITY, None
        part = wanted.within(entity.size)
        return (Scope.ENTITY, part) if part or not entity.size else (Scope.BLOCK, None)

    async def _stream(
        self,
        asked: "_Asked",
        response: web.StreamResponse,
        head: bytes,
        pieces: AsyncGenerator[Piece, None],
        encode: Encode,
    ) -> web.StreamResponse:
        """Send a walk as it goes; what fails before its first blocks still has a status of its own."""
        request = asked.request
        async with aclosing(pieces):
            if asked.is_known or request.method == hdrs.METH_HEAD:
                await anext(pieces, None)
                return await asked.empty(response)
            if self._walks >= MOST_WALKS:
                raise UnreachableError("as much is sent as can be at once; ask again later")
            self._walks += 1
            try:
                async with aclosing(encode(pieces)) as chunks:
                    ahead: list[bytes | bytearray] = [head, await anext(chunks, b"")]
                    await asked.described(response).prepare(request)
                    await self._send(request, response, _behind(ahead, chunks))
            finally:
                self._walks -= 1
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, chunks: Sent) -> None:
        sent = 0
        try:
            async for chunk in chunks:
                async with asyncio.timeout(STALL_S):
                    await response.write(chunk)
                sent += len(chunk)
            await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client takes no bytes") from None
        except LayermeshError as error:
            _log.warning("answer cut", path=request.rel_url.raw_path[:200], reason=str(error))
            if request.transport is not None:
                request.transport.abort()  # an end, however clean, would be taken for the whole
            raise ConnectionResetError(str(error)) from None
        finally:
            self._on_sent(sent, request)


class _Asked:
    """One request, read and resolved, and the headers of its answer."""

    def __init__(self, request: web.Request, question: Question, held: Held, dags: Dags, target: Target) -> None:
        self.request = request
        self.question = question
        self.held = held
        self.dags = dags
        self.target = target

    @property
    def path(self) -> str:
        """The content path that was asked for, in ASCII."""
        return self.request.rel_url.raw_path.encode("ascii", "replace").decode()

    @property
    def is_known(self) -> bool:
        """Whether the client says that it has this answer."""
        return is_known(self.request.headers.get(hdrs.IF_NONE_MATCH), self._tag)

    @property
    def _tag(self) -> str:
        return etag(self.question, self.path, str(self.target.name))

    @property
    def _audience(self) -> str:
        """Who a cache may give the answer to: nobody else, where the client may have proved that it is a member."""
        return "private" if hdrs.AUTHORIZATION in self.request.headers else "public"

    def described(self, response: web.StreamResponse) -> web.StreamResponse:
        """The answer, with what is said of it."""
        name = str(self.target.name)
        about = {
            hdrs.CONTENT_TYPE: content_type(self.question),
            hdrs.ETAG: self._tag,
            hdrs.CACHE_CONTROL: f"{self._audience}, {_IMMUTABLE}",
            hdrs.CONTENT_DISPOSITION: disposition(self.question, name),
            hdrs.CONTENT_LOCATION: f"{self.path}?{self.question.location}" if self.question.location else None,
            hdrs.X_CONTENT_TYPE_OPTIONS: "nosniff",
            "X-Ipfs-Path": self.path,
            "X-Ipfs-Roots": ",".join(str(root) for root in self.target.roots),
        }
        response.headers.update({field: value for field, value in about.items() if value is not None})
        return response

    async def empty(self, response: web.StreamResponse) -> web.StreamResponse:
        """The answer without a body: to HEAD, or that the client has it."""
        if self.is_known:
            return self.described(web.Response(status=304))
        await self.described(response).prepare(self.request)
        await response.write_eof()
        return response


async def _behind(ahead: list[bytes | bytearray], chunks: Chunks) -> Sent:
    """What is at hand, which is not kept any longer than others, and then the rest."""
    while ahead:
        if piece := ahead.pop(0):
            yield piece
    async for chunk in chunks:
        yield chunk


async def _all(*walks: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
    async with AsyncExitStack() as stack:
        for walk in walks:
            pieces = await stack.enter_async_context(aclosing(walk))
            async for piece in pieces:
                yield piece


def _content_path(request: web.Request) -> tuple[Name, list[str]]:
    """The root and the names behind it.

    Raises:
        InvalidError: when the root is no CID, or the path is too long.
    """
    text, *rest = request.rel_url.raw_path.removeprefix("/ipfs/").split("/")
    path = [unquote(segment) for segment in rest if segment]
    if len(path) > MAX_SEGMENTS:
        raise InvalidError(f"path: at most {MAX_SEGMENTS} names are followed")
    return Name.parse(unquote(text)), path


def _status(error: LayermeshError) -> int:
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status
    return 500


_STATUSES: Final[dict[type[LayermeshError], int]] = {
    UnacceptableError: 406,
    UnsupportedError: 501,
    InvalidError: 400,
    BrokenDagError: 500,
    UnreachableError: 503,
}


def _only_if_cached(request: web.Request) -> bool:
    said = ",".join(request.headers.getall(hdrs.CACHE_CONTROL, ())).lower().split(",")
    return any(each.strip() == "only-if-cached" for each in said)


def _range(request: web.Request, size: int) -> range | None:
    return parse_range(request.headers.get(hdrs.RANGE), size) if request.method == hdrs.METH_GET else None
