"""Hashing a file as far as it is there: the whole's digest, and the hashes of its leaves. Runs in threads."""

import asyncio
import errno
import hashlib
import os
import threading
import time
from typing import Final, Protocol

from node.digest import Digest, Hasher
from node.unixfs import EMPTY_LEAF, LEAF_BYTES
from node.workers import Workers

BURST_BYTES: Final = 8 * LEAF_BYTES
"""How much one turn in a hashing thread takes at most, so that many blobs share the threads fairly."""


class _Buffers(threading.local):
    """One buffer a thread, used again and again."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(LEAF_BYTES))


_buffers: Final = _Buffers()


class Pass(Protocol):
    """One way over a file's bytes, from the start."""

    done: int
    """How many bytes it went over."""

    def reach(self, prefix: int, whole: bool) -> int:
        """How far it could go now; `whole` says that the file ends at `prefix`."""

    def advance(self, fd: int, upto: int) -> None:
        """Go on up to `upto`, as `reach` gave it; blocks.

        Raises:
            OSError: when the file cannot be read, or is shorter.
        """


class DigestPass:
    """The digest of the whole."""

    def __init__(self, digest: Digest) -> None:
        self.done = 0
        self._hasher: Hasher = digest.hasher()
        self._wanted = digest.hex

    def reach(self, prefix: int, whole: bool) -> int:
        """Any number of bytes will do, but few turns are better than many."""
        return min(prefix, self.done + BURST_BYTES) if whole or prefix - self.done >= LEAF_BYTES else self.done

    def advance(self, fd: int, upto: int) -> None:
        """Hash up to `upto`."""
        while self.done < upto:
            piece = _read(fd, self.done, min(LEAF_BYTES, upto - self.done))
            self._hasher.update(piece)
            self.done += len(piece)

    def agrees(self) -> bool:
        """Whether the bytes so far hash to the digest."""
        return self._hasher.hexdigest() == self._wanted


class LeafPass:
    """The hash of each leaf."""

    def __init__(self) -> None:
        self.done = 0
        self._hashes = bytearray()

    def reach(self, prefix: int, whole: bool) -> int:
        """Whole leaves only, except at the end."""
        upto = min(prefix, self.done + BURST_BYTES)
        return upto if whole and upto == prefix else upto - upto % LEAF_BYTES

    def advance(self, fd: int, upto: int) -> None:
        """Hash the leaves up to `upto`."""
        while self.done < upto:
            piece = _read(fd, self.done, min(LEAF_BYTES, upto - self.done))
            self._hashes += hashlib.sha256(piece).digest()
            self.done += len(piece)

    def hashes(self) -> bytes:
        """The hashes so far, one after another; an empty file has one empty leaf."""
        return bytes(self._hashes) or EMPTY_LEAF


async def run_through(workers: Workers, fd: int, size: int, *passes: Pass, ease: float = 0.0) -> None:
    """Take passes over a whole file of `size` bytes; with `ease`, rest that many times as long as each turn takes.

    Raises:
        OSError: when it cannot be read, or is shorter.
    """
    for each in passes:
        while each.done < size:
            began = time.monotonic()
            await workers.hashed(each.advance, fd, each.reach(size, True))
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
