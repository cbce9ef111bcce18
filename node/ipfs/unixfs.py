"""Files and directories read block by block, from wherever blocks come that are verified there (UnixFS)."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from node.car import BlockName, Inline
from node.cid import Cid, Codec
from node.dagpb import Kind, PbNode, parse_pb
from node.errors import InvalidError, MismatchError

GetBlock: TypeAlias = Callable[[Cid], Awaitable[bytes]]
"""Gives a verified block, as `Blocks.block` does."""
AHEAD: Final = 4
"""So many blocks are asked for at once."""
MAX_DEPTH: Final = 32
MAX_PENDING: Final = 100_000
MAX_SIZE: Final = 1 << 53
_FILES: Final = (Kind.FILE, Kind.RAW)


@dataclass(frozen=True, slots=True)
class Listed:
    """Something in a directory: its name, CID as the directory writes it, and the bytes of the DAG, as that claims."""

    name: str
    cid: str
    tsize: int


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A block of a file: where its bytes begin there, and how many its parent says that it has."""

    name: BlockName
    at: int
    length: int
    depth: int


@asynccontextmanager
async def open_by_blocks(
    get: GetBlock, cid: Cid, start: int = 0, stop: int | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield a file's bytes from `start` up to `stop` (its end when None), each of a block that was verified.

    Raises:
        NotFoundError, UnreachableError: as `get` does, on entry for the first block.
        InvalidError: on entry, when it is a directory, or no UnixFS at all.
        MismatchError: when what one block says of another is not so; the bytes until there are right.
    """
    root = await get(cid)
    size = len(root) if cid.codec is Codec.RAW else _size(_file(root, str(cid)))
    wanted = range(min(start, size), size if stop is None else max(min(start, size), min(stop, size)))
    async with aclosing(_Walk(get, wanted).run(_Part(cid, 0, size, 0), root)) as pieces:
        yield pieces


async def list_directory(get: GetBlock, cid: Cid) -> tuple[Listed, ...]:
    """What a plain directory has, in its own order.

    Raises:
        NotFoundError, UnreachableError: as `get` does.
        InvalidError: when it is none, or one that is sharded.
    """
    node = None if cid.codec is Codec.RAW else parse_pb(await get(cid))
    if node is not None and node.kind is Kind.SHARD:
        raise InvalidError(f"{cid}: sharded directories (HAMT) are not read")
    if node is None or node.kind is not Kind.DIRECTORY:
        raise InvalidError(f"{cid}: this is a file, not a directory")
    return tuple(Listed(link.name, _text(link.block), link.tsize) for link in node.links)


class _Walk:
    """Reads a part of one file, some blocks ahead."""

    def __init__(self, get: GetBlock, wanted: range) -> None:
        self._get = get
        self._wanted = wanted
        self._asked: dict[_Part, asyncio.Task[bytes]] = {}

    async def run(self, root: _Part, block: bytes) -> AsyncGenerator[bytes, None]:
        """The wanted bytes, in order."""
        pending: deque[_Part] = deque()
        part, data = root, block
        try:
            while True:
                own, children = self._opened(part, data)
                if own:
                    yield own
                pending.extendleft(reversed(children))
                if len(pending) > MAX_PENDING:
                    raise MismatchError(f"the file has more than {MAX_PENDING} blocks waiting")
                if not pending:
                    return
                part = pending[0]
                data = await self._next(pending)
                pending.popleft()
        finally:
            await self._give_up()

    async def _next(self, pending: deque[_Part]) -> bytes:
        """The bytes of the first block; those behind it are asked for as well."""
        for part, _ in zip(pending, range(AHEAD), strict=False):
            if isinstance(part.name, Cid) and part not in self._asked:
                self._asked[part] = asyncio.ensure_future(self._get(part.name))
        first = pending[0]
        return first.name.data if isinstance(first.name, Inline) else await self._asked.pop(first)

    def _opened(self, part: _Part, data: bytes) -> tuple[bytes, list[_Part]]:
        """The wanted bytes that a block has itself, and the blocks below it that have more."""
        if part.name.codec is Codec.RAW:
            _check(part, len(data))
            return self._cut(data, part.at), []
        node = _file(data, _text(part.name))
        _check(part, _size(node))
        children = list(self._children(part, node))
        if children and part.depth >= MAX_DEPTH:
            raise MismatchError(f"{_text(part.name)}: the file is deeper than {MAX_DEPTH} blocks")
        return self._cut(node.data, part.at), children

    def _children(self, part: _Part, node: PbNode) -> Iterator[_Part]:
        at = part.at + len(node.data)
        for link, size in zip(node.links, node.sizes, strict=True):
            if at < self._wanted.stop and at + size > self._wanted.start:
                yield _Part(link.block, at, size, part.depth + 1)
            at += size

    def _cut(self, data: bytes, at: int) -> bytes:
        return data[max(self._wanted.start - at, 0) : max(self._wanted.stop - at, 0)]

    async def _give_up(self) -> None:
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)


def _file(block: bytes, name: str) -> PbNode:
    try:
        node = parse_pb(block)
    except InvalidError as error:
        raise InvalidError(f"{name}: {error}") from None
    if node.kind in (Kind.DIRECTORY, Kind.SHARD):
        raise InvalidError(f"{name}: this is a directory, not a file")
    if node.kind not in _FILES:
        raise InvalidError(f"{name}: this is a {node.kind.name.lower()}, not a file")
    return node


def _size(node: PbNode) -> int:
    size = len(node.data) + sum(node.sizes)
    if size > MAX_SIZE:
        raise MismatchError(f"the file says that it has {size} bytes")
    return size


def _check(part: _Part, length: int) -> None:
    if length != part.length:
        raise MismatchError(f"{_text(part.name)}: it has {length} bytes of the file, where {part.length} were said")


def _text(name: BlockName) -> str:
    from node.naming import Name  # only where people read it

    return str(Name(name))
