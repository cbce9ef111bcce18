"""CARv1: what is written is read again, and what others made up is refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.car import BlockName, Inline, car_header, check_block, parse_header, read_name, section_head
from node.cid import Cid, Codec
from node.errors import InvalidError, MismatchError
from node.varint import read_varint
from tests.node.archives import read_archive

BLOCK = b"hello world"
RAW = Cid.of(BLOCK)
NODE = Cid.of(BLOCK, Codec.DAG_PB)
V2_PRAGMA = bytes.fromhex("0aa16776657273696f6e02")


def body(header: bytes) -> bytes:
    """A header without its length."""
    found = read_varint(header)
    assert found is not None
    return header[found[1] :]


HEADER = body(car_header([RAW]))


def test_a_header_is_the_one_that_other_tools_write() -> None:
    cid = Cid.parse("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")
    assert car_header([cid]).hex() == (
        "3aa265726f6f747381d82a58250001551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
        "6776657273696f6e01"
    )


@given(blocks=st.lists(st.binary(max_size=300), min_size=1, max_size=8))
def test_an_archive_is_read_as_it_was_written(blocks: list[bytes]) -> None:
    cids = [Cid.of(block) for block in blocks]
    sections = (section_head(cid, len(block)) + block for cid, block in zip(cids, blocks, strict=True))
    found = read_archive(car_header(cids[:1]) + b"".join(sections))
    assert (found.roots, found.blocks) == ((cids[0],), list(zip(cids, blocks, strict=True)))


@pytest.mark.parametrize("count", [1, 2, 23, 24, 255, 256, 1000])
def test_as_many_roots_as_were_written_are_read(count: int) -> None:
    roots = tuple(Cid.of(str(at).encode()) for at in range(count))
    assert parse_header(body(car_header(roots))) == roots


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (RAW.raw, RAW),
        (NODE.raw, NODE),
        (NODE.raw[2:], NODE),  # a CIDv0
        (b"\x01\x55\x00\x0b" + BLOCK, Inline(Codec.RAW, BLOCK)),
        (b"\x01\x55\x00\x00", Inline(Codec.RAW, b"")),
    ],
)
def test_blocks_are_named_in_every_way_that_is_known(name: bytes, expected: BlockName) -> None:
    assert read_name(b"-" + name + b"behind", 1) == (expected, 1 + len(name))


@pytest.mark.parametrize("name", [RAW, NODE, Inline(Codec.RAW, BLOCK)])
def test_a_block_that_does_not_hash_to_its_name_is_refused(name: BlockName) -> None:
    check_block(name, BLOCK)
    with pytest.raises(MismatchError, match="block"):
        check_block(name, b"jello world")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "does not begin as one"),
        (HEADER[:-1], "header"),
        (HEADER[:30], "cut short"),
        (b"<!doctype html><html></html>" * 9, "does not begin as one"),
        (V2_PRAGMA[1:], "CARv2"),
        (HEADER.replace(b"\x67version\x01", b"\x67version\x03"), "header"),
        (HEADER.replace(b"roots\x81", b"roots\x82"), "root"),
        (HEADER.replace(b"roots\x81", b"roots\x99\xff\xff"), "root"),
        (HEADER.replace(b"\xd8\x2a", b"\xd8\x2b"), "root"),
    ],
)
def test_what_is_no_header_is_refused_with_a_reason(header: bytes, reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        parse_header(header)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"\x01\x55\x12\x20" + bytes(31), "cut short"),
        (b"\x12\x20" + bytes(31), "cut short"),
        (b"\x01\x55", "cut short"),
        (b"\x02\x55\x12\x20" + bytes(32), "version 2"),
        (b"\x01\x71\x12\x20" + bytes(32), "codec 0x71"),
        (b"\x01\x55\x13\x40" + bytes(64), "hash function 0x13"),
        (b"\x01\x55\x12\x10" + bytes(16), "hash function 0x12 of 16 bytes"),
        (b"\x01\x55\x00\xc8\x01" + bytes(200), "hash function 0x0 of 200 bytes"),
    ],
)
def test_names_of_other_kinds_are_refused_with_a_reason(name: bytes, reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        read_name(name)


@given(data=st.binary(max_size=200), valid=st.integers(0, len(HEADER)))
def test_whatever_bytes_come_are_a_header_or_refused(data: bytes, valid: int) -> None:
    try:
        roots = parse_header(HEADER[:valid] + data)
    except InvalidError:
        return
    assert roots == (RAW,) or valid < len(HEADER)


@given(data=st.binary(max_size=200))
def test_whatever_bytes_come_name_a_block_or_are_refused(data: bytes) -> None:
    try:
        name, end = read_name(data)
    except InvalidError:
        return
    assert 4 <= end <= len(data)
    assert isinstance(name, Inline) or name.hash == data[end - 32 : end]
