"""Authorization for upstream: Basic, and Bearer tokens (distribution's token authentication specification)."""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec
from yarl import URL

from facade.upstream.challenge import Challenge, parse_challenges, retry_after_s
from facade.upstream.config import Endpoint
from facade.upstream.credentials import Login
from facade.upstream.quota import Quotas
from facade.upstream.redirects import check_realm
from facade.upstream.retry import BusyError
from facade.upstream.wire import Answer, Wire
from node.errors import DeniedError, LayermeshError, MismatchError, ThrottledError, UnreachableError

_MAX_ANSWER_BYTES: Final = 1024 * 1024
_MAX_TOKENS: Final = 4096
_DEFAULT_LIFE_S: Final = 60.0
_LONGEST_LIFE_S: Final = 12 * 3600.0
_FRESH_PART: Final = 0.8
_NO_REFRESH: Final = frozenset({401, 404, 405})
_HEADER_SAFE: Final = re.compile(r"[\x21-\x7e]{1,16384}")


@dataclass(frozen=True, slots=True)
class _Service:
    """A token service, as a challenge named it; `extra` are scopes beside the repository's."""

    realm: URL
    service: str | None
    extra: tuple[str, ...]

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """The parameter `service`, where the challenge had one."""
        return (("service", self.service),) if self.service else ()


