"""What ipfshttpclient sends and reads HTTP with, held to bounds that it does not have itself."""

import contextlib
import math
import socket
import ssl
from collections.abc import Generator
from ipaddress import ip_address
from typing import Any, Final

import ipfshttpclient
import msgspec
import requests
from ipfshttpclient import requests_wrapper
from ipfshttpclient.http_requests import ClientSync

from node.ipfs.ipfshttpclient.calls import opened
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.rpc import LINE_BYTES, failure, no_rpc, refused

CONNECT_S: Final = 1.5
CHUNK_BYTES: Final = 64 * 1024
_ADDED_BYTES: Final = 4096


class _Told:
    """A connection that tells the call that it belongs to of its socket."""

    sock: socket.socket | None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # of the connection that this is mixed into
        if self.sock is not None:
            opened(self.sock)


class _Connection(_Told, requests_wrapper.HTTPConnection):  # type: ignore[misc]  # the library has no types
    pass


class _SecureConnection(_Told, requests_wrapper.HTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(requests_wrapper.HTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Connection


class _SecurePool(requests_wrapper.HTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _SecureConnection


class Transport(ClientSync):  # type: ignore[misc]
    """A session for each request, so that none meets a connection that a restart of the daemon broke.

    No proxy, no `.netrc` and no redirect decides where a request goes; errors are ours, whatever their length.
    """

    __slots__ = ("_endpoint", "_tls")

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._tls = endpoint.tls or (ssl.create_default_context() if endpoint.url.scheme == "https" else None)
        headers = {"User-Agent": "layermesh", "Accept-Encoding": "identity"}
        if endpoint.authorization is not None:
            headers["Authorization"] = endpoint.authorization
        super().__init__(multiaddr(endpoint), "api/v0", headers=headers, timeout=(CONNECT_S, math.inf))

    def _make_session(self) -> requests.Session:
        session: requests.Session = super()._make_session()
        session.trust_env = False
        session.max_redirects = 0
        for adapter in session.adapters.values():
            pools = adapter.poolmanager  # type: ignore[attr-defined]
            pools.connection_pool_kw.pop("strict", None)  # urllib3 warns of it with each request
            if self._tls is not None:
                pools.connection_pool_kw["ssl_context"] = self._tls
            pools.pool_classes_by_scheme = {
                scheme: _SecurePool if scheme.startswith("https") else _Pool for scheme in pools.pool_classes_by_scheme
            }
        return session

    def _request(self, *arguments: Any, **options: Any) -> tuple[list[Any], Generator[bytes, None, None]]:
        """Implements the library's own; what it decodes as JSON (`add`) is short, or refused."""
        closables, body = super()._request(*arguments, **(options | {"chunk_size": CHUNK_BYTES}))
        return closables, self._short(body) if options.get("data") is not None else body

    def _short(self, body: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
        left = _ADDED_BYTES
        with contextlib.closing(body):
            for piece in body:
                left -= len(piece)
                if left < 0:
                    raise no_rpc(self._endpoint, 200, "more than `add` answers")
                yield piece

    def _do_raise_for_status(self, response: requests.Response) -> None:
        content_type = response.headers.get("Content-Type", "")
        if response.status_code == 200 and not content_type.startswith("text/html"):
            return
        if response.status_code in (401, 403):
            raise refused(self._endpoint, response.status_code)
        if response.status_code not in (400, 500):
            raise no_rpc(self._endpoint, response.status_code, content_type)
        raise failure(_message(_start(response)))


class Client(ipfshttpclient.Client):  # type: ignore[misc]
    """The library's client, which asks for no version, over a `Transport`."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(multiaddr(endpoint), chunk_size=1024 * 1024)
        self._client = self.transport = Transport(endpoint)
        self._workarounds = self.transport.workarounds


def multiaddr(endpoint: Endpoint) -> str:
    """Where a daemon is, as the library has it."""
    if endpoint.socket is not None:
        return f"/unix{endpoint.socket}"
    host, port = endpoint.url.host or "", endpoint.url.port
    try:
        kind = f"ip{ip_address(host).version}"
    except ValueError:
        kind = "dns"
    return f"/{kind}/{host}/tcp/{port}/{endpoint.url.scheme}"


def _start(response: requests.Response) -> bytes:
    """The beginning of a body."""
    body = bytearray()
    for piece in response.iter_content(CHUNK_BYTES):
        body += piece
        if len(body) > LINE_BYTES:
            break
    return bytes(body[:LINE_BYTES])


def _message(body: bytes) -> str:
    """What says why a command failed."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = msgspec.json.decode(body)
        if isinstance(said, dict) and "Message" in said:
            return str(said["Message"])
    return body.decode(errors="replace")
