"""Content addressable archives (CARv1): a header that names root CIDs, then blocks, each behind its length and CID.

Framing alone, and pure: who reads an archive keeps no more than one section, whatever length it claims.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from node.cid import RAW_LENGTH, Cid, Codec
from node.errors import InvalidError, MismatchError
from node.unixfs import MAX_BLOCK_BYTES
from node.varint import read_varint, varint

MAX_CID_BYTES: Final = 128
"""The longest CID that is read; one with an identity hash holds its block's bytes."""
MAX_SECTION_BYTES: Final = MAX_BLOCK_BYTES + MAX_CID_BYTES
MAX_HEADER_BYTES: Final = 64 * 1024
_CODECS: Final = {int(codec): codec for codec in Codec}
_SHA2_256: Final = 0x12
_USUAL: Final = frozenset(bytes((1, codec, _SHA2_256, 32)) for codec in Codec)
_IDENTITY: Final = 0x00
_V2_HEADER: Final = b"\xa1\x67version\x02"
_ROOTS: Final = b"\xa2\x65roots"  # DAG-CBOR: a map of two, whose first key is "roots"
_VERSION_1: Final = b"\x67version\x01"
_ROOT_HEAD: Final = b"\xd8\x2a"  # tag 42, a CID: a byte string that begins with 0


@dataclass(frozen=True, slots=True)
class Inline:
    """The name of a small block whose CID (identity hash) holds its bytes."""

    codec: Codec
    data: bytes


BlockName = Cid | Inline
"""How a block is named where others write the names; a CIDv0 is read as the CIDv1 of the same block."""


def car_header(roots: Sequence[Cid]) -> bytes:
    """What an archive begins with, `roots` being one or more."""
    return header_naming([root.raw for root in roots])


def header_naming(roots: Sequence[bytes]) -> bytes:
    """As `car_header`, the roots being the bytes of CIDs of any kind."""
    parts = [_ROOTS, _cbor_head(0x80, len(roots))]
    for root in roots:
        parts += (_ROOT_HEAD, _cbor_head(0x40, 1 + len(root)), b"\x00", root)
    body = b"".join((*parts, _VERSION_1))
    return varint(len(body)) + body


def section_head(cid: Cid, length: int) -> bytes:
    """What stands before the `length` bytes of a block."""
    return varint(RAW_LENGTH + length) + cid.raw


def read_name(data: bytes | bytearray | memoryview, at: int = 0) -> tuple[BlockName, int]:
    """The CID that `data` has at `at`, of whatever length, and where it ends.

    Raises:
        InvalidError: when there is none, or one of another codec or hash function than layermesh reads.
    """
    head = bytes(data[at : at + 4])
    if head in _USUAL:
        return Cid(_exactly(data, at, RAW_LENGTH)), at + RAW_LENGTH
    if head[:2] == b"\x12\x20":
        return Cid.from_hash(_exactly(data, at + 2, 32), Codec.DAG_PB), at + 34
    (version, codec_code, function, length), start = _numbers(data, at)
    if version != 1:
        raise InvalidError(f"CID: version {version} is not known, only 0 and 1")
    codec = _CODECS.get(codec_code)
    if codec is None:
        raise InvalidError(f"CID: codec 0x{codec_code:x} is not read, only raw and dag-pb")
    if function == _SHA2_256 and length == 32:
        return Cid.from_hash(_exactly(data, start, 32), codec), start + 32
    if function == _IDENTITY and start - at + length <= MAX_CID_BYTES:
        return Inline(codec, _exactly(data, start, length)), start + length
    raise InvalidError(f"CID: hash function 0x{function:x} of {length} bytes is not read, only sha2-256 and identity")


def parse_header(body: bytes) -> tuple[BlockName, ...]:
    """The roots that an archive's header names; some gateways name none.

    Raises:
        InvalidError: when it is no CARv1's.
    """
    if body == _V2_HEADER:
        raise InvalidError(
            "CAR: it is a CARv2, and only version 1 is read: `ipfs dag import FILE`, then `ipfs dag export ROOT`, make"
            " one of it"
        )
    if not body.startswith(_ROOTS):
        raise InvalidError("CAR: it does not begin as one")
    count, at = _read_cbor_head(body, len(_ROOTS), 0x80)
    roots: list[BlockName] = []
    for _ in range(min(count, MAX_HEADER_BYTES)):
        if body[at : at + 2] != _ROOT_HEAD:
            raise InvalidError("CAR: a root is no CID")
        length, at = _read_cbor_head(body, at + 2, 0x40)
        root = _exactly(body, at, length)
        name, end = read_name(root, 1)
        if root[0] != 0 or end != length:
            raise InvalidError("CAR: a root is no CID")
        roots.append(name)
        at += length
    if body[at:] != _VERSION_1:
        raise InvalidError("CAR: its header is no CARv1's")
    return tuple(roots)


def check_block(name: BlockName, data: bytes | memoryview) -> None:
    """Raises: MismatchError, when `data` does not hash to its name."""
    if isinstance(name, Inline):
        if name.data != data:
            raise MismatchError("CAR: a block is not what its identity CID holds")
    elif hashlib.sha256(data).digest() != name.hash:
        raise MismatchError(f"CAR: a block does not hash to its name {name}")


def check_section_length(length: int) -> None:
    """Raises: InvalidError, when no section has this length."""
    if not 0 < length <= MAX_SECTION_BYTES:
        raise InvalidError(f"CAR: a section of {length} bytes: 1 to {MAX_SECTION_BYTES} are expected")


def _numbers(data: bytes | bytearray | memoryview, at: int) -> tuple[list[int], int]:
    """The four numbers that a CIDv1 begins with: version, codec, hash function, length of the hash."""
    numbers: list[int] = []
    for _ in range(4):
        found = read_varint(data, at)
        if found is None:
            raise InvalidError("CID: it is cut short")
        number, at = found
        numbers.append(number)
    return numbers, at


def _exactly(data: bytes | bytearray | memoryview, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise InvalidError("CID: it is cut short")
    return bytes(data[at : at + length])


def _cbor_head(major: int, number: int) -> bytes:
    """A CBOR item's head: its major type (in the upper three bits) and a number, as short as can be."""
    if number < 24:
        return bytes((major | number,))
    if number < 0x100:
        return bytes((major | 24, number))
    return bytes((major | 25,)) + number.to_bytes(2, "big")


def _read_cbor_head(data: bytes, at: int, major: int) -> tuple[int, int]:
    kind = _exactly(data, at, 1)[0]
    if kind & 0xE0 != major or kind & 0x1F > 25:
        raise InvalidError("CAR: its header is no CARv1's")
    if kind & 0x1F < 24:
        return kind & 0x1F, at + 1
    width = 1 if kind & 0x1F == 24 else 2
    return int.from_bytes(_exactly(data, at + 1, width), "big"), at + 1 + width
