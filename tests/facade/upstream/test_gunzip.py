"""Decoding gzip piece by piece."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facade.upstream.gunzip import Gunzip


def decoded(body: bytes, step: int) -> bytes:
    gunzip, data = Gunzip(), bytearray()
    for at in range(0, len(body), step):
        gunzip.give(body[at : at + step])
        while piece := gunzip.take():
            assert len(piece) <= 256 * 1024
            data += piece
    assert gunzip.is_whole
    return bytes(data)


@given(st.lists(st.binary(max_size=2000), max_size=3), st.integers(1, 500))
def test_any_pieces_of_any_members_give_the_same(members: list[bytes], step: int) -> None:
    assert decoded(b"".join(map(gzip.compress, members)), step) == b"".join(members)


def test_a_bomb_comes_in_small_pieces() -> None:
    assert decoded(gzip.compress(bytes(50_000_000)), 65536) == bytes(50_000_000)


def test_what_is_cut_is_not_whole() -> None:
    gunzip = Gunzip()
    gunzip.give(gzip.compress(b"data" * 100)[:-9])
    gunzip.take()
    assert not gunzip.is_whole


def test_what_is_no_gzip_is_told() -> None:
    gunzip = Gunzip()
    gunzip.give(b"<html>")
    with pytest.raises(ValueError):
        gunzip.take()
