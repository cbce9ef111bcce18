"""A client of any IPFS HTTP gateway (Trustless and Path Gateway specifications)."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import hdrs
from yarl import URL

from node.cid import IDENTITY_PROBE, Cid
from node.errors import MismatchError, NotFoundError, UnreachableError
from node.receiving import BlockReceiver, Buffers, Receiver, StreamReceiver
from node.unixfs import MAX_BLOCK_BYTES

_RAW: Final[Mapping[str, str]] = {hdrs.ACCEPT: "application/vnd.ipld.raw"}
AT_HAND: Final[Mapping[str, str]] = {hdrs.CACHE_CONTROL: "only-if-cached"}
"""Asks a gateway for what it has, and not to look for it elsewhere, which may take for ever."""
_PLAIN: Final[Mapping[str, str]] = {hdrs.ACCEPT_ENCODING: "identity"}
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:[0-9]{1,19}|\*)")
_PROBE_S: Final = 2.0
_UNLIMITED: Final = aiohttp.ClientTimeout(total=None)


class AnswerError(MismatchError):
    """An answer of another shape than was asked for; it says nothing of the bytes that the gateway has."""


class GatewayClient:
    """Reads blocks and file ranges from gateways; which one is said with each call.

    `answer_s` bounds the wait for a connection and an answer's head; redirects are not followed. `proxy` names the one
    that leads to a URL. `tls`, where an https gateway is asked, judges its certificate; without it the system's
    authorities do.

    `own`: they are the gateways of who asks. What spoils an answer on its way is no lie of theirs: `UnreachableError`
    takes the place of `AnswerError`.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        answer_s: float = 5.0,
        proxy: Callable[[URL], URL | None] = lambda _url: None,
        own: bool = False,
    ) -> None:
        self._session = session
        self._answer_s = answer_s
        self._proxy = proxy
        self._own = own
        self._buffers = Buffers()
        self._receiving = 0

    async def block(
        self,
        base_url: URL,
        cid: Cid,
        *,
        headers: Mapping[str, str] | None = None,
        stall_s: float = 2.0,
        tls: ssl.SSLContext | None = None,
    ) -> bytes:
        """A block, verified against its CID.

        Raises:
            NotFoundError: when the gateway does not have it, or not for us.
            MismatchError: when its bytes are others, or more than 2 MiB.
            UnreachableError: when no answer came in time.
        """
        url = _url(base_url, str(cid)).with_query(format="raw")
        data = bytearray()
        async with self._get(url, {**_RAW, **(headers or {})}, tls=tls) as answer:
            _expect_block(answer, url)
            async for piece in _pieces(answer, stall_s):
                data += piece
                if len(data) > MAX_BLOCK_BYTES:
                    raise AnswerError(f"{url}: the block has more than {MAX_BLOCK_BYTES} bytes")
        block = bytes(data)
        if Cid.of(block, cid.codec) != cid:
            raise MismatchError(f"{url}: the block's bytes hash to something else")
        return block

    async def body(
        self,
        base_url: URL,
        cid: Cid,
        start: int,
        stop: int,
        *,
        headers: Mapping[str, str] | None = None,
        stall_s: float = 2.0,
    ) -> AsyncGenerator[bytes, None]:
        """A file's bytes from `start` to `stop`, exactly as many, not verified. Close it (`aclosing`) to stop early.

        Raises:
            NotFoundError: when the gateway does not have the file, or not for us.
            MismatchError: when it answers with another range, or more bytes than asked for.
            UnreachableError: when no byte came for `stall_s`, or the body broke.
        """
        if start >= stop:
            return
        url = _url(base_url, str(cid))
        asked: Mapping[str, str] = {hdrs.RANGE: f"bytes={start}-{stop - 1}"}
        async with self._get(url, {**asked, **(headers or {})}) as answer:
            _expect(answer, url, 200, 206)
            at = _begin(answer, url, start, stop)
            async for piece in _pieces(answer, stall_s):
                useful = piece[max(start - at, 0) : stop - at]
                at += len(piece)
                if answer.status == 206 and at > stop:
                    raise AnswerError(f"{url}: more bytes came than were asked for")
                if useful:
                    yield useful
                if at >= stop and answer.status == 200:
                    break
            if at < stop:
                raise UnreachableError(f"{url}: the body ended at {at}, before {stop}")

    @asynccontextmanager
    async def blocks(
        self,
        base_url: URL,
        cid: Cid,
        start: int,
        stop: int,
        *,
        headers: Mapping[str, str] | None = None,
        stall_s: float = 2.0,
        block_s: float = 4.0,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Receiver]:
        """As `body`, to be taken block after block by threads. The connection serves this one answer.

        Raises:
            NotFoundError, MismatchError, UnreachableError: as `body`, on entry.
        """
        url = _url(base_url, str(cid))
        asked: Mapping[str, str] = {hdrs.RANGE: f"bytes={start}-{stop - 1}"}
        async with self._get(url, {**asked, **(headers or {})}, tls=tls) as answer:
            _expect(answer, url, 200, 206)
            at = _begin(answer, url, start, stop)
            if answer.status == 206 and answer.content_length != stop - start:
                raise AnswerError(f"{url}: {answer.content_length} bytes come, {stop - start} were asked for")
            if answer.content_length is None:
                raise UnreachableError(f"{url}: it does not say how long its answer is")
            self._receiving += 1
            try:
                async with self._receiver(answer, url, stall_s, block_s) as receiver:
                    await receiver.skip(start - at)
                    yield receiver
            finally:
                self._receiving -= 1
                if not self._receiving:
                    self._buffers.forget()

    async def has(self, base_url: URL, cid: Cid) -> bool:
        """Whether a gateway has a block at hand; it is asked not to look for it elsewhere.

        Raises:
            UnreachableError: when it gives no answer that a gateway gives.
        """
        url = _url(base_url, str(cid)).with_query(format="raw")
        async with self._get(url, {**_RAW, **AT_HAND}, hdrs.METH_HEAD) as answer:
            try:
                _expect_block(answer, url)
            except NotFoundError:
                return False
            return True

    @asynccontextmanager
    async def _receiver(
        self, answer: aiohttp.ClientResponse, url: URL, stall_s: float, block_s: float
    ) -> AsyncIterator[Receiver]:
        """Threads read the socket themselves, past the event loop; but what is encrypted the loop has to decrypt."""
        if url.scheme == "https":
            async with aclosing(_pieces(answer, stall_s)) as pieces:
                yield StreamReceiver(pieces, self._buffers, block_s)
            return
        receiver = BlockReceiver(*_taken_over(answer), self._buffers, stall_s, block_s)
        try:
            yield receiver
        finally:
            receiver.close()

    async def probe(self, base_url: URL) -> bool:
        """Whether a gateway answers there, within 2 s."""
        url = _url(base_url, IDENTITY_PROBE).with_query(format="raw")
        try:
            async with asyncio.timeout(_PROBE_S), self._get(url, _RAW) as answer:
                return answer.status == 200 and not await answer.content.read(1)
        except (UnreachableError, TimeoutError):
            return False

    @asynccontextmanager
    async def _get(
        self,
        url: URL,
        headers: Mapping[str, str],
        method: str = hdrs.METH_GET,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._answer_s, sock_read=None)
        try:
            async with asyncio.timeout(self._answer_s):
                answer = await self._session.request(
                    method,
                    url,
                    headers={**_PLAIN, **headers},
                    timeout=timeout,
                    allow_redirects=False,
                    proxy=self._proxy(url),
                    ssl=tls or True,
                )
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:  # the last: of what is no host name
            raise UnreachableError(f"{url}: {_said(error)}") from None
        try:
            yield answer
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnreachableError(f"{url}: {_said(error)}") from None
        except AnswerError as error:
            if self._own:
                raise UnreachableError(str(error)) from None
            raise
        finally:
            _close(answer)


