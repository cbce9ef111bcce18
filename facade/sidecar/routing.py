"""The Delegated Routing V1 HTTP API, as far as a node can answer it: who provides a CID. It is always this node itself.

https://specs.ipfs.tech/routing/http-routing-v1/
"""

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Final

import msgspec
from aiohttp import hdrs, web

from facade.sidecar.provider import Filters, PeerId, Provider
from node.cid import Cid
from node.errors import InvalidError

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
FOUND_S: Final = 300
NOT_FOUND_S: Final = 5
"""For how long caches may keep an answer; a peer that holds the blob may come at any time."""
LONGEST_CID: Final = 256

Has = Callable[[Cid], Awaitable[bool]]


class Routing:
    """`/routing/v1/...`; `has` says whether a block could be read here."""

    def __init__(self, provider: Provider, has: Has) -> None:
        self._provider = provider
        self._has = has

    def routes(self) -> list[web.RouteDef]:
        """What is answered; the rest of the API is said to be not supported."""
        return [
            web.get("/routing/v1/providers/{cid}", self._providers),
            web.get("/routing/v1/peers/{peer_id}", self._peers),
            web.get("/routing/v1/ipns/{name}", self._ipns),
            web.route("*", "/routing/v1/{area:(?:providers|peers|ipns|dht)(?:/.*)?}", self._unsupported),
            web.route("*", "/routing/v1/{rest:.*}", self._unknown),
        ]

    async def _providers(self, request: web.Request) -> web.Response:
        cid = parse_cid(request.match_info["cid"])
        found = cid is not None and await self._has(cid)
        return self._told(request, "Providers", found)

    async def _peers(self, request: web.Request) -> web.Response:
        return self._told(request, "Peers", PeerId.parse(request.match_info["peer_id"]) == self._provider.id)

    async def _ipns(self, request: web.Request) -> web.Response:
        """There are no names here: an answer of any other type than a record's says so."""
        return web.Response(text="no record found\n", headers=_cached(NOT_FOUND_S))

    async def _unsupported(self, request: web.Request) -> web.Response:
        return web.Response(status=501, text=f"{request.method[:20]} is not supported here\n")

    async def _unknown(self, _: web.Request) -> web.Response:
        return web.Response(status=400, text="not a path of the Delegated Routing V1 API\n")

    def _told(self, request: web.Request, name: str, found: bool) -> web.Response:
        kind = _wanted_type(request)
        record = self._provider.record(Filters.parse(request.query)) if found else None
        records = [] if record is None else [record]
        if kind == NDJSON:
            body = b"".join(msgspec.json.encode(each) + b"\n" for each in records)
        else:
            body = msgspec.json.encode({name: records})
        headers = _cached(FOUND_S if found else NOT_FOUND_S)
        return web.Response(body=body, headers={**headers, hdrs.CONTENT_TYPE: kind})


def _cached(limit_s: int) -> dict[str, str]:
    return {
        hdrs.CACHE_CONTROL: f"public, max-age={limit_s}, stale-while-revalidate={limit_s}, stale-if-error={limit_s}",
        hdrs.LAST_MODIFIED: formatdate(usegmt=True),
        hdrs.VARY: hdrs.ACCEPT,
    }


def _wanted_type(request: web.Request) -> str:
    """Streamed only where the client says so; a client that says nothing gets plain JSON.

    Raises:
        HTTPNotAcceptable: when it wants something else.
    """
    lines = request.headers.getall(hdrs.ACCEPT, ())
    kinds = {item.partition(";")[0].strip().lower() for line in lines for item in line.split(",")} - {""}
    if NDJSON in kinds:
        return NDJSON
    if not kinds or kinds & {JSON, "application/*", "*/*"}:
        return JSON
    raise web.HTTPNotAcceptable(text=f"{JSON} or {NDJSON} is served\n")


def parse_cid(text: str) -> Cid | None:
    """The CID asked for; None for one of a kind that no block here has.

    Raises:
        InvalidError: when it is no CID.
    """
    try:
        return Cid.parse(text)
    except InvalidError:
        if _is_cid(text):
            return None
        raise


def _is_cid(text: str) -> bool:
    from multiformats import CID

    if len(text) > LONGEST_CID:
        return False
    try:
        CID.decode(text)
    except (ValueError, KeyError, TypeError, IndexError):
        return False
    return True
