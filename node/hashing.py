"""Hashing a file as far as it is there: the whole's digest, and the hashes of its leaves. Runs in threads."""

import asyncio
import errno
import hashlib
import os
import threading
import time
from collections import deque
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
        """How far to go next; `whole` says that the file ends at `prefix`. Few turns are better than many."""
        return min(prefix, self.done + BURST_BYTES) if whole or prefix - self.done >= LEAF_BYTES else self.done

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
    """The bytes that were written last, as long as they came in order: hashing need not read them back then.

    All blobs together keep at most `MAX_KEPT_BYTES`.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._pieces: deque[tuple[int, Piece]] = deque()
        self._stop = 0

    def add(self, offset: int, piece: Piece) -> None:
        """Bytes were written."""
        if offset != self._stop or self._workers.kept_bytes + len(piece) > MAX_KEPT_BYTES:
            self.clear()
        else:
            self._pieces.append((offset, piece))
            self._workers.kept_bytes += len(piece)
        self._stop = offset + len(piece)

    def forget(self, upto: int) -> None:
        """The bytes before `upto` are hashed, or of no use any more."""
        while self._pieces and self._pieces[0][0] + len(self._pieces[0][1]) <= upto:
            self._workers.kept_bytes -= len(self._pieces.popleft()[1])

    def clear(self) -> None:
        """Nothing that was written is of use any more."""
        self.forget(self._stop)

    def between(self, start: int, stop: int) -> list[Piece] | None:
        """The bytes from `start` to `stop`; None when not all of them are kept."""
        if not self._pieces or self._pieces[0][0] > start or self._stop < stop:
            return None
        found: list[Piece] = []
        for offset, piece in self._pieces:
            if offset < stop and offset + len(piece) > start:
                found.append(memoryview(piece)[max(start - offset, 0) : stop - offset])
        return found


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
