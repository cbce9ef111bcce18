"""HTTP exchanges with upstream registries; the only module here that knows aiohttp, whose errors end in it."""

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from facade.upstream.addresses import is_local_host, same_origin
from facade.upstream.breaker import Breakers
from facade.upstream.config import Endpoint
from facade.upstream.gunzip import Gunzip
from facade.upstream.proxies import Proxies
from facade.upstream.redirects import MAX_REDIRECTS, REDIRECTS, next_hop
from facade.upstream.resolving import Recording, ScreenedError, Screening
from facade.upstream.retry import Backoff, FutileError
from node.errors import MismatchError, UnreachableError

RequestHook = Callable[[str, str, float], None]
READ_BYTES: Final = 256 * 1024
_DRAIN_BYTES: Final = 64 * 1024
_DRAIN_S: Final = 0.5
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_MAX_FIELD_BYTES: Final = 32 * 1024
_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "layermesh"}


class BrokenBodyError(UnreachableError):
    """A body ended before its end: it may be gone on with by Range."""


class StalledBodyError(UnreachableError):
    """A body sat without a byte for too long: another connection may do better."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long upstream may take, in seconds.

    `headers_s` bounds one exchange from its start to its headers, name lookup and connection included; `turn_s` does
    while another endpoint is left to ask. `stall_s` is the longest a body may sit without a byte, and while another
    endpoint is left it must bring `least_bytes` in that time; `document_s` bounds a whole manifest. For `aside_s` the
    breaker of an endpoint that failed is open. A body that broke has `resume_s` to bring its next byte over another
    connection, one that stalled `hurry_s`. `retry` is for questions without an answer.
    """

    connect_s: float = 1.5
    headers_s: float = 5.0
    turn_s: float = 2.5
    stall_s: float = 3.0
    least_bytes: int = 64 * 1024
    resume_s: float = 3.0
    hurry_s: float = 1.0
    document_s: float = 15.0
    aside_s: float = 5.0
    retry: Backoff = field(default_factory=Backoff)


class Answer:
    """The status and headers of an answer, and its body, which is read once. Whoever got it closes it."""

    def __init__(self, response: aiohttp.ClientResponse, stall_s: float) -> None:
        self._response = response
        self._stall_s = stall_s
        self._gunzip: Gunzip | None = None

    def decode(self) -> None:
        """Give what a body stands for that comes encoded with gzip, as clients in Go would: a direct pull succeeds.

        Raises:
            MismatchError: when it is encoded otherwise, or a part of what is encoded; the answer is closed then.
        """
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        if encoding in _GZIP and self.status == 200:
            self._gunzip = Gunzip()  # how long that is nobody knows before
        elif encoding not in ("", "identity"):
            self.close()
            raise MismatchError(f"{self.url.host} sends its answer encoded as {encoding[:40]!r}, though asked not to")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers as sent."""
        return self._response.headers

    @property
    def url(self) -> URL:
        """Where it came from, after redirects."""
        return self._response.url

    @property
    def length(self) -> int | None:
        """Its Content-Length; None where that is of something else, an encoded body."""
        if self._gunzip is not None:
            return None
        text = self.headers.get("Content-Length", "")
        return int(text[:19]) if text.isascii() and text.isdigit() else None

    async def piece(self) -> bytes:
        """The next bytes as soon as there are any; none at the end.

        Raises:
            BrokenBodyError: when the connection ends before the body does, or it is no gzip where it says so.
            StalledBodyError: when nothing comes for `stall_s`.
        """
        if self._gunzip is None:
            return await self._piece()
        try:
            async with asyncio.timeout(self._stall_s):
                return await self._decoded(self._gunzip)
        except TimeoutError:
            raise StalledBodyError(f"{self.url.host} sent nothing that counts for {self._stall_s:g} s") from None
        except ValueError:
            raise BrokenBodyError(f"{self.url.host} sends what is no gzip, though it says so") from None

    async def _decoded(self, gunzip: Gunzip) -> bytes:
        while not (data := gunzip.take()):
            encoded = await self._piece()
            if not encoded and gunzip.is_whole:
                return b""
            if not encoded:
                raise BrokenBodyError(f"{self.url.host} ended an encoded body early")
            gunzip.give(encoded)
        return data

    async def _piece(self) -> bytes:
        content = self._response.content
        try:
            if data := content.read_nowait():
                return data
            async with asyncio.timeout(self._stall_s):
                return await content.readany()
        except TimeoutError:
            raise StalledBodyError(f"{self.url.host} sent nothing for {self._stall_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenBodyError(f"{self.url.host} broke off: {_words(error)}") from None

    async def document(self, limit_bytes: int, within_s: float) -> bytes:
        """The whole body, when it is at most so long.

        Raises:
            UnreachableError: when it does not come in time, or breaks.
            MismatchError: when it is longer.
        """
        pieces, total = [], 0
        try:
            async with asyncio.timeout(within_s):
                while data := await self.piece():
                    pieces.append(data)
                    total += len(data)
                    if total > limit_bytes:
                        raise MismatchError(f"{self.url.host} sent a document of more than {limit_bytes} bytes")
        except TimeoutError:
            raise UnreachableError(f"{self.url.host} sent no whole document in {within_s:g} s") from None
        return b"".join(pieces)

    async def spend(self) -> None:
        """Read a body that nobody wants, if it is short, so that its connection can be used again; then close."""
        try:
            if self.length is None or self.length <= _DRAIN_BYTES:
                await self.document(_DRAIN_BYTES, _DRAIN_S)
        except (UnreachableError, MismatchError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back when the body was read to its end, else cut it."""
        self._response.release()


