"""What a walk over a DAG may cost, whatever that claims, and what it remembers on its way so that it costs little.

A DAG of a few small blocks may have more ways through it than anybody could go. So a walk comes to blocks again as
often as it does in files and directories that somebody needs, and no more.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from node.car import Inline
from node.cid import Codec
from node.errors import MismatchError
from node.naming import Name

MAX_PENDING: Final = 100_000
"""So many links may wait to be followed: a node of 2 MiB has half as many at most."""
MAX_KEPT_BYTES: Final = 8 * 1024 * 1024
"""So much memory the links may take that wait."""
MAX_STEPS: Final = 1 << 20
"""So many blocks a walk takes at most: 1 TiB of a file in blocks of 1 MiB."""
MAX_REPEATS: Final = 1 << 16
"""So many of them may have come before; one more for each that had not, and for every 512 bytes of files."""
_EARNED_BYTES: Final = 512
_NODE_BYTES: Final = 128
"""A node that comes again counts once more for each of these beside its file bytes: its links are looked at again."""
MAX_REMEMBERED_BYTES: Final = 256 * 1024
SMALL_BYTES: Final = 64 * 1024
"""Longer blocks are not remembered."""
_ENTRY_BYTES: Final = 256
"""What an entry costs besides its bytes."""

Covers = tuple[bytes, int, int]
"""A block, and which of its file bytes are wanted, from and up to; all of them are 0 to -1."""
T = TypeVar("T")


class Step(Protocol):
    """A block that a walk comes to."""

    @property
    def name(self) -> Name:
        """How it is linked to."""

    @property
    def covers(self) -> Covers:
        """What of it is wanted."""


class BrokenDagError(MismatchError):
    """A DAG contradicts itself, or is larger than any that is walked."""


class Walked:
    """What a walk has seen already, and how long it is; without `dups` each block is to be sent once."""

    def __init__(self, dups: bool) -> None:
        self.steps = 0
        self._dups = dups
        self._met: set[bytes] = set()
        self._below: set[Covers] = set()
        """Nodes, and the part of each, below which everything was sent."""
        self._repeats_left = MAX_REPEATS

    def skips(self, step: Step) -> bool:
        """Whether nothing new is to come from a block on; counts it.

        Raises:
            BrokenDagError: when the walk is longer than any.
        """
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise BrokenDagError(f"the DAG has more than {MAX_STEPS} blocks")
        if self._dups or isinstance(step.name.block, Inline) or step.name.raw not in self._met:
            return False
        return step.name.codec is Codec.RAW or step.covers in self._below

    def takes(self, step: Step, length: int, file_bytes: int) -> bool:
        """Whether a block of `length` bytes, of which some are the file's, is to be sent; remembers it.

        Raises:
            BrokenDagError: when too many have come again.
        """
        name = step.name
        is_leaf = name.codec is Codec.RAW
        is_known = name.raw in self._met
        cost = 1 if is_leaf else 1 + (length - file_bytes) // _NODE_BYTES
        self._repeats_left += file_bytes // _EARNED_BYTES - (cost if is_known else -1)
        if self._repeats_left < 0:
            raise BrokenDagError(f"the DAG links to the same blocks again and again, after {self.steps} of them")
        self._met.add(name.raw)
        if self._dups or isinstance(name.block, Inline):
            return True
        if not is_leaf:
            self._below.add(step.covers)
        return not is_known


class Waiting(Generic[T]):
    """The links that are still to be followed, level by level; what each leads to is made when its turn comes."""

    def __init__(self, first: T) -> None:
        self._levels: list[tuple[Iterator[T], int, int]] = [(iter((first,)), 1, 0)]
        self._links = 1
        self._kept = 0

    def next(self) -> T | None:
        """The one whose turn it is, depth first; None at the end."""
        while self._levels:
            level, links, kept = self._levels[-1]
            if (found := next(level, None)) is not None:
                return found
            self._levels.pop()
            self._links -= links
            self._kept -= kept
        return None

    def add(self, level: Iterator[T], links: int, kept: int) -> None:
        """Links that come before all others, and take `kept` bytes of memory.

        Raises:
            BrokenDagError: when too many wait.
        """
        self._levels.append((level, links, kept))
        self._links += links
        self._kept += kept
        if self._links > MAX_PENDING:
            raise BrokenDagError(f"the DAG has more than {MAX_PENDING} links waiting")
        if self._kept > MAX_KEPT_BYTES:
            raise BrokenDagError(f"the links of the DAG that wait take more than {MAX_KEPT_BYTES} bytes")


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T
    size: int


class Remembered(Generic[T]):
    """The small blocks that came last, so that what is linked to often is asked for once."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, _Entry[T]] = OrderedDict()
        self._size = 0

    def get(self, name: Name) -> T | None:
        """What was remembered of a block."""
        entry = self._entries.get(name.raw)
        if entry is None:
            return None
        self._entries.move_to_end(name.raw)
        return entry.value

    def put(self, name: Name, value: T, length: int) -> None:
        """Remember what came of a block of `length` bytes, unless that is long."""
        if length > SMALL_BYTES or name.raw in self._entries:
            return
        self._entries[name.raw] = _Entry(value, length + _ENTRY_BYTES)
        self._size += length + _ENTRY_BYTES
        while self._size > MAX_REMEMBERED_BYTES:
            self._size -= self._entries.popitem(last=False)[1].size
