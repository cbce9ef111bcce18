"""What layermesh asks of an IPFS network: reading and publishing."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from node.cid import Cid
from node.digest import Digest

Opened = AbstractAsyncContextManager[AsyncIterator[bytes]]


class Reading(Protocol):
    """Files can be read by CID."""

    def open(
        self, cid: Cid, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Yield a file's bytes from `start` up to `stop` (its end when None).

        Raises:
            NotFoundError: on entry, when the file is not there; never an empty stream.
            UnreachableError: when no bytes came in time.
        """

    async def has(self, cid: Cid) -> bool:
        """Whether the file can be read without asking anybody else."""


class Publishing(Protocol):
    """Blobs held can be offered to the network."""

    async def add(self, digest: Digest) -> Cid:
        """Offer a blob of the store; returns its CID.

        Raises:
            NotFoundError: when the store does not hold it.
            DeniedError: when it is private; those never leave.
            UnreachableError: when the network's daemon gave no answer.
        """

    async def withdraw(self, cid: Cid) -> None:
        """Offer it no longer. Withdrawing what is not offered is no error."""

    async def health(self) -> bool:
        """Whether the network can be used now."""
