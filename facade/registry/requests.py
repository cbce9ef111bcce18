"""What a request is about, read from its path and query (OCI distribution specification 1.1; containerd's `ns`)."""

from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web
from multidict import MultiMapping

from facade.registry.routes import Route as Route
from facade.registry.routes import UnknownError as UnknownError
from facade.registry.routes import route_of
from node.digest import Digest
from node.errors import InvalidError
from node.reference import DOCKER_HUB, OWN, Repository, Tag, parse_selector


class Listener(StrEnum):
    """Which of the two registry listeners a request came to."""

    FACADE = "facade"
    DOCKER_MIRROR = "docker-mirror"


class Form(StrEnum):
    """How a client names the upstream: as a mirror it goes elsewhere on 404, by full name it does not."""

    MIRROR = "mirror"
    FULL_NAME = "full-name"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is about: something of a repository. `upload` names an upload; empty for a new one."""

    form: Form
    route: Route
    repository: Repository
    selector: Tag | Digest | None = None
    upload: str = ""

    @property
    def digest(self) -> Digest:
        """The selector of a request that can only name a digest."""
        assert isinstance(self.selector, Digest), "blobs and subjects are named by digest alone"
        return self.selector


class MalformedError(InvalidError):
    """A path or query that is no request of the specification; `code` is the specification's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def parse(request: web.BaseRequest, listener: Listener) -> Asked:
    """Read the request's path and `ns`.

    Raises:
        MalformedError: when a part of it is malformed.
        UnknownError: when it is no path of the specification, or names a namespace in a way not served here.
    """
    if "%" in request.rel_url.raw_path:
        raise MalformedError("NAME_INVALID", "the path holds a %-escape; names, tags and digests need none")
    route, name = route_of(request.path)
    if not name:
        raise UnknownError(f"{request.path[:80]!r} is not served by this listener")
    form, repository = _named_repository(name, request.query, listener)
    last = request.path.rpartition("/")[2]
    if route is Route.UPLOAD:
        return Asked(form, route, repository, upload="" if last == Route.UPLOAD else last)
    return Asked(form, route, repository, None if route is Route.TAGS else _selector(route, last))


def repository_of(name: str, query: MultiMapping[str], listener: Listener) -> Repository:
    """The repository that a name in a path and the query's `ns` mean on this listener.

    Raises:
        MalformedError: when a part of it is malformed.
        UnknownError: when it names a namespace in a way this listener does not serve.
    """
    return _named_repository(name, query, listener)[1]


def _selector(route: Route, text: str) -> Tag | Digest:
    if route is not Route.MANIFEST or ":" in text:
        try:
            return Digest.parse(text)
        except InvalidError as error:
            raise MalformedError("DIGEST_INVALID", str(error)) from None
    try:
        return parse_selector(text)
    except InvalidError as error:
        raise MalformedError("MANIFEST_INVALID", str(error)) from None


def _named_repository(name: str, query: MultiMapping[str], listener: Listener) -> tuple[Form, Repository]:
    form, namespace, name = _named(name, query.getall("ns", []), listener)
    if namespace == DOCKER_HUB and "/" not in name:
        name = f"library/{name}"
    try:
        return form, Repository.parse(namespace, name)
    except InvalidError as error:
        raise MalformedError("NAME_INVALID", str(error)) from None


def _named(name: str, ns: list[str], listener: Listener) -> tuple[Form, str, str]:
    if len(ns) > 1:
        raise MalformedError("NAME_INVALID", "the query names ns more than once")
    if listener is Listener.DOCKER_MIRROR:
        if ns not in ([], [DOCKER_HUB]):
            raise UnknownError(f"registry namespace {ns[0][:80]!r}: this listener mirrors {DOCKER_HUB} alone")
        return Form.MIRROR, DOCKER_HUB, name
    if ns:
        return Form.MIRROR, ns[0].lower(), name
    first, slash, rest = name.partition("/")
    if slash and "." in first:
        return Form.FULL_NAME, first.lower(), rest
    return Form.OWN, OWN, name
