"""Hashing a file as far as it is there: the whole's digest, and the hashes of its leaves. Runs in threads."""

import asyncio
import errno
import hashlib
import math
import os
import threading
import time
from typing import Final

from node.digest import Digest, Hasher
from node.unixfs import LEAF_BYTES
from node.workers import Workers

BURST_BYTES: Final = 8 * LEAF_BYTES
"""How much one turn in a hashing thread takes at most, so that many blobs share the threads fairly."""
MAX_KEPT_BYTES: Final = 32 * LEAF_BYTES
Piece = bytes | memoryview


class _Buffers(threading.local):
    """One buffer a thread, used again and again."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(LEAF_BYTES))


_buffers: Final = _Buffers()


class Pass:
    """One way over a file's bytes, from the start."""

    def __init__(self) -> None:
        self.done = 0
        """How many bytes it went over."""

    def reach(self, prefix: int, whole: bool) -> int:
        """How far to go next; `whole` says that the file ends at `prefix`.

        Few turns are better than many, but what is left for the end makes a reader of the last byte wait.
        """
        worthwhile = min(max(LEAF_BYTES, self.done // 8), BURST_BYTES // 2)
        return min(prefix, self.done + BURST_BYTES) if whole or prefix - self.done >= worthwhile else self.done

    def read(self, fd: int, upto: int) -> None:
        """Go on up to `upto`; blocks.

        Raises:
            OSError: when the file cannot be read, or is shorter.
        """
        while self.done < upto:
            self.take(_read(fd, self.done, min(LEAF_BYTES, upto - self.done)))

    def take(self, piece: Piece) -> None:
        """Go on over the bytes that come next."""
        raise NotImplementedError


class DigestPass(Pass):
    """The digest of the whole."""

    def __init__(self, digest: Digest) -> None:
        super().__init__()
        self._hasher: Hasher = digest.hasher()
        self._wanted = digest.hex

    def take(self, piece: Piece) -> None:
        """Hash the bytes that come next."""
        self._hasher.update(piece)
        self.done += len(piece)

    def agrees(self) -> bool:
        """Whether the bytes so far hash to the digest."""
        return self._hasher.hexdigest() == self._wanted


class LeafPass(Pass):
    """The hash of each leaf."""

    def __init__(self) -> None:
        super().__init__()
        self._hashes = bytearray()
        self._leaf = hashlib.sha256()

    def take(self, piece: Piece) -> None:
        """Hash the bytes that come next, leaf by leaf."""
        rest = memoryview(piece)
        while rest:
            part = rest[: LEAF_BYTES - self.done % LEAF_BYTES]
            self._leaf.update(part)
            self.done += len(part)
            rest = rest[len(part) :]
            if self.done % LEAF_BYTES == 0:
                self._hashes += self._leaf.digest()
                self._leaf = hashlib.sha256()

    def hashes(self) -> bytes:
        """The hashes of all leaves so far, one after another; an empty file has one empty leaf."""
        unfinished = self.done % LEAF_BYTES or not self.done
        return bytes(self._hashes) + (self._leaf.digest() if unfinished else b"")


class Recent:
    """The bytes that were written lately: hashing need not read them back. All blobs together keep `MAX_KEPT_BYTES`."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._pieces: dict[int, Piece] = {}

    def add(self, offset: int, piece: Piece) -> None:
        """Bytes were written."""
        if self._workers.kept_bytes + len(piece) <= MAX_KEPT_BYTES:
            self._pieces[offset] = piece
            self._workers.kept_bytes += len(piece)

    def forget(self, upto: float) -> None:
        """The bytes before `upto` are hashed, or of no use any more."""
        for offset in [each for each in self._pieces if each < upto]:
            self._workers.kept_bytes -= len(self._pieces.pop(offset))

    def clear(self) -> None:
        """Nothing that was written is of use any more."""
        self.forget(math.inf)

    def following(self, start: int, most: int) -> list[Piece]:
        """The pieces from `start` on without a gap, as they were written, until they are `most` bytes or more."""
        found: list[Piece] = []
        stop = start + most
        while start < stop and (piece := self._pieces.get(start)) is not None:
            found.append(piece)
            start += len(piece)
        return found

    def next(self, start: int, stop: int) -> int:
        """Where the next piece begins behind `start`; `stop` when none does before."""
        return min((offset for offset in self._pieces if start < offset < stop), default=stop)


async def run_through(workers: Workers, fd: int, size: int, *passes: Pass, ease: float = 0.0) -> None:
    """Take passes over a whole file of `size` bytes; with `ease`, rest that many times as long as each turn takes.

    Raises:
        OSError: when it cannot be read, or is shorter.
    """
    for each in passes:
        while each.done < size:
            began = time.monotonic()
            await workers.hashed(each.read, fd, each.reach(size, True))
            if ease:
                await asyncio.sleep(ease * (time.monotonic() - began))


def _read(fd: int, offset: int, length: int) -> memoryview:
    view = _buffers.view[:length]
    filled = 0
    while filled < length:
        count = os.preadv(fd, [view[filled:]], offset + filled)
        if count == 0:
            raise OSError(errno.EIO, "the file is shorter than it was")
        filled += count
    return view
