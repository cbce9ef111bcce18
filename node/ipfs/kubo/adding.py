"""Adding a file to a Kubo so that it gets the CID that every implementation of `unixfs-v1-2025` gives it.

Kubo ignores options that it does not know, answers 200 to an upload that was cut short, and pins what came of it: only
the CID that it returns says what was added.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import aiohttp
from aiohttp import hdrs

from node.cid import Cid
from node.errors import InvalidError, UnreachableError
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.rpc import ANSWER_S, Rpc

ReadAt = Callable[[int, int], bytes]
"""Reads at most so many bytes from an offset on; in a thread."""
PROFILE: Final[Mapping[str, str]] = {
    "cid-version": "1",
    "hash": "sha2-256",
    "raw-leaves": "true",
    "chunker": "size-1048576",
    "max-file-links": "1024",
    "trickle": "false",
    "inline": "false",
    "preserve-mode": "false",
    "preserve-mtime": "false",
    "wrap-with-directory": "false",
    "nocopy": "false",
    "fscache": "false",
    "progress": "false",
    "fast-provide-root": "false",
    "fast-provide-wait": "false",
    "quieter": "true",
}
"""Every option of `add` that the CID, or where the bytes go, depends on; they win over the daemon's own settings."""
_PIECE_BYTES: Final = 1024 * 1024
STALL_S: Final = 10.0
SETTLE_S: Final = 60.0
"""How long the daemon may take behind the last byte, to write what it had not written yet."""


async def add(rpc: Rpc, read: ReadAt, size: int, *, pin_name: str | None, stall_s: float = STALL_S) -> Cid:
    """Upload `size` bytes; the CID that the daemon gave them. `pin_name` None only computes it, and keeps nothing.

    `rpc` must use a connection for each request: one that a daemon's restart broke shows that only when it is written
    to. An upload that breaks all the same is tried once more.

    Raises:
        FullError: when the daemon's disk is full.
        UnreachableError: when it takes nothing for `stall_s`, breaks off or says no.
        Whatever `read` raises; the daemon drops what it got then.
    """
    try:
        return await _upload(rpc, read, size, pin_name, stall_s)
    except aiohttp.ClientConnectionError:
        pass
    try:
        return await _upload(rpc, read, size, pin_name, stall_s)
    except aiohttp.ClientConnectionError as error:
        raise UnreachableError(f"Kubo at {rpc.endpoint} broke off: {error or type(error).__name__}") from None


async def _upload(rpc: Rpc, read: ReadAt, size: int, pin_name: str | None, stall_s: float) -> Cid:
    options = {**PROFILE, "only-hash": "true", "pin": "false"} if pin_name is None else {**PROFILE, "pin": "true"}
    if pin_name:
        options["pin-name"] = pin_name
    boundary = secrets.token_hex(16)
    head, tail = _head(boundary), f"\r\n--{boundary}--\r\n".encode()
    headers: dict[str, str] = {
        hdrs.CONTENT_TYPE: f"multipart/form-data; boundary={boundary}",
        hdrs.CONTENT_LENGTH: str(len(head) + size + len(tail)),
    }
    failure: list[BaseException] = []
    try:
        async with asyncio.timeout(stall_s) as limit:
            body = _body(read, size, head, tail, limit, stall_s, failure)
            async with rpc.post("add", within_s=None, data=body, headers=headers, options=options) as answer:
                limit.reschedule(asyncio.get_running_loop().time() + ANSWER_S)
                said = await rpc.document(answer)
    except TimeoutError:
        raise UnreachableError(f"Kubo at {rpc.endpoint} takes no more of an upload: is it frozen?") from None
    except (aiohttp.ClientError, UnreachableError):
        if failure:
            raise failure[0] from None
        raise
    return named(said, rpc.endpoint)


async def _body(
    read: ReadAt,
    size: int,
    head: bytes,
    tail: bytes,
    limit: asyncio.Timeout,
    stall_s: float,
    failure: list[BaseException],
) -> AsyncIterator[bytes]:
    """The multipart body; each piece that the daemon takes gives it time for the next, which is read meanwhile."""
    loop = asyncio.get_running_loop()
    yield head
    ahead: asyncio.Future[bytes] | None = None
    at = 0
    try:
        while at < size:
            piece = await (ahead or _read(loop, read, at, size))
            if not piece:
                raise UnreachableError("the file is shorter than it was")
            at += len(piece)
            ahead = _read(loop, read, at, size) if at < size else None
            limit.reschedule(loop.time() + stall_s)
            yield piece
    except Exception as error:
        failure.append(error)
        raise
    finally:
        if ahead is not None:
            ahead.cancel()
    limit.reschedule(loop.time() + SETTLE_S)
    yield tail


def _read(loop: asyncio.AbstractEventLoop, read: ReadAt, at: int, size: int) -> asyncio.Future[bytes]:
    return loop.run_in_executor(None, read, min(_PIECE_BYTES, size - at), at)


def reader(fd: int) -> ReadAt:
    """Reads an open file."""

    def read(count: int, offset: int) -> bytes:
        try:
            return os.pread(fd, count, offset)
        except OSError as error:
            raise UnreachableError(f"the blob cannot be read: {error.strerror}") from None

    return read


def _head(boundary: str) -> bytes:
    lines = (
        f"--{boundary}",
        'Content-Disposition: form-data; name="file"; filename="blob"',
        "Content-Type: application/octet-stream",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def named(said: Any, endpoint: Endpoint) -> Cid:
    """The CID that the answer to `add` names.

    Raises:
        UnreachableError: when it names none.
    """
    try:
        return Cid.parse(said["Hash"])
    except (InvalidError, KeyError, TypeError, AttributeError):
        raise UnreachableError(f"Kubo at {endpoint} says not what it added: {str(said)[:80]!r}") from None
