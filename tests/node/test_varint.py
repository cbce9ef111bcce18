"""Numbers of no fixed length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import InvalidError
from node.varint import MAX_VARINT_BYTES, read_varint, varint


@given(number=st.integers(0, 2**63 - 1), before=st.binary(max_size=3), behind=st.binary(max_size=3))
def test_a_number_is_read_as_it_was_written(number: int, before: bytes, behind: bytes) -> None:
    written = varint(number)
    assert read_varint(before + written + behind, len(before)) == (number, len(before) + len(written))


@given(number=st.integers(0, 2**63 - 1))
def test_a_number_that_is_cut_short_is_none_yet(number: int) -> None:
    written = varint(number)
    assert all(read_varint(written[:end]) is None for end in range(len(written)))


@pytest.mark.parametrize("written", [b"\x80\x00", b"\xff\x80\x00", b"\x80" * MAX_VARINT_BYTES, b"\xff" * 20])
def test_a_number_that_is_written_too_long_is_refused(written: bytes) -> None:
    with pytest.raises(InvalidError, match="varint"):
        read_varint(written)
