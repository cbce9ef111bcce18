"""Hashing a file as far as it is there: the whole's digest, and the hashes of its leaves. Runs in threads."""

import asyncio
import errno
import hashlib
import math
import os
import threading
import time
from typing import Final

from node.digest import Algorithm, Digest, Hasher
from node.unixfs import LEAF_BYTES
from node.workers import Allowance, Workers

_BURST_BYTES: Final = 8 * LEAF_BYTES
"""How much one turn over a file takes at most, so that many blobs share the threads fairly."""
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

    def worthwhile(self, prefix: int, whole: bool) -> bool:
        """Whether there is enough to begin a turn; `whole` says that the file ends at `prefix`."""
        return prefix - self.done >= (1 if whole else LEAF_BYTES)

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

    def __init__(self, digest: Digest | Algorithm) -> None:
        super().__init__()
        self.algorithm = digest.algorithm if isinstance(digest, Digest) else digest
        self._hasher: Hasher = self.algorithm.hasher()

    def take(self, piece: Piece) -> None:
        """Hash the bytes that come next."""
        self._hasher.update(piece)
        self.done += len(piece)

    def agrees(self, digest: Digest) -> bool:
        """Whether the bytes so far hash to a digest of this pass's algorithm."""
        return digest.algorithm is self.algorithm and self._hasher.hexdigest() == digest.hex


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
            done = self.done + len(part)
            rest = rest[len(part) :]
            if done % LEAF_BYTES == 0:
                self._hashes += self._leaf.digest()
                self._leaf = hashlib.sha256()
            self.done = done  # last: who sees it may ask for the hashes

    def hashes(self) -> bytes:
        """The hashes of all leaves so far, one after another; an empty file has one empty leaf."""
        unfinished = self.done % LEAF_BYTES or not self.done
        return bytes(self._hashes) + (self._leaf.digest() if unfinished else b"")


class Recent:
    """The bytes that were written lately: hashing need not read them back. All blobs together keep a bounded number.

    Threads add and look, the event loop forgets; each step is one operation on the dictionary.
    """

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._pieces: dict[int, Piece] = {}

    def add(self, offset: int, piece: Piece) -> None:
        """Bytes were written."""
        if self._allowance.take(len(piece)) and self._pieces.setdefault(offset, piece) is not piece:
            self._allowance.give_back(len(piece))

    def forget(self, upto: float) -> None:
        """The bytes before `upto` are hashed, or of no use any more."""
        for offset in list(self._pieces):
            if offset < upto:
                self._allowance.give_back(len(self._pieces.pop(offset)))

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
        return min((offset for offset in list(self._pieces) if start < offset < stop), default=stop)


async def run_through(workers: Workers, fd: int, size: int, *passes: Pass, ease: float = 0.0) -> None:
    """Take passes over a whole file of `size` bytes; with `ease`, rest that many times as long as each turn takes.

    Raises:
        OSError: when it cannot be read, or is shorter.
    """
    for each in passes:
        while each.done < size:
            began = time.monotonic()
            await workers.hashed(each.read, fd, min(size, each.done + _BURST_BYTES))
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
