"""The files and the rows that speak of them, kept in step: a row without its file, or with another, does not last."""

import asyncio
import errno
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final

import structlog

from node.catalog import Catalog, Holding
from node.connection import Transaction
from node.database import Database
from node.digest import Digest
from node.edits import recorded
from node.errors import FullError, NotFoundError
from node.folder import Folder
from node.growing import reason
from node.hashing import DigestPass, LeafPass, Pass, run_through
from node.holding import Entry, Stamp, key_of
from node.records import RESTORED
from node.reference import OWN
from node.source import Wanted
from node.unixfs import Dag, build_dag
from node.visibility import FOREVER, Proof, Shown, Visibility
from node.workers import Workers

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO})
_TRIES: Final = 3
_log: Final = structlog.get_logger(__name__)


class Shelf:
    """Puts blobs up, takes them down, and looks whether they are still what they were."""

    def __init__(self, folder: Folder, database: Database, catalog: Catalog, workers: Workers) -> None:
        self.folder = folder
        self.catalog = catalog
        self.database = database
        self.workers = workers
        self.unsynced = asyncio.Event()
        """Set when a blob was kept whose file may not be on the disk itself yet."""
        self._checking = asyncio.Lock()

    async def keep(self, wanted: Wanted, incoming: Path, dag: Dag, proof: Proof | None, at_most: Visibility) -> Holding:
        """Take a verified file: its name, then its row, then the log. It happens whole, whoever is cancelled.

        It may be seen as `proof` says, and by `at_most` as the repository says that it was fetched for; others' links
        count not. `SHARED` says that members gave it who share it.

        Raises:
            FullError: when the disk has no room; the file is gone then.
        """
        digest = wanted.digest

        def job(transaction: Transaction) -> Holding:
            held = self.catalog.stamp(transaction, digest)
            stamp = self.folder.place(incoming, digest, held)
            if held is None:
                transaction.undo.append(partial(self._remove, digest))
            proven = Shown.by(proof) | self.catalog.shown_in(transaction, wanted).capped(at_most)
            self.catalog.note_fetched(transaction, wanted, lent=at_most is Visibility.SHARED)
            return self.catalog.keep(transaction, digest, dag, stamp, proven)

        try:
            holding = await self.database.write(job)
        except OSError as error:
            raise FullError(f"{digest}: the data folder cannot take it: {reason(error)}") from None
        self.unsynced.set()
        return holding

    async def sync(self, digest: Digest) -> None:
        """Make a blob survive a loss of power.

        Raises:
            NotFoundError: when its file is gone.
            FullError: when the disk does not take it.
        """
        try:
            await self.workers.on_disk(self.folder.sync, digest)
        except FileNotFoundError:
            if (entry := await self.catalog.entry(digest)) is not None:
                await self._damaged(entry, "its file is gone")
            raise NotFoundError(f"{digest}: its file is gone") from None
        except OSError as error:
            raise FullError(f"{digest}: the disk does not take it: {reason(error)}") from None

    async def drop(self, digest: Digest, only: Stamp | None = None) -> bool:
        """Hold a blob no longer; with `only`, if its file was last verified as that. False: nothing to do.

        Raises:
            FullError: when the catalog cannot be written.
        """

        def job(transaction: Transaction) -> bool:
            dropped = self.catalog.drop(transaction, digest, only)
            if dropped:
                transaction.afterwards.append(partial(self.workers.on_disk, self._remove, digest))
            return dropped

        return await self.database.write(job)

    async def open(self, entry: Entry) -> FileIO:
        """Open a blob's file. One that does not look as it did when it was verified is verified again first.

        Raises:
            NotFoundError: when it is gone or damaged, and is held no longer.
        """
        for _ in range(_TRIES):
            file, size, stamp = await self._open(entry)
            if size == entry.size and stamp == entry.stamp:
                return file
            await self._close(file)
            entry = await self._checked(entry)
        raise NotFoundError(f"{entry.digest}: its file keeps changing")

    async def check(self, entry: Entry, ease: float = 0.0) -> None:
        """Verify a blob's file, whatever it looks like; with `ease`, rest that many times as long as it takes.

        Raises:
            NotFoundError: when it is gone or damaged, and is held no longer.
        """
        file, size, stamp = await self._open(entry)
        try:
            over = DigestPass(entry.digest)
            sound = size == entry.size and await self._hash(file, size, ease, over) and over.agrees(entry.digest)
        finally:
            await self._close(file)
        if not sound:
            await self._damaged(entry, "its bytes do not hash to its name")
        await self.database.write(partial(self.catalog.verified, entry, stamp))

    async def adopt(self, digest: Digest, ease: float = 0.0) -> None:
        """Enter a file that has no row, if its bytes are right; else remove it.

        It is private until it is proved anew, unless its bytes came for an own repository that has it.

        Raises:
            FullError: when the catalog cannot be written.
        """
        try:
            file, size, stamp = await self.workers.on_disk(self.folder.open, digest)
        except OSError:
            return
        try:
            over, leaves = DigestPass(digest), LeafPass()
            sound = await self._hash(file, size, ease, over, leaves) and over.agrees(digest)
        finally:
            await self._close(file)
        dag = await self.workers.hashed(build_dag, size, leaves.hashes()) if sound else None
        await self.database.write(partial(self._adopted, digest, dag, stamp))
        self.unsynced.set()

    def _adopted(self, digest: Digest, dag: Dag | None, stamp: Stamp, transaction: Transaction) -> None:
        if self.catalog.stamp(transaction, digest) is not None or not self.folder.blob(digest).exists():
            return  # it came the usual way meanwhile, or was dropped
        _log.info("file without a row", digest=str(digest), action="removed" if dag is None else "adopted")
        if dag is None:
            self._remove(digest)
        else:
            shown = Shown(members_until=FOREVER) if self._was_given(transaction, digest) else Shown()
            self.catalog.keep(transaction, digest, dag, stamp, shown)

    def _was_given(self, transaction: Transaction, digest: Digest) -> bool:
        """Whether its bytes came here for an own repository that has it; what records claim alone shows nothing."""
        sql = "SELECT name FROM fetched JOIN repositories ON id = repository WHERE namespace = ? AND digest = ?"
        names = [str(name) for (name,) in transaction.rows(sql, (OWN, key_of(digest)))]
        return any(recorded(None if name == RESTORED else name, digest, transaction) for name in names)

    async def _checked(self, entry: Entry) -> Entry:
        async with self._checking:  # whoever comes second finds it done
            fresh = await self.catalog.entry(entry.digest)
            if fresh is not None and fresh.stamp == entry.stamp:
                await self.check(fresh)
                fresh = await self.catalog.entry(entry.digest)
        if fresh is None:
            raise NotFoundError(f"{entry.digest}: not here")
        return fresh

    async def _hash(self, file: FileIO, size: int, ease: float, *passes: Pass) -> bool:
        try:
            await run_through(self.workers, file.fileno(), size, *passes, ease=ease)
        except OSError:
            return False
        return True

    async def _open(self, entry: Entry) -> tuple[FileIO, int, Stamp]:
        opening = asyncio.get_running_loop().run_in_executor(self.workers.disk, self.folder.open, entry.digest)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: None if done.exception() else self.let_go(done.result()[0]))
            raise
        except OSError as error:
            if error.errno in _GONE or isinstance(error, FileNotFoundError):
                await self._damaged(entry, "its file is gone")
            raise NotFoundError(f"{entry.digest}: cannot be read now: {reason(error)}") from None

    async def _damaged(self, entry: Entry, how: str) -> None:
        with suppress(FullError):  # then it is found again when the catalog can be written
            if await self.drop(entry.digest, only=entry.stamp):
                _log.warning("blob dropped", digest=str(entry.digest), reason=how)
        raise NotFoundError(f"{entry.digest}: {how}")

    async def _close(self, file: FileIO) -> None:
        await self.workers.on_disk(file.close)

    def let_go(self, file: FileIO) -> None:
        """Close a file without waiting for it."""
        self.workers.disk.submit(file.close)

    def _remove(self, digest: Digest) -> None:
        try:
            self.folder.remove(digest)
        except OSError as error:
            _log.warning("file not removed", digest=str(digest), reason=reason(error))
