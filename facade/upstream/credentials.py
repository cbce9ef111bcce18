"""Credentials from a Docker `config.json` (containers-auth.json(5), "FORMAT")."""

import base64
import binascii
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

import msgspec

from node.errors import InvalidError

_HUB_HOSTS: Final = frozenset({"index.docker.io", "registry-1.docker.io", "docker.io"})
_HUB_SERVER: Final = "https://index.docker.io/v1/"
_API_PATHS: Final = frozenset({"", "v1", "v2"})
_HELPER_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and password for one registry, or an identity token in the password's place; neither is shown."""

    user: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def header(self) -> str:
        """Its Authorization header (RFC 7617)."""
        text = f"{self.user}:{self.identity_token or self.password}"
        return "Basic " + base64.b64encode(text.encode()).decode()


@dataclass(frozen=True, slots=True)
class Helper:
    """A program that knows the login, `docker-credential-NAME`, and the server that it is asked about."""

    name: str
    server: str


class CredentialsSource(Protocol):
    """Where the credentials of this node are kept."""

    async def current(self) -> "Credentials":
        """As they are now."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a configuration file says: (host, path) -> login, host -> program that knows it, and one for all others."""

    logins: Mapping[tuple[str, str], Login] = field(default_factory=dict)
    helpers: Mapping[str, Helper] = field(default_factory=dict)
    store: str = ""

    def find(self, host: str, repository_name: str) -> Login | Helper | None:
        """The login for an endpoint's host (with its port, unless that is its scheme's own), or who knows it.

        A host's own program comes first, then the login with the longest path, then the program for all hosts.
        """
        host = _hub(host.lower())
        if helper := self.helpers.get(host):
            return helper
        path = repository_name
        while (login := self.logins.get((host, path))) is None and path:
            path = path.rpartition("/")[0]
        if login is None and self.store:
            return Helper(self.store, _HUB_SERVER if host == "docker.io" else host)
        return login

    async def current(self) -> Self:
        """These never change."""
        return self


NO_CREDENTIALS: Final = Credentials()
CLIENT: Final[ContextVar[Login | None]] = ContextVar("CLIENT", default=None)
"""The login that the client being answered has shown. Only upstreams whose access is `passthrough` are told it.

Tasks have it from the request that began them; without one they are anonymous.
"""


class _Auth(msgspec.Struct, rename="lower"):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _Document(msgspec.Struct, rename="camel"):
    auths: dict[str, _Auth] = {}
    cred_helpers: dict[str, str] = {}
    creds_store: str = ""


def parse_credentials(data: bytes) -> Credentials:
    """What the bytes of a `config.json` hold; schemes, API paths and Docker Hub's other names in keys are normalised.

    Raises:
        InvalidError: naming what is wrong, never a secret.
    """
    try:
        document = msgspec.json.decode(data or b"{}", type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(f"not a Docker configuration: {error}") from None
    logins: dict[tuple[str, str], Login] = {}
    for key, auth in document.auths.items():
        if (login := _login(key, auth)) is not None:
            logins.setdefault(_place(key), login)
    for name in (*document.cred_helpers.values(), *filter(None, [document.creds_store])):
        if not _HELPER_NAME.fullmatch(name):
            raise InvalidError(f"the credential helper {name[:80]!r} is no name of a program docker-credential-NAME")
    helpers = {}
    for key, name in document.cred_helpers.items():
        host, _ = _place(key)
        helpers[host] = Helper(name, _HUB_SERVER if host == "docker.io" else key)
    return Credentials(logins, helpers, document.creds_store)


def _login(key: str, auth: _Auth) -> Login | None:
    if not auth.auth:
        known = auth.username or auth.identitytoken
        return Login(auth.username, auth.password, auth.identitytoken) if known else None
    try:
        text = base64.b64decode(auth.auth, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise InvalidError(f"auths[{key[:120]!r}].auth is not the base64 of USER:PASSWORD")
    return Login(user, password.rstrip("\0"), auth.identitytoken)


def _place(key: str) -> tuple[str, str]:
    """Host and path of a key such as `https://index.docker.io/v1/`, `quay.io` or `quay.io/team`."""
    scheme, found, rest = key.strip().lower().rpartition("://")
    host, _, path = rest.partition("/")
    path = path.strip("/")
    host = host.removesuffix(":80" if found and scheme == "http" else ":443")
    return _hub(host), "" if path in _API_PATHS else path


def _hub(host: str) -> str:
    return "docker.io" if host in _HUB_HOSTS else host
