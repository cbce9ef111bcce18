"""One question to an upstream registry: with what authorization, and what its status means."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from yarl import URL

from facade.upstream.addresses import same_origin
from facade.upstream.challenge import retry_after_s
from facade.upstream.config import UpstreamConfig
from facade.upstream.credentials import Credentials, Login
from facade.upstream.tokens import Tokens
from facade.upstream.wire import Answer, Wire
from node.errors import DeniedError, MismatchError, NotFoundError, ThrottledError, UnreachableError
from node.reference import DOCKER_HUB, Repository

_TRY_LATER: Final = frozenset({408, 425})
_DENIED: Final = frozenset({401, 403, 451})


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a repository: `path` is what stands behind its name."""

    method: str
    repository: Repository
    path: str
    headers: Mapping[str, str]
    anonymous: bool = False


class Asker:
    """Asks with the authorization that is known to be needed, and once more when that was not enough."""

    def __init__(self, wire: Wire, tokens: Tokens, credentials: Credentials) -> None:
        self._wire, self._tokens, self._credentials = wire, tokens, credentials

    async def ask(self, config: UpstreamConfig, question: Question, *, also: frozenset[int]) -> tuple[Answer, bool]:
        """The answer, of a status in `also`, and whether it was given to an anonymous client.

        Raises:
            NotFoundError, DeniedError, ThrottledError, UnreachableError: as the status says.
            MismatchError: when the body is encoded, which was not asked for.
        """
        name = remote_name(question.repository)
        url = _url(config.endpoint, name, question.path)
        login = None if question.anonymous else self._login(config, name)
        sent = await self._tokens.known(config, name, login)
        answer = await self._wire.follow(config, question.method, url, question.headers, sent)
        if answer.status == 401 and same_origin(answer.url, config.endpoint):
            lines = answer.headers.getall("WWW-Authenticate", ())
            await answer.spend()
            sent = await self._tokens.answer(config, name, login, sent, lines)
            answer = await self._wire.follow(config, question.method, url, question.headers, sent)
        if answer.status not in also:
            await answer.spend()
            refuse(answer, question)
        encoding = answer.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            answer.close()
            raise MismatchError(f"{answer.url.host} sends its answer encoded as {encoding[:40]!r}, though asked not to")
        return answer, login is None or sent is None

    def _login(self, config: UpstreamConfig, name: str) -> Login | None:
        endpoint = config.endpoint
        host = endpoint.host_subcomponent or ""
        return self._credentials.find(host if endpoint.is_default_port() else f"{host}:{endpoint.port}", name)


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
    raise UnreachableError(what)


def _url(endpoint: URL, name: str, path: str) -> URL:
    return URL(f"{str(endpoint).rstrip('/')}/v2/{name}/{path}", encoded=True)
