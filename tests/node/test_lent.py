"""What the machine's own IPFS daemon may read though it is not public here."""

from pathlib import Path

from node.catalog import Audience
from node.cid import Cid
from node.digest import Digest
from node.lent import LENT, MOST_AWAITED, LentLeaf
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
        assert await store.lent.block(dag.leaf(2).cid) == LentLeaf(dag.root, Digest.of(DATA), 2 * MIB, 5)
        assert await store.lent.block(Cid.of(SMALL)) == LentLeaf(Cid.of(SMALL), Digest.of(SMALL), 0, len(SMALL))
        assert (await store.block(dag.root)).visibility == "private"


async def test_what_is_lent_is_shared_with_nobody_whatever_an_operator_shares(tmp_path: Path) -> None:
    names = {"localhost", LENT.namespace.lower()}  # registries are known by names in small letters
    async with open_store(tmp_path) as store:
        await store.put(Digest.of(DATA), DATA, PRIVATE, LENT)
        await store.lent.lend(Digest.of(DATA))
    async with open_store(tmp_path, shared=names, granted=dict.fromkeys(names, True)) as store:
        assert (await store.block(Cid.of(DATA[:MIB]))).visibility == "private"
        assert not (await store.changes(0, Audience.SHARING)).entries
        assert await store.lent.block(Cid.of(DATA[:MIB])) is not None


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
    assert isinstance(found, LentLeaf) and (found.digest, found.offset) == (Digest.of(shared + b"x"), 0)


async def test_a_blob_that_is_gone_is_not_lent(store: Store) -> None:
    await store.put(Digest.of(SMALL), SMALL, PRIVATE, LENT)
    await store.lent.lend(Digest.of(SMALL))
    await store.drop(Digest.of(SMALL))
    assert await store.lent.block(Cid.of(SMALL)) is None


async def test_what_was_awaited_is_remembered_until_it_came_or_is_given_up(tmp_path: Path) -> None:
    roots = [Cid.of(data) for data in (b"a", b"b", b"c")]
    async with open_store(tmp_path) as store:
        for root in (*roots, roots[0]):
            await store.lent.expect(root)
        await store.lent.give_up(roots[1])
        await store.lent.give_up(Cid.of(b"never heard of"))
    async with open_store(tmp_path) as store:
        assert store.lent.awaited == (roots[2], roots[0])


async def test_no_more_is_awaited_than_there_is_room_for(store: Store) -> None:
    roots = [Cid.of(bytes([at])) for at in range(MOST_AWAITED + 3)]
    for root in roots:
        await store.lent.expect(root)
    assert store.lent.awaited == tuple(roots[3:])
