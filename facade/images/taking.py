"""What an image consists of, when it is taken away: manifests, blobs, and the files of a layout made of them."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from facade.images.contracts import Body, Files
from facade.images.tree import Path
from node.digest import Digest
from node.errors import InvalidError
from node.layout import INDEX_FILE, LAYOUT, LAYOUT_FILE, ImageName, Listed, blob_path, encode_index
from node.manifest import Manifest, Role
from node.unixfs import LEAF_BYTES, Dag, build_dag

MOST_MANIFESTS: Final = 1000
"""So many manifests may one image have, indexes within indexes included, and together so many bytes."""
MOST_BYTES: Final = 32 * 1024 * 1024


@dataclass(slots=True)
class Contents:
    """An image's manifests (the root first), and the sizes of all its blobs, manifests included."""

    root: Listed
    manifests: dict[Digest, bytes] = field(default_factory=dict)
    sizes: dict[Digest, int] = field(default_factory=dict)

    @property
    def blobs(self) -> list[Digest]:
        """Its blobs besides manifests."""
        return [digest for digest in self.sizes if digest not in self.manifests]


@dataclass(frozen=True, slots=True)
class Image:
    """An image by its name."""

    name: ImageName
    contents: Contents


def walk(name: str, root: Manifest, child: Callable[[Digest, str, int], Manifest]) -> Contents:
    """Find all that an image names; `child` gives the manifest of a digest, media type and size.

    Raises:
        InvalidError: when it has more manifests than anybody's, or names one blob with two sizes.
    """
    found = Contents(Listed(root.media_type, root.digest, len(root.data)))
    found.sizes[root.digest] = len(root.data)
    waiting, room = [(root.digest, root.media_type, len(root.data))], MOST_BYTES
    while waiting:
        digest, media_type, size = waiting.pop(0)
        if digest in found.manifests:
            continue
        manifest = root if digest == root.digest else child(digest, media_type, size)
        found.manifests[manifest.digest] = manifest.data
        room -= len(manifest.data)
        if len(found.manifests) > MOST_MANIFESTS or room < 0:
            raise InvalidError(f"{name}: at most {MOST_MANIFESTS} manifests of {MOST_BYTES} bytes together are read")
        for each in manifest.names:
            if not each.distributable:
                continue
            if found.sizes.setdefault(each.digest, each.size) != each.size:
                raise InvalidError(f"{each.digest}: {name} names it with two sizes")
            if each.role is Role.MANIFEST:
                waiting.append((each.digest, each.media_type, each.size))
    return found


def index_of(images: Sequence[Image]) -> bytes:
    """The layout's `index.json`."""
    return encode_index([(image.name, image.contents.root) for image in images])


def small_files(images: Sequence[Image], index: bytes) -> dict[Path, bytes]:
    """The files of a layout whose bytes are known: what it is, its index, and the manifests."""
    manifests = {blob_path(digest): data for image in images for digest, data in image.contents.manifests.items()}
    return {**manifests, (LAYOUT_FILE,): LAYOUT, (INDEX_FILE,): index}


def dag_of(data: bytes) -> Dag:
    """The DAG of bytes that are at hand."""
    pieces = range(0, len(data) or 1, LEAF_BYTES)
    hashes = (hashlib.sha256(data[at : at + LEAF_BYTES]).digest() for at in pieces)
    return build_dag(len(data), b"".join(hashes))


class Known(Files):
    """Files at hand, and others from elsewhere."""

    def __init__(self, known: Mapping[Path, bytes], others: Files) -> None:
        self._known = known
        self._others = others

    def open(self, path: Path, start: int) -> AbstractContextManager[Body]:
        """Implements `Files.open`."""
        if path in self._known:
            return _at_hand(self._known[path][start:])
        return self._others.open(path, start)


class _AtHand:
    """Bytes, read in order."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def readinto(self, buffer: memoryview, /) -> int:
        """Implements `Body.readinto`."""
        count = min(len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


@contextmanager
def _at_hand(data: bytes) -> Iterator[Body]:
    yield _AtHand(data)