@dataclass(slots=True)
class _Entry:
    """A token, and the one request for it that may be under way."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: str | None = None
    fresh_until: float = 0.0
    tries: int = 0
    failure: LayermeshError | None = None


_Key = tuple[_Service, str, Login | None]


class _TokenAnswer(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: object = None


class Tokens:
    """Knows what each upstream asked for, and answers it; one request for the same token at a time."""

    def __init__(self, wire: Wire, quotas: Quotas, document_s: float, clock: Callable[[], float]) -> None:
        self._wire, self._quotas, self._document_s, self._clock = wire, quotas, document_s, clock
        self._known: dict[tuple[Endpoint, bool], _Service | None] = {}
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()

    async def known(self, endpoint: Endpoint, name: str, login: Login | None) -> str | None:
        """The Authorization header for a repository as far as the upstream's earlier answers tell; None: send none.

        Raises:
            LayermeshError: as the token service's answer says.
        """
        place = (endpoint, login is None)
        if place not in self._known:
            return None
        service = self._known[place]
        if service is None:
            return login.header if login else None
        return await self._bearer(endpoint, service, _scope(name), login)

    async def answer(
        self, endpoint: Endpoint, name: str, login: Login | None, refused: str | None, lines: Iterable[str]
    ) -> str:
        """The Authorization header to try after a 401 with these WWW-Authenticate lines; `refused` is not tried again.

        Raises:
            DeniedError: when there is none, or the token realm does not belong to the upstream.
            LayermeshError: as the token service's answer says.
        """
        challenges = {challenge.scheme: challenge for challenge in reversed(parse_challenges(lines))}
        if bearer := challenges.get("bearer"):
            service = _service(endpoint, bearer)
            self._forget((service, _scope(name), login), refused)
            header = await self._bearer(endpoint, service, _scope(name), login)
            self._known[endpoint, login is None] = service
            return header
        if "basic" not in challenges:
            raise DeniedError(
                f"{endpoint.namespace} wants an authentication that is not supported, only Bearer and Basic are"
            )
        if login is None:
            raise DeniedError(f"{endpoint.namespace}/{name} needs a login, and none is used for it")
        if refused == login.header:
            raise DeniedError(f"{endpoint.namespace} refuses the login of user {login.user!r}")
        self._known[endpoint, False] = None
        return login.header

    def _forget(self, key: _Key, refused: str | None) -> None:
        entry = self._entries.get(key)
        if entry is not None and refused == f"Bearer {entry.token}":
            entry.token = None

    async def _bearer(self, endpoint: Endpoint, service: _Service, scope: str, login: Login | None) -> str:
        key = (service, scope, login)
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        if len(self._entries) > _MAX_TOKENS:
            self._entries.popitem(last=False)
        tries = entry.tries
        async with entry.lock:
            if entry.token is not None and self._clock() < entry.fresh_until:
                return f"Bearer {entry.token}"
            if entry.tries != tries and entry.failure is not None:
                raise entry.failure
            return f"Bearer {await self._renew(endpoint, entry, key)}"

    async def _renew(self, endpoint: Endpoint, entry: _Entry, key: _Key) -> str:
        service, scope, login = key
        self._quotas.check((service, login), f"{endpoint.namespace}'s token service")
        started = self._clock()
        entry.token = entry.failure = None
        try:
            token, life_s = await self._fetch(endpoint, service, scope, login)
        except LayermeshError as failure:
            if isinstance(failure, ThrottledError):
                self._quotas.hold((service, login), failure.retry_after_s)
            entry.failure = failure
            raise
        finally:
            entry.tries += 1
        entry.token, entry.fresh_until = token, started + life_s * _FRESH_PART
        return token

    async def _fetch(self, endpoint: Endpoint, service: _Service, scope: str, login: Login | None) -> tuple[str, float]:
        answer = await self._refreshed(endpoint, service, scope, login) if login and login.identity_token else None
        if answer is None:
            headers = {"Authorization": login.header} if login else {}
            scopes = (("scope", each) for each in (scope, *service.extra))
            url = service.realm.extend_query([*service.named, *scopes])
            answer = await self._wire.exchange(endpoint, "GET", url, headers)
        try:
            _refuse(endpoint, answer, login)
            answer.decode()
            data = await answer.document(_MAX_ANSWER_BYTES, self._document_s)
        except MismatchError as error:
            raise UnreachableError(str(error)) from None
        finally:
            answer.close()
        return _read(endpoint, data)

    async def _refreshed(self, endpoint: Endpoint, service: _Service, scope: str, login: Login) -> Answer | None:
        """The answer to an identity token (OAuth 2 refresh, RFC 6749, section 6); None where that is not understood."""
        form = {
            "grant_type": "refresh_token",
            "client_id": "layermesh",
            "scope": " ".join((scope, *service.extra)),
            "refresh_token": login.identity_token,
            **dict(service.named),
        }
        answer = await self._wire.exchange(endpoint, "POST", service.realm, {}, form=form)
        if answer.status not in _NO_REFRESH:
            return answer
        await answer.spend()
        return None


def unavailable(what: str, answer: Answer) -> UnreachableError:
    """What a status says that nothing can be done about but to ask again, no sooner than a 503 says."""
    wait_s = retry_after_s(answer.headers.get("Retry-After"), time.time()) if answer.status == 503 else None
    return UnreachableError(what) if wait_s is None else BusyError(what, wait_s)


def _scope(name: str) -> str:
    return f"repository:{name}:pull"


def _service(endpoint: Endpoint, challenge: Challenge) -> _Service:
    """The realm is vetted here; of the scopes only those of no repository are kept (GHCR's names a placeholder)."""
    realm = check_realm(endpoint.url, challenge.parameters.get("realm", ""))
    scopes = challenge.parameters.get("scope", "").split()
    extra = tuple(scope for scope in scopes if not scope.startswith("repository:"))
    return _Service(realm, challenge.parameters.get("service"), extra)


def _refuse(endpoint: Endpoint, answer: Answer, login: Login | None) -> None:
    if answer.status == 200:
        return
    whom = f"the login of user {login.user!r}" if login else "an anonymous token"
    if answer.status == 429:
        wait_s = retry_after_s(answer.headers.get("Retry-After"), time.time())
        raise ThrottledError(f"{endpoint.namespace}'s token service asks for patience", wait_s)
    if 400 <= answer.status < 500:
        raise DeniedError(f"{endpoint.namespace}'s token service refuses {whom} (HTTP {answer.status})")
    raise unavailable(f"{endpoint.namespace}'s token service answers HTTP {answer.status}", answer)


def _read(endpoint: Endpoint, data: bytes) -> tuple[str, float]:
    """The token and its life in seconds; `issued_at` is not used, for clocks differ."""
    try:
        answer = msgspec.json.decode(data, type=_TokenAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnreachableError(f"{endpoint.namespace}'s token service answers with no token document") from None
    token = answer.access_token or answer.token or ""
    if not _HEADER_SAFE.fullmatch(token):
        raise UnreachableError(f"{endpoint.namespace}'s token service answers without a usable token")
    life = answer.expires_in
    if not isinstance(life, int | float) or isinstance(life, bool) or not 0 < life < float("inf"):
        life = _DEFAULT_LIFE_S
    return token, min(float(life), _LONGEST_LIFE_S)
