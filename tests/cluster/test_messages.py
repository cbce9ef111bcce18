"""What peers send is read into types, or refused by name."""

import math

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import messages
from cluster.messages import BlobLine, DropLine, Hello, LogPage, TagLine
from node.errors import InvalidError

ID = "ab" * 16
HELLO = Hello(v=1, id=ID, name="box", boot="cd" * 16, port=5051, secured=False)
RAW = b"\x01\x55\x12\x20" + b"h" * 32
DIGEST = "sha256:" + "0" * 64


def hello(**changes: object) -> bytes:
    plain = {"v": 1, "id": ID, "name": "box", "boot": "cd" * 16, "port": 5051, "secured": False, **changes}
    return bytes(msgpack.packb(plain))


def page(lines: list[object], **changes: object) -> bytes:
    return bytes(msgpack.packb({"v": 1, "log": ID, "upto": 9, "more": False, "lines": lines, **changes}))


def test_a_hello_comes_back_as_it_was() -> None:
    assert messages.decode_hello(messages.encode(HELLO)) == HELLO


def test_a_page_comes_back_as_it_was() -> None:
    lines: list[messages.Line] = [
        BlobLine(1, DIGEST, RAW, 5, "public"),
        DropLine(2, DIGEST),
        TagLine(3, "d.io", "x", "t", DIGEST, "m", 1.5, 4),
        TagLine(4, "d.io", "x", "u", DIGEST, "m", 1.5, 4, lasting=True),
    ]
    sent = LogPage(v=1, log=ID, upto=4, more=True, lines=lines)
    assert messages.decode_page(messages.encode(sent)) == sent


def test_a_tag_line_of_before_there_were_brought_images_is_read() -> None:
    line = ["tag", 3, "d.io", "x", "t", DIGEST, "m", 1.5, 4]
    assert messages.decode_page(page([line])).lines == [TagLine(3, "d.io", "x", "t", DIGEST, "m", 1.5, 4)]


def test_a_hello_with_a_daemon_comes_back_as_it_was() -> None:
    daemon = messages.Daemon("12D3KooW", ["/ip4/10.0.0.7/tcp/4001"])
    sent = msgspec.structs.replace(HELLO, daemon=daemon)
    assert messages.decode_hello(messages.encode(sent)) == sent


@pytest.mark.parametrize("daemon", [5, {"id": "x"}, {"id": "x", "addresses": ["a"] * 9}, {"id": 1, "addresses": []}])
def test_a_malformed_daemon_is_refused(daemon: object) -> None:
    with pytest.raises(InvalidError, match="Hello"):
        messages.decode_hello(hello(daemon=daemon))


def test_fields_of_later_versions_are_ignored() -> None:
    assert messages.decode_hello(hello(colour="blue")) == HELLO


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no msgpack"),
        (b"\xc1", "no msgpack"),
        (b"\x91" * 5000, "no msgpack"),
        (b"\x01\x01", "no msgpack"),
        (b"[]", "no msgpack"),
        (msgpack.packb([1]), "a map"),
        (hello(v=2), "version '2' is not spoken here, only 1"),
        (hello(v="1"), "version '1'"),
        (hello(v=True), "version"),
        (hello(id=ID + "\n"), "id"),
        (hello(id=ID.upper()), "id"),
        (hello(id=7), "id"),
        (hello(name=""), "name"),
        (hello(name="x" * 65), "name"),
        (hello(name="a\x1b[2J"), "cannot be shown"),
        (hello(port=0), "port"),
        (hello(port=65536), "port"),
        (hello(port=1.5), "port"),
        (hello(software="x" * 2000), "limits"),
        (hello(x=msgpack.ExtType(4, b"x")), "limits"),
        (hello() + b"\x00" * 20_000, "at most 16384"),
    ],
)
def test_a_malformed_hello_is_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        messages.decode_hello(data)


@pytest.mark.parametrize(
    "line",
    [
        ["blob", 1, DIGEST, RAW, 5],
        ["blob", 1, DIGEST, RAW, -5, "public"],
        ["blob", 1, DIGEST, RAW, 1 << 41, "public"],
        ["blob", 1, DIGEST, RAW, 5, "private"],
        ["blob", 1, DIGEST, RAW + b"x", 5, "public"],
        ["blob", -1, DIGEST, RAW, 5, "public"],
        ["blob", 1 << 63, DIGEST, RAW, 5, "public"],
        ["blob", 1, DIGEST, "text", 5, "public"],
        ["blob", 1, DIGEST, RAW, 5, "public", "more"],
        ["blob", 1, "sha256:zz", RAW, 5, "public"],
        ["blob", 1, DIGEST, b"\x00" * 36, 5, "public"],
        ["blob", 1, DIGEST, RAW, 1 << 30, "public"],
        ["pony", 1],
        ["tag", 3, "d.io", "X", "t", DIGEST, "m", 1.5, 4],
        ["tag", 3, "d.io", "x", "..", DIGEST, "m", 1.5, 4],
        ["tag", 3, "d.io", "x", "t", DIGEST, "m" * 300, 1.5, 4],
        [],
        7,
        {"blob": 1},
    ],
)
def test_a_malformed_line_is_refused(line: object) -> None:
    with pytest.raises(InvalidError):
        messages.read_lines(messages.decode_page(page([line])).lines)


def test_a_page_of_too_many_lines_is_refused() -> None:
    with pytest.raises(InvalidError):
        messages.decode_page(page([["drop", 1, DIGEST]] * (messages.MAX_PAGE_ENTRIES + 1)))


def test_a_page_with_a_date_that_is_no_number_is_readable() -> None:
    read = messages.decode_page(page([["tag", 3, "d.io", "x", "t", DIGEST, "m", math.nan, 4]]))
    assert len(read.lines) == 1


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reading(data: bytes) -> None:
    for decode in (messages.decode_hello, messages.decode_page):
        with pytest.raises(InvalidError):
            decode(data)


@settings(deadline=None, max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(), st.lists))
def test_no_values_crash_the_reading(value: object) -> None:
    for data in (page([value]), hello(id=value), hello(v=value), page([], upto=value)):
        for decode in (messages.decode_hello, messages.decode_page):
            try:
                decode(data)
            except InvalidError:
                continue


def test_a_name_that_others_would_refuse_is_made_showable() -> None:
    assert messages.shown_name("box\n\x1b" + "x" * 80) == "box??" + "x" * 59
