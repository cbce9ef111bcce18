"""dag-pb nodes as any tool makes them: UnixFS files of any profile, and plain directories (UnixFS specification).

`node.unixfs` makes and reads exactly this node's own profile; this reads what others made, and makes directories.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from node.car import BlockName, read_name
from node.cid import Cid
from node.errors import InvalidError
from node.unixfs import MAX_BLOCK_BYTES
from node.varint import read_varint, varint

_DIRECTORY: Final = b"\x0a\x02\x08\x01"  # PBNode.Data: UnixFS Data, type = directory
_SHORT_BYTES: Final = 64 * 1024
"""The links of longer nodes are not kept, which would take six times as much memory as the node."""
_FIXED: Final = {1: 8, 5: 4}
"""Bytes of protobuf's fixed wire types."""


class Kind(IntEnum):
    """What a node stands for (UnixFS, `DataType`)."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    SHARD = 5


_KINDS: Final = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class PbLink:
    """A link: to which block, under which name (none in files), and the bytes of the DAG below, as it claims."""

    block: BlockName
    name: str
    tsize: int
    is_v0: bool = False
    """Whether the block is named by a CIDv0 there."""


@dataclass(frozen=True, slots=True)
class LongLinks(Collection[PbLink]):
    """The many links of a node that was read, which are read anew each time: so they cost no more than its bytes."""

    block: bytes
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[PbLink]:
        return (_link(value) for number, value in _fields(self.block) if number == 2 and isinstance(value, bytes))

    def __contains__(self, link: object) -> bool:
        return any(each == link for each in self)


@dataclass(frozen=True, slots=True)
class PbNode:
    """A node: bytes of its own, which come before those of its links, and how many file bytes each link has."""

    kind: Kind
    data: bytes
    links: Collection[PbLink]
    sizes: tuple[int, ...]
    fanout: int = 0
    """How many children a shard of a directory has at most."""


@dataclass(frozen=True, slots=True)
class DirEntry:
    """Something in a directory: its name, root, and the bytes of the DAG from there on, its blocks included."""

    name: str
    cid: Cid
    tsize: int


def directory_block(entries: Sequence[DirEntry]) -> bytes:
    """The exact bytes of a plain directory: its links in the order of their names, then what it is.

    Raises:
        InvalidError: when they are too many for one block.
    """
    parts: list[bytes] = []
    for entry in sorted(entries, key=lambda entry: entry.name.encode()):
        name = entry.name.encode()
        body = b"".join((b"\x0a\x24", entry.cid.raw, b"\x12", varint(len(name)), name, b"\x18", varint(entry.tsize)))
        parts += (b"\x12", varint(len(body)), body)
    block = b"".join((*parts, _DIRECTORY))
    if len(block) > MAX_BLOCK_BYTES:
        raise InvalidError(f"directory: its {len(entries)} entries do not fit a block of {MAX_BLOCK_BYTES} bytes")
    return block


def parse_pb(block: bytes) -> PbNode:
    """Read a node of any UnixFS DAG.

    Raises:
        InvalidError: when it is larger than 2 MiB, none, or links to a block of a kind that is not read.
    """
    if len(block) > MAX_BLOCK_BYTES:
        raise InvalidError(f"block of {len(block)} bytes: at most {MAX_BLOCK_BYTES} are accepted")
    links: list[PbLink] = []
    count, data = 0, None
    for number, value in _fields(block):
        if number == 2 and isinstance(value, bytes):
            link = _link(value)
            count += 1
            if len(block) <= _SHORT_BYTES:
                links.append(link)
        elif number == 1 and isinstance(value, bytes) and data is None:
            data = value
        else:
            raise InvalidError("block: it is no dag-pb node")
    if data is None:
        raise InvalidError("block: it is a dag-pb node without UnixFS in it")
    kind, own, sizes, fanout = _unixfs(data)
    if kind in (Kind.FILE, Kind.RAW) and len(sizes) != count:
        raise InvalidError(f"block: it says the sizes of {len(sizes)} parts and links to {count}")
    return PbNode(kind, own, tuple(links) if len(links) == count else LongLinks(block, count), sizes, fanout)


def _link(body: bytes) -> PbLink:
    block: BlockName | None = None
    name, tsize, is_v0 = "", 0, False
    for number, value in _fields(body):
        if number == 1 and isinstance(value, bytes) and block is None:
            block, end = read_name(value)
            is_v0 = value[:1] == b"\x12"
            if end != len(value):
                raise InvalidError("block: a link is no CID")
        elif number == 2 and isinstance(value, bytes):
            try:
                name = value.decode()
            except UnicodeDecodeError:
                raise InvalidError("block: the name of a link is no UTF-8") from None
        elif number == 3 and isinstance(value, int):
            tsize = value
        else:
            raise InvalidError("block: a link has what no link has")
    if block is None:
        raise InvalidError("block: a link names no block")
    return PbLink(block, name, tsize, is_v0)


def _unixfs(data: bytes) -> tuple[Kind, bytes, tuple[int, ...], int]:
    kind: Kind | None = None
    own, sizes, fanout = b"", [], 0
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int) and value in _KINDS:
            kind = Kind(value)
        elif number == 2 and isinstance(value, bytes):
            own = value
        elif number == 4 and isinstance(value, int):
            sizes.append(value)
        elif number == 6 and isinstance(value, int):
            fanout = value
        elif number in (1, 2, 4):
            raise InvalidError("block: it is no UnixFS node")
    if kind is None:
        raise InvalidError("block: it is no UnixFS node")
    return kind, own, tuple(sizes), fanout


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message, in the order in which they stand; a fixed one comes as its bytes.

    Raises:
        InvalidError: when it is none.
    """
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _number(data, at)
            yield number, value
            continue
        length = _FIXED.get(wire, 0)
        if wire == 2:
            length, at = _number(data, at)
        elif not length:
            raise InvalidError("block: it is no protobuf message")
        if at + length > len(data):
            raise InvalidError("block: it is cut short")
        yield number, data[at : at + length]
        at += length


def _number(data: bytes, at: int) -> tuple[int, int]:
    found = read_varint(data, at)
    if found is None:
        raise InvalidError("block: it is cut short")
    return found