class Wire:
    """Keeps connections, follows redirects, counts: an async context manager."""

    def __init__(
        self,
        limits: Limits,
        breakers: Breakers,
        on_request: RequestHook,
        tls: Mapping[str, ssl.SSLContext],
        proxies: Proxies,
    ) -> None:
        self._limits, self._breakers, self._on_request = limits, breakers, on_request
        self._tls, self._proxies = tls, proxies
        self._recording = Recording()
        self._sessions: tuple[aiohttp.ClientSession, ...] = ()

    async def __aenter__(self) -> Self:
        self._sessions = (_session(self._recording, self._limits), _session(Screening(), self._limits))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions:
            await session.close()

    async def follow(
        self,
        endpoint: Endpoint,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        authorization: str | None,
        *,
        hurried: bool = False,
    ) -> Answer:
        """The answer at the end of the redirects; `authorization` goes to the endpoint's own origin only.

        Raises:
            UnreachableError: when there is none in time.
            FutileError: when a redirect must not be followed, or there are too many.
        """
        for _ in range(MAX_REDIRECTS + 1):
            own = same_origin(url, endpoint.url)
            sent = {**headers, "Authorization": authorization} if own and authorization else headers
            answer = await self.exchange(endpoint, method, url, sent, hurried=hurried)
            if answer.status not in REDIRECTS:
                return answer
            await answer.spend()
            local = self._endpoint_is_local(endpoint)
            url = next_hop(url, answer.headers.get("Location"), endpoint.url, endpoint_is_local=local)
        raise FutileError(f"{endpoint.url.host} redirects more than {MAX_REDIRECTS} times")

    async def exchange(
        self,
        endpoint: Endpoint,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        *,
        form: Mapping[str, str] | None = None,
        hurried: bool = False,
    ) -> Answer:
        """One request and the headers of its answer, `hurried` while another endpoint could be asked in its place.

        Raises:
            UnreachableError: when there is none in time.
            FutileError: when it cannot be asked like this, such as over a connection that proves nothing.
        """
        own = same_origin(url, endpoint.url)
        limit_s = self._limits.turn_s if hurried else self._limits.headers_s
        started = time.perf_counter()
        if own:
            self._breakers.asked(endpoint)
        try:
            response = await self._send(endpoint, method, url, headers, form, limit_s)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            self._on_request(endpoint.namespace, "error", time.perf_counter() - started)
            if own:
                self._breakers.failed(endpoint, slow=isinstance(error, TimeoutError))
            kind = FutileError if _is_futile(error) else UnreachableError
            raise kind(f"{url.host} gives no answer: {_words(error)}") from None
        except asyncio.CancelledError:
            if own:
                self._given_up(endpoint, time.perf_counter() - started)
            raise
        self._on_request(endpoint.namespace, str(response.status), time.perf_counter() - started)
        if own:
            self._breakers.answered(endpoint)
        return Answer(response, self._limits.stall_s)

    def _given_up(self, endpoint: Endpoint, elapsed_s: float) -> None:
        """Whoever asked waits no more: after longer than a connection may take, that says something of the endpoint."""
        if elapsed_s >= self._limits.connect_s:
            self._breakers.failed(endpoint, slow=True)
        else:
            self._breakers.left(endpoint)

    async def _send(
        self,
        endpoint: Endpoint,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None,
        limit_s: float,
    ) -> aiohttp.ClientResponse:
        proxy = self._proxies.choose(url)
        stranger = not same_origin(url, endpoint.url) and not self._endpoint_is_local(endpoint)
        if stranger and is_local_host(url.host or ""):
            raise ValueError("a private address, while the registry is public")
        session = self._sessions[1 if stranger and proxy is None else 0]
        async with asyncio.timeout(limit_s):
            return await session.request(
                method,
                url,
                headers=headers,
                data=form,
                allow_redirects=False,
                ssl=self._tls.get(endpoint.namespace, True),
                proxy=proxy,
            )

    def _endpoint_is_local(self, endpoint: Endpoint) -> bool:
        host = endpoint.url.host or ""
        return is_local_host(host) or self._recording.is_local(host)


def _session(resolver: aiohttp.abc.AbstractResolver, limits: Limits) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=30, keepalive_timeout=50, resolver=resolver),
        connector_owner=True,
        headers=_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s),
        auto_decompress=False,
        requote_redirect_url=False,
        read_bufsize=READ_BYTES,
        max_field_size=_MAX_FIELD_BYTES,
        max_line_size=_MAX_FIELD_BYTES,
    )


def _is_futile(error: BaseException) -> bool:
    screened = isinstance(getattr(error, "os_error", None), ScreenedError)
    return screened or isinstance(error, ValueError | aiohttp.ClientConnectorCertificateError)


def _words(error: BaseException) -> str:
    """One line that says what happened, also where the error itself says nothing."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no headers in time"
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        named = isinstance(error, aiohttp.ClientConnectorDNSError) or not error.errno
        return f"port {error.port}: {error.strerror if named else os.strerror(error.errno or 0).lower()}"
    return " ".join(str(error).split())[:300] or type(error).__name__
