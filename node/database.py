"""The SQLite database (WAL) behind the catalog and the repositories: one writer, one reader, no surprises.

Writes are jobs that one task hands to the writer's thread in order, each in a transaction of its own and each to its
end: whoever asked may be cancelled, the job is not. `sqlite3` errors do not leave this module.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, TypeVar, cast

import structlog

from node.connection import Connection, Query, Transaction, Values
from node.connection import Row as Row
from node.errors import FullError, StartError, UnreachableError
from node.salvage import SIDE_FILES, salvage, salvaged, set_aside
from node.schema import SCHEMA, SCHEMA_VERSION, UPGRADES
from node.sharing import grant, share
from node.workers import Workers

T = TypeVar("T")
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LAST_SEQ: Final = "SELECT max({})".format(
    ", ".join(f"ifnull((SELECT max(seq) FROM {table}), 0)" for table in ("changes", "tags", "records", "shared"))
)
_log: Final = structlog.get_logger(__name__)


Job = Callable[[Transaction], T]
"""A plain function: it runs in the writer's thread as one, and touches nothing that the event loop owns."""
Step = Callable[[], Awaitable[Any]]


class Database:
    """Opened by `open`; `serve` must run while it is used. The two callbacks run between jobs, in the event loop.

    `shared` are the registry namespaces whose private content members may have, `granted` those whose private content
    this node's clients may have (see `node.sharing.grant`).
    """

    def __init__(
        self, path: Path, workers: Workers, shared: Collection[str] = (), granted: Mapping[str, bool] | None = None
    ) -> None:
        self.path = path
        self._shared = shared
        self._granted = granted or {}
        self.seq = 0
        """The log's last number."""
        self.epoch = 0
        """How often it had to begin anew, empty."""
        self.meta: dict[str, str] = {}
        self.on_commit: Callable[[set[bytes], bool], None] = lambda _touched, _logged: None
        """Told which digests' rows changed, and whether the log grew."""
        self.on_renewal: Callable[[], None] = lambda: None
        """Told that a broken database was set aside, and that this one is empty."""
        self._workers = workers
        self._finished = False
        self._steps: asyncio.Queue[tuple[Step, asyncio.Future[Any]] | None] = asyncio.Queue()
        self._writer: Connection | None = None
        self._reader: Connection | None = None

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
            with suppress(sqlite3.Error):
                await self._writer.ask(lambda query: query.rows("PRAGMA wal_checkpoint(TRUNCATE)"))
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

    async def write(self, job: Job[T], *, durable: bool = False) -> T:
        """Run `job` in a transaction of its own. It is not cancelled with whoever asked.

        A `durable` one, and all before it, has survived a loss of power once this returns; another a crash alone.

        Raises:
            FullError: when the disk has no room, or the database cannot be written.
        """
        return cast(T, await self._ask(lambda: self._run(job, durable)))

    async def read(self, sql: str, values: Values = ()) -> list[Row]:
        """Execute a query.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        return await self.ask(lambda query: query.rows(sql, values))

    async def ask(self, work: Callable[[Query], T]) -> T:
        """Run `work` in the reader's thread: several queries in one go.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        for _ in range(2):
            epoch = self.epoch
            try:
                if self._reader is None:
                    break
                return await self._reader.ask(work)
            except sqlite3.Error as error:
                if epoch == self.epoch:
                    if not _is_broken(error):
                        raise UnreachableError(f"the catalog cannot be read: {error}") from None
                    await self._ask(partial(self._renew, epoch))
        raise UnreachableError("the catalog is closed")

    async def remember(self, name: str, value: str) -> None:
        """Keep a fact about this database under a name, in `meta`."""

        await self.write(
            lambda transaction: transaction.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
        )
        self.meta[name] = value

    async def _ask(self, step: Step) -> object:
        if self._finished:
            raise FullError("the catalog is closed")
        result: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._steps.put_nowait((step, result))
        return await result

    async def _run(self, job: Job[T], durable: bool) -> T:
        epoch = self.epoch
        try:
            return await self._transact(job, durable)
        except sqlite3.Error as error:
            if not _is_broken(error):
                raise
        await self._renew(epoch)
        return await self._transact(job, durable)

    async def _transact(self, job: Job[T], durable: bool) -> T:
        if self._writer is None:
            raise FullError("the catalog is closed")
        result, transaction = await self._writer.transact(job, self.seq, durable)
        logged, self.seq = transaction.seq > self.seq, transaction.seq
        self.on_commit(transaction.touched, logged)
        for afterwards in transaction.afterwards:
            await afterwards()
        return result

    async def _renew(self, epoch: int) -> None:
        if epoch != self.epoch:
            return  # another reader found it first
        _log.error("catalog damaged: set aside, a new one is made from the blobs on disk", path=str(self.path))
        await self._disconnect()
        await self._set_aside()
        await self._connect()
        self.epoch += 1
        self.on_renewal()

    async def _connect(self) -> None:
        await self._workers.on_disk(_remove_leftovers, self.path)
        self._writer = Connection(self.path)
        await self._writer.open()
        self.meta, self.seq = await self._writer.run(
            partial(_prepare, self.path, self.meta.get("node_id"), self._shared, self._granted)
        )
        self._reader = Connection(self.path)
        await self._reader.open()
        await self._reader.ask(lambda query: query.rows("PRAGMA query_only = ON"))

    async def _set_aside(self) -> None:
        await self._disconnect()
        await self._workers.on_disk(set_aside, self.path)

    async def _disconnect(self) -> None:
        reader, writer = self._reader, self._writer
        self._reader = self._writer = None
        for connection in (reader, writer):
            if connection is not None:
                with suppress(sqlite3.Error):
                    await connection.close()


def _prepare(
    path: Path,
    node_id: str | None,
    shared: Collection[str],
    granted: Mapping[str, bool],
    connection: sqlite3.Connection,
) -> tuple[dict[str, str], int]:
    """Make the tables if there are none; what is in `meta`, and the log's last number."""
    query = Query(connection)
    ((version,),) = query.rows("PRAGMA user_version")
    if version > SCHEMA_VERSION:
        raise StartError(f"{path}: written by a newer layermesh (version {version}): run that one")
    if version == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA}")
        node_id = salvage(path, connection) or node_id  # in the same transaction: it is done, or begun anew
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
        salvaged(path)
    elif version < SCHEMA_VERSION:
        steps = "".join(UPGRADES[step] for step in range(version, SCHEMA_VERSION))
        connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    born = {"node_id": node_id or token_hex(16), "log_id": token_hex(16), "adopting": "1", "clean": "0"}
    connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", born.items())
    ((newest,),) = query.rows(_LAST_SEQ)
    transaction = Transaction(connection, int(newest or 0))
    transaction.run("BEGIN IMMEDIATE")
    grant(transaction, granted)
    if share(transaction, shared):
        transaction.run("UPDATE meta SET value = ? WHERE name = 'log_id'", (token_hex(16),))
    transaction.run("COMMIT")
    return {str(name): str(value) for name, value in query.rows("SELECT name, value FROM meta")}, transaction.seq


def _remove_leftovers(path: Path) -> None:
    if not path.exists():
        for suffix in SIDE_FILES:
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_broken(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _BROKEN


def _fail(result: "asyncio.Future[Any]", error: Exception) -> None:
    if not result.done():
        result.set_exception(error)
