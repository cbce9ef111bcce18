"""The DAG of images that are here, as a layout: kept by the root that export gives it, so that IPFS tools read it."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from facade.images.taking import dag_of
from facade.images.tree import Node, Path, Tree
from node.blobs import BlobFile
from node.cid import Cid
from node.digest import Digest
from node.errors import InvalidError, MismatchError, NotFoundError
from node.foreign import Part, Whole
from node.layout import INDEX_FILE, LAYOUT, LAYOUT_FILE, ImageName, Listed, blob_path, encode_index
from node.store import Store
from node.unixfs import MAX_BLOCK_BYTES, Dag
from node.visibility import Proof, Visibility

MOST_OPEN: Final = 64
"""So many blobs are open at once while their ranges are looked at; a layout may have thousands."""


@dataclass(frozen=True, slots=True)
class Held:
    """An image all of whose blobs are here."""

    name: ImageName
    root: Listed
    digests: tuple[Digest, ...]


async def keep_root(store: Store, images: Sequence[Held], visibility: Visibility) -> Cid:
    """Keep the directories and small files of a layout of these images; the blobs are kept already. Its root.

    Raises:
        NotFoundError: when a blob is not here any more.
        InvalidError: when they are too many for one directory.
        FullError: when the disk has no room.
    """
    index = encode_index([(image.name, image.root) for image in images])
    small: dict[Path, bytes] = {(LAYOUT_FILE,): LAYOUT, (INDEX_FILE,): index}
    dags: dict[Path, Dag] = {path: dag_of(data) for path, data in small.items()}
    for digest in {digest: None for image in images for digest in image.digests}:
        dag = await store.dag(digest)
        if dag is None:
            raise NotFoundError(f"{digest}: it is not here any more")
        dags[blob_path(digest)] = dag
    tree = Tree(dags)
    await store.foreign.keep(tree.root, [*_whole(tree.directories), *_blocks_of(small)])
    await store.foreign.finish(tree.root, Proof(visibility))
    return tree.root


class VerifiedParts:
    """Looks whether blocks are the ranges of blobs that somebody says; blobs that come in order are opened once."""

    def __init__(self, store: Store, stack: AsyncExitStack, visibility: Visibility) -> None:
        self._store = store
        self._stack = stack
        self._visibility = visibility
        self._files: dict[Digest, BlobFile] = {}

    async def verified(self, part: Part) -> Part:
        """The part.

        Raises:
            InvalidError: when its blob is not to be seen by those who the part is for, or has no such range.
            MismatchError: when those bytes do not hash to its name.
            NotFoundError: when the blob is not here.
        """
        if part.digest not in self._files:
            if len(self._files) == MOST_OPEN:
                self._files.clear()
                await self._stack.aclose()
            self._files[part.digest] = await self._stack.enter_async_context(self._store.read(part.digest))
        file = self._files[part.digest]
        if self._visibility.opens_more_than(file.holding.visibility):
            raise InvalidError(f"{part.digest}: not everybody may have it who is to have {part.cid}")
        if not 0 <= part.offset <= part.offset + part.length <= file.size or part.length > MAX_BLOCK_BYTES:
            raise InvalidError(f"{part.cid}: {part.digest} has no such range")
        await asyncio.to_thread(_check_part, file, part)
        return part


def _check_part(file: BlobFile, part: Part) -> None:
    if Cid.of(os.pread(file.fileno(), part.length, part.offset), part.cid.codec) != part.cid:
        raise MismatchError(f"{part.cid}: that range of {part.digest} hashes to something else")


def _blocks_of(files: dict[Path, bytes]) -> list[Whole]:
    blocks = []
    for data in files.values():
        dag = dag_of(data)
        leaves = map(dag.leaf, range(dag.leaf_count))
        blocks += [Whole(leaf.cid, data[leaf.offset : leaf.offset + leaf.length]) for leaf in leaves]
        blocks += [Whole(cid, block) for cid, block in dag.interior]
    return blocks


def _whole(nodes: Sequence[Node]) -> list[Whole]:
    return [Whole(node.cid, node.data) for node in nodes]
