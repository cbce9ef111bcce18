"""Blocks named as requests and links write it: a CIDv0 stays one in archives and paths, and small ones are inline."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from node.car import BlockName, Inline, read_name
from node.cid import Cid, Codec
from node.errors import InvalidError
from node.formats import UnsupportedError
from node.varint import varint

_MOST_CHARACTERS: Final = 256
_OTHER_CODECS: Final = {0x51: "cbor", 0x71: "dag-cbor", 0x0129: "dag-json", 0x0200: "json"}


@dataclass(frozen=True, slots=True)
class Name:
    """A block, and whether it is written as CIDv0."""

    block: BlockName
    is_v0: bool = False

    @classmethod
    def parse(cls, text: str) -> "Name":
        """Read a CID in any multibase.

        Raises:
            UnsupportedError: for one of a codec that IPLD has and this node does not serve.
            InvalidError: when it is none, or one of another codec or hash function.
        """
        return _parse(text)

    @property
    def raw(self) -> bytes:
        """The CID's bytes."""
        if isinstance(self.block, Inline):
            return bytes((1, self.block.codec, 0)) + varint(len(self.block.data)) + self.block.data
        return self.block.raw[2:] if self.is_v0 else self.block.raw

    @property
    def codec(self) -> Codec:
        """What the block's bytes are."""
        return self.block.codec

    def __str__(self) -> str:
        if isinstance(self.block, Cid) and not self.is_v0:
            return str(self.block)
        from multiformats import CID  # its tables take 0.1 s to load: see node.cid.load_tables

        return str(CID.decode(self.raw))


@lru_cache(maxsize=1024)
def _parse(text: str) -> Name:
    from multiformats import CID

    if not 8 <= len(text) <= _MOST_CHARACTERS:
        raise InvalidError(f"CID {text[:80]!r}: 8 to {_MOST_CHARACTERS} characters are expected")
    try:
        cid = CID.decode(text)
        raw, codec = bytes(cid), int(cid.codec.code)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidError(f"CID {text[:80]!r}: {error}") from None
    if codec in _OTHER_CODECS:
        raise UnsupportedError(f"CID {text[:80]!r}: {_OTHER_CODECS[codec]} is not served, only raw and dag-pb")
    name, _ = read_name(raw)
    return Name(name, is_v0=cid.version == 0)
