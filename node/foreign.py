"""Blocks of other tools' DAGs: files of another profile and directories, which are no part of a blob here.

They are kept by the root that they came with, and go with the last root that has them. What does not fit the catalog's
rows (the leaves of a large file) is better kept as a blob: such a block is then a part of it, and stored once.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from node.cid import Cid
from node.connection import Transaction
from node.database import Database
from node.digest import Digest
from node.errors import InvalidError, MismatchError
from node.holding import Holding, digest_of, key_of
from node.unixfs import MAX_BLOCK_BYTES
from node.visibility import Proof, Shown, Visibility
from node.workers import Workers

UNFINISHED_S: Final = 24 * 3600.0
"""A root that nobody finishes is thrown away after so long."""
_ASKED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Whole:
    """A block by its bytes."""

    cid: Cid
    data: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """A block that is `length` bytes from `offset` on of a blob; whoever says so has verified it."""

    cid: Cid
    digest: Digest
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ForeignRoot:
    """A DAG that is kept: how many blocks of it are here, and how many bytes they have."""

    cid: Cid
    blocks: int
    size_bytes: int
    visibility: Visibility
    kept_at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Found:
    """A block that is kept: its bytes, or the blob here that it is a part of."""

    visibility: Visibility
    length: int
    data: bytes | None
    within: Holding | None
    offset: int


class Foreign:
    """The foreign blocks of one store."""

    def __init__(self, database: Database, workers: Workers, clock: Callable[[], float]) -> None:
        self._database = database
        self._workers = workers
        self._clock = clock

    async def keep(self, root: Cid, blocks: Sequence[Whole | Part]) -> None:
        """Keep some blocks of the DAG under `root`, in any order; nobody sees them before `finish`.

        Raises:
            InvalidError: for a block of more than 2 MiB; none of them is kept then.
            MismatchError: when one does not hash to its name; none of them is kept then.
            FullError: when the disk has no room.
        """
        await self._workers.hashed(_verify, blocks)
        await self._database.write(partial(self._keep, root, blocks))

    async def finish(self, root: Cid, proof: Proof) -> None:
        """All that came of a root is kept, and may be seen as `proof` says; durable once this returns.

        Raises:
            InvalidError: when nothing was kept of it.
            FullError: when the disk has no room.
        """
        await self._database.write(partial(self._finish, root, proof), durable=True)

    async def kept(self, root: Cid, cids: Collection[Cid]) -> set[Cid]:
        """Those that are kept already of a root, finished or not. Raises as `block`."""
        found: set[bytes] = set()
        hashes = [cid.hash for cid in cids]
        for at in range(0, len(hashes), _ASKED_AT_ONCE):
            some = hashes[at : at + _ASKED_AT_ONCE]
            rows = await self._database.read(
                f"SELECT hash FROM foreign_blocks AS block JOIN foreign_links ON block = id WHERE {_IS_HERE}"
                f" AND root = (SELECT id FROM foreign_roots WHERE cid = ?) AND hash IN ({', '.join('?' * len(some))})",
                (root.raw, *some),
            )
            found.update(bytes(each) for (each,) in rows)
        return {cid for cid in cids if cid.hash in found}

    async def block(self, cid: Cid) -> Found | None:
        """A block of any root that is finished; of several, the one that most may see.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        now = self._clock()
        rows = await self._database.read(
            "SELECT max(root.public_until), max(root.members_until), length, data, offset,"
            " digest, blobs.cid, size, blobs.public_until, blobs.members_until FROM foreign_blocks AS block"
            " JOIN foreign_links ON foreign_links.block = block.id"
            " JOIN foreign_roots AS root ON root.id = foreign_links.root AND whole = 1"
            f" LEFT JOIN blobs ON digest = within WHERE hash = ? AND {_IS_HERE} GROUP BY block.id",
            (cid.hash,),
        )
        if not rows:
            return None
        public, members, length, data, offset, digest, blob, size, *shown = rows[0]
        within = None if digest is None else Holding(digest_of(digest), Cid(bytes(blob)), size, Shown(*shown).at(now))
        return Found(Shown(public, members).at(now), length, None if data is None else bytes(data), within, offset)

    async def roots(self) -> tuple[ForeignRoot, ...]:
        """The DAGs that are kept whole, the latest first.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        now = self._clock()
        rows = await self._database.read(
            "SELECT root.cid, count(block.id), ifnull(sum(length), 0), public_until, members_until, kept_at"
            " FROM foreign_roots AS root JOIN foreign_links ON foreign_links.root = root.id"
            " JOIN foreign_blocks AS block ON block.id = foreign_links.block"
            " WHERE whole = 1 GROUP BY root.id ORDER BY kept_at DESC, root.id DESC"
        )
        return tuple(
            ForeignRoot(Cid(bytes(cid)), blocks, size, Shown(public, members).at(now), kept_at)
            for cid, blocks, size, public, members, kept_at in rows
        )

    async def drop(self, root: Cid) -> bool:
        """Keep a root no longer, nor the blocks that no other root has; False when it was not kept.

        Raises:
            FullError: when the catalog cannot be written.
        """
        return await self._database.write(partial(_drop, "cid = ?", (root.raw,))) > 0

    async def expire(self) -> None:
        """Throw away what was begun a day ago and never finished. Raises as `drop`."""
        before = self._clock() - UNFINISHED_S
        await self._database.write(partial(_drop, "whole = 0 AND kept_at < ?", (before,)))

    def _keep(self, root: Cid, blocks: Sequence[Whole | Part], transaction: Transaction) -> None:
        transaction.run(
            "INSERT INTO foreign_roots (cid, public_until, members_until, kept_at, whole) VALUES (?, 0, 0, ?, 0)"
            " ON CONFLICT (cid) DO UPDATE SET kept_at = excluded.kept_at",
            (root.raw, self._clock()),
        )
        transaction.run_many(
            "INSERT INTO foreign_blocks (hash, length, data, within, offset) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (hash) DO UPDATE SET length = excluded.length, data = excluded.data,"
            " within = excluded.within, offset = excluded.offset WHERE data IS NULL",
            [_row(block) for block in blocks],
        )
        transaction.run_many(
            "INSERT OR IGNORE INTO foreign_links SELECT foreign_roots.id, foreign_blocks.id"
            " FROM foreign_roots, foreign_blocks WHERE cid = ? AND hash = ?",
            [(root.raw, block.cid.hash) for block in blocks],
        )

    def _finish(self, root: Cid, proof: Proof, transaction: Transaction) -> None:
        row = transaction.row("SELECT id, public_until, members_until FROM foreign_roots WHERE cid = ?", (root.raw,))
        if row is None:
            raise InvalidError(f"{root}: nothing was kept of it")
        shown = Shown(*row[1:]) | Shown.by(proof)
        transaction.run(
            "UPDATE foreign_roots SET whole = 1, public_until = ?, members_until = ?, kept_at = ? WHERE id = ?",
            (shown.public_until, shown.members_until, self._clock(), row[0]),
        )


_IS_HERE: Final = "(data IS NOT NULL OR EXISTS (SELECT 1 FROM blobs WHERE digest = within))"


def _row(block: Whole | Part) -> tuple[bytes, int, bytes | None, bytes | None, int]:
    if isinstance(block, Whole):
        return block.cid.hash, len(block.data), block.data, None, 0
    return block.cid.hash, block.length, None, key_of(block.digest), block.offset


def _verify(blocks: Sequence[Whole | Part]) -> None:
    for block in blocks:
        length = len(block.data) if isinstance(block, Whole) else block.length
        if length > MAX_BLOCK_BYTES:
            raise InvalidError(f"{block.cid}: a block of {length} bytes: at most {MAX_BLOCK_BYTES} are kept")
        if isinstance(block, Whole) and Cid.of(block.data, block.cid.codec) != block.cid:
            raise MismatchError(f"{block.cid}: its bytes hash to something else")


def _drop(where: str, values: tuple[object, ...], transaction: Transaction) -> int:
    """Remove these roots, and the blocks that no root has any more; how many roots there were."""
    roots = transaction.rows(f"SELECT id FROM foreign_roots WHERE {where}", values)
    for (root,) in roots:
        blocks = transaction.rows("SELECT block FROM foreign_links WHERE root = ?", (root,))
        transaction.run("DELETE FROM foreign_links WHERE root = ?", (root,))
        transaction.run_many(
            "DELETE FROM foreign_blocks WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM foreign_links WHERE block = ?1)",
            blocks,
        )
        transaction.run("DELETE FROM foreign_roots WHERE id = ?", (root,))
    return len(roots)
