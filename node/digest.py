"""OCI digests (OCI image specification, descriptor.md, "Digests")."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, Self

from node.errors import InvalidError


class Hasher(Protocol):
    """A running hash, as `hashlib` makes them."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class Algorithm(StrEnum):
    """The registered digest algorithms a blob may be named by."""

    SHA256 = "sha256"
    SHA512 = "sha512"

    def hasher(self) -> Hasher:
        """A new running hash."""
        return _NEW[self]()


_NEW: Final[dict[Algorithm, Callable[[], Hasher]]] = {
    Algorithm.SHA256: hashlib.sha256,
    Algorithm.SHA512: hashlib.sha512,
}
_HEX: Final = {
    Algorithm.SHA256: re.compile("[a-f0-9]{64}"),
    Algorithm.SHA512: re.compile("[a-f0-9]{128}"),
}


@dataclass(frozen=True, slots=True)
class Digest:
    """The algorithm and hash a blob is named by; holding one means the text was well formed."""

    algorithm: Algorithm
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `sha256:<64 hex>` or `sha512:<128 hex>`.

        Raises:
            InvalidError: for anything else, upper case included.
        """
        name, _, hex_part = text.partition(":")
        try:
            algorithm = Algorithm(name)
        except ValueError:
            raise InvalidError(f"digest {text[:80]!r}: allowed are sha256:<64 hex> and sha512:<128 hex>") from None
        if not _HEX[algorithm].fullmatch(hex_part):
            raise InvalidError(f"digest {text[:140]!r}: the hash is not lower-case hex of {algorithm}'s length")
        return cls(algorithm, hex_part)

    @classmethod
    def of(cls, data: bytes, algorithm: Algorithm = Algorithm.SHA256) -> Self:
        """The digest of `data`, which is hashed here and now: for small blobs only."""
        hasher = algorithm.hasher()
        hasher.update(data)
        return cls(algorithm, hasher.hexdigest())

    def hasher(self) -> Hasher:
        """A new running hash of this digest's algorithm."""
        return self.algorithm.hasher()

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
