"""Layouts cut in any way, with whatever blocks among their own: what is read is right, or refused with a reason."""

import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path as FilePath
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from facade.images import files
from facade.images.bringing import brought_images
from facade.images.carfile import CarLayout, open_car
from facade.images.foreign import MOST_WHOLE_BYTES, foreign_blocks
from node.car import header_naming, read_name, section_head
from node.cid import Cid
from node.digest import Digest
from node.errors import InvalidError, LayermeshError, MismatchError, NotFoundError
from node.foreign import Part, Whole
from tests.facade.images.layouts import layout_of
from tests.fakes.images import all_blobs, make_image
from tests.node import dags
from tests.node.dags import Made
from tests.node.graphs import MOST_FILE_BYTES, Graph, graphs

IMAGE = make_image("graphs", (3000, 10))
BLOBS = {blob.digest: blob.data for blob in all_blobs(IMAGE)}
SIZES = {digest: len(data) for digest, data in BLOBS.items()}
T = TypeVar("T")


def _cut(draw: st.DrawFn, graph: Graph, data: bytes, *, theirs: bool) -> tuple[bytes, int]:
    """The name and size of a file of these bytes in a few parts, some nodes and some leaves; one may be another."""
    ends = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=4))})
    parts = []
    for start, end in pairwise(ends):
        piece = data[start:end]
        block = dags.leaf(piece) if draw(st.booleans()) else dags.file([], piece)
        graph.blocks[block.cid] = block
        parts.append((block.cid.raw, len(piece)))
    if theirs:
        name = draw(st.sampled_from(list(graph.specs)))
        parts.insert(draw(st.integers(0, len(parts))), (name, graph.size(name) or 0))
    if len(parts) == 1 and draw(st.booleans()):
        return parts[0]
    whole = dags.file(parts)
    graph.blocks[whole.cid] = whole
    return whole.cid.raw, len(data)


@st.composite
def layouts(draw: st.DrawFn, theirs: st.SearchStrategy[bool]) -> Graph:
    """An image layout, with blocks of a graph in the place of some files and parts where `theirs` says so."""
    graph = draw(graphs(most=6, widest=100))
    names = {}
    for path, data in layout_of(IMAGE).items():
        foreign = draw(theirs)
        instead = foreign and draw(st.booleans())
        other = draw(st.sampled_from(list(graph.specs)))
        names[path] = other if instead else _cut(draw, graph, data, theirs=foreign)[0]
    blobs = dags.directory({path[2]: name for path, name in names.items() if len(path) == 3})
    algorithms = dags.directory({"sha256": blobs.cid.raw})
    top = {path[0]: name for path, name in names.items() if len(path) == 1}
    root = dags.directory({**top, "blobs": algorithms.cid.raw})
    graph.blocks |= {block.cid: block for block in (blobs, algorithms, root)}
    graph.root = root.cid.raw
    return graph


def in_car(graph: Graph, look: Callable[[CarLayout], T]) -> T:
    """What `look` makes of the CAR of a layout."""
    with tempfile.TemporaryDirectory() as folder:
        file = FilePath(folder) / "x.car"
        sections = (section_head(cid, len(block.data)) + block.data for cid, block in graph.blocks.items())
        file.write_bytes(header_naming([graph.root]) + b"".join(sections))
        with open_car(file) as layout:
            return look(layout)


def images(layout: CarLayout) -> dict[Digest, bytes]:
    """All blobs of the images, as they are sent."""
    return {
        digest: b"".join(layout.blob(digest, size))
        for image in brought_images(layout)
        for digest, size in image.sizes.items()
    }


def kept(layout: CarLayout) -> list[Whole | Part]:
    """The blocks that are kept beside the blobs."""
    return list(layout.foreign_blocks(SIZES))


@settings(max_examples=60)
@given(graph=layouts(st.just(False)))
def test_an_image_is_read_however_it_is_cut(graph: Graph) -> None:
    assert in_car(graph, images) == BLOBS
    for each in in_car(graph, kept):
        data = each.data if isinstance(each, Whole) else BLOBS[each.digest][each.offset : each.offset + each.length]
        assert Cid.of(data, each.cid.codec) == each.cid


@settings(max_examples=150)
@given(graph=layouts(st.sampled_from((False, False, False, True))))
def test_an_image_with_whatever_blocks_in_it_is_right_or_refused(graph: Graph) -> None:
    try:
        found = in_car(graph, images)
    except (InvalidError, MismatchError, NotFoundError) as error:
        assert str(error)
        return
    wrong = {digest for digest, data in found.items() if Digest.of(data, digest.algorithm) != digest}
    assert {digest: data for digest, data in found.items() if digest not in wrong}.items() <= BLOBS.items()
    assert all(len(found[digest]) <= SIZES[digest] for digest in wrong)
    assert IMAGE.manifest.digest not in wrong


@settings(max_examples=150)
@given(graph=graphs(widest=100), size=st.integers(0, MOST_FILE_BYTES))
def test_a_file_of_any_graph_is_right_or_refused_after_few_reads(graph: Graph, size: int) -> None:
    made, content = Made(graph.blocks.values()), graph.content(graph.root)
    root, _ = read_name(graph.root)
    try:
        found = b"".join(files.read(made, root, size))
    except LayermeshError as error:
        assert str(error)
    else:
        assert len(found) <= size
        assert graph.below(graph.root) is None or found == content
    assert made.reads <= 4096 + size // 1024 + 1
    assert made.read_bytes <= 2 * size + (10 << 20)


@settings(max_examples=60)
@given(graph=graphs(most=6, widest=100))
def test_the_blocks_of_any_graph_come_once_each_and_right_or_are_refused(graph: Graph) -> None:
    made, met = Made(graph.blocks.values()), set()
    root, _ = read_name(graph.root)

    def all_blocks() -> Iterator[Whole | Part]:
        try:
            yield from foreign_blocks(made, root, {})
        except LayermeshError as error:
            assert str(error)

    for each in all_blocks():
        assert isinstance(each, Whole) and each.cid not in met
        assert each.data == graph.blocks[each.cid].data
        met.add(each.cid)
    assert sum(len(graph.blocks[cid].data) for cid in met) <= MOST_WHOLE_BYTES
