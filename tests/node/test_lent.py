"""What the machine's own IPFS daemon may read though it is not public here."""

from pathlib import Path

from node.cid import Cid
from node.digest import Digest
from node.lent import LENT, LentLeaf
from node.store import Store, open_store
from tests.node.contents import MIB, PRIVATE, content

DATA = content(2 * MIB + 5)
SMALL = b"one leaf"


async def test_what_came_for_the_daemon_is_lent_block_by_block_and_stays_so(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        for data in (DATA, SMALL):
            await store.put(Digest.of(data), data, PRIVATE, LENT)
            await store.lent.lend(Digest.of(data))
        dag = await store.dag(Digest.of(DATA))
        assert dag is not None
    async with open_store(tmp_path) as store:
        assert await store.lent.block(dag.root) == dag.interior[-1][1]
        assert await store.lent.block(dag.leaf(2).cid) == LentLeaf(Digest.of(DATA), 2 * MIB, 5)
        assert await store.lent.block(Cid.of(SMALL)) == LentLeaf(Digest.of(SMALL), 0, len(SMALL))
        assert (await store.block(dag.root)).visibility == "private"


async def test_what_came_for_somebody_else_is_not_lent(store: Store) -> None:
    shared = content(MIB)
    await store.put(Digest.of(DATA), DATA, PRIVATE)
    await store.put(Digest.of(shared + b"x"), shared + b"x", PRIVATE, LENT)
    await store.lent.lend(Digest.of(shared + b"x"))
    dag = await store.dag(Digest.of(DATA))
    assert dag is not None and dag.leaf(0).cid == Cid.of(shared)
    assert await store.lent.block(dag.root) is None
    assert await store.lent.block(dag.leaf(1).cid) is None
    found = await store.lent.block(dag.leaf(0).cid)  # both have it: what is lent is read from what is lent
    assert found == LentLeaf(Digest.of(shared + b"x"), 0, MIB)


async def test_a_blob_that_is_gone_is_not_lent(store: Store) -> None:
    await store.put(Digest.of(SMALL), SMALL, PRIVATE, LENT)
    await store.lent.lend(Digest.of(SMALL))
    await store.drop(Digest.of(SMALL))
    assert await store.lent.block(Cid.of(SMALL)) is None
