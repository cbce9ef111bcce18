"""Graphs of blocks whose hashes are right and which may say anything, for hypothesis; and what is right of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from hypothesis import strategies as st

from node.cid import Cid, Codec
from node.dagpb import Kind
from node.foreign import Whole
from tests.node import dags

MOST_FILE_BYTES: Final = 64 * 1024
_LIES: Final = (1, 7, 1 << 20, 1 << 53, 1 << 62)


class Is(Enum):
    """What a name leads to."""

    LEAF = auto()
    FILE = auto()
    DIRECTORY = auto()
    BROKEN = auto()
    """Nothing that is here, or that can be read."""
    UNREADABLE = auto()
    """Of a kind that is not read: nor is a node that links to it."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What somebody made: bytes of its own, and names and claimed sizes of its parts."""

    what: Is
    data: bytes = b""
    parts: tuple[tuple[bytes, int], ...] = ()


@dataclass
class Graph:
    """Blocks, and by their names, as links write them, what they are."""

    blocks: dict[Cid, Whole] = field(default_factory=dict)
    specs: dict[bytes, Spec] = field(default_factory=dict)
    root: bytes = b""
    _contents: dict[bytes, bytes | None] = field(default_factory=dict)

    def add(self, block: Whole, spec: Spec) -> bytes:
        """Keep a block; its name."""
        if any(self.specs[name].what is Is.UNREADABLE for name, _ in spec.parts):
            spec = Spec(Is.BROKEN)
        self.blocks[block.cid] = block
        return self.name(block.cid.raw, spec)

    def name(self, name: bytes, spec: Spec) -> bytes:
        """Give what is known, or not here, a name."""
        self.specs[name] = spec
        return name

    def below(self, name: bytes, *, lies: bool = False) -> set[bytes] | None:
        """The names of all that can be come to, itself included; None when some cannot be read, or lies about sizes.

        With `lies` it may say of sizes what it likes.
        """
        found: set[bytes] = set()
        waiting = [name]
        while waiting:
            at = waiting.pop()
            spec = self.specs[at]
            if spec.what in (Is.BROKEN, Is.UNREADABLE):
                return None
            if not lies and spec.what is Is.FILE and any(self.size(part) != size for part, size in spec.parts):
                return None
            if at not in found:
                found.add(at)
                waiting += [part for part, _ in spec.parts]
        return found

    def size(self, name: bytes) -> int | None:
        """How many bytes a file has; None when that is not what the nodes above them say."""
        content = self.content(name)
        return None if content is None else len(content)

    def content(self, name: bytes) -> bytes | None:
        """A file's bytes; None when it is none, or cannot be read. What is said to have no bytes is not looked at."""
        if name not in self._contents:
            for at in self._upwards(name, every=False):
                self._contents[at] = _joined(self.specs[at], self._contents)
        return self._contents[name]

    def depth(self, name: bytes) -> int:
        """How deep it goes from a name on."""
        depths: dict[bytes, int] = {}
        for at in self._upwards(name, every=True):
            depths[at] = max((depths[part] + 1 for part, _ in self.specs[at].parts), default=0)
        return depths[name]

    def _upwards(self, name: bytes, *, every: bool) -> list[bytes]:
        """What is below a name, each before those that link to it; without `every`, only parts that have bytes."""
        found: dict[bytes, None] = {}
        waiting = [name]
        while waiting:
            parts = [part for part, size in self.specs[waiting[-1]].parts if every or size]
            needed = next((part for part in parts if part not in found), None)
            if needed is None:
                found[waiting.pop()] = None
            else:
                waiting.append(needed)
        return list(found)


def _joined(spec: Spec, known: Mapping[bytes, bytes | None]) -> bytes | None:
    if spec.what is Is.LEAF:
        return spec.data
    if spec.what is not Is.FILE:
        return None
    content = bytearray(spec.data)
    for part, size in spec.parts:
        below = known[part] if size else b""
        if below is None or len(below) != size:
            return None
        content += below
    return bytes(content)


@st.composite
def graphs(draw: st.DrawFn, most: int = 10, widest: int = 400) -> Graph:
    """Any graph of up to `most` steps, of which one may be a long chain or a wide node; its root is a block."""
    graph = Graph()
    known = [_leaf(draw, graph, ())]
    steps: list[Callable[[st.DrawFn, Graph, Sequence[bytes]], bytes]] = [
        _leaf, _file, _file, _file, _directory, _directory, _lying, _inline, _v0, _gone, _other, _junk, _deep,
        lambda draw, graph, known: _wide(draw, graph, known, widest),
    ]  # fmt: skip
    for step in draw(st.lists(st.sampled_from(steps), min_size=2, max_size=most)):
        known.append(step(draw, graph, known))
    graph.root = draw(st.sampled_from((_file, _file, _directory, _lying)))(draw, graph, known)
    return graph


def _leaf(draw: st.DrawFn, graph: Graph, _known: Sequence[bytes]) -> bytes:
    data = draw(st.binary(max_size=8))
    return graph.add(dags.leaf(data), Spec(Is.LEAF, data))


