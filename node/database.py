"""The SQLite database (WAL) behind the catalog and the repositories: one writer, one reader, no surprises.

Writes are jobs that one task runs in order, each in a transaction of its own and each to its end: whoever asked may be
cancelled, the job is not. `sqlite3` errors do not leave this module.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, TypeVar, cast

import aiosqlite
import structlog

from node.errors import FullError, StartError, UnreachableError
from node.schema import SCHEMA, SCHEMA_VERSION
from node.workers import Workers

T = TypeVar("T")
Row = Sequence[Any]
Values = Sequence[object] | Mapping[str, object]
_CACHE_KIB: Final = 4096
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_log: Final = structlog.get_logger(__name__)


_LAST_SEQ: Final = "SELECT max(ifnull((SELECT max(seq) FROM changes), 0), ifnull((SELECT max(seq) FROM tags), 0))"


class Transaction:
    """What a job may do; `touched` are the digests (as keys) whose rows it changed, `seq` the log's last number."""

    def __init__(self, connection: aiosqlite.Connection, seq: int) -> None:
        self._connection = connection
        self.seq = seq
        self.touched: set[bytes] = set()
        self.afterwards: list[Callable[[], Awaitable[None]]] = []
        """Done right after the commit, before the next job."""
        self.undo: list[Callable[[], Awaitable[None]]] = []
        """Done when the transaction fails."""

    def next_seq(self) -> int:
        """The log's next number."""
        self.seq += 1
        return self.seq

    async def run(self, sql: str, values: Values = ()) -> None:
        """Execute a statement."""
        await self._connection.execute_fetchall(sql, values)

    async def insert(self, sql: str, values: Values = ()) -> int:
        """Execute an INSERT; returns the row's id."""
        row = await self._connection.execute_insert(sql, values)
        return int(row[0]) if row else 0

    async def run_many(self, sql: str, rows: Iterable[Values]) -> None:
        """Execute a statement once for each row."""
        cursor = await self._connection.executemany(sql, rows)
        await cursor.close()

    async def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """Execute a query."""
        return list(await self._connection.execute_fetchall(sql, values))

    async def row(self, sql: str, values: Values = ()) -> Row | None:
        """Execute a query; its first row."""
        rows = await self.rows(sql, values)
        return rows[0] if rows else None


Job = Callable[[Transaction], Awaitable[T]]
Step = Callable[[], Awaitable[Any]]


