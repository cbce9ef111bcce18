"""The bytes of a walk, as they are sent: the sections of a CAR, or what a file has; a few blocks at once, never more.

What lies in files is read by threads, several blocks in one go.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing
from typing import Final

from node.errors import UnreachableError
from node.traversal import Piece
from node.varint import varint
from node.walked import BrokenDagError

_AT_ONCE_BYTES: Final = 1024 * 1024
_AT_ONCE: Final = 256


async def sections(pieces: AsyncIterable[Piece]) -> AsyncGenerator[bytearray, None]:
    """The sections of a CAR with these blocks, several at once; what is within its own CID has none.

    Raises:
        UnreachableError: when a file cannot be read.
        Whatever `pieces` raise, behind what came before.
    """
    async with aclosing(_batches(pieces)) as batches:
        async for batch in batches:
            yield await asyncio.to_thread(_fill, batch)


async def contents(pieces: AsyncIterable[Piece], part: range) -> AsyncGenerator[bytes, None]:
    """The bytes `part` of the file that these blocks are.

    Raises:
        BrokenDagError: when there are fewer, behind what there is.
        Else as `sections`.
    """
    left = len(part)
    async for piece in pieces:
        data = piece.content if piece.content is not None else piece.data
        length = piece.length if data is None else len(data)
        start, stop = max(part.start - piece.at, 0), min(part.stop - piece.at, length)
        if start >= stop:
            continue
        left -= stop - start
        if data is not None:
            yield data[start:stop]
        else:
            yield await asyncio.to_thread(_read, piece, start, stop)
    if left:
        raise BrokenDagError(f"the DAG has {left} bytes less than it says")


async def _batches(pieces: AsyncIterable[Piece]) -> AsyncGenerator[list[Piece], None]:
    """Blocks that are read together, before the walk leaves the file that has them."""
    batch: list[Piece] = []
    size = 0
    async for piece in pieces:
        if piece.name is not None:
            batch.append(piece)
            size += piece.length
        if batch and (piece.name is None or size >= _AT_ONCE_BYTES or len(batch) == _AT_ONCE):
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _fill(batch: Sequence[Piece]) -> bytearray:
    heads = [_head(piece) for piece in batch]
    body = bytearray(sum(len(head) + piece.length for head, piece in zip(heads, batch, strict=True)))
    at = 0
    with memoryview(body) as view:
        for head, piece in zip(heads, batch, strict=True):
            view[at : at + len(head)] = head
            at += len(head)
            place = view[at : at + piece.length]
            if piece.data is not None:
                place[:] = piece.data
            else:
                _read_into(piece, piece.offset, place)
            at += piece.length
    return body


def _head(piece: Piece) -> bytes:
    assert piece.name is not None
    raw = piece.name.raw
    return varint(len(raw) + piece.length) + raw


def _read(piece: Piece, start: int, stop: int) -> bytes:
    data = bytearray(stop - start)
    with memoryview(data) as view:
        _read_into(piece, piece.offset + start, view)
    return bytes(data)


def _read_into(piece: Piece, offset: int, place: memoryview) -> None:
    assert piece.file is not None
    done = 0
    while done < len(place):
        try:
            count = os.preadv(piece.file.fileno(), [place[done:]], offset + done)
        except OSError as error:
            raise UnreachableError(f"{piece.name}: cannot be read now: {error.strerror}") from None
        if not count:
            raise UnreachableError(f"{piece.name}: its file is shorter than it was")
        done += count
