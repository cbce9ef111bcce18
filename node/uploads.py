"""Blobs that clients push (OCI distribution specification 1.1, "Push"): bytes that come in one or many requests, hashed
as they come, and named at the end. What has come survives a restart of this node.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

import msgspec
import structlog

from node.digest import Algorithm, Digest
from node.errors import FullError, MismatchError, NotFoundError, ThrottledError
from node.growing import Growing, reason
from node.holding import Holding
from node.reference import Repository
from node.shelf import Shelf
from node.source import Wanted
from node.visibility import Visibility
from node.workers import Pulse

EXPIRY_S: Final = 24 * 3600.0
"""An upload that nobody went on with for so long is thrown away, by a clock that nobody sets."""
LEAST_S: Final = 3600.0
"""So long one is kept in any case that an earlier run left: how old it is only the clock that may be wrong can tell."""
MOST_UPLOADS: Final = 4096
_ID: Final = re.compile("[0-9a-f]{32}")
_NOTE: Final = ".json"
_log: Final = structlog.get_logger(__name__)


class _Note(msgspec.Struct):
    """What stands beside an upload's bytes."""

    namespace: str
    repository: str
    algorithm: str


class TakenOverError(MismatchError):
    """Another request goes on with the upload."""


class Upload:
    """One blob on its way from a client. One request at a time brings bytes: the one that began last (`turn`)."""

    def __init__(self, name: str, repository: Repository, algorithm: Algorithm, path: Path, shelf: Shelf) -> None:
        self.name = name
        self.repository = repository
        self.algorithm = algorithm
        self.touched_at = 0.0
        self._shelf = shelf
        self._pulse = Pulse()
        self._turn = 0
        self._finishing = False
        self._growing = Growing(path, algorithm, shelf.workers, self._pulse)
        self._growing.lasting = True
        self._size = 0

    @property
    def size(self) -> int:
        """How many bytes have come."""
        return self._size

    @property
    def over(self) -> bool:
        """Whether it was finished, thrown away, or failed for good."""
        return self._growing.ended or self._growing.failure is not None

    def turn(self) -> int:
        """Begin to bring bytes; whoever brought some before may bring no more.

        Raises:
            TakenOverError: when a request finishes it already, which is told only once what the bytes are called.
        """
        if self._finishing:
            raise TakenOverError(f"upload {self.name}: another request finishes it")
        self._turn += 1
        return self._turn

    def hash_by(self, algorithm: Algorithm) -> None:
        """The request that brings bytes now says already by which algorithm they will be named."""
        self._growing.hash_by(algorithm)

    async def resume(self, size: int) -> None:
        """Go on with a file that an earlier run of this node left.

        Raises:
            FullError: when it cannot be opened.
        """
        await self._shelf.workers.on_disk(self._growing.resume, size)
        self._size = size

    async def write(self, turn: int, data: bytes) -> None:
        """Append bytes; waits while the disk or the hashes lag behind.

        Raises:
            TakenOverError: when another request began to bring bytes.
            FullError: when the disk has no room; what came is gone then, which makes some.
        """
        self._check_turn(turn)
        await self._check()
        self._growing.put(self._size, data)
        self._size += len(data)
        while self._growing.crowded:
            await self._check()
            await self._pulse.wait()
        await self._check()

    async def written(self) -> int:
        """Wait until all that came is in the file; how many bytes that is. Raises as `write`."""
        while not self._growing.flushed:
            await self._check()
            await self._pulse.wait()
        await self._check()
        return self._size

    async def finish(self, turn: int, digest: Digest) -> Holding:
        """Keep what came as the blob `digest`, which survives a loss of power then.

        Raises:
            MismatchError: when the bytes hash to something else; they are gone then.
            TakenOverError: as `write`, and when another request finishes it.
            FullError: when the disk has no room.
        """
        self._check_turn(turn)
        self.turn()  # nobody adds anything any more
        self._finishing = True  # nor names it otherwise, while what it is called is found out
        growing, workers = self._growing, self._shelf.workers
        growing.begin()  # an empty blob has a file as well
        try:
            await self.written()
            growing.named(digest)
            while not growing.ready:
                growing.check()
                await self._pulse.wait()
            dag = await workers.hashed(growing.dag)
            wanted = Wanted(self.repository, digest, self._size)
            with suppress(NotFoundError):  # what is here already may have rotted: then it is dropped, and replaced
                if (held := await self._shelf.catalog.entry(digest)) is not None:
                    await self._shelf.check(held)
            holding = await self._shelf.keep(wanted, growing.path, dag, None, Visibility.MEMBERS)
            await self._shelf.sync(digest)
        except Exception:
            await self.discard()
            raise
        except asyncio.CancelledError:  # this node stops, and its next run goes on with what came
            self._finishing = False
            raise
        await self.discard()
        return holding

    async def discard(self) -> None:
        """Throw away what came."""
        self._growing.lasting = False
        await self.close()
        await self._shelf.workers.on_disk(_forget, self._growing.path)

    async def close(self) -> None:
        """Stop using the file, and leave it; whoever brings bytes is told with the next ones."""
        self._growing.end()
        while not self._growing.closed:
            await self._pulse.wait()

    def _check_turn(self, turn: int) -> None:
        if turn != self._turn:
            raise TakenOverError(f"upload {self.name}: another request goes on with it")

    async def _check(self) -> None:
        if self._growing.failure is not None:
            await self.discard()
        self._growing.check()


