"""Layouts in CARs: found by whatever order the blocks have, and refused with a reason where one lies."""

import os
from pathlib import Path as FilePath

import pytest

from facade.images.carfile import open_car
from node.car import MAX_SECTION_BYTES, car_header, section_head
from node.cid import Cid, Codec
from node.digest import Digest
from node.errors import InvalidError, MismatchError
from node.unixfs import MAX_BLOCK_BYTES
from node.varint import varint
from tests.facade.images.layouts import Blocks, layout_of, to_car
from tests.fakes.images import make_bytes, make_image
from tests.node.archives import read_archive
from tests.node.dags import directory

IMAGE = make_image("car", (1_500_000, 100))
FILES = layout_of(IMAGE)
LAYER = IMAGE.layers[0]


@pytest.fixture
def file(tmp_path: FilePath) -> FilePath:
    return tmp_path / "x.car"


def test_what_was_written_is_read(file: FilePath) -> None:
    to_car(FILES, file)
    with open_car(file) as layout:
        for path, data in FILES.items():
            assert layout.small(path, 4 << 20) == data
        for blob in (IMAGE.manifest, *IMAGE.blobs):
            assert layout.has(blob.digest)
            assert b"".join(layout.blob(blob.digest, blob.size)) == blob.data
        assert not layout.has(Digest.of(b"another"))


def test_blocks_may_have_any_order_and_come_again(file: FilePath) -> None:
    to_car(FILES, file)
    blocks, reader = Blocks(), open_car(file)
    with reader as layout:
        root = layout.root
        assert isinstance(root, Cid)
    sections = read_archive(file.read_bytes()).blocks
    for cid, data in reversed(sections):
        blocks.data[cid] = data
    blocks.write(root, file)
    with file.open("ab") as target:
        for cid, data in sections[:3]:
            target.write(section_head(cid, len(data)) + data)
    with open_car(file) as layout:
        assert b"".join(layout.blob(LAYER.digest, LAYER.size)) == LAYER.data


def test_a_block_that_was_changed_is_found_when_it_is_read(file: FilePath) -> None:
    to_car(FILES, file)
    data = file.read_bytes()
    file.write_bytes(data.replace(LAYER.data[-64:], bytes(64)))
    with open_car(file) as layout, pytest.raises(MismatchError, match="does not hash"):
        list(layout.blob(LAYER.digest, LAYER.size))


def test_a_block_that_is_missing_is_found_when_it_is_read(file: FilePath) -> None:
    blocks = Blocks()
    root = blocks.folder({"oci-layout": (leaf := blocks.add(b"x"))})
    blocks.write(root, file, without=[leaf])
    with open_car(file) as layout, pytest.raises(InvalidError, match="linked to that is not in the archive"):
        layout.small(("oci-layout",), 9)


def test_a_layout_without_blobs_has_none(file: FilePath) -> None:
    blocks = Blocks()
    blocks.write(blocks.folder({}), file)
    with open_car(file) as layout:
        assert not layout.has(LAYER.digest)
        with pytest.raises(InvalidError, match="not in it"):
            layout.blob(LAYER.digest, LAYER.size)


def test_a_root_that_is_no_directory_is_refused(file: FilePath) -> None:
    blocks = Blocks()
    blocks.write(blocks.add(b"x"), file)
    with open_car(file) as layout, pytest.raises(InvalidError, match="a file stands where a directory"):
        layout.small(("oci-layout",), 9)


def test_a_file_that_is_too_long_is_refused(file: FilePath) -> None:
    to_car({("index.json",): make_bytes("long", 3 << 20)}, file)
    with open_car(file) as layout, pytest.raises(InvalidError, match="goes on behind"):
        layout.small(("index.json",), 1 << 20)


HEADER = car_header([Cid.of(b"")])


def _section(name: bytes, block: bytes = b"hello world") -> bytes:
    return varint(len(name) + len(block)) + name + block


