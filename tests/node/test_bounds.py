"""What hostile DAGs cost, with the limits as they are: few reads, little memory, and an end with a reason."""

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from node.dagpb import Kind
from node.errors import LayermeshError
from node.foreign import Whole
from node.formats import Scope
from node.naming import Name
from node.outgoing import contents, sections
from node.traversal import MAX_DEPTH, Dags, Piece
from node.unixfs import MAX_BLOCK_BYTES
from node.walked import MAX_PENDING, MAX_REPEATS, MAX_STEPS, BrokenDagError
from tests.node.contents import MIB
from tests.node.dags import Made, bomb, directory, field, file, leaf, pb_node, shard

LIMIT_S = 60
"""Only a guard against hanging."""
A = leaf(b"aaaa")
MOST_LINKS = 40_000
"""About as many as a node of 2 MiB has."""


async def drained(pieces: AsyncGenerator[Piece, None]) -> tuple[int, str]:
    """How many bytes of an archive come before a walk ends, and why it does."""
    size = 0
    try:
        async with asyncio.timeout(LIMIT_S), aclosing(sections(pieces)) as chunks:
            async for chunk in chunks:
                size += len(chunk)
    except LayermeshError as error:
        return size, str(error)
    return size, "it is whole"


async def cost(made: Made, name: Name, scope: Scope = Scope.ALL, *, dups: bool = True) -> tuple[int, str, int]:
    """As `drained`, and the most memory that the walk had at once."""
    tracemalloc.start()
    try:
        size, why = await drained(Dags(made).walk(name, scope, dups=dups))
        return size, why, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def wide(below: Whole) -> Whole:
    """A node of almost 2 MiB that links to one block as often as it can."""
    node = directory({f"{at:05}": below.cid.raw for at in range(MOST_LINKS)})
    assert MAX_BLOCK_BYTES * 3 // 4 < len(node.data) <= MAX_BLOCK_BYTES
    return node


def chain(first: Whole, count: int) -> list[Whole]:
    """Directories of which each has the one before, the last first."""
    blocks = [first]
    for _ in range(count):
        blocks.append(directory({"d": blocks[-1].cid.raw}))
    return blocks[::-1]


async def test_a_depth_bomb_ends_after_as_many_reads_as_a_dag_may_be_deep() -> None:
    blocks = chain(A, 20_000)
    made = Made(blocks)
    _, why, memory = await cost(made, Name(blocks[0].cid))
    assert "deep" in why
    assert made.reads == MAX_DEPTH + 1
    assert memory < 4 * MIB


@pytest.mark.parametrize("dups", [True, False])
async def test_a_bomb_of_duplicates_costs_no_more_than_its_blocks_and_the_repeats_that_are_allowed(dups: bool) -> None:
    blocks = bomb()
    made = Made(blocks)
    size, why, memory = await cost(made, Name(blocks[0].cid), dups=dups)
    assert ("again and again" in why) is dups
    assert made.reads == len(blocks)
    assert size < MAX_REPEATS * 100
    assert memory < 8 * MIB


@pytest.mark.parametrize("lying", [False, True])
async def test_a_bomb_of_duplicates_without_a_byte_in_it_gives_no_file(lying: bool) -> None:
    """Parts of no bytes at all, between two that have some."""
    empty = [file([])]
    for _ in range(20):
        empty.append(file([(empty[-1].cid.raw, 0)] * 10))
    root = file([(A.cid.raw, 4), (empty[-1].cid.raw, 1 if lying else 0), (A.cid.raw, 4)])
    made = Made([root, A, *empty])
    part = range(9 if lying else 8)
    async with (
        asyncio.timeout(LIMIT_S),
        aclosing(Dags(made).walk(Name(root.cid), Scope.ENTITY, part, dups=True)) as walk,
    ):
        if lying:
            with pytest.raises(BrokenDagError, match="its parent says 1"):
                [bytes(chunk) async for chunk in contents(walk, part)]
        else:
            assert b"".join([bytes(chunk) async for chunk in contents(walk, part)]) == b"aaaaaaaa"
    assert made.reads <= 4


async def test_wide_nodes_that_link_to_each_other_are_read_a_few_times() -> None:
    """Each is too long to be remembered: two of them have 10^9 ways."""
    first = wide(A)
    second = wide(first)
    made = Made([second, first, A])
    _, why = await drained(Dags(made).walk(Name(second.cid), Scope.ALL, dups=True))
    assert "again and again" in why
    assert made.reads <= 7


async def test_shards_whose_entries_lead_nowhere_are_read_a_few_times() -> None:
    """Every one of their links is looked at, and none is followed."""
    below = shard({f"{at:05}": A.cid.raw for at in range(MOST_LINKS)})
    root = pb_node(Kind.SHARD, [("00", below.cid.raw)] * 10_000, field(6, 256))
    made = Made([root, below, A])
    _, why = await drained(Dags(made).walk(Name(root.cid), Scope.ENTITY, dups=True))
    assert "again and again" in why
    assert made.reads <= 8


