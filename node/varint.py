"""Numbers of no fixed length, as CIDs, CARs and dag-pb write them (multiformats, "unsigned-varint")."""

from typing import Final

from node.errors import InvalidError

MAX_VARINT_BYTES: Final = 9


def varint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes | bytearray | memoryview, at: int = 0) -> tuple[int, int] | None:
    """The number at `at` and where it ends; None when its end is not there.

    Raises:
        InvalidError: when it has more than 9 bytes, or more than it needs.
    """
    if at < len(data) and data[at] < 0x80:  # as almost all are
        return data[at], at + 1
    number = 0
    for index in range(MAX_VARINT_BYTES):
        if at + index >= len(data):
            return None
        byte = data[at + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index > 0:
                raise InvalidError("varint: it has more bytes than it needs")
            return number, at + index + 1
    raise InvalidError(f"varint: it has more than {MAX_VARINT_BYTES} bytes")
