"""dag-pb of other tools: what Kubo and others write is read, what nobody writes is refused."""

import tracemalloc
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.car import Inline
from node.cid import Cid, Codec
from node.dagpb import DirEntry, Kind, PbLink, PbNode, directory_block, parse_pb
from node.errors import InvalidError
from node.unixfs import MAX_BLOCK_BYTES, Link, encode_node
from node.varint import varint

LEAF = Cid.of(b"hello world")
MANY = 20_000
"""More links than a short node has."""
_NAMES = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable())


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def file_of(*sizes: int, data: bytes = b"", links: bytes = b"") -> bytes:
    unixfs = b"\x08\x02" + (field(2, data) if data else b"") + b"".join(b"\x20" + varint(size) for size in sizes)
    return links + field(1, unixfs)


def test_the_empty_directory_is_the_one_that_everybody_knows() -> None:
    block = directory_block([])
    assert Cid.of(block, Codec.DAG_PB) == Cid.parse("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
    assert parse_pb(block) == PbNode(Kind.DIRECTORY, b"", (), ())


@given(names=st.sets(_NAMES, max_size=6), tsize=st.integers(0, 2**40))
def test_a_directory_is_read_as_it_was_written_in_the_order_of_its_names(names: set[str], tsize: int) -> None:
    node = parse_pb(directory_block([DirEntry(name, LEAF, tsize) for name in names]))
    assert node.links == tuple(PbLink(LEAF, name, tsize) for name in sorted(names, key=str.encode))


def test_the_links_of_a_long_node_take_no_memory_besides_it() -> None:
    names = [f"{at:05}" for at in range(MANY)]
    block = directory_block([DirEntry(name, LEAF, 1) for name in names])
    tracemalloc.start()
    try:
        links = parse_pb(block).links
        assert [link.name for link in islice(links, 3)] == names[:3]
        assert tracemalloc.get_traced_memory()[1] < MAX_BLOCK_BYTES // 16
    finally:
        tracemalloc.stop()
    assert len(links) == MANY
    assert [link.name for link in links] == names
    assert PbLink(LEAF, names[-1], 1) in links and PbLink(LEAF, "other", 1) not in links


def test_a_link_of_a_long_node_that_is_none_is_found_at_once() -> None:
    block = directory_block([DirEntry(f"{at:05}", LEAF, 1) for at in range(MANY)])
    with pytest.raises(InvalidError, match="a link names no block"):
        parse_pb(block.replace(field(1, LEAF.raw) + field(2, b"19999"), field(2, bytes(38) + b"19999")))


def test_a_directory_that_fits_no_block_is_refused() -> None:
    with pytest.raises(InvalidError, match="30000 entries"):
        directory_block([DirEntry(f"{at:064}", LEAF, 1) for at in range(30000)])


def test_a_file_of_our_own_profile_is_read_as_any_other() -> None:
    node = parse_pb(encode_node([Link(LEAF, 11, 11), Link(LEAF, 11, 11)]))
    assert (node.kind, node.data, node.sizes) == (Kind.FILE, b"", (11, 11))
    assert [link.block for link in node.links] == [LEAF, LEAF]


def test_a_file_whose_bytes_are_in_its_node_is_read() -> None:
    assert parse_pb(file_of(data=b"hello")) == PbNode(Kind.FILE, b"hello", (), ())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (LEAF.raw, LEAF),
        (b"\x12\x20" + LEAF.hash, Cid.from_hash(LEAF.hash, Codec.DAG_PB)),
        (b"\x01\x55\x00\x02hi", Inline(Codec.RAW, b"hi")),
    ],
)
def test_links_by_every_kind_of_name_are_read(name: bytes, expected: object) -> None:
    node = parse_pb(file_of(2, links=field(2, field(1, name) + b"\x12\x00\x18\x02")))
    assert [link.block for link in node.links] == [expected]


def test_what_is_said_besides_as_of_modes_and_times_is_passed_over() -> None:
    unixfs = b"\x08\x02" + field(2, b"hi") + b"\x18\x02\x38\xa4\x03" + field(8, b"\x08\x01\x15\x00\x00\x00\x00")
    assert parse_pb(field(1, unixfs)).data == b"hi"


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"", "without UnixFS"),
        (b"hello world", "block"),
        (field(1, b""), "no UnixFS"),
        (field(1, b"\x08\x09"), "no UnixFS"),
        (field(1, b"\x08\x02") * 2, "no dag-pb"),
        (field(1, b"\x08\x02")[:-1], "cut short"),
        (b"\x0a\xff\xff\xff\xff\x0f", "cut short"),
        (file_of(1), "1 parts and links to 0"),
        (file_of(links=field(2, field(1, LEAF.raw))), "0 parts and links to 1"),
        (file_of(1, links=field(2, field(2, b"name"))), "names no block"),
        (file_of(1, links=field(2, field(1, LEAF.raw + b"x"))), "no CID"),
        (file_of(1, links=field(2, field(1, LEAF.raw) * 2)), "no link has"),
        (file_of(1, links=field(2, field(1, b"\x01\x71\x12\x20" + bytes(32)))), "codec 0x71"),
        (file_of(1, links=field(2, field(1, LEAF.raw) + field(2, b"\xff"))), "UTF-8"),
        (b"\x0b", "no protobuf"),
        (bytes(MAX_BLOCK_BYTES + 1), "at most"),
    ],
)
def test_what_is_no_node_is_refused_with_a_reason(block: bytes, reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        parse_pb(block)


@given(block=st.binary(max_size=200))
def test_whatever_bytes_come_are_read_or_refused(block: bytes) -> None:
    try:
        node = parse_pb(block)
    except InvalidError:
        return
    assert node.kind in Kind
