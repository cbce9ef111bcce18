"""Writes a layout to a CAR: one way for one layout, so that a write that was cut short goes on where it stopped."""

import fcntl
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path as FilePath
from typing import IO, Final

from facade.images.contracts import Body, Files
from facade.images.tree import FileLeaf, Node, Path, Tree
from node.car import car_header, section_head
from node.errors import FullError, InvalidError, MismatchError, UnreachableError
from node.unixfs import LEAF_BYTES

LEFT: Final = "run the same command again to go on"


def partial_of(file: FilePath) -> FilePath:
    """Where a file is while it is not whole."""
    return file.with_name(f".{file.name}.partial")


def pack(tree: Tree, files: Files, file: FilePath, told: Callable[[int], None]) -> int:
    """Write a layout to `file`, which appears when it is whole; returns its size in bytes.

    What an earlier run left of the same layout is verified and kept. `told` hears of bytes as they are written.

    Raises:
        FullError: when the disk does not take it; what was written stays, for the next run.
        InvalidError: when another process writes it.
        LayermeshError: when the bytes of a file are not to be had, or not those of its DAG.
    """
    partial = partial_of(file)
    try:
        with open(partial, "a+b", buffering=0, opener=open_plain) as target, ExitStack() as stack:
            _lock(target, file)
            packer = _Packer(files, target, told, stack)
            size = packer.run(tree)
            target.truncate(size)
            os.fsync(target.fileno())
            partial.replace(file)
            _sync_folder(file.parent)
    except OSError as error:
        raise FullError(f"{file}: it cannot be written: {error.strerror or error}") from None
    return size


class _Packer:
    """One run: the position in the file, and the file of the layout that is read now."""

    def __init__(self, files: Files, target: IO[bytes], told: Callable[[int], None], stack: ExitStack) -> None:
        self._files = files
        self._target = target.fileno()
        self._told = told
        self._stack = stack
        self._at = 0
        self._kept = os.fstat(self._target).st_size
        """So many bytes of an earlier run are there; none behind the first that is wrong."""
        self._open: tuple[Path, int, Body] | None = None
        self._buffer = memoryview(bytearray(LEAF_BYTES))

    def run(self, tree: Tree) -> int:
        self._put(car_header([tree.root]))
        for block in tree.blocks():
            if isinstance(block, Node):
                self._put(section_head(block.cid, len(block.data)), block.data)
            else:
                self._leaf(block)
        return self._at

    def _leaf(self, leaf: FileLeaf) -> None:
        head, data = section_head(leaf.cid, leaf.length), self._buffer[: leaf.length]
        if self._is_kept(head, leaf):
            self._skip(len(head) + leaf.length)
            return
        self._read(leaf, data)
        if hashlib.sha256(data).digest() != leaf.cid.hash:
            raise MismatchError(f"{leaf.path[-1]}: the node gave other bytes than it says that it has")
        self._put(head, data)

    def _is_kept(self, head: bytes, leaf: FileLeaf) -> bool:
        end = self._at + len(head) + leaf.length
        if end > self._kept:
            return False
        there = os.pread(self._target, end - self._at, self._at)
        return there.startswith(head) and hashlib.sha256(memoryview(there)[len(head) :]).digest() == leaf.cid.hash

    def _read(self, leaf: FileLeaf, data: memoryview) -> None:
        if self._open is None or self._open[:2] != (leaf.path, leaf.offset):
            self._stack.close()
            self._open = (leaf.path, leaf.offset, self._stack.enter_context(self._files.open(leaf.path, leaf.offset)))
        body, got = self._open[2], 0
        while got < leaf.length:
            count = body.readinto(data[got:])
            if not count:
                raise UnreachableError(f"{leaf.path[-1]}: the node broke off; {LEFT}")
            got += count
        self._open = (leaf.path, leaf.offset + leaf.length, body)

    def _put(self, head: bytes, data: bytes | memoryview = b"") -> None:
        length = len(head) + len(data)
        if self._at + length <= self._kept:
            there = os.pread(self._target, length, self._at)
            if there == head + data:
                self._skip(length)
                return
        if self._kept > self._at:
            os.ftruncate(self._target, self._at)
        self._kept = 0
        parts: list[bytes | memoryview] = [head, data]
        while parts:
            written = os.writev(self._target, parts)
            while parts and written >= len(parts[0]):
                written -= len(parts.pop(0))
            if parts:
                parts[0] = memoryview(parts[0])[written:]
        self._at += length
        self._told(length)

    def _skip(self, length: int) -> None:
        self._at += length
        self._told(length)


def open_plain(path: str, flags: int) -> int:
    """Open what an earlier run may have left: by way of no link that somebody else put there, and no FIFO."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def check_plain(target: IO[bytes], partial: FilePath) -> None:
    """Raises: InvalidError, when what was opened may be something else than what an earlier run left."""
    found = os.fstat(target.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise InvalidError(f"{partial}: something else than what an earlier command left; remove it")


def _lock(target: IO[bytes], file: FilePath) -> None:
    """Raises: InvalidError, when another command writes the file, or just gave it its name."""
    try:
        fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine, there = os.fstat(target.fileno()), partial_of(file).lstat()
    except (BlockingIOError, FileNotFoundError):
        raise InvalidError(f"{file}: another command writes it now") from None
    if not os.path.samestat(mine, there):
        raise InvalidError(f"{file}: another command writes it now")
    check_plain(target, partial_of(file))


def _sync_folder(folder: FilePath) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
