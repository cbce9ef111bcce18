"""What hostile archives cost an import, with the limits as they are."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path as FilePath

import pytest

from facade.images import files
from facade.images.carfile import MOST_BLOCKS, open_car
from facade.images.foreign import foreign_blocks
from node.car import car_header, section_head
from node.cid import Cid
from node.errors import InvalidError
from node.varint import varint
from tests.node.contents import MIB
from tests.node.dags import Made, bomb, directory, file, leaf

HEADER = car_header([Cid.of(b"")])
A = leaf(b"aaaa")
MOST_LINKS = 40_000
"""About as many as a node of 2 MiB has."""


def memory_of(act: Callable[[], object]) -> int:
    """The most memory that something had at once."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(act: Callable[[], object], reason: str) -> None:
    """What is refused with a reason."""
    with pytest.raises(InvalidError, match=reason):
        act()


def opened(path: FilePath) -> None:
    """Find the blocks of an archive."""
    with open_car(path):
        pass


def test_a_section_of_any_length_is_refused_before_it_is_read(tmp_path: FilePath) -> None:
    path = tmp_path / "x.car"
    path.write_bytes(HEADER + varint(2**62) + A.cid.raw)
    with path.open("r+b") as target:
        target.truncate(1 << 40)  # there may be that much, all of it zeros
    assert memory_of(lambda: refused(lambda: opened(path), f"section of {2**62} bytes")) < MIB
    path.write_bytes(varint(2**62) + HEADER)
    assert memory_of(lambda: refused(lambda: opened(path), "does not begin as one")) < MIB


def test_an_archive_has_no_more_blocks_than_memory_is_meant_for(tmp_path: FilePath) -> None:
    path = tmp_path / "x.car"
    path.write_bytes(HEADER + section_head(Cid.of(b""), 0) * (MOST_BLOCKS + 1))
    refused(lambda: opened(path), f"more than {MOST_BLOCKS} blocks")
    leaves = [leaf(b"%d" % at) for at in range(1 << 14)]
    path.write_bytes(HEADER + b"".join(section_head(each.cid, len(each.data)) + each.data for each in leaves))
    assert memory_of(lambda: opened(path)) * (MOST_BLOCKS // len(leaves)) < 256 * MIB


def test_a_depth_bomb_ends_after_few_reads() -> None:
    blocks = [A]
    for _ in range(20_000):
        blocks.append(file([(blocks[-1].cid.raw, 4)]))
    made = Made(blocks)
    assert memory_of(lambda: refused(lambda: list(files.read(made, blocks[-1].cid, 1 << 40)), "deep")) < MIB
    assert made.reads <= files.DEEPEST + 1


def test_a_bomb_of_duplicates_ends_soon_however_long_its_file_is_said_to_be() -> None:
    """Of 4 bytes 10^14 times, which the manifest may say as well."""
    blocks = bomb()[6:]
    made = Made(blocks)

    def read() -> None:
        for _ in files.read(made, blocks[0].cid, 4 * 10**14):
            pass

    assert memory_of(lambda: refused(read, "far more blocks")) < MIB
    assert made.reads < 5000


def test_entries_of_directories_that_lead_to_the_same_are_few() -> None:
    """40,000 folders of 40,000 entries that are one file of many blocks."""
    below = file([(A.cid.raw, 4)] * 100)
    inner = directory({f"{at:05}": below.cid.raw for at in range(MOST_LINKS)})
    outer = directory({f"{at:05}": inner.cid.raw for at in range(MOST_LINKS)})
    root = directory({"blobs": outer.cid.raw})
    made = Made([root, outer, inner, below, A])
    refused(lambda: list(foreign_blocks(made, root.cid, {})), "would be read")
    assert made.reads < 300_000
