"""Which blocks answer a question about a DAG, one after another in depth-first order (Trustless Gateway specification).

What is held as a blob is walked along its file; everything else block by block. Whatever a DAG claims, what is kept in
memory of it is bounded, and so is how long a walk can be.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from typing import Final, Protocol

from node.blobs import BlobFile
from node.car import Inline
from node.catalog import Holding, Visibility
from node.cid import Cid, Codec
from node.dagpb import Kind, LongLinks, PbLink, PbNode, parse_pb
from node.errors import InvalidError, NotFoundError
from node.formats import Scope, UnsupportedError
from node.naming import Name
from node.store import Block, Store
from node.walked import SMALL_BYTES, BrokenDagError, Covers, Remembered, Waiting, Walked

MAX_DEPTH: Final = 256
MAX_SIZE: Final = 1 << 53
"""No file is longer, whatever a node says."""
_STEPS_AT_ONCE: Final = 64
_LINK_RATIO: Final = 6
"""So many times the bytes of a node its links take in memory once they are read."""
"""What is remembered is walked without a wait; the event loop is let go on after so many blocks."""


class NoSuchNameError(NotFoundError):
    """A path names what a directory that is here does not have."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a path leads: the blocks that it goes through, from the root on, and the one at its end."""

    passed: tuple[Name, ...]
    name: Name

    @property
    def roots(self) -> tuple[Name, ...]:
        """One for each segment of the path, the root first."""
        return (*self.passed, self.name)


@dataclass(frozen=True, slots=True)
class Entity:
    """What a block is the root of; `size` is a file's bytes."""

    kind: Kind
    size: int

    @property
    def is_file(self) -> bool:
        """Whether it can be read as bytes; what a symlink has is where it points to."""
        return self.kind in (Kind.FILE, Kind.RAW, Kind.SYMLINK)


@dataclass(frozen=True, slots=True)
class Piece:
    """A block of a walk: `data`, or `length` bytes of an open `file` from `offset` on.

    `name` is None for what is no block: bytes within a CID, or none where a file is about to be closed. `content` are
    the file's bytes that it has from `at` on; None when the block itself is.
    """

    name: Name | None
    length: int
    data: bytes | None = None
    file: BlobFile | None = None
    offset: int = 0
    at: int = 0
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Visit:
    """A block still to be walked: how deep, where its bytes are in a file and how many its parent says that it has."""

    name: Name
    scope: Scope
    depth: int = 0
    at: int = 0
    length: int | None = None
    part: range | None = None
    """Which bytes of the file are wanted; None for all."""
    blob: tuple[BlobFile, int] | None = None
    """The blob that has it, and where in the file that begins."""

    @property
    def may_begin_blob(self) -> bool:
        """Whether it may be the root of a file that is held as a whole; a leaf is read as any block is."""
        return self.blob is None and self.scope is not Scope.BLOCK and self.name.codec is not Codec.RAW

    @property
    def covers(self) -> Covers:
        """Which block it is, and which of its file bytes are wanted."""
        if self.part is None or self.length is None:
            return self.name.raw, 0, -1
        start, stop = max(self.part.start - self.at, 0), min(self.part.stop - self.at, self.length)
        return self.name.raw, start, -1 if stop == self.length and not start else stop


class BlockSource(Protocol):
    """Where the blocks of a DAG come from."""

    async def piece(self, name: Name) -> Piece:
        """A block with its bytes, verified.

        Raises:
            NotFoundError: when it is not here, or not for whoever asks.
            UnreachableError: when it cannot be read now.
        """

    async def blob(self, name: Name) -> AbstractAsyncContextManager[BlobFile] | None:
        """The file to open whose root a block is; None where it is not held as a whole. Raises as `piece`."""


class Held:
    """The blocks of a store, as far as `may_see` lets whoever asks see them."""

    def __init__(self, store: Store, may_see: Callable[[Visibility], bool]) -> None:
        self._store = store
        self._may_see = may_see

    async def block(self, cid: Cid) -> Block:
        """A block.

        Raises:
            NotFoundError: when it is not here, or not for whoever asks.
            UnreachableError: when the catalog cannot be read.
        """
        block = await self._store.block(cid)
        if not self._may_see(block.visibility):
            raise NotFoundError(f"{cid}: not here")
        return block

    async def holding(self, name: Name) -> Holding | None:
        """The blob whose root a block is, if whoever asks may see it. Raises as `block`."""
        if isinstance(name.block, Inline):
            return None
        holding = await self._store.find_cid(name.block)
        return holding if holding is not None and self._may_see(holding.visibility) else None

    async def piece(self, name: Name) -> Piece:
        """Implements `BlockSource.piece`."""
        if isinstance(name.block, Inline):
            return inline(name.block)
        block = await self.block(name.block)
        if block.within is None:
            return Piece(name, block.length, block.data or b"")
        async with self._store.read(block.within.digest) as file:
            data = await asyncio.to_thread(_read, file, block.offset, block.length)
        return Piece(name, block.length, data)

    async def blob(self, name: Name) -> AbstractAsyncContextManager[BlobFile] | None:
        """Implements `BlockSource.blob`."""
        holding = await self.holding(name)
        return None if holding is None else self._store.read(holding.digest)


