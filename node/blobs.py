"""Blobs on disk: files that are whole, and files that grow."""

from pathlib import Path
from typing import BinaryIO

from node.catalog import Holding
from node.errors import LayermeshError
from node.source import Wanted
from node.unixfs import Dag
from node.visibility import Proof


class BlobFile:
    """A whole blob, open for reading; its file offset means nothing, every read says where."""

    def __init__(self, holding: Holding, file: BinaryIO, path: Path) -> None:
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

    wanted: Wanted

    @property
    def size(self) -> int | None:
        """The blob's size in bytes, once known."""
        raise NotImplementedError

    @property
    def prefix(self) -> int:
        """How many bytes from the start are in the file without a gap."""
        raise NotImplementedError

    @property
    def epoch(self) -> int:
        """How often the bytes were thrown away; what was read in another epoch is worth nothing."""
        raise NotImplementedError

    @property
    def failure(self) -> LayermeshError | None:
        """Why this epoch cannot be committed; None as long as it can."""
        raise NotImplementedError

    @property
    def done(self) -> bool:
        """Whether the blob was committed, or given up."""
        raise NotImplementedError

    def expect(self, size: int) -> None:
        """Say how long the blob is. Ends the trust that an earlier source asked for.

        Raises:
            MismatchError: when another size was promised before.
        """
        raise NotImplementedError

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put `data` at `offset`; see `Sink`. Returns when it is on its way; a failed disk shows at the next call.

        Raises:
            MismatchError: when it reaches past the size.
            FullError: when the disk has no room.
        """
        raise NotImplementedError

    def fileno(self) -> int:
        """A readable descriptor of this epoch's file, once `prefix` > 0 or the blob is empty; dup it to keep it."""
        raise NotImplementedError

    async def wait_prefix(self, beyond: int) -> int:
        """Wait until `prefix` > `beyond`; returns early when this epoch ends, fails or is committed."""
        raise NotImplementedError

    def trust(self, dag: Dag) -> None:
        """Leaves written from now on were verified against `dag`; whole leaves only, by one source."""
        raise NotImplementedError

    def restart(self) -> None:
        """Throw the bytes away and begin anew with a new file; who reads the old file keeps it."""
        raise NotImplementedError

    async def verified(self) -> None:
        """Wait until all bytes are here and the digest agrees.

        Raises:
            MismatchError: when it does not, or the bytes were thrown away meanwhile.
            FullError: when the disk had no room.
        """
        raise NotImplementedError

    async def commit(self, proof: Proof | None = None) -> Holding:
        """Make the blob part of the store: name, catalog, log, in this order. Nothing is left when it fails.

        Raises:
            MismatchError: when bytes are missing or do not hash to the digest.
            FullError: when the disk has no room.
        """
        raise NotImplementedError
