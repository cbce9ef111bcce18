"""The DAG of an image layout: a directory of files, in the order in which a CAR has its blocks. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from node.cid import Cid, Codec
from node.dagpb import DirEntry, directory_block
from node.unixfs import Dag, parse_node

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A block that is known whole: a directory, or an interior node of a file."""

    cid: Cid
    data: bytes


@dataclass(frozen=True, slots=True)
class FileLeaf:
    """A leaf of a file: the bytes of a range of it."""

    cid: Cid
    path: Path
    offset: int
    length: int


@dataclass(slots=True)
class _Folder:
    files: dict[str, Path] = field(default_factory=dict)
    folders: dict[str, "_Folder"] = field(default_factory=dict)


class Tree:
    """A folder of files whose DAGs are known."""

    def __init__(self, files: Mapping[Path, Dag]) -> None:
        self._files = files
        top = _Folder()
        for path in files:
            folder = top
            for name in path[:-1]:
                folder = folder.folders.setdefault(name, _Folder())
            folder.files[path[-1]] = path
        self._order: list[Node | Path] = []
        self.root = self._enter("", top).cid
        """The CID of the whole."""

    @property
    def directories(self) -> tuple[Node, ...]:
        """The directories, the whole one first."""
        return tuple(each for each in self._order if isinstance(each, Node))

    def blocks(self) -> Iterator[Node | FileLeaf]:
        """Every block once, depth first: each before those that it links to."""
        met: set[bytes] = set()
        for each in self._order:
            for block in (each,) if isinstance(each, Node) else _blocks_of(each, self._files[each]):
                if block.cid.raw not in met:
                    met.add(block.cid.raw)
                    yield block

    def _enter(self, name: str, folder: _Folder) -> DirEntry:
        """Add a folder to the order, itself before what is in it."""
        at = len(self._order)
        entries = []
        for each in sorted({*folder.files, *folder.folders}, key=str.encode):
            if each in folder.folders:
                entries.append(self._enter(each, folder.folders[each]))
            else:
                self._order.append(folder.files[each])
                entries.append(_entry(each, self._files[folder.files[each]]))
        block = directory_block(entries)
        node = Node(Cid.of(block, Codec.DAG_PB), block)
        self._order.insert(at, node)
        return DirEntry(name, node.cid, len(block) + sum(entry.tsize for entry in entries))


def _entry(name: str, dag: Dag) -> DirEntry:
    return DirEntry(name, dag.root, dag.size + sum(len(block) for _, block in dag.interior))


def _blocks_of(path: Path, dag: Dag) -> Iterator[Node | FileLeaf]:
    """A file's blocks, depth first. Its interior nodes are kept from the leaves up, the root last."""
    interior = dict(dag.interior)
    leaves = iter(range(dag.leaf_count))

    def below(cid: Cid) -> Iterator[Node | FileLeaf]:
        if cid.codec is Codec.RAW:
            leaf = dag.leaf(next(leaves))
            yield FileLeaf(leaf.cid, path, leaf.offset, leaf.length)
            return
        yield Node(cid, interior[cid])
        for link in parse_node(interior[cid]).links:
            yield from below(link.cid)

    return below(dag.root)