class Dags:
    """The DAGs whose blocks a source has.

    Long nodes are read by a thread, and for all that share `long_nodes` so many at once: else these threads would leave
    the event loop little time.
    """

    def __init__(self, source: BlockSource, long_nodes: asyncio.Semaphore | None = None) -> None:
        self._source = source
        self._long_nodes = long_nodes or asyncio.Semaphore(1)

    async def resolve(self, root: Name, path: Sequence[str]) -> Target:
        """Follow a path from directory to directory.

        Raises:
            NoSuchNameError: when a directory on the way has nothing of that name, or is none.
            NotFoundError: when a block on the way is not here, or not for whoever asks.
            UnsupportedError: when it goes through a sharded directory.
            UnreachableError: when the catalog cannot be read.
        """
        passed: list[Name] = []
        name = root
        for segment in path:
            node = None if name.codec is Codec.RAW else await self.node(name)
            if node is not None and node.kind is Kind.SHARD:
                raise UnsupportedError(f"{name}: paths through sharded directories (HAMT) are not followed")
            found = None
            if node is not None and node.kind is Kind.DIRECTORY:
                found = next((link for link in node.links if link.name == segment), None)
            if found is None:
                raise NoSuchNameError(f"{name}: it has no {segment[:100]!r}")
            passed.append(name)
            name = Name(found.block, found.is_v0)
        return Target(tuple(passed), name)

    async def entity(self, name: Name) -> Entity:
        """What a block is the root of.

        Raises:
            NotFoundError, UnreachableError: as `BlockSource.piece`.
            UnsupportedError, BrokenDagError: when the block cannot be read.
        """
        if name.codec is Codec.RAW:
            return Entity(Kind.FILE, (await self._source.piece(name)).length)
        node = await self.node(name)
        return Entity(node.kind, _size(node))

    async def passed(self, target: Target) -> AsyncGenerator[Piece, None]:
        """The blocks that a path goes through. Raises as `walk`."""
        for name in target.passed:
            if not isinstance(name.block, Inline):
                yield await self._source.piece(name)

    async def walk(
        self, name: Name, scope: Scope, part: range | None = None, *, dups: bool
    ) -> AsyncGenerator[Piece, None]:
        """The blocks from one on, depth first; those of `part` alone where that is given and it is a file.

        Without `dups` each comes once. Close it (`aclosing`) to stop early.

        Raises:
            NotFoundError: when one is not here, or not for whoever asks.
            UnsupportedError: when one cannot be read.
            BrokenDagError: when what one says of another is not so, or the DAG is larger than any that is walked.
            UnreachableError: when the catalog cannot be read.
        """
        walk = self._walk(_Visit(name, scope, part=part), Walked(dups), Remembered())
        async with aclosing(walk) as pieces:
            async for piece in pieces:
                yield piece

    async def _walk(self, first: _Visit, walked: Walked, known: "Remembered[_Read]") -> AsyncGenerator[Piece, None]:
        waiting = Waiting(first)
        while (visit := waiting.next()) is not None:
            if walked.steps % _STEPS_AT_ONCE == _STEPS_AT_ONCE - 1:
                await asyncio.sleep(0)
            if walked.skips(visit):
                continue
            if visit.may_begin_blob and known.get(visit.name) is None:
                blob = await self._source.blob(visit.name)
                if blob is not None:
                    async with blob as file, aclosing(self._blob(visit, file, walked, known)) as pieces:
                        async for piece in pieces:
                            yield piece
                    continue
            piece, node = await self._step(visit, known)
            file_bytes = piece.length if node is None else len(node.data)
            if walked.takes(visit, piece.length, file_bytes):
                yield piece
            if node is not None:
                waiting.add(_children(visit, node), len(node.links), _kept_bytes(node, piece.length))

    async def _blob(
        self, visit: _Visit, file: BlobFile, walked: Walked, known: "Remembered[_Read]"
    ) -> AsyncGenerator[Piece, None]:
        """The blocks of what is held as a whole."""
        _check_length(visit, file.size)
        whole = replace(visit, blob=(file, visit.at), length=file.size)
        async with aclosing(self._walk(whole, walked, known)) as pieces:
            async for piece in pieces:
                yield piece
        yield Piece(None, 0, b"")  # what was not read yet has to be, before the file is closed

    async def _step(self, visit: _Visit, known: "Remembered[_Read]") -> "_Read":
        """One block, and the node that it is; None where nothing is to be walked behind it."""
        name = visit.name
        if visit.blob is not None and visit.length is not None and name.codec is Codec.RAW:
            file, base = visit.blob
            return Piece(name, visit.length, None, file, visit.at - base, visit.at), None
        read = known.get(name)
        if read is None:
            piece = await self._source.piece(name)
            is_node = name.codec is not Codec.RAW and visit.scope is not Scope.BLOCK
            read = piece, await self._parsed(name, piece.data or b"") if is_node else None
            if visit.blob is None:  # a node in a blob may be the root of another
                known.put(name, read, piece.length)
        piece, node = read
        if node is None:
            _check_length(visit, piece.length)
        elif node.kind in (Kind.FILE, Kind.RAW):
            _check_length(visit, _size(node))
        elif visit.length is not None:
            raise BrokenDagError(f"{name}: a {node.kind.name.lower()} stands where a part of a file is expected")
        content = None if node is None else node.data
        return Piece(piece.name, piece.length, piece.data, at=visit.at, content=content), node

    async def node(self, name: Name) -> PbNode:
        """What a block that is no raw one says. Raises as `entity`."""
        return await self._parsed(name, (await self._source.piece(name)).data or b"")

    async def _parsed(self, name: Name, data: bytes) -> PbNode:
        try:
            if len(data) <= SMALL_BYTES:
                return parse_pb(data)
            async with self._long_nodes:
                return await asyncio.to_thread(parse_pb, data)
        except InvalidError as error:
            raise UnsupportedError(f"{name}: {error}") from None


