"""One blob on its way from peers, whose blocks this machine's Kubo may have as they come.

Each leaf is verified before it is written, against a DAG that is verified against the root that was asked for. So a
block is right whatever the digest of the whole turns out to be; that decides only if the blob is kept.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from facade.sources import Offer
from node.blobs import Ingest
from node.cid import Cid, Codec
from node.digest import Digest
from node.errors import UnreachableError
from node.source import LeafWriter
from node.unixfs import HASH_BYTES, Dag
from node.workers import Pulse

_QUICK_LEAVES: Final = 4096
"""So many leaves are put into an index sooner than a thread is asked to."""


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf in an open file: `length` bytes from `offset` on. Whoever gets it closes `descriptor`."""

    descriptor: int
    offset: int
    length: int

    def fileno(self) -> int:
        """The file."""
        return self.descriptor

    def close(self) -> None:
        """Give the file back."""
        os.close(self.descriptor)


class Fetch:
    """The sink that peers write to, and its blocks: those of one root, which `digest` is said to have."""

    def __init__(self, root: Cid, digest: Digest, offer: Offer, on_fetched: Callable[[int], None]) -> None:
        self.root = root
        self.digest = digest
        self.offer = offer
        self.again = False
        """Whether an earlier attempt did not end."""
        self.waiting = 0
        """How many requests wait for a block."""
        self._on_fetched = on_fetched
        self._ingest: Ingest | None = None
        self._dag: Dag | None = None
        self._leaves: dict[bytes, int] = {}
        self._nodes: dict[bytes, bytes] = {}
        self._ended = False
        self._moved = Pulse()

    @property
    def said_bytes(self) -> int:
        """How long the blob is, as those say who have it."""
        return self.offer.holders[0].size

    @property
    def begun(self) -> bool:
        """Whether its turn has come."""
        return self._ingest is not None

    def has(self, cid: Cid) -> bool:
        """Whether a block is known to be among those that come."""
        return cid == self.root or cid.hash in (self._leaves if cid.codec is Codec.RAW else self._nodes)

    def begin(self, ingest: Ingest) -> None:
        """The file is there; peers may write."""
        self._ingest = ingest

    def end(self) -> None:
        """No more comes, and the file is closed after this: the blob is kept, or not to be had."""
        self._ended = True
        self._moved.beat()

    async def known(self) -> None:
        """Wait until it is known which blocks come, or the fetch ended."""
        self.waiting += 1
        try:
            while self._dag is None and not self._ended:
                await self._moved.wait()
        finally:
            self.waiting -= 1

    def length(self, cid: Cid) -> int | None:
        """How long a leaf is that is known to come; None for any other block."""
        index = self._leaves.get(cid.hash) if cid.codec is Codec.RAW else None
        return None if self._dag is None or index is None or self._ended else self._dag.leaf(index).length

    async def part(self, cid: Cid) -> Part | bytes | None:
        """Wait for a block: a leaf, or an interior node's bytes. None when the fetch ended before it came.

        Raises:
            UnreachableError: when too many files are open.
        """
        self.waiting += 1
        try:
            while self._dag is None:
                if self._ended:
                    return None
                await self._moved.wait()
            if cid.codec is Codec.DAG_PB:
                return self._nodes.get(cid.hash)
            index = self._leaves.get(cid.hash)
            return None if index is None else await self._leaf(self._dag, index)
        finally:
            self.waiting -= 1

    async def _leaf(self, dag: Dag, index: int) -> Part | bytes | None:
        leaf, ingest = dag.leaf(index), self._open_ingest
        if not leaf.length:
            return b""
        while ingest.prefix < leaf.offset + leaf.length:
            if self._ended or ingest.failure is not None:
                return None
            await ingest.wait_prefix(ingest.prefix)
        if self._ended:
            return None
        try:
            return Part(os.dup(ingest.fileno()), leaf.offset, leaf.length)
        except OSError as error:
            raise UnreachableError(f"{self.digest}: its file cannot be opened once more: {error.strerror}") from None

    @property
    def size(self) -> int | None:
        """Implements `Sink.size`."""
        return self._open_ingest.size

    @property
    def prefix(self) -> int:
        """Implements `Sink.prefix`."""
        return self._open_ingest.prefix

    def expect(self, size: int) -> None:
        """Implements `Sink.expect`."""
        self._open_ingest.expect(size)

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Implements `Sink.write`."""
        self._on_fetched(len(data))
        await self._open_ingest.write(offset, data)

    async def trust(self, dag: Dag) -> LeafWriter | None:
        """Implements `LeafSink.trust`: from now on it is known which blocks come."""
        place = await self._open_ingest.trust(dag)
        index = _indexed(dag) if dag.leaf_count <= _QUICK_LEAVES else await asyncio.to_thread(_indexed, dag)
        self._dag, self._leaves = dag, index
        self._nodes = {cid.hash: block for cid, block in dag.interior}
        self._moved.beat()
        return place

    async def landed(self, offset: int, length: int) -> None:
        """Implements `LeafSink.landed`."""
        self._on_fetched(length)
        await self._open_ingest.landed(offset, length)

    @property
    def _open_ingest(self) -> Ingest:
        assert self._ingest is not None, "peers write, and leaves are waited for, once the file is there"
        return self._ingest


def _indexed(dag: Dag) -> dict[bytes, int]:
    """Where each leaf is; one that comes several times is where it comes first."""
    hashes = dag.leaves
    backwards = range(dag.leaf_count - 1, -1, -1)
    return {hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES]: at for at in backwards}
