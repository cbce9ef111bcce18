"""Lists of mirrored repositories, which only their registry knows: passed through, and never remembered."""

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import web

from facade.registry.requests import Asked, Route
from facade.upstream.client import Listing
from node.reference import Repository

_PARAMETERS: Final = {Route.TAGS: ("n", "last"), Route.REFERRERS: ("artifactType",)}


class ListingUpstream(Protocol):
    """The registries behind us, as those who know what they have."""

    async def listing(self, repository: Repository, path: str, query: Mapping[str, str]) -> Listing: ...


class Listings:
    """Answers for tags and referrers of mirrored repositories."""

    def __init__(self, upstream: ListingUpstream) -> None:
        self._upstream = upstream

    async def answer(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        """What upstream says.

        Raises:
            LayermeshError: when it says nothing, or not to us.
        """
        path = "tags/list" if asked.route is Route.TAGS else f"referrers/{asked.digest}"
        query = {name: request.query[name] for name in _PARAMETERS[asked.route] if name in request.query}
        listing = await self._upstream.listing(asked.repository, path, query)
        headers = {"Content-Type": listing.content_type, "Layermesh-Source": "upstream"}
        if listing.filters:
            headers["OCI-Filters-Applied"] = listing.filters
        if listing.next_page and (following := _here(request, listing.next_page)):
            headers["Link"] = f'<{following}>; rel="next"'
        return web.Response(body=listing.data, headers=headers)


def _here(request: web.BaseRequest, following: str) -> str | None:
    """Where upstream's next page is found through this node: the same path, with upstream's parameters."""
    try:
        pairs = [(name, value) for name, value in parse_qsl(urlsplit(following).query) if name != "ns"]
        pairs += [("ns", value) for value in request.query.getall("ns", [])]
        return f"{request.path}?{urlencode(pairs)}"
    except ValueError:  # no URL, or no text
        return None
