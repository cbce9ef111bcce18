"""How a fake registry asks for credentials: Basic, or Bearer tokens (distribution's token specification)."""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

ANONYMOUS = ""


@dataclass(slots=True)
class Basic:
    """Basic authentication for `private` repositories (None: for all). `hides`: who shows no login gets 404 there."""

    users: Mapping[str, str]
    private: frozenset[str] | None = None
    hides: bool = False


@dataclass(slots=True)
class Bearer:
    """A token for everything, granted to anybody; `private` repositories want one granted to a user.

    `identities`: identity token -> user, for POST; None: POST is answered 405, and they are passwords of GET.
    `realm` and `scope` replace what the challenge says: another token service's URL, a placeholder as GHCR's.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    private: frozenset[str] = frozenset()
    field_name: str = "token"
    expires_in: object = 300
    realm: str | None = None
    scope: str | None = None
    service: str = "registry.test"
    identities: Mapping[str, str] | None = None


Auth = Basic | Bearer


def challenge(auth: Auth | None, url: str, repository: str) -> str:
    """The WWW-Authenticate header of a 401."""
    if isinstance(auth, Bearer):
        scope = auth.scope if auth.scope is not None else f"repository:{repository}:pull"
        return f'Bearer realm="{auth.realm or url + "/token"}",service="{auth.service}",scope="{scope}"'
    return 'Basic realm="fake"'


def let_in(auth: Auth | None, request: web.BaseRequest, repository: str, tokens: Mapping[str, str]) -> bool:
    """Whether this request may read the repository. `tokens`: token -> "user scope ..."."""
    if auth is None:
        return True
    if isinstance(auth, Basic):
        is_open = auth.private is not None and repository not in auth.private
        return _user(auth.users, request) not in (None, ANONYMOUS) or (
            is_open and "Authorization" not in request.headers
        )
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    granted = tokens.get(token)
    if scheme != "Bearer" or granted is None:
        return False
    user, *scopes = granted.split(" ")
    if repository and f"repository:{repository}:pull" not in scopes:
        return False
    return user != ANONYMOUS or repository not in auth.private


async def grant(auth: Auth | None, request: web.BaseRequest, tokens: dict[str, str]) -> web.Response:
    """Answer of the token service: a new token for the scopes asked for."""
    if not isinstance(auth, Bearer):
        return web.Response(status=404)
    if request.method == "POST":
        if auth.identities is None:
            return web.Response(status=405)
        form = {name: str(value) for name, value in (await request.post()).items()}
        user = auth.identities.get(form.get("refresh_token", "")) if form.get("grant_type") == "refresh_token" else None
        service, scopes = form.get("service"), form.get("scope", "").split()
    else:
        user, service = _user(auth.users, request), request.query.get("service")
        scopes = request.query.getall("scope", [])
    if user is None or service != auth.service:
        return web.json_response({"details": "incorrect username or password"}, status=401)
    token = f"token-{user}-{secrets.token_hex(8)}"
    tokens[token] = " ".join([user, *scopes])
    answer: dict[str, object] = {auth.field_name: token}
    if auth.expires_in is not None:
        answer["expires_in"] = auth.expires_in
    return web.json_response(answer)


def _user(users: Mapping[str, str], request: web.BaseRequest) -> str | None:
    """ANONYMOUS without Authorization, None when it is wrong."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if not scheme:
        return ANONYMOUS
    if scheme != "Basic":
        return None
    user, _, password = base64.b64decode(encoded).decode().partition(":")
    return user if users.get(user) == password else None