_Read = tuple[Piece, PbNode | None]
"""A block, and the node that it is, where it is one that is looked into."""


def _kept_bytes(node: PbNode, length: int) -> int:
    """What the links of a node of `length` bytes take in memory while they wait."""
    return length if isinstance(node.links, LongLinks) else _LINK_RATIO * (length - len(node.data))


def _children(visit: _Visit, node: PbNode) -> Iterator[_Visit]:
    """What is to be walked behind a node, in its order; it keeps the links alone.

    Raises:
        BrokenDagError: when they are deeper than any DAG that is walked.
    """
    if visit.depth == MAX_DEPTH and node.links:
        raise BrokenDagError(f"the DAG is more than {MAX_DEPTH} blocks deep")
    if node.kind in (Kind.FILE, Kind.RAW):
        return _parts(visit, visit.at + len(node.data), node.links, node.sizes)
    return _entries(visit, len(f"{max(node.fanout, 1) - 1:x}") if node.kind is Kind.SHARD else None, node.links)


def _parts(visit: _Visit, at: int, links: Iterable[PbLink], sizes: Sequence[int]) -> Iterator[_Visit]:
    part = visit.part
    for link, size in zip(links, sizes, strict=True):
        if part is None or (size and at < part.stop and at + size > part.start):
            yield _Visit(_name(link), visit.scope, visit.depth + 1, at, size, part, visit.blob)
        at += size


def _entries(visit: _Visit, shard_width: int | None, links: Iterable[PbLink]) -> Iterator[_Visit]:
    if visit.scope is not Scope.ALL and shard_width is None:
        return
    for link in links:
        if visit.scope is Scope.ALL or len(link.name) == shard_width:
            yield _Visit(_name(link), visit.scope, visit.depth + 1)


def inline(block: Inline) -> Piece:
    """What is within its own CID."""
    return Piece(None, len(block.data), block.data)


def _name(link: PbLink) -> Name:
    return Name(link.block, link.is_v0)


def _size(node: PbNode) -> int:
    """The file bytes of a node.

    Raises:
        BrokenDagError: when there are more than any file has.
    """
    size = len(node.data) + (sum(node.sizes) if node.kind in (Kind.FILE, Kind.RAW) else 0)
    if size > MAX_SIZE:
        raise BrokenDagError(f"the DAG says that it has {size} bytes")
    return size


def _check_length(visit: _Visit, length: int) -> None:
    if visit.length is not None and visit.length != length:
        raise BrokenDagError(f"{visit.name}: it has {length} bytes, its parent says {visit.length}")


def _read(file: BlobFile, offset: int, length: int) -> bytes:
    try:
        data = os.pread(file.fileno(), length, offset)
    except OSError as error:
        raise NotFoundError(f"{file.holding.digest}: cannot be read now: {error.strerror}") from None
    if len(data) != length:
        raise NotFoundError(f"{file.holding.digest}: its file is shorter than it was")
    return data