class Uploads:
    """All uploads of this node. Each belongs to the repository that it was begun in."""

    def __init__(self, folder: Path, shelf: Shelf, clock: Callable[[], float], elapsed: Callable[[], float]) -> None:
        """`clock` gives unix seconds, `elapsed` seconds since whenever, which no setting of the clock changes."""
        self._folder = folder
        self._shelf = shelf
        self._clock = clock
        self._elapsed = elapsed
        self._uploads: dict[str, Upload] = {}
        self._left: dict[str, float] = {}
        """Until when each is kept that an earlier run left and nobody went on with."""
        self._opening = asyncio.Lock()

    async def begin(self, repository: Repository, algorithm: Algorithm = Algorithm.SHA256) -> Upload:
        """Begin an upload.

        Raises:
            ThrottledError: when there are too many.
            FullError: when the disk has no room.
        """
        if len(self._uploads) >= MOST_UPLOADS:
            await self.expire()
        if len(self._uploads) >= MOST_UPLOADS:
            raise ThrottledError(f"{MOST_UPLOADS} uploads are under way: finish or cancel some", retry_after_s=60)
        name = token_hex(16)
        note = _Note(repository.namespace, repository.name, algorithm)
        path = self._folder / name
        upload = self._uploads[name] = Upload(name, repository, algorithm, path, self._shelf)
        upload.touched_at = self._elapsed()
        try:
            await self._shelf.workers.on_disk(path.with_suffix(_NOTE).write_bytes, msgspec.json.encode(note))
        except OSError as error:
            await self.cancel(upload)
            raise FullError(f"no upload can be begun: the data folder cannot take it: {reason(error)}") from None
        return upload

    async def find(self, repository: Repository, name: str) -> Upload:
        """An upload that was begun in `repository`.

        Raises:
            NotFoundError: when there is none, or it is over.
            FullError: when its file cannot be opened.
        """
        upload = self._uploads.get(name)
        if upload is None and _ID.fullmatch(name):
            upload = await self._reopened(name)
        if upload is None or upload.over or upload.repository != repository:
            raise NotFoundError(f"upload {name[:80]!r}: no such upload in {repository.name}; it may have expired")
        upload.touched_at = self._elapsed()
        return upload

    async def finish(self, upload: Upload, turn: int, digest: Digest) -> Holding:
        """Keep what came, and forget the upload; raises as `Upload.finish`."""
        try:
            return await upload.finish(turn, digest)
        finally:
            if upload.over:
                self._uploads.pop(upload.name, None)

    async def cancel(self, upload: Upload) -> None:
        """Throw away what came."""
        await upload.discard()
        self._uploads.pop(upload.name, None)  # last: nobody takes the files up again on their way out

    async def expire(self) -> None:
        """Throw away what nobody goes on with."""
        now = self._elapsed()
        for upload in list(self._uploads.values()):
            if upload.over or now - upload.touched_at > EXPIRY_S:
                await self.cancel(upload)
        async with self._opening:  # nobody takes up what is on its way out
            ages = await self._shelf.workers.on_disk(_ages, self._folder, self._clock())
            kept_s = {name: min(max(EXPIRY_S - age_s, LEAST_S), EXPIRY_S) for name, age_s in ages.items()}
            left = kept_s.keys() - self._uploads.keys()
            self._left = {name: self._left.get(name, now + kept_s[name]) for name in left}
            for name in [name for name, until in self._left.items() if until < now]:
                await self._shelf.workers.on_disk(_forget, self._folder / name)

    async def close(self) -> None:
        """Stop; what came stays, to be gone on with by the next run."""
        for upload in list(self._uploads.values()):
            await upload.close()

    async def _reopened(self, name: str) -> Upload | None:
        async with self._opening:
            if name in self._uploads:
                return self._uploads[name]
            found = await self._shelf.workers.on_disk(_left, self._folder / name)
            if found is None:
                return None
            note, size = found
            repository = Repository(note.namespace, note.repository)
            upload = Upload(name, repository, Algorithm(note.algorithm), self._folder / name, self._shelf)
            upload.touched_at = self._elapsed()
            if size is not None:
                await self._resume(upload, size)
            self._uploads[name] = upload
            return upload

    async def _resume(self, upload: Upload, size: int) -> None:
        try:
            await upload.resume(size)
        except FullError:
            await upload.close()
            raise


def _left(path: Path) -> tuple[_Note, int | None] | None:
    """What an earlier run left of an upload, and how many bytes; None when it had no file yet."""
    try:
        note = msgspec.json.decode(path.with_suffix(_NOTE).read_bytes(), type=_Note)
        Algorithm(note.algorithm)
    except (OSError, msgspec.DecodeError, ValueError):
        return None
    try:
        return note, path.stat().st_size
    except OSError:
        return note, None


def _forget(path: Path) -> None:
    for each in (path, path.with_suffix(_NOTE)):
        with suppress(OSError):
            each.unlink()


def _ages(folder: Path, now: float) -> dict[str, float]:
    """How old each upload is, in seconds: a note is as old as the last byte beside it."""
    touched: dict[str, float] = {}
    for path in _files(folder):
        with suppress(OSError):
            touched[path.stem] = max(path.stat().st_mtime, touched.get(path.stem, 0.0))
    return {name: now - at for name, at in touched.items()}


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from list(folder.iterdir())
    except OSError as error:
        _log.warning("uploads not looked through", reason=reason(error))
