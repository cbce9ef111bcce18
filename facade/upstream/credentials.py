"""Credentials from a Docker `config.json` (containers-auth.json(5), "FORMAT")."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog

from node.errors import InvalidError

log = structlog.get_logger(__name__)
_HUB_HOSTS: Final = frozenset({"index.docker.io", "registry-1.docker.io", "docker.io"})
_API_PATHS: Final = frozenset({"", "v1", "v2"})


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and password for one registry; the password is never shown."""

    user: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """Its Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Credentials:
    """The logins of a configuration file: (host, path) -> login, and host -> why its entry cannot be used."""

    logins: Mapping[tuple[str, str], Login] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)

    def find(self, host: str, repository_name: str) -> Login | None:
        """The login for an endpoint's host (with its port, unless that is its scheme's own), the longest path first.

        Warns once for a host whose credentials are kept in a way that is not supported.
        """
        host = _hub(host.lower())
        path = repository_name
        while True:
            login = self.logins.get((host, path))
            if login is not None or not path:
                break
            path = path.rpartition("/")[0]
        if login is None and host in self.unusable and host not in self._warned:
            self._warned.add(host)
            log.warning("credentials not usable, going on without", registry=host, reason=self.unusable[host])
        return login


NO_CREDENTIALS: Final = Credentials()


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
    unusable = {_place(key)[0]: f"credHelpers ({name})" for key, name in document.cred_helpers.items()}
    for key, auth in document.auths.items():
        login = _login(key, auth)
        if login is not None:
            logins.setdefault(_place(key), login)
        elif auth.identitytoken:
            unusable[_place(key)[0]] = "identitytoken; log in with a password or access token instead"
        elif document.creds_store:
            unusable[_place(key)[0]] = f"credsStore ({document.creds_store})"
    return Credentials(logins, unusable)


def _login(key: str, auth: _Auth) -> Login | None:
    if auth.identitytoken:
        return None
    if not auth.auth:
        return Login(auth.username, auth.password) if auth.username else None
    try:
        text = base64.b64decode(auth.auth, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    user, colon, password = text.partition(":")
    if not colon or not user:
        raise InvalidError(f"auths[{key[:120]!r}].auth is not the base64 of USER:PASSWORD")
    return Login(user, password.rstrip("\0"))


def _place(key: str) -> tuple[str, str]:
    """Host and path of a key such as `https://index.docker.io/v1/`, `quay.io` or `quay.io/team`."""
    scheme, found, rest = key.strip().lower().rpartition("://")
    host, _, path = rest.partition("/")
    path = path.strip("/")
    host = host.removesuffix(":80" if found and scheme == "http" else ":443")
    return _hub(host), "" if path in _API_PATHS else path


def _hub(host: str) -> str:
    return "docker.io" if host in _HUB_HOSTS else host
