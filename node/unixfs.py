"""The UnixFS file DAG of a blob in the profile `unixfs-v1-2025`: 1 MiB raw leaves, at most 1024 links a node, balanced.

Any IPFS implementation with this profile derives the same CIDs, so a digest -> CID mapping can be recomputed instead of
trusted. Everything here is a function of values; nothing is read or written.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from node.cid import RAW_LENGTH, Cid, Codec
from node.errors import InvalidError
from node.varint import varint

LEAF_BYTES: Final = 1024 * 1024
MAX_LINKS: Final = 1024
MAX_BLOCK_BYTES: Final = 2 * 1024 * 1024
HASH_BYTES: Final = 32
EMPTY_LEAF: Final = hashlib.sha256(b"").digest()
_FILE_HEAD: Final = b"\x08\x02\x18"  # UnixFS Data: type = file, then the file size


@dataclass(frozen=True, slots=True)
class Link:
    """A node's reference to a child: its CID, the bytes of the DAG below it, and the file bytes it stands for."""

    cid: Cid
    tsize: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Node:
    """An interior node (dag-pb): its links in file order, and the file bytes below them."""

    links: tuple[Link, ...]
    file_size: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """One raw leaf: its CID and the byte range of the file that it is."""

    cid: Cid
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Dag:
    """A whole file DAG. `leaves` are the leaf hashes, 32 bytes each, in file order; `interior` has the root last."""

    size: int
    root: Cid
    leaves: bytes
    interior: tuple[tuple[Cid, bytes], ...]

    @property
    def leaf_count(self) -> int:
        """How many leaves there are; an empty file has one, empty."""
        return len(self.leaves) // HASH_BYTES

    def leaf(self, index: int) -> Leaf:
        """The leaf at `index`, counted from 0."""
        offset = index * LEAF_BYTES
        cid = Cid.from_hash(self.leaves[index * HASH_BYTES : (index + 1) * HASH_BYTES])
        return Leaf(cid, offset, min(LEAF_BYTES, self.size - offset))


def leaf_count(size: int) -> int:
    """How many leaves a file of `size` bytes has."""
    return max(1, -(-size // LEAF_BYTES))


def build_dag(size: int, leaf_hashes: bytes) -> Dag:
    """The DAG of a file of `size` bytes whose leaves hash (sha2-256) to `leaf_hashes`, 32 bytes each, in file order.

    Raises:
        InvalidError: when the hashes are not as many as a file of this size has leaves.
    """
    count = leaf_count(size)
    if size < 0 or len(leaf_hashes) != count * HASH_BYTES:
        raise InvalidError(f"leaf hashes: {count} of {HASH_BYTES} bytes are expected for a file of {size} bytes")
    level = _leaf_links(size, leaf_hashes, count)
    interior: list[tuple[Cid, bytes]] = []
    while len(level) > 1:
        parents: list[Link] = []
        for start in range(0, len(level), MAX_LINKS):
            link, block = _parent(level[start : start + MAX_LINKS])
            parents.append(link)
            interior.append((link.cid, block))
        level = parents
    return Dag(size, level[0].cid, leaf_hashes, tuple(interior))


def parse_node(block: bytes) -> Node:
    """Read an interior node of this profile; its bytes must be exactly those that `build_dag` would make.

    Raises:
        InvalidError: for anything else, and for a block larger than 2 MiB.
    """
    if len(block) > MAX_BLOCK_BYTES:
        raise InvalidError(f"block of {len(block)} bytes: at most {MAX_BLOCK_BYTES} are accepted")
    try:
        links = _read_links(block)
    except (IndexError, ValueError):
        raise InvalidError("block: it is no dag-pb node of a unixfs-v1-2025 file") from None
    if not 1 <= len(links) <= MAX_LINKS or encode_node(links) != block:
        raise InvalidError("block: it is no dag-pb node of a unixfs-v1-2025 file")
    return Node(tuple(links), sum(link.file_bytes for link in links))


def encode_node(links: Sequence[Link]) -> bytes:
    """The exact bytes of the interior node with these links: links before data, block sizes unpacked."""
    parts: list[bytes] = []
    for link in links:
        body = b"\x0a\x24" + link.cid.raw + b"\x12\x00\x18" + varint(link.tsize)
        parts += (b"\x12", varint(len(body)), body)
    data = bytearray(_FILE_HEAD + varint(sum(link.file_bytes for link in links)))
    for link in links:
        data += b"\x20" + varint(link.file_bytes)
    parts += (b"\x0a", varint(len(data)), bytes(data))
    return b"".join(parts)


def _leaf_links(size: int, leaf_hashes: bytes, count: int) -> list[Link]:
    links = []
    for index in range(count):
        length = min(LEAF_BYTES, size - index * LEAF_BYTES)
        cid = Cid.from_hash(leaf_hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES])
        links.append(Link(cid, length, length))
    return links


def _parent(children: Sequence[Link]) -> tuple[Link, bytes]:
    block = encode_node(children)
    tsize = len(block) + sum(link.tsize for link in children)
    file_bytes = sum(link.file_bytes for link in children)
    return Link(Cid.of(block, Codec.DAG_PB), tsize, file_bytes), block


def _read_links(block: bytes) -> list[Link]:
    cids: list[tuple[Cid, int]] = []
    at = 0
    while block[at] == 0x12 and len(cids) <= MAX_LINKS:
        length, at = _read_varint(block, at + 1)
        cids.append(_read_link(block[at : at + length]))
        at += length
    if block[at] != 0x0A:
        raise ValueError
    length, at = _read_varint(block, at + 1)
    sizes = _read_block_sizes(block[at : at + length])
    return [Link(cid, tsize, size) for (cid, tsize), size in zip(cids, sizes, strict=True)]


def _read_link(body: bytes) -> tuple[Cid, int]:
    cid = Cid.from_raw(body[2 : 2 + RAW_LENGTH])
    if body[2 + RAW_LENGTH + 2] != 0x18:
        raise ValueError
    tsize, _ = _read_varint(body, 2 + RAW_LENGTH + 3)
    return cid, tsize


def _read_block_sizes(data: bytes) -> list[int]:
    _, at = _read_varint(data, len(_FILE_HEAD))
    sizes: list[int] = []
    while at < len(data) and len(sizes) <= MAX_LINKS:
        if data[at] != 0x20:
            raise ValueError
        size, at = _read_varint(data, at + 1)
        sizes.append(size)
    return sizes


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError
