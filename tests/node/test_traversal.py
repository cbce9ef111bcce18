"""Which blocks answer a question: the right ones in the right order, and an end to whatever a DAG claims."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node import walked as walks
from node.cid import Cid, Codec
from node.dagpb import Kind
from node.digest import Digest
from node.errors import LayermeshError, NotFoundError
from node.foreign import Part, Whole
from node.formats import Scope, UnsupportedError
from node.naming import Name
from node.outgoing import contents, sections
from node.store import Store, open_store
from node.traversal import MAX_DEPTH, Dags, Held, NoSuchNameError, Piece
from node.visibility import Visibility
from node.walked import BrokenDagError
from tests.node.contents import MEMBERS, MIB, PRIVATE, PUBLIC, content
from tests.node.dags import bomb, directory, file, identity, keep, leaf, pb_node, shard, v0

A, B, C = leaf(b"aaaa"), leaf(b"bb"), leaf(b"cccccc")


@pytest.fixture
def dags(store: Store) -> Dags:
    return Dags(Held(store, lambda visibility: visibility is Visibility.PUBLIC))


async def walked(
    dags: Dags, name: Name, scope: Scope = Scope.ALL, part: range | None = None, *, dups: bool = False
) -> list[Piece]:
    return [piece async for piece in dags.walk(name, scope, part, dups=dups)]


async def cids(
    dags: Dags, name: Name, scope: Scope = Scope.ALL, part: range | None = None, *, dups: bool = False
) -> list[str]:
    return [str(piece.name) for piece in await walked(dags, name, scope, part, dups=dups) if piece.name is not None]


def shown(*blocks: Whole) -> list[str]:
    return [str(block.cid) for block in blocks]


async def test_a_tree_is_walked_depth_first(store: Store, dags: Dags) -> None:
    inner = file([(B.cid.raw, 2), (C.cid.raw, 6)])
    whole = file([(A.cid.raw, 4), (inner.cid.raw, 8)])
    root = directory({"a": A.cid.raw, "whole": whole.cid.raw})
    name = await keep(store, root, whole, inner, A, B, C)
    assert await cids(dags, name, dups=True) == shown(root, A, whole, A, inner, B, C)
    assert await cids(dags, name) == shown(root, A, whole, inner, B, C)
    assert await cids(dags, name, Scope.ENTITY) == shown(root)
    assert await cids(dags, Name(whole.cid), Scope.ENTITY) == shown(whole, A, inner, B, C)
    assert await cids(dags, Name(whole.cid), Scope.BLOCK) == shown(whole)
    assert await cids(dags, Name(whole.cid), Scope.ENTITY, range(4, 6)) == shown(whole, inner, B)
    assert await cids(dags, Name(whole.cid), Scope.ENTITY, range(3, 4)) == shown(whole, A)


async def test_a_shard_leads_to_its_shards_but_not_to_what_they_name(store: Store, dags: Dags) -> None:
    below = shard({"0Ab": B.cid.raw})
    root = shard({"0A": below.cid.raw, "FFc": C.cid.raw})
    name = await keep(store, root, below, B, C)
    assert await cids(dags, name, Scope.ENTITY) == shown(root, below)
    assert await cids(dags, name) == shown(root, below, B, C)
    with pytest.raises(UnsupportedError, match="HAMT"):
        await dags.resolve(name, ["b"])


async def test_links_keep_the_form_that_they_are_written_in(store: Store, dags: Dags) -> None:
    old = file([], b"old")
    name = await keep(store, directory({"old": v0(old)}), old)
    assert (await cids(dags, name))[1].startswith("Qm")
    target = await dags.resolve(name, ["old"])
    assert [str(root)[:2] for root in target.roots] == ["ba", "Qm"]


async def test_what_is_within_a_cid_is_followed_and_is_no_block(store: Store, dags: Dags) -> None:
    inline = identity(file([(A.cid.raw, 4)], b"--").data, Codec.DAG_PB)
    root = file([(identity(b"hi"), 2), (inline, 6)])
    name = await keep(store, root, A)
    assert await cids(dags, name) == shown(root, A)
    read = [bytes(chunk) async for chunk in contents(dags.walk(name, Scope.ENTITY, dups=True), range(1, 8))]
    assert b"".join(read) == b"hi--aaaa"[1:8]


async def test_a_directory_may_hold_blobs_of_this_node(store: Store, dags: Dags) -> None:
    data = content(2 * MIB + 7)
    blob = await store.put(Digest.of(data), data, PUBLIC)
    dag = await store.dag(blob.digest)
    assert dag is not None
    root = directory({"blob": blob.cid.raw, "twin": blob.cid.raw})
    name = await keep(store, root)
    once = [str(root.cid), str(dag.root), *(str(dag.leaf(at).cid) for at in range(3))]
    assert await cids(dags, name) == once
    assert await cids(dags, name, dups=True) == [*once, *once[1:]]
    target = await dags.resolve(name, ["blob"])
    assert (await dags.entity(target.name)).size == len(data)
    assert await cids(dags, target.name, Scope.ENTITY, range(MIB, MIB + 1)) == [once[1], once[3]]


async def test_blocks_that_are_parts_of_a_blob_are_read_from_it(store: Store, dags: Dags) -> None:
    data = content(1000)
    digest = Digest.of(data)
    await store.put(digest, data, PRIVATE)
    parts = [Part(Cid.of(data[at : at + 400]), digest, at, len(data[at : at + 400])) for at in (0, 400, 800)]
    root = file([(part.cid.raw, part.length) for part in parts])
    await store.foreign.keep(root.cid, [root, *parts])
    await store.foreign.finish(root.cid, PUBLIC)
    pieces = dags.walk(Name(root.cid), Scope.ENTITY, range(100, 900), dups=True)
    assert b"".join([bytes(chunk) async for chunk in contents(pieces, range(100, 900))]) == data[100:900]


async def test_paths_end_where_there_is_no_such_name(store: Store, dags: Dags) -> None:
    below = directory({"a": A.cid.raw})
    name = await keep(store, directory({"below": below.cid.raw, "gone": C.cid.raw}), below, A)
    assert (await dags.resolve(name, ["below", "a"])).name == Name(A.cid)
    for path in (["b"], ["below", "b"], ["below", "a", "deeper"], [""]):
        with pytest.raises(NoSuchNameError):
            await dags.resolve(name, path)
    with pytest.raises(NotFoundError):
        await cids(dags, (await dags.resolve(name, ["gone"])).name)


async def test_what_may_not_be_seen_ends_a_walk_as_if_it_were_not_here(store: Store, dags: Dags) -> None:
    await keep(store, B, proof=MEMBERS)
    name = await keep(store, file([(A.cid.raw, 4), (B.cid.raw, 2)]), A)
    with pytest.raises(NotFoundError):
        await walked(dags, name)
    assert len(await walked(dags, name, Scope.ENTITY, range(4))) == 2


@pytest.mark.parametrize(
    ("root", "why"),
    [
        (file([(A.cid.raw, 5)]), "has 4 bytes, its parent says 5"),
        (file([(file([(A.cid.raw, 4)]).cid.raw, 9)]), "has 4 bytes, its parent says 9"),
        (file([(A.cid.raw, 1 << 62)]), "says that it has"),
        (file([(identity(b"hi"), 3)]), "has 2 bytes, its parent says 3"),
        (pb_node(Kind.FILE, [("", A.cid.raw)]), "sizes of 0 parts"),
        (Whole(Cid.of(b"\x12\xff", Codec.DAG_PB), b"\x12\xff"), "cut short"),
        (directory({"x": b"\x01\x71\x12\x20" + bytes(32)}), "codec 0x71"),
        (directory({"x": b"\x01\x55\x16\x20" + bytes(32)}), "hash function 0x16"),
    ],
)
async def test_what_contradicts_itself_or_is_not_read_is_refused(
    store: Store, dags: Dags, root: Whole, why: str
) -> None:
    name = await keep(store, root, A, file([(A.cid.raw, 4)]))
    with pytest.raises((BrokenDagError, UnsupportedError), match=why):
        await walked(dags, name)


async def test_a_blob_is_as_long_as_its_parent_says(store: Store, dags: Dags) -> None:
    data = content(MIB + 1)
    blob = await store.put(Digest.of(data), data, PUBLIC)
    name = await keep(store, file([(blob.cid.raw, MIB)]))
    with pytest.raises(BrokenDagError, match="its parent says"):
        await walked(dags, name)


async def test_a_depth_bomb_ends(store: Store, dags: Dags) -> None:
    blocks = [directory({})]
    for _ in range(MAX_DEPTH + 2):
        blocks.append(directory({"d": blocks[-1].cid.raw}))
    await keep(store, *reversed(blocks))
    assert len(await walked(dags, Name(blocks[MAX_DEPTH].cid))) == MAX_DEPTH + 1
    with pytest.raises(BrokenDagError, match="deep"):
        await walked(dags, Name(blocks[-1].cid))


async def test_a_bomb_of_duplicates_is_sent_once_or_ends(store: Store, dags: Dags) -> None:
    blocks = bomb()
    name = await keep(store, *blocks)
    async with asyncio.timeout(20):
        assert await cids(dags, name) == shown(*blocks)
        with pytest.raises(BrokenDagError, match="again and again"):
            await walked(dags, name, dups=True)


async def test_a_bomb_of_links_that_wait_ends(store: Store, dags: Dags, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "MAX_PENDING", 100)
    name = await keep(store, directory({f"{at:03}": A.cid.raw for at in range(101)}), A)
    with pytest.raises(BrokenDagError, match="waiting"):
        await walked(dags, name)


async def test_identity_cids_within_each_other_end(store: Store, dags: Dags) -> None:
    """One cannot hold itself; one in another is at most 128 bytes long, so that they do not go deep either."""
    inner = identity(b"x")
    while len(further := identity(file([(inner, 1)]).data, Codec.DAG_PB)) <= 128:
        inner = further
    name = await keep(store, file([(inner, 1)]))
    assert len(await walked(dags, name)) < 10
    broken = await keep(store, file([(further, 1)]))
    with pytest.raises(UnsupportedError):
        await walked(dags, broken)


# --- any tree -------------------------------------------------------------------------------------------------------

_LEAVES = st.binary(min_size=1, max_size=6).map(lambda data: (data, leaf(data), ()))


def _joined(parts: "list[Tree]") -> "Tree":
    node = file([(part[1].cid.raw, len(part[0])) for part in parts])
    return b"".join(part[0] for part in parts), node, tuple(parts)


Tree = tuple[bytes, Whole, "tuple[Tree, ...]"]
_TREES: st.SearchStrategy[Tree] = st.recursive(
    _LEAVES, lambda below: st.lists(below, min_size=1, max_size=4).map(_joined), max_leaves=12
)


def _expected(tree: Tree, part: range, at: int = 0) -> Iterator[Whole]:
    yield tree[1]
    for child in tree[2]:
        if at < part.stop and at + len(child[0]) > part.start:
            yield from _expected(child, part, at)
        at += len(child[0])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=_TREES, ends=st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_a_part_of_any_file_is_the_blocks_that_it_needs(tmp_path: Path, tree: Tree, ends: tuple[int, int]) -> None:
    part = range(min(*ends, len(tree[0])), min(max(ends), len(tree[0])))

    async def look() -> None:
        async with open_store(tmp_path / "data") as store:
            dags = Dags(Held(store, lambda _visibility: True))
            name = await keep(store, *{block.cid: block for block in _expected(tree, range(1000))}.values())
            expected = [str(block.cid) for block in _expected(tree, part)]
            assert await cids(dags, name, Scope.ENTITY, part, dups=True) == expected
            assert await cids(dags, name, Scope.ENTITY, part) == list(dict.fromkeys(expected))
            chunks = [bytes(each) async for each in contents(dags.walk(name, Scope.ENTITY, part, dups=True), part)]
            assert b"".join(chunks) == tree[0][part.start : part.stop]

    asyncio.run(look())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=120), cut=st.integers(0, 120), flip=st.integers(0, 1 << 30))
def test_whatever_a_block_says_the_walk_ends_with_a_reason(tmp_path: Path, data: bytes, cut: int, flip: int) -> None:
    good = bytearray(directory({"a": A.cid.raw, "b": file([(B.cid.raw, 2)]).cid.raw}).data + data)
    good[flip % len(good)] ^= 1 + flip % 255
    block = bytes(good[: max(1, len(good) - cut)])

    async def look() -> None:
        async with open_store(tmp_path / "data") as store:
            dags = Dags(Held(store, lambda _visibility: True))
            name = await keep(store, Whole(Cid.of(block, Codec.DAG_PB), block), A, B)
            try:
                async for _ in sections(dags.walk(name, Scope.ALL, dups=True)):
                    pass
            except LayermeshError as error:
                assert str(error)

    asyncio.run(look())
