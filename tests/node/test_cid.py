"""CIDs: text at the edges, 36 bytes inside."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cid import Cid, Codec
from node.errors import InvalidError


@given(st.binary(min_size=32, max_size=32), st.sampled_from(Codec))
def test_a_cid_reads_back_as_it_is_written(digest: bytes, codec: Codec) -> None:
    cid = Cid.from_hash(digest, codec)
    assert Cid.parse(str(cid)) == Cid.from_raw(cid.raw) == cid
    assert (cid.codec, cid.hash) == (codec, digest)


def test_the_text_is_lower_case_base32() -> None:
    assert str(Cid.of(b"hello world")) == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


def test_a_version_0_cid_names_the_same_block() -> None:
    old = Cid.parse("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
    assert old.codec is Codec.DAG_PB
    assert str(old) == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bafkqaaa",
        "bafy",
        "Qm",
        "nonsense",
        "z" * 50,
        "b" * 59,
        "bafkrei" + "!" * 52,
        "x" * 4000,
        "ä" * 20,
        "\x00" * 9,
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="CID"):
        Cid.parse(text)


@given(st.text(max_size=80))
def test_no_text_does_worse_than_being_refused(text: str) -> None:
    with contextlib.suppress(InvalidError):
        cid = Cid.parse(text)
        assert Cid.parse(str(cid)) == cid


@pytest.mark.parametrize("raw", [b"", bytes(36), b"\x01\x55\x12\x20" + bytes(31), b"\x01\x71\x12\x20" + bytes(32)])
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidError, match="CIDv1"):
        Cid.from_raw(raw)
