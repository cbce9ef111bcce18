"""The DAG of a layout: the same as Kubo's for the same folder, every block once and before those it links to."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from facade.images.taking import dag_of
from facade.images.tree import FileLeaf, Node, Path, Tree
from node.cid import Cid
from node.dagpb import parse_pb
from node.unixfs import LEAF_BYTES, Dag, build_dag

_NAMES = st.sampled_from(["a", "b", "z", "é", "sha256"])
_FILES = st.dictionaries(st.tuples(_NAMES, st.just("f")) | st.tuples(st.just("x"), _NAMES), st.binary(max_size=9))


def test_a_folder_has_the_root_that_kubo_gives_it() -> None:
    """Kubo 0.43.0: `ipfs add -r` with the profile unixfs-v1-2025 of `hello` and `sub/empty`."""
    tree = Tree({("hello",): dag_of(b"hello world"), ("sub", "empty"): dag_of(b"")})
    assert str(tree.root) == "bafybeic4j5fklik24l2zwc7brkan47f4wgox2iirnzi42uoygdsb2iyldy"


@given(files=_FILES)
def test_a_tree_does_not_depend_on_the_order_of_its_files(files: dict[Path, bytes]) -> None:
    dags = {path: dag_of(data) for path, data in files.items()}
    assert Tree(dags).root == Tree(dict(reversed(dags.items()))).root


@given(files=_FILES)
def test_every_block_comes_once_and_before_those_that_it_links_to(files: dict[Path, bytes]) -> None:
    tree = Tree({path: dag_of(data) for path, data in files.items()})
    blocks = list(tree.blocks())
    cids = [block.cid for block in blocks]
    assert cids[0] == tree.root
    assert len(cids) == len(set(cids))
    linked = [link.block for block in blocks if isinstance(block, Node) for link in parse_pb(block.data).links]
    assert set(cids) == {tree.root, *linked}
    for block in blocks:
        for link in parse_pb(block.data).links if isinstance(block, Node) else ():
            assert isinstance(link.block, Cid)
            assert cids.index(link.block) > cids.index(block.cid) or linked.count(link.block) > 1


def test_the_blocks_of_a_file_are_depth_first() -> None:
    dag = _deep()
    blocks = list(Tree({("file",): dag}).blocks())
    leaves = [block for block in blocks if isinstance(block, FileLeaf)]
    assert [leaf.offset for leaf in leaves] == [at * LEAF_BYTES for at in range(1025)]
    assert [isinstance(block, Node) for block in blocks[:4]] == [True, True, True, False]  # folder, root, node, leaf
    assert blocks[1].cid == dag.root
    assert isinstance(blocks[-2], Node)  # the second node below the root, before its only leaf


def _deep() -> Dag:
    """Of a file of so many leaves that they need two levels of nodes."""
    hashes = b"".join(hashlib.sha256(str(at).encode()).digest() for at in range(1025))
    return build_dag(1024 * LEAF_BYTES + 7, hashes)
