"""Blocks of other tools' DAGs: kept by the root they came with, seen as it may be, and gone with it."""

import pytest

from node.cid import Cid, Codec
from node.digest import Digest
from node.errors import InvalidError, MismatchError, NotFoundError
from node.foreign import UNFINISHED_S, Part, Whole
from node.store import Store
from node.unixfs import MAX_BLOCK_BYTES
from node.visibility import Visibility
from tests.node.contents import MEMBERS, MIB, PRIVATE, PUBLIC, Clock, content

ROOT, OTHER = Cid.of(b"root", Codec.DAG_PB), Cid.of(b"other", Codec.DAG_PB)
CHILD, SHARED = Cid.of(b"child"), Cid.of(b"shared")


def whole(data: bytes, codec: Codec = Codec.RAW) -> Whole:
    return Whole(Cid.of(data, codec), data)


async def seen(store: Store, cid: Cid) -> tuple[bytes | None, Visibility] | None:
    try:
        block = await store.block(cid)
    except NotFoundError:
        return None
    return block.data, block.visibility


async def test_a_block_is_seen_once_its_root_is_finished(store: Store) -> None:
    await store.foreign.keep(ROOT, [whole(b"root", Codec.DAG_PB), whole(b"child")])
    assert await seen(store, CHILD) is None
    assert await store.foreign.roots() == ()
    assert await store.foreign.kept(ROOT, [CHILD, SHARED]) == {CHILD}
    await store.foreign.finish(ROOT, MEMBERS)
    assert await seen(store, CHILD) == (b"child", Visibility.MEMBERS)
    assert await seen(store, ROOT) == (b"root", Visibility.MEMBERS)


async def test_a_finished_root_is_listed_with_what_is_here_of_it(store: Store, clock: Clock) -> None:
    for root, proof in ((ROOT, MEMBERS), (OTHER, PUBLIC)):
        await store.foreign.keep(root, [whole(b"child"), whole(b"child"), whole(b"shared")])
        await store.foreign.finish(root, proof)
        clock.now += 1
    found = [(each.cid, each.blocks, each.size_bytes, each.visibility) for each in await store.foreign.roots()]
    assert found == [(OTHER, 2, 11, Visibility.PUBLIC), (ROOT, 2, 11, Visibility.MEMBERS)]


async def test_what_the_last_root_that_had_it_leaves_behind_is_gone(store: Store) -> None:
    await store.foreign.keep(ROOT, [whole(b"child"), whole(b"shared")])
    await store.foreign.finish(ROOT, PUBLIC)
    await store.foreign.keep(OTHER, [whole(b"shared")])
    await store.foreign.finish(OTHER, MEMBERS)
    assert await seen(store, SHARED) == (b"shared", Visibility.PUBLIC)
    assert await store.foreign.drop(ROOT)
    assert await seen(store, CHILD) is None
    assert await seen(store, SHARED) == (b"shared", Visibility.MEMBERS)
    assert await store.foreign.drop(OTHER)
    assert await seen(store, SHARED) is None
    assert not await store.foreign.drop(OTHER)


async def test_what_nobody_finishes_is_gone_after_a_day(store: Store, clock: Clock) -> None:
    await store.foreign.keep(ROOT, [whole(b"shared")])
    await store.foreign.keep(OTHER, [whole(b"shared")])
    await store.foreign.finish(OTHER, PUBLIC)
    clock.now += UNFINISHED_S + 1
    await store.foreign.expire()
    assert await store.foreign.kept(ROOT, [SHARED]) == set()
    assert await seen(store, SHARED) == (b"shared", Visibility.PUBLIC)


async def test_a_block_may_be_a_part_of_a_blob_that_is_here(store: Store) -> None:
    data = content(MIB + 9)
    digest, part = Digest.of(data), Cid.of(data[5:25])
    await store.put(digest, data, PRIVATE)
    await store.foreign.keep(ROOT, [Part(part, digest, 5, 20)])
    await store.foreign.finish(ROOT, MEMBERS)
    block = await store.block(part)
    assert block.within is not None
    assert (block.within.digest, block.offset, block.length) == (digest, 5, 20)
    assert (block.data, block.visibility) == (None, Visibility.MEMBERS)
    await store.drop(digest)
    assert await seen(store, part) is None
    await store.foreign.keep(ROOT, [Whole(part, data[5:25])])
    assert await seen(store, part) == (data[5:25], Visibility.MEMBERS)


async def test_the_same_bytes_are_seen_by_those_who_may_see_either(store: Store) -> None:
    await store.put(Digest.of(b"child"), b"child", PRIVATE)
    assert await seen(store, CHILD) == (None, Visibility.PRIVATE)
    await store.foreign.keep(ROOT, [whole(b"child")])
    await store.foreign.finish(ROOT, PUBLIC)
    assert await seen(store, CHILD) == (b"child", Visibility.PUBLIC)


async def test_wrong_and_oversized_blocks_are_refused_with_all_that_came_along(store: Store) -> None:
    with pytest.raises(MismatchError):
        await store.foreign.keep(ROOT, [whole(b"child"), Whole(SHARED, b"something else")])
    large = bytes(MAX_BLOCK_BYTES + 1)
    with pytest.raises(InvalidError):
        await store.foreign.keep(ROOT, [whole(b"child"), whole(large)])
    with pytest.raises(InvalidError):
        await store.foreign.finish(ROOT, PUBLIC)
    assert await store.foreign.kept(ROOT, [CHILD]) == set()
