"""The blocks of a layout as somebody else cut it: what is a range of a blob, and what is kept as it is."""

from collections.abc import Iterator, Mapping
from typing import Final

from facade.images import files
from node.car import BlockName, Inline
from node.cid import Cid, Codec
from node.digest import Digest
from node.errors import InvalidError
from node.foreign import Part, Whole
from node.layout import BLOBS, blob_path
from node.manifest import MAX_MANIFEST_BYTES

MOST_WHOLE_BYTES: Final = 64 * 1024 * 1024
"""So much may the catalog keep of one layout; one whose leaves are no raw blocks, and that is larger, has more."""
MOST_READ_BYTES: Final = 4 * MOST_WHOLE_BYTES
_EACH_BYTES: Final = 1024
"""What a block or an entry costs at least, however short it is."""


def foreign_blocks(blocks: files.Blocks, root: BlockName, blobs: Mapping[Digest, int]) -> Iterator[Whole | Part]:
    """Every block under a root once; raw leaves of `blobs` (with their sizes) as parts of those.

    Raises:
        InvalidError: when it is no plain layout, or more than is kept.
        MismatchError: when a block does not hash to its name.
    """
    met: set[Cid] = set()
    room = MOST_WHOLE_BYTES
    for block in _all(blocks, root, {blob_path(digest): digest for digest in blobs}, blobs):
        if block.cid in met:
            continue
        met.add(block.cid)
        room -= len(block.data) if isinstance(block, Whole) else 0
        if room < 0:
            raise InvalidError(f"it has more than {MOST_WHOLE_BYTES} bytes that are no part of its images")
        yield block


def _all(
    blocks: files.Blocks, root: BlockName, names: Mapping[tuple[str, ...], Digest], sizes: Mapping[Digest, int]
) -> Iterator[Whole | Part]:
    waiting: list[tuple[tuple[str, ...], BlockName]] = [((), root)]
    work = _Work()
    while waiting:
        path, block = waiting.pop()
        digest = names.get(path)
        if digest is None and _is_folder(path):
            if isinstance(block, Cid):
                yield Whole(block, blocks(block))
            entries = files.directory(blocks, block)
            work.done(len(entries), 0)
            waiting += [((*path, name), child) for name, child in entries.items()]
            continue
        offset = 0
        for each in files.walk(blocks, block, MAX_MANIFEST_BYTES if digest is None else sizes[digest]):
            if digest is None:  # a blob's path comes once, and its size bounds the walk
                work.done(1, len(each.data))
            if isinstance(each.name, Inline):
                pass  # it is in the block that links to it
            elif digest is not None and each.name.codec is Codec.RAW:
                yield Part(each.name, digest, offset, len(each.data))
            else:
                yield Whole(each.name, each.data)
            offset += len(each.content)


def _is_folder(path: tuple[str, ...]) -> bool:
    """Layouts have no other folders than these; whatever else is in one is a file."""
    return path == () or (path[0] == BLOBS and len(path) < 3)


class _Work:
    """What reading a layout may still cost besides its blobs: a few blocks can be linked to ever so often."""

    def __init__(self) -> None:
        self._left = MOST_READ_BYTES

    def done(self, count: int, length: int) -> None:
        """Raises: InvalidError, when more was read than any layout has."""
        self._left -= count * _EACH_BYTES + length
        if self._left < 0:
            raise InvalidError(f"more than {MOST_READ_BYTES} bytes would be read that are no part of its images")
