"""CARv1: what is written is read again, and what others made up is refused with a reason."""

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.car import MAX_SECTION_BYTES, BlockName, CarReader, Inline, Section, car_header, read_name, section_head
from node.cid import Cid, Codec
from node.errors import InvalidError, MismatchError
from node.unixfs import MAX_BLOCK_BYTES
from node.varint import varint

BLOCK = b"hello world"
RAW = Cid.of(BLOCK)
NODE = Cid.of(BLOCK, Codec.DAG_PB)
HEADER = car_header([RAW])
V2_PRAGMA = bytes.fromhex("0aa16776657273696f6e02")


def archive(*blocks: bytes) -> bytes:
    """An archive of raw blocks, whose first one is the root."""
    cids = [Cid.of(block) for block in blocks]
    sections = (section_head(cid, len(block)) + block for cid, block in zip(cids, blocks, strict=True))
    return car_header(cids[:1]) + b"".join(sections)


def section(name: bytes, block: bytes = BLOCK) -> bytes:
    return varint(len(name) + len(block)) + name + block


def read(data: bytes) -> tuple[tuple[BlockName, ...] | None, list[Section]]:
    reader = CarReader()
    sections = reader.feed(data)
    reader.finish()
    return reader.roots, sections


def test_a_header_is_the_one_that_other_tools_write() -> None:
    cid = Cid.parse("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")
    assert car_header([cid]).hex() == (
        "3aa265726f6f747381d82a58250001551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
        "6776657273696f6e01"
    )


@given(
    blocks=st.lists(st.binary(max_size=300), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 3000), max_size=8),
)
def test_an_archive_is_read_as_it_was_written_however_its_bytes_come(blocks: list[bytes], cuts: list[int]) -> None:
    data, reader, sections = archive(*blocks), CarReader(), []
    ends = sorted(min(cut, len(data)) for cut in cuts)
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        sections += reader.feed(data[start:end])
    reader.finish()
    assert reader.roots == (Cid.of(blocks[0]),)
    assert sections == [Section(Cid.of(block), block) for block in blocks]


@pytest.mark.parametrize("count", [1, 2, 23, 24, 255, 256, 1000])
def test_as_many_roots_as_were_written_are_read(count: int) -> None:
    roots = tuple(Cid.of(str(at).encode()) for at in range(count))
    assert read(car_header(roots)) == (roots, [])


def test_the_largest_block_is_read() -> None:
    block = bytes(MAX_BLOCK_BYTES)
    assert read(archive(block))[1] == [Section(Cid.of(block), block)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (RAW.raw, RAW),
        (NODE.raw, NODE),
        (NODE.raw[2:], NODE),  # a CIDv0
        (b"\x01\x55\x00\x0b" + BLOCK, Inline(Codec.RAW, BLOCK)),
    ],
)
def test_blocks_are_read_by_every_name_that_is_known(name: bytes, expected: BlockName) -> None:
    assert read(HEADER + section(name))[1] == [Section(expected, BLOCK)]


def test_an_empty_identity_block_is_read() -> None:
    assert read(HEADER + section(b"\x01\x55\x00\x00", b""))[1] == [Section(Inline(Codec.RAW, b""), b"")]


@pytest.mark.parametrize("name", [RAW.raw, NODE.raw, NODE.raw[2:], b"\x01\x55\x00\x0b" + BLOCK])
def test_a_block_that_does_not_hash_to_its_name_is_refused(name: bytes) -> None:
    with pytest.raises(MismatchError, match="block"):
        read(HEADER + section(name, b"jello world"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut short"),
        (HEADER[:-1], "cut short"),
        (archive(BLOCK)[:-1], "cut short"),
        (HEADER + b"\x80", "cut short"),
        (b"\x00", "does not begin as one"),
        (b"<!doctype html><html></html>" * 9, "does not begin as one"),
        (b"\x1f\x8b\x08\x00" * 99, "does not begin as one"),
        (varint(2**62), "does not begin as one"),
        (V2_PRAGMA + bytes(40), "CARv2"),
        (HEADER.replace(b"\x67version\x01", b"\x67version\x03"), "header"),
        (HEADER.replace(b"roots\x81", b"roots\x82"), "root"),
        (HEADER.replace(b"\xd8\x2a", b"\xd8\x2b"), "root"),
        (HEADER + b"\x00", "section of 0 bytes"),
        (HEADER + varint(2**62), f"section of {2**62} bytes"),
        (HEADER + varint(MAX_SECTION_BYTES + 1), f"1 to {MAX_SECTION_BYTES} are expected"),
        (HEADER + b"\xff" * 16, "varint"),
        (HEADER + b"\xa8\x80\x00", "varint"),
        (archive(bytes(MAX_BLOCK_BYTES + 1)), f"at most {MAX_BLOCK_BYTES}"),
        (HEADER + section(b"\x01\x55\x12\x20" + bytes(31), b""), "cut short"),
        (HEADER + section(b"\x01\x55", b""), "cut short"),
        (HEADER + section(b"\x02\x55\x12\x20" + bytes(32)), "version 2"),
        (HEADER + section(b"\x01\x71\x12\x20" + bytes(32)), "codec 0x71"),
        (HEADER + section(b"\x01\x55\x13\x40" + hashlib.sha512(BLOCK).digest()), "hash function 0x13"),
        (HEADER + section(b"\x01\x55\x12\x10" + bytes(16)), "hash function 0x12 of 16 bytes"),
        (HEADER + section(b"\x01\x55\x00" + varint(200) + bytes(200), bytes(200)), "hash function 0x0 of 200 bytes"),
    ],
)
def test_what_is_no_archive_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        read(data)


def test_what_a_section_claims_to_be_long_is_not_kept() -> None:
    reader = CarReader()
    reader.feed(HEADER)
    with pytest.raises(InvalidError, match="section"):
        for _ in range(8):
            reader.feed(varint(2**40) + bytes(1024))


@given(data=st.binary(max_size=200), valid=st.integers(0, len(archive(BLOCK))))
@example(data=b"\x80\x00", valid=len(HEADER))
def test_whatever_bytes_come_are_read_or_refused(data: bytes, valid: int) -> None:
    try:
        _, sections = read(archive(BLOCK)[:valid] + data)
    except (InvalidError, MismatchError):
        return
    assert all(
        isinstance(each.name, Inline) or each.name.hash == hashlib.sha256(each.data).digest() for each in sections
    )


@given(data=st.binary(max_size=200))
def test_whatever_bytes_come_name_a_block_or_are_refused(data: bytes) -> None:
    try:
        name, end = read_name(data)
    except InvalidError:
        return
    assert 4 <= end <= len(data)
    assert isinstance(name, Inline) or name.hash == data[end - 32 : end]
