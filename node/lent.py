"""What this machine's own IPFS daemon may read though it is not public here: peers that offer it to anybody gave it.

A peer's word makes nothing public; the bytes that it gives away are no secret of this node's either. So they are told
from the same bytes that are here for somebody else (`fetched`, see `node.schema`), and lent to the daemon alone.
"""

from dataclasses import dataclass
from typing import Final

from node.cid import Cid, Codec
from node.connection import Transaction
from node.database import Database
from node.digest import Digest
from node.holding import digest_of, key_of
from node.reference import Repository
from node.unixfs import LEAF_BYTES

LENT: Final = Repository("Kubo", "Kubo")
"""For whom such blobs are fetched. No registry is known by a name with capitals: so nothing else ever comes from there,
and no operator shares it.
"""
MOST_AWAITED: Final = 32
_AWAITED: Final = "awaited_for_kubo"
_IS_LENT: Final = (
    "EXISTS (SELECT 1 FROM fetched JOIN repositories ON repositories.id = fetched.repository"
    " WHERE namespace = :namespace AND name = :name AND fetched.digest = blobs.digest)"
)


@dataclass(frozen=True, slots=True)
class LentLeaf:
    """A leaf: `length` bytes from `offset` on of a blob that is here, and that blob's root."""

    root: Cid
    digest: Digest
    offset: int
    length: int


class Lent:
    """The blobs that were fetched for the daemon, in the catalog's database; and those that still should be."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._awaited: list[Cid] | None = None

    @property
    def awaited(self) -> tuple[Cid, ...]:
        """The roots of what was begun to be fetched and did not come, as when the node stopped.

        The daemon may have a part of it. The last `MOST_AWAITED`, in the order in which they were asked for.
        """
        return tuple(self._list)

    async def expect(self, root: Cid) -> None:
        """A blob is fetched for the daemon now.

        Raises:
            FullError: when the catalog cannot be written.
        """
        if root in self._list:
            self._list.remove(root)
        self._list.append(root)
        del self._list[:-MOST_AWAITED]
        await self._write_list()

    async def give_up(self, root: Cid) -> None:
        """It is here, or not to be had.

        Raises:
            FullError: when the catalog cannot be written.
        """
        if root in self._list:
            self._list.remove(root)
            await self._write_list()

    @property
    def _list(self) -> list[Cid]:
        if self._awaited is None:
            texts = self._database.meta.get(_AWAITED, "").split()
            self._awaited = [Cid.from_raw(bytes.fromhex(text)) for text in texts]
        return self._awaited

    async def _write_list(self) -> None:
        await self._database.remember(_AWAITED, " ".join(root.raw.hex() for root in self._list))

    async def lend(self, digest: Digest) -> None:
        """A blob that is here came from peers that offer it to anybody.

        Raises:
            FullError: when the catalog cannot be written.
        """
        names = (LENT.namespace, LENT.name)

        def job(transaction: Transaction) -> None:
            transaction.run("INSERT OR IGNORE INTO repositories (namespace, name) VALUES (?, ?)", names)
            transaction.run(
                "INSERT OR IGNORE INTO fetched SELECT id, ?, 0 FROM repositories WHERE namespace = ? AND name = ?",
                (key_of(digest), *names),
            )

        await self._database.write(job)

    async def block(self, cid: Cid) -> LentLeaf | bytes | None:
        """A block of a blob that is lent: where a leaf is, or an interior node's bytes; None when there is none.

        Raises:
            UnreachableError: when the catalog cannot be read.
        """
        values = {"cid": cid.raw, "hash": cid.hash, "namespace": LENT.namespace, "name": LENT.name}
        if cid.codec is Codec.DAG_PB:
            nodes = await self._database.read(
                f"SELECT data FROM interior JOIN blobs ON blobs.id = interior.blob WHERE hash = :hash AND {_IS_LENT}"
                " LIMIT 1",
                values,
            )
            return bytes(nodes[0][0]) if nodes else None
        leaves = await self._database.read(
            f"SELECT cid, digest, size, 0 FROM blobs WHERE cid = :cid AND {_IS_LENT} UNION ALL"
            " SELECT cid, digest, size, leaf FROM leaves JOIN blobs ON blobs.id = leaves.blob"
            f" WHERE hash = :hash AND {_IS_LENT} LIMIT 1",
            values,
        )
        for root, key, size, leaf in leaves:
            offset = leaf * LEAF_BYTES
            return LentLeaf(Cid(bytes(root)), digest_of(key), offset, min(LEAF_BYTES, size - offset))
        return None
