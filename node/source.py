"""The contracts between whoever fetches a blob and wherever it comes from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from node.digest import Digest
from node.reference import Repository
from node.unixfs import Dag


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob that somebody asked for: in which repository, by which digest, and its size in bytes where it is known."""

    repository: Repository
    digest: Digest
    size: int | None = None


class Sink(Protocol):
    """Where a source puts the bytes of one blob."""

    @property
    def size(self) -> int | None:
        """The blob's size in bytes, once known."""

    @property
    def prefix(self) -> int:
        """How many bytes, counted from the start, are here without a gap: a source goes on from there."""

    def expect(self, size: int) -> None:
        """Say how long the blob is, before its first byte.

        Raises:
            MismatchError: when another size was promised before.
        """

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put `data` at `offset`; bytes may come in any order, and again. Waits while disk or hashes lag behind.

        Raises:
            MismatchError: when it reaches past the size, or completes a blob that hashes to something else.
            FullError: when the disk has no room.
        """


LeafWriter = Callable[[int, memoryview], None]
"""Writes a verified leaf at its offset; blocks, from any thread. Raises `FullError` when the disk has no room."""


@runtime_checkable
class LeafSink(Sink, Protocol):
    """A sink that threads may write verified leaves to, past the event loop."""

    async def trust(self, dag: Dag) -> LeafWriter | None:
        """Take leaves that whoever calls verifies against `dag`; None when they must come by `write` all the same.

        Raises:
            MismatchError: when `dag` has another size than was promised.
            FullError: when the disk has no room.
        """

    async def landed(self, offset: int, length: int) -> None:
        """Say that a leaf was written. Waits, and raises, as `write`."""


class BlobSource(Protocol):
    """Somewhere a blob can be fetched from: the peers, an upstream registry."""

    async def fill(self, wanted: Wanted, sink: Sink) -> None:
        """Write the blob's bytes from `sink.prefix` on until it is whole, first byte as early as possible.

        Raises:
            NotFoundError: when the blob is not there.
            DeniedError: when we may not have it.
            UnreachableError: when no bytes come in time, or the body breaks; what was written stays.
            MismatchError: when the source contradicts itself or what is known of the blob.
        """
