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

LENT: Final = Repository("localhost", "kubo")
"""For whom such blobs are fetched; no registry has this name."""
_IS_LENT: Final = (
    "EXISTS (SELECT 1 FROM fetched JOIN repositories ON repositories.id = fetched.repository"
    " WHERE namespace = :namespace AND name = :name AND fetched.digest = blobs.digest)"
)


@dataclass(frozen=True, slots=True)
class LentLeaf:
    """A leaf: `length` bytes from `offset` on of a blob that is here."""

    digest: Digest
    offset: int
    length: int


class Lent:
    """The blobs that were fetched for the daemon, in the catalog's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lend(self, digest: Digest) -> None:
        """A blob that is here came from peers that offer it to anybody.

        Raises:
            FullError: when the catalog cannot be written.
        """
        names = (LENT.namespace, LENT.name)

        def job(transaction: Transaction) -> None:
            transaction.run("INSERT OR IGNORE INTO repositories (namespace, name) VALUES (?, ?)", names)
            transaction.run(
                "INSERT OR IGNORE INTO fetched SELECT id, ? FROM repositories WHERE namespace = ? AND name = ?",
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
            f"SELECT digest, size, 0 FROM blobs WHERE cid = :cid AND {_IS_LENT} UNION ALL"
            " SELECT digest, size, leaf FROM leaves JOIN blobs ON blobs.id = leaves.blob"
            f" WHERE hash = :hash AND {_IS_LENT} LIMIT 1",
            values,
        )
        for key, size, leaf in leaves:
            offset = leaf * LEAF_BYTES
            return LentLeaf(digest_of(key), offset, min(LEAF_BYTES, size - offset))
        return None
