"""Files by their CIDs: of any profile, and bounded whatever a DAG claims."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facade.images import files
from facade.images.taking import dag_of
from node.car import MAX_CID_BYTES, BlockName, Inline
from node.cid import Cid, Codec
from node.errors import InvalidError, MismatchError
from node.unixfs import Link, encode_node
from node.varint import varint
from tests.facade.images.layouts import Blocks
from tests.fakes.images import make_bytes

MIB = 1024 * 1024


class Kept(Blocks):
    """Blocks, read by their names; counts how often."""

    reads = 0

    def __call__(self, name: BlockName) -> bytes:
        assert isinstance(name, Cid)
        self.reads += 1
        return self.data[name]

    def leaf(self, data: bytes, kind: int = 2) -> Cid:
        """A leaf with its bytes in a node, as older tools make them."""
        return self.node((), data, kind)

    def node(self, links: Sequence[Cid | Inline], data: bytes = b"", kind: int = 2) -> Cid:
        """A node with bytes of its own and parts; the sizes it says are all 1."""
        unixfs = b"\x08" + varint(kind) + (_field(2, data) if data else b"") + b"\x20\x01" * len(links)
        parts = [_field(2, _field(1, _raw(link))) for link in links]
        return self.add(b"".join(parts) + _field(1, unixfs), Codec.DAG_PB)


def _field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def _raw(name: Cid | Inline) -> bytes:
    if isinstance(name, Cid):
        return name.raw
    return b"\x01" + varint(name.codec) + b"\x00" + varint(len(name.data)) + name.data


def whole(blocks: Kept, root: BlockName, size: int) -> bytes:
    return b"".join(files.read(blocks, root, size))


@given(size=st.integers(0, 3 * MIB))
def test_a_file_of_our_own_profile_is_read(size: int) -> None:
    blocks, data = Kept(), make_bytes("own", size)
    dag = dag_of(data)
    for at in range(dag.leaf_count):
        leaf = dag.leaf(at)
        blocks.add(data[leaf.offset : leaf.offset + leaf.length])
    for _, block in dag.interior:
        blocks.add(block, Codec.DAG_PB)
    assert whole(blocks, dag.root, size) == data


def test_a_file_of_nodes_with_bytes_in_them_is_read_in_order() -> None:
    blocks = Kept()
    below = blocks.node([blocks.add(b"cd"), blocks.leaf(b"ef", kind=0), Inline(Codec.RAW, b"gh")])
    root = blocks.node([below, blocks.leaf(b"ij")], b"ab")
    assert whole(blocks, root, 10) == b"abcdefghij"


def test_a_block_that_does_not_hash_to_its_name_is_refused() -> None:
    blocks = Kept()
    leaf = blocks.add(b"right")
    root = blocks.node([leaf])
    blocks.data[leaf] = b"wrong"
    with pytest.raises(MismatchError, match="does not hash"):
        whole(blocks, root, 5)


def test_a_file_that_is_longer_than_it_should_be_is_refused() -> None:
    blocks = Kept()
    with pytest.raises(InvalidError, match="goes on behind the 4 bytes"):
        whole(blocks, blocks.node([blocks.add(b"abc")] * 2), 4)


def test_a_depth_bomb_is_refused() -> None:
    blocks = Kept()
    root = blocks.add(b"x")
    for _ in range(10_000):
        root = blocks.node([root])
    with pytest.raises(InvalidError, match="64 blocks deep"):
        whole(blocks, root, 1)
    assert blocks.reads <= files.DEEPEST


def test_a_bomb_of_duplicates_that_bring_nothing_is_refused() -> None:
    """Each node links to the one below many times: 100 to the power of 30 visits, and not a byte."""
    blocks = Kept()
    root = blocks.leaf(b"")
    for _ in range(30):
        root = blocks.node([root] * 100)
    with pytest.raises(InvalidError, match="far more blocks"):
        whole(blocks, root, 1)
    assert blocks.reads < 5000


def test_large_nodes_that_bring_nothing_are_refused() -> None:
    blocks = Kept()
    root = blocks.leaf(b"")
    for _ in range(3):
        root = blocks.node([root] * 40_000)
    with pytest.raises(InvalidError, match="far more blocks"):
        whole(blocks, root, 1)
    assert blocks.reads < 5000


@pytest.mark.parametrize(("kind", "reason"), [(1, "directory"), (3, "metadata"), (4, "symlink"), (5, "shard")])
def test_what_is_no_file_is_refused(kind: int, reason: str) -> None:
    blocks = Kept()
    with pytest.raises(InvalidError, match=f"a {reason} stands where a file"):
        whole(blocks, blocks.leaf(b"x", kind), 1)


def test_a_file_is_found_in_its_directories() -> None:
    blocks = Kept()
    leaf = blocks.add(b"x")
    root = blocks.folder({"a": blocks.folder({"b": leaf}), "c": leaf})
    assert files.find(blocks, root, ("a", "b")) == leaf
    assert files.find(blocks, root, ()) == root


@pytest.mark.parametrize(
    ("path", "reason"), [(("b",), "b: it is not in it"), (("a", ".."), "not in it"), (("c", "d"), "a file stands")]
)
def test_what_is_not_in_a_directory_is_said(path: tuple[str, ...], reason: str) -> None:
    blocks = Kept()
    root = blocks.folder({"a": blocks.folder({}), "c": blocks.add(b"x")})
    with pytest.raises(InvalidError, match=reason):
        files.find(blocks, root, path)


@pytest.mark.parametrize(("kind", "reason"), [(2, "a file stands"), (4, "a symlink stands"), (5, "sharded")])
def test_what_is_no_plain_directory_is_refused(kind: int, reason: str) -> None:
    blocks = Kept()
    with pytest.raises(InvalidError, match=reason):
        files.directory(blocks, blocks.leaf(b"", kind))


def test_a_directory_with_two_entries_of_one_name_is_refused() -> None:
    blocks = Kept()
    link = _field(2, _field(1, blocks.add(b"x").raw) + _field(2, b"name"))
    root = blocks.add(link * 2 + _field(1, b"\x08\x01"), Codec.DAG_PB)
    with pytest.raises(InvalidError, match="two entries"):
        files.directory(blocks, root)


def test_the_node_that_our_own_profile_makes_is_a_file_of_any() -> None:
    blocks = Kept()
    leaf = blocks.add(b"abc")
    root = blocks.add(encode_node([Link(leaf, 3, 3), Link(leaf, 3, 3)]), Codec.DAG_PB)
    assert whole(blocks, root, 6) == b"abcabc"


def test_what_a_node_says_of_its_sizes_is_not_believed() -> None:
    """They say that each part has one byte: what comes is counted, and the blob's digest decides."""
    blocks = Kept()
    root = blocks.node([blocks.add(b"abc"), blocks.add(b"")])
    assert whole(blocks, root, 3) == b"abc"


def test_nodes_within_cids_nest_no_deeper_than_a_cid_is_long() -> None:
    blocks = Kept()
    name: Cid | Inline = Inline(Codec.RAW, b"x")
    depth = 0
    while len(_raw(name)) <= MAX_CID_BYTES:
        root = blocks.node([name])
        assert whole(blocks, root, 1) == b"x"
        name, depth = Inline(Codec.DAG_PB, blocks.data[root]), depth + 1
    assert depth > 3
    with pytest.raises(InvalidError, match="hash function 0x0"):
        whole(blocks, blocks.node([name]), 1)
