"""The embedded IPFS network: no daemon. The node's own gateway serves what the store may show; reading is local."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from node.changes import Change
from node.cid import Cid
from node.digest import Digest
from node.errors import DeniedError, MismatchError, NotFoundError
from node.ipfs.contracts import Health, Pin
from node.store import Store
from node.visibility import Audience

_PIECE_BYTES: Final = 256 * 1024


class Embedded:
    """`Network` on a store: what it holds and may show is published and pinned by being held."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @asynccontextmanager
    async def open(self, cid: Cid, start: int = 0, stop: int | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield a file's bytes from `start` up to `stop` (its end when None).

        Raises:
            NotFoundError: on entry, when the file is not held.
            UnreachableError: on entry, when the catalog cannot be read.
        """
        holding = await self._store.find_cid(cid)
        if holding is None:
            raise NotFoundError(f"{cid}: not here")
        async with self._store.read(holding.digest) as blob:
            yield _read(blob.fileno(), start, holding.size if stop is None else min(stop, holding.size))

    async def has(self, cid: Cid) -> bool:
        """Whether the file is held."""
        return await self._store.find_cid(cid) is not None

    async def block(self, cid: Cid) -> bytes:
        """A block of what is held.

        Raises:
            NotFoundError: when it is not held.
            MismatchError: when its bytes are damaged.
            UnreachableError: when the catalog cannot be read.
        """
        block = await self._store.block(cid)
        data = block.data
        if data is None:
            assert block.within is not None, "a block without bytes of its own is part of a blob"
            async with self._store.read(block.within.digest) as blob:
                data = await asyncio.to_thread(os.pread, blob.fileno(), block.length, block.offset)
        if Cid.of(data, cid.codec) != cid:
            raise MismatchError(f"{cid}: its bytes here hash to something else")
        return data

    async def add(self, digest: Digest) -> Cid:
        """Offer a blob of the store; returns its CID.

        Raises:
            NotFoundError: when the store does not hold it.
            DeniedError: when it is private; those never leave.
        """
        holding = await self._store.find(digest)
        if holding is None:
            raise NotFoundError(f"{digest}: not here")
        if holding.visibility.hidden:
            raise DeniedError(f"{digest}: it is private")
        return holding.cid

    async def withdraw(self, cid: Cid) -> None:
        """What is held and may be seen is offered; only dropping the blob ends that."""

    async def health(self) -> Health:
        """There is nothing that could be away."""
        return Health()

    async def pin(self, cid: Cid) -> None:
        """What is held is kept; nothing is fetched by its CID.

        Raises:
            NotFoundError: when it is not held.
        """
        if not await self.has(cid):
            raise NotFoundError(f"{cid}: not here, and the embedded network fetches nothing by its CID")

    async def unpin(self, cid: Cid) -> None:
        """What is held stays; only dropping the blob ends that."""

    async def pins(self) -> AsyncGenerator[Pin, None]:
        """What anybody may have of what is held."""
        upto, more = 0, True
        while more:
            page = await self._store.changes(upto, Audience.PUBLIC)
            for entry in page.entries:
                if isinstance(entry, Change) and entry.holding is not None:
                    yield Pin(entry.holding.cid, entry.digest)
            upto, more = page.upto, page.more


async def _read(fd: int, start: int, stop: int) -> AsyncIterator[bytes]:
    at = start
    while at < stop:
        piece = await asyncio.to_thread(os.pread, fd, min(_PIECE_BYTES, stop - at), at)
        if not piece:
            raise NotFoundError("the file is shorter than it was")
        at += len(piece)
        yield piece
