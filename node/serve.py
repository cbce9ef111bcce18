"""The IPFS gateway of this node: blocks and files by CID (Trustless and Path Gateway specifications)."""

from collections.abc import Callable
from typing import Final

from aiohttp import hdrs, web

from node.catalog import Holding, Visibility
from node.cid import IDENTITY_PROBE, Cid
from node.errors import InvalidError, NotFoundError, UnreachableError
from node.http import FileRange, RangeError, parse_range
from node.store import Block, Store

MayRead = Callable[[web.Request, Visibility], bool]
OnSent = Callable[[int, web.Request], None]
RAW_BLOCK: Final = "application/vnd.ipld.raw"
_FILE: Final = "application/octet-stream"
_NOT_HERE: Final = "not here\n"
_IMMUTABLE: Final = "public, max-age=29030400, immutable"


def gateway_routes(store: Store, may_read: MayRead, on_sent: OnSent | None = None) -> list[web.RouteDef]:
    """`GET|HEAD /ipfs/{cid}`; what `may_read` refuses is answered as if it were not here."""
    gateway = _Gateway(store, may_read, on_sent or (lambda _count, _request: None))
    return [web.get("/ipfs/{cid}", gateway.answer)]


class _Gateway:
    def __init__(self, store: Store, may_read: MayRead, on_sent: OnSent) -> None:
        self._store = store
        self._may_read = may_read
        self._on_sent = on_sent

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Parse, ask, answer."""
        text = request.match_info["cid"]
        raw = _wants_raw(request)
        if text == IDENTITY_PROBE:
            return _with(web.Response(), text, raw=raw)
        try:
            cid = Cid.parse(text)
            return await (self._block(request, cid) if raw else self._file(request, cid))
        except RangeError as error:
            headers = {hdrs.CONTENT_RANGE: f"bytes */{error.size}"}
            return web.Response(status=416, text=f"{error}\n", headers=headers)
        except InvalidError as error:
            return web.Response(status=400, text=f"{error}\n")
        except (NotFoundError, UnreachableError):
            return web.Response(status=404, text=_NOT_HERE)

    async def _block(self, request: web.Request, cid: Cid) -> web.StreamResponse:
        block = await self._store.block(cid)
        if not self._may_read(request, block.visibility):
            raise NotFoundError(_NOT_HERE)
        if block.within is None:
            return self._bytes(request, cid, block.data or b"")
        return await self._part(request, cid, block.within, block, raw=True)

    async def _file(self, request: web.Request, cid: Cid) -> web.StreamResponse:
        holding = await self._store.find_cid(cid)
        if holding is not None and self._may_read(request, holding.visibility):
            return await self._part(request, cid, holding, Block(cid, holding.size, holding.visibility), raw=False)
        block = await self._store.block(cid)  # a raw leaf is a file, too
        if block.within is None or not self._may_read(request, block.visibility):
            raise NotFoundError(_NOT_HERE)
        return await self._part(request, cid, block.within, block, raw=False)

    async def _part(
        self, request: web.Request, cid: Cid, within: Holding, part: Block, *, raw: bool
    ) -> web.StreamResponse:
        async with self._store.read(within.digest) as blob:
            if _is_known(request, cid, raw=raw):
                return _with(web.Response(status=304), str(cid), raw=raw)
            response = FileRange(blob, part.length, wanted=_range(request, part.length), offset=part.offset)
            _with(response, str(cid), raw=raw)
            try:
                await response.prepare(request)
            finally:
                if response.sent:
                    self._on_sent(response.sent, request)
        return response

    def _bytes(self, request: web.Request, cid: Cid, data: bytes) -> web.StreamResponse:
        if _is_known(request, cid, raw=True):
            return _with(web.Response(status=304), str(cid), raw=True)
        wanted = _range(request, len(data))
        part = data if wanted is None else data[wanted.start : wanted.stop]
        response = web.Response(body=part, status=200 if wanted is None else 206)
        response.headers[hdrs.ACCEPT_RANGES] = "bytes"
        if wanted is not None:
            response.headers[hdrs.CONTENT_RANGE] = f"bytes {wanted.start}-{wanted.stop - 1}/{len(data)}"
        if request.method == hdrs.METH_GET:
            self._on_sent(len(part), request)
        return _with(response, str(cid), raw=True)


def _with(response: web.StreamResponse, cid: str, *, raw: bool) -> web.StreamResponse:
    response.headers.update(
        {
            hdrs.CONTENT_TYPE: RAW_BLOCK if raw else _FILE,
            hdrs.ETAG: _etag(cid, raw=raw),
            hdrs.CACHE_CONTROL: _IMMUTABLE,
            "X-Ipfs-Path": f"/ipfs/{cid}",
            hdrs.X_CONTENT_TYPE_OPTIONS: "nosniff",
        }
    )
    return response


def _wants_raw(request: web.Request) -> bool:
    """The query wins over `Accept` (Trustless Gateway, section 2.2.2)."""
    if (wanted := request.query.get("format")) is not None:
        if wanted != "raw":
            raise web.HTTPNotAcceptable(text=f"format {wanted[:40]!r}: only raw blocks and plain files are served\n")
        return True
    return any(RAW_BLOCK in line for line in request.headers.getall(hdrs.ACCEPT, ()))


def _range(request: web.Request, size: int) -> range | None:
    return parse_range(request.headers.get(hdrs.RANGE), size) if request.method == hdrs.METH_GET else None


def _is_known(request: web.Request, cid: Cid, *, raw: bool) -> bool:
    known = request.headers.get(hdrs.IF_NONE_MATCH, "")
    return known.strip() == "*" or _etag(str(cid), raw=raw) in known


def _etag(cid: str, *, raw: bool) -> str:
    return f'"{cid}.raw"' if raw else f'"{cid}"'
