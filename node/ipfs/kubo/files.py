"""Reading a file through a gateway that belongs to us: its length decides whether it came whole."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import hdrs
from yarl import URL

from node.cid import Cid
from node.errors import MismatchError, NotFoundError, UnreachableError

_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")

_UNLIMITED: Final = aiohttp.ClientTimeout(total=None)
"""A file may take as long as it needs, while it comes."""


@asynccontextmanager
async def open_file(
    session: aiohttp.ClientSession,
    gateway: URL,
    cid: Cid,
    start: int,
    stop: int | None,
    *,
    head_s: float,
    stall_s: float,
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield a file's bytes from `start` up to `stop` (its end when None), as many as there are, not verified.

    Raises:
        NotFoundError: on entry, when the gateway does not have it, nor finds it within `head_s`.
        MismatchError: when what answers is no gateway, or gives another range.
        UnreachableError: when nobody answers, no byte comes for `stall_s`, or the body ends early.
    """
    headers = {hdrs.ACCEPT_ENCODING: "identity"}
    if start or stop is not None:  # of no bytes one is asked for, to learn whether the file is there
        headers[hdrs.RANGE] = f"bytes={start}-{'' if stop is None else max(start, stop - 1)}"
    url = gateway / "ipfs" / str(cid)
    try:
        async with asyncio.timeout(head_s):
            answer = await session.get(url, headers=headers, allow_redirects=False, timeout=_UNLIMITED)
    except TimeoutError:
        raise NotFoundError(f"{cid}: nobody in the swarm gives it") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:  # the last: of what is no host name
        raise UnreachableError(f"{url}: {error or type(error).__name__}") from None
    try:
        count = _count(answer, url, cid, start)
        yield _pieces(answer, url, count if stop is None else max(0, min(count, stop - start)), stall_s)
    finally:
        answer.close()


def _count(answer: aiohttp.ClientResponse, url: URL, cid: Cid, start: int) -> int:
    """How many bytes come."""
    if answer.status == 416:
        return 0
    if answer.status in (404, 410, 412, 504):
        raise NotFoundError(f"{cid}: the gateway does not find it ({answer.status})")
    if answer.status not in (200, 206):
        raise UnreachableError(f"{url}: answered {answer.status}")
    if answer.headers.get("X-Ipfs-Path") != f"/ipfs/{cid}":
        raise MismatchError(f"{url}: what answers there is no IPFS gateway")
    if answer.status == 200:
        if answer.content_length is None or start:
            raise MismatchError(f"{url}: another part came than was asked for")
        return answer.content_length
    found = _CONTENT_RANGE.fullmatch(answer.headers.get(hdrs.CONTENT_RANGE, ""))
    if found is None or int(found[1]) != start:
        raise MismatchError(f"{url}: another part came than was asked for")
    return int(found[2]) + 1 - start


async def _pieces(answer: aiohttp.ClientResponse, url: URL, count: int, stall_s: float) -> AsyncIterator[bytes]:
    left = count
    while left:
        try:
            async with asyncio.timeout(stall_s):
                piece = await answer.content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            said = "no bytes came any more" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            raise UnreachableError(f"{url}: {said}, with {left} missing") from None
        if not piece:
            raise UnreachableError(f"{url}: the body ended with {left} bytes missing")
        piece = piece[:left]
        left -= len(piece)
        yield piece
