"""The leaf hashes of a blob, from peers that may say anything."""

import hashlib

import pytest

from cluster.swarm.leaves import WrongMappingError, fetch_dag
from node.cid import Cid, Codec
from node.unixfs import LEAF_BYTES, Dag, Link, build_dag, encode_node


def dag_of(leaves: int, size: int | None = None) -> Dag:
    hashes = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(leaves))
    return build_dag(leaves * LEAF_BYTES if size is None else size, hashes)


class Blocks:
    """Blocks by CID, and how often they were asked for."""

    def __init__(self, *blocks: tuple[Cid, bytes]) -> None:
        self.blocks = dict(blocks)
        self.asked = 0

    async def __call__(self, cid: Cid) -> bytes:
        self.asked += 1
        return self.blocks[cid]


@pytest.mark.parametrize("leaves", [2, 1024, 1025, 2049])
async def test_the_dag_is_found_again(leaves: int) -> None:
    dag = dag_of(leaves)
    blocks = Blocks(*dag.interior)
    assert await fetch_dag(dag.root, dag.size, blocks) == dag
    assert blocks.asked == len(dag.interior)


@pytest.mark.parametrize("size", [LEAF_BYTES + 1, 3 * LEAF_BYTES - 1, 5 * LEAF_BYTES, 1025 * LEAF_BYTES, 1 << 39])
async def test_a_wrong_size_is_refused(size: int) -> None:
    dag = dag_of(3)
    blocks = Blocks(*dag.interior)
    with pytest.raises(WrongMappingError):
        await fetch_dag(dag.root, size, blocks)
    assert blocks.asked <= 2


async def test_a_node_that_links_to_itself_for_ever_costs_little() -> None:
    dag = dag_of(1025)
    leaf = Link(Cid.from_hash(b"l" * 32), LEAF_BYTES, LEAF_BYTES)
    deep = encode_node([leaf] * 1024)
    child = Link(Cid.of(deep, Codec.DAG_PB), LEAF_BYTES, LEAF_BYTES)
    root = encode_node([child] * 1024)
    blocks = Blocks((Cid.of(root, Codec.DAG_PB), root), (child.cid, deep))
    with pytest.raises(WrongMappingError):
        await fetch_dag(Cid.of(root, Codec.DAG_PB), dag.size, blocks)
    assert blocks.asked <= 3


async def test_bytes_that_are_no_node_are_refused() -> None:
    junk = b"\x12\xff\xff\xff junk"
    root = Cid.of(junk, Codec.DAG_PB)
    with pytest.raises(WrongMappingError):
        await fetch_dag(root, 5 * LEAF_BYTES, Blocks((root, junk)))
