"""The line between a runtime and the hosts it pulls from: requests, their limits, and what was seen on the way."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from node.digest import Digest

Kind = Literal["manifests", "blobs"]
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Host:
    """Where images come from: a mirror, or the registry itself. `prefix` stands before repositories, `query` behind."""

    url: str
    is_mirror: bool = False
    prefix: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a runtime waits, in seconds.

    After `headers_s` without headers containerd asks elsewhere. `body_s` without a byte is where a test stops waiting
    for what would hang. Docker asks again for a layer after one, two, ... times `pause_s`, and for a config after
    `config_pause_s`, which doubles each time; `second_s` is how long a second of a Retry-After takes, zero for those
    that do not heed it.
    """

    headers_s: float = 30.0
    body_s: float = 8.0
    pause_s: float = 5.0
    config_pause_s: float = 0.25
    second_s: float = 1.0


class FailedError(Exception):
    """The pull has failed, as the runtime would say it; `stage` is what could not be had."""

    def __init__(self, stage: Kind, why: str) -> None:
        super().__init__(f"{stage}: {why}")
        self.stage = stage


class NoAnswerError(Exception):
    """A host gave no headers; `waited` when it was waited for as long as the runtime waits."""

    def __init__(self, why: str, *, waited: bool) -> None:
        super().__init__(why)
        self.waited = waited


@dataclass(slots=True)
class Observed:
    """What the mirrors did to this runtime. `passed_off`: selectors of whole answers with wrong bytes."""

    headers_s: float = 0.0
    gap_s: float = 0.0
    passed_off: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    manifests: int = 0
    """How many were given."""


@dataclass(slots=True)
class Reply:
    """An answer, read to its end; `cut` when its body broke off, `stuck` when it stood still."""

    status: int
    headers: Mapping[str, str]
    data: bytearray
    cut: bool = False
    stuck: bool = False

    @property
    def digest(self) -> str:
        """What the bytes hash to."""
        return str(Digest.of(bytes(self.data)))


class Line:
    """A session of one runtime. `truth`: selector -> the right bytes."""

    def __init__(self, patience: Patience, truth: Mapping[str, bytes], *, keep_alive: bool = True) -> None:
        self.patience = patience
        self.observed = Observed()
        self._truth = truth
        self._keep_alive = keep_alive
        self._tokens: dict[str, str] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, force_close=not self._keep_alive)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def ping(self, host: Host) -> bool:
        """GET /v2/: whether a registry is there."""
        try:
            async with self._send(host, "GET", f"{host.url}/v2/", CIMultiDict()) as response:
                return response.status in (200, 401)
        except NoAnswerError:
            return False

    async def ask(
        self,
        host: Host,
        kind: Kind,
        name: str,
        selector: str,
        *,
        method: str = "GET",
        start: int = 0,
        accept: Iterable[str] = (),
        tries: int = 1,
    ) -> Reply:
        """One question, with tokens where the host wants one; the bytes from `start` on.

        A host that asks for patience (429) is asked `tries` times, as soon as it says or at once.

        Raises:
            NoAnswerError: when no headers come.
        """
        url = f"{host.url}/v2/{host.prefix}{name}/{kind}/{selector}{host.query}"
        headers = CIMultiDict[str]()
        for line in accept:
            headers.add("Accept", line)
        if start:
            headers["Range"] = f"bytes={start}-"
        for left in reversed(range(tries)):
            reply = await self._once(host, method, url, headers, start)
            if reply.status == 401 and await self._let_in(host, reply.headers.get("WWW-Authenticate", "")):
                reply = await self._once(host, method, url, headers, start)
            if reply.status != 429 or not left:
                break
            await asyncio.sleep(self.patience.second_s * float(reply.headers.get("Retry-After", "0")))
        if host.is_mirror and method == "GET" and reply.status in (200, 206):
            self._judge(kind, reply, selector, start)
        return reply

    async def _once(self, host: Host, method: str, url: str, headers: CIMultiDict[str], start: int) -> Reply:
        async with self._send(host, method, url, headers) as response:
            reply = Reply(response.status, response.headers, bytearray())
            if method == "GET":
                await self._read(host, response, reply)
        if reply.status == 200 and start and method == "GET":
            del reply.data[:start]  # a host that knows no ranges sends all of it
        return reply

    def _judge(self, kind: Kind, reply: Reply, selector: str, start: int) -> None:
        if reply.cut or reply.stuck:
            return
        self.observed.manifests += kind == "manifests"
        if reply.data != self._truth.get(selector, b"")[start:]:
            self.observed.passed_off.append(selector)

    @asynccontextmanager
    async def _send(
        self, host: Host, method: str, url: str, headers: CIMultiDict[str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        sent = headers.copy()
        sent["Accept-Encoding"] = "identity" if "Range" in headers or method == "HEAD" else "gzip"
        if host.url in self._tokens:
            sent["Authorization"] = f"Bearer {self._tokens[host.url]}"
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self.patience.headers_s):
                response = await self._session.request(method, URL(url, encoded=True), headers=sent)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._waited(host, clock() - began)
            waited = isinstance(error, TimeoutError)
            if waited and host.is_mirror:
                self.observed.stuck.append(f"{method} {url}: no headers")
            raise NoAnswerError(f"{host.url}: {error or 'no headers in time'}", waited=waited) from None
        self._waited(host, clock() - began)
        async with response:
            yield response

    def _waited(self, host: Host, seconds: float) -> None:
        if host.is_mirror:
            self.observed.headers_s = max(self.observed.headers_s, seconds)

    async def _read(self, host: Host, response: aiohttp.ClientResponse, reply: Reply) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                async with asyncio.timeout(self.patience.body_s):
                    data = await response.content.readany()
            except TimeoutError:
                reply.stuck = True
                if host.is_mirror:
                    self.observed.stuck.append(f"{response.url}: no bytes")
                break
            except (aiohttp.ClientError, OSError):
                reply.cut = True
                break
            finally:
                if host.is_mirror:
                    self.observed.gap_s = max(self.observed.gap_s, clock() - began)
            if not data:
                break
            reply.data += data
        if reply.cut or reply.stuck:
            response.close()

    async def _let_in(self, host: Host, challenge: str) -> bool:
        """Get a token as the challenge says; whether there is one."""
        if not challenge.startswith("Bearer "):
            return False
        said = dict(_CHALLENGE.findall(challenge))
        assert self._session is not None
        query = {"service": said.get("service", ""), "scope": said.get("scope", "")}
        try:
            async with (
                asyncio.timeout(self.patience.headers_s),
                self._session.get(said.get("realm", ""), params=query) as response,
            ):
                if response.status != 200:
                    return False
                document = await response.json()
        except (TimeoutError, aiohttp.ClientError, OSError):
            return False
        self._tokens[host.url] = document.get("token") or document.get("access_token")
        return True
