"""The client side of the mesh protocol, and the only place here that knows aiohttp's client errors."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from cluster import messages
from cluster.auth import ANSWER_HEADER, Call, Keys, Proven, sign_request, verify_answer
from cluster.messages import Hello, LogPage
from cluster.tls import Pin
from node.errors import DeniedError, InvalidError, UnreachableError

HELLO: Final = "/mesh/v1/hello"
LOG: Final = "/mesh/v1/log"
MAX_REFUSAL: Final = 512


class RefusedError(UnreachableError):
    """The peer's machine says that nobody listens there."""


class CertificateError(UnreachableError):
    """Another certificate is shown there than the peer has; nothing was asked."""


class UnlikeError(UnreachableError):
    """Somebody is there, but does not answer this way: he may speak TLS where we do not, or the other way round."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: this node's id, and the cluster's keys when there is a secret; `tls`: it speaks TLS only."""

    node_id: str
    keys: Keys | None
    clock: Callable[[], float]
    tls: bool = False

    def proof(
        self, receiver: str, method: str, target: str, body: bytes = b"", *, pin: Pin | None = None
    ) -> tuple[dict[str, str], Proven | None]:
        """Headers that prove membership to `receiver`, and what its answer must be bound to.

        `pin` is the one of the connection that they go over. Nothing without keys, nor where TLS is spoken over a
        connection whose other end is not known.
        """
        channel = pin.fingerprint if pin else ""
        if self.keys is None or (self.tls and not channel):
            return {}, None
        nonce = secrets.token_hex(16)
        call = Call(self.node_id, receiver, method, target, body, channel)
        return {"Authorization": sign_request(self.keys, call, self.clock(), nonce)}, Proven(self.node_id, nonce)


class MeshClient:
    """Asks peers. `to` names the member a request is proved to; None asks as a stranger.

    Under TLS, `pin` says which certificate has to be at the other end.
    """

    def __init__(self, session: aiohttp.ClientSession, caller: Caller) -> None:
        self._session = session
        self._caller = caller

    async def who(self, url: URL, *, to: str | None, timeout_s: float, pin: Pin | None = None) -> Hello:
        """Ask a node who it is.

        Raises:
            RefusedError: when nobody listens there.
            CertificateError: when it shows another certificate.
            UnlikeError: when it does not speak as we do.
            UnreachableError: when no answer came in time.
            DeniedError: when it does not take our proof, or shows none itself.
            InvalidError: when the answer is malformed.
        """
        body = await self._ask("GET", url, HELLO, to, b"", messages.MAX_HELLO_BYTES, timeout_s, pin)
        return messages.decode_hello(body)

    async def greet(self, url: URL, hello: Hello, *, to: str | None, timeout_s: float, pin: Pin | None = None) -> Hello:
        """Tell a node who we are, and hear who it is. Raises as `who` does."""
        sent = messages.encode(hello)
        body = await self._ask("POST", url, HELLO, to, sent, messages.MAX_HELLO_BYTES, timeout_s, pin)
        return messages.decode_hello(body)

    async def log(
        self, url: URL, log_id: str, since: int, *, to: str | None, wait_s: float, pin: Pin | None = None
    ) -> LogPage:
        """A page of a node's log, as soon as there is anything after `since`. Raises as `who` does."""
        target = f"{LOG}?id={log_id}&since={since}&wait={wait_s:g}"
        body = await self._ask("GET", url, target, to, b"", messages.MAX_PAGE_BYTES, wait_s + 10.0, pin)
        return messages.decode_page(body)

    async def _ask(
        self,
        method: str,
        url: URL,
        target: str,
        to: str | None,
        sent: bytes,
        most: int,
        timeout_s: float,
        pin: Pin | None,
    ) -> bytes:
        headers, asked = ({}, None) if to is None else self._caller.proof(to, method, target, sent, pin=pin)
        if to is not None and asked is None and self._caller.keys is not None:
            raise CertificateError("its certificate is not known: what is for it alone is not asked there")
        if sent:
            headers["Content-Type"] = messages.CONTENT_TYPE
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method, _at(url, target), data=sent or None, headers=headers, allow_redirects=False, ssl=pin or True
                ) as answer,
            ):
                if answer.status != 200:
                    raise await _refusal(answer)
                body = await _read(answer, most)
                proof = answer.headers.get(ANSWER_HEADER)
        except TimeoutError:
            raise UnreachableError("no answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _translated(error, pin) from None
        if asked is not None and to is not None and self._caller.keys is not None:
            verify_answer(self._caller.keys, proof, to, asked, 200, body)
        return body


def _at(url: URL, target: str) -> URL:
    return URL(f"{url.origin()}{target}", encoded=True)


async def _read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > most:
            raise InvalidError(f"the answer is longer than {most} bytes")
    return bytes(body)


async def _refusal(answer: aiohttp.ClientResponse) -> DeniedError | InvalidError | UnreachableError:
    text = _line((await answer.content.read(MAX_REFUSAL)).decode("utf-8", "replace"))
    if answer.status in (401, 403):
        return DeniedError(f"refused: {text}")
    if answer.status >= 500 or answer.status == 429:
        return UnreachableError(f"it answered {answer.status}: {text}")
    return InvalidError(f"it answered {answer.status}: {text}")


def _translated(error: Exception, pin: Pin | None) -> UnreachableError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError) and pin is not None:
        return CertificateError("it shows another certificate than the one that it proved")
    if isinstance(error, aiohttp.ClientSSLError):
        return UnlikeError(_line(f"no TLS connection: {error}"))
    if isinstance(error, aiohttp.ClientConnectorError):
        kind = RefusedError if isinstance(error.os_error, ConnectionRefusedError) else UnreachableError
        return kind(f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}")
    return UnlikeError(_line(f"no answer: {error or type(error).__name__}"))


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:200]).strip()
