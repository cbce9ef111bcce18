"""DAGs as other tools make them, block by block, and such as nobody should make."""

from collections.abc import Iterable, Mapping, Sequence

from node.car import BlockName, Inline
from node.cid import Cid, Codec
from node.dagpb import Kind
from node.errors import NotFoundError
from node.foreign import Whole
from node.naming import Name
from node.store import Store
from node.traversal import Piece, inline
from node.varint import varint
from node.visibility import Proof
from tests.node.contents import PUBLIC


def field(number: int, value: bytes | int) -> bytes:
    """A field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def pb_node(kind: Kind, links: Iterable[tuple[str, bytes]], *fields: bytes) -> Whole:
    """A dag-pb node: names and CIDs' bytes, and what its UnixFS data says besides its kind."""
    body = b"".join(field(2, field(1, cid) + field(2, name.encode()) + field(3, 1)) for name, cid in links)
    block = body + field(1, field(1, kind) + b"".join(fields))
    return Whole(Cid.of(block, Codec.DAG_PB), block)


def leaf(data: bytes) -> Whole:
    """A raw leaf."""
    return Whole(Cid.of(data), data)


def file(parts: Sequence[tuple[bytes, int]], data: bytes = b"", size: int | None = None) -> Whole:
    """A file's node: its parts' CIDs and sizes behind bytes of its own."""
    total = len(data) + sum(length for _, length in parts) if size is None else size
    sizes = (field(4, length) for _, length in parts)
    own = [field(2, data)] if data else []
    return pb_node(Kind.FILE, [("", cid) for cid, _ in parts], *own, field(3, total), *sizes)


def directory(entries: Mapping[str, bytes]) -> Whole:
    """A plain directory."""
    return pb_node(Kind.DIRECTORY, sorted(entries.items()))


def shard(entries: Mapping[str, bytes]) -> Whole:
    """A node of a sharded directory; a name of two digits leads to another shard."""
    return pb_node(Kind.SHARD, sorted(entries.items()), field(6, 256))


def identity(data: bytes, codec: Codec = Codec.RAW) -> bytes:
    """The CID that holds a small block."""
    return bytes((1, codec, 0)) + varint(len(data)) + data


def v0(block: Whole) -> bytes:
    """The CIDv0 of a node."""
    return block.cid.raw[2:]


def bomb() -> list[Whole]:
    """Twenty nodes with ten links each to the next, the root first: 10^20 ways to the same leaf."""
    blocks = [leaf(b"aaaa")]
    for level in range(20):
        size = 4 * 10**level
        ten = [(blocks[-1].cid.raw, size)] * 10
        blocks.append(file(ten) if size < 1 << 50 else directory({str(at): cid for at, (cid, _) in enumerate(ten)}))
    return blocks[::-1]


class Made:
    """Blocks at hand, as `node.traversal.BlockSource`, which counts how often it was read, and how many bytes."""

    def __init__(self, blocks: Iterable[Whole]) -> None:
        self._blocks = {block.cid: block.data for block in blocks}
        self.reads = 0
        self.read_bytes = 0

    async def piece(self, name: Name) -> Piece:
        """Implements `BlockSource.piece`."""
        if isinstance(name.block, Inline):
            return inline(name.block)
        data = await self.get(name.block)
        return Piece(name, len(data), data)

    async def get(self, cid: Cid) -> bytes:
        """Implements `Blocks.block`."""
        return self(cid)

    def __call__(self, name: BlockName) -> bytes:
        """As `facade.images.files.Blocks`."""
        assert not isinstance(name, Inline)
        if name not in self._blocks:
            raise NotFoundError(f"{name}: not here")
        self.reads += 1
        self.read_bytes += len(self._blocks[name])
        return self._blocks[name]

    async def blob(self, name: Name) -> None:
        """Implements `BlockSource.blob`."""


async def keep(store: Store, *blocks: Whole, proof: Proof = PUBLIC) -> Name:
    """Keep a DAG whose root comes first."""
    await store.foreign.keep(blocks[0].cid, blocks)
    await store.foreign.finish(blocks[0].cid, proof)
    return Name(blocks[0].cid)
