"""A daemon's commands, given by ipfshttpclient in threads: every wait and size bounded, every error one of ours."""

import asyncio
import functools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import msgspec
import requests
import urllib3.exceptions
from ipfshttpclient import exceptions

from node.cid import Cid
from node.errors import LayermeshError, MismatchError, NotFoundError, UnreachableError
from node.ipfs.ipfshttpclient.calls import Call, Threads
from node.ipfs.ipfshttpclient.transport import Client
from node.ipfs.kubo.adding import CHUNKER, PROFILE, SETTLE_S, SHORT, STALL_S, named
from node.ipfs.kubo.endpoint import Endpoint
from node.ipfs.kubo.rpc import ANSWER_S, LINE_BYTES, MOST_BYTES, no_rpc, one_line
from node.sending import HasFileno
from node.unixfs import MAX_BLOCK_BYTES

T = TypeVar("T")
_ASKING: Final = 4
_MOVING: Final = 8
_ARGUMENTS: Final = ("cid-version", "raw-leaves", "chunker", "trickle", "wrap-with-directory", "nocopy")
"""Options of `add` that the library sends by itself, and takes as arguments."""
_FOREIGN: Final = (
    exceptions.Error,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
    AssertionError,  # by which the library says that more or less was answered than it expects
    RecursionError,
)


class Commands:
    """Gives commands to one daemon. Made by `open_commands`."""

    def __init__(self, endpoint: Endpoint, asking: Threads, moving: Threads) -> None:
        """`moving` are the threads that bytes of files go through: those who only ask must not wait for them."""
        self._endpoint = endpoint
        self._asking = asking
        self._moving = moving
        self._client = Client(endpoint)

    async def ask(self, command: str, *arguments: str, within_s: float = ANSWER_S, **options: str) -> Any:
        """What a command answers. See `Rpc.ask`."""

        def work() -> bytes:
            with self._answer(command, arguments, options) as pieces:
                return self._whole(pieces, MOST_BYTES)

        async with self._within(within_s), self._asking.call() as call:
            body = await self._step(call, work)
        lines = [line for line in body.split(b"\n") if line.strip()]
        return self._decoded(lines[0]) if lines else None

    async def lines(
        self, command: str, *arguments: str, stall_s: float = ANSWER_S, **options: str
    ) -> AsyncGenerator[Any, None]:
        """The JSON documents that a command answers one after another. See `Rpc.lines`."""
        async with self._moving.call() as call:

            def begin() -> Any:
                pieces = self._answer(command, arguments, options)
                call.keep(pieces)
                return pieces

            async with self._within(stall_s):
                pieces = await self._step(call, begin)
            left, piece, idle = b"", b"\n", 0
            while piece:
                async with self._within(stall_s):
                    piece = await self._step(call, functools.partial(next, pieces, b""))
                *whole, left = (left + piece).split(b"\n")
                lines = [line for line in whole if line.strip()]
                idle = 0 if lines else idle + len(piece)
                if max(len(left), idle) > LINE_BYTES:
                    raise no_rpc(self._endpoint, 200, "a line without end")
                for line in lines:
                    yield self._decoded(line)
            if left.strip():
                yield self._decoded(left)

    async def upload(
        self,
        file: HasFileno,
        size: int,
        pin_name: str | None,
        chunker: str = CHUNKER,
        *,
        stall_s: float = STALL_S,
    ) -> Cid:
        """Add a file, with every option that its CID depends on. See `adding.add`."""
        loop = asyncio.get_running_loop()
        options = {name: value for name, value in PROFILE.items() if name not in _ARGUMENTS}
        if pin_name:
            options["pin-name"] = pin_name
        async with self._within(stall_s, "takes no more of an upload") as limit, self._moving.call() as call:

            def moved(left: int) -> None:
                loop.call_soon_threadsafe(_put_off, limit, stall_s if left else SETTLE_S)

            def work() -> Any:
                return self._client.add(
                    _File(file, size, moved),
                    cid_version=1,
                    raw_leaves=True,
                    chunker=chunker,
                    only_hash=pin_name is None,
                    pin=pin_name is not None,
                    opts=options,
                ).as_json()

            said = await self._step(call, work)
        return named(said, self._endpoint)

    async def block(self, cid: Cid, within_s: float) -> bytes:
        """A block, verified, looked for in the swarm for `within_s`.

        Raises:
            NotFoundError, MismatchError, UnreachableError: see `Blocks.block`.
        """

        def work() -> bytes:
            with self._client.block.get(str(cid), stream=True) as pieces:
                return self._whole(pieces, MAX_BLOCK_BYTES)

        try:
            async with asyncio.timeout(within_s), self._moving.call() as call:
                data = await self._step(call, work)
        except TimeoutError:
            raise NotFoundError(f"{cid}: nobody in the swarm gives it") from None
        if Cid.of(data, cid.codec) != cid:
            raise MismatchError(f"{cid}: other bytes came from Kubo at {self._endpoint}")
        return data

    def _answer(self, command: str, arguments: Sequence[str], options: Mapping[str, str]) -> Any:
        """The pieces of an answer, to be closed; in a thread. An option's `_` stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in options.items()}
        return self._client.transport.request(f"/{command}", arguments, opts=named, decoder="none", stream=True)

    def _whole(self, pieces: Iterable[bytes], most: int) -> bytes:
        body = bytearray()
        for piece in pieces:
            body += piece
            if len(body) > most:
                raise no_rpc(self._endpoint, 200, f"more than {most} bytes")
        return bytes(body)

    def _decoded(self, line: bytes) -> Any:
        try:
            return msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise no_rpc(self._endpoint, 200, "no JSON") from None

    @asynccontextmanager
    async def _within(self, limit_s: float, what: str = "gives no answer") -> AsyncIterator[asyncio.Timeout]:
        try:
            async with asyncio.timeout(limit_s) as limit:
                yield limit
        except TimeoutError:
            raise UnreachableError(f"Kubo at {self._endpoint} {what}: is it frozen?") from None

    async def _step(self, call: Call, work: Callable[[], T]) -> T:
        try:
            return await call.step(work)
        except LayermeshError:
            raise
        except requests.TooManyRedirects as error:
            raise no_rpc(self._endpoint, error.response.status_code if error.response else 302, "a redirect") from None
        except _FOREIGN as error:
            raise UnreachableError(f"Kubo at {self._endpoint} {_why(error)}") from None


class _File:
    """A file to be uploaded, as the library reads one; `moved` hears how many bytes are left."""

    name = "blob"

    def __init__(self, file: HasFileno, size: int, moved: Callable[[int], None]) -> None:
        self._file = file
        self._left = size
        self._at = 0
        self._moved = moved

    def read(self, count: int) -> bytes:
        """The next bytes; none at the end.

        Raises:
            UnreachableError: when there are fewer than there were.
        """
        piece = self._piece(min(count, self._left)) if self._left else b""
        if self._left and not piece:
            raise UnreachableError(SHORT)
        self._at += len(piece)
        self._left -= len(piece)
        self._moved(self._left)
        return piece

    def _piece(self, most: int) -> bytes:
        try:
            return os.pread(self._file.fileno(), most, self._at)
        except OSError as error:
            raise UnreachableError(f"the blob cannot be read: {error.strerror}") from None


@asynccontextmanager
async def open_commands(endpoint: Endpoint) -> AsyncIterator[Commands]:
    """Commands for the daemon at `endpoint`, which need not be there."""
    asking, moving = Threads(_ASKING, "layermesh-ipfs-ask"), Threads(_MOVING, "layermesh-ipfs-move")
    try:
        yield Commands(endpoint, asking, moving)
    finally:
        await asking.close()
        await moving.close()


def _put_off(limit: asyncio.Timeout, by_s: float) -> None:
    with suppress(RuntimeError):  # it is over
        limit.reschedule(asyncio.get_running_loop().time() + by_s)


def _why(error: BaseException) -> str:
    """What the system says that is at the bottom of a library's error, or else what that says."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"is away: {cause.strerror.lower()}"
        cause = cause.__cause__ or cause.__context__
    return f"broke off: {one_line((str(error) or type(error).__name__).encode())}"