@pytest.mark.parametrize("name", [Cid.of(b"x").raw, Cid.of(b"x", Codec.DAG_PB).raw[2:], b"\x01\x55\x00\x01x"])
def test_blocks_are_found_by_every_name_that_is_known(file: FilePath, name: bytes) -> None:
    """CIDv1, CIDv0, and one that holds its block, which is taken from the name."""
    folder = directory({"oci-layout": name if name[:1] == b"\x01" else Cid.of(b"x").raw})
    file.write_bytes(car_header([folder.cid]) + _section(name, b"x") + _section(folder.cid.raw, folder.data))
    with open_car(file) as layout:
        assert layout.small(("oci-layout",), 9) == b"x"


def test_the_largest_block_is_read(file: FilePath) -> None:
    blocks = Blocks()
    blocks.write(blocks.folder({"big": blocks.add(bytes(MAX_BLOCK_BYTES))}), file)
    with open_car(file) as layout:
        assert layout.small(("big",), MAX_BLOCK_BYTES) == bytes(MAX_BLOCK_BYTES)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "does not begin as one"),
        (b"PK\x03\x04" * 99, "does not begin as one"),
        (b"\xff" * 99, "varint"),
        (HEADER[:-1], "cut short"),
        (bytes.fromhex("0aa16776657273696f6e02") + bytes(40), "CARv2"),
        (car_header([Cid.of(b"1"), Cid.of(b"2")]), "2 roots"),
        (HEADER + varint(2**62), "section of"),
        (HEADER + varint(MAX_SECTION_BYTES + 1), "section of"),
        (HEADER + b"\x00", "section of 0"),
        (HEADER + section_head(Cid.of(b"x"), 100) + b"x", "cut short"),
        (HEADER + b"\x80", "cut short"),
        (HEADER + section_head(Cid.of(b"x"), MAX_BLOCK_BYTES + 1) + bytes(MAX_BLOCK_BYTES + 1), "a block of"),
        (HEADER + b"\x04\x01\x71\x12\x20", "codec 0x71"),
        (HEADER + b"\x02\x01\x55" + b"\x12\x20" + bytes(40), "cut short"),
        (HEADER + b"\xff" * 16, "varint"),
        (HEADER + b"\xa8\x80\x00", "varint"),
        (HEADER.replace(b"roots\x81", b"roots\x82"), "root"),
        (HEADER + _section(b"\x02\x55\x12\x20" + bytes(32)), "version 2"),
        (HEADER + _section(b"\x01\x55\x13\x40" + bytes(64)), "hash function 0x13"),
        (HEADER + _section(b"\x01\x55\x12\x10" + bytes(16)), "hash function 0x12 of 16 bytes"),
        (HEADER + _section(b"\x01\x55\x00" + varint(200) + bytes(200)), "hash function 0x0 of 200 bytes"),
    ],
)
def test_what_is_no_archive_is_refused_with_a_reason(file: FilePath, data: bytes, reason: str) -> None:
    file.write_bytes(data)
    with pytest.raises(InvalidError, match=reason), open_car(file):
        pass


def test_a_file_that_is_not_there_is_said(tmp_path: FilePath) -> None:
    with pytest.raises(InvalidError, match="No such file"), open_car(tmp_path / "no.car"):
        pass


def test_a_dag_pb_leaf_and_a_raw_one_of_the_same_bytes_are_one_block(file: FilePath) -> None:
    blocks = Blocks()
    leaf = blocks.add(b"\x0a\x02\x08\x02", Codec.DAG_PB)
    blocks.write(blocks.folder({"empty": leaf}), file)
    with open_car(file) as layout:
        assert layout.small(("empty",), 9) == b""


def test_a_fifo_is_not_waited_for(file: FilePath) -> None:
    os.mkfifo(file)
    with pytest.raises(InvalidError, match="no plain file"), open_car(file):
        pass
