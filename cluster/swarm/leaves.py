"""The leaf hashes of a blob, fetched as the interior nodes of its DAG from peers that are not to be trusted."""

from collections.abc import Awaitable, Callable

from node.cid import Cid, Codec
from node.errors import InvalidError, MismatchError
from node.unixfs import MAX_LINKS, Dag, build_dag, leaf_count, parse_node

FetchBlock = Callable[[Cid], Awaitable[bytes]]


class WrongMappingError(MismatchError):
    """A CID is none of a blob of the size it was named with; whoever named it is not to be believed."""


async def fetch_dag(root: Cid, size: int, block: FetchBlock) -> Dag:
    """The DAG under `root` of a blob of `size` bytes; `block` fetches and verifies one interior node.

    Raises:
        WrongMappingError: when `root` is none of a blob of this size: whoever named it so is wrong.
        Whatever `block` raises.
    """
    try:
        hashes = await _leaf_hashes(root, size, block)
        dag = build_dag(size, hashes)
    except InvalidError as error:
        raise WrongMappingError(f"{root} is no blob of {size} bytes: {error}") from None
    if dag.root != root:
        raise WrongMappingError(f"{root} is no blob of {size} bytes: its nodes are another DAG")
    return dag


async def _leaf_hashes(root: Cid, size: int, block: FetchBlock) -> bytes:
    count = leaf_count(size)
    level, width = [root], 1
    for depth in _depths(count):
        below: list[Cid] = []
        expected = -(-count // MAX_LINKS**depth)
        for cid in level:
            if cid.codec is not Codec.DAG_PB:
                raise InvalidError("a leaf stands where a node is expected")
            below.extend(link.cid for link in parse_node(await block(cid)).links)
            if len(below) > expected:
                raise InvalidError("it has more leaves than that")
        level, width = below, expected
    if len(level) != width or any(cid.codec is not Codec.RAW for cid in level):
        raise InvalidError("it has other leaves")
    return b"".join(cid.hash for cid in level)


def _depths(count: int) -> range:
    """The levels below the root, each by its height above the leaves."""
    height = 0
    while MAX_LINKS**height < count:
        height += 1
    return range(height - 1, -1, -1)
