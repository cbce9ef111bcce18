"""Bodies that come encoded with gzip although nobody asked for it (RFC 9110, section 8.4.1.3)."""

import zlib
from typing import Final

_AT_ONCE: Final = 256 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS


class Gunzip:
    """Decodes as the body comes, at most 256 KiB at once, however much a few bytes stand for."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._encoded = b""
        self._begun = False

    @property
    def is_whole(self) -> bool:
        """Whether the body may end here."""
        return self._member.eof or not self._begun

    def give(self, encoded: bytes) -> None:
        """More of the body has come."""
        self._encoded += encoded
        self._begun = True

    def take(self) -> bytes:
        """The next bytes that it stands for; none when more of the body is needed.

        Raises:
            ValueError: when it is no gzip.
        """
        while self._encoded:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            try:
                data = self._member.decompress(self._encoded, _AT_ONCE)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            self._encoded = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if data:
                return data
        return b""
