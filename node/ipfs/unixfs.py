"""Files and directories read block by block, from wherever verified blocks come (UnixFS)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from node.car import Inline
from node.cid import Cid, Codec
from node.dagpb import Kind, PbNode
from node.formats import Scope, UnsupportedError
from node.naming import Name
from node.outgoing import contents
from node.traversal import BlockSource, Dags, Piece, inline

GetBlock: TypeAlias = Callable[[Cid], Awaitable[bytes]]
"""Gives a verified block, as `Blocks.block` does."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Something in a directory: its name, CID as the directory writes it, and the bytes of the DAG, as that claims."""

    name: str
    cid: str
    tsize: int


class Given:
    """`BlockSource` on a function. It remembers the block that came last, for the root is looked at before the walk."""

    def __init__(self, get: GetBlock) -> None:
        self._get = get
        self._last: tuple[Cid, bytes] | None = None

    async def piece(self, name: Name) -> Piece:
        """Implements `BlockSource.piece`."""
        cid = name.block
        if isinstance(cid, Inline):
            return inline(cid)
        if self._last is None or self._last[0] != cid:
            self._last = cid, await self._get(cid)
        data = self._last[1]
        return Piece(name, len(data), data)

    async def blob(self, name: Name) -> None:
        """There are blocks alone."""


@asynccontextmanager
async def open_by_blocks(
    source: BlockSource, name: Name, start: int = 0, stop: int | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield a file's bytes from `start` up to `stop` (its end when None), each of a block that was verified.

    Raises:
        NotFoundError, UnreachableError, MismatchError: as `source` does, on entry for the first block.
        UnsupportedError: on entry, when it is no file, or of a kind that is not read.
        BrokenDagError: when what one block says of another is not so; the bytes until there are right.
    """
    dags = Dags(source)
    entity = await dags.entity(name)
    if not entity.is_file:
        raise UnsupportedError(f"{name}: this is a directory, not a file")
    part = range(min(start, entity.size), entity.size if stop is None else min(stop, entity.size))
    async with (
        aclosing(dags.walk(name, Scope.ENTITY, part, dups=True)) as pieces,
        aclosing(contents(pieces, part)) as chunks,
    ):
        yield chunks


async def list_directory(source: BlockSource, name: Name) -> tuple[Listed, ...]:
    """What a plain directory has, in its own order.

    Raises:
        NotFoundError, UnreachableError, MismatchError: as `source` does.
        UnsupportedError: when it is none, or one that is sharded.
    """
    node = None if name.codec is Codec.RAW else await Dags(source).node(name)
    if node is not None and node.kind is Kind.SHARD:
        raise UnsupportedError(f"{name}: sharded directories (HAMT) are not read")
    if node is None or node.kind is not Kind.DIRECTORY:
        raise UnsupportedError(f"{name}: this is a file, not a directory")
    return await asyncio.to_thread(_listed, node)  # to print a CID takes 0.1 ms


def _listed(node: PbNode) -> tuple[Listed, ...]:
    return tuple(Listed(link.name, str(Name(link.block, link.is_v0)), link.tsize) for link in node.links)
