"""The store: everything one machine holds, and what it says about it."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from node.blobs import BlobFile, Ingest
from node.catalog import Audience, Changes, Holding, Visibility
from node.cid import Cid
from node.digest import Digest
from node.repositories import Proof, Repositories
from node.source import Wanted
from node.unixfs import Dag


@dataclass(frozen=True, slots=True)
class Block:
    """Where a block's bytes are: `data` for an interior node, else `length` bytes from `offset` on of `within`."""

    cid: Cid
    length: int
    visibility: Visibility
    data: bytes | None = None
    within: Holding | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """How much is held."""

    blobs: int
    store_bytes: int


class Store:
    """The blobs of one data folder. Made by `open_store`."""

    folder: Path
    repositories: Repositories
    generation: int
    """Grows whenever a blob is dropped, so that callers may remember "all here" for as long as it stays."""

    @property
    def node_id(self) -> str:
        """This node's name for itself, 32 hex digits; kept for as long as the catalog is."""
        raise NotImplementedError

    @property
    def log_id(self) -> str:
        """The change log's name, 32 hex digits; a new one means: start over from 0."""
        raise NotImplementedError

    @property
    def stats(self) -> Stats:
        """How much is held now."""
        raise NotImplementedError

    async def find(self, digest: Digest) -> Holding | None:
        """What is held under a digest; None when nothing is."""
        raise NotImplementedError

    async def find_cid(self, cid: Cid) -> Holding | None:
        """What is held under a file's root CID; None when nothing is."""
        raise NotImplementedError

    def read(self, digest: Digest) -> AbstractAsyncContextManager[BlobFile]:
        """Open a blob for reading. A file that was touched since it was verified is verified again first.

        Raises:
            NotFoundError: on entry, when it is not here, or was damaged (and is dropped now).
        """
        raise NotImplementedError

    async def load(self, digest: Digest, limit: int = 4 * 1024 * 1024) -> bytes:
        """A small blob's bytes, such as a manifest's.

        Raises:
            NotFoundError: when it is not here.
            InvalidError: when it is longer than `limit`.
        """
        raise NotImplementedError

    async def block(self, cid: Cid) -> Block:
        """Where a block is: a root, leaf or interior node of any blob held.

        Raises:
            NotFoundError: when it is part of no blob held.
        """
        raise NotImplementedError

    async def dag(self, digest: Digest) -> Dag | None:
        """The DAG of a blob held."""
        raise NotImplementedError

    def ingest(self, wanted: Wanted) -> AbstractAsyncContextManager[Ingest]:
        """Begin to write a blob; what is not committed is gone on exit.

        Raises:
            FullError: on entry, when no file can be made.
        """
        raise NotImplementedError

    async def put(self, digest: Digest, data: bytes, proof: Proof | None = None) -> Holding:
        """Keep a small blob.

        Raises:
            MismatchError: when `data` does not hash to `digest`.
            FullError: when the disk has no room.
        """
        raise NotImplementedError

    async def drop(self, digest: Digest) -> None:
        """Hold a blob no longer: catalog and log first, then the file. Readers keep what they have open."""
        raise NotImplementedError

    async def changes(self, since: int, audience: Audience, limit: int = 1000) -> Changes:
        """The log after `since`, as `audience` may see it."""
        raise NotImplementedError

    async def wait_changes(self, since: int) -> None:
        """Wait until the log has anything after `since` (for whichever audience)."""
        raise NotImplementedError

    async def scrub_once(self) -> Digest | None:
        """Verify the blob verified longest ago; a damaged one is dropped. None when the store is empty."""
        raise NotImplementedError


@asynccontextmanager
async def open_store(folder: Path, *, clock: Callable[[], float] = time.time) -> AsyncIterator[Store]:
    """Open a data folder, made when it is not there.

    Raises:
        StartError: when it is not writable, in use by another node, or no layermesh folder of a known version.
    """
    yield Store()
