"""CIDs name blocks (CIDv1, sha2-256; raw and dag-pb). Text is parsed at the edges; inside they are 36 raw bytes."""

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final, Self

from node.errors import InvalidError

RAW_LENGTH: Final = 36
_HASH_HEAD: Final = b"\x12\x20"  # multihash sha2-256, 32 bytes
IDENTITY_PROBE: Final = "bafkqaaa"
"""The CID of the empty identity block: gateways answer it with 200 to say that they are gateways."""


class Codec(IntEnum):
    """What a block's bytes are."""

    RAW = 0x55
    DAG_PB = 0x70


@dataclass(frozen=True, slots=True)
class Cid:
    """A CIDv1 with a sha2-256 hash, as its 36 raw bytes."""

    raw: bytes

    @classmethod
    def of(cls, block: bytes | memoryview, codec: Codec = Codec.RAW) -> Self:
        """The CID of a block's bytes, which are hashed here and now."""
        return cls.from_hash(hashlib.sha256(block).digest(), codec)

    @classmethod
    def from_hash(cls, digest: bytes, codec: Codec = Codec.RAW) -> Self:
        """The CID of a block whose sha2-256 (32 bytes) is known."""
        return cls(bytes((1, codec)) + _HASH_HEAD + digest)

    @classmethod
    def from_raw(cls, raw: bytes) -> Self:
        """Check 36 raw bytes, as links and peer messages carry them.

        Raises:
            InvalidError: when they are no CIDv1 raw or dag-pb with sha2-256.
        """
        if len(raw) != RAW_LENGTH or raw[0] != 1 or raw[1] not in (Codec.RAW, Codec.DAG_PB) or raw[2:4] != _HASH_HEAD:
            raise InvalidError("CID: a CIDv1, raw or dag-pb, sha2-256, is expected")
        return cls(bytes(raw))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a CID in any multibase, or a CIDv0 (`Qm...`).

        Raises:
            InvalidError: when it is no CID, or one with another codec or hash than layermesh makes.
        """
        return cls(_parse(text))

    @property
    def codec(self) -> Codec:
        """What the block's bytes are."""
        return Codec(self.raw[1])

    @property
    def hash(self) -> bytes:
        """The block's sha2-256, 32 bytes."""
        return self.raw[4:]

    def __str__(self) -> str:
        return _encode(self.raw)


def load_tables() -> None:
    """Load what reading and printing CIDs needs, in this thread and now, so that the first CID need not wait for it."""
    import multiformats  # noqa: F401


@lru_cache(maxsize=4096)
def _parse(text: str) -> bytes:
    from multiformats import CID  # its tables take 0.1 s to load: see load_tables

    if not 8 <= len(text) <= 128:
        raise InvalidError(f"CID {text[:80]!r}: 8 to 128 characters are expected")
    try:
        cid = CID.decode(text)
        raw = bytes((1, cid.codec.code)) + bytes(cid.digest)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidError(f"CID {text[:80]!r}: {error}") from None
    return Cid.from_raw(raw).raw


@lru_cache(maxsize=4096)
def _encode(raw: bytes) -> str:
    from multiformats import CID

    return CID.decode(raw).encode("base32")
