"""The peers' logs on disk, so that a node that starts anew need not read them again. A cache: it may be lost.

Tables (SQLite, WAL, in DATA/cluster.db): `peers(id, log, since, proven, read_at)` and `lines(peer, key, line)`, where a
line is a msgpack array as the peer sent it and `key` is what a later line replaces; `reader(log)` names the catalog
that took in the records of own repositories, of which only those are kept here whose time has not come.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiosqlite
import msgpack
import msgspec

from cluster.directory.log import Update, line_key
from cluster.messages import DropLine, Line
from node.errors import LayermeshError

SCHEMA: Final = 2
KEEP_PEERS: Final = 1024
BATCH: Final = 500
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS peers (
    id TEXT PRIMARY KEY, log TEXT NOT NULL, since INTEGER NOT NULL, proven INTEGER NOT NULL, read_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS lines (
    peer TEXT NOT NULL, key TEXT NOT NULL, line BLOB NOT NULL, PRIMARY KEY (peer, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reader (log TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class CacheError(LayermeshError):
    """The cache cannot be read or written; go on without it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """How far a peer's log was read."""

    log_id: str
    since: int


class LogCache:
    """The kept logs. Made by `open_cache`."""

    def __init__(self, database: aiosqlite.Connection) -> None:
        self._database = database
        self._lock = asyncio.Lock()

    async def find(self, peer_id: str, *, proven: bool) -> Kept | None:
        """A peer's log, if it was read with the same proof of who the peer is as now.

        Raises:
            CacheError: when the file is damaged.
        """
        query = "SELECT log, since FROM peers WHERE id = ? AND proven = ?"
        try:
            found = list(await self._database.execute_fetchall(query, (peer_id, proven)))
        except sqlite3.Error as error:
            raise CacheError(f"cluster.db: {error}") from None
        return Kept(str(found[0][0]), int(found[0][1])) if found else None

    async def lines(self, peer_id: str) -> AsyncIterator[list[Line]]:
        """A peer's lines, some at a time.

        Raises:
            CacheError: when the file is damaged.
        """
        try:
            async with self._database.execute("SELECT line FROM lines WHERE peer = ?", (peer_id,)) as cursor:
                while rows := list(await cursor.fetchmany(BATCH)):
                    yield [_unpack(row[0]) for row in rows]
        except (sqlite3.Error, ValueError, TypeError, msgspec.ValidationError) as error:
            raise CacheError(f"cluster.db: {error}") from None

    async def keep(self, peer_id: str, update: Update, now: float, *, proven: bool) -> None:
        """Keep what a page changed, and how far the log was read. After a gap the peer is forgotten.

        Raises:
            CacheError: when it cannot be written.
        """
        rows = [(peer_id, line_key(line), _pack(line)) for line in update.lines if not isinstance(line, DropLine)]
        dropped = [(peer_id, line_key(line)) for line in update.lines if isinstance(line, DropLine)]
        dropped += [(peer_id, key) for key in update.gone]
        async with self._transaction():
            if update.fresh or await self._reached(peer_id, update, proven):
                if update.fresh:
                    await self._database.execute("DELETE FROM lines WHERE peer = ?", (peer_id,))
                await self._database.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?, ?)", rows)
                await self._database.executemany("DELETE FROM lines WHERE peer = ? AND key = ?", dropped)
                row = (peer_id, update.log_id, update.upto, proven, now)
                await self._database.execute("INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?, ?)", row)
            else:
                await self._forget(peer_id)

    async def forget(self, peer_id: str) -> None:
        """Keep nothing of a peer any more.

        Raises:
            CacheError: when it cannot be written.
        """
        async with self._transaction():
            await self._forget(peer_id)

    async def prune(self, most_lines: int, keep: int = KEEP_PEERS) -> None:
        """Keep only the peers read last, as many as have about so many lines together.

        Raises:
            CacheError: when it cannot be written.
        """
        total = 0
        try:
            counts = await self._database.execute_fetchall(
                "SELECT count(line) FROM peers LEFT JOIN lines ON peer = id GROUP BY id ORDER BY read_at DESC"
            )
        except sqlite3.Error as error:
            raise CacheError(f"cluster.db: {error}") from None
        for place, (count,) in enumerate(counts):
            total += count
            if total > most_lines:
                keep = min(keep, place)
        last = "SELECT id FROM peers ORDER BY read_at DESC LIMIT ?"
        async with self._transaction():
            await self._database.execute(f"DELETE FROM lines WHERE peer NOT IN ({last})", (keep,))
            await self._database.execute(f"DELETE FROM peers WHERE id NOT IN ({last})", (keep,))

    async def _reached(self, peer_id: str, update: Update, proven: bool) -> bool:
        row = (peer_id, update.log_id, update.since, proven)
        query = "SELECT 1 FROM peers WHERE id = ? AND log = ? AND since = ? AND proven = ?"
        return bool(list(await self._database.execute_fetchall(query, row)))

    async def _forget(self, peer_id: str) -> None:
        await self._database.execute("DELETE FROM lines WHERE peer = ?", (peer_id,))
        await self._database.execute("DELETE FROM peers WHERE id = ?", (peer_id,))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        async with self._lock:
            try:
                yield
                await self._database.commit()
            except sqlite3.Error as error:
                await self._roll_back()
                raise CacheError(f"cluster.db: {error}") from None
            except BaseException:
                await self._roll_back()
                raise

    async def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            await self._database.rollback()


@asynccontextmanager
async def open_cache(folder: Path, reader: str) -> AsyncIterator[LogCache]:
    """Open DATA/cluster.db; one that is damaged, of another version, or read for another catalog is made anew.

    `reader` is the id of the catalog's own log: a catalog that began anew has to be told all records again.

    Raises:
        CacheError: when not even a new one can be made.
    """
    path = folder / "cluster.db"
    try:
        database = await _open(path, reader)
    except sqlite3.Error:
        try:
            await asyncio.to_thread(_remove, path)
            database = await _open(path, reader)
        except (sqlite3.Error, OSError) as error:
            raise CacheError(f"{path.name}: {error}") from None
    try:
        yield LogCache(database)
    finally:
        await database.close()


async def _open(path: Path, reader: str) -> aiosqlite.Connection:
    database = await aiosqlite.connect(path)
    try:
        found = list(await database.execute_fetchall("PRAGMA user_version"))
        if found[0][0] not in (0, SCHEMA):
            raise sqlite3.DatabaseError("another version")
        await database.execute("PRAGMA journal_mode = WAL")
        await database.execute("PRAGMA synchronous = NORMAL")
        await database.executescript(f"{_TABLES} PRAGMA user_version = {SCHEMA};")
        if found[0][0] == 0:
            await database.execute("INSERT OR IGNORE INTO reader VALUES (?)", (reader,))
            await database.commit()
        if list(await database.execute_fetchall("SELECT log FROM reader")) != [(reader,)]:
            raise sqlite3.DatabaseError("another catalog's")
    except BaseException:
        await database.close()
        raise
    return database


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _unpack(data: bytes) -> Line:
    line: Line = msgspec.convert(msgpack.unpackb(data), Line, builtin_types=(bytes,))
    return line


def _pack(line: Line) -> bytes:
    return bytes(msgpack.packb(msgspec.to_builtins(line, builtin_types=(bytes,))))
