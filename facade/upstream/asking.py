"""One question to an upstream registry: with what authorization, and what its status means."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

import structlog
from yarl import URL

from facade.upstream.addresses import same_origin
from facade.upstream.breaker import Breakers
from facade.upstream.challenge import retry_after_s
from facade.upstream.config import Access, Endpoint, UpstreamConfig
from facade.upstream.credentials import CLIENT, Login
from facade.upstream.keyring import Keyring
from facade.upstream.quota import Quotas, counts_all
from facade.upstream.retry import Backoff, asked_wait_s, may_pass
from facade.upstream.tokens import Tokens, unavailable
from facade.upstream.wire import Answer, Wire
from node.errors import DeniedError, LayermeshError, NotFoundError, ThrottledError, UnreachableError
from node.reference import DOCKER_HUB, Repository

log = structlog.get_logger(__name__)
_TRY_LATER: Final = frozenset({408, 425})
_BASE_S: Final = 1.0
"""So long a 404 is held up at most for what it may hide."""
_DENIED: Final = frozenset({401, 403, 451})


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a repository: `path` is what stands behind its name."""

    method: str
    repository: Repository
    path: str
    headers: Mapping[str, str]
    anonymous: bool = False

    @property
    def kind(self) -> str:
        """`manifests` or `blobs`: limits are counted apart."""
        return self.path.partition("/")[0]


class Heard(NamedTuple):
    """An answer, whether it was given to an anonymous client, and which endpoint was asked."""

    answer: Answer
    anonymous: bool
    endpoint: Endpoint


