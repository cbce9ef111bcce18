"""Blobs on disk: files that are whole, and files that grow."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from secrets import token_hex
from typing import Final

from node.catalog import Holding
from node.cid import Cid, Codec
from node.digest import Algorithm, Digest
from node.errors import LayermeshError, MismatchError
from node.growing import Growing
from node.source import LeafWriter, Wanted
from node.unixfs import LEAF_BYTES, Dag
from node.visibility import Proof, Visibility
from node.workers import Pulse, Workers

Keep = Callable[[Wanted, Path, Dag, Proof | None, Visibility], Awaitable[Holding]]
"""Takes a verified file into the store."""
Computed = Callable[[Digest], Awaitable[tuple[Cid, int] | None]]
"""The CID and size that this node computed of a blob's bytes when it had them; None where it never did."""
_QUICK_BYTES: Final = 8 * LEAF_BYTES
"""A DAG of so few leaves is built sooner than a thread is asked to."""


class BlobFile:
    """A whole blob, open for reading; its file offset means nothing, every read says where."""

    def __init__(self, holding: Holding, file: FileIO, path: Path) -> None:
        self.holding = holding
        self.file = file
        self.path = path

    @property
    def size(self) -> int:
        """The blob's size in bytes."""
        return self.holding.size

    def fileno(self) -> int:
        """The descriptor, valid until the reader leaves its context."""
        return self.file.fileno()


