"""Layouts in CAR files: where each block is, is looked up first; a block is verified whenever it is read."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path as FilePath
from typing import Final

from facade.images import files
from facade.images.foreign import foreign_blocks
from facade.images.tree import Path
from node.car import (
    MAX_CID_BYTES,
    MAX_HEADER_BYTES,
    BlockName,
    Inline,
    check_section_length,
    parse_header,
    read_name,
)
from node.digest import Digest
from node.errors import InvalidError
from node.foreign import Part, Whole
from node.layout import blob_path
from node.unixfs import MAX_BLOCK_BYTES
from node.varint import MAX_VARINT_BYTES, read_varint

MOST_BLOCKS: Final = 1 << 20
"""Of 256 KiB, as small as tools cut files, they are 256 GiB; the place of each is kept in memory."""
_LENGTH_BITS: Final = 24


class CarLayout:
    """A layout whose directory is the root of a CAR. Made by `open_car`."""

    def __init__(self, descriptor: int, root: BlockName, places: dict[bytes, int]) -> None:
        self.root = root
        self._descriptor = descriptor
        self._places = places
        self._folders: dict[Path, dict[str, BlockName]] = {}

    def small(self, path: Path, limit: int) -> bytes:
        """Implements `Layout.small`."""
        return b"".join(files.read(self._block, files.find(self._block, self.root, path), limit))

    def has(self, digest: Digest) -> bool:
        """Implements `Layout.has`."""
        return digest.hex in self._folder(blob_path(digest)[:2])

    def blob(self, digest: Digest, size: int) -> Iterator[bytes]:
        """Implements `Layout.blob`."""
        if not self.has(digest):
            raise InvalidError(f"{'/'.join(blob_path(digest))}: it is not in it")
        return files.read(self._block, self._folder(blob_path(digest)[:2])[digest.hex], size)

    def _folder(self, path: Path) -> dict[str, BlockName]:
        if path not in self._folders:
            self._folders[path] = {}
            with suppress(InvalidError):  # it has no blobs of this algorithm
                self._folders[path] = files.directory(self._block, files.find(self._block, self.root, path))
        return self._folders[path]

    def foreign_blocks(self, blobs: Mapping[Digest, int]) -> Iterator[Whole | Part]:
        """See `facade.images.foreign`."""
        return foreign_blocks(self._block, self.root, blobs)

    def _block(self, name: BlockName) -> bytes:
        assert not isinstance(name, Inline), "an inline block is read from its name"
        place = self._places.get(name.hash)
        if place is None:
            raise InvalidError(f"{name}: a block is linked to that is not in the archive")
        offset, length = place >> _LENGTH_BITS, place & (1 << _LENGTH_BITS) - 1
        return _read(self._descriptor, length, offset)


@contextmanager
def open_car(file: FilePath) -> Iterator[CarLayout]:
    """Open a CAR of one root, and find its blocks.

    Raises:
        InvalidError: when it is none, or has a block that is not read.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO is not waited for
    except OSError as error:
        raise InvalidError(f"{error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidError("no plain file, whose blocks could be read in any order")
        root, start = _root(descriptor)
        yield CarLayout(descriptor, root, _places(descriptor, start))
    except OSError as error:
        raise InvalidError(f"{error.strerror}") from None
    finally:
        os.close(descriptor)


def _root(descriptor: int) -> tuple[BlockName, int]:
    found = read_varint(os.pread(descriptor, MAX_VARINT_BYTES, 0))
    if found is None or not 0 < found[0] <= MAX_HEADER_BYTES:
        raise InvalidError("CAR: it does not begin as one")
    length, start = found
    roots = parse_header(_read(descriptor, length, start))
    if len(roots) != 1:
        raise InvalidError(f"CAR: it has {len(roots)} roots; one, an image layout, is expected")
    return roots[0], start + length


def _places(descriptor: int, at: int) -> dict[bytes, int]:
    """By the hash of each block: its offset and length, in one number."""
    places: dict[bytes, int] = {}
    count = 0
    end = os.fstat(descriptor).st_size
    while at < end:
        head = os.pread(descriptor, MAX_VARINT_BYTES + MAX_CID_BYTES, at)
        found = read_varint(head)
        if found is None:
            raise InvalidError("CAR: it is cut short")
        length, start = found
        check_section_length(length)
        name, name_end = read_name(head[: start + length], start)
        if length - (name_end - start) > MAX_BLOCK_BYTES:
            raise InvalidError(f"CAR: a block of {length} bytes: at most {MAX_BLOCK_BYTES} are read")
        if at + start + length > end:
            raise InvalidError("CAR: it is cut short")
        if not isinstance(name, Inline):
            places.setdefault(name.hash, at + name_end << _LENGTH_BITS | length - (name_end - start))
        count += 1
        if count > MOST_BLOCKS:
            raise InvalidError(f"CAR: it has more than {MOST_BLOCKS} blocks")
        at += start + length
    return places


def _read(descriptor: int, length: int, offset: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    if len(data) < length:
        raise InvalidError("CAR: it is cut short")
    return data
