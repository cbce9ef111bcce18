"""Layouts that somebody else cut: every block once, raw leaves as ranges of the blobs that the node has."""

import pytest

from facade.images import foreign
from facade.images.foreign import foreign_blocks
from node.car import BlockName
from node.cid import Cid, Codec
from node.digest import Digest
from node.errors import InvalidError, MismatchError
from node.foreign import Part, Whole
from node.unixfs import Link, encode_node
from tests.facade.images.layouts import Blocks

BLOB = b"abcdefgh" * 100
DIGEST = Digest.of(BLOB)


class Cut(Blocks):
    """A layout of one blob in leaves of 300 bytes, which has a leaf twice."""

    def __init__(self) -> None:
        super().__init__()
        pieces = [BLOB[at : at + 300] for at in range(0, len(BLOB), 300)]
        self.leaves = [self.add(piece) for piece in pieces]
        links = [Link(cid, len(piece), len(piece)) for cid, piece in zip(self.leaves, pieces, strict=True)]
        self.file = self.add(encode_node(links), Codec.DAG_PB)
        self.index = self.add(b"{}")
        folder = self.folder({"sha256": self.folder({DIGEST.hex: self.file})})
        self.root = self.folder({"blobs": folder, "index.json": self.index, "oci-layout": self.index})

    def __call__(self, name: BlockName) -> bytes:
        assert isinstance(name, Cid)
        return self.data[name]


def test_every_block_comes_once_and_raw_leaves_are_parts_of_the_blob() -> None:
    cut = Cut()
    found = list(foreign_blocks(cut, cut.root, {DIGEST: len(BLOB)}))
    parts = [each for each in found if isinstance(each, Part)]
    assert [(each.cid, each.offset, each.length) for each in parts] == [
        (cut.leaves[0], 0, 300),
        (cut.leaves[1], 300, 300),
        (cut.leaves[2], 600, 200),
    ]
    assert {each.digest for each in parts} == {DIGEST}
    assert sorted(each.cid.raw for each in found) == sorted(cid.raw for cid in cut.data)
    assert all(each.data == cut.data[each.cid] for each in found if isinstance(each, Whole))


def test_leaves_of_what_is_no_blob_of_the_images_are_kept_as_they_are() -> None:
    cut = Cut()
    found = list(foreign_blocks(cut, cut.root, {}))
    assert all(isinstance(each, Whole) for each in found) and len(found) == len(cut.data)


def test_more_than_the_catalog_is_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "MOST_WHOLE_BYTES", 500)
    cut = Cut()
    with pytest.raises(InvalidError, match="more than 500 bytes that are no part"):
        list(foreign_blocks(cut, cut.root, {}))


def test_a_block_that_was_changed_is_refused() -> None:
    cut = Cut()
    cut.data[cut.leaves[1]] = bytes(300)
    with pytest.raises(MismatchError, match="does not hash"):
        list(foreign_blocks(cut, cut.root, {DIGEST: len(BLOB)}))


@pytest.mark.parametrize("deep", [False, True])
def test_few_blocks_that_are_linked_to_ever_so_often_are_refused(monkeypatch: pytest.MonkeyPatch, deep: bool) -> None:
    monkeypatch.setattr(foreign, "MOST_READ_BYTES", 200_000)
    cut, read = Cut(), 0

    def counting(name: BlockName) -> bytes:
        nonlocal read
        read += 1
        return cut(name)

    file = cut.add(encode_node([Link(cut.index, 2, 2)] * 100), Codec.DAG_PB)
    many = cut.folder({f"{at:03}": file for at in range(500)})
    root = cut.folder({"blobs": cut.folder({f"{at:03}": many for at in range(500)})}) if deep else many
    with pytest.raises(InvalidError, match="more than 200000 bytes would be read"):
        list(foreign_blocks(counting, root, {}))
    assert read < 2000
