"""Where the bytes of a layout's files come from, when one is written and when one is read."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from facade.images.tree import Path
from node.digest import Digest


class Body(Protocol):
    """Bytes that are read in order."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Read some into `buffer`; 0 when there are no more.

        Raises:
            UnreachableError: when they break off.
        """


class Files(Protocol):
    """What a layout is written from."""

    def open(self, path: Path, start: int) -> AbstractContextManager[Body]:
        """The bytes of a file from `start` on.

        Raises:
            LayermeshError: when they are not to be had.
        """


class Layout(Protocol):
    """A layout that is read."""

    def small(self, path: Path, limit: int) -> bytes:
        """A small file.

        Raises:
            InvalidError: when it is not there, longer than `limit`, or no plain file.
            MismatchError: when a block of it does not hash to its name.
        """

    def has(self, digest: Digest) -> bool:
        """Whether there is a blob of this name."""

    def blob(self, digest: Digest, size: int) -> Iterator[bytes]:
        """A blob's bytes, `size` of them, in pieces; whoever takes them has to hash them. Raises as `small`."""