class Ingest:
    """One blob that is being written and hashed; a `Sink`.

    Readers may follow `prefix` and read from `fileno()` (dup it). After `restart()` the file and `epoch` are new.
    """

    def __init__(self, wanted: Wanted, folder: Path, workers: Workers, keep: Keep, computed: Computed) -> None:
        self.wanted = wanted
        self.epoch = 0
        """How often the bytes were thrown away; what was read in another epoch is worth nothing."""
        self._folder = folder
        self._workers = workers
        self._keep = keep
        self._computed = computed
        self._pulse = Pulse()
        self._holding: Holding | None = None
        self._growing = self._begin()

    @property
    def size(self) -> int | None:
        """The blob's size in bytes, once known."""
        return self._growing.size

    @property
    def prefix(self) -> int:
        """How many bytes from the start are in the file without a gap."""
        return self._growing.prefix

    @property
    def failure(self) -> LayermeshError | None:
        """Why this epoch cannot be committed; None as long as it can."""
        return self._growing.failure

    @property
    def is_verified(self) -> bool:
        """Whether all bytes are here and the digest agrees."""
        return self._growing.verified

    @property
    def done(self) -> bool:
        """Whether the blob was committed, or given up."""
        return self._holding is not None or self._growing.ended

    def fileno(self) -> int:
        """A readable descriptor of this epoch's file, once `prefix` > 0 or the blob is verified; dup it to keep it."""
        return self._growing.fileno()

    def expect(self, size: int) -> None:
        """Say how long the blob is. Ends the trust that an earlier source asked for.

        Raises:
            MismatchError: when another size was promised before.
        """
        self._growing.expect(size)
        self._pulse.beat()

    async def trust(self, dag: Dag) -> LeafWriter | None:
        """Bytes written from now on were verified leaf by leaf against `dag`, so their leaves need no hashing.

        Only a promise about whole leaves that one source writes to an ingest without bytes is taken; in all other cases
        the leaves are hashed as ever, for a wrong mapping must not be kept, and this returns None. See `LeafSink`.

        Where this node computed the CID of these bytes itself, leaves that threads write are not hashed again for the
        digest: whatever has the CID has the digest.

        Raises:
            MismatchError: when `dag` has another size than was promised.
            FullError: when no file could be made.
        """
        growing = self._growing
        growing.begin()
        while not growing.begun:
            growing.check()
            await self._pulse.wait()
        trusted = growing.trust(dag, proven=await self._proves(dag))
        self._pulse.beat()
        return partial(growing.place, dag) if trusted else None

    async def landed(self, offset: int, length: int) -> None:
        """A leaf was written by what `trust` returned; waits while the digest lags behind. See `LeafSink`."""
        growing = self._growing
        growing.landed(offset, length)
        await self._uncrowded(growing)

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put `data` at `offset`; see `Sink`. Returns when it is on its way (the last piece: when it is written).

        Raises:
            MismatchError: when it reaches past the size, comes too late, or completes what hashes to something else.
            FullError: when the disk had no room, now or for an earlier piece.
        """
        growing = self._growing
        growing.put(offset, data)
        await self._uncrowded(growing)

    async def wait_prefix(self, beyond: int) -> int:
        """Wait until `prefix` > `beyond`; returns early when this epoch ends, fails or is committed."""
        growing = self._growing
        while growing.prefix <= beyond and not growing.ended and growing.failure is None and self._holding is None:
            await self._pulse.wait()
        return growing.prefix

    async def flushed(self) -> int:
        """Wait until everything written so far is in the file; returns `prefix`.

        Raises:
            FullError: when the disk has no room.
        """
        growing = self._growing
        while not growing.flushed:
            growing.check()
            await self._pulse.wait()
        growing.check()
        return growing.prefix

    def restart(self) -> None:
        """Throw the bytes away and begin anew with a new file; who reads the old file keeps it."""
        self._growing.end()
        self.epoch += 1
        self._growing = self._begin()

    async def verified(self) -> None:
        """Wait until all bytes are here and the digest agrees.

        Raises:
            MismatchError: when it does not, or the bytes were thrown away meanwhile.
            FullError: when the disk had no room.
        """
        growing = self._growing
        while not growing.verified:
            growing.check()
            await self._pulse.wait()

    async def commit(self, proof: Proof | None = None, at_most: Visibility = Visibility.PUBLIC) -> Holding:
        """Make the blob part of the store: name, catalog, log, in this order. Nothing is left when it fails.

        It may be seen as `proof` says, and as the repository says that it was wanted for, there by `at_most`. `SHARED`
        says that members gave it who share it.

        Raises:
            MismatchError: when bytes are missing or do not hash to the digest.
            FullError: when the disk has no room.
        """
        if self._holding is not None:
            return self._holding
        growing = self._growing
        prefix = await self.flushed()
        if growing.size is None:
            growing.expect(prefix)
        if growing.size != prefix:
            raise MismatchError(f"{self.wanted.digest}: only {prefix} of its {growing.size} bytes came")
        while not growing.ready:
            growing.check()
            await self._pulse.wait()
        dag = growing.dag() if prefix <= _QUICK_BYTES else await self._workers.hashed(growing.dag)
        self._holding = await self._keep(self.wanted, growing.path, dag, proof, at_most)
        self._pulse.beat()
        return self._holding

    async def close(self) -> None:
        """Give up what was not committed; nothing of it is left then."""
        growing = self._growing
        growing.end()
        while not growing.closed:
            await self._pulse.wait()

    async def _proves(self, dag: Dag) -> bool:
        """Whether bytes that have this DAG are those of the digest."""
        digest = self.wanted.digest
        if dag.root.codec is Codec.RAW:  # one leaf, which is hashed as the whole is
            return digest.algorithm is Algorithm.SHA256 and dag.root.hash.hex() == digest.hex
        return await self._computed(digest) == (dag.root, dag.size)

    async def _uncrowded(self, growing: Growing) -> None:
        while growing.crowded:
            growing.check()
            await self._pulse.wait()
        growing.check()

    def _begin(self) -> Growing:
        path = self._folder / f"{self.wanted.digest.hex[:16]}.{token_hex(8)}"
        growing = Growing(path, self.wanted.digest, self._workers, self._pulse)
        growing.size = self.wanted.size
        if not growing.size:  # it may stay empty; else its first bytes make the file, once those who wait have them
            growing.begin()
        return growing


@asynccontextmanager
async def ingesting(
    wanted: Wanted, folder: Path, workers: Workers, keep: Keep, computed: Computed
) -> AsyncIterator[Ingest]:
    """An ingest, whose file is made when its first bytes come: they are written at once, and wait for it.

    The file is gone on exit unless it was committed. When none can be made, the first wait for it (`write`, `flushed`,
    `verified`, `commit`) raises `FullError`.
    """
    ingest = Ingest(wanted, folder, workers, keep, computed)
    try:
        yield ingest
    finally:
        await ingest.close()
