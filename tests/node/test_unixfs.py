"""The DAG of the profile: the design's vectors, a slow reference, and nodes that somebody else made up."""

import hashlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cid import Cid, Codec
from node.errors import InvalidError
from node.unixfs import LEAF_BYTES, MAX_LINKS, Dag, Link, build_dag, encode_node, leaf_count, parse_node
from tests.node.contents import content, key_stream

GIB = 1024**3


def dag_of(pieces: Iterable[bytes], size: int) -> Dag:
    hashes = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    return build_dag(size, hashes or hashlib.sha256(b"").digest())


@pytest.mark.parametrize(
    ("seed", "size", "cid"),
    [
        ("chunk-v1-seed", 1048576, "bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta"),
        ("chunk-v1-seed", 1048577, "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64"),
        ("v1-2025-seed", GIB, "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm"),
        ("v1-2025-seed", GIB + 1, "bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe"),
    ],
)
def test_the_cid_of_a_key_stream_is_the_one_kubo_gives(seed: str, size: int, cid: str) -> None:
    assert str(dag_of(key_stream(seed, size), size).root) == cid


@pytest.mark.parametrize(
    ("data", "cid"),
    [
        (b"hello world", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"),
        (b"", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
    ],
)
def test_a_file_of_one_leaf_is_that_leaf(data: bytes, cid: str) -> None:
    dag = dag_of([data], len(data))
    assert (str(dag.root), dag.interior, dag.leaf_count) == (cid, (), 1)


def reference_root(size: int, leaves: list[bytes]) -> tuple[Cid, int]:
    """The root of a tree over leaves, made from the top: how deep, then recursively."""
    depth = 0
    while MAX_LINKS**depth < len(leaves):
        depth += 1

    def node(first: int, levels: int) -> Link:
        if levels == 0:
            length = min(LEAF_BYTES, size - first * LEAF_BYTES)
            return Link(Cid.from_hash(leaves[first]), length, length)
        width = MAX_LINKS ** (levels - 1)
        stop = min(first + MAX_LINKS * width, len(leaves))
        children = [node(at, levels - 1) for at in range(first, stop, width)]
        block = encode_node(children)
        return Link(
            Cid.of(block, Codec.DAG_PB),
            len(block) + sum(child.tsize for child in children),
            sum(child.file_bytes for child in children),
        )

    root = node(0, depth)
    return root.cid, root.file_bytes


@given(leaves=st.sampled_from([1, 2, 3, 1023, 1024, 1025, 2048, 2049, 3000]), rest=st.integers(0, LEAF_BYTES - 1))
def test_a_dag_is_the_reference_dag(leaves: int, rest: int) -> None:
    size = leaves * LEAF_BYTES - rest
    hashes = [hashlib.sha256(str(at).encode()).digest() for at in range(leaves)]
    dag = build_dag(size, b"".join(hashes))
    assert (dag.root, dag.size) == reference_root(size, hashes)


@given(leaves=st.integers(2, 40), rest=st.integers(0, LEAF_BYTES - 1))
def test_a_node_that_was_built_is_read_back(leaves: int, rest: int) -> None:
    size = leaves * LEAF_BYTES - rest
    dag = build_dag(size, content(32 * leaves))
    (cid, block), node = dag.interior[-1], parse_node(dag.interior[-1][1])
    assert cid == dag.root
    assert node.file_size == size
    assert [link.cid for link in node.links] == [dag.leaf(at).cid for at in range(leaves)]
    assert encode_node(node.links) == block


@given(st.binary(max_size=200))
def test_bytes_that_are_no_node_are_refused(block: bytes) -> None:
    with pytest.raises(InvalidError):
        parse_node(block)


@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_changed_node_is_refused_or_reads_as_exactly_what_it_says(at: int, byte: int) -> None:
    block = bytearray(build_dag(3 * LEAF_BYTES, content(96)).interior[0][1])
    block[at % len(block)] = byte
    try:
        node = parse_node(bytes(block))
    except InvalidError:
        return
    assert encode_node(node.links) == block


def test_a_block_beyond_two_mebibytes_is_refused() -> None:
    with pytest.raises(InvalidError, match="at most"):
        parse_node(bytes(2 * LEAF_BYTES + 1))


def test_leaf_hashes_must_be_as_many_as_the_size_says() -> None:
    with pytest.raises(InvalidError, match="2 of 32 bytes"):
        build_dag(LEAF_BYTES + 1, bytes(32))


def test_leaves_cover_the_file_in_order() -> None:
    size = 2 * LEAF_BYTES + 5
    dag = build_dag(size, content(96))
    spans = [(dag.leaf(at).offset, dag.leaf(at).length) for at in range(leaf_count(size))]
    assert spans == [(0, LEAF_BYTES), (LEAF_BYTES, LEAF_BYTES), (2 * LEAF_BYTES, 5)]
