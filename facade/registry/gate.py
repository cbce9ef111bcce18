"""The gate before every route of the registry: who is asking, for what, and whether the rules allow it."""

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import hdrs, web

from facade.registry.access import (
    ALL_DO_ALL,
    ANONYMOUS,
    Action,
    Rule,
    allowed,
    reads_everything,
    reads_something,
    shown,
)
from facade.registry.client_logins import TOKEN_PATH, ClientLogins
from facade.registry.logins import Logins
from facade.registry.problems import Problem
from facade.registry.requests import Listener, MalformedError, UnknownError, repository_of
from facade.registry.routes import Route, action_of, route_of
from node.errors import DeniedError, ThrottledError
from node.reference import Repository

_WHO: Final[Any] = getattr(web, "RequestKey", lambda name, _: name)("layermesh.who", str)  # since aiohttp 3.14
_CHALLENGE: Final = {
    "WWW-Authenticate": 'Basic realm="layermesh"',
    "Docker-Distribution-Api-Version": "registry/2.0",
}


class Gate:
    """Lets a request through or raises what it is answered with. Without `logins` everybody may do everything."""

    def __init__(
        self, logins: Logins | None = None, rules: Sequence[Rule] = ALL_DO_ALL, clients: ClientLogins | None = None
    ) -> None:
        """`clients`: where clients' logins go on to upstreams; then there are no `logins`, for a client has but one."""
        self._logins = logins
        self._rules = rules
        self.clients = clients

    async def check(self, request: web.BaseRequest, listener: Listener) -> None:
        """Ask for a login where one is missing, and refuse what the rules do not allow; note whose the request is.

        Raises:
            Problem: 401 without a right login, 403 where the user may not, 400 or 404 for what is no route at all.
        """
        if self.clients is not None and request.path != TOKEN_PATH:
            self.clients.note(request, listener)
        if self._logins is None:
            return
        request[_WHO] = who = await _who(self._logins, request)
        try:
            forbidden = self._forbidden(request, listener, who)
        except MalformedError as error:
            raise Problem(400, error.code, str(error)) from None
        except UnknownError as error:
            raise Problem(404, "NAME_UNKNOWN", str(error)) from None
        if forbidden is None:
            return
        if who == ANONYMOUS:
            raise Problem(401, "UNAUTHORIZED", f"log in: without a login nobody may {forbidden}", _CHALLENGE)
        raise Problem(403, "DENIED", f"user {who!r} may not {forbidden}")

    def _asks_first(self, request: web.BaseRequest, listener: Listener) -> bool:
        """Whether `/v2/` asks for a login that was not sent.

        Docker, Podman and skopeo learn only there that logins are wanted, and send theirs nowhere otherwise. Without
        one, Podman and skopeo send an empty login then; dockerd sends its own to no mirror.
        """
        return listener is Listener.FACADE and hdrs.AUTHORIZATION not in request.headers

    def may(self, request: web.BaseRequest, action: Action, repository: Repository) -> bool:
        """Whether who sent this request, which was let through, may also do this."""
        return self._logins is None or allowed(self._rules, request[_WHO], action, repository)

    def _forbidden(self, request: web.BaseRequest, listener: Listener, who: str) -> str | None:
        """What of the request the rules do not allow; None when they allow all of it."""
        if not reads_something(self._rules, who):
            return "read anything here"
        if "%" in request.rel_url.raw_path:
            raise MalformedError("NAME_INVALID", "the path holds a %-escape; names, tags and digests need none")
        route, name = route_of(request.path)
        if route is Route.BASE:
            return "begin here" if self._asks_first(request, listener) else None
        if route is Route.CATALOG:
            return None if reads_everything(self._rules, who) else "list every repository"
        needs = [(action_of(request.method, route), name)]
        if route is Route.UPLOAD:
            needs += [(Action.PULL, source) for source in request.query.getall("from", [])]
        for action, named in needs:
            repository = repository_of(named, request.query, listener)
            if not allowed(self._rules, who, action, repository):
                return f"{action} {shown(repository)}"
        return None


async def _who(logins: Logins, request: web.BaseRequest) -> str:
    try:
        return await logins.who(request.headers.get(hdrs.AUTHORIZATION))
    except DeniedError as error:
        raise Problem(401, "UNAUTHORIZED", str(error), _CHALLENGE) from None
    except ThrottledError as error:
        raise Problem(429, "TOOMANYREQUESTS", str(error), {"Retry-After": "1"}) from None
