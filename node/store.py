"""The store: everything one machine holds, and what it says about it."""

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from node.blobs import BlobFile, Ingest, ingesting
from node.catalog import Audience, Catalog, Changes, Holding, Visibility
from node.cid import Cid, Codec
from node.database import Database
from node.digest import Digest
from node.errors import InvalidError, NotFoundError, UnreachableError
from node.folder import open_folder
from node.foreign import Foreign
from node.holding import Entry
from node.lent import Lent
from node.owned import Owned
from node.reference import Repository
from node.repositories import Proof, Repositories
from node.shelf import Shelf
from node.source import Wanted
from node.tasks import in_background
from node.unixfs import LEAF_BYTES, Dag, build_dag
from node.upkeep import Upkeep
from node.uploads import Uploads
from node.workers import Workers

_NO_REPOSITORY: Final = Repository("localhost", "put")
_REMEMBERED_BYTES: Final = 16 * 1024 * 1024
_SMALL_BYTES: Final = 1024 * 1024
_LISTED_AT_ONCE: Final = 1000
_SPARED_BYTES: Final = 1024 * 1024 * 1024
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Block:
    """Where a block's bytes are: `data`, as interior nodes have it, or `length` bytes of `within` from `offset` on."""

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

    def __init__(self, shelf: Shelf, upkeep: Upkeep, clock: Callable[[], float], elapsed: Callable[[], float]) -> None:
        self.folder: Path = shelf.folder.path
        self.repositories = Repositories(shelf.database, clock)
        self.owned = Owned(shelf.database, clock)
        self.lent = Lent(shelf.database)
        self.foreign = Foreign(shelf.database, shelf.workers, clock)
        self.uploads = Uploads(shelf.folder.uploads, shelf, clock, elapsed)
        self._shelf = shelf
        self._catalog = shelf.catalog
        self._upkeep = upkeep
        self._clock = clock
        self._small = _Small()

    @property
    def generation(self) -> int:
        """Grows whenever a blob is dropped, so that callers may remember "all here" for as long as it stays."""
        return self._catalog.generation

    @property
    def node_id(self) -> str:
        """This node's name for itself, 32 hex digits; kept for as long as the catalog is."""
        return self._shelf.database.meta["node_id"]

    @property
    def log_id(self) -> str:
        """The change log's name, 32 hex digits; a new one means: start over from 0."""
        return self._shelf.database.meta["log_id"]

    @property
    def stats(self) -> Stats:
        """How much is held now."""
        return Stats(self._catalog.blobs, self._catalog.store_bytes)

    async def room(self) -> int:
        """How many bytes fit on the disk until it is nearly full, with a twentieth or 1 GiB left; 0 when unknown."""
        try:
            disk = await self._shelf.workers.on_disk(os.statvfs, self.folder)
        except OSError:
            return 0
        return disk.f_frsize * disk.f_bavail - min(_SPARED_BYTES, disk.f_frsize * disk.f_blocks // 20)

    async def find(self, digest: Digest) -> Holding | None:
        """What is held under a digest; None when nothing is, or the catalog cannot be read now."""
        try:
            entry = await self._catalog.entry(digest)
        except UnreachableError as error:
            _log.warning("not found for lack of a catalog", digest=str(digest), reason=str(error))
            return None
        return entry.holding(self._clock()) if entry else None

    async def missing(self, digests: Sequence[Digest], *, shown: bool = False) -> set[Digest]:
        """Those of them that are not held; with `shown`, also what is private here.

        All of them when the catalog cannot be read now.
        """
        try:
            return set(await self._catalog.missing(digests, shown=shown))
        except UnreachableError as error:
            _log.warning("not found for lack of a catalog", reason=str(error))
            return set(digests)

    async def find_cid(self, cid: Cid) -> Holding | None:
        """What is held under a file's root CID; None when nothing is.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        entry = await self._catalog.entry_of_cid(cid)
        return entry.holding(self._clock()) if entry else None

    async def dropped(self, digest: Digest) -> tuple[Cid, int] | None:
        """The CID and size of a blob that was here once; None when it was not, or that cannot be told now."""
        try:
            return await self._catalog.dropped(digest)
        except UnreachableError:
            return None

    async def holdings(self) -> AsyncGenerator[Holding, None]:
        """Everything that is held, in the order in which it came. Close it (`aclosing`) to stop early.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        entries = await self._catalog.entries(0, _LISTED_AT_ONCE)
        while entries:
            for entry in entries:
                yield entry.holding(self._clock())
            entries = await self._catalog.entries(entries[-1].id, _LISTED_AT_ONCE)

    @asynccontextmanager
    async def read(self, digest: Digest) -> AsyncIterator[BlobFile]:
        """Open a blob for reading. A file that was touched since it was verified is verified again first.

        Raises:
            NotFoundError: on entry, when it is not here, or was damaged (and is dropped now).
            UnreachableError: on entry, when the catalog cannot be read.
        """
        entry = await self._entry(digest)
        file = await self._shelf.open(entry)
        try:
            yield BlobFile(entry.holding(self._clock()), file, self._shelf.folder.blob(digest))
        finally:
            self._shelf.let_go(file)

    async def load(self, digest: Digest, limit: int = 4 * 1024 * 1024) -> bytes:
        """A small blob's bytes, such as a manifest's, verified as they are read; remembered in memory for a while.

        Raises:
            NotFoundError: when it is not here, or was damaged (and is dropped now).
            InvalidError: when it is longer than `limit`.
            UnreachableError: when the catalog cannot be read.
        """
        data = self._small.get(digest, self.generation)
        if data is None:
            data = await self._load(digest, limit)
            self._small.put(digest, data, self.generation)
        if len(data) > limit:
            raise InvalidError(f"{digest}: {len(data)} bytes, at most {limit} are read at once")
        return data

    async def block(self, cid: Cid) -> Block:
        """Where a block is: a root, leaf or interior node of any blob held, or a foreign one that is kept.

        Raises:
            NotFoundError: when it is not here.
            UnreachableError: when the catalog cannot be read.
        """
        block = await self._block_of_blob(cid)
        if block is None or block.visibility is not Visibility.PUBLIC:  # others may have brought it for more to see
            kept = await self.foreign.block(cid)
            if kept is not None and (block is None or kept.visibility.opens_more_than(block.visibility)):
                block = Block(cid, kept.length, kept.visibility, kept.data, kept.within, kept.offset)
        if block is None:
            raise NotFoundError(f"{cid}: not here")
        return block

    async def _block_of_blob(self, cid: Cid) -> Block | None:
        now = self._clock()
        if cid.codec is Codec.DAG_PB:
            if (node := await self._catalog.interior(cid)) is not None:
                return Block(cid, len(node[1]), node[0].shown.at(now), data=node[1])
        elif (leaf := await self._catalog.entry_of_leaf(cid)) is not None:
            within, offset = leaf[0].holding(now), leaf[1] * LEAF_BYTES
            return Block(cid, min(LEAF_BYTES, within.size - offset), within.visibility, within=within, offset=offset)
        return None

    async def dag(self, digest: Digest) -> Dag | None:
        """The DAG of a blob held; None when it is not here.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        entry = await self._catalog.entry(digest)
        leaves = await self._catalog.leaves(entry) if entry else None
        if entry is None or leaves is None:
            return None
        return await self._shelf.workers.hashed(build_dag, entry.size, leaves)

    def ingest(self, wanted: Wanted) -> AbstractAsyncContextManager[Ingest]:
        """Begin to write a blob; what is not committed is gone on exit. That no file can be made shows when writing."""
        shelf = self._shelf
        return ingesting(wanted, shelf.folder.incoming, shelf.workers, shelf.keep, self.dropped)

    async def put(
        self, digest: Digest, data: bytes, proof: Proof | None = None, repository: Repository = _NO_REPOSITORY
    ) -> Holding:
        """Keep a small blob, which came from `repository`.

        Raises:
            MismatchError: when `data` does not hash to `digest`.
            FullError: when the disk has no room.
        """
        async with self.ingest(Wanted(repository, digest, len(data))) as ingest:
            await ingest.write(0, data)
            return await ingest.commit(proof)

    async def sync(self, digest: Digest) -> None:
        """Make a blob survive a loss of power.

        Raises:
            NotFoundError: when its file is gone.
            FullError: when the disk does not take it.
        """
        await self._shelf.sync(digest)

    async def drop(self, digest: Digest) -> None:
        """Hold a blob no longer: catalog and log first, then the file. Readers keep what they have open.

        Raises:
            FullError: when the catalog cannot be written.
        """
        await self._shelf.drop(digest)

    async def changes(self, since: int, audience: Audience, limit: int = 1000) -> Changes:
        """The log after `since`, as `audience` may see it.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        return await self._catalog.changes(since, audience, limit)

    async def wait_changes(self, since: int) -> None:
        """Wait until the log has anything after `since` (for whichever audience), or is another one."""
        log_id = self.log_id
        while self._shelf.database.seq <= since and self.log_id == log_id:
            await self._catalog.news.wait()

    async def sweep(self) -> None:
        """Log what may no longer be seen because its proof expired; the store does so by itself now and then.

        Raises:
            FullError: when the catalog cannot be written.
        """
        await self._catalog.sweep()

    async def scrub_once(self) -> Digest | None:
        """Verify the blob verified longest ago; a damaged one is dropped. None when the store is empty.

        Raises:
            UnreachableError: when the catalog cannot be read.
            FullError: when it cannot be written.
        """
        return await self._upkeep.scrub()

    async def check(self, digest: Digest) -> None:
        """Verify a blob now, whatever its file looks like.

        Raises:
            NotFoundError: when it is not here, or was damaged (and is dropped now).
            UnreachableError: when the catalog cannot be read.
        """
        await self._shelf.check(await self._entry(digest))

    async def settled(self) -> None:
        """Wait until files without rows, after a crash or the loss of the catalog, were adopted or removed."""
        await self._upkeep.adopted.wait()

    async def _entry(self, digest: Digest) -> Entry:
        entry = await self._catalog.entry(digest)
        if entry is None:
            raise NotFoundError(f"{digest}: not here")
        return entry

    async def _load(self, digest: Digest, limit: int) -> bytes:
        entry = await self._entry(digest)
        if entry.size > limit:
            raise InvalidError(f"{digest}: {entry.size} bytes, at most {limit} are read at once")
        file = await self._shelf.open(entry)
        try:
            data = await self._shelf.workers.on_disk(os.pread, file.fileno(), entry.size, 0)
        except OSError:
            data = b""
        finally:
            self._shelf.let_go(file)
        if Digest.of(data, digest.algorithm) != digest:
            await self._shelf.check(entry)
            raise NotFoundError(f"{digest}: cannot be read now")
        return data


class _Small:
    """The small blobs read last, for as long as no blob is dropped."""

    def __init__(self) -> None:
        self._generation = 0
        self._bytes = 0
        self._data: OrderedDict[Digest, bytes] = OrderedDict()

    def get(self, digest: Digest, generation: int) -> bytes | None:
        """The bytes, if they are remembered."""
        if generation != self._generation:
            self._generation, self._bytes = generation, 0
            self._data.clear()
        if digest in self._data:
            self._data.move_to_end(digest)
        return self._data.get(digest)

    def put(self, digest: Digest, data: bytes, generation: int) -> None:
        """Remember bytes that were read in a generation."""
        if len(data) > _SMALL_BYTES or generation != self._generation or digest in self._data:
            return
        self._data[digest] = data
        self._bytes += len(data)
        while self._bytes > _REMEMBERED_BYTES:
            self._bytes -= len(self._data.popitem(last=False)[1])


@asynccontextmanager
async def open_store(
    folder: Path,
    *,
    shared: Collection[str] = (),
    granted: Mapping[str, bool] | None = None,
    clock: Callable[[], float] = time.time,
    elapsed: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Store]:
    """Open a data folder, made when it is not there. `clock` gives unix seconds, `elapsed` what no setting changes.

    `shared` are the registry namespaces whose private content members may have, `granted` those whose private content
    this node's clients may have: all of them (True), or those who prove a right to it (False).

    Raises:
        StartError: when it is not writable, in use by another node, or no layermesh folder of a known version.
    """
    async with AsyncExitStack() as stack:
        held = await asyncio.to_thread(open_folder, folder)
        stack.callback(held.close)
        workers = Workers()
        stack.push_async_callback(workers.close)
        database = Database(held.catalog, workers, shared, granted)
        stack.push_async_callback(database.close)
        await database.open()
        catalog = Catalog(database, clock)
        shelf = Shelf(held, database, catalog, workers)
        await stack.enter_async_context(in_background(database.serve(), stop=database.finish))
        await catalog.count()
        upkeep = Upkeep(shelf, clock)
        await stack.enter_async_context(upkeep.beside())
        store = Store(shelf, upkeep, clock, elapsed)
        stack.push_async_callback(store.uploads.close)
        upkeep.now_and_then = (store.uploads.expire, store.owned.purge, store.foreign.expire)
        yield store
