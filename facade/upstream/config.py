"""Which registries there are upstream, and how each may be used."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from yarl import URL

from facade.upstream.tags import TagPolicy, choose
from node.errors import InvalidError
from node.reference import DOCKER_HUB, OWN, Repository, Tag


class Access(StrEnum):
    """What happens to content that an anonymous client could not read upstream."""

    REFUSE = "refuse"
    CREDENTIALS = "credentials"
    PASSTHROUGH = "passthrough"
    """Each client shows its own login, and upstream judges it; this node's is never used."""


class Share(StrEnum):
    """Who gets content that needs a credential besides this node's own clients."""

    CLUSTER = "cluster"
    """The members, which give it to their own clients as their own configuration says."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place where a namespace's registry is reached.

    It is plain http only where an operator wrote it so; it may have a path, which is put before `/v2/`.
    """

    namespace: str
    url: URL


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One registry namespace, where it is reached, and who may see what came from it.

    `urls` are tried in this order, and there is at least one. `public` says whether an anonymous read there proves
    content public.
    """

    namespace: str
    urls: tuple[URL, ...]
    public: bool = False
    access: Access = Access.REFUSE
    share: Share | None = None
    tags: tuple[tuple[str, TagPolicy], ...] = ()
    """Patterns of tags, and what holds for those; the first that matches counts."""

    @classmethod
    def parse(cls, namespace: str, *urls: str, public: bool = False, access: Access = Access.REFUSE) -> Self:
        """Check what an operator wrote: a namespace such as `corp.test` and `http://` or `https://` URLs.

        Raises:
            InvalidError: naming the part that is malformed and what is allowed.
        """
        Repository.parse(namespace, "name")
        if namespace.lower() == OWN:
            raise InvalidError(
                f"registry namespace {namespace!r}: that is the cluster's own; name the upstream by its host"
            )
        return cls(namespace.lower(), tuple(_parse_endpoint(url) for url in urls), public, access)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where it is reached."""
        return tuple(Endpoint(self.namespace, url) for url in self.urls)

    def tag_policy(self, tag: Tag) -> TagPolicy:
        """How much the tag's known meaning counts beside upstream's word."""
        return choose(self.tags, tag)


def granted(configs: Iterable[UpstreamConfig]) -> dict[str, bool]:
    """The namespaces whose private content clients get: all of them (True), or those who prove a right (False)."""
    return {
        config.namespace: config.access is Access.CREDENTIALS
        for config in configs
        if config.access is not Access.REFUSE
    }


def _parse_endpoint(text: str) -> URL:
    try:
        url = URL(text.strip())
        port = url.port
    except ValueError:
        raise InvalidError(f"upstream endpoint {text[:120]!r}: not a URL; https://HOST[:PORT] is expected") from None
    if url.scheme not in ("http", "https") or not url.host or not port:
        raise InvalidError(f"upstream endpoint {text[:120]!r}: https://HOST[:PORT] or http://HOST[:PORT] is expected")
    if url.user is not None or url.password is not None:
        raise InvalidError(f"upstream endpoint for {url.host}: credentials do not belong in the URL but in config.json")
    if url.raw_query_string or url.raw_fragment:
        raise InvalidError(f"upstream endpoint {text[:120]!r}: a query or fragment has no place there")
    return URL.build(scheme=url.scheme, host=url.host, port=url.explicit_port, path=url.path.rstrip("/") or "/")


def _public(namespace: str, host: str = "") -> UpstreamConfig:
    return UpstreamConfig(namespace, (URL.build(scheme="https", host=host or namespace, path="/"),), public=True)


BUILT_IN: Final[tuple[UpstreamConfig, ...]] = (
    _public(DOCKER_HUB, "registry-1.docker.io"),
    _public("ghcr.io"),
    _public("quay.io"),
    _public("registry.k8s.io"),
    _public("gcr.io"),
    _public("mcr.microsoft.com"),
    _public("public.ecr.aws"),
    _public("registry.gitlab.com"),
)