async def test_as_many_links_wait_as_may_and_no_more() -> None:
    leaves = [leaf(b"%d" % at) for at in range(3)]
    inner = pb_node(Kind.DIRECTORY, [("x", leaves[0].cid.raw)] * MOST_LINKS)
    middle = pb_node(Kind.DIRECTORY, [("x", inner.cid.raw), *[("y", leaves[1].cid.raw)] * (MOST_LINKS - 1)])
    fits = pb_node(Kind.DIRECTORY, [("x", middle.cid.raw), *[("y", A.cid.raw)] * (MAX_PENDING - 2 * MOST_LINKS - 2)])
    over = pb_node(Kind.DIRECTORY, [("x", middle.cid.raw), *[("y", A.cid.raw)] * (MAX_PENDING - 2 * MOST_LINKS)])
    blocks = [fits, over, middle, inner, *leaves, A]
    assert (await drained(Dags(Made(blocks)).walk(Name(fits.cid), Scope.ALL, dups=False)))[1] == "it is whole"
    _, why, memory = await cost(Made(blocks), Name(over.cid), dups=False)
    assert f"more than {MAX_PENDING} links waiting" in why
    assert memory < 16 * MIB


async def test_no_walk_is_longer_than_any_that_is_needed() -> None:
    """A leaf of 1 KiB may come ever so often, as in a file of zeros."""
    block = leaf(bytes(1024))
    inner = file([(block.cid.raw, 1024)] * 1024)
    middle = file([(inner.cid.raw, MIB)] * 1024)
    root = directory({"a": middle.cid.raw, "b": middle.cid.raw})
    made, count = Made([root, middle, inner, block]), 0
    with pytest.raises(BrokenDagError, match=f"more than {MAX_STEPS} blocks"):
        async with asyncio.timeout(LIMIT_S), aclosing(Dags(made).walk(Name(root.cid), Scope.ALL, dups=True)) as walk:
            async for _ in walk:
                count += 1
    assert (count, made.reads) == (MAX_STEPS, 4)


async def test_what_a_walk_remembers_of_each_block_is_little() -> None:
    """So that the longest that there may be has 256 MiB at most."""
    leaves = [leaf(b"%d" % at) for at in range(1 << 13)]
    parts = [
        directory({f"{n:03}": each.cid.raw for n, each in enumerate(leaves[at : at + 128])})
        for at in range(0, len(leaves), 128)
    ]
    root = directory({f"{at:03}": each.cid.raw for at, each in enumerate(parts)})
    made = Made([root, *parts, *leaves])
    _, why, memory = await cost(made, Name(root.cid), dups=False)
    assert why == "it is whole"
    assert memory * (MAX_STEPS // len(leaves)) < 256 * MIB


def _zeros(size: int) -> list[Whole]:
    """A file of zeros in this node's profile."""
    level, length = leaf(bytes(MIB)), MIB
    blocks = [level]
    while length < size:
        count = min(1024, size // length)
        level, length = file([(level.cid.raw, length)] * count), length * count
        blocks.append(level)
    return blocks[::-1]


def _zeros_without_raw_leaves() -> list[Whole]:
    """As Kubo cuts a file for a CIDv0: leaves of 256 KiB that are nodes, 174 links each."""
    length, blocks = 256 * 1024, [file([], bytes(256 * 1024))]
    for _ in range(2):
        blocks.append(file([(blocks[-1].cid.raw, length)] * 174))
        length *= 174
    return blocks[::-1]


def _packages() -> list[Whole]:
    """Packages of small files, many of them in several places, with an empty file in each folder."""
    empty, blocks = leaf(b""), []
    packages = {}
    for at in range(500):
        files = [leaf(b"%d" % (at // 2 * 20 + each)) for each in range(20)]
        package = directory({"__init__.py": empty.cid.raw, **{f"{n}.py": each.cid.raw for n, each in enumerate(files)}})
        packages[f"package{at}"] = package.cid.raw
        blocks += [package, *files]
    tree = directory(packages)
    root = directory({f"environment{at}": tree.cid.raw for at in range(5)})
    return [root, tree, empty, *blocks]


@pytest.mark.parametrize(
    "blocks",
    [
        _zeros(10 << 30),
        _zeros_without_raw_leaves(),
        [directory({f"{at:05}": A.cid.raw for at in range(MOST_LINKS)}), A],  # a great many equal files
        _packages(),
    ],
    ids=["zeros", "zeros without raw leaves", "equal files", "a tree of small files"],
)
async def test_what_people_have_goes_through(blocks: list[Whole]) -> None:
    made, count = Made(blocks), 0
    async with asyncio.timeout(LIMIT_S), aclosing(Dags(made).walk(Name(blocks[0].cid), Scope.ALL, dups=True)) as walk:
        async for _ in walk:
            count += 1
    assert count > 10_000
