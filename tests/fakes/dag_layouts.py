"""The root of a file that is cut and linked in any way that `add` may be told; held to Kubo's by `tests/contracts`."""

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Final

from node.cid import Cid, Codec
from node.unixfs import Link, encode_node

_REPEATS: Final = 4
"""How many subtrees of each depth a trickle DAG has below a node."""


def root_of(data: bytes, leaf_bytes: int, width: int, *, trickle: bool = False) -> Cid:
    """The root over raw leaves of `leaf_bytes`, at most `width` links a node (in a trickle DAG, subtrees besides)."""
    pieces = [data[at : at + leaf_bytes] for at in range(0, len(data), leaf_bytes)] or [b""]
    level = [Link(Cid.of(piece), len(piece), len(piece)) for piece in pieces]
    if trickle and len(level) > 1:
        return _trickle(deque(level), width, None).cid
    while len(level) > 1:
        level = [_parent(level[at : at + width]) for at in range(0, len(level), width)]
    return level[0].cid


def _parent(children: Sequence[Link]) -> Link:
    block = encode_node(children)
    below = sum(child.tsize for child in children)
    return Link(Cid.of(block, Codec.DAG_PB), len(block) + below, sum(child.file_bytes for child in children))


def _trickle(leaves: deque[Link], width: int, depth: int | None) -> Link:
    """A node with leaves of its own, and behind them subtrees that grow deeper; `depth` None is the root's."""
    children = [leaves.popleft() for _ in range(min(width, len(leaves)))]
    for below in itertools.count(1) if depth is None else range(1, depth):
        children += [_trickle(leaves, width, below) for _ in range(_REPEATS) if leaves]
        if not leaves:
            break
    return _parent(children)
