"""Whatever blocks link to, what is read of them is right, or refused with a reason; and it is read in few steps."""

import asyncio
from collections.abc import AsyncIterator

from hypothesis import given, settings
from hypothesis import strategies as st

from node.car import read_name
from node.cid import Cid
from node.errors import LayermeshError
from node.formats import Scope
from node.ipfs.unixfs import Given, open_by_blocks
from node.naming import Name
from node.outgoing import sections
from node.traversal import MAX_DEPTH, Dags
from tests.node.archives import read_sections
from tests.node.dags import Made
from tests.node.graphs import Graph, graphs

LIMIT_S = 60
"""Only a guard against hanging."""
MOST_BYTES = 32 * 1024 * 1024
SPARE_READS = 300
"""So many blocks may be read twice: no more than a chain is long."""


async def joined(chunks: AsyncIterator[bytes | bytearray]) -> bytes:
    """All that comes, of which there is not much."""
    whole = bytearray()
    async for chunk in chunks:
        whole += chunk
        assert len(whole) < MOST_BYTES
    return bytes(whole)


def named(graph: Graph) -> Name:
    """The root."""
    return Name(read_name(graph.root)[0])


def archived(graph: Graph, *, dups: bool) -> list[tuple[bytes, bytes]] | None:
    """The sections of an archive; None where it is refused with a reason."""
    made = Made(graph.blocks.values())

    async def read() -> bytes | None:
        try:
            async with asyncio.timeout(LIMIT_S):
                return await joined(sections(Dags(made).walk(named(graph), Scope.ALL, dups=dups)))
        except LayermeshError as error:
            assert str(error)
            return None

    data = asyncio.run(read())
    assert made.reads <= len(graph.blocks) + SPARE_READS
    return None if data is None else read_sections(data)


def expected(graph: Graph, *, lies: bool = False) -> dict[bytes, bytes] | None:
    """The blocks that there are, by the names that they are linked to. See `Graph.below`."""
    below = graph.below(graph.root, lies=lies)
    if below is None:
        return None
    names = {name: read_name(name)[0] for name in below}
    return {name: graph.blocks[cid].data for name, cid in names.items() if isinstance(cid, Cid)}


@settings(max_examples=250)
@given(graph=graphs())
def test_an_archive_of_any_graph_has_each_block_once_or_is_refused(graph: Graph) -> None:
    """What is said of a block that was sent already is not looked at, and may be a lie."""
    found = archived(graph, dups=False)
    if found is not None:
        assert dict(found) == expected(graph, lies=True) and len(dict(found)) == len(found)
    else:
        assert expected(graph) is None or graph.depth(graph.root) > MAX_DEPTH


@settings(max_examples=250)
@given(graph=graphs(most=6, widest=100))
def test_an_archive_of_any_graph_with_duplicates_has_all_of_it_or_is_refused(graph: Graph) -> None:
    found = archived(graph, dups=True)
    assert found is None or dict(found) == expected(graph)


@settings(max_examples=250)
@given(graph=graphs(), ends=st.tuples(st.integers(0, 200), st.none() | st.integers(0, 200)))
def test_a_part_of_any_file_is_right_or_refused(graph: Graph, ends: tuple[int, int | None]) -> None:
    made, content = Made(graph.blocks.values()), graph.content(graph.root)
    start, stop = ends

    async def read() -> bytes | None:
        try:
            async with asyncio.timeout(LIMIT_S), open_by_blocks(Given(made.get), named(graph), start, stop) as chunks:
                return await joined(chunks)
        except LayermeshError as error:
            assert str(error)
            return None

    found = asyncio.run(read())
    assert made.reads <= len(graph.blocks) + SPARE_READS
    if content is not None and graph.depth(graph.root) <= MAX_DEPTH:
        assert found == content[start:stop]
    elif content is None and stop is None and not start:
        assert found is None
