"""UnixFS files of any profile, read from blocks by their CIDs, however somebody linked them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from node.car import BlockName, Inline, check_block
from node.cid import Codec
from node.dagpb import Kind, parse_pb
from node.errors import InvalidError

DEEPEST: Final = 64
_SPARE_BYTES: Final = 8 * 1024 * 1024
_FEW_BLOCKS: Final = 4096
_SMALLEST_BYTES: Final = 1024
"""Files of parts that are smaller than this on average are not read, beyond a few."""
Blocks = Callable[[BlockName], bytes]
"""The bytes of a block, not verified; raises InvalidError when it is not there."""


def find(blocks: Blocks, root: BlockName, path: tuple[str, ...]) -> BlockName:
    """The root of a file or directory below a directory.

    Raises:
        InvalidError: when there is none.
        MismatchError: when a block does not hash to its name.
    """
    block = root
    for name in path:
        entries = directory(blocks, block)
        if name not in entries:
            raise InvalidError(f"{'/'.join(path)}: it is not in it")
        block = entries[name]
    return block


def directory(blocks: Blocks, root: BlockName) -> dict[str, BlockName]:
    """What is in a directory, by name. Raises as `find`."""
    if root.codec is not Codec.DAG_PB:
        raise InvalidError("a file stands where a directory is expected")
    node = parse_pb(_verified(blocks, root))
    if node.kind is Kind.SHARD:
        raise InvalidError("a directory is sharded (HAMT), which is not read")
    if node.kind is not Kind.DIRECTORY:
        raise InvalidError(f"a {node.kind.name.lower()} stands where a directory is expected")
    entries = {link.name: link.block for link in node.links}
    if len(entries) != len(node.links):
        raise InvalidError("a directory has two entries of one name")
    return entries


@dataclass(frozen=True, slots=True)
class Visited:
    """A block of a file: its bytes, and those of them that are the file's own."""

    name: BlockName
    data: bytes
    content: bytes


def read(blocks: Blocks, root: BlockName, size: int) -> Iterator[bytes]:
    """The bytes of a file, in order, in pieces; no more than `size`. Raises as `walk`."""
    return (each.content for each in walk(blocks, root, size) if each.content)


def walk(blocks: Blocks, root: BlockName, size: int) -> Iterator[Visited]:
    """The blocks of a file, depth first, as often as they are linked to; of no more than `size` bytes.

    Raises:
        InvalidError: when it is none, or goes on behind `size`, or is made of more blocks than its bytes need.
        MismatchError: when a block does not hash to its name.
    """
    left = size
    for each in _Walk(blocks).below(root):
        left -= len(each.content)
        if left < 0:
            raise InvalidError(f"a file goes on behind the {size} bytes that it is said to have")
        yield each


class _Walk:
    """One reading of a file, and what it has cost; only the bytes that came say how long the file is."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._count = 0
        self._bytes = 0
        self._content = 0

    def below(self, root: BlockName) -> Iterator[Visited]:
        """Depth first; the links that wait are one list for each level."""
        waiting: list[Iterator[BlockName]] = [iter((root,))]
        while waiting:
            block = next(waiting[-1], None)
            if block is None:
                waiting.pop()
                continue
            data = self._take(block)
            if block.codec is Codec.RAW:
                self._content += len(data)
                yield Visited(block, data, data)
                continue
            node = parse_pb(data)
            if node.kind not in (Kind.FILE, Kind.RAW):
                raise InvalidError(f"a {node.kind.name.lower()} stands where a file is expected")
            self._content += len(node.data)
            yield Visited(block, data, node.data)
            if len(waiting) >= DEEPEST:
                raise InvalidError(f"a file is linked more than {DEEPEST} blocks deep")
            waiting.append(iter([link.block for link in node.links]))

    def _take(self, block: BlockName) -> bytes:
        data = _verified(self._blocks, block)
        self._count += 1
        self._bytes += len(data)
        most = _FEW_BLOCKS + self._content // _SMALLEST_BYTES
        if self._count > most or self._bytes > _SPARE_BYTES + 2 * self._content:
            raise InvalidError("a file is made of far more blocks than its bytes need")
        return data


def _verified(blocks: Blocks, block: BlockName) -> bytes:
    if isinstance(block, Inline):
        return block.data
    data = blocks(block)
    check_block(block, data)
    return data
