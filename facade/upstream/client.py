"""The registries we fall back to, as a client (OCI distribution specification 1.1, "Pull")."""

import random
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlencode

from facade.upstream.asking import Asker, Heard, Question
from facade.upstream.blob import UpstreamBlob
from facade.upstream.breaker import Breakers, BreakerState
from facade.upstream.config import BUILT_IN, Access, Endpoint, UpstreamConfig
from facade.upstream.credentials import NO_CREDENTIALS, CredentialsSource
from facade.upstream.keyring import Keyring
from facade.upstream.proxies import Proxies
from facade.upstream.quota import Quota, Quotas
from facade.upstream.ranges import parse_content_range, span_of
from facade.upstream.resuming import Resuming
from facade.upstream.tokens import Tokens
from facade.upstream.wire import Answer, BrokenBodyError, Limits, RequestHook, Wire
from node.digest import Digest
from node.errors import DeniedError, InvalidError, MismatchError, NotFoundError
from node.manifest import MANIFEST_TYPES, MAX_MANIFEST_BYTES, Descriptor, Manifest, Role, parse_manifest
from node.reference import Repository, Tag
from node.source import Sink, Wanted

__all__ = ["Fetched", "Limits", "Listing", "Passage", "RequestHook", "Resolved", "Upstreams"]

_ACCEPT: Final = {"Accept": ", ".join(MANIFEST_TYPES)}
_OK: Final = frozenset({200})
_LIMITS: Final = Limits()
_FROM: Final = re.compile(r"bytes=(\d{1,19})-\d{0,19}")
_MOST_LISTED_BYTES: Final = 8 * 1024 * 1024
_NEXT: Final = re.compile(r"""<([^<>]{1,2048})>\s*;[^,<]{0,200}\brel="?next\b""", re.IGNORECASE)
_LONGEST_LINK: Final = 4096
_SHOWN: Final = re.compile(r"[ -~]{1,200}")


def _ignore(namespace: str, code: str, seconds: float) -> None:
    """The hook of those who do not count."""


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


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list as upstream gives it; `next_page` is what its `Link` leads to, `filters` what it applied."""

    data: bytes
    content_type: str
    next_page: str | None
    filters: str | None


class Upstreams:
    """All configured upstream registries: an async context manager that owns the connections; also a `BlobSource`.

    Every method that asks upstream raises, as far as its own text says nothing else:
        NotFoundError: upstream answered 404 or another 4xx, or the namespace is not configured (nothing is dialled).
        DeniedError: 401 or 403 after the token flow, or a token realm that does not belong to the upstream.
        ThrottledError: 429, with its Retry-After; before that time is over nothing is dialled.
        UnreachableError: 5xx, refused, reset, bad TLS, no headers or no bytes in time, a redirect not to be followed.
        MismatchError: an encoding that was not asked for.
    """

    def __init__(
        self,
        configs: Iterable[UpstreamConfig] = BUILT_IN,
        *,
        credentials: CredentialsSource = NO_CREDENTIALS,
        limits: Limits = _LIMITS,
        on_request: RequestHook = _ignore,
        tls: Mapping[str, ssl.SSLContext] | None = None,
        trust_env: bool = True,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Store only. `configs`: of two with the same namespace the later counts. `on_request(namespace, code,
        seconds)` is called for every HTTP exchange, `code` being its status or "error". `tls`: by namespace, instead of
        the system's authorities. `trust_env`: whether HTTPS_PROXY, HTTP_PROXY and NO_PROXY count. `clock`: monotonic.
        `draw`: a number from 0 up to 1, for pauses between tries.
        """
        self._configs = {config.namespace: config for config in configs}
        self._limits = limits
        self._breakers = Breakers(limits.aside_s, clock)
        proxies = Proxies.from_environment() if trust_env else Proxies({})
        self._wire = Wire(limits, self._breakers, on_request, tls or {}, proxies)
        self._quotas = Quotas(clock)
        tokens = Tokens(self._wire, self._quotas, limits.document_s, clock)
        self._asker = Asker(
            self._wire, tokens, Keyring(credentials, clock), self._breakers, self._quotas, limits.retry, draw
        )
        self._resuming = Resuming(limits, draw)
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._opened.enter_async_context(self._wire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    def serves(self, namespace: str) -> bool:
        """Whether the namespace is configured."""
        return namespace.lower() in self._configs

    def config(self, namespace: str) -> UpstreamConfig:
        """The namespace's configuration.

        Raises:
            NotFoundError: when it has none.
        """
        config = self._configs.get(namespace.lower())
        if config is None:
            raise NotFoundError(f"registry namespace {namespace!r} is not configured here")
        return config

    def available(self, namespace: str) -> bool:
        """Whether some endpoint's breaker is not open; nothing is refused because of it."""
        config = self._configs.get(namespace.lower())
        return config is None or any(map(self._breakers.worth_asking, config.endpoints))

    def breaker(self, endpoint: Endpoint) -> BreakerState:
        """How an endpoint's breaker stands."""
        return self._breakers.of(endpoint)

    @property
    def quotas(self) -> Mapping[tuple[Endpoint, bool], Quota]:
        """What each endpoint last said that it allows: to anonymous requests (True), and to those with a login."""
        return self._quotas.known

    async def manifest(self, repository: Repository, selector: Tag | Digest) -> Fetched:
        """GET a manifest or index, verified against the digest asked for, whatever the header says.

        The bytes of a tag that are not those that the header names give way to those; where upstream has none by that
        name, the header is wrong, and counts for nothing (so does Docker).

        Raises:
            MismatchError: when the bytes are not what their digest or media type says, or no manifest we know.
        """
        answer, data, anonymous = await self._document(repository, f"manifests/{selector}")
        named = _named_digest(answer)
        wanted = selector if isinstance(selector, Digest) else named
        if wanted is not None and Digest.of(data, wanted.algorithm) != wanted:
            if isinstance(selector, Digest):
                raise MismatchError(f"{repository}: upstream's manifest does not hash to {selector}")
            try:
                return await self.manifest(repository, wanted)
            except NotFoundError:
                wanted = None
        try:
            manifest = parse_manifest(data, answer.headers.get("Content-Type"), wanted)
        except InvalidError as error:
            raise MismatchError(f"{repository}: upstream's manifest {selector} is not usable: {error}") from None
        return Fetched(manifest, anonymous)

    async def _document(
        self, repository: Repository, path: str, *, anonymous: bool = False
    ) -> tuple[Answer, bytes, bool]:
        """GET a manifest's bytes; once more, where there is another endpoint from that, when they break off."""
        used: list[Endpoint] = []
        while True:
            answer, as_nobody, endpoint = await self._ask(
                "GET", repository, path, _ACCEPT, anonymous=anonymous, last=used
            )
            used.append(endpoint)
            try:
                return answer, await answer.document(MAX_MANIFEST_BYTES, self._limits.document_s), as_nobody
            except BrokenBodyError:
                if len(used) > 1:
                    raise
            finally:
                answer.close()

    async def resolve(self, repository: Repository, selector: Tag | Digest) -> Resolved:
        """HEAD a manifest: its media type, digest and size.

        Where upstream leaves one out, names another digest than the one asked for, or refuses, the manifest is fetched.

        Docker does the same, and Podman asks by GET at once: some registries know no HEAD.

        Raises:
            MismatchError: as `manifest`.
        """
        with suppress(DeniedError, NotFoundError):
            answer, anonymous, _ = await self._ask("HEAD", repository, f"manifests/{selector}", _ACCEPT)
            answer.close()
            named, size, media_type = _named_digest(answer), answer.length, _media_type(answer)
            if isinstance(selector, Digest):
                named = _agreed(selector, named)
            if named is not None and size is not None and media_type in MANIFEST_TYPES:
                return Resolved(Descriptor(media_type, named, size, Role.MANIFEST), anonymous)
        fetched = await self.manifest(repository, selector)
        found = fetched.manifest
        descriptor = Descriptor(found.media_type, found.digest, len(found.data), Role.MANIFEST)
        return Resolved(descriptor, fetched.anonymous)

    async def listing(self, repository: Repository, path: str, query: Mapping[str, str]) -> Listing:
        """GET a page of tags or referrers; where what credentials open is refused to clients, none are sent."""
        anonymous = self.config(repository.namespace).access is Access.REFUSE
        target = f"{path}?{urlencode(query)}" if query else path
        answer = (await self._ask("GET", repository, target, anonymous=anonymous)).answer
        try:
            data = await answer.document(_MOST_LISTED_BYTES, self._limits.document_s)
        finally:
            answer.close()
        found = _NEXT.search(answer.headers.get("Link", "")[:_LONGEST_LINK])
        content_type = _shown(answer.headers.get("Content-Type")) or "application/json"
        filters = _shown(answer.headers.get("OCI-Filters-Applied"))
        return Listing(data, content_type, found[1] if found else None, filters)

    async def prove_public(self, repository: Repository, digest: Digest, *, whole: bool = False) -> bool:
        """Whether anybody may read this manifest: an anonymous HEAD, credentials never sent.

        With `whole`, a GET, whose bytes have to be those of the digest: anybody can say that they have it; so too where
        the HEAD is answered with what may be anything, such as a page to log in at.
        False on 401, 403, 404 and other bytes, and always where the namespace is not declared public; raises when
        upstream gives no answer or 429, which prove nothing.
        """
        if not self.config(repository.namespace).public:
            return False
        path = f"manifests/{digest}"
        try:
            if not whole:
                answer, *_ = await self._ask("HEAD", repository, path, _ACCEPT, anonymous=True)
                answer.close()
                named = _named_digest(answer)
                if named is not None or _media_type(answer) in MANIFEST_TYPES:
                    return named in (None, digest)
            _, data, _ = await self._document(repository, path, anonymous=True)
        except (DeniedError, NotFoundError, MismatchError):
            return False
        return Digest.of(data, digest.algorithm) == digest

    async def blob_size(self, repository: Repository, digest: Digest, expected: int | None = None) -> int:
        """The size of a blob in bytes; where a HEAD says another than `expected`, or is refused, a GET counts.

        Raises:
            UnreachableError: also when upstream does not tell it.
        """
        return await self._blob(repository, digest).size(expected)

    @asynccontextmanager
    async def passthrough(self, repository: Repository, digest: Digest, range_header: str) -> AsyncIterator[Passage]:
        """Open a blob with this Range header, of one range; UnreachableError may also come while reading.

        Raises:
            MismatchError: when the part that comes is not the one asked for, as far as its start tells; while reading,
                when a body that broke goes on with something else.
        """
        blob = self._blob(repository, digest)
        answer = await blob.open_range(range_header)
        try:
            content_range = answer.headers.get("Content-Range") if answer.status != 200 else None
            span = parse_content_range(content_range)
            if answer.status == 206:
                asked = _FROM.fullmatch(range_header)
                span_of(answer, int(asked[1]) if asked else span.start if span else 0)
            total = answer.length if answer.status == 200 else span.total if span else None
            is_empty = answer.status == 416
            length = 0 if is_empty else answer.length
            body = _nothing() if is_empty else self._resuming.pieces(blob, answer, span)
            async with aclosing(body):
                yield Passage(answer.status, content_range, length, total, body)
        finally:
            answer.close()

    async def fill(self, wanted: Wanted, sink: Sink) -> None:
        """See `BlobSource`. A body that breaks or stalls is gone on with by Range, from another endpoint where there is
        one.

        The blob's digest is checked by whoever owns the sink. A body without a length is taken when the size is known
        from `wanted`, or by asking for it.

        Raises:
            MismatchError: when a length, range or encoding is not what was asked for.
        """
        await self._resuming.pour(wanted, sink, self._blob(wanted.repository, wanted.digest))

    def _blob(self, repository: Repository, digest: Digest) -> UpstreamBlob:
        return UpstreamBlob(self._asker, self.config(repository.namespace), repository, digest)

    async def _ask(
        self,
        method: str,
        repository: Repository,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        also: frozenset[int] = _OK,
        anonymous: bool = False,
        last: Collection[Endpoint] = (),
    ) -> Heard:
        question = Question(method, repository, path, headers or {}, anonymous)
        return await self._asker.ask(self.config(repository.namespace), question, also=also, last=last)


def _shown(header: str | None) -> str | None:
    """A header that may be passed on: printable and short, else none."""
    return header if header and _SHOWN.fullmatch(header) else None


def _media_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip()


def _named_digest(answer: Answer) -> Digest | None:
    """The Docker-Content-Digest, when there is one.

    Raises:
        MismatchError: when it is malformed.
    """
    text = answer.headers.get("Docker-Content-Digest")
    if text is None:
        return None
    try:
        return Digest.parse(text.strip())
    except InvalidError as error:
        raise MismatchError(f"{answer.url.host}: Docker-Content-Digest: {error}") from None


def _agreed(wanted: Digest, named: Digest | None) -> Digest | None:
    return None if named is not None and named.algorithm is wanted.algorithm and named != wanted else wanted


async def _nothing() -> AsyncGenerator[bytes, None]:
    nothing: bytes
    for nothing in ():
        yield nothing
