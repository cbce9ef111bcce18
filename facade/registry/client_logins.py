"""Clients' own logins, for upstreams that judge them (access `passthrough`): a token service, and who holds its tokens.

Docker, Podman and BuildKit send a login only to who asks at `/v2/`, and those without one can still pull only if they
are asked for a Bearer token (distribution's token authentication specification), which anybody gets here.
"""

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import ClientError, hdrs, web

from facade.registry.expecting import invite_body
from facade.registry.logins import EMPTY, parse_basic
from facade.registry.newest import remember
from facade.registry.problems import Problem
from facade.registry.requests import Listener
from facade.registry.routes import route_of
from facade.upstream.credentials import CLIENT, Login
from node.errors import DeniedError, InvalidError
from node.reference import OWN, Repository

TOKEN_PATH: Final = "/v2/_token"
TOKEN_S: Final = 300
"""After which clients ask again: until then BuildKit uses what it has, also when the person has logged in anew."""
_KEPT_S: Final = 7200
"""A pull that began with a token goes on with it."""
_MOST: Final = 4096
_LONGEST: Final = 8192
"""No login of a registry is longer: the longest are the keys of service accounts, and identity tokens."""
_MOST_FORM_BYTES: Final = 64 * 1024
_MOST_FIELDS: Final = 32
_FORM: Final = "application/x-www-form-urlencoded"
_GRANTS: Final = ("password", "refresh_token")


class ClientLogins:
    """Notes for each request whose it is; it refuses nobody, for upstream does that.

    A token stands for a login that is kept in memory, and for nothing after a restart. Nothing is checked when it is
    given: which upstream it is for is not known before an image is asked for.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._known: dict[str, tuple[Login | None, float]] = {}

    def note(self, request: web.BaseRequest, listener: Listener) -> None:
        """Let `CLIENT` be the login of this request's client.

        Raises:
            Problem: 401 where `/v2/` is asked for without a login, and for a token that is not known (any more).
        """
        CLIENT.set(None)  # of the request that was answered before on this connection
        header = request.headers.get(hdrs.AUTHORIZATION)
        if header is None:
            if listener is Listener.FACADE and request.path.rstrip("/") == "/v2":
                raise Problem(401, "UNAUTHORIZED", "log in, or ask for a token without a login", challenge(request))
            return
        scheme, _, value = header.partition(" ")
        if scheme.lower() != "bearer":
            CLIENT.set(_basic(request, header))
            return
        login, until = self._known.get(value.strip(), (None, 0.0))
        if self._clock() >= until:
            headers = challenge(request, error="invalid_token")
            raise Problem(401, "UNAUTHORIZED", "the token is not known: ask for another", headers)
        CLIENT.set(login)

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """A token for a login by HTTP Basic, or by an OAuth 2 form; without a login, one for anybody."""
        if request.method == "POST":
            login = _form(await _fields(request))
        elif request.method in ("GET", "HEAD"):
            header = request.headers.get(hdrs.AUTHORIZATION)
            login = None if header is None else _basic(request, header)
        else:
            raise Problem(405, "UNSUPPORTED", f"{request.method} is not answered here", {"Allow": "GET, HEAD, POST"})
        token = self._token(login)
        body = {"token": token, "access_token": token, "expires_in": TOKEN_S}
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    def _token(self, login: Login | None) -> str:
        """The same for the same login, so that clients which ask again and again take no more room."""
        parts = ("", "", "") if login is None else (login.user, login.password, login.identity_token)
        token = hmac.new(self._key, "\0".join(parts).encode(errors="surrogateescape"), "sha256").hexdigest()
        remember(self._known, token, (login, self._clock() + _KEPT_S), _MOST)
        return token


def challenge(request: web.BaseRequest, error: str = "") -> dict[str, str]:
    """The headers of a 401: where a token is to be had, and for what.

    A proxy in front that ends TLS says so (`X-Forwarded-Proto: https`); whoever else says it misleads only themselves.
    `error`: what was wrong with the one shown (RFC 6750, section 3.1); containerd shows it again where nothing is said.
    """
    scheme = "https" if request.headers.get("X-Forwarded-Proto") == "https" else request.scheme
    lines = [f'Bearer realm="{scheme}://{request.host}{TOKEN_PATH}"', 'service="layermesh"']
    with suppress(InvalidError):
        if name := route_of(request.path)[1]:
            lines.append(f'scope="repository:{Repository.parse(OWN, name).name}:pull"')
    if error:
        lines.append(f'error="{error}"')
    return {"WWW-Authenticate": ",".join(lines), "Docker-Distribution-Api-Version": "registry/2.0"}


def _basic(request: web.BaseRequest, header: str) -> Login | None:
    if header == EMPTY:
        return None
    try:
        return Login(*parse_basic(header, _LONGEST))
    except DeniedError as error:
        raise Problem(401, "UNAUTHORIZED", str(error), challenge(request)) from None


async def _fields(request: web.BaseRequest) -> dict[str, str]:
    """The fields of a form, which is short: what it holds is kept in memory."""
    data = bytearray()
    try:
        await invite_body(request)
        while piece := await request.content.readany():
            data += piece
            if len(data) > _MOST_FORM_BYTES:
                raise Problem(413, "UNSUPPORTED", f"a login by form has at most {_MOST_FORM_BYTES} bytes")
    except ClientError as error:
        raise ConnectionResetError(f"the client went away: {error}") from None
    try:
        if request.content_type != _FORM:
            raise ValueError(request.content_type)
        fields = parse_qsl(data.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Problem(400, "UNSUPPORTED", f"a login by form is {_FORM}, of at most {_MOST_FIELDS} fields") from None
    return dict(fields)


def _form(form: Mapping[str, str]) -> Login | None:
    """The login of an OAuth 2 request (RFC 6749, sections 4.3.2 and 6), as containerd and BuildKit send it first.

    An empty one is none: upstream would refuse it.
    """
    grant = form.get("grant_type")
    if grant not in _GRANTS:
        raise Problem(400, "UNSUPPORTED", f"grant_type is one of: {', '.join(_GRANTS)}")
    if sum(len(form.get(name, "")) for name in ("username", "password", "refresh_token")) > _LONGEST:
        raise Problem(400, "UNSUPPORTED", f"a login has at most {_LONGEST} characters")
    if grant == "refresh_token":
        token = form.get("refresh_token", "")
        return Login("", "", token) if token else None
    user = form.get("username", "")
    return Login(user, form.get("password", "")) if user else None
