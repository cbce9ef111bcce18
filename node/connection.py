"""A connection to the SQLite database, and the one thread that uses it.

The stdlib's `sqlite3` in a thread of ours, not aiosqlite: that hands each statement to its thread and back, and a
transaction has ten. Here a whole function goes there at once. By a bare queue: an executor takes 20 us more each time.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, TypeVar

T = TypeVar("T")
Row = Sequence[Any]
Values = Sequence[object] | Mapping[str, object]
_CACHE_KIB: Final = 4096
_SETTINGS: Final = ("journal_mode = WAL", "synchronous = NORMAL", f"cache_size = -{_CACHE_KIB}")


class Query:
    """What may be asked of the database, in the connection's thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """Execute a query."""
        return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, values: Values = ()) -> Row | None:
        """Execute a query; its first row."""
        rows = self.rows(sql, values)
        return rows[0] if rows else None


class Transaction(Query):
    """What a job may do; `touched` are the digests (as keys) whose rows it changed, `seq` the log's last number."""

    def __init__(self, connection: sqlite3.Connection, seq: int) -> None:
        super().__init__(connection)
        self.seq = seq
        self.touched: set[bytes] = set()
        self.afterwards: list[Callable[[], Awaitable[None]]] = []
        """Done in the event loop right after the commit, before the next job."""
        self.undo: list[Callable[[], None]] = []
        """Done in this thread when the transaction fails."""

    def next_seq(self) -> int:
        """The log's next number."""
        self.seq += 1
        return self.seq

    def run(self, sql: str, values: Values = ()) -> None:
        """Execute a statement."""
        self.rows(sql, values)

    def insert(self, sql: str, values: Values = ()) -> int:
        """Execute an INSERT; returns the row's id."""
        return self._connection.execute(sql, values).lastrowid or 0

    def run_many(self, sql: str, rows: Iterable[Values]) -> None:
        """Execute a statement once for each row."""
        self._connection.executemany(sql, rows)


class Connection:
    """Opened by `open`. Its methods raise `sqlite3.Error` as it comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sqlite: sqlite3.Connection | None = None
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._open = False

    async def open(self) -> None:
        """Connect; `close` it also when that fails."""
        self._open = True
        Thread(target=self._serve, name="layermesh-catalog", daemon=True).start()
        await self._hand_over(self._connect)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the thread; also when the caller is cancelled, to its end."""
        return await self._hand_over(lambda: work(self._opened()))

    async def ask(self, work: Callable[[Query], T]) -> T:
        """As `run`, for who only asks."""
        return await self.run(lambda connection: work(Query(connection)))

    async def transact(self, job: Callable[[Transaction], T], seq: int, durable: bool) -> tuple[T, Transaction]:
        """Run `job` in a transaction that begins at `seq`; what it raises rolls it back. `durable`: with an fsync."""
        return await self.run(lambda connection: _transact(connection, job, seq, durable))

    async def close(self) -> None:
        """Finish what was handed over, disconnect, and end the thread."""
        if self._open:
            closing = self._hand_over(self._disconnect)
            self._open = False
            self._queue.put(None)
            await closing

    def _hand_over(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if not self._open:
            raise sqlite3.ProgrammingError("the connection is closed")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        self._queue.put(partial(_do, work, loop, result))
        return result

    def _serve(self) -> None:
        while (task := self._queue.get()) is not None:
            task()
            del task  # what it holds need not last until the next one comes

    def _opened(self) -> sqlite3.Connection:
        if self._sqlite is None:
            raise sqlite3.ProgrammingError("the connection is not open")
        return self._sqlite

    def _connect(self) -> None:
        self._sqlite = sqlite3.connect(self._path, isolation_level=None, timeout=5)
        for setting in _SETTINGS:
            self._sqlite.execute(f"PRAGMA {setting}").fetchall()

    def _disconnect(self) -> None:
        connection, self._sqlite = self._sqlite, None
        if connection is not None:
            connection.close()


def _do(work: Callable[[], T], loop: asyncio.AbstractEventLoop, result: asyncio.Future[T]) -> None:
    outcome = _outcome(work, result)
    with suppress(RuntimeError):  # the loop was closed: nobody waits any more
        loop.call_soon_threadsafe(lambda: result.done() or outcome())


def _outcome(work: Callable[[], T], result: asyncio.Future[T]) -> Callable[[], None]:
    try:
        value = work()
    except BaseException as error:  # whoever handed it over gets it
        return partial(result.set_exception, error)
    return partial(result.set_result, value)


def _transact(
    connection: sqlite3.Connection, job: Callable[[Transaction], T], seq: int, durable: bool
) -> tuple[T, Transaction]:
    transaction = Transaction(connection, seq)
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}").fetchall()
    try:
        transaction.run("BEGIN IMMEDIATE")
        result = job(transaction)
        transaction.run("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.rollback()
        for undo in transaction.undo:
            undo()
        raise
    return result, transaction
