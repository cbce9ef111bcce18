"""Where a Kubo daemon is reached, and what its RPC is shown."""

import base64
import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from yarl import URL

from node.errors import InvalidError
from node.hosts import is_host

_EXPECTED: Final = "http://HOST:PORT, https://HOST[:PORT] or unix:///PATH is expected"
_IN_UNIX: Final = URL("http://localhost")


class Client(StrEnum):
    """What speaks to a Kubo: this program itself, or a library."""

    KUBO = "kubo"
    IPFSHTTPCLIENT = "ipfshttpclient"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Kubo's RPC. `socket` is the path of its unix socket, None over TCP.

    `gateway` is where its files are read; None: as the daemon itself says. `client` is what speaks to it.
    """

    url: URL
    socket: str | None = None
    authorization: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    gateway: URL | None = None
    client: Client = Client.KUBO

    def __str__(self) -> str:
        return f"unix://{self.socket}" if self.socket is not None else str(self.url)

    @property
    def host(self) -> str:
        """The machine it runs on, as this one reaches it."""
        return "127.0.0.1" if self.socket is not None else self.url.host or ""


def parse_rpc(text: str) -> tuple[URL, str | None]:
    """The URL of an RPC and the path of its unix socket, None over TCP.

    Raises:
        InvalidError: saying what is expected; credentials do not belong there.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise InvalidError(_EXPECTED) from None
    if parts.username is not None:
        raise InvalidError(f"{_EXPECTED}, and the login in the file that ipfs_auth_file names")
    if parts.query or parts.fragment:
        raise InvalidError(_EXPECTED)
    if parts.scheme == "unix":
        if parts.netloc or not PurePosixPath(parts.path).is_absolute():
            raise InvalidError(_EXPECTED)
        return _IN_UNIX, parts.path
    fine = parts.scheme == "https" or (parts.scheme == "http" and port)
    host = parts.hostname or ""
    if not fine or not host or not is_host(host) or port == 0 or parts.path not in ("", "/"):
        raise InvalidError(_EXPECTED)
    return URL(text).origin(), None


def parse_authorization(text: str) -> str:
    """The header for a secret as Kubo's `API.Authorizations` has it: `bearer:TOKEN` or `basic:USER:PASSWORD`.

    Raises:
        InvalidError: saying what is expected, never the secret.
    """
    kind, _, secret = text.strip().partition(":")
    if not secret.isascii() or not secret.isprintable():
        raise InvalidError("one line of ASCII is expected: bearer:TOKEN or basic:USER:PASSWORD")
    if kind == "bearer" and secret and " " not in secret:
        return f"Bearer {secret}"
    if kind == "basic" and ":" in secret:
        return f"Basic {base64.b64encode(secret.encode()).decode()}"
    raise InvalidError("bearer:TOKEN or basic:USER:PASSWORD is expected, as in Kubo's API.Authorizations")
