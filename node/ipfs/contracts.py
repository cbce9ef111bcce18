"""What layermesh asks of an IPFS network: reading files and blocks, publishing and pinning."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from node.cid import Cid
from node.digest import Digest

Opened = AbstractAsyncContextManager[AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Pin:
    """A file that the network keeps for this node: a blob of the store that it offers, or None: pinned by hand."""

    cid: Cid
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """How a network is. `trouble` tells people in one line why it cannot be used; None when it can.

    `identity` names the daemon behind it, and is empty where there is none: another daemon has other pins. `notes` tell
    what people should know although it can be used.
    """

    trouble: str | None = None
    version: str = ""
    identity: str = ""
    notes: tuple[str, ...] = ()


class Reading(Protocol):
    """Files can be read by CID."""

    def open(
        self, cid: Cid, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Yield a file's bytes from `start` up to `stop` (its end when None).

        Raises:
            NotFoundError: on entry, when the file is not there; never an empty stream.
            UnreachableError: when no bytes came in time, or fewer than there are.
        """

    async def has(self, cid: Cid) -> bool:
        """Whether the file can be read without asking anybody else. Answers soon: False where that cannot be told.

        Raises:
            UnreachableError: when the network cannot be used.
        """


class Blocks(Protocol):
    """Blocks can be read by CID."""

    async def block(self, cid: Cid) -> bytes:
        """A block, verified against its CID.

        Raises:
            NotFoundError: when it is not there.
            MismatchError: when other bytes came, or more than 2 MiB.
            UnreachableError: when no bytes came in time.
        """


class Publishing(Protocol):
    """Blobs held can be offered to the network."""

    async def add(self, digest: Digest) -> Cid:
        """Offer a blob of the store; returns its CID. Offering it again is no error.

        Raises:
            NotFoundError: when the store does not hold it.
            DeniedError: when it is private; those never leave.
            MismatchError: when the network names it otherwise than the store does; it is not offered then.
            FullError: when the network has no room for it.
            UnreachableError: when the network's daemon gave no answer.
        """

    async def withdraw(self, cid: Cid) -> None:
        """Offer a blob no longer. Withdrawing what is not offered is no error, and does nothing.

        Raises:
            UnreachableError: when the network's daemon gave no answer.
        """

    async def health(self) -> Health:
        """How the network is now. Answers within seconds, and raises nothing."""


class Pinning(Protocol):
    """Files can be kept by CID, whoever had them."""

    async def pin(self, cid: Cid) -> None:
        """Fetch a file from whoever in the network has it, and keep it until `unpin`, or for as long as it is held.

        Raises:
            NotFoundError: when nobody gave it in time.
            DeniedError: when it is here, and not for anybody.
            FullError: when the network has no room for it.
            UnreachableError: when the network's daemon gave no answer.
        """

    async def unpin(self, cid: Cid) -> None:
        """End what `pin` began. What was not pinned for this node stays as it is, and is no error.

        Raises:
            UnreachableError: when the network's daemon gave no answer.
        """

    def pins(self) -> AsyncGenerator[Pin, None]:
        """Everything that is offered or pinned for this node, in no order. Close it (`aclosing`) to stop early.

        Raises:
            UnreachableError: when the network's daemon gave no answer.
        """


class Network(Reading, Blocks, Publishing, Pinning, Protocol):
    """All of it."""