def _url(base_url: URL, cid: str) -> URL:
    return base_url / "ipfs" / cid


def _expect(answer: aiohttp.ClientResponse, url: URL, *statuses: int) -> None:
    if answer.status in statuses:
        if answer.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity":
            raise AnswerError(f"{url}: the body is encoded though identity was asked for")
        return
    if 400 <= answer.status < 500 and answer.status != 429:
        raise NotFoundError(f"{url}: answered {answer.status}")
    raise UnreachableError(f"{url}: answered {answer.status}")


def _expect_block(answer: aiohttp.ClientResponse, url: URL) -> None:
    _expect(answer, url, 200)
    if answer.content_type == "text/html":  # a login page, or whatever else stands before a gateway
        raise UnreachableError(f"{url}: a web page came, and no block")


def _begin(answer: aiohttp.ClientResponse, url: URL, start: int, stop: int) -> int:
    """The position of the body's first byte."""
    if answer.status == 200:
        return 0
    found = _CONTENT_RANGE.fullmatch(answer.headers.get(hdrs.CONTENT_RANGE, ""))
    if found is None or (int(found[1]), int(found[2])) != (start, stop - 1):
        raise AnswerError(f"{url}: another range came than was asked for")
    return start


def _taken_over(answer: aiohttp.ClientResponse) -> tuple[socket.socket | None, bytes]:
    """The connection, from which aiohttp reads no more, and what it had read; None when it had read all."""
    first = answer.content.read_nowait()
    connection = answer.connection
    if connection is None or connection.transport is None:
        return None, first
    connection.transport.pause_reading()
    return connection.transport.get_extra_info("socket"), first


def _close(answer: aiohttp.ClientResponse) -> None:
    """Give the connection up at once, if it was not read to its end: under TLS the peer would be waited for."""
    connection = answer.connection
    if connection is not None and connection.transport is not None and answer.url.scheme == "https":
        connection.transport.abort()
    answer.close()


async def _pieces(answer: aiohttp.ClientResponse, stall_s: float) -> AsyncGenerator[bytes, None]:
    while True:
        async with asyncio.timeout(stall_s):
            piece, ended_chunk = await answer.content.readchunk()  # unlike readany(), joins nothing
        if piece:
            yield piece
        elif not ended_chunk:
            return


def _said(error: BaseException) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
