"""The registries we fall back to, as a client (OCI distribution specification 1.1, "Pull")."""

import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from facade.upstream.config import BUILT_IN, UpstreamConfig
from facade.upstream.credentials import NO_CREDENTIALS, Credentials
from node.digest import Digest
from node.manifest import Descriptor, Manifest
from node.reference import Repository, Tag
from node.source import Sink, Wanted

RequestHook = Callable[[str, str, float], None]


def _ignore(namespace: str, code: str, seconds: float) -> None:
    """The hook of those who do not count."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long upstream may take, in seconds.

    `headers_s` bounds one exchange from its start to its headers, name lookup and connection included. `stall_s` is
    the longest a body may sit without a byte; `document_s` bounds a whole manifest; for `aside_s` an upstream that failed
    to connect is not `available`.
    """

    connect_s: float = 2.5
    headers_s: float = 5.0
    stall_s: float = 4.0
    document_s: float = 15.0
    aside_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest from upstream, verified; `anonymous` when no credential was sent for it."""

    manifest: Manifest
    anonymous: bool


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a tag or digest names upstream; `anonymous` when no credential was sent for it."""

    descriptor: Descriptor
    anonymous: bool


@dataclass(frozen=True, slots=True)
class Passage:
    """An opened answer to a Range request, passed on as it comes and verified by nobody here.

    `status` is 200 (the whole blob: upstream ignored the range), 206, or 416 (then the body is empty). `content_range`
    is its Content-Range as sent, `length` the body's length where upstream told it, `total` the blob's size where
    known.
    """

    status: int
    content_range: str | None
    length: int | None
    total: int | None
    body: AsyncIterator[bytes]


class Upstreams:
    """All configured upstream registries: an async context manager that owns the connections; also a `BlobSource`.

    Every method that asks upstream raises, as far as its own text says nothing else:
        NotFoundError: upstream answered 404, or the namespace is not configured (then nothing is dialled).
        DeniedError: 401 or 403 after the token flow, or a token realm that does not belong to the upstream.
        ThrottledError: 429, with its Retry-After.
        UnreachableError: 5xx, refused, reset, bad TLS, no headers or no bytes in time, a redirect not to be followed.
    """

    def __init__(
        self,
        configs: Iterable[UpstreamConfig] = BUILT_IN,
        *,
        credentials: Credentials = NO_CREDENTIALS,
        limits: Limits = Limits(),
        on_request: RequestHook = _ignore,
        tls: Mapping[str, ssl.SSLContext] | None = None,
        trust_env: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store only. `configs`: of two with the same namespace the later counts. `on_request(namespace, code, seconds)`
        is called for every HTTP exchange, `code` being its status or "error". `tls`: by namespace, instead of the
        system's authorities. `trust_env`: whether HTTPS_PROXY, HTTP_PROXY and NO_PROXY count. `clock`: monotonic seconds.
        """

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    def serves(self, namespace: str) -> bool:
        """Whether the namespace is configured."""
        raise NotImplementedError

    def config(self, namespace: str) -> UpstreamConfig:
        """The namespace's configuration.

        Raises:
            NotFoundError: when it has none.
        """
        raise NotImplementedError

    def available(self, namespace: str) -> bool:
        """False for `aside_s` after a failure to connect or to get headers; nothing is refused because of it."""
        raise NotImplementedError

    async def manifest(self, repository: Repository, selector: Tag | Digest) -> Fetched:
        """GET a manifest or index, verified against the digest asked for, or the one that upstream names.

        Raises:
            MismatchError: when the bytes are not what their digest, header or media type says, or no manifest we know.
        """
        raise NotImplementedError

    async def resolve(self, repository: Repository, selector: Tag | Digest) -> Resolved:
        """HEAD a manifest: its media type, digest and size; where upstream leaves one out, it is fetched.

        Raises:
            MismatchError: when upstream names another digest than the one asked for.
        """
        raise NotImplementedError

    async def prove_public(self, repository: Repository, digest: Digest) -> bool:
        """Whether anybody may read this manifest: an anonymous HEAD, credentials never sent.

        False on 401, 403 and 404, and always where the namespace is not declared public; raises when upstream gives no
        answer or 429, which prove nothing.
        """
        raise NotImplementedError

    async def blob_size(self, repository: Repository, digest: Digest) -> int:
        """The size of a blob in bytes, by HEAD.

        Raises:
            UnreachableError: also when upstream does not tell it.
        """
        raise NotImplementedError

    def passthrough(
        self, repository: Repository, digest: Digest, range_header: str
    ) -> AbstractAsyncContextManager[Passage]:
        """Open a blob with this Range header; errors are raised on entry, UnreachableError also while reading."""
        raise NotImplementedError

    async def fill(self, wanted: Wanted, sink: Sink) -> None:
        """See `BlobSource`. A body that breaks is gone on with once, by Range; one that stalls raises UnreachableError,
        and may be gone on with by another call. The blob's digest is checked by whoever owns the sink.

        Raises:
            MismatchError: when a length, range or encoding is not what was asked for.
        """
        raise NotImplementedError
