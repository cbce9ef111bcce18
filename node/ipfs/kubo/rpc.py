"""Kubo's RPC (`/api/v0`) over TCP, TLS or a unix socket: one command, one answer, every wait and size bounded."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from node.errors import FullError, NotFoundError, UnreachableError
from node.ipfs.kubo.endpoint import Endpoint

ANSWER_S: Final = 3.0
MOST_BYTES: Final = 1024 * 1024
"""An answer is no longer, a line of several, or what says why a command failed, no longer than `LINE_BYTES`."""
LINE_BYTES: Final = 64 * 1024
_ABSENT: Final = ("not found locally", "could not find", "is not pinned", "not pinned or")
_GAVE_UP: Final = "context deadline exceeded"
_FULL: Final = ("no space left on device", "disk quota exceeded")


class CommandError(UnreachableError):
    """The daemon answered that a command failed; the message is its own."""


class GaveUpError(NotFoundError):
    """The daemon did not come to an end in its own time: it may have what it did not find."""


def open_session(endpoint: Endpoint, *, pooled: bool = True) -> aiohttp.ClientSession:
    """A session for one daemon; without `pooled` each request has a connection of its own."""
    connector: aiohttp.BaseConnector
    if endpoint.socket is not None:
        connector = aiohttp.UnixConnector(endpoint.socket, force_close=not pooled)
    else:
        connector = aiohttp.TCPConnector(ssl=endpoint.tls or True, force_close=not pooled, limit=0)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={hdrs.USER_AGENT: "layermesh"},
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
    )


class Rpc:
    """Asks one daemon. What it says never decides more than it must: callers compare CIDs and lengths."""

    def __init__(self, endpoint: Endpoint, session: aiohttp.ClientSession) -> None:
        self.endpoint = endpoint
        self._session = session

    async def ask(self, command: str, *arguments: str, within_s: float = ANSWER_S, **options: str) -> Any:
        """What a command answers, decoded; an option's `_` stands for `-`.

        Raises:
            NotFoundError: when the daemon does not have it, or has not pinned it.
            FullError: when the daemon's disk is full.
            CommandError: when the daemon says that it failed otherwise.
            UnreachableError: when no Kubo answers in time; the message says in words what is there instead.
        """
        async with self.post(command, *arguments, within_s=within_s, options=options) as answer:
            return await self.document(answer)

    async def lines(
        self, command: str, *arguments: str, stall_s: float = ANSWER_S, **options: str
    ) -> AsyncGenerator[Any, None]:
        """The JSON documents that a command answers one after another. Close it (`aclosing`) to stop early.

        Raises:
            As `ask`; also when nothing comes for `stall_s`.
        """
        async with self.post(command, *arguments, within_s=None, options=options) as answer:
            left, idle = b"", 0
            while piece := await self._piece(answer, stall_s):
                *whole, left = (left + piece).split(b"\n")
                lines = [line for line in whole if line.strip()]
                idle = 0 if lines else idle + len(piece)
                if max(len(left), idle) > LINE_BYTES:
                    raise self.foreign(answer)
                for line in lines:
                    yield self._decoded(answer, line)
            if left.strip():
                yield self._decoded(answer, left)

    @asynccontextmanager
    async def post(
        self,
        command: str,
        *arguments: str,
        within_s: float | None = ANSWER_S,
        data: Any = None,
        headers: Mapping[str, str] = {},
        options: Mapping[str, str] = {},
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a command, known to be 200 and JSON; `within_s` bounds all of it, or its head when None.

        Raises:
            As `ask`; a connection that breaks in the middle of what is sent raises `aiohttp.ClientConnectionError`
            where `data` is given, for its sender to try again.
        """
        query = [("arg", argument) for argument in arguments]
        query += [(name.replace("_", "-"), value) for name, value in options.items()]
        url = (self.endpoint.url / "api" / "v0").joinpath(*command.split("/")).with_query(query)
        said = dict(headers)
        if self.endpoint.authorization is not None:
            said[hdrs.AUTHORIZATION] = self.endpoint.authorization
        try:
            async with asyncio.timeout(within_s or (ANSWER_S if data is None else None)) as limit:
                async with self._request(url, data, said) as answer:
                    await self._check(answer)
                    if within_s is None:
                        limit.reschedule(None)
                    yield answer
        except TimeoutError:
            raise UnreachableError(f"Kubo at {self.endpoint} gives no answer: is it frozen?") from None
        except aiohttp.ClientSSLError as error:
            raise UnreachableError(
                f"Kubo at {self.endpoint} shows no certificate that is trusted ({_said(error)}):"
                " name its authority with ipfs_ca_file"
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise UnreachableError(f"Kubo at {self.endpoint} is away: {_strerror(error)}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if data is not None and isinstance(error, aiohttp.ClientConnectionError):
                raise
            raise UnreachableError(f"Kubo at {self.endpoint} broke off: {_said(error)}") from None

    async def document(self, answer: aiohttp.ClientResponse) -> Any:
        """The one document of an answer, the first of several; None when there is none.

        Raises:
            UnreachableError: when it is no JSON, or more than 1 MiB.
        """
        body = await self._whole(answer, MOST_BYTES)
        lines = [line for line in body.split(b"\n") if line.strip()]
        return self._decoded(answer, lines[0]) if lines else None

    def foreign(self, answer: aiohttp.ClientResponse) -> UnreachableError:
        """That something else than a Kubo answers."""
        return no_rpc(self.endpoint, answer.status, answer.headers.get(hdrs.CONTENT_TYPE))

    @asynccontextmanager
    async def _request(self, url: URL, data: Any, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        answer = await self._session.post(url, data=data, headers=headers, allow_redirects=False)
        try:
            yield answer
        finally:
            answer.close() if not answer.content.at_eof() else answer.release()

    async def _check(self, answer: aiohttp.ClientResponse) -> None:
        if answer.status in (401, 403):
            raise refused(self.endpoint, answer.status)
        if answer.content_type != "application/json" or answer.status not in (200, 500):
            if answer.status == 400:
                raise CommandError(f"Kubo at {self.endpoint}: {one_line(await self._whole(answer, LINE_BYTES))}")
            raise self.foreign(answer)
        if answer.status == 500:
            document = self._decoded(answer, await self._whole(answer, LINE_BYTES))
            raise failure(str(document.get("Message", "")) if isinstance(document, dict) else "it failed")

    async def _whole(self, answer: aiohttp.ClientResponse, most: int) -> bytes:
        body = bytearray()
        async for piece in answer.content.iter_any():
            body += piece
            if len(body) > most:
                raise self.foreign(answer)
        return bytes(body)

    async def _piece(self, answer: aiohttp.ClientResponse, stall_s: float) -> bytes:
        async with asyncio.timeout(stall_s):
            return await answer.content.readany()

    def _decoded(self, answer: aiohttp.ClientResponse, line: bytes) -> Any:
        try:
            return msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self.foreign(answer) from None


def refused(endpoint: Endpoint, status: int) -> UnreachableError:
    """That a daemon wants another login."""
    return UnreachableError(
        f"Kubo at {endpoint} refuses this node ({status}): it needs the login of one of its"
        " API.Authorizations that may use all of /api/v0, in the file that ipfs_auth_file names"
    )


def no_rpc(endpoint: Endpoint, status: int, content_type: str | None) -> UnreachableError:
    """That something else than a Kubo answers."""
    what = f"{status} {(content_type or 'of no type')[:60]!r}"
    return UnreachableError(f"what answers at {endpoint} is no Kubo RPC: it said {what}")


def failure(message: str) -> NotFoundError | FullError | CommandError:
    """What it means that a command failed with this message."""
    said = one_line(message.encode(errors="replace"))
    if any(words in message for words in _FULL):
        return FullError(f"Kubo's disk is full: {said}")
    if any(words in message for words in _ABSENT):
        return NotFoundError(f"Kubo: {said}")
    if _GAVE_UP in message:
        return GaveUpError(f"Kubo: {said}")
    return CommandError(f"Kubo: {said or 'it failed'}")


def one_line(text: bytes) -> str:
    """The beginning of what a daemon said, as people may read it."""
    return "".join(c if c.isprintable() else " " for c in text[:300].decode(errors="replace")).strip()


def broke_off(error: aiohttp.ClientError) -> str:
    """Why a connection broke in the middle; never the request, which aiohttp quotes with all of its query."""
    if isinstance(error, OSError):
        cause = error.__cause__ or type(error).__name__
        return os.strerror(error.errno).lower() if error.errno else one_line(str(cause).encode())
    return _said(error)


def _strerror(error: aiohttp.ClientConnectorError) -> str:
    number = error.os_error.errno
    return os.strerror(number).lower() if number and number > 0 else _said(error)


def _said(error: Exception) -> str:
    return one_line((str(error) or type(error).__name__).encode())
