"""The table of what is held: digest -> CID, size, visibility. Its rows are kept in memory as they are used."""

from collections.abc import Callable, Sequence
from typing import Final

from node.announcing import announce
from node.changes import Change as Change
from node.changes import Changes as Changes
from node.changes import LogEntry as LogEntry
from node.changes import RecordChange as RecordChange
from node.changes import SharedChange as SharedChange
from node.changes import TagChange as TagChange
from node.changes import read_log
from node.cid import Cid, Codec
from node.connection import Query, Row, Transaction
from node.database import Database
from node.digest import Digest
from node.edits import recorded
from node.holding import Entry, Stamp, digest_of, key_of
from node.holding import Holding as Holding
from node.reference import OWN
from node.remembered import Remembered
from node.sharing import note_given
from node.source import Wanted
from node.unixfs import HASH_BYTES, Dag, parse_node
from node.visibility import FOREVER, Shown
from node.visibility import Audience as Audience
from node.visibility import Visibility as Visibility
from node.workers import Pulse

_KEPT_IN_MEMORY: Final = 8192
_SWEPT_AT_ONCE: Final = 500
_ASKED_AT_ONCE: Final = 500
_DROPPED_KEPT: Final = 100_000
_COLUMNS: Final = (
    "blobs.id, blobs.digest, blobs.cid, blobs.size,"
    " blobs.public_until, blobs.members_until, blobs.mtime_ns, blobs.inode,"
    " EXISTS (SELECT 1 FROM shared WHERE shared.digest = blobs.digest AND shown) AS is_shared"
)
_BEST_FIRST: Final = "ORDER BY public_until > :now DESC, members_until > :now DESC, is_shared DESC LIMIT 1"


