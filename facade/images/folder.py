"""Layouts in folders: nothing is read or written by way of a symbolic link."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path as FilePath
from typing import IO, Final

from facade.images.contracts import Files
from facade.images.packing import LEFT, check_plain, open_plain, partial_of
from facade.images.tree import Path
from node.digest import Digest
from node.errors import FullError, InvalidError, MismatchError, UnreachableError
from node.layout import INDEX_FILE, LAYOUT, LAYOUT_FILE, blob_path

_PIECE_BYTES: Final = 1024 * 1024
_PLAIN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FolderLayout:
    """A layout in a folder. Made by `open_folder_layout`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def small(self, path: Path, limit: int) -> bytes:
        """Implements `Layout.small`."""
        with _opened(self._descriptor, path) as (file, size):
            if size > limit:
                raise InvalidError(f"{'/'.join(path)}: {size} bytes, at most {limit} are read")
            return b"".join(_pieces(file, path, size))

    def has(self, digest: Digest) -> bool:
        """Implements `Layout.has`."""
        try:
            with _opened(self._descriptor, blob_path(digest)):
                return True
        except InvalidError:
            return False

    def blob(self, digest: Digest, size: int) -> Iterator[bytes]:
        """Implements `Layout.blob`."""
        path = blob_path(digest)
        with _opened(self._descriptor, path) as (file, length):
            if length != size:
                raise InvalidError(f"{'/'.join(path)}: it has {length} bytes, not {size}")
            yield from _pieces(file, path, size)


@contextmanager
def open_folder_layout(folder: FilePath) -> Iterator[FolderLayout]:
    """Open a folder.

    Raises:
        InvalidError: when it is none.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidError(f"{error.strerror}") from None
    try:
        yield FolderLayout(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(folder: int, path: Path) -> Iterator[tuple[int, int]]:
    """A plain file's descriptor and size."""
    with ExitStack() as stack:
        at = folder
        try:
            for name in path[:-1]:
                at = os.open(name, _PLAIN | os.O_DIRECTORY, dir_fd=at)
                stack.callback(os.close, at)
            file = os.open(path[-1], _PLAIN, dir_fd=at)
            stack.callback(os.close, file)
        except OSError as error:
            links = "; symbolic links are not followed" if error.errno in (errno.ELOOP, errno.ENOTDIR) else ""
            raise InvalidError(f"{'/'.join(path)}: {error.strerror}{links}") from None
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidError(f"{'/'.join(path)}: no plain file")
        yield file, found.st_size


def _pieces(file: int, path: Path, size: int) -> Iterator[bytes]:
    left = size
    while left:
        try:
            piece = os.read(file, min(left, _PIECE_BYTES))
        except OSError as error:
            raise InvalidError(f"{'/'.join(path)}: {error.strerror}") from None
        if not piece:
            raise InvalidError(f"{'/'.join(path)}: it became shorter while it was read")
        left -= len(piece)
        yield piece


@contextmanager
def alone_in(folder: FilePath) -> Iterator[None]:
    """Let no other command write a layout to a folder, which is made when it is not there.

    Raises:
        InvalidError: when another one does.
        FullError: when it cannot be made.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidError(f"{folder}: another command writes it now") from None
        except OSError as error:
            raise FullError(f"{folder}: it cannot be written: {error.strerror or error}") from None
        yield


def unpack(
    folder: FilePath, blobs: Mapping[Digest, int], files: Files, index: bytes, told: Callable[[int], None]
) -> None:
    """Write a layout to a folder where nobody else does; the index, which makes the images seen, comes last.

    `blobs` are given with their sizes. Those that are there already and right stay; one of which an earlier run left a
    part is gone on with. `told` hears of bytes.

    Raises:
        FullError: when the disk does not take it; what was written stays, for the next run.
        LayermeshError: when the bytes of a blob are not to be had.
    """
    try:
        _write(folder / LAYOUT_FILE, LAYOUT)
        with open_folder_layout(folder) as layout:
            for digest, size in blobs.items():
                path = folder.joinpath(*blob_path(digest))
                _make_folders(folder, path.parent)
                if _is_right(layout, digest, size):
                    told(size)
                else:
                    _write_blob(path, digest, size, files, told)
        _write(folder / INDEX_FILE, index)
    except OSError as error:
        raise FullError(f"{error.filename or folder}: it cannot be written: {error.strerror or error}") from None


def _make_folders(top: FilePath, folder: FilePath) -> None:
    for part in (folder.parent, folder):
        if part != top and part.is_symlink():
            raise InvalidError(f"{part}: a symbolic link, which is not followed")
        part.mkdir(exist_ok=True)


def _is_right(layout: FolderLayout, digest: Digest, size: int) -> bool:
    hasher = digest.hasher()
    try:
        for piece in layout.blob(digest, size):
            hasher.update(piece)
    except InvalidError:
        return False
    return hasher.hexdigest() == digest.hex


def _write_blob(path: FilePath, digest: Digest, size: int, files: Files, told: Callable[[int], None]) -> None:
    """Write a blob behind what an earlier run left of it, or anew where that is wrong."""
    partial = partial_of(path)
    with open(partial, "a+b", buffering=0, opener=open_plain) as target:
        check_plain(target, partial)
        kept = os.fstat(target.fileno()).st_size
        right = _fill(target, digest, size, files, told)
        if not right and kept:
            told(-size)
            target.truncate(0)
            right = _fill(target, digest, size, files, told)
        if not right:
            partial.unlink()
            raise MismatchError(f"{digest}: the node gave other bytes")
        os.fsync(target.fileno())
    partial.replace(path)


def _fill(target: IO[bytes], digest: Digest, size: int, files: Files, told: Callable[[int], None]) -> bool:
    """Add what a blob lacks; whether it is right then."""
    hasher, buffer, at = digest.hasher(), memoryview(bytearray(_PIECE_BYTES)), 0
    while at < size and (count := os.preadv(target.fileno(), [buffer[: size - at]], at)):
        hasher.update(buffer[:count])
        told(count)
        at += count
    target.truncate(at)
    if at == size:
        return hasher.hexdigest() == digest.hex
    with files.open(blob_path(digest), at) as source:
        while at < size:
            count = source.readinto(buffer[: size - at]) or 0
            if not count:
                raise UnreachableError(f"{digest}: the node broke off; {LEFT}")
            hasher.update(buffer[:count])
            _write_all(target, buffer[:count])
            told(count)
            at += count
    return hasher.hexdigest() == digest.hex


def _write_all(target: IO[bytes], view: memoryview) -> None:
    while view:
        view = view[target.write(view) :]


def _write(path: FilePath, data: bytes) -> None:
    """Write a small file that appears when it is whole."""
    partial = partial_of(path)
    try:
        partial.unlink(missing_ok=True)
        with partial.open("xb", buffering=0) as target:
            _write_all(target, memoryview(data))
            os.fsync(target.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