class Database:
    """Opened by `open`; `serve` must run while it is used. The two callbacks run between jobs, in the event loop."""

    def __init__(self, path: Path, workers: Workers) -> None:
        self.path = path
        self.seq = 0
        """The log's last number."""
        self.meta: dict[str, str] = {}
        self.on_commit: Callable[[set[bytes], bool], None] = lambda _touched, _logged: None
        """Told which digests' rows changed, and whether the log grew."""
        self.on_renewal: Callable[[], None] = lambda: None
        """Told that a broken database was set aside, and that this one is empty."""
        self._workers = workers
        self._epoch = 0
        self._finished = False
        self._steps: asyncio.Queue[tuple[Step, asyncio.Future[Any]] | None] = asyncio.Queue()
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None

    async def open(self) -> None:
        """Connect; a missing database is made, a broken one set aside first.

        Raises:
            StartError: when it was written by a newer layermesh, or cannot be opened.
        """
        try:
            try:
                await self._connect()
            except sqlite3.DatabaseError as error:
                if not _is_broken(error):
                    raise
                await self._set_aside()
                await self._connect()
        except (sqlite3.Error, OSError) as error:
            await self._disconnect()
            raise StartError(
                f"{self.path}: the catalog cannot be opened ({error}): free some room on the disk, or make it writable"
            ) from None
        except BaseException:
            await self._disconnect()
            raise

    async def close(self) -> None:
        """Disconnect; everything committed is on the disk itself then."""
        if self._writer is not None:
            with suppress(sqlite3.Error, ValueError):
                await self._writer.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        await self._disconnect()

    async def serve(self) -> None:
        """Run what is asked for, in order, until `finish`."""
        while (item := await self._steps.get()) is not None:
            step, result = item
            try:
                value = await step()
            except sqlite3.Error as error:
                _fail(result, FullError(f"the catalog cannot be written: {error}"))
            except Exception as error:  # whoever asked gets it; the steps behind go on
                _fail(result, error)
            else:
                if not result.done():
                    result.set_result(value)

    def finish(self) -> None:
        """Let `serve` end behind what was asked for."""
        self._finished = True
        self._steps.put_nowait(None)

    async def write(self, job: Job[T]) -> T:
        """Run `job` in a transaction of its own. Once begun it is not cancelled with whoever asked.

        Raises:
            FullError: when the disk has no room, or the database cannot be written.
        """
        return cast(T, await self._ask(lambda: self._run(job)))

    async def read(self, sql: str, values: Values = ()) -> list[Row]:
        """Execute a query.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        for _ in range(2):
            epoch = self._epoch
            try:
                if self._reader is None:
                    break
                return list(await self._reader.execute_fetchall(sql, values))
            except (sqlite3.Error, ValueError) as error:  # ValueError: aiosqlite says so of a closed connection
                if epoch == self._epoch:
                    if not _is_broken(error):
                        raise UnreachableError(f"the catalog cannot be read: {error}") from None
                    await self._ask(partial(self._renew, epoch))
        raise UnreachableError("the catalog is closed")

    async def remember(self, name: str, value: str) -> None:
        """Keep a fact about this database under a name, in `meta`."""

        async def job(transaction: Transaction) -> None:
            await transaction.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

        await self.write(job)
        self.meta[name] = value

    async def _ask(self, step: Step) -> object:
        if self._finished:
            raise FullError("the catalog is closed")
        result: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._steps.put_nowait((step, result))
        return await result

    async def _run(self, job: Job[T]) -> T:
        epoch = self._epoch
        try:
            return await self._transact(job)
        except sqlite3.Error as error:
            if not _is_broken(error):
                raise
        await self._renew(epoch)
        return await self._transact(job)

    async def _transact(self, job: Job[T]) -> T:
        if self._writer is None:
            raise FullError("the catalog is closed")
        transaction = Transaction(self._writer, self.seq)
        try:
            await transaction.run("BEGIN IMMEDIATE")
            result = await job(transaction)
            await transaction.run("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error, ValueError):
                await self._writer.rollback()
            for undo in transaction.undo:
                await undo()
            raise
        logged, self.seq = transaction.seq > self.seq, transaction.seq
        self.on_commit(transaction.touched, logged)
        for afterwards in transaction.afterwards:
            await afterwards()
        return result

    async def _renew(self, epoch: int) -> None:
        if epoch != self._epoch:
            return  # another reader found it first
        _log.error("catalog damaged: set aside, a new one is made from the blobs on disk", path=str(self.path))
        await self._disconnect()
        await self._set_aside()
        await self._connect()
        self._epoch += 1
        self.on_renewal()

    async def _connect(self) -> None:
        await self._workers.on_disk(_remove_leftovers, self.path)
        self._writer = await _connect(self.path)
        version = int((await _one(self._writer, "PRAGMA user_version"))[0])
        if version > SCHEMA_VERSION:
            raise StartError(f"{self.path}: written by a newer layermesh (version {version}): run that one")
        if version == 0:
            await self._writer.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        await self._load_meta(self._writer)
        newest = await _one(
            self._writer,
            _LAST_SEQ,
        )
        self.seq = int(newest[0] or 0)
        self._reader = await _connect(self.path)
        await self._reader.execute_fetchall("PRAGMA query_only = ON")

    async def _load_meta(self, writer: aiosqlite.Connection) -> None:
        born = {
            "node_id": self.meta.get("node_id", token_hex(16)),
            "log_id": token_hex(16),
            "adopting": "1",
            "clean": "0",
        }
        cursor = await writer.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", list(born.items()))
        await cursor.close()
        self.meta = {str(row[0]): str(row[1]) for row in await writer.execute_fetchall("SELECT name, value FROM meta")}

    async def _set_aside(self) -> None:
        await self._disconnect()
        await self._workers.on_disk(self.path.replace, self.path.with_name(f"{self.path.name}.damaged"))

    async def _disconnect(self) -> None:
        reader, writer = self._reader, self._writer
        self._reader = self._writer = None
        for connection in (reader, writer):
            if connection is not None:
                with suppress(sqlite3.Error, ValueError):
                    await connection.close()


async def _connect(path: Path) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(path, isolation_level=None, timeout=5)
    try:
        for setting in ("journal_mode = WAL", "synchronous = NORMAL", f"cache_size = -{_CACHE_KIB}"):
            await connection.execute_fetchall(f"PRAGMA {setting}")
    except BaseException:
        await connection.close()
        raise
    return connection


async def _one(connection: aiosqlite.Connection, sql: str) -> Row:
    (row,) = await connection.execute_fetchall(sql)
    return row


def _remove_leftovers(path: Path) -> None:
    if not path.exists():
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_broken(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _BROKEN


def _fail(result: "asyncio.Future[Any]", error: Exception) -> None:
    if not result.done():
        result.set_exception(error)
