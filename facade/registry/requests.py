"""What a request is about, read from its path and query (OCI distribution specification 1.1; containerd's `ns`)."""

from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web
from multidict import MultiMapping

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


class Kind(StrEnum):
    """What is asked for."""

    MANIFEST = "manifests"
    BLOB = "blobs"
    UPLOAD = "uploads"
    TAGS = "tags"
    REFERRERS = "referrers"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is about: something of a repository. `upload` names an upload; empty for a new one."""

    form: Form
    kind: Kind
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


class UnknownError(InvalidError):
    """A well-formed path to something that this listener does not have."""


def parse(request: web.BaseRequest, listener: Listener) -> Asked:
    """Read the request's path and `ns`.

    Raises:
        MalformedError: when a part of it is malformed.
        UnknownError: when it is no path of the specification, or names a namespace in a way not served here.
    """
    if "%" in request.rel_url.raw_path:
        raise MalformedError("NAME_INVALID", "the path holds a %-escape; names, tags and digests need none")
    name, kind, last = _parts(request.path.removeprefix("/v2/"))
    form, repository = _repository(name, request.query, listener)
    if kind is Kind.UPLOAD:
        return Asked(form, kind, repository, upload=last)
    return Asked(form, kind, repository, None if kind is Kind.TAGS else _selector(kind, last))


def _parts(path: str) -> tuple[str, Kind, str]:
    """The name, what is asked for of it, and which."""
    name, _, last = path.rpartition("/")
    name, _, kind = name.rpartition("/")
    if kind == Kind.UPLOAD and name.endswith("/blobs"):
        return name.removesuffix("/blobs"), Kind.UPLOAD, last
    if kind == Kind.BLOB and last == Kind.UPLOAD:
        return name, Kind.UPLOAD, ""
    if name and (kind in (Kind.MANIFEST, Kind.BLOB, Kind.REFERRERS) or (kind == Kind.TAGS and last == "list")):
        return name, Kind(kind), last
    raise UnknownError(
        f"{('/v2/' + path)[:200]!r}: only /v2/<name>/ with manifests/<ref>, blobs/<digest>, blobs/uploads/, tags/list"
        " and referrers/<digest> exist"
    )


def _selector(kind: Kind, text: str) -> Tag | Digest:
    if kind is not Kind.MANIFEST or ":" in text:
        try:
            return Digest.parse(text)
        except InvalidError as error:
            raise MalformedError("DIGEST_INVALID", str(error)) from None
    try:
        return parse_selector(text)
    except InvalidError as error:
        raise MalformedError("MANIFEST_INVALID", str(error)) from None


def _repository(name: str, query: MultiMapping[str], listener: Listener) -> tuple[Form, Repository]:
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
