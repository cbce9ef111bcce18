"""The DAG of images that are here, as a layout: kept by the root that export gives it, so that IPFS tools read it."""

from collections.abc import Sequence
from dataclasses import dataclass

from facade.images.taking import dag_of
from facade.images.tree import Node, Path, Tree
from node.cid import Cid
from node.digest import Digest
from node.errors import NotFoundError
from node.foreign import Whole
from node.layout import INDEX_FILE, LAYOUT, LAYOUT_FILE, ImageName, Listed, blob_path, encode_index
from node.store import Store
from node.unixfs import Dag
from node.visibility import Proof, Visibility


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
