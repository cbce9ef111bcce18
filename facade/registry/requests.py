"""What a pull asks for, read from its path and query (OCI distribution specification 1.1; containerd's `ns`)."""

from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web
from multidict import MultiMapping

from node.digest import Digest
from node.errors import InvalidError
from node.reference import DOCKER_HUB, Repository, Tag, parse_selector


class Listener(StrEnum):
    """Which of the two registry listeners a request came to."""

    FACADE = "facade"
    DOCKER_MIRROR = "docker-mirror"


class Form(StrEnum):
    """How a client names the upstream: as a mirror it goes elsewhere on 404, by full name it does not."""

    MIRROR = "mirror"
    FULL_NAME = "full-name"
    OWN = "own"


class Kind(StrEnum):
    """What is asked for."""

    MANIFEST = "manifests"
    BLOB = "blobs"


@dataclass(frozen=True, slots=True)
class Asked:
    """A manifest or blob that a client asks for."""

    form: Form
    kind: Kind
    repository: Repository
    selector: Tag | Digest

    @property
    def digest(self) -> Digest:
        """The selector of a request that can only name a digest."""
        assert isinstance(self.selector, Digest), "blobs are named by digest alone"
        return self.selector


class MalformedError(InvalidError):
    """A path or query that is no request of the specification; `code` is the specification's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnknownError(InvalidError):
    """A well-formed path to something that this listener does not have."""


def parse(request: web.BaseRequest, listener: Listener) -> Asked:
    """Read the request's path and `ns`.

    Raises:
        MalformedError: when a part of it is malformed.
        UnknownError: when it is no manifest or blob, or names a namespace in a way this listener does not serve.
    """
    if "%" in request.rel_url.raw_path:
        raise MalformedError("NAME_INVALID", "the path holds a %-escape; names, tags and digests need none")
    parts = request.path.removeprefix("/v2/").rsplit("/", 2)
    if len(parts) != 3 or parts[1] not in (Kind.MANIFEST, Kind.BLOB):
        raise UnknownError(
            f"{request.path[:200]!r}: only /v2/<name>/manifests/<ref> and /v2/<name>/blobs/<digest> exist"
        )
    name, kind, last = parts
    form, repository = _named_repository(name, request.query, listener)
    return Asked(form, Kind(kind), repository, _selector(Kind(kind), last))


def repository_of(name: str, query: MultiMapping[str], listener: Listener) -> Repository:
    """The repository that a name in a path and the query's `ns` mean on this listener.

    Raises:
        MalformedError: when a part of it is malformed.
        UnknownError: when it names a namespace in a way this listener does not serve.
    """
    return _named_repository(name, query, listener)[1]


def _selector(kind: Kind, text: str) -> Tag | Digest:
    if kind is Kind.BLOB or ":" in text:
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
    return Form.OWN, "local", name
