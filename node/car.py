"""Content addressable archives (CARv1): a header that names root CIDs, then blocks, each behind its length and CID.

Framing alone: what is written is pure, and `CarReader` takes bytes as they come and gives verified blocks. No more than
one section is ever kept, whatever length an archive claims.
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


@dataclass(frozen=True, slots=True)
class Section:
    """A block of an archive, which hashes to its name."""

    name: BlockName
    data: bytes


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
    if bytes(data[at : at + 2]) == b"\x12\x20":
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


class CarReader:
    """Reads an archive as its bytes come."""

    def __init__(self) -> None:
        self.roots: tuple[BlockName, ...] | None = None
        """None until the header is here."""
        self._buffer = bytearray()
        self._wanted = 1

    def feed(self, data: bytes | bytearray | memoryview) -> list[Section]:
        """The blocks that are whole now, in the archive's order.

        Raises:
            InvalidError: when this is no archive, or has a block that is not read; nothing more can be fed then.
            MismatchError: when a block does not hash to its name.
        """
        self._buffer += data
        sections = []
        while len(self._buffer) >= self._wanted and (frame := self._frame()) is not None:
            if self.roots is None:
                self.roots = parse_header(frame)
            else:
                sections.append(_section(frame))
        return sections

    def finish(self) -> None:
        """Raises: InvalidError, when the archive ends before its header or within a section."""
        if self.roots is None or self._buffer:
            raise InvalidError("CAR: it is cut short")

    def _frame(self) -> bytes | None:
        """What stands behind the next length; None when it is not whole yet."""
        found = read_varint(self._buffer)
        if found is None:
            self._wanted = len(self._buffer) + 1
            return None
        length, start = found
        if self.roots is not None:
            check_section_length(length)
        elif not 0 < length <= MAX_HEADER_BYTES:
            raise InvalidError("CAR: it does not begin as one")
        end = start + length
        if len(self._buffer) < end:
            self._wanted = end
            return None
        with memoryview(self._buffer) as view:
            frame = bytes(view[start:end])
        del self._buffer[:end]
        self._wanted = 1
        return frame


def _section(frame: bytes) -> Section:
    name, start = read_name(frame)
    block = frame[start:]
    if len(block) > MAX_BLOCK_BYTES:
        raise InvalidError(f"CAR: a block of {len(block)} bytes: at most {MAX_BLOCK_BYTES} are read")
    check_block(name, block)
    return Section(name, block)


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
