"""The paths of the registry API, and what a request to each does (OCI distribution specification 1.1, "Endpoints").

Pure, and complete although not every route is served: what is not known here is answered by nobody.
"""

from enum import StrEnum
from typing import Final

from facade.registry.access import Action
from node.errors import InvalidError


class UnknownError(InvalidError):
    """A well-formed path to something that this listener does not have."""


class Route(StrEnum):
    """A path of the API, by the word that tells it from the others."""

    BASE = ""
    CATALOG = "_catalog"
    MANIFEST = "manifests"
    BLOB = "blobs"
    UPLOAD = "uploads"
    TAGS = "tags"
    REFERRERS = "referrers"


_BY_NAME: Final = (Route.MANIFEST, Route.BLOB, Route.REFERRERS)


def route_of(path: str) -> tuple[Route, str]:
    """The route of a path under `/v2`, and the name in it, empty where it has none. Names are read from behind.

    Raises:
        UnknownError: when it is none of them.
    """
    rest = path.removeprefix("/v2").removeprefix("/")
    if rest in (Route.BASE, Route.CATALOG):
        return Route(rest), ""
    head, _, last = rest.rpartition("/")
    name, _, word = head.rpartition("/")
    if name and word == Route.BLOB and last == Route.UPLOAD:
        return Route.UPLOAD, name
    if word == Route.UPLOAD and name.endswith(f"/{Route.BLOB}"):
        return Route.UPLOAD, name.removesuffix(f"/{Route.BLOB}")
    if name and (word in _BY_NAME or (word == Route.TAGS and last == "list")):
        return Route(word), name
    raise UnknownError(f"{path[:200]!r} is no path of the registry API: see the OCI distribution specification")


def action_of(method: str, route: Route) -> Action:
    """What a request does; a method that nobody knows needs the right to push."""
    if method in ("GET", "HEAD"):
        return Action.PUSH if route is Route.UPLOAD else Action.PULL
    if method == "DELETE" and route is not Route.UPLOAD:
        return Action.DELETE
    return Action.PUSH
