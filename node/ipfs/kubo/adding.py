"""Adding a file to a Kubo so that it gets the CID that every implementation of `unixfs-v1-2025` gives it.

Kubo ignores options that it does not know, answers 200 to an upload that was cut short, and pins what came of it: only
the CID that it returns says what was added.
"""

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from node.cid import Cid
from node.errors import InvalidError, UnreachableError
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.rpc import ANSWER_S, Rpc, broke_off
from node.sending import FileError, HasFileno, Sender, file_sender

CHUNKER: Final = "size-1048576"
PROFILE: Final[Mapping[str, str]] = {
    "cid-version": "1",
    "hash": "sha2-256",
    "raw-leaves": "true",
    "chunker": CHUNKER,
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
SHORT: Final = "the file is shorter than it was"
_LOOKS: Final = 20
"""So often it is looked whether it took something, within the time that it may take nothing."""
STALL_S: Final = 10.0
SETTLE_S: Final = 60.0
"""How long the daemon may take behind the last byte, to write what it had not written yet."""


async def add(
    rpc: Rpc, file: HasFileno, size: int, *, pin_name: str | None, chunker: str = CHUNKER, stall_s: float = STALL_S
) -> Cid:
    """Upload `size` bytes; the CID that the daemon gave them. `pin_name` None only computes it, and keeps nothing.

    Only what is not kept is ever cut otherwise than `PROFILE` says.

    `rpc` must use a connection for each request: one that a daemon's restart broke shows that only when it is written
    to. An upload that breaks all the same is tried once more.

    Raises:
        FullError: when the daemon's disk is full.
        UnreachableError: when it takes nothing for `stall_s`, breaks off or says no; when the file is shorter, or not
            to be read.
    """
    options = {**PROFILE, "chunker": chunker, "pin": "true"}
    if pin_name is None:
        options |= {"only-hash": "true", "pin": "false"}
    elif pin_name:
        options["pin-name"] = pin_name
    try:
        return await _upload(rpc, file, size, options, stall_s)
    except aiohttp.ClientConnectionError:
        pass
    try:
        return await _upload(rpc, file, size, options, stall_s)
    except aiohttp.ClientConnectionError as error:
        raise UnreachableError(f"Kubo at {rpc.endpoint} broke off: {broke_off(error)}") from None


async def _upload(rpc: Rpc, file: HasFileno, size: int, options: Mapping[str, str], stall_s: float) -> Cid:
    try:
        async with asyncio.timeout(stall_s) as limit:
            body = _Body(file, size, limit, stall_s)
            async with rpc.post("add", within_s=None, data=body, options=options) as answer:
                limit.reschedule(asyncio.get_running_loop().time() + ANSWER_S)
                said = await rpc.document(answer)
    except TimeoutError:
        raise UnreachableError(f"Kubo at {rpc.endpoint} takes no more of an upload: is it frozen?") from None
    except (aiohttp.ClientError, UnreachableError):
        if body.fault is not None:
            raise UnreachableError(body.fault) from None
        raise
    return named(said, rpc.endpoint)


class _Body(aiohttp.Payload):
    """The multipart body, whose file the kernel sends; whatever the daemon takes gives it time for more."""

    def __init__(self, file: HasFileno, size: int, limit: asyncio.Timeout, stall_s: float) -> None:
        boundary = secrets.token_hex(16)
        super().__init__(file, content_type=f"multipart/form-data; boundary={boundary}")
        self.fault: str | None = None
        """What is wrong with the file, as far as it showed."""
        self._head, self._tail = _head(boundary), f"\r\n--{boundary}--\r\n".encode()
        self._size = len(self._head) + size + len(self._tail)
        self._file = file
        self._file_size = size
        self._limit = limit
        self._stall_s = stall_s

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """What aiohttp logs of bodies: nothing of a file."""
        return ""

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send it; aiohttp calls this once the connection is there."""
        assert isinstance(writer.transport, asyncio.Transport), "a request is written over its connection"
        await writer.write(self._head)
        sender = file_sender(writer.transport, writer.write, self._file, 0, self._file_size)
        with self._giving_time(sender):
            try:
                await sender.run()
            except FileError as error:
                self.fault = f"the blob cannot be read: {error.why}"
                raise
        if sender.sent < self._file_size:
            self.fault = SHORT
            raise UnreachableError(SHORT)
        self._give(SETTLE_S)
        await writer.write(self._tail)

    @contextmanager
    def _giving_time(self, sender: Sender) -> Iterator[None]:
        loop, seen = asyncio.get_running_loop(), 0
        looking: asyncio.Handle

        def look() -> None:
            nonlocal seen, looking
            if sender.sent > seen:
                seen = sender.sent
                self._give(self._stall_s)
            looking = loop.call_later(self._stall_s / _LOOKS, look)

        looking = loop.call_soon(look)
        try:
            yield
        finally:
            looking.cancel()

    def _give(self, more_s: float) -> None:
        self._limit.reschedule(asyncio.get_running_loop().time() + more_s)


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
        UnreachableError: when it names none, or one of another hash function.
    """
    try:
        name = str(said["Hash"])
    except (KeyError, TypeError):
        raise UnreachableError(f"Kubo at {endpoint} says not what it added: {str(said)[:80]!r}") from None
    try:
        return Cid.parse(name)
    except InvalidError:
        raise UnreachableError(f"Kubo at {endpoint} makes other CIDs than this node: {name[:80]!r}") from None
