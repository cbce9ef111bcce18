"""The data folder: what lies where in it, and who may use it. Everything here blocks; it runs in threads.

lock                      held by the running node, names its process
format                    says that this is a layermesh folder, and of which version
catalog.db                see `node.schema`
incoming/                 blobs that are not whole yet; emptied at start
uploads/                  blobs that clients push, and a note beside each; kept over a restart
blobs/sha256/ab/abcd...   whole blobs
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final

from node.digest import Algorithm, Digest
from node.errors import InvalidError, StartError
from node.holding import Stamp

_FORMAT: Final = "layermesh 1\n"
_NOT_OURS_BUT_FINE: Final = frozenset({"lost+found", "lock"})


class Folder:
    """A data folder, locked. Its methods raise `OSError` as it comes."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.incoming = path / "incoming"
        self.uploads = path / "uploads"
        self.catalog = path / "catalog.db"
        self._blobs = path / "blobs"
        self._lock = lock

    def close(self) -> None:
        """Give up the lock."""
        os.close(self._lock)

    def blob(self, digest: Digest) -> Path:
        """Where a blob is."""
        return self._blobs / digest.algorithm / digest.hex[:2] / digest.hex

    def open(self, digest: Digest) -> tuple[FileIO, int, Stamp]:
        """A blob's file, its size and looks; something that is no file counts as missing."""
        path = self.blob(digest)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise FileNotFoundError(path)
        return FileIO(fd), status.st_size, _stamp(status)

    def place(self, incoming: Path, digest: Digest, held: Stamp | None) -> Stamp:
        """Give a verified file its final name, unless the one that is held looks as it should; returns its looks."""
        path = self.blob(digest)
        if held is not None:
            with suppress(OSError):
                if _stamp(path.lstat()) == held:
                    return held
        try:
            incoming.replace(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            incoming.replace(path)
        return _stamp(path.lstat())

    def remove(self, digest: Digest) -> None:
        """Remove a blob's file; a missing one is no error."""
        self.blob(digest).unlink(missing_ok=True)

    def sync(self, digest: Digest) -> None:
        """Make a blob's bytes and name survive a loss of power."""
        path = self.blob(digest)
        _sync(path, path.parent, path.parent.parent)

    def shards(self) -> list[Path]:
        """The folders that blobs lie in."""
        return [shard for algorithm in Algorithm for shard in sorted((self._blobs / algorithm).glob("[0-9a-f]?"))]

    def digests(self, shard: Path) -> list[Digest]:
        """The names of the blobs in one of them."""
        return list(_digests(shard))


def open_folder(path: Path) -> Folder:
    """Make or check a data folder, and lock it.

    Raises:
        StartError: when it is not writable, in use by another node, or no layermesh folder of a known version.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        _check_format(path)  # before anything is written: the folder may be somebody else's
        lock = _lock(path / "lock")
        try:
            marked = _check_format(path)
            if not marked:
                (path / "format").write_text(_FORMAT)
                _sync(path / "format", path)
            for part in ("incoming", "uploads", *(f"blobs/{algorithm}" for algorithm in Algorithm)):
                (path / part).mkdir(parents=True, exist_ok=True)
            for leftover in (path / "incoming").iterdir():
                leftover.unlink()
            if not marked:
                _sync(path / "blobs", path)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise StartError(
            f"{path}: the data folder cannot be used ({error.strerror}): make it writable, or choose another by --data"
        ) from None
    return Folder(path, lock)


def _sync(*paths: Path) -> None:
    """Make files and folders survive a loss of power."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def boot_id() -> str:
    """What names the time since this machine was started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _lock(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(OSError):  # a full disk keeps nobody from reading
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise StartError(
            f"{path.parent}: in use by another node (process {holder}): stop it, or choose another folder by --data"
        ) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check_format(path: Path) -> bool:
    """Whether the folder is marked as ours; False for one that may become so, as when a loss of power took the mark."""
    mark = path / "format"
    try:
        text = mark.read_text()
    except FileNotFoundError:
        text = ""
    except UnicodeDecodeError:
        text = "?"
    if not text:
        others = [entry.name for entry in path.iterdir() if entry != mark and not _is_fine(entry.name)]
        if others and not (path / "blobs").is_dir():
            raise StartError(
                f"{path}: no layermesh folder, it holds {sorted(others)[0]!r}: choose an empty one by --data"
            )
        return False
    if text != _FORMAT:
        raise StartError(
            f"{mark}: says {text.strip()[:40]!r}, this layermesh knows {_FORMAT.strip()!r}: run the newer one"
        )
    return True


def _is_fine(name: str) -> bool:
    return name in _NOT_OURS_BUT_FINE or name.startswith(".")


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_mtime_ns, status.st_ino)


def _digests(shard: Path) -> Iterator[Digest]:
    for entry in shard.iterdir():
        with suppress(InvalidError):
            yield Digest.parse(f"{shard.parent.name}:{entry.name}")