class Catalog:
    """The rows of `blobs`, `leaves`, `interior` and `changes`."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self.generation = 0
        """Grows whenever a blob is dropped."""
        self.blobs = 0
        self.store_bytes = 0
        self.news = Pulse()
        """Beats when the log grew."""
        self._database = database
        self._clock = clock
        self._entries: Remembered[bytes, Entry | None] = Remembered(_KEPT_IN_MEMORY)
        database.on_commit = self._committed

    async def count(self) -> None:
        """Learn how much is held.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        ((self.blobs, self.store_bytes),) = await self._database.read(
            "SELECT count(*), ifnull(sum(size), 0) FROM blobs"
        )

    def forget(self) -> None:
        """The database began anew, and is empty."""
        self._entries.clear()
        self.generation += 1
        self.blobs = self.store_bytes = 0
        self.news.beat()

    async def entry(self, digest: Digest) -> Entry | None:
        """The row of a digest; None when it is not held.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        key = key_of(digest)
        return (await self._entries.of_all((key,), self._read_entries))[key]

    async def entry_of_cid(self, cid: Cid) -> Entry | None:
        """The row of a file's root; of several digests with the same bytes, the one that most may see.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        values = {"cid": cid.raw, "now": self._clock()}
        rows = await self._database.read(f"SELECT {_COLUMNS} FROM blobs WHERE cid = :cid {_BEST_FIRST}", values)
        return _entry(rows[0]) if rows else None

    async def entries(self, after: int, limit: int) -> list[Entry]:
        """Blobs by the numbers of their rows, from behind `after` on.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        sql = f"SELECT {_COLUMNS} FROM blobs WHERE id > ? ORDER BY id LIMIT ?"
        return [_entry(row) for row in await self._database.read(sql, (after, limit))]

    async def entry_of_leaf(self, cid: Cid) -> tuple[Entry, int] | None:
        """A blob with this leaf (or that is this leaf), the one that most may see, and the leaf's index.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        rows = await self._database.read(
            f"SELECT * FROM (SELECT {_COLUMNS}, 0 FROM blobs WHERE cid = :cid UNION ALL SELECT {_COLUMNS}, leaf"
            f" FROM leaves JOIN blobs ON blobs.id = leaves.blob WHERE hash = :hash) {_BEST_FIRST}",
            {"cid": cid.raw, "hash": cid.hash, "now": self._clock()},
        )
        return (_entry(rows[0]), int(rows[0][9])) if rows else None

    async def interior(self, cid: Cid) -> tuple[Entry, bytes] | None:
        """An interior node's bytes, and the blob above it that most may see.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        rows = await self._database.read(
            f"SELECT {_COLUMNS}, data FROM interior JOIN blobs ON blobs.id = interior.blob"
            f" WHERE hash = :hash {_BEST_FIRST}",
            {"hash": cid.hash, "now": self._clock()},
        )
        return (_entry(rows[0]), bytes(rows[0][9])) if rows else None

    async def dropped(self, digest: Digest) -> tuple[Cid, int] | None:
        """The CID and size of a blob that was here once; None when it was not, or too many were since.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        rows = await self._database.read("SELECT cid, size FROM dropped WHERE digest = ?", (key_of(digest),))
        return (Cid(bytes(rows[0][0])), int(rows[0][1])) if rows else None

    async def leaves(self, entry: Entry) -> bytes | None:
        """The leaf hashes of a blob, in order; None when it is no longer here.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        return await self._database.ask(lambda query: _leaves(entry, query))

    def shown_in(self, transaction: Transaction, wanted: Wanted) -> Shown:
        """Who may see a blob as far as the repository says that it was fetched for; the cluster's own are members'.

        Those are shown once a record says whose they are, which is then before them in the log: see `node.edits`.
        """
        if wanted.repository.namespace == OWN:
            is_recorded = recorded(wanted.repository.name, wanted.digest, transaction)
            return Shown(members_until=FOREVER) if is_recorded else Shown()
        row = transaction.row(
            "SELECT public_until, members_until FROM links JOIN repositories ON id = repository"
            " WHERE namespace = ? AND name = ? AND digest = ?",
            (wanted.repository.namespace, wanted.repository.name, key_of(wanted.digest)),
        )
        return Shown(*row) if row else Shown()

    def note_fetched(self, transaction: Transaction, wanted: Wanted, *, lent: bool) -> None:
        """The repository really had the blob; `lent`, as members say that share it."""
        if wanted.repository.namespace == OWN:  # others' rows are made when a manifest of theirs is recorded
            names = (wanted.repository.namespace, wanted.repository.name)
            transaction.run("INSERT OR IGNORE INTO repositories (namespace, name) VALUES (?, ?)", names)
        where = (wanted.repository.namespace, wanted.repository.name)
        row = transaction.row("SELECT id FROM repositories WHERE namespace = ? AND name = ?", where)
        if row is not None:
            note_given(transaction, int(row[0]), key_of(wanted.digest), lent=lent)

    def keep(self, transaction: Transaction, digest: Digest, dag: Dag, stamp: Stamp, shown: Shown) -> Holding:
        """Enter a blob whose bytes were verified, or that they were verified anew, and log it."""
        key, now = key_of(digest), self._clock()
        held = transaction.row("SELECT id, public_until, members_until FROM blobs WHERE digest = ?", (key,))
        if held is None:
            self._insert(transaction, key, dag, stamp, shown, now)
        else:
            shown |= Shown(*held[1:])
            transaction.run(
                "UPDATE blobs SET public_until = ?, members_until = ?, mtime_ns = ?, inode = ?, durable = 0,"
                " verified_at = ? WHERE id = ?",
                (shown.public_until, shown.members_until, stamp.mtime_ns, stamp.inode, now, held[0]),
            )
        announce(transaction, key, now)
        return Holding(digest, dag.root, dag.size, shown.at(now))

    def stamp(self, transaction: Transaction, digest: Digest) -> Stamp | None:
        """What a blob's file looked like when it was last verified; None when it is not held."""
        row = transaction.row("SELECT mtime_ns, inode FROM blobs WHERE digest = ?", (key_of(digest),))
        return Stamp(*row) if row else None

    def drop(self, transaction: Transaction, digest: Digest, only: Stamp | None = None) -> bool:
        """Remove a blob's rows and log it; with `only`, if its file was last verified as that. False: nothing to do."""
        key = key_of(digest)
        row = transaction.row(f"SELECT {_COLUMNS} FROM blobs WHERE digest = ?", (key,))
        if row is None or (only is not None and _entry(row).stamp != only):
            return False
        entry = _entry(row)
        _delete_nodes(transaction, entry)
        transaction.run("DELETE FROM blobs WHERE id = ?", (entry.id,))
        values = (key, entry.cid.raw, entry.size)
        newest = transaction.insert("INSERT OR REPLACE INTO dropped (digest, cid, size) VALUES (?, ?, ?)", values)
        transaction.run("DELETE FROM dropped WHERE id <= ?", (newest - _DROPPED_KEPT,))
        announce(transaction, key, self._clock())
        transaction.afterwards.append(lambda: self._count(-1, -entry.size))
        return True

    def verified(self, entry: Entry, stamp: Stamp, transaction: Transaction) -> None:
        """A blob's file was verified, as `stamp`."""
        transaction.run(
            "UPDATE blobs SET mtime_ns = ?, inode = ?, verified_at = ? WHERE id = ?",
            (stamp.mtime_ns, stamp.inode, self._clock(), entry.id),
        )
        transaction.touched.add(key_of(entry.digest))

    async def verified_longest_ago(self) -> tuple[Entry, float] | None:
        """The blob verified longest ago, and when (unix seconds; 0: it must be verified before it is used).

        Raises:
            UnreachableError: when the database cannot be read.
        """
        sql = f"SELECT {_COLUMNS}, verified_at FROM blobs ORDER BY verified_at LIMIT 1"
        rows = await self._database.read(sql)
        return (_entry(rows[0]), float(rows[0][9])) if rows else None

    async def sweep(self) -> None:
        """Log what may no longer be seen because its proof expired.

        Raises:
            FullError: when the database cannot be written.
        """
        while await self._database.write(self._sweep_some) == _SWEPT_AT_ONCE:
            pass

    async def missing(self, digests: Sequence[Digest], *, shown: bool = False) -> list[Digest]:
        """Those that have no row; with `shown`, also those that are private.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        absent: list[Digest] = []
        now = self._clock()
        for at in range(0, len(digests), _ASKED_AT_ONCE):
            keys = [key_of(digest) for digest in digests[at : at + _ASKED_AT_ONCE]]
            entries = await self._entries.of_all(keys, self._read_entries)
            for key, entry in entries.items():
                if entry is None or (shown and entry.shown.at(now).hidden):
                    absent.append(digest_of(key))
        return absent

    async def not_durable(self, limit: int) -> list[Entry]:
        """Blobs whose files were not synced to the disk yet.

        Raises:
            UnreachableError: when the database cannot be read.
        """
        sql = f"SELECT {_COLUMNS} FROM blobs WHERE durable = 0 ORDER BY id LIMIT ?"
        return [_entry(row) for row in await self._database.read(sql, (limit,))]

    def durable(self, entries: Sequence[Entry], transaction: Transaction) -> None:
        """The files of these blobs were synced."""
        rows = [(entry.id, entry.stamp.mtime_ns) for entry in entries]
        transaction.run_many("UPDATE blobs SET durable = 1 WHERE id = ? AND mtime_ns = ?", rows)

    def after_power_loss(self, transaction: Transaction) -> None:
        """Files that were not synced must be verified before they are used."""
        transaction.run("UPDATE blobs SET mtime_ns = 0, verified_at = 0 WHERE durable = 0")

    async def changes(self, since: int, audience: Audience, limit: int) -> Changes:
        """See `node.changes.read_log`."""
        return await read_log(self._database, since, audience, limit, self._clock())

    async def _read_entries(self, keys: Sequence[bytes]) -> dict[bytes, Entry | None]:
        sql = f"SELECT {_COLUMNS} FROM blobs WHERE digest IN ({', '.join('?' * len(keys))})"
        held = {bytes(row[1]): _entry(row) for row in await self._database.read(sql, keys)}
        return {key: held.get(key) for key in keys}

    def _sweep_some(self, transaction: Transaction) -> int:
        now = self._clock()
        swept = 0
        for column in ("public_until", "members_until"):
            rows = transaction.rows(
                f"SELECT digest FROM blobs WHERE {column} > 0 AND {column} <= ? LIMIT ?",
                (now, _SWEPT_AT_ONCE - swept),
            )
            sql = f"UPDATE blobs SET {column} = 0 WHERE digest = ?"
            transaction.run_many(sql, rows)
            for (key,) in rows:
                announce(transaction, key, now)
            swept += len(rows)
        return swept

    def _insert(self, transaction: Transaction, key: bytes, dag: Dag, stamp: Stamp, shown: Shown, now: float) -> None:
        until = (shown.public_until, shown.members_until)
        blob = transaction.insert(
            "INSERT INTO blobs (digest, cid, size, public_until, members_until, mtime_ns, inode, durable, verified_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?)",
            (key, dag.root.raw, dag.size, *until, stamp.mtime_ns, stamp.inode, now),
        )
        if dag.interior:  # a single leaf is the root, and found as such
            leaves = sorted((dag.leaves[at : at + HASH_BYTES], blob, at // HASH_BYTES) for at in _steps(dag.leaves))
            transaction.run_many("INSERT OR IGNORE INTO leaves VALUES (?, ?, ?)", leaves)
            nodes = [(cid.hash, blob, block) for cid, block in dag.interior]
            transaction.run_many("INSERT OR IGNORE INTO interior VALUES (?, ?, ?)", nodes)
        transaction.afterwards.append(lambda: self._count(1, dag.size))

    async def _count(self, blobs: int, size: int) -> None:
        self.blobs += blobs
        self.store_bytes += size
        self.generation += blobs < 0

    def _committed(self, touched: set[bytes], logged: bool) -> None:
        self._entries.forget(touched)
        if logged:
            self.news.beat()


def _entry(row: Row) -> Entry:
    id_, key, cid, size, public_until, members_until, mtime_ns, inode, is_shared = row[:9]
    shown = Shown(public_until, members_until, bool(is_shared))
    return Entry(id_, digest_of(key), Cid(cid), size, shown, Stamp(mtime_ns, inode))


def _steps(leaves: bytes) -> range:
    return range(0, len(leaves), HASH_BYTES)


def _delete_nodes(transaction: Transaction, entry: Entry) -> None:
    nodes: list[bytes] = []
    leaves = _leaves(entry, transaction, nodes) or b""
    hashes = [(leaves[at : at + HASH_BYTES], entry.id) for at in _steps(leaves)]
    transaction.run_many("DELETE FROM leaves WHERE hash = ? AND blob = ?", hashes)
    transaction.run_many("DELETE FROM interior WHERE hash = ? AND blob = ?", [(node, entry.id) for node in nodes])


def _leaves(entry: Entry, query: Query, nodes: list[bytes] | None = None) -> bytes | None:
    """The leaf hashes of a blob, None when an interior node is not there; `nodes` gets the hashes of the nodes read."""
    level = [entry.cid]
    while level and level[0].codec is Codec.DAG_PB:
        below: list[Cid] = []
        for cid in level:
            row = query.row("SELECT data FROM interior WHERE hash = ? AND blob = ?", (cid.hash, entry.id))
            if row is None:
                return None
            below += [link.cid for link in parse_node(bytes(row[0])).links]
        if nodes is not None:
            nodes += [cid.hash for cid in level]
        level = below
    return b"".join(cid.hash for cid in level)