def _parts(draw: st.DrawFn, graph: Graph, known: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Some that are known, with their sizes, the later ones likelier."""
    parts, left = [], MOST_FILE_BYTES
    for at in draw(st.lists(st.integers(0, min(len(known), 6) - 1), min_size=1, max_size=6)):
        size = graph.size(known[-1 - at]) or 0
        left -= size
        if left >= 0:
            parts.append((known[-1 - at], size))
    return parts


def _file(draw: st.DrawFn, graph: Graph, known: Sequence[bytes]) -> bytes:
    parts, data = _parts(draw, graph, known), draw(st.binary(max_size=4))
    return graph.add(dags.file(parts, data), Spec(Is.FILE, data, tuple(parts)))


def _lying(draw: st.DrawFn, graph: Graph, known: Sequence[bytes]) -> bytes:
    """A file that says of a part, or of itself, what is not so."""
    parts = _parts(draw, graph, known) or [(known[0], 0)]
    at = draw(st.integers(0, len(parts) - 1))
    parts[at] = (parts[at][0], draw(st.sampled_from(_LIES)))
    size = draw(st.none() | st.sampled_from(_LIES))
    return graph.add(dags.file(parts, size=size), Spec(Is.FILE, b"", tuple(parts)))


def _directory(draw: st.DrawFn, graph: Graph, known: Sequence[bytes]) -> bytes:
    parts = [name for name, _ in _parts(draw, graph, known)]
    entries = {"blobs" if not at else f"{at:02X}"[-draw(st.integers(1, 2)) :]: name for at, name in enumerate(parts)}
    made = dags.directory(entries) if draw(st.booleans()) else dags.shard(entries)
    return graph.add(made, Spec(Is.DIRECTORY, b"", tuple((name, 0) for name in entries.values())))


def _inline(draw: st.DrawFn, graph: Graph, known: Sequence[bytes]) -> bytes:
    """A block within a CID, or one that is too long for that."""
    name = draw(st.sampled_from(known))
    if name[:2] not in (b"\x01\x55", b"\x01\x70") or name[2:4] != b"\x12\x20" or Cid(name) not in graph.blocks:
        return name
    cid = Cid(name)
    made = dags.identity(graph.blocks[cid].data, cid.codec)
    return graph.name(made, graph.specs[name] if len(made) <= 128 else Spec(Is.UNREADABLE))


def _v0(draw: st.DrawFn, graph: Graph, known: Sequence[bytes]) -> bytes:
    name = draw(st.sampled_from(known))
    is_node = name[:4] == b"\x01\x70\x12\x20"
    return graph.name(name[2:], graph.specs[name]) if is_node else name


def _gone(draw: st.DrawFn, graph: Graph, _known: Sequence[bytes]) -> bytes:
    codec = draw(st.sampled_from(Codec))
    return graph.name(Cid.of(b"it is gone", codec).raw, Spec(Is.BROKEN))


def _other(draw: st.DrawFn, graph: Graph, _known: Sequence[bytes]) -> bytes:
    """A name of another codec, version, hash function or length, or none at all."""
    head = draw(st.sampled_from((b"\x01\x71\x12\x20", b"\x01\x55\x16\x20", b"\x02\x55\x12\x20", b"\x01\x70\x12\x14")))
    cut = draw(st.sampled_from((32, 31, 20, 33, 0)))
    return graph.name(head + bytes(cut), Spec(Is.UNREADABLE))


def _junk(draw: st.DrawFn, graph: Graph, _known: Sequence[bytes]) -> bytes:
    """A block of bytes that are no node."""
    data = b"\x07" + draw(st.binary(max_size=40))
    return graph.add(Whole(Cid.of(data, Codec.DAG_PB), data), Spec(Is.BROKEN))


def _deep(draw: st.DrawFn, graph: Graph, known: Sequence[bytes]) -> bytes:
    """One below another, deeper than is read or nearly so."""
    name = known[-1]
    size = graph.size(name)
    for _ in range(draw(st.sampled_from((3, 60, 70, 250, 260)))):
        if size is None:
            name = graph.add(dags.directory({"d": name}), Spec(Is.DIRECTORY, b"", ((name, 0),)))
        else:
            name = graph.add(dags.file([(name, size)]), Spec(Is.FILE, b"", ((name, size),)))
    return name


def _wide(draw: st.DrawFn, graph: Graph, known: Sequence[bytes], widest: int) -> bytes:
    name = known[-1]
    size = graph.size(name)
    count = draw(st.sampled_from((2, widest // 10, widest)))
    if size is None:
        node = dags.pb_node(Kind.DIRECTORY, [(str(at), name) for at in range(count)])
        return graph.add(node, Spec(Is.DIRECTORY, b"", ((name, 0),)))
    parts = [(name, size)] * min(count, MOST_FILE_BYTES // max(size, 1))
    return graph.add(dags.file(parts), Spec(Is.FILE, b"", tuple(parts)))