class Asker:
    """Asks one endpoint after another, and all of them again where that may help.

    With the authorization that is known to be needed, and once more when that was not enough.
    """

    def __init__(
        self,
        wire: Wire,
        tokens: Tokens,
        keyring: Keyring,
        breakers: Breakers,
        quotas: Quotas,
        backoff: Backoff,
        draw: Callable[[], float],
    ) -> None:
        self._open: set[Endpoint] = set()
        self._wire, self._tokens, self._keyring, self._breakers = wire, tokens, keyring, breakers
        self._quotas, self._backoff, self._draw = quotas, backoff, draw

    async def ask(
        self, config: UpstreamConfig, question: Question, *, also: frozenset[int], last: Collection[Endpoint] = ()
    ) -> Heard:
        """The first answer of a status in `also`; the endpoints in `last` are asked behind the others.

        What all of them failed with is what the one that the operator named last failed with.

        Raises:
            NotFoundError, DeniedError, ThrottledError, UnreachableError: as the status says.
            MismatchError: when the body is encoded, which was not asked for.
        """
        clock = asyncio.get_running_loop().time
        began, tried = clock(), 0
        failures: dict[Endpoint, LayermeshError] = {}
        left = sorted(self._breakers.in_order(config.endpoints), key=lambda endpoint: endpoint in last)
        while left:
            for endpoint in left:
                try:
                    return await self._with_login(config, endpoint, question, also, hurried=endpoint is not left[-1])
                except LayermeshError as failure:
                    failures[endpoint] = failure
            tried += 1
            left = [endpoint for endpoint in left if may_pass(failures[endpoint])]
            wait_s = asked_wait_s(failures[endpoint] for endpoint in left)
            pause_s = self._backoff.pause_s(tried, clock() - began, self._draw, wait_s)
            if pause_s is None:
                break
            left = [endpoint for endpoint in left if asked_wait_s([failures[endpoint]]) <= pause_s]
            if left:
                await asyncio.sleep(pause_s)
        raise failures[config.endpoints[-1]]

    def stalled(self, endpoint: Endpoint) -> None:
        """An answer of this endpoint began and sat still."""
        self._breakers.failed(endpoint, slow=True)

    async def _with_login(
        self, config: UpstreamConfig, endpoint: Endpoint, question: Question, also: frozenset[int], *, hurried: bool
    ) -> Heard:
        """With the login that there is; where that is refused, as somebody without: a wrong one hides nothing public.

        Docker sends its one login for the facade to all upstreams.
        """
        login = await self._login(config, endpoint, question)
        try:
            return await self._once(endpoint, question, login, also, hurried=hurried)
        except DeniedError as refusal:
            if login is None:
                raise
            with suppress(LayermeshError):
                heard = await self._once(endpoint, question, None, also, hurried=hurried)
                log.info("login refused, went on without", repository=str(question.repository), why=str(refusal))
                return heard
            raise

    async def _login(self, config: UpstreamConfig, endpoint: Endpoint, question: Question) -> Login | None:
        if question.anonymous:
            return None
        if config.access is Access.PASSTHROUGH:
            return CLIENT.get()
        return await self._keyring.login(endpoint.url, remote_name(question.repository))

    async def _ask_base(self, endpoint: Endpoint, *, hurried: bool) -> Answer | None:
        """What an endpoint answers where clients learn that it wants a login ("Determining Support"); None: nothing.

        One that wants none is not asked again.
        """
        with suppress(UnreachableError, TimeoutError):
            async with asyncio.timeout(_BASE_S):
                answer = await self._wire.follow(endpoint, "GET", _base(endpoint.url), {}, None, hurried=hurried)
                await answer.spend()
            if answer.status == 200:
                self._open.add(endpoint)
            return answer
        return None

    async def _once(
        self, endpoint: Endpoint, question: Question, login: Login | None, also: frozenset[int], *, hurried: bool
    ) -> Heard:
        name = remote_name(question.repository)
        url = _url(endpoint.url, name, question.path)
        everything = (endpoint, question.kind, login)
        self._quotas.check(everything, f"{endpoint.url.host}")
        self._quotas.check((everything, name), f"{endpoint.url.host}, for {name},")
        sent = await self._tokens.known(endpoint, name, login)
        answer = await self._wire.follow(endpoint, question.method, url, question.headers, sent, hurried=hurried)
        asks = answer if answer.status == 401 else None
        if answer.status == 404 and login is not None and sent is None and endpoint not in self._open:
            asks = await self._ask_base(endpoint, hurried=hurried)  # some hide what nobody may see
        if asks is not None and asks.status == 401 and same_origin(asks.url, endpoint.url):
            lines = asks.headers.getall("WWW-Authenticate", ())
            await answer.spend()
            sent = await self._tokens.answer(endpoint, name, login, sent, lines)
            answer = await self._wire.follow(endpoint, question.method, url, question.headers, sent, hurried=hurried)
        anonymous = login is None or sent is None
        self._quotas.note(endpoint, anonymous, answer.headers)
        if answer.status not in also:
            if answer.status == 429:
                held = everything if counts_all(endpoint, answer.headers) else (everything, name)
                self._quotas.hold(held, retry_after_s(answer.headers.get("Retry-After"), time.time()))
            await answer.spend()
            refuse(answer, question)
        answer.decode()
        return Heard(answer, anonymous, endpoint)


def remote_name(repository: Repository) -> str:
    """The repository's name upstream: Docker Hub keeps names of one word under `library/`."""
    is_short = repository.namespace == DOCKER_HUB and "/" not in repository.name
    return f"library/{repository.name}" if is_short else repository.name


def refuse(answer: Answer, question: Question) -> NoReturn:
    """Raise what a status other than the ones hoped for means."""
    what = f"{question.repository}/{question.path}: upstream answers HTTP {answer.status}"
    if answer.status == 429:
        raise ThrottledError(what, retry_after_s(answer.headers.get("Retry-After"), time.time()))
    if answer.status in _DENIED:
        raise DeniedError(what)
    if 400 <= answer.status < 500 and answer.status not in _TRY_LATER:
        raise NotFoundError(what)
    raise unavailable(what, answer)


def _url(endpoint: URL, name: str, path: str) -> URL:
    return URL(f"{_base(endpoint)}{name}/{path}", encoded=True)


def _base(endpoint: URL) -> URL:
    return URL(f"{str(endpoint).rstrip('/')}/v2/", encoded=True)
